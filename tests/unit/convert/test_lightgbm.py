"""LightGBM: the file answers as the library does, or the model is refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.unit.convert.boosters import (
    NUMBERS,
    SMALL,
    THREE,
    TWO,
    X,
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
def test_lightgbm_with_categories_an_objective_of_its_own_or_another_scale_is_refused() -> None:
    library = lightgbm()
    model = library.LGBMClassifier(**SMALL | {"min_data_per_group": 1})
    require_refused(
        model.fit(X, THREE, categorical_feature=[3]), "splits on categories; train it on their codes as numbers"
    )
    own = library.LGBMRegressor(objective=lambda true, said: (said - true, np.ones_like(true)), **SMALL)
    require_refused(own.fit(X, NUMBERS), r"the objective \(its own\) can't be exported")
    require_refused(library.LGBMRegressor(reg_sqrt=True, **SMALL).fit(X, NUMBERS), "reg_sqrt")
    require_refused(library.LGBMRanker(**SMALL).fit(X, TWO, group=[len(X)]), "LGBMRanker can't be exported")
