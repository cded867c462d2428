"""Whether a new version of a model keeps what is relied on: its features and its answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edge_agent.contract.card import ModelCard

#: Most characters of each side that are told.
_SHOWN: Final = 120


def unfit(served: ModelCard, new: ModelCard) -> str | None:
    """Return in words what a new version changes of the contract of the one that is served; None for nothing."""
    for (what, before), (_, after) in zip(_promises(served), _promises(new), strict=True):
        if before != after:
            who = f"{served.name} {served.version}"
            return f"it changes the {what} of {who}: {_shown(after)} instead of {_shown(before)}"
    return None


def _promises(card: ModelCard) -> Iterator[tuple[str, object]]:
    """Yield what those who send features and read answers rely on, with what it is called."""
    yield "task", card.task
    yield "features", card.feature_names
    yield "kinds of features", tuple((one.name, one.kind, one.unit, one.categories) for one in card.features)
    yield "features that may be missing", tuple(one.name for one in card.features if one.missing)
    yield "labels", tuple(sorted(card.labels))
    yield "outputs", tuple((one.name, one.unit) for one in card.outputs)
    yield "kind of answers", "with probabilities" if card.has_probabilities else "without probabilities"


def _shown(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
