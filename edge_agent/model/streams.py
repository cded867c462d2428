"""What is remembered of each sensor of a model to see drift: its last row, and how much of it lies far out.

Memory is bounded: of sensors beyond the first ones nothing is remembered, until others have fallen silent; their rows are counted like all
others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

#: Most sensors, and most numbers that are kept of them all.
_SENSORS: Final = 1000
_NUMBERS: Final = 1 << 17
#: Longest topic that is remembered, in characters.
_LONGEST: Final = 256
#: A sensor is odd with this share of its values far out, of at least so many.
_ODD: Final = 0.5
_FEWEST: Final = 50.0
#: A sensor is forgotten when less than this is left of what it sent: a single message stays for a window.
_LEAST: Final = 0.3
#: The last cell of values below the 1 % quantile.
_LOW: Final = 2
_Floats: TypeAlias = npt.NDArray[np.float64]
_Places: TypeAlias = tuple[npt.NDArray[np.intp], ...]


class Sensor(NamedTuple):
    """A sensor, and the column of which a `share` of its values lies below the 1 % quantile of training, or above the 99 % quantile."""

    topic: str
    column: int
    is_above: bool
    share: float


class Streams:
    """The sensors of one model with so many columns."""

    def __init__(self, columns: int) -> None:
        self._most = max(1, min(_SENSORS, _NUMBERS // (3 * columns)))
        self._columns = columns
        self._known: dict[str, int] = {}
        self._free: list[int] = []
        # As many as have come.
        self._last = np.zeros((0, columns), np.float32)
        self._out = np.zeros((0, 2, columns), np.float32)
        self._seen = np.zeros(0)

    @property
    def known(self) -> Collection[str]:
        """Those that are remembered."""
        return self._known.keys()

    @property
    def memory(self) -> int:
        """Bytes that are kept, without the topics."""
        return self._last.nbytes + self._out.nbytes + self._seen.nbytes

    def steps(self, sensors: Sequence[str], scores: _Floats, far: _Places, cells: npt.NDArray[np.uint16]) -> _Floats:
        """Return the steps (m, columns) from each row to the next one of the same sensor; NaN where there is none. Remember these rows
        (n, columns), and which values of theirs lie far out (row, column), in which `cells`.
        """
        try:
            numbers = np.array([self._known[one] for one in sensors], np.int16)
        except KeyError:
            numbers = np.array([self._number(one) for one in sensors], np.int16)
        order = np.argsort(numbers, kind="stable")
        order = order[np.searchsorted(numbers[order], 0) :]  # without those that are not remembered
        if not len(order):
            return np.zeros((0, self._columns))
        self._note(numbers, far, cells)
        numbers, new = numbers[order], scores[order]
        starts = np.concatenate(((0,), np.flatnonzero(numbers[1:] != numbers[:-1]) + 1))
        first = numbers[starts]
        old = np.empty_like(new)
        old[1:] = new[:-1]
        old[starts] = self._last[first]
        ends = np.append(starts[1:], len(numbers))
        self._last[first] = new[ends - 1]
        self._seen[first] += ends - starts
        return np.subtract(new, old, out=old)

    def _note(self, numbers: npt.NDArray[np.int16], far: _Places, cells: npt.NDArray[np.uint16]) -> None:
        number, is_above = numbers[far[0]], cells > _LOW
        known = number >= 0
        np.add.at(self._out, (number[known], is_above[known].view(np.uint8), far[1][known]), 1.0)

    def fade(self, share: float) -> None:
        """Let a share of what was counted go, and sensors of which nothing is left."""
        self._out *= 1.0 - share
        self._seen *= 1.0 - share
        if share >= 1.0:
            self._last[:] = np.nan
        silent = [(topic, number) for topic, number in self._known.items() if self._seen[number] < _LEAST]
        for topic, number in silent:
            del self._known[topic]
            self._free.append(number)

    def odd(self, limit: int) -> list[Sensor]:
        """Return up to `limit` sensors with a column that mostly lies far out; the clearest first."""
        if not self._known:
            return []
        shares = self._out / np.maximum(self._seen, 1.0)[:, None, None]
        shares[self._seen < _FEWEST] = 0.0
        flat = shares.reshape(len(shares), -1)
        best = flat.argmax(axis=1)
        strength = flat[np.arange(len(flat)), best]
        topics = {number: topic for topic, number in self._known.items()}
        found: list[Sensor] = []
        for number in np.argsort(-strength, kind="stable").tolist():
            if len(found) == limit or strength[number] < _ODD:
                break
            if number in topics:
                side, column = divmod(int(best[number]), self._columns)
                found.append(Sensor(topics[number], column, side == 1, round(float(strength[number]), 4)))
        return found

    def _number(self, topic: str) -> int:
        number = self._known.get(topic)
        if number is not None:
            return number
        if len(topic) > _LONGEST or len(self._known) >= self._most:
            return -1
        number = self._free.pop() if self._free else len(self._known)
        if number >= len(self._seen):
            self._grow(number + 1)
        self._last[number], self._out[number], self._seen[number] = np.nan, 0.0, 0.0
        self._known[topic] = number
        return number

    def _grow(self, least: int) -> None:
        more = min(self._most, max(least, 2 * len(self._seen))) - len(self._seen)
        self._last = np.concatenate((self._last, np.zeros((more, self._columns), np.float32)))
        self._out = np.concatenate((self._out, np.zeros((more, 2, self._columns), np.float32)))
        self._seen = np.concatenate((self._seen, np.zeros(more)))
