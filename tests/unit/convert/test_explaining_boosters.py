"""The trees of boosters of other libraries on a card: what they answer is what the library answers, and all of its rows came by the root."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from edge_convert.boosters import opening
from edge_convert.explaining import trees_on_card
from edge_convert.fold import fold

from edge_agent.contract.trees import LEAF, Trees
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
    with_gaps,
    xgboost,
)
from tests.unit.convert.test_explaining import answers

ABOVE = np.abs(NUMBERS) + 1
XGB: dict[str, Any] = {"n_estimators": 6, "max_depth": 4, "n_jobs": 1}


@pytest.mark.parametrize(
    ("make", "target"),
    [
        (lambda: xgboost().XGBClassifier(**XGB, base_score=0.3), TWO),
        (lambda: xgboost().XGBClassifier(**XGB, gamma=0.5), THREE),
        (lambda: xgboost().XGBRegressor(**XGB), NUMBERS),
        (lambda: xgboost().XGBRegressor(**XGB, objective="count:poisson"), ABOVE),
        (lambda: lightgbm().LGBMClassifier(**SMALL, sigmoid=0.7), TWO),
        (lambda: lightgbm().LGBMClassifier(**SMALL), THREE),
        (lambda: lightgbm().LGBMClassifier(**SMALL, boosting_type="rf", subsample=0.6, subsample_freq=1), THREE),
        (lambda: lightgbm().LGBMRegressor(**SMALL, objective="poisson"), ABOVE),
        (lambda: catboost().CatBoostClassifier(**QUIET), TWO),
        (lambda: catboost().CatBoostClassifier(**QUIET, grow_policy="Lossguide"), THREE),
        (lambda: catboost().CatBoostRegressor(**QUIET), NUMBERS),
    ],
)
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_the_trees_answer_as_the_library_does(make: Callable[[], Any], target: Any, gaps: bool) -> None:
    rows = with_gaps(X) if gaps else X
    model = opening.adopted(make().fit(rows, target))
    trees, why = trees_on_card(fold(model, missing=gaps))
    assert trees is not None, why
    trees = Trees.model_validate_json(trees.model_dump_json())
    some = rows[:200]
    expected = model.predict_proba(some) if hasattr(model, "classes_") else model.predict(some)
    # As the graph takes them.
    seen = some.astype(np.float32).astype(np.float64) if model.rounds else some
    assert np.allclose(answers(trees, seen), expected.reshape(len(some), -1), rtol=1e-5, atol=1e-6)
    begin = 0
    for size in trees.sizes:
        for node in (place for place in range(size) if trees.features[begin + place] != LEAF):
            below = [trees.covers[begin + side[begin + node]] for side in (trees.left, trees.right)]
            assert trees.covers[begin + node] == pytest.approx(sum(below), rel=1e-4)
        begin += size


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_a_card_cannot_say_has_no_trees() -> None:
    rows, target = codes(gaps=False)
    share = (NUMBERS - NUMBERS.min()) / np.ptp(NUMBERS)
    for model in (
        lightgbm().LGBMClassifier(**SMALL | {"min_data_per_group": 1}).fit(rows, target, categorical_feature=[1]),
        xgboost().XGBClassifier(**XGB, missing=3.0).fit(X, TWO),
        xgboost().XGBRegressor(**XGB, objective="reg:logistic").fit(X, share),
    ):
        assert trees_on_card(fold(opening.adopted(model))) == (None, "")
