"""The ways to the leaves of the trees on a model's card, and their conditions in words: what explanations are made of
(`edge_agent.model.explain`).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.contract.card import Feature
from edge_agent.contract.trees import LEAF, Trees
from edge_agent.errors import ExplainError

#: Digits of thresholds in words.
_SHORT: Final = 6
#: Categories that a condition names.
_NAMED: Final = 8

Floats = npt.NDArray[np.float64]


class Leaves(NamedTuple):
    """The way to each of l leaves, padded to d features: of each (d, l) the feature, between what (`low < x <= high`), whether a missing value
    goes there, and the share of the training rows that did. `values` (l, k) are those of the leaves, `tree` (l,) whose they are.
    """

    features: npt.NDArray[np.intp]
    low: Floats
    high: Floats
    missing: npt.NDArray[np.bool_]
    share: Floats
    values: Floats
    tree: npt.NDArray[np.intp]

    def of(self, chosen: npt.NDArray[np.bool_]) -> Leaves:
        """Return some of the leaves."""
        features, low, high, missing, share = (
            self.features[:, chosen],
            self.low[:, chosen],
            self.high[:, chosen],
            self.missing[:, chosen],
            self.share[:, chosen],
        )
        return Leaves(features, low, high, missing, share, self.values[chosen], self.tree[chosen])

    def met(self, rows: Floats) -> npt.NDArray[np.bool_]:
        """Return of `rows` (n, features) which conditions they meet, (n, d, l)."""
        x = rows[:, self.features]
        found: npt.NDArray[np.bool_] = (x > self.low) & (x <= self.high)
        gone = np.isnan(x)
        return found | (gone & self.missing) if gone.any() else found


#: Of one feature on the way to a leaf: low, high, whether missing values go there, share.
_Bounds = tuple[float, float, bool, float]


def leaves_of(trees: Trees, most: int) -> Leaves:
    """Return the ways to all leaves. Raises `ExplainError` when there are more than `most` conditions, or places for them."""
    ways: list[dict[int, _Bounds]] = []
    tree_of: list[int] = []
    begin = conditions = 0
    for number, size in enumerate(trees.sizes):
        pending: dict[int, dict[int, _Bounds]] = {0: {}}
        for node in range(size):
            way, place = pending.pop(node), begin + node
            if trees.features[place] == LEAF:
                ways.append(way)
                tree_of.append(number)
                conditions += len(way)
                if conditions > most:
                    raise ExplainError(too_large(conditions, most))
                continue
            pending[trees.left[place]] = _asked(trees, begin, node, way, left=True)
            pending[trees.right[place]] = _asked(trees, begin, node, way, left=False)
        begin += size
    width = max(1, *map(len, ways))
    if width * len(ways) > most:  # few long ways among many short ones
        raise ExplainError(too_large(width * len(ways), most))
    # What pads takes all and tells nothing.
    features = np.zeros((width, len(ways)), np.intp)
    table = np.empty((4, width, len(ways)))
    table[:] = np.array([-math.inf, math.inf, 1.0, 1.0])[:, np.newaxis, np.newaxis]
    for leaf, way in enumerate(ways):
        if way:
            features[: len(way), leaf] = list(way)
            table[:, : len(way), leaf] = np.array(list(way.values())).T
    low, high, missing, share = table
    return Leaves(features, low, high, missing.astype(bool), share, np.array(trees.values), np.array(tree_of))


def _asked(trees: Trees, begin: int, node: int, way: dict[int, _Bounds], *, left: bool) -> dict[int, _Bounds]:
    """Return the way to a child of a node."""
    place = begin + node
    feature, threshold = trees.features[place], trees.thresholds[place]
    low, high, missing, share = way.get(feature, (-math.inf, math.inf, True, 1.0))
    both = [trees.covers[begin + side[place]] for side in (trees.left, trees.right)]
    # No training row came by where covers are 0: then either way is as good.
    part = both[0 if left else 1] / sum(both) if sum(both) > 0 else 0.5
    goes = bool(trees.missing_left) and trees.missing_left[place] == left
    bounds = (low, min(high, threshold)) if left else (max(low, threshold), high)
    return {**way, feature: (*bounds, missing and goes, share * part)}


def too_large(steps: int, most: int) -> str:
    """Say that a model takes too many steps to explain."""
    return (
        f"the model is too large to explain its answers: {steps:,} steps or more for a row, and {most:,} are allowed; "
        'train fewer or smaller trees, or set explain = "none"'
    )


def codes(feature: Feature, low: float, high: float) -> list[int]:
    """Return the codes of a boolean or a category that lie between `low` and `high`."""
    return [code for code in range(len(feature.categories) or 2) if low < code <= high]


def in_words(feature: Feature, low: float, high: float, *, missing: bool) -> str:
    """Return a condition, `low < x <= high`, as people read it."""
    if feature.kind == "number":
        said = _between(feature, low, high)
    else:
        words = [
            str(feature.word(code)).lower() if feature.kind == "boolean" else str(feature.word(code))
            for code in codes(feature, low, high)
        ]
        more = len(words) - _NAMED
        listed = ", ".join(words[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        said = f"{feature.name} {'=' if len(words) == 1 else 'is one of'} {listed}" if words else ""
    if not feature.missing:
        return said or f"{feature.name} is none of its values"
    if not said:
        return f"{feature.name} is missing"
    if low == -math.inf and high == math.inf:
        return f"{feature.name} is there"
    return f"{said}, or missing" if missing else said


def _between(feature: Feature, low: float, high: float) -> str:
    unit = f" {feature.unit}" if feature.unit else ""
    if high == math.inf:
        return f"{feature.name} > {low:.{_SHORT}g}{unit}"
    if low == -math.inf:
        return f"{feature.name} <= {high:.{_SHORT}g}{unit}"
    return f"{low:.{_SHORT}g} < {feature.name} <= {high:.{_SHORT}g}{unit}"
