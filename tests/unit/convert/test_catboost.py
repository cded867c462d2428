"""CatBoost: the file answers as the library does, or the model is refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.unit.convert.boosters import (
    NUMBERS,
    QUIET,
    THREE,
    TWO,
    X,
    catboost,
    require_refused,
    require_same,
    with_gaps,
)


@pytest.mark.parametrize("target", [TWO == 1, np.array(["calm", "loud", "odd"])[THREE]], ids=["two", "three"])
@pytest.mark.parametrize("policy", ["SymmetricTree", "Depthwise", "Lossguide"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_catboost_classifiers(target: Any, policy: str, gaps: bool) -> None:
    rows = with_gaps(X) if gaps else X
    require_same(catboost().CatBoostClassifier(grow_policy=policy, **QUIET).fit(rows, target), rows)


def test_catboost_takes_missing_values_for_the_largest() -> None:
    rows = with_gaps(X)
    require_same(catboost().CatBoostClassifier(nan_mode="Max", **QUIET).fit(rows, THREE), rows)


def test_catboost_behind_a_scaler() -> None:
    require_same(make_pipeline(StandardScaler(), catboost().CatBoostClassifier(**QUIET)).fit(X, THREE))


@pytest.mark.parametrize(
    ("loss", "most"),
    [("RMSE", 0), ("MAE", 0), ("Quantile:alpha=0.9", 0), ("Poisson", 1e-13), ("Tweedie:variance_power=1.5", 1e-13)],
)
def test_catboost_regressors(loss: str, most: float) -> None:
    target = np.abs(NUMBERS) + 1
    require_same(catboost().CatBoostRegressor(loss_function=loss, **QUIET).fit(X, target), most=most)


def test_catboost_of_several_numbers() -> None:
    several = np.c_[NUMBERS, -2 * NUMBERS]
    require_same(catboost().CatBoostRegressor(loss_function="MultiRMSE", **QUIET).fit(X, several), most=0)


def test_catboost_that_is_refused() -> None:
    library = catboost()
    rows = np.column_stack([X[:, 0], X[:, 3].astype(int).astype(str)]).astype(object)
    require_refused(library.CatBoostClassifier(cat_features=[1], **QUIET).fit(rows, THREE), "without cat_features")
    ova = library.CatBoostClassifier(loss_function="MultiClassOneVsAll", **QUIET)
    require_refused(ova.fit(X, THREE), "the loss MultiClassOneVsAll can't be exported; Logloss")
    eager = library.CatBoostClassifier(**QUIET).fit(X, TWO)
    eager.set_probability_threshold(0.3)
    require_refused(eager, "has a probability threshold of 0.3; only .5 can be exported")
    require_refused(library.CatBoostClassifier(**QUIET), "is not fitted")
    require_refused(
        library.CatBoostRanker(loss_function="YetiRank", **QUIET).fit(X, TWO, group_id=np.zeros(len(X), int)),
        "the loss YetiRank can't",
    )
