"""Asks two models the same rows, beside what is answered, and counts how far they agree.

Rules:

* it publishes nothing, counts nothing of a route, and raises nothing;
* messages are noted as they are, and read and asked later: both models get the same rows in one call each, so they are measured alike;
* it takes a tenth of the time at most (`Allowance`), some milliseconds at once, or one row. Where that is too little, one message in so many is
  taken;
* only rows that the model before takes count: a bad sensor counts against no candidate;
* a row that was gathered is made of the features of the model that answers most. The other one is asked with what it finds among them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from edge_agent.contract.card import Feature, ModelCard
from edge_agent.contract.messages import ErrorCode, Message
from edge_agent.payload.features import Batch, Features, Unusable, refuse
from edge_agent.serving.agreement import comparison, label_of
from edge_agent.serving.engine import Engine
from edge_agent.serving.evidence import Figures
from edge_agent.serving.writing import Settled

_log = logging.getLogger(__name__)

#: The share of the time that is spent; the most of it at once, and from how much on it is, in seconds: many rows in one call cost less.
_SHARE: Final = 0.1
_AT_ONCE: Final = 0.01
_ENOUGH: Final = 0.005
#: Messages that wait, their bytes and those of the longest, and the most rows of one call.
_WAITING: Final = 256
_HELD: Final = 1 << 20
_LONGEST: Final = 1 << 16
_ROWS: Final = 256
_NOTHING: Final = refuse(ErrorCode.INVALID_FEATURES, "not gathered")


class Allowance:
    """How much time may be spent: some share of that which passes. All contests of a pipeline share it."""

    def __init__(self) -> None:
        self.left = _AT_ONCE
        self._seen: float | None = None

    def wait(self, now: float) -> float:
        """Return the seconds until there is enough of it; `now` is in seconds of a clock that never goes back."""
        if self._seen is not None:
            self.left = min(_AT_ONCE, self.left + _SHARE * (now - self._seen))
        self._seen = now
        return max(0.0, (_ENOUGH - self.left) / _SHARE)

    def spend(self, seconds: float) -> None:
        """Note what was spent. It may be more than was left: then nothing is asked until that is made up for."""
        self.left -= seconds


class _Pair(NamedTuple):
    """A row as both models take it; None where the candidate rejects it."""

    sensor: str
    before: tuple[float, ...]
    candidate: tuple[float, ...] | None


class Beside:
    """Compares a `candidate` with the model `before` it. `gathers` is the one whose features gathered rows have; `rejects` says that values
    outside of what training saw are not taken; numbers are equal `within` a share (`edge_agent.serving.agreement`); `clock` gives
    processor time in seconds.
    """

    def __init__(
        self,
        before: Engine,
        candidate: Engine,
        figures: Figures,
        *,
        gathers: Engine,
        rejects: bool,
        within: float,
        clock: Callable[[], float],
    ) -> None:
        self._before, self._candidate, self._gathers = before, candidate, gathers
        self._figures = figures
        self._clock = clock
        cards = before.card, candidate.card
        #: Whether both take the same payloads and rows, so that one of them reads for both.
        self._alike = accepted(cards[0], rejects=rejects) == accepted(cards[1], rejects=rejects)
        self._compare, remarks = comparison(*cards, within)
        for remark in remarks:
            figures.remark(remark)
        self._waiting: deque[tuple[str, Message | Features]] = deque()
        self._held = 0  # bytes of the messages among them
        #: Changes with each slice, so that it is not always the first message that is taken.
        self._turn = 0
        #: Seconds that a row has taken lately.
        self._pace: float | None = None
        self._told = False  # in the log

    @property
    def waits(self) -> bool:
        """Whether there is something to ask."""
        return bool(self._waiting)

    def note(self, questions: Sequence[tuple[int, Message, object]]) -> None:
        """Note messages that were answered: some of them, where there are too many."""
        room = _WAITING - len(self._waiting) if self._held < _HELD else 0
        step = -(-len(questions) // room) if room else 0
        taken = questions[self._turn % step :: step] if step else ()
        self._turn += 1
        self._figures.skipped += len(questions) - len(taken)
        for _, message, _ in taken:
            if len(message.payload) > _LONGEST:
                self._figures.skipped += 1
                self._figures.remark(f"messages of more than {_LONGEST} bytes are not compared")
            else:
                self._waiting.append((message.topic, message))
                self._held += len(message.payload)

    def note_row(self, sensor: str, row: Features) -> None:
        """Note a row that was gathered."""
        if len(self._waiting) < _WAITING:
            self._waiting.append((sensor, row))
        else:
            self._figures.skipped += 1

    def catch_up(self, allowance: Allowance, clock: Callable[[], float]) -> None:
        """Ask both models what is waiting, as far as the allowance goes, in seconds of a clock. Raises nothing."""
        while self._waiting and allowance.left > 0:
            began = clock()
            try:
                rows = self._ask(self._next(allowance.left))
            except Exception as error:  # noqa: BLE001 - a bug of ours must not disturb the answers
                rows = 0
                self._figures.remark("some messages could not be compared: an error of the agent, see its log")
                self._tell("comparing models failed", error)
            spent = clock() - began
            allowance.spend(spent)
            if rows:
                self._pace = spent / rows if self._pace is None else (self._pace + spent / rows) / 2

    # -- what is asked

    def _next(self, seconds: float) -> list[_Pair]:
        """Return rows of the next messages: as many as can be asked in so many seconds, one at least."""
        most = 1 if self._pace is None else max(1, min(_ROWS, int(seconds / max(self._pace, 1e-9))))
        pairs: list[_Pair] = []
        size = 0
        while self._waiting and len(pairs) < most and size <= _LONGEST:
            sensor, what = self._waiting.popleft()
            if isinstance(what, Message):
                size += len(what.payload)
                self._held -= len(what.payload)
            found = list(self._pairs(sensor, what))
            step = max(1, -(-len(found) // (most - len(pairs))))
            pairs += found[self._turn % step :: step]
        return pairs

    def _pairs(self, sensor: str, what: Message | Features) -> Iterator[_Pair]:
        """Yield the rows that the model before takes, with what they are to the candidate."""
        before, candidate = self._read(what)
        rows = dict(_rows(before))
        others = rows if candidate is before else dict(_rows(candidate))
        for place, values in rows.items():
            yield _Pair(sensor, values, others.get(place))

    def _read(self, what: Message | Features) -> tuple[_Content, _Content]:
        """Return what a message, or a row that was gathered, is to each of the models."""
        if self._alike:
            read = what if isinstance(what, Features) else self._before.read(what.payload, what.content_type)
            return read, read
        if isinstance(what, Message):
            before, candidate = (
                engine.read(what.payload, what.content_type) for engine in (self._before, self._candidate)
            )
            return before, candidate
        other = self._before if self._gathers is self._candidate else self._candidate
        features = self._gathers.card.features
        words = {one.name: one.word(value) for one, value in zip(features, what.values, strict=True)}
        if lacking := sorted(set(other.card.feature_names) - words.keys()):
            self._figures.remark(f"sensors that are gathered are not compared: {lacking[0]!r} is not gathered")
            return _NOTHING, _NOTHING
        found = other.check(words)
        return (found, what) if other is self._before else (what, found)

    # -- asking

    def _ask(self, pairs: Sequence[_Pair]) -> int:
        """Ask both models; return how many rows."""
        figures = self._figures
        for pair in pairs:
            figures.rejected.add(pair.sensor, pair.candidate is None)
        both = [(sensor, before, candidate) for sensor, before, candidate in pairs if candidate is not None]
        if not both:
            return 0
        answers, seconds = self._answers(self._before, [before for _, before, _ in both])
        others, longer = self._answers(self._candidate, [candidate for _, _, candidate in both])
        if seconds is not None and longer is not None:
            figures.took(seconds, longer, len(both))
        for (sensor, _, _), one, other in zip(both, answers, others, strict=True):
            if one is not None:
                figures.failed.add(sensor, other is None)
                if other is not None:
                    self._judge(sensor, one.bare, other.bare)
        return len(both)

    def _answers(self, engine: Engine, rows: list[tuple[float, ...]]) -> tuple[Sequence[Settled | None], float | None]:
        """Return the answers of an engine, None where it fails, and the seconds that it took unless it fails on any."""
        began = self._clock()
        try:
            return engine.predict(rows), self._clock() - began
        except Exception as error:  # noqa: BLE001 - whatever a model does: it is counted, and logged once
            self._tell(f"model {engine.name} {engine.version}, asked beside, failed", error)
        alone: list[Settled | None] = []
        for row in rows:
            try:
                alone += engine.predict([row])
            except Exception:  # noqa: BLE001 - as above: this row alone fails
                alone.append(None)
        return alone, None

    def _judge(self, sensor: str, before: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        agrees = None if self._compare is None else self._compare(before, candidate)
        if agrees is None:
            self._figures.incomparable += 1
            return
        self._figures.differing.add(sensor, not agrees)
        if not agrees and "label" in before:
            self._figures.differ(label_of(before), label_of(candidate))

    def _tell(self, what: str, error: Exception) -> None:
        """Log an error, the first one so that it is seen."""
        level = logging.DEBUG if self._told else logging.WARNING
        _log.log(level, "%s (counted, but logged only once): %s", what, error, exc_info=error)
        self._told = True


_Content = Features | Unusable | Batch


def _rows(content: _Content) -> Iterable[tuple[int, tuple[float, ...]]]:
    """Return the usable rows of a message by their position."""
    if isinstance(content, Features):
        return [(0, content.values)]
    if isinstance(content, Unusable):
        return []
    if not content.rejected:
        return enumerate(content.values)
    total = len(content.values) + len(content.rejected)
    return zip((place for place in range(total) if place not in content.rejected), content.values, strict=True)


def accepted(card: ModelCard, *, rejects: bool) -> list[tuple[object, ...]]:
    """Return what decides which rows a model takes, and how they are laid out; with `rejects` values outside of what training saw are not
    taken.
    """

    def seen(feature: Feature) -> tuple[float, ...]:
        return (feature.quantiles[0], feature.quantiles[-1]) if rejects else ()

    return [
        (one.name, one.kind, one.categories, one.missing, one.minimum, one.maximum, *seen(one)) for one in card.features
    ]
