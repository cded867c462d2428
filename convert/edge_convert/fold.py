"""Scalers in front of a tree, folded into the tree's thresholds.

`scale(x) <= t` is a question about x itself: these scalers treat every column on its own and never turn the order of
two values round, not even after rounding (each is a subtraction, a product or a quotient by a positive number, and
floating point keeps their order). So there is a largest float64 x for which the answer is yes, and asking `x <= that`
instead gives the same answer for every float64. It is found by bisection over all float64 that the agent accepts, with the
Pipeline's own `transform` as the judge, so it is right by construction and not by algebra. Such a graph takes float64: two
values on either side of a threshold may share a float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from edge_agent.errors import InputError
from edge_convert.classifier import Estimator, inputs_of, split, title_of
from edge_convert.trees import Tree, rounds, thresholds_by_feature, trees_of
from edge_convert.words import Words

#: Column by column and never decreasing; nothing else may join without a proof of both.
FOLDABLE: Final = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)

Floats = NDArray[np.float64]
_Scaled = Callable[[Floats, NDArray[np.int64]], Floats]


@dataclass(frozen=True)
class Folded:
    """What a graph is made of: an estimator for rows of `n_features`, as they come in.

    `trees` are its trees, with thresholds in the units of those rows; None if it is not made of trees with nothing but
    foldable scalers in front; then `estimator` is the whole model. `wide` tells that the graph has to take float64, since the
    model looks at more of a number than float32 holds.
    """

    estimator: Estimator
    trees: list[Tree] | None
    n_features: int
    wide: bool
    #: What is not trees alone: the columns of words, by their place, which hold codes.
    words: Mapping[int, Words] = field(default_factory=dict)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the graph takes."""
        return np.dtype(np.float64 if self.wide else np.float32)

    @property
    def splits(self) -> bool:
        """Whether trees ask anything: else every row gets the same answer."""
        return self.trees is None or not all(tree.is_leaf.all() for tree in self.trees)

    @cached_property
    def thresholds(self) -> list[Floats]:
        """The distinct thresholds of each feature, those that some input reaches; empty where there are none."""
        if self.trees is None:
            return [np.empty(0)] * self.n_features
        return [
            values[np.isfinite(values)] for values in thresholds_by_feature(self.trees, self.n_features, wide=self.wide)
        ]


def whole(model: Estimator) -> Folded:
    """Return a fitted model as it is, with nothing folded."""
    return Folded(model, None, inputs_of(model)[0], wide=True)


def fold(model: Estimator, *, missing: bool = False, words: Mapping[int, Words] | None = None) -> Folded:
    """Return what to convert of a fitted estimator or Pipeline: where possible, its trees without the scalers in front.

    With `missing` the trees keep their branches for missing values, which these scalers let through.

    Raises `InputError` for trees that have more than thresholds (see `trees_of`).
    """
    scalers, estimator = split(model)
    n_features, _ = inputs_of(model)
    # Those of other libraries bring their own: `edge_convert.boosters`.
    trees: list[Tree] | None = getattr(estimator, "own_trees", None) or trees_of(estimator)
    wide = bool(scalers) or not rounds(estimator)
    if trees is None or not all(type(scaler) in FOLDABLE for scaler in scalers):
        # What is neither of these says for itself what it takes: `edge_convert.foreign`.
        return Folded(
            model, None, n_features, wide=bool(scalers) or not getattr(estimator, "rounds", False), words=words or {}
        )
    takes_absent = getattr(estimator, "takes_absent", False)
    if scalers and takes_absent:
        raise InputError(
            f"{title_of(model)}: some numbers stand for a missing value behind a scaler; train it with missing values as they are (NaN)"
        )
    if not missing and not takes_absent:
        trees = [replace(tree, missing_left=None) for tree in trees]
    if scalers:
        # Trees and forests round what they are handed to float32 before they compare; boosting compares float64.
        trees = fold_into(trees, scalers, n_features, narrow=rounds(estimator))
    return Folded(estimator, trees, n_features, wide)


def fold_into(trees: Sequence[Tree], scalers: Sequence[Any], n_features: int, *, narrow: bool) -> list[Tree]:
    """Return trees that ask float64 rows of `n_features` as they come in what they ask behind `scalers`; `narrow` tells that they round what they get to float32."""

    def scaled(values: Floats, columns: NDArray[np.int64]) -> Floats:
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
        # What only asks whether a value is there compares with infinity, and goes on doing so: there is no edge to look for.
        inner = ~tree.is_leaf & np.isfinite(tree.threshold)
        threshold = tree.threshold.copy()
        threshold[inner] = _largest(scaled, tree.feature[inner], tree.threshold[inner])
        folded.append(tree.with_thresholds(threshold))
    return folded


def _largest(scaled: _Scaled, columns: NDArray[np.int64], thresholds: Floats) -> Floats:
    """Return for each threshold the largest float64 x within float32's range with `scaled(x) <= threshold`; -inf if there is none."""
    # Invariant: rank `low` answers yes (or is one before the first rank), rank `high` answers no (or one past the last).
    low = np.full(len(thresholds), _rank(-_MAX) - 1, dtype=np.int64)
    high = np.full(len(thresholds), _rank(_MAX) + 1, dtype=np.int64)
    while np.any(low + 1 < high):
        middle = (low & high) + ((low ^ high) >> 1)  # half of the sum, which would overflow
        yes = scaled(_value(middle), columns) <= thresholds
        low, high = np.where(yes, middle, low), np.where(yes, high, middle)
    return np.where(low < _rank(-_MAX), -np.inf, _value(np.maximum(low, _rank(-_MAX))))


_MAX: Final = float(np.finfo(np.float32).max)


def _rank(value: float) -> int:
    """Number float64 values in their order, zero being 0: neighbours differ by one."""
    bits = int(np.float64(value).view(np.int64))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFFFFFFFFFF)


def _value(ranks: NDArray[np.int64]) -> Floats:
    return np.copysign(np.abs(ranks).view(np.float64), ranks)
