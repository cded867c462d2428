"""What a model card says of the model's trees, so that a device can explain answers (`edge_agent.contract.trees`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, IsolationForest

from edge_agent.contract.trees import LEAF, MAX_NODES, MAX_VALUES, Trees
from edge_convert.boosters.model import EXP, IDENTITY, SIGMOID, SOFTMAX, Boosted
from edge_convert.classifier import split
from edge_convert.ensembles import baseline_of
from edge_convert.fold import FOLDABLE, Folded, fold_into
from edge_convert.leaves import expected_length, sum_of
from edge_convert.trees import (
    BOOSTED,
    BOOSTED_REGRESSORS,
    FOREST_REGRESSORS,
    FORESTS,
    SINGLE,
    SINGLE_REGRESSORS,
    Tree,
    begun_with,
    halves,
    parents_first,
    stages_of,
)

#: What becomes of a booster's scores, as a card has it.
_LINKS = {IDENTITY: "identity", EXP: "exponential", SIGMOID: "logistic", SOFTMAX: "softmax"}
#: A split that only asks whether a value is missing compares with infinity; no number of a card is.
_LARGEST = float(np.finfo(np.float64).max)


def trees_on_card(folded: Folded) -> tuple[Trees | None, str]:
    """Return the trees of a model for its card, or None and a sentence that says why there are none ("" if there never are)."""
    trees = folded.trees or _staged(folded)
    if trees is None or any(tree.covers is None for tree in trees):
        return None, ""
    how = _scores(folded, trees)
    if how is None:
        return None, ""
    if isinstance(folded.estimator, Boosted):
        weight = folded.estimator.scores.weight
        trees = [replace(tree, values=weight * tree.values) for tree in map(parents_first, trees)]
    nodes, values = sum(len(tree.feature) for tree in trees), sum(tree.values[tree.is_leaf].size for tree in trees)
    if nodes > MAX_NODES or values > MAX_VALUES:
        what = f"{nodes:,} nodes" if nodes > MAX_NODES else f"{values:,} values in its leaves"
        most = MAX_NODES if nodes > MAX_NODES else MAX_VALUES
        return None, (
            f"trees: the model has {what}, and the card has room for {most:,}: it can't explain its answers "
            "(fewer or smaller trees can)"
        )
    return Trees(**_nodes(trees), **how), ""


def _staged(folded: Folded) -> list[Tree] | None:
    """Return the trees of gradient boosting with labels, of which a graph takes float64; None for another model, or where the row itself tells what
    they begin with.
    """
    scalers, estimator = split(folded.estimator)
    if not isinstance(estimator, GradientBoostingClassifier) or not all(type(step) in FOLDABLE for step in scalers):
        return None
    if begun_with(estimator) is None:
        return None
    weight = 2.0 if halves(estimator) else 1.0
    trees = [replace(tree, missing_left=None, values=weight * tree.values) for tree in stages_of(estimator)]
    # Those that are too many for a card are counted only.
    fits = sum(len(tree.feature) for tree in trees) <= MAX_NODES
    return fold_into(trees, scalers, folded.n_features, narrow=True) if fits else trees


def _scores(folded: Folded, trees: list[Tree]) -> dict[str, Any] | None:
    """Return how the answers come of the leaves' values; None for an estimator of which that is not known here."""
    estimator, width = split(folded.estimator)[1], trees[0].values.shape[1]
    if isinstance(estimator, SINGLE + FORESTS + SINGLE_REGRESSORS + FOREST_REGRESSORS):
        return {"scores": width, "mean": True}
    if isinstance(estimator, (*BOOSTED, GradientBoostingClassifier)):
        odds = _first_odds(estimator)
        return {"scores": len(odds), "base": _plain(odds), "link": "logistic" if len(odds) == 1 else "softmax"}
    if isinstance(estimator, Boosted):
        return _scores_of_booster(estimator)
    if isinstance(estimator, IsolationForest):
        return {"scores": 1, "link": "path", "expected": expected_length(estimator, trees)}
    if isinstance(estimator, (*BOOSTED_REGRESSORS, GradientBoostingRegressor)):
        how = sum_of(estimator)
        first = () if how.first is None else _plain(how.first)
        return {
            "scores": max(width, len(first)),
            "base": first,
            "link": "exponential" if how.exponential else "identity",
        }
    return None


def _scores_of_booster(booster: Boosted) -> dict[str, Any] | None:
    """Return how the answers of a booster come of its leaves; None where a card can't say it: quantiles that are put into order,
    numbers that stand for missing values, shares.
    """
    scores = booster.scores
    if scores.sorts or scores.absent is not None or (scores.link == SIGMOID and not hasattr(booster, "classes_")):
        return None
    begun = np.zeros(scores.width)
    if scores.first is not None:
        begun = begun + scores.weight * scores.first
    if scores.bias is not None:
        begun = begun + (scores.slope if scores.link == SIGMOID else 1.0) * scores.bias
    return {"scores": scores.width, "base": _plain(begun) if begun.any() else (), "link": _LINKS[scores.link]}


def _first_odds(estimator: Any) -> NDArray[np.float64]:
    """Return the log odds (scores,) that boosting begins with, where no model of its own tells them."""
    if isinstance(estimator, BOOSTED):
        return baseline_of(estimator)
    first = begun_with(estimator)
    assert first is not None  # noqa: S101 - such a one has no trees here
    return first * (2.0 if halves(estimator) else 1.0)


def _nodes(trees: list[Tree]) -> dict[str, Any]:
    def joined(name: str, at_leaf: float) -> list[Any]:
        found: list[Any] = np.concatenate(
            [np.where(tree.is_leaf, at_leaf, getattr(tree, name)) for tree in trees]
        ).tolist()
        return found

    thresholds = np.clip(joined("threshold", 0.0), -_LARGEST, _LARGEST)
    missing = all(tree.missing_left is not None for tree in trees)
    return {
        "sizes": [len(tree.feature) for tree in trees],
        "features": joined("feature", LEAF),
        "thresholds": thresholds.tolist(),
        "left": joined("left", 0),
        "right": joined("right", 0),
        "covers": np.concatenate([tree.covers for tree in trees if tree.covers is not None]).tolist(),
        "missing_left": joined("missing_left", 0) if missing else (),
        "values": np.concatenate([tree.values[tree.is_leaf] for tree in trees]).tolist(),
    }


def _plain(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(map(float, values))
