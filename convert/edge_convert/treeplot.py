"""A decision tree as one inline SVG, growing to the right: a line a leaf, so that even large trees can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from edge_convert.plots import INK, colour
from edge_convert.trees import Tree

_CHARACTER: Final = 6.8  # of a text, px
_EDGE: Final = 36  # between a question and its answers, px
_LINE: Final = 24  # from one leaf to the next, px
_MARGIN: Final = 14
_LINES: Final = 150
_NUMBERS: Final = 6  # of one leaf


@dataclass(frozen=True)
class _Place:
    x: float
    y: float


def draw_tree(tree: Tree, feature_names: Sequence[str], labels: Sequence[str], *, depth: int = 8) -> str:
    """Return the tree as SVG: questions with their two answers (yes goes up), leaves with label, share and rows.

    Below `depth` a subtree is drawn as one line that says how many leaves it has.
    """
    drawing = _Drawing(tree, feature_names, labels, depth)
    drawing.place(0, 0)
    width = round(_MARGIN * 2 + drawing.right)
    height = _MARGIN * 2 + drawing.lines * _LINE
    body = "".join(drawing.parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}" role="img" aria-label="the tree">{body}</svg>'
    )


def depth_of(tree: Tree, most: int) -> int:
    """Return how deep a tree can be drawn, at most, on a page that somebody reads."""
    lines, here, depth = 0, [0], 0
    while here and depth < most:
        inner = [node for node in here if not tree.is_leaf[node]]
        lines += len(here) - len(inner)
        below = [int(child) for node in inner for child in (tree.left[node], tree.right[node])]
        if lines + len(below) > _LINES:
            break
        here, depth = below, depth + 1
    return max(1, depth)


class _Drawing:
    def __init__(self, tree: Tree, feature_names: Sequence[str], labels: Sequence[str], depth: int) -> None:
        self.tree, self.feature_names, self.labels, self.depth = tree, feature_names, labels, depth
        # Room for the longest question, and the edges behind it; a leaf has its line for itself.
        self.step = (
            max((self._width(self._question(int(node))) for node in np.flatnonzero(~tree.is_leaf)), default=0) + _EDGE
        )
        self.leaves = _leaves_below(tree)
        self.parts: list[str] = []
        self.lines = 0
        self.right = 0.0

    def place(self, node: int, depth: int) -> _Place:
        """Draw a node and everything below it; return where it is."""
        x = _MARGIN + depth * self.step
        if self.tree.is_leaf[node] or depth >= self.depth:
            here = _Place(x, _MARGIN + (self.lines + 0.5) * _LINE)
            self.lines += 1
            self._leaf(node, here)
            return here
        upper = self.place(int(self.tree.left[node]), depth + 1)
        lower = self.place(int(self.tree.right[node]), depth + 1)
        here = _Place(x, (upper.y + lower.y) / 2)
        question = self._question(node)
        for child in (upper, lower):
            self._edge(_Place(x + self._width(question) + 4, here.y), child)
        self._text(here, question)
        return here

    def _question(self, node: int) -> str:
        return f"{self.feature_names[self.tree.feature[node]]} ≤ {self.tree.threshold[node]:.4g}"

    def _width(self, text: str) -> float:
        return _CHARACTER * len(text)

    def _leaf(self, node: int, here: _Place) -> None:
        rows = f"{self.tree.rows[node]:,} rows"
        if not self.tree.is_leaf[node]:
            self._text(here, f"… {self.leaves[node]:,} leaves, {rows}")
            return
        values = self.tree.values[node]
        if not self.labels:  # a regression: what it answers, or adds to it
            self._text(here, f"{', '.join(f'{value:.4g}' for value in values[:_NUMBERS])} ({rows})")
            return
        if len(values) != len(self.labels):  # boosting: a leaf adds to a score
            self._text(here, f"{values[0]:+.3f} ({rows})")
            return
        best = int(values.argmax())
        self.parts.append(f'<rect x="{here.x}" y="{here.y - 8}" width="6" height="16" rx="2" fill="{colour(best)}"/>')
        self._text(_Place(here.x + 11, here.y), f"{self.labels[best]} {values[best]:.0%} ({rows})")

    def _edge(self, start: _Place, end: _Place) -> None:
        middle = end.x - 22
        self.parts.append(
            f'<path d="M{start.x},{start.y} C{middle},{start.y} {start.x},{end.y} {end.x - 5},{end.y}" '
            'fill="none" stroke="#9aa5b1"/>'
        )

    def _text(self, place: _Place, text: str) -> None:
        self.right = max(self.right, place.x + self._width(text))
        self.parts.append(f'<text x="{place.x}" y="{place.y + 4}">{escape(text)}</text>')


def _leaves_below(tree: Tree) -> list[int]:
    """Count the leaves below each node. Children come after their parent, and a tree may be deeper than Python calls."""
    leaves = [1] * len(tree.is_leaf)
    for node in reversed(range(len(leaves))):
        if not tree.is_leaf[node]:
            leaves[node] = leaves[int(tree.left[node])] + leaves[int(tree.right[node])]
    return leaves
