"""Simulated sensors: plausible rows drawn from a card's quantiles, and now and then a broken message. Pure."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from itertools import cycle
from typing import Any, Final, NamedTuple

from edge_agent.contract.card import QUANTILE_LEVELS, Feature, ModelCard
from edge_agent.contract.messages import to_json

NAMES: Final = ("kitchen", "garage", "studio")
#: One message in so many is broken.
_BROKEN: Final = 10


class Reading(NamedTuple):
    """What a sensor sends. `id` stands in the payload too, unless that is not even JSON."""

    sensor: str
    id: int
    payload: bytes
    summary: str


class SimulatedSensors:
    """Readings without end, the sensors taking turns; the same `seed` gives the same readings."""

    def __init__(self, card: ModelCard, seed: int) -> None:
        self._card = card
        self._random = random.Random(seed)  # noqa: S311 - readings, not secrets
        self._names = cycle(NAMES)
        self._faults = cycle(("missing", "text", "boolean", "bounds", "garbage"))
        self._sent = 0

    def read(self) -> Reading:
        """Return the next reading."""
        self._sent += 1
        row: dict[str, Any] = {
            feature.name: _rounded(feature, _draw(feature, self._random.random())) for feature in self._card.features
        }
        summary = _short(row)
        garbage = False
        if self._sent % _BROKEN == 0:
            fault = next(self._faults)
            victim = self._random.choice(self._card.features)
            summary = f"{fault} in {victim.name}"
            if fault == "missing":
                del row[victim.name]
            elif fault == "text":
                row[victim.name] = "n/a"
            elif fault == "boolean":
                row[victim.name] = True
            elif fault == "bounds":
                row[victim.name] = _outside(victim)
            else:
                garbage, summary = True, "not JSON"
        payload = to_json({"id": self._sent, **row})
        return Reading(next(self._names), self._sent, payload[: len(payload) // 2] if garbage else payload, summary)


def _draw(feature: Feature, level: float) -> float:
    """Return the quantile of a feature at `level`, linear between those on the card."""
    place = min(bisect_right(QUANTILE_LEVELS, level), len(QUANTILE_LEVELS) - 1)
    below, above = QUANTILE_LEVELS[place - 1], QUANTILE_LEVELS[place]
    low, high = feature.quantiles[place - 1], feature.quantiles[place]
    return low + (high - low) * (level - below) / (above - below)


def _rounded(feature: Feature, value: float) -> float:
    """Return `value` in six figures, as a sensor would send it, where that does not lead out of the bounds."""
    rounded = float(f"{value:.6g}")
    low = -math.inf if feature.minimum is None else feature.minimum
    high = math.inf if feature.maximum is None else feature.maximum
    return min(max(rounded, low), high)


def _outside(feature: Feature) -> float:
    """Return a value that can't be: beyond a bound, or beyond float32 where the feature has none."""
    if feature.minimum is not None and feature.minimum - 1 < feature.minimum:
        return feature.minimum - 1
    if feature.maximum is not None and feature.maximum + 1 > feature.maximum:
        return feature.maximum + 1
    return 1e39


def _short(row: dict[str, Any]) -> str:
    shown = [f"{name[:6]} {value:.3g}" for name, value in list(row.items())[:3]]
    return ", ".join(shown) + (" …" if len(row) > 3 else "")
