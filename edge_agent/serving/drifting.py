"""Watches what models are asked and what they answer for drift, and tells it.

Rules:

* a message costs three entries in lists; the rows are counted a thousand at a time (`edge_agent.model.drift`);
* nothing is written to a disk; after a restart all begins anew, after a reload a model goes on that is still the same file;
* what is told is bounded (`_COLUMNS`, `_SENSORS`, `_MOST_BYTES`), however many features, models and sensors there are.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import numpy as np

from edge_agent.contract import topics
from edge_agent.contract.card import ModelCard
from edge_agent.contract.drift import Drift, DriftedColumn, DriftedModel, OddSensor, State
from edge_agent.contract.messages import Answer, to_json
from edge_agent.model.drift import OVER, Finding, Watch
from edge_agent.model.reference import Floats, answers_of, columns_of, values_of
from edge_agent.model.sampling import ALL, Sampling
from edge_agent.model.unlike import how, value
from edge_agent.serving.metrics import Measured
from edge_agent.serving.writing import Settled
from edge_agent.wording import count, plain

_log = logging.getLogger(__name__)

#: Rows that are counted together, and numbers of theirs: as many as are worth the trouble, and few enough that nobody waits.
_TOGETHER: Final = 1024
_NUMBERS: Final = 1 << 14
#: Answers whose numbers are remembered: a tree has as many as leaves.
_REMEMBERED: Final = 1024
#: Most features and most sensors of a model that are told, and most bytes of all.
_COLUMNS: Final = 16
_SENSORS: Final = 10
_MOST_BYTES: Final = 64 << 10
#: Seconds for which what was found is told again to those who ask.
_FRESH: Final = 10.0
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
        self._together = max(1, min(_TOGETHER, _NUMBERS // self._width))
        self._part = Sampling(clock).part
        #: The rows that were noted, as numbers in a row: they are at hand now, and would have to be fetched again later.
        self._numbers = bytearray()
        self._pack = struct.Struct(f"{self._features}d").pack
        self._sensors: list[str] = []
        self._answers: list[Settled | None] = []
        self._places: dict[int, int] = {}
        #: As long as they are, nothing else has their ids.
        self._alive: list[Settled | None] = []
        self._table = self._forget()
        self._drifted: set[int] = set()  # columns
        #: The PSI of each column that has one, when it was looked at last: the number of the column, and the PSI.
        self.psi: list[tuple[int, float]] = []
        self._since: str | None = None
        self._is_broken = False
        self._found: list[Finding] = []

    def note(
        self, sensors: Sequence[str], rows: Sequence[tuple[float, ...]], answers: Sequence[Settled | None]
    ) -> None:
        """Note rows of as many sensors, and what was answered: None where the model failed. Of very many a sample is noted."""
        part = self._part(len(rows))
        if part is not ALL:
            rows, sensors, answers = rows[part], sensors[part], answers[part]
        try:
            for row in rows:
                self._numbers += self._pack(*row)
        except Exception:  # noqa: BLE001 - as in `_guarded`
            self._give_up()
            return
        self._sensors += sensors
        self._answers += answers
        if len(self._sensors) >= self._together:
            self.count()

    def count(self) -> None:
        """Count what was noted. Whatever goes wrong with that must not touch the messages: it is said once, and nothing is counted any more."""
        self._guarded(self._count)

    def _guarded(self, do: Callable[[], None]) -> None:
        if self._is_broken:
            self._take()
            return
        try:
            do()
        except Exception:  # noqa: BLE001 - a bug of ours, and it is logged
            self._give_up()

    def _give_up(self) -> None:
        if not self._is_broken:
            what = "internal error: drift of model %s is not watched any more; its messages are answered as ever"
            _log.exception(what, self.card.name)
        self._is_broken = True
        self._found = []
        self._take()

    def _take(self) -> tuple[Floats, list[str], list[Settled | None]]:
        """Return the rows (n, features) that were noted, their sensors and their answers, and begin anew."""
        numbers, sensors, answers = self._numbers, self._sensors, self._answers
        self._numbers, self._sensors, self._answers = bytearray(), [], []
        return np.frombuffer(numbers).reshape(-1, self._features), sensors, answers

    def _count(self) -> None:
        rows, sensors, answers = self._take()
        now, most = self._clock(), self._together
        for begin in range(0, len(rows), most):
            part, end = rows[begin : begin + most], begin + most
            table = np.empty((len(part), self._width), order="F")
            table[:, : self._features] = part
            table[:, self._features :] = self._answered(answers[begin:end])
            self.watch.add(table, sensors[begin:end], now)

    def _answered(self, answers: Sequence[Settled | None]) -> Floats:
        """Return what was answered (n, answers). Most answers have been there before, and are the same object."""
        places = list(map(self._places.get, map(id, answers)))
        if None in places:
            if len(self._places) > _REMEMBERED:
                self._table = self._forget()
            for answer in answers:
                self._remember(answer)
            places = list(map(self._places.get, map(id, answers)))
        return self._table[np.array(places, np.intp)]

    def _remember(self, answer: Settled | None) -> None:
        if id(answer) in self._places:
            return
        place = len(self._places)
        if place == len(self._table):
            self._table = np.concatenate((self._table, np.empty_like(self._table)))
        self._table[place] = np.nan if answer is None else values_of(self.card, answer.bare)
        self._places[id(answer)] = place
        self._alive.append(answer)

    def _forget(self) -> Floats:
        self._places.clear()
        self._alive.clear()
        return np.empty((16, self._width - self._features))

    def take_over(self, former: Observer) -> None:
        """Go on with what another one has seen of the same file, before anything is noted here."""
        if former._hours == self._hours:
            former.count()
            self.watch, self._drifted, self._since = former.watch, former._drifted, former._since
            self.psi = former.psi

    def look(self, now: str) -> DriftedModel:
        """Return what there is to tell at a time of day."""
        self.count()
        clock, watch = self._clock(), self.watch
        watch.turn(clock)
        hours = watch.hours(clock)
        self._found = []
        if watch.since is not None and hours >= self._hours:
            self._guarded(self._compare)
        found = self._found
        drifted = self._alarming(found)
        if drifted and not self._drifted:
            self._since = now
        elif not drifted:
            self._since = None
        self._tell(found, drifted)
        self._drifted = drifted
        self.psi = [(place, one.psi) for place, one in enumerate(found) if one.psi is not None]
        told = [_column(one, drifted=place in drifted) for place, one in enumerate(found)]
        return DriftedModel(
            name=self.card.name,
            version=self.card.version,
            state="drifted" if drifted else "steady" if found else "collecting",
            since=self._since,
            hours=round(hours, 2),
            rows=watch.rows,
            against=_against(self.card),
            outside=round(watch.outside, 6),
            features=_most_changed(told[: self._features]),
            answers=_most_changed(told[self._features :]),
            sensors=[self._sensor(*one) for one in watch.odd_sensors(_SENSORS)],
        )

    def _compare(self) -> None:
        self._found = self.watch.findings()

    def _alarming(self, found: Sequence[Finding]) -> set[int]:
        """Return which columns have drifted: those that alarm, and those that did and are not over."""
        return {
            place
            for place, one in enumerate(found)
            if one.alarms(len(found)) or (place in self._drifted and one.effect >= OVER)
        }

    @property
    def has_drifted(self) -> bool:
        """Whether it had when it was looked at last."""
        return bool(self._drifted)

    def measured(self) -> Iterator[tuple[str, str, float]]:
        """Yield what was found last: "feature" or "answer", its name, and its PSI."""
        for place, psi in self.psi:
            part = "feature" if place < self._features else "answer"
            yield part, self.watch.layout.columns[place].name, psi

    def _tell(self, found: Sequence[Finding], drifted: set[int]) -> None:
        model = f"model {self.card.name} {self.card.version}"
        for place, one in enumerate(found):
            if place in drifted and place not in self._drifted:
                _log.warning("%s: drift: %s: %s", model, plain(one.column.name), plain(how(one)))
            elif place in self._drifted and place not in drifted:
                _log.info("%s: no drift any more: %s", model, plain(one.column.name))

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
        self._looked = -math.inf
        #: What was found last.
        self.last: Drift | None = None
        self._is_said = True

    def take_over(self, former: Drifting) -> None:
        """Go on with what was seen of models that are still served, before anything is asked of them by this plan."""
        for sha256, observer in self._files.items():
            if (before := former._files.get(sha256)) is not None:
                observer.take_over(before)
        self._next = min(self._next, former._next)
        if (self._files.keys(), self._hours) == (former._files.keys(), former._hours):
            self.last, self._looked = former.last, former._looked
        elif former.last is not None:
            self._next = self._clock()  # what it says is of other models

    def say_again(self) -> None:
        """Say again what was said, on another connection."""
        self._is_said = self.last is None

    def look(self) -> Drift:
        """Return what there is to tell now."""
        now, self._looked = self._time(), self._clock()
        models = [one.look(now) for one in self._files.values()]
        state = _STATES[max((_STATES.index(one["state"]) for one in models), default=0)]
        self.last = Drift(time=now, state=state, window_hours=self._hours, models=models)
        return self.last

    def measured(self) -> list[Measured]:
        """Return the figures of each model."""
        return [(one.card.name, one.has_drifted, list(one.measured())) for one in self._files.values()]

    def told(self) -> Drift:
        """Return what there is to tell now, or was a few seconds ago."""
        is_fresh = self._clock() - self._looked < _FRESH
        return _bounded(self.last if self.last is not None and is_fresh else self.look())

    def message(self, node: str) -> Answer | None:
        """Return what is to be published, retained, once it is time."""
        if self._clock() >= self._next:
            self._next = self._clock() + self._interval
            self.look()
            self._is_said = False
        if self._is_said or self.last is None:
            return None
        return Answer(topics.drift(node), to_json(_bounded(self.last)), qos=1, retain=True)

    def said(self) -> None:
        """Note that it was published."""
        self._is_said = True


def _against(card: ModelCard) -> str:
    expected = card.expected
    answers = f"; answers to {count(expected.rows, 'row')} that were held out" if expected and expected.held_out else ""
    return f"{count(card.training.rows, 'row')} of training, {card.training.date}{answers}"


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


def _bounded(told: Drift) -> Drift:
    """Return what fits into a message: of many models only what has drifted, of very many only the worst."""
    if len(to_json(told)) <= _MOST_BYTES:
        return told
    models, most = told["models"], _COLUMNS
    while True:
        short: Drift = {**told, "models": [_shortened(one, most) for one in models]}
        if (size := len(to_json(short))) <= _MOST_BYTES:
            return short
        if most > 1:
            models, most = sorted(models, key=lambda one: -_STATES.index(one["state"])), 1
        else:
            models = models[: min(len(models) - 1, len(models) * _MOST_BYTES // size)]


def _shortened(told: DriftedModel, most: int) -> DriftedModel:
    features, answers = (
        sorted((one for one in columns if one["drifted"]), key=lambda one: -(one["psi"] or 0.0))[:most]
        for columns in (told["features"], told["answers"])
    )
    return {**told, "features": features, "answers": answers, "sensors": []}
