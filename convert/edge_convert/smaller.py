"""Smaller models of the same kind: what they would weigh, and what that costs in accuracy, on rows that they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from sklearn import config_context
from threadpoolctl import threadpool_limits

from edge_convert.estimators import Floats, Kind, Parameters
from edge_convert.trees import trees_of

#: As many rows are enough to compare with, a fifth of them held out.
_ROWS: Final = 20_000

#: What to say where a model was trained elsewhere.
ADVICE: Final = (
    "smaller: train it with fewer trees (n_estimators, max_iter), or smaller ones (max_depth, max_leaf_nodes)"
)


def smaller(
    kind: Kind, parameters: Parameters, X: Floats, y: Any, *, score: Callable[[Any, Any], float], what: str, seed: int
) -> Iterator[str]:
    """Yield a sentence for each smaller model: the option, its share of the size, and its score beside that of the whole one."""
    rows = np.random.default_rng(seed).permutation(len(X))[:_ROWS]
    test, train = np.split(rows, [len(rows) // 5])

    def tried(changes: Parameters) -> tuple[int, float]:
        model = kind.make(parameters, seed).set_params(**changes).fit(X[train], y[train])
        return sum(len(tree.feature) for tree in trees_of(model) or []), score(y[test], model.predict(X[test]))

    with threadpool_limits(1), config_context(assume_finite=True):
        nodes, figure = tried({})
        for changes in _less(kind, parameters):
            fewer, other = tried(changes)
            if fewer >= nodes:  # a parameter that was set is smaller already
                continue
            options = " ".join(f"--set {name}={value}" for name, value in changes.items())
            yield f"smaller: {options}: {fewer / nodes:.0%} of the size, {what} {other:.4f} instead of {figure:.4f}"


def _less(kind: Kind, parameters: Parameters) -> list[Parameters]:
    leaf = parameters.get("min_samples_leaf", 1)
    if kind.name == "forest":
        return [{"n_estimators": 32}, {"min_samples_leaf": 4 * leaf}, {"n_estimators": 32, "max_depth": 8}]
    if kind.name == "tree":
        return [{"min_samples_leaf": 4 * leaf}, {"max_depth": 8}]
    return [{"max_iter": 150, "max_leaf_nodes": 7}, {"max_iter": 50}]
