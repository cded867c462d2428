"""LightGBM: the file answers as the library does, or the model is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_convert.admission import require_codes_known
from edge_convert.load import load_estimator
from edge_convert.tables import Table, TableChoice
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edge_agent.errors import InputError
from tests.unit.convert.boosters import (
    NUMBERS,
    SMALL,
    THREE,
    TWO,
    X,
    codes,
    lightgbm,
    require_refused,
    require_same,
    with_gaps,
)


@pytest.mark.parametrize("target", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_lightgbm_classifiers(target: Any, gaps: bool) -> None:
    rows = with_gaps(X) if gaps else X
    require_same(lightgbm().LGBMClassifier(**SMALL).fit(rows, target), rows)


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
    rows = with_gaps(X) if gaps else X
    require_same(lightgbm().LGBMClassifier(**SMALL | options).fit(rows, TWO), rows)


def test_lightgbm_makes_zero_of_what_is_near_it() -> None:
    # A threshold just beside 0, where negative numbers and missing ones are told from 0.
    rng = np.random.default_rng(0)
    rows = rng.choice([-2.0, -1.0, 0.0, 1.0, np.nan], (2000, 2))
    target = (np.nan_to_num(rows[:, 0], nan=3) < 0) ^ (rng.random(2000) < 0.1)
    require_same(lightgbm().LGBMClassifier(**SMALL).fit(rows, target), rows)


@pytest.mark.parametrize("options", [{}, {"max_cat_to_onehot": 40}, {"zero_as_missing": True}], ids=str)
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightgbm_with_categories(options: dict[str, Any], gaps: bool) -> None:
    rows, target = codes(gaps=gaps)
    settings = SMALL | {"min_data_per_group": 1, "cat_smooth": 1.0} | options
    model = lightgbm().LGBMClassifier(**settings).fit(rows, target, categorical_feature=[1, 2])
    assert "cat_threshold" in model.booster_.model_to_string()
    require_same(model, rows)
    numbers = rows[:, 0] + target
    number = lightgbm().LGBMRegressor(**settings).fit(rows, np.nan_to_num(numbers), categorical_feature=[1, 2])
    require_same(number, rows, most=0)


def test_lightgbm_behind_a_scaler() -> None:
    require_same(make_pipeline(StandardScaler(), lightgbm().LGBMClassifier(**SMALL)).fit(X, THREE))


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
    require_same(lightgbm().LGBMRegressor(objective=objective, **SMALL).fit(X, target), most=most)


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
    require_refused(lightgbm().LGBMClassifier(**SMALL | options).fit(X, THREE), reason)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightgbm_with_an_objective_of_its_own_or_another_scale_is_refused() -> None:
    library = lightgbm()
    own = library.LGBMRegressor(objective=lambda true, said: (said - true, np.ones_like(true)), **SMALL)
    require_refused(own.fit(X, NUMBERS), r"the objective \(its own\) can't be exported")
    require_refused(library.LGBMRegressor(reg_sqrt=True, **SMALL).fit(X, NUMBERS), "reg_sqrt")
    require_refused(library.LGBMRanker(**SMALL).fit(X, TWO, group=[len(X)]), "LGBMRanker can't be exported")


def test_lightgbm_with_words(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas", reason="words reach LightGBM in data frames")
    rows, target = codes(gaps=False)
    table = pd.DataFrame({"x": rows[:, 0], "room": np.array(["attic", "bath", "hall"])[rows[:, 1].astype(int) % 3]})
    settings = SMALL | {"min_data_per_group": 1}
    model = lightgbm().LGBMClassifier(**settings).fit(table.astype({"room": "category"}), target)
    model.booster_.save_model(tmp_path / "m.txt")
    loaded = load_estimator(tmp_path / "m.txt")

    def read(some: Any) -> Table:
        some.assign(y=target[some.index]).to_csv(tmp_path / "table.csv", index=False)
        return TableChoice(data=tmp_path / "table.csv", target="y").read()

    whole = read(table)
    require_codes_known(loaded, whole)
    assert np.array_equal(loaded.predict(whole.X), model.predict(table.astype({"room": "category"})))
    with pytest.raises(
        InputError, match="holds the words attic, hall, and the estimator was trained on attic, bath, hall"
    ):
        require_codes_known(loaded, read(table[table["room"] != "bath"]))
    with pytest.raises(InputError, match="column 'x' holds words, and how the estimator codes them is not known"):
        require_codes_known(loaded, read(table.assign(x=table["room"])))
