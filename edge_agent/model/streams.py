"""What is remembered of each sensor of a model to see drift: its last row, and how much of it lies far out.

Memory is bounded: of sensors beyond the first ones nothing is remembered, until others have fallen silent; their rows are counted like all
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.contract.card import QUANTILE_LEVELS

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
#: Cells of values below the 1 % quantile, and above the 99 % quantile.
_LOW: Final = 2
_HIGH: Final = 2 * len(QUANTILE_LEVELS) - 2
_TOP: Final = 2 * len(QUANTILE_LEVELS)


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

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._known)

    @property
    def memory(self) -> int:
        """Bytes that are kept, without the topics."""
        return self._last.nbytes + self._out.nbytes + self._seen.nbytes

    def pairs(
        self, sensors: Sequence[str], scores: npt.NDArray[np.float64], cells: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the scores (m, columns) of the rows before, and those of the rows after them, of the same sensor each; NaN where there
        is none. Remember these rows (n, columns): scores, and the cells that they are counted in.
        """
        try:
            numbers = np.array([self._known[one] for one in sensors], np.intp)
        except KeyError:
            numbers = np.array([self._number(one) for one in sensors], np.intp)
        order = np.argsort(numbers, kind="stable")
        order = order[np.searchsorted(numbers[order], 0) :]  # without those that are not remembered
        numbers, new = numbers[order], scores[order]
        if not len(numbers):
            return new, new
        starts = np.concatenate(([True], numbers[1:] != numbers[:-1]))
        old = np.empty_like(new)
        old[1:] = new[:-1]
        first = numbers[starts]
        old[starts] = self._last[first]
        ends = np.concatenate((starts[1:], [True]))
        self._last[first] = new[ends]
        where = np.flatnonzero(starts)
        far = cells[order]
        self._out[first, 0] += np.add.reduceat(far <= _LOW, where, axis=0, dtype=np.float32)
        self._out[first, 1] += np.add.reduceat((far >= _HIGH) & (far <= _TOP), where, axis=0, dtype=np.float32)
        self._seen[first] += np.diff(np.append(where, len(numbers)))
        return old, new

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

    def odd(self, known: npt.NDArray[np.bool_], limit: int) -> list[Sensor]:
        """Return up to `limit` sensors with a column, of those that are `known`, that mostly lies far out; the clearest first."""
        if not self._known:
            return []
        shares = np.where(known, self._out, 0.0) / np.maximum(self._seen, 1.0)[:, None, None]
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
