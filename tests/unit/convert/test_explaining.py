"""The trees on a card: what they answer is what the model answers, and what they cover is what was trained on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from edge_convert.explaining import trees_on_card
from edge_convert.fold import fold
from sklearn.datasets import load_diabetes, load_iris, load_linnerud
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from edge_agent.contract.trees import LEAF, MAX_NODES, Trees

IRIS, DIABETES, LINNERUD = (load(return_X_y=True) for load in (load_iris, load_diabetes, load_linnerud))
TWO = IRIS[0][:100], IRIS[1][:100]
HARD = IRIS[0][50:], IRIS[1][50:]
SMALL: dict[str, Any] = {"n_estimators": 5, "max_depth": 4, "random_state": 0}
BOOSTED: dict[str, Any] = {"max_iter": 4, "min_samples_leaf": 5, "random_state": 0}


def answers(trees: Trees, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a device makes of the trees, as their docstring says it."""
    result = []
    for row in rows:
        scores = np.zeros(trees.scores) if not trees.base else np.array(trees.base)
        begin = leaves_before = 0
        for number, size in enumerate(trees.sizes):
            node = 0
            while trees.features[begin + node] != LEAF:
                value, place = row[trees.features[begin + node]], begin + node
                left = trees.missing_left[place] if np.isnan(value) else value <= trees.thresholds[place]
                node = (trees.left if left else trees.right)[place]
            leaf = leaves_before + trees.features[begin : begin + node].count(LEAF)
            values = trees.values[leaf]
            if len(values) == trees.scores:
                scores = scores + values
            else:
                scores[number % trees.scores] += values[0]
            leaves_before += trees.features[begin : begin + size].count(LEAF)
            begin += size
        if trees.mean:
            scores = scores / len(trees.sizes)
        result.append(_linked(trees, scores))
    return np.array(result)


def _linked(trees: Trees, scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    match trees.link:
        case "logistic":
            second = 1 / (1 + np.exp(-scores[0]))
            return np.array([1 - second, second])
        case "softmax":
            return np.asarray(np.exp(scores) / np.exp(scores).sum())
        case "exponential":
            return np.exp(scores)
        case "path":
            assert trees.expected is not None
            return 2 ** -(scores / trees.expected)
        case _:
            return scores


@pytest.mark.parametrize(
    ("model", "data", "ask"),
    [
        (DecisionTreeClassifier(random_state=0), IRIS, "predict_proba"),
        (make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0)), IRIS, "predict_proba"),
        (RandomForestClassifier(class_weight="balanced", **SMALL), IRIS, "predict_proba"),
        (HistGradientBoostingClassifier(**BOOSTED), IRIS, "predict_proba"),
        (HistGradientBoostingClassifier(**BOOSTED), TWO, "predict_proba"),
        (GradientBoostingClassifier(**SMALL), IRIS, "predict_proba"),
        (GradientBoostingClassifier(init="zero", **SMALL), TWO, "predict_proba"),
        (GradientBoostingClassifier(loss="exponential", **SMALL), HARD, "predict_proba"),
        (make_pipeline(StandardScaler(), GradientBoostingClassifier(**SMALL)), HARD, "predict_proba"),
        (DecisionTreeRegressor(max_leaf_nodes=20, random_state=0), DIABETES, "predict"),
        (ExtraTreesRegressor(**SMALL), LINNERUD, "predict"),
        (GradientBoostingRegressor(**SMALL), DIABETES, "predict"),
        (HistGradientBoostingRegressor(loss="poisson", **BOOSTED), DIABETES, "predict"),
        (IsolationForest(n_estimators=5, random_state=0), DIABETES, "score_samples"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "get_params") else "",
)
def test_the_trees_answer_as_the_model_does(model: Any, data: tuple[Any, Any], ask: str) -> None:
    X, y = data
    model.fit(X, y)
    trees, why = trees_on_card(fold(model))
    assert trees is not None, why
    trees = Trees.model_validate_json(trees.model_dump_json())
    expected = getattr(model, ask)(X)
    if ask == "score_samples":
        expected = -expected
    # These trees compare what scikit-learn rounded to float32.
    rows = X if model.__class__.__name__.startswith(("Hist", "Pipe")) else X.astype(np.float32)
    assert np.allclose(answers(trees, rows), expected.reshape(len(X), -1), rtol=1e-12, atol=1e-12)


def test_gradient_boosting_that_begins_with_a_model_has_no_trees() -> None:
    model = GradientBoostingClassifier(init=DecisionTreeClassifier(max_depth=1), **SMALL).fit(*IRIS)
    assert trees_on_card(fold(model)) == (None, "")


def test_covers_are_the_weights_that_were_trained_with() -> None:
    weights = np.linspace(0.5, 2.0, len(IRIS[1]))
    model = DecisionTreeClassifier(random_state=0).fit(*IRIS, sample_weight=weights)
    trees, _ = trees_on_card(fold(model))
    assert trees is not None
    assert trees.covers[0] == pytest.approx(weights.sum())
    for node in (place for place, feature in enumerate(trees.features) if feature != LEAF):
        assert trees.covers[node] == pytest.approx(trees.covers[trees.left[node]] + trees.covers[trees.right[node]])


def test_missing_values_go_where_they_went_in_training() -> None:
    X, y = IRIS[0].copy(), IRIS[1]
    X[::3, 2] = np.nan
    for model in (DecisionTreeClassifier(max_depth=3, random_state=0), HistGradientBoostingClassifier(**BOOSTED)):
        model.fit(X, y)
        trees, _ = trees_on_card(fold(model, missing=True))
        assert trees is not None
        rows = X if isinstance(model, HistGradientBoostingClassifier) else X.astype(np.float32)
        assert np.allclose(answers(trees, rows), model.predict_proba(X), rtol=1e-12)


def test_a_model_that_is_too_large_says_that_it_cannot_explain() -> None:
    rng = np.random.default_rng(0)
    model = RandomForestClassifier(20, random_state=0).fit(rng.normal(size=(600, 3)), rng.integers(0, 2, 600))
    trees, why = trees_on_card(fold(model))
    assert trees is None
    assert why.startswith("trees: the model has ")
    assert f"the card has room for {MAX_NODES:,}" in why


def good() -> dict[str, Any]:
    model = DecisionTreeClassifier(max_depth=2, random_state=0).fit(*IRIS)
    trees, _ = trees_on_card(fold(model))
    assert trees is not None
    content: dict[str, Any] = json.loads(trees.model_dump_json())
    return content


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sizes": [4]}, "features has 5 entries for 4 nodes"),
        ({"sizes": [2, 3]}, "tree 0: a node has no parent, or two"),
        ({"left": [0, 0, 3, 0, 0]}, "tree 0, node 0: a child comes before its parent"),
        ({"right": [1, 0, 4, 0, 0]}, "tree 0: a node has no parent, or two"),
        ({"values": [[1.0]]}, "values has 1 rows for 3 leaves"),
        ({"values": [[1.0, 2.0]] * 3}, "a leaf has one value, or 3"),
        ({"base": [0.0]}, "base has 1 entries for 3 scores"),
        ({"expected": 1.0}, "expected belongs to link path"),
        ({"covers": [-1.0] * 5}, "greater than or equal to 0"),
        ({"thresholds": [None] * 5}, "valid number"),
        ({"features": [0] * (MAX_NODES + 1)}, "at most"),
    ],
)
def test_trees_that_are_none_are_refused(change: dict[str, Any], says: str) -> None:
    Trees.model_validate(good())
    with pytest.raises(ValueError, match=says):
        Trees.model_validate({**good(), **change})
