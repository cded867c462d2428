"""The plots of the report, each as one inline SVG. Same data, same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from edge_convert.evaluate import BINS, Evaluation, Scheme

INK: Final = "#1f2933"
#: One colour a label, told apart by most colour-blind readers too (Okabe and Ito 2008).
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#b8a800")

_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "edge-convert",  # else the ids inside are random
    "svg.fonttype": "path",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5b1",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def colour(index: int) -> str:
    """Return the colour of the label with this number."""
    return COLOURS[index % len(COLOURS)]


def confusion(scheme: Scheme, labels: tuple[str, ...]) -> str:
    """Draw truth x answer: shares of the true label's rows, and rows a repeat."""
    counts = scheme.confusion / len(scheme.repeats)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = max(3.4, 1.1 + 0.75 * len(labels))

    def draw(axes: Any) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            if len(labels) <= 12:
                ink = "white" if share > 0.55 else INK
                axes.text(column, row, f"{share:.0%}\n{counts[row, column]:,.0f}", ha="center", va="center", color=ink)
        axes.set_xticks(range(len(labels)), labels, rotation=0 if len(labels) <= 4 else 60)
        axes.set_yticks(range(len(labels)), labels)
        axes.set(xlabel="answer", ylabel="truth")
        axes.spines[:].set_visible(False)

    return draw_svg(draw, (size + 0.4, size))


def roc(evaluation: Evaluation, scheme: Scheme) -> str:
    """Draw the ROC curve of the first repeat: of the rarer of two labels, or of each of several against the rest."""
    probabilities = scheme.repeats[0].probabilities
    shown = [evaluation.rarest] if len(evaluation.labels) == 2 else evaluation.labels

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color="#cbd2d9", linewidth=1)
        for label in shown:
            column = evaluation.labels.index(label)
            false, true, _ = roc_curve(evaluation.truth == label, probabilities[:, column])
            axes.plot(false, true, color=colour(column), label=label)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axes.legend(frameon=False, loc="lower right")

    return draw_svg(draw, (3.8, 3.8))


def calibration(evaluation: Evaluation, scheme: Scheme) -> str:
    """Draw how often answers of some confidence are right, and below it how many answers have that confidence."""
    prediction = scheme.repeats[0]
    confidence, right = prediction.probabilities.max(axis=1), prediction.labels == evaluation.truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    used = np.unique(bins)
    where = [float(confidence[bins == b].mean()) for b in used]
    how_often = [float(right[bins == b].mean()) for b in used]
    lowest = 1 / len(evaluation.labels)

    def draw(axes: Any) -> None:
        axes.plot([lowest, 1], [lowest, 1], color="#cbd2d9", linewidth=1)
        axes.plot(where, how_often, marker="o", color=COLOURS[0])
        counts = axes.twinx()
        counts.hist(confidence, bins=np.linspace(0, 1, BINS + 1), color="#cbd2d9", alpha=0.6, zorder=0)
        counts.set_ylim(0, len(confidence) * 2.5)
        counts.set_yticks([])
        counts.spines[:].set_visible(False)
        axes.set_zorder(counts.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.set(xlabel="confidence", ylabel="share that is right", xlim=(lowest - 0.05, 1.02), ylim=(0, 1.03))

    return draw_svg(draw, (3.8, 3.8))


def importances(values: NDArray[np.float64], names: tuple[str, ...]) -> str:
    """Draw the loss of accuracy on held-out rows when one feature is shuffled, the largest twenty."""
    return bars(values, names, "accuracy lost when shuffled")


def bars(values: NDArray[np.float64], names: tuple[str, ...], what: str) -> str:
    """Draw a bar for each of the largest twenty `values` (f,) of features."""
    order = np.argsort(values)[-20:]

    def draw(axes: Any) -> None:
        axes.barh([names[i] for i in order], values[order], color=COLOURS[0])
        axes.axvline(0, color="#9aa5b1", linewidth=0.8)
        axes.locator_params(axis="x", nbins=5)
        axes.set(xlabel=what)

    return draw_svg(draw, (5.2, 0.9 + 0.32 * len(order)))


def draw_svg(draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    """Return what `draw` draws into axes of this `size`, in inches."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")  # not pyplot: no display, no global state
        draw(figure.subplots())
        target = io.StringIO()
        figure.savefig(
            target, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    text = target.getvalue()
    return text[text.index("<svg") :]
