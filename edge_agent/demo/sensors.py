"""Simulated sensors: plausible rows drawn from a card's quantiles, and now and then a broken message. Pure.

Most send whole rows; the phone sends what has changed, and the meter half of a row on each of two topics.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import count, cycle
from typing import Any, Final, NamedTuple

from edge_agent.contract.card import QUANTILE_LEVELS, Feature, ModelCard
from edge_agent.contract.messages import to_json

NAMES: Final = ("kitchen", "garage", "studio")
PUBLISH: Final = "music/{sensor}/genre"
_INPUT: Final = "music/{sensor}/"
PHONE: Final = "phone"
METER: Final = "meter"
#: The last level of a topic: of whole rows, of what has changed, and of the halves of a row.
WHOLE: Final = "features"
CHANGES: Final = "changes"
HALVES: Final = ("tone", "beat")
#: Most features that change at once.
_CHANGES: Final = 3
#: One message in this many is broken.
_BROKEN: Final = 10


class Reading(NamedTuple):
    """What a sensor sends. `id` stands in the payload too, unless that is not even JSON.

    `level` is the last one of the topic. It is `answered` unless it says nothing new, or others have to come first. The answer
    has its id if it is `numbered`.
    """

    sensor: str
    id: int
    payload: bytes
    summary: str
    level: str = WHOLE
    answered: bool = True
    numbered: bool = True

    @property
    def topic(self) -> str:
        """Where it is sent."""
        return _INPUT.replace("{sensor}", self.sensor) + self.level


class SimulatedSensors:
    """An endless series of readings, from the sensors in turn; the same `seed` gives the same readings."""

    def __init__(self, card: ModelCard, seed: int, numbers: Iterator[int] | None = None) -> None:
        self._card = card
        self._random = random.Random(seed)  # noqa: S311 - readings, not secrets
        self._numbers = numbers or count(1)
        self._names = cycle(NAMES)
        self._faults = cycle(("missing", "text", "boolean", "bounds", "garbage"))
        self._sent = 0
        #: Without which the model has no answer, where there are such.
        self._victims = [feature for feature in card.features if not feature.missing] or list(card.features)

    def read(self) -> Reading:
        """Return the next reading."""
        self._sent += 1
        row: dict[str, Any] = {
            feature.name: _sent(feature, _draw(feature, self._random.random())) for feature in self._card.features
        }
        summary = _short(row)
        garbage = False
        if self._sent % _BROKEN == 0:
            fault = next(self._faults)
            victim = self._random.choice(self._victims)
            if victim.kind != "number" and fault in {"boolean", "bounds"}:
                fault = "text"
            summary = f"{fault} in {victim.name}"
            if fault == "missing":
                del row[victim.name]
            elif fault == "text":
                row[victim.name] = "none of these"
            elif fault == "boolean":
                row[victim.name] = True
            elif fault == "bounds":
                row[victim.name] = _outside(victim)
            else:
                garbage, summary = True, "not JSON"
        number = next(self._numbers)
        payload = to_json({"id": number, **row})
        numbered = not garbage and "id" not in row
        sent = payload[: len(payload) // 2] if garbage else payload
        return Reading(next(self._names), number, sent, summary, numbered=numbered)


class Phone:
    """Sends half of the features first, then the others, and from then on what has changed."""

    def __init__(self, card: ModelCard, seed: int, numbers: Iterator[int]) -> None:
        self._features = card.features
        self._random = random.Random(f"{PHONE} {seed}")  # noqa: S311 - readings, not secrets
        self._numbers = numbers
        self._known: dict[str, float] = {}

    def read(self) -> Reading:
        """Return the next reading."""
        unheard = [feature for feature in self._features if feature.name not in self._known]
        if unheard:
            chosen = unheard[: (len(self._features) + 1) // 2]
        else:
            chosen = self._random.sample(self._features, min(self._random.randint(1, _CHANGES), len(self._features)))
        row = {feature.name: _rounded(feature, _draw(feature, self._random.random())) for feature in chosen}
        news = any(self._known.get(name) != value for name, value in row.items())
        self._known |= row
        number = next(self._numbers)
        is_complete = len(self._known) == len(self._features)
        return Reading(
            PHONE, number, to_json({"id": number, **row}), _short(row), CHANGES, news and is_complete, "id" not in row
        )


class Meter:
    """Sends each row in two halves, on a topic each."""

    def __init__(self, card: ModelCard, seed: int, numbers: Iterator[int]) -> None:
        self._random = random.Random(f"{METER} {seed}")  # noqa: S311 - readings, not secrets
        self._numbers = numbers
        self._halves = cycle(zip(HALVES, halves(card.features), strict=True))
        self._known: dict[str, dict[str, Any]] = {}

    def read(self) -> Reading:
        """Return the next reading."""
        level, features = next(self._halves)
        row = {feature.name: _rounded(feature, _draw(feature, self._random.random())) for feature in features}
        news = self._known.get(level) != row
        self._known[level] = row
        number = next(self._numbers)
        is_complete = len(self._known) == len(HALVES)
        return Reading(
            METER, number, to_json({"id": number, **row}), _short(row), level, news and is_complete, "id" not in row
        )


def halves(features: Sequence[Feature]) -> tuple[Sequence[Feature], Sequence[Feature]]:
    """Return the features that the meter sends on each of its topics."""
    middle = (len(features) + 1) // 2
    return features[:middle], features[middle:]


def all_sensors(card: ModelCard, seed: int) -> Iterator[Reading]:
    """Yield readings without end, of all sensors; the same `seed` gives the same ones. A row of one feature has no halves."""
    numbers = count(1)
    whole, phone, meter = SimulatedSensors(card, seed, numbers), Phone(card, seed, numbers), Meter(card, seed, numbers)
    turns = (whole, whole, whole, phone, *((meter,) if len(card.features) > 1 else ()))
    for one in cycle(turns):
        yield one.read()


def _draw(feature: Feature, level: float) -> float:
    """Return the quantile of a feature at `level`, linear between those on the card."""
    place = min(bisect_right(QUANTILE_LEVELS, level), len(QUANTILE_LEVELS) - 1)
    below, above = QUANTILE_LEVELS[place - 1], QUANTILE_LEVELS[place]
    low, high = feature.quantiles[place - 1], feature.quantiles[place]
    return low + (high - low) * (level - below) / (above - below)


def _sent(feature: Feature, value: float) -> float | bool | str | None:
    """Return a value as a sensor would send it."""
    return _rounded(feature, value) if feature.kind == "number" else feature.word(float(round(value)))


def _rounded(feature: Feature, value: float) -> float:
    """Return `value` with six digits, as a sensor would send it, unless that leaves the bounds."""
    rounded = float(f"{value:.6g}")
    low = -math.inf if feature.minimum is None else feature.minimum
    high = math.inf if feature.maximum is None else feature.maximum
    return min(max(rounded, low), high)


def _outside(feature: Feature) -> float:
    """Return an impossible value: beyond a bound, or beyond float32 if the feature has no bounds."""
    if feature.minimum is not None and feature.minimum - 1 < feature.minimum:
        return feature.minimum - 1
    if feature.maximum is not None and feature.maximum + 1 > feature.maximum:
        return feature.maximum + 1
    return 1e39


def _short(row: dict[str, Any]) -> str:
    shown = [f"{name[:6]} {f'{value:.3g}' if type(value) is float else value}" for name, value in list(row.items())[:3]]
    return ", ".join(shown) + (" …" if len(row) > 3 else "")


def routes_of(card: ModelCard, model: str) -> list[dict[str, Any]]:
    """Return the demo's routes, as settings: whole rows, what has changed, and rows in two halves."""
    common: dict[str, Any] = {"model": model, "publish": PUBLISH}
    routes = [
        {**common, "subscribe": _INPUT + WHOLE},
        {**common, "subscribe": _INPUT + CHANGES, "partial": "merge"},
    ]
    if len(card.features) > 1:
        sources = [
            {"subscribe": _INPUT + level, "fields": {feature.name: [feature.name] for feature in half}}
            for level, half in zip(HALVES, halves(card.features), strict=True)
        ]
        routes.append({**common, "source": sources})
    return routes
