"""Splits on categories, as trees that ask about numbers.

ONNX's trees compare with a threshold, and no threshold parts any set of categories from the others. So the trees get columns behind
their own: each tells of a row whether its category is in a set that some node asks about, 1 or 0, and the node asks that column.

    columns (n, f) -> is it this category? (n, categories) -> is it in that set? (n, sets) -> columns and sets (n, f + sets) -> trees

What is in no set, such as a missing value and a category that training never saw, is 0 in all of them. Nothing is rounded, so the
answers stay those of the library to the last bit. Sets that several nodes ask about are there once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from edge_convert.trees import Tree

#: Between a row that is in a set, 1, and one that is not, 0.
_HALF: Final = 0.5


class Members(NamedTuple):
    """What a node asks: whether the value of `column` is one of `values`, which are in ascending order."""

    column: int
    values: tuple[float, ...]


class Parted(NamedTuple):
    """A split on categories: `members` go to the left if `left`, everything else goes the other way."""

    members: Members
    left: bool


def asking_sets(
    grown: Sequence[tuple[Tree, Mapping[int, Parted]]], width: int
) -> tuple[list[Tree], dict[Members, int]]:
    """Return trees that ask about sets at the nodes of their splits, and the column of each set, behind the `width` columns of the model."""
    asked = {split.members for _, splits in grown for split in splits.values()}
    places = {members: width + number for number, members in enumerate(sorted(asked))}
    return [_asking_sets(tree, splits, places) for tree, splits in grown], places


def _asking_sets(tree: Tree, splits: Mapping[int, Parted], places: Mapping[Members, int]) -> Tree:
    """Return the tree with other questions at the nodes of `splits`: whether the column of the set is at most a half."""
    feature, threshold = tree.feature.copy(), tree.threshold.copy()
    left, right = tree.left.copy(), tree.right.copy()
    for node, split in splits.items():
        feature[node], threshold[node] = places[split.members], _HALF
        if split.left:  # a 1 goes to the right
            left[node], right[node] = right[node], left[node]
    return replace(tree, feature=feature, threshold=threshold, left=left, right=right)
