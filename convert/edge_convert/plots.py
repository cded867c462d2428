"""The plots of the report, each as one inline SVG. Same data, same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from edge_convert.evaluate import BINS, Evaluation, Scheme

INK: Final = "#1f2933"
#: One colour a label, told apart by most colour-blind readers too (Okabe and Ito 2008).
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#b8a800")

#: Up to so many labels a confusion matrix has shares and counts, up to so many counts; beyond, shades alone.
_FEW: Final = 12
_MANY: Final = 40
#: So many curves of many have a name.
_NAMED: Final = 6

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
    """Draw truth x answer: shares of the true label's rows, and rows a repeat. What is 0 has no figure, so that errors are seen."""
    counts = scheme.confusion / len(scheme.repeats)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few, many = len(labels) <= _FEW, len(labels) > _MANY
    longest = max(map(len, labels))
    size = max(3.4, 1.1 + (0.75 if few else 0.42) * len(labels)) if not many else 12.0

    def draw(axes: Any) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column] and not many:
                ink = "white" if share > 0.55 else INK
                text = f"{_percent(share)}\n{counts[row, column]:,.0f}" if few else f"{counts[row, column]:,.0f}"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=10 if few else 8)
        flat = len(labels) * longest <= 40
        axes.set_xticks(range(len(labels)), labels, rotation=0 if flat else 90, fontsize=10 if few else 9)
        axes.set_yticks(range(len(labels)), labels, fontsize=10 if few else 9)
        axes.set(xlabel="answer", ylabel="truth")
        axes.spines[:].set_visible(False)

    return draw_svg(draw, (size + 0.4 + 0.07 * longest, size + (0 if len(labels) * longest <= 40 else 0.06 * longest)))


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def roc(evaluation: Evaluation, scheme: Scheme) -> str:
    """Draw the ROC curve of the first repeat: of the rarer of two labels, or of each of several against the rest."""
    return _curves(evaluation, scheme, _roc_curve, ("false positive rate", "true positive rate"), (0.0, 1.0))


def precision_recall(evaluation: Evaluation, scheme: Scheme) -> str:
    """Draw precision over recall of the same labels: what a rare label's ROC curve hides."""
    return _curves(evaluation, scheme, _precision_recall_curve, ("recall", "precision"), None)


