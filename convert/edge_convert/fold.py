"""Scalers in front of a tree, folded into the tree's thresholds.

`scale(x) <= t` is a question about x itself: these scalers treat every column on its own and never turn the order of
two values round, not even after rounding (each is a subtraction, a product or a quotient by a positive number, and
floating point keeps their order). So there is a largest float32 x for which the answer is yes, and asking `x <= that`
instead gives the same answer for every float32. It is found by bisection over all float32, with the Pipeline's own
`transform` as the judge, so it is right by construction and not by algebra.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from edge_convert.trees import BOOSTED, Tree, trees_of

#: Column by column and never decreasing; nothing else may join without a proof of both.
FOLDABLE: Final = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)

Floats = NDArray[np.float64]


def fold(model: Any) -> tuple[Any, list[Tree] | None]:
    """Return what to convert: the bare estimator and its trees with thresholds in the model's own input units.

    `model` is a fitted classifier or Pipeline. If it is not made of trees with nothing but foldable scalers in front, it
    comes back as it is, with None.
    """
    scalers, estimator = split(model)
    trees = trees_of(estimator)
    if trees is None or not all(type(scaler) in FOLDABLE for scaler in scalers):
        return model, None
    if not scalers:
        return estimator, trees
    # Trees and forests round what they are handed to float32 before they compare; boosting compares float64.
    narrow = not isinstance(estimator, BOOSTED)
    return estimator, _fold_into(trees, scalers, inputs_of(model)[0], narrow=narrow)


def inputs_of(model: Any) -> tuple[int, tuple[str, ...]]:
    """Return how many columns a fitted model takes, and their names if it was fitted on named ones."""
    before, last = split(model)
    first = [*before, last][0]
    return int(first.n_features_in_), tuple(map(str, getattr(first, "feature_names_in_", ())))


def split(model: Any) -> tuple[list[Any], Any]:
    """Return the steps before the last one that do something, and the last one."""
    if not isinstance(model, Pipeline):
        return [], model
    *before, last = [step for _, step in model.steps if step is not None and not isinstance(step, str)]
    inner_scalers, estimator = split(last)
    return [*before, *inner_scalers], estimator


def _fold_into(trees: Sequence[Tree], scalers: Sequence[Any], n_features: int, *, narrow: bool) -> list[Tree]:
    def scaled(values: NDArray[np.float32], columns: NDArray[np.int64]) -> Floats:
        """What the tree compares, for `values` (n,) each in its own of `columns` (n,) and 0 elsewhere."""
        rows = np.arange(len(values))
        X = np.zeros((len(values), n_features))
        X[rows, columns] = values
        with np.errstate(over="ignore"):
            for scaler in scalers:
                X = scaler.transform(X)
            result = X[rows, columns]
            return result.astype(np.float32).astype(np.float64) if narrow else result

    folded = []
    for tree in trees:
        inner = ~tree.is_leaf
        threshold = tree.threshold.copy()
        threshold[inner] = _largest(scaled, tree.feature[inner], tree.threshold[inner])
        folded.append(tree.with_thresholds(threshold))
    return folded


def _largest(scaled: Any, columns: NDArray[np.int64], thresholds: Floats) -> Floats:
    """Return for each threshold the largest finite float32 x with `scaled(x) <= threshold`; -inf if there is none."""
    # Invariant: rank `low` answers yes (or is one before the first rank), rank `high` answers no (or one past the last).
    low = np.full(len(thresholds), _rank(-_MAX) - 1, dtype=np.int64)
    high = np.full(len(thresholds), _rank(_MAX) + 1, dtype=np.int64)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        yes = scaled(_value(middle), columns) <= thresholds
        low, high = np.where(yes, middle, low), np.where(yes, high, middle)
    return np.where(low < _rank(-_MAX), -np.inf, _value(np.maximum(low, _rank(-_MAX))).astype(np.float64))


_MAX: Final = float(np.finfo(np.float32).max)


def _rank(value: float) -> int:
    """Number float32 values in their order, zero being 0: neighbours differ by one."""
    bits = int(np.float32(value).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _value(ranks: NDArray[np.int64]) -> NDArray[np.float32]:
    bits = np.abs(ranks).astype(np.uint32) | np.where(ranks < 0, np.uint32(0x80000000), np.uint32(0))
    return bits.astype(np.uint32).view(np.float32)
