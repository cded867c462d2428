"""The plots of a report about numbers, each as one inline SVG. Same data, same bytes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.contract.card import Quantity
from edge_convert.plots import COLOURS, bars, draw_svg

#: Points drawn at most: an SVG has an element for each.
_POINTS: Final = 3000
_LINE: Final = "#9aa5b1"

Floats = NDArray[np.float64]


def predicted(truth: Floats, said: Floats, quantity: Quantity) -> str:
    """Draw predicted against true numbers (n,); on the line both are the same."""
    some = _some(len(truth))
    least, largest = float(min(truth.min(), said.min())), float(max(truth.max(), said.max()))

    def draw(axes: Any) -> None:
        axes.plot([least, largest], [least, largest], color=_LINE, linewidth=1)
        _dots(axes, truth[some], said[some])
        axes.set(xlabel=_named("true", quantity), ylabel=_named("predicted", quantity), aspect="equal")

    return draw_svg(draw, (4.2, 4.2))


def residuals(truth: Floats, said: Floats, quantity: Quantity) -> str:
    """Draw the residuals over the predicted numbers, with the median and the middle 80 % of them along the way."""
    some, wrong = _some(len(truth)), said - truth
    order = np.argsort(said, kind="stable")
    parts = [part for part in np.array_split(order, min(12, max(1, len(order) // 20))) if len(part)]
    where = [float(np.median(said[part])) for part in parts]
    low, middle, high = (np.array([np.quantile(wrong[part], q) for part in parts]) for q in (0.1, 0.5, 0.9))

    def draw(axes: Any) -> None:
        axes.axhline(0, color=_LINE, linewidth=1)
        _dots(axes, said[some], wrong[some])
        axes.fill_between(where, low, high, color=COLOURS[1], alpha=0.15, linewidth=0)
        axes.plot(where, middle, color=COLOURS[1], marker="o", markersize=3)
        axes.set(xlabel=_named("predicted", quantity), ylabel=_named("residual", quantity))

    return draw_svg(draw, (5.0, 4.2))


def errors(truth: Floats, said: Floats, quantity: Quantity) -> str:
    """Draw which share of the answers is wrong by no more than so much, and the same of the mean."""
    wrong, baseline = np.sort(np.abs(said - truth)), np.sort(np.abs(truth - truth.mean()))
    share = np.arange(1, len(wrong) + 1) / len(wrong)
    some = np.unique(np.linspace(0, len(wrong) - 1, min(len(wrong), 400)).astype(int))

    def draw(axes: Any) -> None:
        axes.plot(baseline[some], share[some], color=_LINE, label="the mean")
        axes.plot(wrong[some], share[some], color=COLOURS[0], label="this model")
        axes.set(xlabel=_named("error, at most", quantity), ylabel="share of the rows", ylim=(0, 1.02))
        axes.legend(frameon=False, loc="lower right")

    return draw_svg(draw, (4.2, 4.2))


def importances(values: Floats, spreads: Floats, names: tuple[str, ...]) -> str:
    """Draw by how much errors grow on held-out rows when one feature is shuffled, the largest twenty."""
    return bars(values, spreads, names, "error gained when shuffled, as a share of the mean's (± sd)")


def _dots(axes: Any, x: Floats, y: Floats) -> None:
    axes.plot(x, y, linestyle="", marker="o", markersize=3, markeredgewidth=0, alpha=0.35, color=COLOURS[0])


def _some(rows: int) -> NDArray[np.int64]:
    """Return the rows that are drawn: all, or so many of them evenly, since neighbours may be alike."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _POINTS)).astype(np.int64))


def _named(what: str, quantity: Quantity) -> str:
    return f"{what} ({quantity.unit})" if quantity.unit else what
