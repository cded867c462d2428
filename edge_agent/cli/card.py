"""A model card as a person wants to read it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from edge_agent.contract.card import QUANTILE_LEVELS, Feature, ModelCard
from edge_agent.wording import count

#: Width to which sentences are wrapped.
_WIDTH: Final = 100
_WIDTH_OF_WHAT: Final = 11
#: A space at which no line is broken.
_UNBROKEN: Final = "\u00a0"
_LOW, _HIGH = QUANTILE_LEVELS.index(0.25), QUANTILE_LEVELS.index(0.75)


def lines(card: ModelCard) -> Iterator[str]:
    """Yield what the card says of the model; text from outside is not escaped."""
    yield from paragraph("task", card.task)
    yield from paragraph("answers", "; ".join(_answers(card)))
    yield from _provenance(card)
    yield from _metrics(card)
    yield ""
    yield from table(_features(card.features))
    described = [feature for feature in card.features if feature.description]
    if described:
        yield ""
        yield from table([[feature.name, feature.description] for feature in described], ruled=False)


def paragraph(what: str, text: str) -> Iterator[str]:
    """Yield a heading with its text beside it, wrapped."""
    wrapped = textwrap.wrap(text, _WIDTH - _WIDTH_OF_WHAT, break_long_words=False, break_on_hyphens=False) or [""]
    for number, line in enumerate(wrapped):
        yield f"{what if number == 0 else '':<{_WIDTH_OF_WHAT}}{line}".rstrip().replace(_UNBROKEN, " ")


def table(rows: Sequence[Sequence[str]], *, ruled: bool = True) -> Iterator[str]:
    """Yield rows of cells in columns; `ruled`: with a line below the first."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        if ruled and number == 1:
            yield "  ".join("-" * width for width in widths)
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _answers(card: ModelCard) -> Iterator[str]:
    counted = card.training.class_counts
    for label in card.labels:
        yield f"{label} ({count(counted[label], 'row')} of the training data)" if label in counted else label
    for output in card.outputs:
        yield " ".join(filter(None, (output.name, f"in {output.unit}" if output.unit else "", output.description)))
    if card.threshold is not None:
        yield f"a score, which above {card.threshold:g} is an anomaly"
    if card.labels and not card.has_probabilities:
        yield "no probabilities"


def _provenance(card: ModelCard) -> Iterator[str]:
    training = card.training
    chosen = ", ".join(f"{name} {value}" for name, value in training.parameters.items() if value is not None)
    yield from paragraph(
        "trained",
        f"{training.date} on {count(training.rows, 'row')}: {training.estimator}" + f" ({chosen})" * bool(chosen),
    )
    yield from paragraph("with", ", ".join(f"{name} {version}" for name, version in training.libraries.items()))
    for number, data in enumerate(training.datasets):
        said = (data.name, data.licence, data.attribution, data.source, f"sha256 {data.sha256[:12]}…")
        yield from paragraph("data" if number == 0 else "", "; ".join(filter(None, said)))


def _metrics(card: ModelCard) -> Iterator[str]:
    figures = [f"{name} {value:g}" for name, value in card.metrics.values.items()]
    if figures:
        yield from paragraph("metrics", ", ".join(figure.replace(" ", _UNBROKEN) for figure in figures))
        yield from paragraph("", f"measured by {card.metrics.method}")


def _features(features: Iterable[Feature]) -> list[list[str]]:
    rows = [["feature", "unit", "takes", "example", "trained on", "half of it"]]
    for feature in features:
        whole, half = _ranges(feature)
        rows.append([feature.name, feature.unit, _takes(feature), _word(feature, feature.example), whole, half])
    return rows


def _takes(feature: Feature) -> str:
    low, high = feature.minimum, feature.maximum
    if feature.kind == "boolean":
        taken = "true or false"
    elif feature.kind == "category":
        taken = ", ".join(feature.categories)
    elif low is not None and high is not None:
        taken = f"{low:g} to {high:g}"
    else:
        taken = "any number" if low is high else f"from {low:g}" if low is not None else f"up to {high:g}"
    return f"{taken}, or missing" if feature.missing else taken


def _ranges(feature: Feature) -> tuple[str, str]:
    """Return between which values all the training data lies, and half of it."""
    if feature.kind != "number":
        return "", ""  # codes, which say nothing to people
    values = feature.quantiles
    return f"{values[0]:.4g} to {values[-1]:.4g}", f"{values[_LOW]:.4g} to {values[_HIGH]:.4g}"


def _word(feature: Feature, value: float) -> str:
    word = feature.word(value)
    return str(word).lower() if isinstance(word, bool) else f"{word:g}" if isinstance(word, float) else str(word)
