"""XGBoost: the file answers as the library does, or the model is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from edge_convert.load import load_estimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.unit.convert.boosters import (
    NUMBERS,
    QUIET,
    SMALL,
    THREE,
    TWO,
    X,
    catboost,
    codes,
    lightgbm,
    require_refused,
    require_same,
    with_gaps,
    xgboost,
)


@pytest.mark.parametrize("target", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_xgboost_classifiers(target: Any, gaps: bool) -> None:
    rows = with_gaps(X) if gaps else X
    require_same(xgboost().XGBClassifier(n_estimators=25, n_jobs=1).fit(rows, target), rows)


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
    require_same(xgboost().XGBClassifier(**{"n_estimators": 12, "n_jobs": 1} | options).fit(X, TWO))


def test_xgboost_behind_a_scaler() -> None:
    model = make_pipeline(StandardScaler(), xgboost().XGBClassifier(n_estimators=12, n_jobs=1))
    require_same(model.fit(X, THREE))
    absent = make_pipeline(StandardScaler(), xgboost().XGBClassifier(n_estimators=2, missing=0.0, n_jobs=1))
    require_refused(absent.fit(X, TWO), "stand for a missing value behind a scaler")


def test_xgboost_that_was_stopped_early_answers_from_the_best_round() -> None:
    model = xgboost().XGBClassifier(n_estimators=60, early_stopping_rounds=3, n_jobs=1)
    model.fit(X, THREE, eval_set=[(X[:300], np.random.default_rng(0).permutation(THREE[:300]))], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    require_same(model)


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
    require_same(xgboost().XGBRegressor(n_estimators=15, objective=objective, n_jobs=1).fit(X, target), most=most)


def test_xgboost_of_several_numbers_and_a_share() -> None:
    several = xgboost().XGBRegressor(n_estimators=9, n_jobs=1).fit(X, np.c_[NUMBERS, -2 * NUMBERS])
    require_same(several, most=0)
    share = (NUMBERS - NUMBERS.min()) / np.ptp(NUMBERS)
    require_same(xgboost().XGBRegressor(n_estimators=9, objective="reg:logistic", n_jobs=1).fit(X, share))


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
    require_refused(xgboost().XGBClassifier(**{"n_estimators": 2, "n_jobs": 1} | options).fit(X, THREE), reason)


@pytest.mark.parametrize("options", [{"max_cat_to_onehot": 1}, {"max_cat_to_onehot": 40}, {"missing": 2}], ids=str)
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_xgboost_with_categories(options: dict[str, Any], gaps: bool) -> None:
    rows, target = codes(gaps=gaps)
    settings = {"n_estimators": 9, "n_jobs": 1, "enable_categorical": True, "feature_types": ["float", "c", "c"]}
    model = xgboost().XGBClassifier(**settings | options).fit(rows, target)
    assert any(any(tree["split_type"]) for tree in trees_of(model))
    require_same(model, rows)
    numbers = np.nan_to_num(rows[:, 0] + target)
    require_same(xgboost().XGBRegressor(**settings | options).fit(rows, numbers), rows, most=0)


def trees_of(model: Any) -> Any:
    learner = json.loads(bytes(model.get_booster().save_raw("json")))["learner"]
    return learner["gradient_booster"]["model"]["trees"]


def test_quantiles_of_xgboost_that_cross_are_in_order() -> None:
    options = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}
    model = xgboost().XGBRegressor(n_estimators=8, n_jobs=1, **options).fit(X, NUMBERS)
    raw = model.get_booster().predict(xgboost().DMatrix(X), output_margin=True)
    assert (np.diff(raw) < 0).any()  # they cross
    require_same(model, most=0)


@pytest.mark.parametrize(
    "step",
    [SimpleImputer(), PCA(2), VarianceThreshold(), ColumnTransformer([("kept", "passthrough", [3, 1])])],
    ids=str,
)
def test_xgboost_behind_steps_that_are_no_scalers(step: Any) -> None:
    rows = with_gaps(X) if isinstance(step, SimpleImputer) else X
    require_same(make_pipeline(step, xgboost().XGBClassifier(n_estimators=5, n_jobs=1)).fit(rows, TWO), rows)


def test_a_number_for_missing_values_behind_a_step() -> None:
    step = ColumnTransformer([("kept", "passthrough", [3, 1])])
    require_same(make_pipeline(step, xgboost().XGBClassifier(n_estimators=5, n_jobs=1, missing=3)).fit(X, THREE))


def test_other_libraries_behind_an_imputer() -> None:
    for model in (lightgbm().LGBMRegressor(**SMALL), catboost().CatBoostRegressor(**QUIET)):
        require_same(make_pipeline(SimpleImputer(), model).fit(with_gaps(X), NUMBERS), with_gaps(X), most=0)


def test_searches_over_a_booster(tmp_path: Path) -> None:
    file = tmp_path / "m.joblib"
    search = GridSearchCV(xgboost().XGBClassifier(n_estimators=3, n_jobs=1), {"max_depth": [2, 3]}, cv=2).fit(X, TWO)
    for model in (search, make_pipeline(StandardScaler(), search).fit(X, TWO)):
        joblib.dump(model, file)
        require_same(load_estimator(file, trust_pickle=True))


def test_boosters_inside_of_other_models_are_refused() -> None:
    inner = xgboost().XGBClassifier(n_estimators=2, n_jobs=1)
    reason = "XGBClassifier inside of another model can't be exported; alone, or as the last step"
    require_refused(VotingClassifier([("a", inner)], voting="soft").fit(X, TWO), reason)
    require_refused(BaggingClassifier(inner, n_estimators=2).fit(X, TWO), reason)
    require_refused(CalibratedClassifierCV(inner, cv=2).fit(X, TWO), reason)
