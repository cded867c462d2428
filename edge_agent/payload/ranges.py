"""What training saw of each feature, and which values are outside of that.

Rules:

* a row that the strict path of `edge_agent.payload.features` takes costs nothing: these limits are among its own;
* a margin is allowed on each side, so that 20.01 is not told where 20.0 was the largest (docs/decisions/0026-outside.md);
* a value that is missing (NaN) is not outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from edge_agent.contract.card import Feature
from edge_agent.contract.messages import Detail, ErrorCode, cut_details, shown
from edge_agent.payload.checks import Brief, Features, Said, Unusable, bounds

#: What becomes of a row with such a value: its answer says so, it is rejected, or it is answered like any other.
Outside: TypeAlias = Literal["flag", "reject", "pass"]

#: What is allowed beyond the least and the largest value seen, as a part of the span between them.
MARGIN: Final = 0.1
#: And as a part of these values, for a column that never changed: models compute in float32.
_PRECISION: Final = 1e-6
#: Rejections that are kept because rows share them.
_SAID: Final = 4096


class Ranges:
    """The ranges of a model's features. With "pass" nothing is outside."""

    def __init__(self, features: Sequence[Feature], outside: Outside) -> None:
        self._names = [feature.name for feature in features]
        #: The least and the largest value that training saw, by position.
        self.seen = [(feature.quantiles[0], feature.quantiles[-1]) for feature in features]
        # Words are those of the card, or rejected.
        self._limits = [
            _widened(*seen) if feature.kind == "number" else (-math.inf, math.inf)
            for feature, seen in zip(features, self.seen, strict=True)
        ]
        self._passes = outside == "pass"
        self.rejects = outside == "reject"
        self._said: dict[tuple[int, int], Said] = {}

    def narrowed(self, features: Sequence[Feature]) -> list[Feature]:
        """Return the features with bounds that hold nothing that is outside, for the strict path."""
        if self._passes:
            return list(features)
        narrow = []
        for position, feature in enumerate(features):
            low, high = self.within(position, feature)
            narrow.append(feature.model_copy(update={"minimum": low, "maximum": high}))
        return narrow

    def within(self, position: int, feature: Feature) -> tuple[float, float]:
        """Return the least and the largest number that is accepted for a feature and not outside."""
        least, most = bounds(feature)
        if self._passes:
            return least, most
        low, high = self._limits[position]
        return max(low, least), min(high, most)

    def judge(self, found: Features, sent: Mapping[str, Any] | None = None) -> Features | Unusable:
        """Return a checked row with what is outside, or why it is rejected for that. `sent` are its values as they came."""
        if self._passes or not (outside := self._outside(found.values)):
            return found
        if not self.rejects:
            return found._replace(outside=self.names(outside))
        detail = [self.reason(one, found.values[one] if sent is None else sent[self._names[one]]) for one in outside]
        return Unusable(ErrorCode.INVALID_FEATURES, cut_details(detail), found.echo)

    def among(self, values: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
        """Return those of some values, each with its position, that are outside."""
        limits = self._limits
        return [one for one in values if one[1] < limits[one[0]][0] or one[1] > limits[one[0]][1]]

    def told(self, rows: Sequence[tuple[float, ...]]) -> dict[int, list[int]]:
        """Return the positions of what is outside in each of `rows` (n, features), by place; rows without are left out."""
        if self._passes or not rows:
            return {}
        # Written so that NaN, which may hide other values from `min` and `max`, counts as outside at first.
        if all(
            low <= min(column) and max(column) <= high
            for column, (low, high) in zip(zip(*rows, strict=True), self._limits, strict=True)
        ):
            return {}
        return {place: outside for place, row in enumerate(rows) if (outside := self._outside(row))}

    def names(self, outside: Sequence[int]) -> tuple[str, ...]:
        """Return the names of features."""
        return tuple(self._names[one] for one in outside)

    def rejected(self, outside: Sequence[int], sent: Any, echo: Mapping[str, Any]) -> Brief:
        """Return the rejection of one row of a batch as it was `sent`, with the first reason only: rows share it."""
        key = outside[0], len(outside) - 1
        said = self._said.get(key)
        if said is None:
            if len(self._said) >= _SAID:
                self._said.clear()
            said = self._said[key] = Said(self.reason(outside[0], None), len(outside) - 1)
        return said, shown(sent[self._names[outside[0]]]), None, echo

    def _outside(self, values: tuple[float, ...]) -> list[int]:
        for (low, high), value in zip(self._limits, values, strict=True):
            if not low <= value <= high:
                break
        else:
            return []
        # Two comparisons, so that NaN is in neither.
        return [
            position
            for (low, high), (position, value) in zip(self._limits, enumerate(values), strict=True)
            if value < low or value > high
        ]

    def reason(self, position: int, value: Any) -> Detail:
        """Return the reason to reject a `value`, as it was sent, of the feature at a position."""
        low, high = self.seen[position]
        return {
            "type": "outside_training_range",
            "loc": [self._names[position]],
            "msg": f"The model was trained on values from {low:g} to {high:g}",
            "input": shown(value),
        }


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return what is taken for inside."""
    margin = max(MARGIN * (high - low), _PRECISION * max(abs(low), abs(high)))
    return low - margin, high + margin
