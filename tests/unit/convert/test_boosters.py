"""Gradient boosting of other libraries: the file answers as the library does, or the model is refused in words."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from edge_convert.boosters import opening
from edge_convert.boosters.sound import sound
from edge_convert.features import expand
from edge_convert.fold import fold
from edge_convert.load import load_estimator
from edge_convert.reference import Reference
from edge_convert.tasks import task_of
from edge_convert.trees import Tree
from edge_convert.verify import Verification, verify
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edge_agent.errors import InputError
from edge_agent.model.onnx import Predictor
from tests.requirements import lacking
from tests.unit.convert.conftest import Run, make_table, write_csv

ROWS = 20_000
Floats = NDArray[np.float64]


def _rows(seed: int = 0, n: int = 1500) -> Floats:
    """Readings as they are sent: positions of six decimals, tenths, seconds since 1970, and whole numbers."""
    rng = np.random.default_rng(seed)
    rows: Floats = np.c_[
        np.round(52.52 + rng.normal(0, 5e-5, n), 6),
        np.round(rng.normal(20, 5, n), 1),
        1_654_733_331 + np.arange(n) * 7.0,
        rng.integers(0, 7, n),
    ]
    return rows


def _gaps(X: Floats) -> Floats:
    rng = np.random.default_rng(1)
    rows = X.copy()
    rows[rng.random(X.shape) < (0.2, 0.1, 0, 0)] = np.nan
    return rows


X = _rows()
_OFFSET = (X[:, 0] - 52.52) * 1e5 + X[:, 1] - 20
TWO = ((X[:, 0] - 52.52) ** 2 * 1e9 + (X[:, 1] > 21) > 1).astype(int)
THREE = (_OFFSET > 0).astype(int) + (X[:, 3] > 4)
NUMBERS = np.round(_OFFSET + X[:, 3] + 30, 2)


def _verified(model: Any, X: Floats) -> Verification:
    """Make the graph of a model and compare it with the model's own answers."""
    adopted = opening.adopted(model)
    task = task_of(adopted)
    assert task is not None
    folded = fold(adopted, missing=bool(np.isnan(X).any()))
    return verify(Reference(adopted, X, task), folded, task.graph(folded).SerializeToString(), rows=ROWS)


def _require_same(model: Any, X: NDArray[Any] = X, most: float = 2e-7) -> Verification:
    result = _verified(model, X)
    assert (result.labels_differ, result.numbers_differ) == (0, 0), result
    assert result.largest_difference <= most
    return result


