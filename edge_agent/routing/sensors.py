"""Stores the latest values of sensors, and tells when a row is due.

Rules:

* a row is made of the latest values, all there and none older than `max_age`; a value that could not be used takes the
  one before it away, so that a stale value never poses as current;
* values that the model takes as missing (`optional`) are not waited for: NaN stands in their place;
* a row is due when a value changed, when a value that was too old came again, and when the answer to the last one may
  be lost: the value is a redelivery, or the first of its sensor on a new connection. What else comes unchanged only
  refreshes its age;
* with `debounce` it is due that long after the first such value, whatever comes meanwhile;
* nothing grows without bound: no more than `limit` sensors are known, the least recently heard goes first.

Time is handed in: seconds of any clock that never goes back.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

MAX_SENSORS: Final = 10_000
#: Most features that are named for one incomplete sensor.
_NAMED: Final = 32

#: What names a sensor: the levels of its topics that a route captures, in order.
Sensor: TypeAlias = tuple[str, ...]


class DueRow(NamedTuple):
    """A row that is due: values in the order of the features, and the highest QoS of their messages."""

    values: tuple[float, ...]
    qos: int


class Lack(NamedTuple):
    """What a sensor lacks: features that were never heard or could not be used, and those that are too old."""

    sensor: Sensor
    missing: list[str]
    stale: list[str]


class Sensors:
    """The sensors of one route, each with a value for every feature in `names`, but for those at the positions that are
    `optional`. `max_age` and `debounce` in seconds.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        optional: Sequence[int] = (),
        max_age: float | None = None,
        debounce: float = 0.0,
        limit: int = MAX_SENSORS,
    ) -> None:
        self.forgotten = 0
        self._names = tuple(names)
        self._optional = frozenset(optional)
        self._max_age = math.inf if max_age is None else max_age
        self._debounce = debounce
        self._limit = limit
        self._connection = 0
        #: The least recently heard first.
        self._known: OrderedDict[Sensor, _Values] = OrderedDict()
        #: Due times of rows that wait for more changes, the earliest first.
        self._due: OrderedDict[Sensor, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def next_due(self) -> float | None:
        """When the next waiting row is due, None when none waits."""
        return next(iter(self._due.values()), None)

    def rows(self) -> Iterator[tuple[Sensor, Sequence[float]]]:
        """Yield each sensor with its values, NaN where there is none."""
        for sensor, state in self._known.items():
            yield sensor, state.values

    def put(
        self,
        sensor: Sensor,
        values: Sequence[tuple[int, float]],
        now: float,
        *,
        qos: int = 0,
        duplicate: bool = False,
        retained: bool = False,
    ) -> DueRow | None:
        """Take values, each with the position of its feature; return the row when it is due at once.

        `duplicate` says that the broker sends them again, `retained` that it had kept them for whoever subscribes.
        """
        state = self._heard(sensor)
        self._ask(state, qos, duplicate=duplicate)
        state.put(values, now, too_old=now - self._max_age, retained=retained)
        return self._row(sensor, state, now)

    def put_row(self, sensor: Sensor, row: Sequence[float], now: float, *, qos: int, duplicate: bool) -> int | None:
        """Take a value for each feature, in order, none of which the broker had kept, like `put`; return the highest QoS of
        their messages when the row is due at once.
        """
        state = self._heard(sensor)
        self._ask(state, qos, duplicate=duplicate)
        state.put_row(row, now, too_old=now - self._max_age)
        if not state.unanswered:
            return None
        if self._debounce:
            self._due.setdefault(sensor, now + self._debounce)
            return None
        return state.answered()

    def _ask(self, state: _Values, qos: int, *, duplicate: bool) -> None:
        """Note that a message came, and whether the answer to the one before may be lost."""
        if duplicate or state.connection != self._connection:
            state.unanswered = True
            state.connection = self._connection
        state.qos = max(state.qos, qos)

    def lost(self, sensor: Sensor, now: float, *, qos: int = 0) -> DueRow | None:
        """Return the row of a sensor that has just lost values, where it is complete without them."""
        state = self._known.get(sensor)
        if state is None or not self._optional:
            return None
        state.qos = max(state.qos, qos)
        return self._row(sensor, state, now)

    def _row(self, sensor: Sensor, state: _Values, now: float) -> DueRow | None:
        if not state.unanswered or not self._is_complete(state, now):
            return None
        if self._debounce:
            self._due.setdefault(sensor, now + self._debounce)
            return None
        return state.answer()

    def drop(self, sensor: Sensor, positions: Sequence[int]) -> None:
        """Forget values, for what came in their place can't be used. A sensor that is not known stays so."""
        if sensor in self._known:
            state = self._heard(sensor)
            for position in positions:
                state.drop(position)
            self._due.pop(sensor, None)

    def due(self, now: float, *, limit: int, ahead: float = 0.0) -> Iterator[tuple[Sensor, DueRow]]:
        """Yield up to `limit` rows that have waited long enough, or will have `ahead` seconds from now."""
        while limit > 0 and (when := self.next_due) is not None and when <= now + ahead:
            sensor, _ = self._due.popitem(last=False)
            state = self._known[sensor]
            # A value may have grown too old meanwhile; the next one that comes makes the row due again.
            if self._is_complete(state, now):
                limit -= 1
                yield sensor, state.answer()

    def reconnected(self) -> None:
        """Note a new connection: the last answers may be lost with the old one, so each sensor is due once more."""
        self._connection += 1

    def survey(self, now: float, *, limit: int) -> tuple[int, list[Lack]]:
        """Return the number of complete sensors, and what up to `limit` of the others lack.

        The least recently heard come first.
        """
        complete, lacking = 0, list[Lack]()
        too_old = now - self._max_age
        for sensor, state in self._known.items():
            if state.missing == 0 and state.oldest >= too_old:
                complete += 1
            elif len(lacking) < limit:
                lacking.append(self._lack(sensor, state, too_old))
        return complete, lacking

    def _lack(self, sensor: Sensor, state: _Values, too_old: float) -> Lack:
        missing, stale = [], []
        for position, (name, value, heard) in enumerate(zip(self._names, state.values, state.heard, strict=True)):
            if math.isnan(value):
                if position not in self._optional:
                    missing.append(name)
            elif heard < too_old:
                stale.append(name)
        return Lack(sensor, missing[:_NAMED], stale[:_NAMED])

    def _is_complete(self, state: _Values, now: float) -> bool:
        return state.missing == 0 and state.oldest >= now - self._max_age

    def _heard(self, sensor: Sensor) -> _Values:
        """Return the values of a sensor, which is now the most recently heard; room is made for one that is new."""
        state = self._known.get(sensor)
        if state is not None:
            self._known.move_to_end(sensor)
            return state
        if len(self._known) >= self._limit:
            forgotten, _ = self._known.popitem(last=False)
            self._due.pop(forgotten, None)
            self.forgotten += 1
        state = self._known[sensor] = _Values(len(self._names), self._optional)
        return state


class _Values:
    """The latest values of one sensor, and when each was heard; NaN, which no feature may be, where there is none."""

    __slots__ = ("connection", "heard", "missing", "oldest", "optional", "qos", "unanswered", "values")

    def __init__(self, width: int, optional: frozenset[int]) -> None:
        self.optional = optional
        self.values = array("d", [math.nan]) * width
        self.heard = array("d", [0.0]) * width
        self.missing = width - len(optional)
        #: When the oldest value was heard; right while none is missing.
        self.oldest = 0.0
        #: Whether something came that the last answer does not tell, and the highest QoS of what came since.
        self.unanswered = False
        self.qos = 0
        #: The number of the connection that it was last heard on.
        self.connection = -1

    def put(self, values: Sequence[tuple[int, float]], now: float, *, too_old: float, retained: bool) -> None:
        """Take values. A retained one that we have already says nothing new, not even that the sensor is alive."""
        known, heard = self.values, self.heard
        for position, value in values:
            before = known[position]
            if before != before and position not in self.optional:  # noqa: PLR0124 - NaN
                self.missing -= 1
            if before != value:
                self.unanswered = True
            else:
                if heard[position] < too_old:
                    self.unanswered = True
                if retained:
                    continue
            known[position] = value
            heard[position] = now
        if not self.missing and too_old > -math.inf:  # else no value is ever too old
            self.oldest = self._oldest() if self.optional else min(heard)

    def put_row(self, row: Sequence[float], now: float, *, too_old: float) -> None:
        """Take a value for each feature, like `put`."""
        values = array("d", row)
        # With the same values as before none was missing, so `oldest` is right.
        if values != self.values or self.oldest < too_old:
            self.unanswered = True
        self.values = values
        if too_old > -math.inf:
            self.heard = array("d", (now,)) * len(values)
            self.oldest = now
        self.missing = 0

    def drop(self, position: int) -> None:
        """Forget a value."""
        if not math.isnan(self.values[position]):
            self.values[position] = math.nan
            if position in self.optional:
                self.unanswered = True
                self.oldest = self._oldest()
            else:
                self.missing += 1

    def _oldest(self) -> float:
        """Return when the oldest value was heard that is there."""
        there = [heard for value, heard in zip(self.values, self.heard, strict=True) if not math.isnan(value)]
        return min(there, default=-math.inf)

    def answer(self) -> DueRow:
        """Return the current row, and mark it as answered."""
        return DueRow(tuple(self.values), self.answered())

    def answered(self) -> int:
        """Mark the current row as answered; return the QoS of that."""
        qos = self.qos
        self.unanswered = False
        self.qos = 0
        return qos
