"""Watches what models are asked and what they answer for drift, and tells it.

Rules:

* a message costs three entries in lists; the rows are counted hundreds at a time (`edge_agent.model.drift`);
* nothing is written to a disk; after a restart all begins anew, after a reload a model goes on that is still the same file;
* what is told is bounded (`_COLUMNS`, `_SENSORS`, `_MOST_BYTES`), however many features, models and sensors there are.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Final, Protocol

import numpy as np

from edge_agent.contract import topics
from edge_agent.contract.card import ModelCard
from edge_agent.contract.drift import Drift, DriftedColumn, DriftedModel, OddSensor, State
from edge_agent.contract.messages import Answer, to_json
from edge_agent.model.drift import OVER, Finding, Watch
from edge_agent.model.reference import answers_of, columns_of, values_of
from edge_agent.model.unlike import how, value
from edge_agent.serving.writing import Settled
from edge_agent.wording import count

_log = logging.getLogger(__name__)

#: Rows that are counted together: as many as are worth the trouble, and few enough that it takes no time. And numbers of theirs.
_TOGETHER: Final = 256
_NUMBERS: Final = 1 << 16
#: Answers whose numbers are remembered: a tree has as many as leaves.
_REMEMBERED: Final = 4096
#: Most features and most sensors of a model that are told, and most bytes of all.
_COLUMNS: Final = 16
_SENSORS: Final = 10
_MOST_BYTES: Final = 64 << 10
#: Models that are told when all of them would be too much.
_MODELS: Final = 64
_STATES: Final[tuple[State, ...]] = ("collecting", "steady", "drifted")


class Served(Protocol):
    """What is asked of a model (`edge_agent.model.onnx.Predictor`)."""

    @property
    def card(self) -> ModelCard:
        """The model card."""

    @property
    def sha256(self) -> str:
        """The digest of its file."""


class Observer:
    """Watches one model. `hours` is the length of the window, `clock` gives seconds."""

    def __init__(self, card: ModelCard, hours: float, clock: Callable[[], float]) -> None:
        self.card = card
        self._clock = clock
        self._hours = hours
        self._features = len(card.features)
        self._width = self._features + len(answers_of(card))
        self.watch = Watch(columns_of(card), features=self._features, hours=hours)
        self._rows: list[tuple[float, ...]] = []
        self._sensors: list[str] = []
        self._answers: list[Settled | None] = []
        self._read: dict[int, tuple[Settled, tuple[float, ...]]] = {}
        self._none = (math.nan,) * (self._width - self._features)
        self._drifted: set[str] = set()
        self._since: str | None = None

    def note(
        self, sensors: Sequence[str], rows: Sequence[tuple[float, ...]], answers: Sequence[Settled | None]
    ) -> None:
        """Note rows of as many sensors, and what was answered: None where the model failed."""
        self._rows += rows
        self._sensors += sensors
        self._answers += answers
        if len(self._rows) >= _TOGETHER:
            self.count()

    def count(self) -> None:
        """Count what was noted."""
        rows, sensors, answers = self._rows, self._sensors, self._answers
        self._rows, self._sensors, self._answers = [], [], []
        now, most = self._clock(), max(1, _NUMBERS // self._width)
        for begin in range(0, len(rows), most):
            part, end = rows[begin : begin + most], begin + most
            table = np.empty((len(part), self._width))
            table[:, : self._features] = np.fromiter(
                chain.from_iterable(part), np.float64, len(part) * self._features
            ).reshape(len(part), -1)
            table[:, self._features :] = [self._values(one) for one in answers[begin:end]]
            self.watch.add(table, sensors[begin:end], now)

    def _values(self, answer: Settled | None) -> tuple[float, ...]:
        if answer is None:
            return self._none
        known = self._read.get(id(answer))
        if known is not None:  # and alive, so that no other one has its number
            return known[1]
        if len(self._read) >= _REMEMBERED:
            self._read.clear()
        values = values_of(self.card, answer.bare)
        self._read[id(answer)] = answer, values
        return values

    def take_over(self, former: Observer) -> None:
        """Go on with what another one has seen of the same model."""
        if former.card == self.card and former._hours == self._hours:
            former.count()
            self.watch, self._drifted, self._since = former.watch, former._drifted, former._since

    def look(self, now: str) -> DriftedModel:
        """Return what there is to tell at a time of day."""
        self.count()
        clock, watch = self._clock(), self.watch
        watch.turn(clock)
        hours = watch.hours(clock)
        is_whole = watch.since is not None and hours >= self._hours
        found = watch.findings() if is_whole else []
        names = self._alarming(found)
        if names and not self._drifted:
            self._since = now
        elif not names:
            self._since = None
        self._tell(found, names)
        self._drifted = names
        told = [_column(one, drifted=one.column.name in names) for one in found]
        return DriftedModel(
            name=self.card.name,
            version=self.card.version,
            state="drifted" if names else "steady" if is_whole else "collecting",
            since=self._since,
            hours=round(hours, 2),
            rows=watch.rows,
            against=f"{count(self.card.training.rows, 'row')} of training, {self.card.training.date}",
            outside=round(watch.outside, 6),
            features=_most_changed(told[: self._features]),
            answers=_most_changed(told[self._features :]),
            sensors=[self._sensor(*one) for one in watch.odd_sensors(_SENSORS)],
        )

    def _alarming(self, found: Sequence[Finding]) -> set[str]:
        """Return what is drifted: what alarms, and what did and is not over."""
        return {
            one.column.name
            for one in found
            if one.alarms(len(found)) or (one.column.name in self._drifted and (one.psi or 0.0) >= OVER)
        }

    def _tell(self, found: Sequence[Finding], names: set[str]) -> None:
        model = f"model {self.card.name} {self.card.version}"
        for one in found:
            name = one.column.name
            if name in names and name not in self._drifted:
                _log.warning("%s: drift: %s: %s (PSI %.2f)", model, name, how(one), one.psi)
            elif name in self._drifted and name not in names:
                _log.info("%s: no drift any more: %s", model, name)

    def _sensor(self, topic: str, column: int, is_above: bool, share: float) -> OddSensor:  # noqa: FBT001 - as `Sensor` has it
        known = self.watch.layout.columns[column]
        level, place = ("99 %", -2) if is_above else ("1 %", 1)
        side = "above" if is_above else "below"
        told = f"{share:.0%} {side} the {level} quantile of training ({value(known, known.quantiles[place])})"
        return OddSensor(topic=topic, feature=known.name, how=told.replace("%", " %", 1), share=share)


class Drifting:
    """Watches all models of a plan, and says every `interval` seconds what came of it. `models` are by the names that routes use;
    `clock` gives seconds, `time` the time of day.
    """

    def __init__(
        self,
        models: Mapping[str, Served],
        *,
        hours: float,
        interval: float,
        clock: Callable[[], float],
        time: Callable[[], str],
    ) -> None:
        self._clock, self._time = clock, time
        self._hours, self._interval = hours, interval
        files = {one.sha256: Observer(one.card, hours, clock) for one in models.values()}
        self._files = files
        #: By the names that routes use.
        self.observers = {name: files[one.sha256] for name, one in models.items()}
        self._next = clock() + interval
        #: What was found last.
        self.last: Drift | None = None
        self._is_said = True

    def take_over(self, former: Drifting) -> None:
        """Go on with what was seen of models that are still served."""
        for sha256, observer in self._files.items():
            if (before := former._files.get(sha256)) is not None:
                observer.take_over(before)

    def say_again(self) -> None:
        """Say again what was said, on another connection."""
        self._is_said = self.last is None

    def look(self) -> Drift:
        """Return what there is to tell now."""
        now = self._time()
        models = [one.look(now) for one in self._files.values()]
        state = _STATES[max((_STATES.index(one["state"]) for one in models), default=0)]
        self.last = Drift(time=now, state=state, window_hours=self._hours, models=models)
        return self.last

    def message(self, node: str) -> Answer | None:
        """Return what is to be published, retained, once it is time."""
        if self._clock() >= self._next:
            self._next = self._clock() + self._interval
            self.look()
            self._is_said = False
        if self._is_said or self.last is None:
            return None
        return Answer(topics.drift(node), _bounded(self.last), qos=1, retain=True)

    def said(self) -> None:
        """Note that it was published."""
        self._is_said = True


def _column(found: Finding, *, drifted: bool) -> DriftedColumn:
    column = found.column
    told = DriftedColumn(
        name=column.name,
        drifted=drifted,
        psi=None if found.psi is None else round(found.psi, 4),
        independent=round(found.independent),
        how=how(found),
    )
    if column.unit:
        told["unit"] = column.unit
    if column.quantiles and column.kind == "number":
        told["below"], told["above"] = round(found.below, 6), round(found.above, 6)
    if column.missing:
        told["missing"] = round(found.missing, 6)
    if found.mean is not None and column.kind == "number":
        told["mean"] = float(f"{found.mean:.6g}")
    if found.shares:
        often = sorted(zip(found.shares, column.words, strict=True), key=lambda one: -one[0])[:_COLUMNS]
        told["shares"] = {word: round(share, 4) for share, word in often}
    return told


def _most_changed(told: Sequence[DriftedColumn]) -> list[DriftedColumn]:
    """Return those that changed most, in the order of the card."""
    order = sorted(range(len(told)), key=lambda one: (not told[one]["drifted"], -(told[one]["psi"] or 0.0)))
    return [told[one] for one in sorted(order[:_COLUMNS])]


def _bounded(told: Drift) -> bytes:
    """Return it in JSON: of many models only what has drifted, of very many only the worst."""
    payload = to_json(told)
    if len(payload) > _MOST_BYTES:
        models = [_shortened(one, _COLUMNS) for one in told["models"]]
        payload = to_json({**told, "models": models})
    if len(payload) > _MOST_BYTES:
        worst = sorted(told["models"], key=lambda one: -_STATES.index(one["state"]))[:_MODELS]
        payload = to_json({**told, "models": [_shortened(one, 1) for one in worst]})
    return payload


def _shortened(told: DriftedModel, most: int) -> DriftedModel:
    drifted = [one for one in told["features"] if one["drifted"]][:most]
    return {**told, "features": drifted, "answers": [], "sensors": []}