def _roc_curve(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[Any, Any, float]:
    false, true, _ = roc_curve(truth, scores)
    return false, true, float(roc_auc_score(truth, scores))


def _precision_recall_curve(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[Any, Any, float]:
    precision, recall, _ = precision_recall_curve(truth, scores)
    return recall, precision, float(average_precision_score(truth, scores))


def _curves(
    evaluation: Evaluation,
    scheme: Scheme,
    curve: Callable[[NDArray[np.bool_], NDArray[np.float64]], tuple[Any, Any, float]],
    axis: tuple[str, str],
    diagonal: tuple[float, float] | None,
) -> str:
    """Draw a curve a label. Of many labels the ones with the least area have a colour and a name, the others are grey."""
    held_out = scheme.repeats[0]
    truth = evaluation.truth[held_out.rows]
    labels = [evaluation.rarest] if len(evaluation.labels) == 2 else evaluation.labels
    found = []
    for label in labels:
        own = truth == label
        if own.any() and not own.all():
            column = evaluation.labels.index(label)
            found.append((label, column, *curve(own, held_out.probabilities[:, column])))
    found.sort(key=lambda one: one[4])
    named = found if len(found) <= len(COLOURS) else found[:_NAMED]

    def draw(axes: Any) -> None:
        if diagonal is not None:
            axes.plot(diagonal, diagonal, color="#cbd2d9", linewidth=1)
        for _, _, x, y, _ in found[len(named) :]:
            axes.plot(x, y, color="#cbd2d9", linewidth=1)
        for rank, (label, column, x, y, area) in enumerate(named):
            shade = colour(column) if named is found else colour(rank)
            axes.plot(x, y, color=shade, label=f"{label} ({area:.3f})")
        axes.set(xlabel=axis[0], ylabel=axis[1], xlim=(-0.02, 1.02), ylim=(-0.02, 1.03), aspect="equal")
        axes.legend(framealpha=0.85, edgecolor="none", loc="best", fontsize=8, title="area", title_fontsize=8)

    return draw_svg(draw, (4.0, 4.0))


def calibration(evaluation: Evaluation, scheme: Scheme) -> str:
    """Draw how often answers of some confidence are right, with 95 % intervals (Wilson 1927) and how many answers there are."""
    prediction = scheme.repeats[0]
    confidence, right = prediction.probabilities.max(axis=1), prediction.labels == evaluation.truth[prediction.rows]
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    used = np.unique(bins)
    where = np.array([confidence[bins == b].mean() for b in used])
    how_often = np.array([right[bins == b].mean() for b in used])
    counts = np.array([(bins == b).sum() for b in used])
    low, high = wilson(how_often, counts)
    lowest = 1 / len(evaluation.labels)

    def draw(axes: Any) -> None:
        axes.plot([lowest, 1], [lowest, 1], color="#cbd2d9", linewidth=1)
        axes.errorbar(
            where,
            how_often,
            yerr=[np.maximum(how_often - low, 0), np.maximum(high - how_often, 0)],
            marker="o",
            color=COLOURS[0],
            capsize=3,
        )
        for x, count in zip(where, counts, strict=True):
            axes.text(x, -0.145, f"{count:,}", ha="center", va="bottom", fontsize=7, rotation=90)
        axes.set(
            xlabel="confidence (below: answers)",
            ylabel="share that is right",
            xlim=(min(lowest, where.min()) - 0.05, 1.05),
            ylim=(-0.15, 1.03),
            yticks=np.linspace(0, 1, 6),
        )

    return draw_svg(draw, (4.0, 4.0))


def wilson(share: NDArray[np.float64], n: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the 95 % interval of shares (m,) that were found in `n` (m,) rows each (Wilson 1927)."""
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


def importances(values: NDArray[np.float64], spreads: NDArray[np.float64], names: tuple[str, ...]) -> str:
    """Draw the loss of accuracy on held-out rows when one feature is shuffled, the largest twenty."""
    return bars(values, spreads, names, "accuracy lost when shuffled (± sd of the folds)")


def bars(values: NDArray[np.float64], spreads: NDArray[np.float64], names: tuple[str, ...], what: str) -> str:
    """Draw a bar for each of the largest twenty `values` (f,) of features, with their `spreads`; those that change nothing are left out."""
    order = np.argsort(values)
    order = (order[(values[order] != 0) | (spreads[order] != 0)] if values.any() else order)[-20:]

    def draw(axes: Any) -> None:
        axes.barh(
            [names[i] for i in order], values[order], color=COLOURS[0], xerr=spreads[order], ecolor="#52606d", capsize=2
        )
        axes.axvline(0, color="#9aa5b1", linewidth=0.8)
        axes.locator_params(axis="x", nbins=5)
        axes.set(xlabel=what)

    return draw_svg(draw, (5.2, 0.9 + 0.32 * len(order)))


def learning(sizes: NDArray[Any], scores: NDArray[np.float64], trained: NDArray[np.float64], what: str) -> str:
    """Draw what was reached with how many rows: `scores` and `trained` (sizes, folds) on held-out rows and those learned from."""

    def draw(axes: Any) -> None:
        for values, shade, label in ((trained, "#9aa5b1", "rows learned from"), (scores, COLOURS[0], "held-out rows")):
            middle, spread = values.mean(axis=1), values.std(axis=1)
            axes.fill_between(sizes, middle - spread, middle + spread, color=shade, alpha=0.2, linewidth=0)
            axes.plot(sizes, middle, color=shade, marker="o", markersize=4, label=label)
        axes.set(xlabel="rows learned from", ylabel=what)
        axes.legend(framealpha=0.85, edgecolor="none", loc="best", fontsize=8)

    return draw_svg(draw, (4.6, 3.8))


def by_time(
    where: NDArray[np.float64], values: NDArray[np.float64], ticks: tuple[list[float], list[str]], what: str
) -> str:
    """Draw a figure (m,) of parts of the table in the order of time, each at its middle `where` (m,)."""

    def draw(axes: Any) -> None:
        axes.plot(where, values, color=COLOURS[0], marker="o", markersize=4)
        axes.set_xticks(*ticks, fontsize=8)
        axes.set(ylabel=what)

    return draw_svg(draw, (6.0, 3.2))


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