def _refused(model: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        _verified(model, X)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        lacking(f"{name} can't be imported ({error}): pip install '.[boosters]'")


# XGBoost


def _xgboost() -> Any:
    return _library("xgboost")


@pytest.mark.parametrize("target", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_xgboost_classifiers(target: Any, gaps: bool) -> None:
    rows = _gaps(X) if gaps else X
    _require_same(_xgboost().XGBClassifier(n_estimators=25, n_jobs=1).fit(rows, target), rows)


@pytest.mark.parametrize(
    "options",
    [
        {"missing": 20.1},
        {"booster": "dart", "rate_drop": 0.3},
        {"n_estimators": 3, "num_parallel_tree": 5, "subsample": 0.6},
        {"base_score": 0.2, "max_depth": 1},
        {"grow_policy": "lossguide", "max_leaves": 5},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_xgboost_options(options: dict[str, Any]) -> None:
    _require_same(_xgboost().XGBClassifier(**{"n_estimators": 12, "n_jobs": 1} | options).fit(X, TWO))


def test_xgboost_behind_a_scaler() -> None:
    model = make_pipeline(StandardScaler(), _xgboost().XGBClassifier(n_estimators=12, n_jobs=1))
    _require_same(model.fit(X, THREE))
    absent = make_pipeline(StandardScaler(), _xgboost().XGBClassifier(n_estimators=2, missing=0.0, n_jobs=1))
    _refused(absent.fit(X, TWO), "stand for a missing value behind a scaler")


def test_xgboost_that_was_stopped_early_answers_from_the_best_round() -> None:
    model = _xgboost().XGBClassifier(n_estimators=60, early_stopping_rounds=3, n_jobs=1)
    model.fit(X, THREE, eval_set=[(X[:300], np.random.default_rng(0).permutation(THREE[:300]))], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    _require_same(model)


@pytest.mark.parametrize(
    ("objective", "most"),
    [
        ("reg:squarederror", 0),
        ("reg:absoluteerror", 0),
        ("count:poisson", 3e-7),
        ("reg:gamma", 3e-7),
        ("reg:tweedie", 3e-7),
    ],
)
def test_xgboost_regressors(objective: str, most: float) -> None:
    target = np.abs(NUMBERS) + 1
    _require_same(_xgboost().XGBRegressor(n_estimators=15, objective=objective, n_jobs=1).fit(X, target), most=most)


def test_xgboost_of_several_numbers_and_a_share() -> None:
    several = _xgboost().XGBRegressor(n_estimators=9, n_jobs=1).fit(X, np.c_[NUMBERS, -2 * NUMBERS])
    _require_same(several, most=0)
    share = (NUMBERS - NUMBERS.min()) / np.ptp(NUMBERS)
    _require_same(_xgboost().XGBRegressor(n_estimators=9, objective="reg:logistic", n_jobs=1).fit(X, share))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"booster": "gblinear"}, "only trees .*can"),
        ({"objective": "multi:softmax"}, "no probabilities; train with multi:softprob"),
        ({"multi_strategy": "multi_output_tree"}, "one_output_per_tree"),
        ({"gamma": 1e9}, "none of its .* trees has a split"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_xgboost_that_is_refused(options: dict[str, Any], reason: str) -> None:
    _refused(_xgboost().XGBClassifier(**{"n_estimators": 2, "n_jobs": 1} | options).fit(X, THREE), reason)


def test_xgboost_with_categories_is_refused() -> None:
    options = {"enable_categorical": True, "feature_types": ["float", "float", "float", "c"], "max_cat_to_onehot": 1}
    model = _xgboost().XGBClassifier(n_estimators=3, n_jobs=1, **options)
    _refused(model.fit(X, THREE), "splits on categories; train it on their codes as numbers")


def test_quantiles_of_xgboost_that_cross_are_in_order() -> None:
    options = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}
    model = _xgboost().XGBRegressor(n_estimators=8, n_jobs=1, **options).fit(X, NUMBERS)
    raw = model.get_booster().predict(_xgboost().DMatrix(X), output_margin=True)
    assert (np.diff(raw) < 0).any()  # they cross
    _require_same(model, most=0)


@pytest.mark.parametrize(
    "step",
    [SimpleImputer(), PCA(2), VarianceThreshold(), ColumnTransformer([("kept", "passthrough", [3, 1])])],
    ids=str,
)
def test_xgboost_behind_steps_that_are_no_scalers(step: Any) -> None:
    rows = _gaps(X) if isinstance(step, SimpleImputer) else X
    _require_same(make_pipeline(step, _xgboost().XGBClassifier(n_estimators=5, n_jobs=1)).fit(rows, TWO), rows)


def test_a_number_for_missing_values_behind_a_step() -> None:
    step = ColumnTransformer([("kept", "passthrough", [3, 1])])
    _require_same(make_pipeline(step, _xgboost().XGBClassifier(n_estimators=5, n_jobs=1, missing=3)).fit(X, THREE))


def test_other_libraries_behind_an_imputer() -> None:
    for model in (_lightgbm().LGBMRegressor(**SMALL), _catboost().CatBoostRegressor(**QUIET)):
        _require_same(make_pipeline(SimpleImputer(), model).fit(_gaps(X), NUMBERS), _gaps(X), most=0)


def test_searches_over_a_booster(tmp_path: Path) -> None:
    file = tmp_path / "m.joblib"
    search = GridSearchCV(_xgboost().XGBClassifier(n_estimators=3, n_jobs=1), {"max_depth": [2, 3]}, cv=2).fit(X, TWO)
    for model in (search, make_pipeline(StandardScaler(), search).fit(X, TWO)):
        joblib.dump(model, file)
        _require_same(load_estimator(file, trust_pickle=True))


def test_boosters_inside_of_other_models_are_refused() -> None:
    inner = _xgboost().XGBClassifier(n_estimators=2, n_jobs=1)
    reason = "XGBClassifier inside of another model can't be exported; alone, or as the last step"
    _refused(VotingClassifier([("a", inner)], voting="soft").fit(X, TWO), reason)
    _refused(BaggingClassifier(inner, n_estimators=2).fit(X, TWO), reason)
    _refused(CalibratedClassifierCV(inner, cv=2).fit(X, TWO), reason)


# LightGBM


def _lightgbm() -> Any:
    return _library("lightgbm")


SMALL: dict[str, Any] = {"n_estimators": 12, "n_jobs": 1, "verbose": -1}


@pytest.mark.parametrize("target", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_lightgbm_classifiers(target: Any, gaps: bool) -> None:
    rows = _gaps(X) if gaps else X
    _require_same(_lightgbm().LGBMClassifier(**SMALL).fit(rows, target), rows)


@pytest.mark.parametrize(
    "options",
    [
        {"zero_as_missing": True},
        {"use_missing": False},
        {"boosting_type": "rf", "subsample": 0.6, "subsample_freq": 1},
        {"boosting_type": "dart"},
        {"sigmoid": 0.7, "is_unbalance": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_lightgbm_options(options: dict[str, Any], gaps: bool) -> None:
    rows = _gaps(X) if gaps else X
    _require_same(_lightgbm().LGBMClassifier(**SMALL | options).fit(rows, TWO), rows)


def test_lightgbm_makes_zero_of_what_is_near_it() -> None:
    # A threshold just beside 0, where negative numbers and missing ones are told from 0.
    rng = np.random.default_rng(0)
    rows = rng.choice([-2.0, -1.0, 0.0, 1.0, np.nan], (2000, 2))
    target = (np.nan_to_num(rows[:, 0], nan=3) < 0) ^ (rng.random(2000) < 0.1)
    _require_same(_lightgbm().LGBMClassifier(**SMALL).fit(rows, target), rows)


def test_lightgbm_behind_a_scaler() -> None:
    _require_same(make_pipeline(StandardScaler(), _lightgbm().LGBMClassifier(**SMALL)).fit(X, THREE))


@pytest.mark.parametrize(
    ("objective", "most"),
    [
        ("regression", 0),
        ("regression_l1", 0),
        ("quantile", 0),
        ("poisson", 1e-15),
        ("gamma", 1e-15),
        ("tweedie", 1e-15),
    ],
)
def test_lightgbm_regressors(objective: str, most: float) -> None:
    target = np.abs(NUMBERS) + 1
    _require_same(_lightgbm().LGBMRegressor(objective=objective, **SMALL).fit(X, target), most=most)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"linear_tree": True}, "has linear trees; train it without linear_tree"),
        ({"objective": "multiclassova"}, "multiclass has probabilities that sum to 1"),
        ({"min_split_gain": 1e9}, "none of its .* trees has a split"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightgbm_that_is_refused(options: dict[str, Any], reason: str) -> None:
    _refused(_lightgbm().LGBMClassifier(**SMALL | options).fit(X, THREE), reason)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightgbm_with_categories_an_objective_of_its_own_or_another_scale_is_refused() -> None:
    library = _lightgbm()
    model = library.LGBMClassifier(**SMALL | {"min_data_per_group": 1})
    _refused(model.fit(X, THREE, categorical_feature=[3]), "splits on categories; train it on their codes as numbers")
    own = library.LGBMRegressor(objective=lambda true, said: (said - true, np.ones_like(true)), **SMALL)
    _refused(own.fit(X, NUMBERS), r"the objective \(its own\) can't be exported")
    _refused(library.LGBMRegressor(reg_sqrt=True, **SMALL).fit(X, NUMBERS), "reg_sqrt")
    _refused(library.LGBMRanker(**SMALL).fit(X, TWO, group=[len(X)]), "LGBMRanker can't be exported")


# CatBoost


def _catboost() -> Any:
    return _library("catboost")


QUIET: dict[str, Any] = {"iterations": 12, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


@pytest.mark.parametrize("target", [TWO == 1, np.array(["calm", "loud", "odd"])[THREE]], ids=["two", "three"])
@pytest.mark.parametrize("policy", ["SymmetricTree", "Depthwise", "Lossguide"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_catboost_classifiers(target: Any, policy: str, gaps: bool) -> None:
    rows = _gaps(X) if gaps else X
    _require_same(_catboost().CatBoostClassifier(grow_policy=policy, **QUIET).fit(rows, target), rows)


def test_catboost_takes_missing_values_for_the_largest() -> None:
    rows = _gaps(X)
    _require_same(_catboost().CatBoostClassifier(nan_mode="Max", **QUIET).fit(rows, THREE), rows)


def test_catboost_behind_a_scaler() -> None:
    _require_same(make_pipeline(StandardScaler(), _catboost().CatBoostClassifier(**QUIET)).fit(X, THREE))


@pytest.mark.parametrize(
    ("loss", "most"),
    [("RMSE", 0), ("MAE", 0), ("Quantile:alpha=0.9", 0), ("Poisson", 1e-13), ("Tweedie:variance_power=1.5", 1e-13)],
)
def test_catboost_regressors(loss: str, most: float) -> None:
    target = np.abs(NUMBERS) + 1
    _require_same(_catboost().CatBoostRegressor(loss_function=loss, **QUIET).fit(X, target), most=most)


def test_catboost_of_several_numbers() -> None:
    several = np.c_[NUMBERS, -2 * NUMBERS]
    _require_same(_catboost().CatBoostRegressor(loss_function="MultiRMSE", **QUIET).fit(X, several), most=0)


def test_catboost_that_is_refused() -> None:
    library = _catboost()
    rows = np.column_stack([X[:, 0], X[:, 3].astype(int).astype(str)]).astype(object)
    _refused(library.CatBoostClassifier(cat_features=[1], **QUIET).fit(rows, THREE), "without cat_features")
    ova = library.CatBoostClassifier(loss_function="MultiClassOneVsAll", **QUIET)
    _refused(ova.fit(X, THREE), "the loss MultiClassOneVsAll can't be exported; Logloss")
    eager = library.CatBoostClassifier(**QUIET).fit(X, TWO)
    eager.set_probability_threshold(0.3)
    _refused(eager, "has a probability threshold of 0.3; only .5 can be exported")
    _refused(library.CatBoostClassifier(**QUIET), "is not fitted")
    _refused(
        library.CatBoostRanker(loss_function="YetiRank", **QUIET).fit(X, TWO, group_id=np.zeros(len(X), int)),
        "the loss YetiRank can't",
    )


# Damage


def _tree(**changes: Any) -> Tree:
    nothing = np.zeros(5)
    parts: dict[str, Any] = {
        "feature": np.array([1, 0, 0, 0, 0]),
        "threshold": nothing,
        "left": np.array([1, 0, 3, 0, 0]),
        "right": np.array([2, 0, 4, 0, 0]),
        "is_leaf": np.array([False, True, False, True, True]),
        "values": np.arange(5.0)[:, np.newaxis],
        "rows": np.arange(5),
    }
    return Tree(**parts | changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"left": np.array([1, 0, 0, 0, 0])}, "leads to no node"),
        ({"right": np.array([5, 0, 4, 0, 0])}, "leads to no node"),
        ({"left": np.array([2, 0, 3, 0, 0])}, "lead to the same node"),
        ({"right": np.array([2, 0, 2, 0, 0])}, "lead to the same node"),
        ({"feature": np.array([2, 0, 0, 0, 0])}, "asks about column 2 of 2"),
    ],
)
def test_trees_that_are_none_are_refused(changes: dict[str, Any], reason: str) -> None:
    assert sound("model", _tree(), 2).values.tolist() == [[0], [1], [2], [3], [4]]
    with pytest.raises(InputError, match=reason):
        sound("model", _tree(**changes), 2)


def test_nodes_that_nothing_leads_to_are_left_out() -> None:
    cut = _tree(is_leaf=np.array([False, True, True, True, True]), left=np.array([4, 0, 0, 0, 0]))
    found = sound("model", cut, 2)
    assert found.values.ravel().tolist() == [0, 2, 4]
    assert (found.left[0], found.right[0], found.is_leaf.tolist()) == (2, 1, [False, True, True])


# From file to answer


def _answered(path: Path, rows: Floats) -> list[dict[str, Any]]:
    """What the agent's own engine says."""
    predictor = Predictor(path.read_bytes(), where=path.name)
    return [dict(predictor.output.fields(predictor.read(packed))) for packed in predictor.predict(rows.tolist())]


def _fitted_on_table(make: Callable[[], Any]) -> tuple[Any, Floats, NDArray[np.int64]]:
    table = make_table(labels=("calm", "loud", "odd"))
    assert table.labels is not None
    numbers = np.searchsorted(("calm", "loud", "odd"), table.labels)
    return make().fit(table.X, numbers), table.X, numbers


@pytest.mark.parametrize("ending", [".json", ".ubj"])
def test_xgboost_from_its_own_file(run: Run, tmp_path: Path, ending: str) -> None:
    model, rows, _ = _fitted_on_table(lambda: _xgboost().XGBClassifier(n_estimators=8, n_jobs=1))
    file, out = tmp_path / f"m{ending}", tmp_path / "m.onnx"
    model.save_model(file)
    _require_exported(run, tmp_path, file, model, rows)
    card = Predictor(out.read_bytes(), where="m.onnx").card
    assert card.training.estimator == "XGBClassifier"
    assert "XGBoost" in card.training.libraries


def test_labels_that_are_only_numbered(run: Run, tmp_path: Path) -> None:
    model, _, _ = _fitted_on_table(lambda: _xgboost().XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1))
    file, out = tmp_path / "m.json", tmp_path / "m.onnx"
    model.save_model(file)
    table = write_csv(tmp_path / "t.csv", make_table(labels=("calm", "loud", "odd")))
    command = ("export", file, "--data", table, "--target", "mood", "--out", out)
    wrong = run(*command, "--label-names", "calm,loud")
    assert (wrong.exit_code, "has 3 labels (0, 1, 2); --label-names has 2: calm, loud" in wrong.stderr) == (2, True)
    done = run(*command)
    assert done.exit_code == 0, done.output
    assert "none of the labels in column 'mood' (calm, loud, odd) is one of the estimator's (0, 1, 2)" in done.stdout
    assert "answers 0, 1, 2, as XGBoost numbers its labels; --label-names A,B,... gives them names" in done.stdout
    assert Predictor(out.read_bytes(), where="m.onnx").card.labels == ("0", "1", "2")


def test_names_of_labels_that_can_not_be_are_refused(run: Run, tmp_path: Path) -> None:
    model, rows, _ = _fitted_on_table(lambda: _xgboost().XGBClassifier(n_estimators=2, n_jobs=1))
    table = write_csv(tmp_path / "t.csv", make_table(labels=("calm", "loud", "odd")))
    model.save_model(tmp_path / "m.json")
    _xgboost().XGBRegressor(n_estimators=2, n_jobs=1).fit(rows, rows[:, 0]).save_model(tmp_path / "r.json")
    for file, data, names, reason in (
        ("m.json", ("--target", "mood"), "calm,calm,odd", "--label-names has 'calm' twice"),
        ("m.json", ("--target", "mood"), "calm,,odd", "--label-names has an empty name"),
        ("r.json", ("--drop", "mood"), "calm,calm,odd", "this one answers no labels"),
    ):
        done = run(
            "export",
            tmp_path / file,
            "--data",
            table,
            *data,
            "--label-names",
            names,
            "--out",
            tmp_path / "m.onnx",
        )
        assert (done.exit_code, reason in done.stderr) == (2, True), done.output


def test_xgboost_with_a_number_for_missing_values_from_its_own_file(run: Run, tmp_path: Path) -> None:
    rows, file, out = X[:300, [0, 1, 3]].copy(), tmp_path / "m.ubj", tmp_path / "m.onnx"
    rows[np.random.default_rng(0).random(rows.shape) < 0.1] = -127
    model = _xgboost().XGBClassifier(n_estimators=5, n_jobs=1, missing=-127).fit(rows, TWO[:300])
    model.save_model(file)
    assert "does not tell which number stands for a missing value" in opening.opened(file).source.notes[0]
    table = tmp_path / "t.csv"
    lines = [",".join([*map(repr, row), str(label)]) for row, label in zip(rows.tolist(), TWO[:300], strict=True)]
    table.write_text("\n".join(["a,b,c,y", *lines]) + "\n")
    data = ("--data", table, "--target", "y")
    done = run("export", file, *data, "--out", out, "--missing-value", "-127")
    assert done.exit_code == 0, done.output
    assert "does not tell" not in done.stdout
    assert [answer["label"] for answer in _answered(out, rows)] == model.predict(rows).astype(str).tolist()
    assert run("verify", out, "--estimator", file, *data, "--rows", "3000").exit_code == 0


def test_a_number_for_missing_values_is_for_files_that_do_not_tell(run: Run, tmp_path: Path) -> None:
    model, _, _ = _fitted_on_table(lambda: _xgboost().XGBClassifier(n_estimators=2, n_jobs=1))
    joblib.dump(model, tmp_path / "m.joblib")
    table = write_csv(tmp_path / "t.csv", make_table(labels=("calm", "loud", "odd")))
    done = run(
        *("export", tmp_path / "m.joblib", "--trust-pickle", "--data", table, "--target", "mood"),
        *("--missing-value", "0", "--out", tmp_path / "m.onnx"),
    )
    assert (done.exit_code, "--missing-value is for XGBoost's own files" in done.stderr) == (2, True), done.output


def test_xgboost_stopped_early_answers_as_whoever_saved_it_does(tmp_path: Path) -> None:
    library = _xgboost()
    noise = np.random.default_rng(0).permutation(TWO[:300])
    matrix, other = library.DMatrix(X[300:], TWO[300:]), library.DMatrix(X[:300], noise)
    booster = library.train(
        {"objective": "binary:logistic", "nthread": 1},
        matrix,
        40,
        evals=[(other, "e")],
        early_stopping_rounds=3,
        verbose_eval=False,
    )
    best, rounds = booster.best_iteration + 1, booster.num_boosted_rounds()
    assert best < rounds
    booster.save_model(tmp_path / "booster.json")
    found = opening.opened(tmp_path / "booster.json")
    np.testing.assert_array_equal(found.predict_proba(X)[:, 1], booster.predict(library.DMatrix(X)))
    _require_same(found)
    assert (
        f"answers with all {rounds} rounds, as Booster.predict does, though the first {best}" in found.source.notes[0]
    )

    model = library.XGBClassifier(n_estimators=40, early_stopping_rounds=3, n_jobs=1)
    model.fit(X[300:], TWO[300:], eval_set=[(X[:300], noise)], verbose=False)
    model.save_model(tmp_path / "model.json")
    found = opening.opened(tmp_path / "model.json")
    np.testing.assert_array_equal(found.predict_proba(X), model.predict_proba(X))
    assert f"answers with the first {model.best_iteration + 1} of" in found.source.notes[0]


def _require_exported(run: Run, tmp_path: Path, file: Path, model: Any, rows: Floats, *more: str) -> None:
    """Export a file with names for its labels, compare the answers with the model's, and verify the file that was written."""
    out = tmp_path / "m.onnx"
    table = write_csv(tmp_path / "t.csv", make_table(labels=("calm", "loud", "odd")))
    data = ("--data", table, "--target", "mood")
    done = run("export", file, *data, "--label-names", "calm,loud,odd", "--out", out, *more)
    assert done.exit_code == 0, done.output
    assert "0 labels differ" in done.stdout
    assert "agrees with column 'mood' in" in done.stdout
    assert "note:" not in done.stdout
    answers = _answered(out, rows)
    expected = np.array(["calm", "loud", "odd"])[np.asarray(model.predict(rows)).ravel().astype(int)]
    assert [answer["label"] for answer in answers] == expected.tolist()
    np.testing.assert_allclose(
        [list(answer["probabilities"].values()) for answer in answers], model.predict_proba(rows), atol=2e-6
    )
    verified = run("verify", out, "--estimator", file, *data, "--rows", "3000", *more)
    assert verified.exit_code == 0, verified.output


def test_xgboost_from_a_pickle(run: Run, tmp_path: Path) -> None:
    model, rows, _ = _fitted_on_table(
        lambda: make_pipeline(StandardScaler(), _xgboost().XGBClassifier(n_estimators=8, n_jobs=1))
    )
    file = tmp_path / "m.joblib"
    joblib.dump(model, file)
    _require_exported(run, tmp_path, file, model, rows, "--trust-pickle")


def test_lightgbm_from_its_own_file(run: Run, tmp_path: Path) -> None:
    model, rows, _ = _fitted_on_table(lambda: _lightgbm().LGBMClassifier(**SMALL))
    file = tmp_path / "m.txt"
    model.booster_.save_model(file)
    _require_exported(run, tmp_path, file, model, rows)


def test_names_of_columns_in_which_lightgbm_has_replaced_the_blanks() -> None:
    assert expand(["room_temp", "b"], ["room temp", "b"]) == ("room temp", "b")
    assert expand(["room_temp"], ["room temp", "room_temp"]) == ("room_temp",)
    assert expand(["a_b_c"], ["a b_c", "a_b c"]) == ("a_b_c",)


def test_catboost_from_its_own_file(run: Run, tmp_path: Path) -> None:
    model, rows, _ = _fitted_on_table(lambda: _catboost().CatBoostClassifier(**QUIET))
    file = tmp_path / "m.cbm"
    model.save_model(str(file))
    _require_exported(run, tmp_path, file, model, rows)
    file.write_bytes(file.read_bytes()[:2000])
    done = run("export", file, "--data", tmp_path / "t.csv", "--target", "mood", "--out", tmp_path / "m.onnx")
    assert (done.exit_code, "can't open it" in done.stderr or "can't be opened" in done.stderr) == (2, True), (
        done.output
    )


def test_a_regressor_from_its_own_file(run: Run, tmp_path: Path) -> None:
    rows, target = load_diabetes(return_X_y=True, scaled=False)
    table, file, out = tmp_path / "t.csv", tmp_path / "m.json", tmp_path / "m.onnx"
    names = load_diabetes().feature_names
    lines = [",".join([*names, "progression"])] + [
        ",".join(map(repr, [*map(float, row), float(y)])) for row, y in zip(rows, target, strict=True)
    ]
    table.write_text("\n".join(lines) + "\n")
    model = _xgboost().XGBRegressor(n_estimators=20, n_jobs=1).fit(rows, target)
    model.save_model(file)
    done = run("export", file, "--data", table, "--target", "progression", "--unit", "points", "--out", out)
    assert done.exit_code == 0, done.output
    assert "0 values differ" in done.stdout
    assert "is off from column 'progression' by" in done.stdout
    answers = _answered(out, rows)
    assert [answer["value"] for answer in answers] == pytest.approx(model.predict(rows).astype(float), rel=1e-11)
    assert answers[0]["unit"] == "points"


def test_damaged_files_are_refused_in_words(run: Run, tmp_path: Path, table_file: Path) -> None:
    _xgboost()
    for name, content in (
        ("m.json", b"{}"),
        ("m.json", b"not json"),
        ("m.ubj", b"\x00\x01"),
        ("m.json", json.dumps({"learner": []}).encode()),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        done = run("export", file, "--data", table_file, "--target", "mood", "--out", tmp_path / "m.onnx")
        assert done.exit_code == 2, (content, done.output, done.exception)
        assert "can't open it" in done.stderr


def test_damaged_text_of_lightgbm_is_refused_in_words(run: Run, tmp_path: Path, table_file: Path) -> None:
    model, _, _ = _fitted_on_table(lambda: _lightgbm().LGBMClassifier(**SMALL))
    text, file = model.booster_.model_to_string(), tmp_path / "m.txt"
    for damaged, reason in (
        ("level,pitch\n1,2\n", "is not a model file of LightGBM"),
        (text[: len(text) // 3], "it was tried in a process apart, and it crashed"),
        (text.replace("left_child=1", "left_child=0", 1), "leads to no node"),
        (text.replace("split_feature=1", "split_feature=77", 1), "asks about column 77 of 3"),
        (text.replace("num_leaves=", "num_leaves=9"), "can't open it"),
        (text.replace("max_feature_idx", "something"), "can't open it"),
    ):
        assert damaged != text
        file.write_text(damaged)
        done = run("export", file, "--data", table_file, "--target", "mood", "--out", tmp_path / "m.onnx")
        assert (done.exit_code, reason in done.stderr) == (2, True), (reason, done.output, done.exception)


def test_a_library_that_is_not_installed_is_named() -> None:
    error = ModuleNotFoundError("No module named 'xgboost'", name="xgboost")
    assert "pip install xgboost, in the version" in opening.needed("xgboost.sklearn", error)
    assert opening.needed("torch", error) == ""
    assert "model.save_model('model.json')" in opening.way_out(["xgboost.sklearn.XGBClassifier"])


def test_a_graph_of_others_is_refused_with_the_way_out(run: Run, tmp_path: Path, table_file: Path) -> None:
    file = tmp_path / "theirs.onnx"
    file.write_bytes(b"")
    done = run("export", file, "--data", table_file, "--target", "mood", "--out", tmp_path / "m.onnx")
    assert done.exit_code == 2
    assert "is a graph already" in done.stderr
    assert "export the estimator or model that it was made from" in done.stderr
