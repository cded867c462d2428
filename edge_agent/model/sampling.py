"""Which of many rows are counted, where counting all of them would take time that messages need.

Rules:

* all are counted where there are up to `A_SECOND`, and up to `AT_ONCE` now and then;
* the sample is random: whatever the order in which sensors take turns, each has its share, and each place in a batch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

#: Rows a second that are counted where there are more for long, and of so many at once: a sample says as much.
A_SECOND: Final = 128
AT_ONCE: Final = 1024
#: What `Sampling.part` returns for all rows.
ALL: Final = slice(None)
_NONE: Final = slice(0)


class Sampling:
    """Chooses among the rows of one model; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        #: Of how many rows one is counted, since when, and how many have come since.
        self._step, self._since, self._came = 1, clock(), 0
        #: So many may come before that is looked at, and so many are left out first.
        self._most, self._skip = AT_ONCE, 0

    def part(self, count: int) -> slice:
        """Return which of the next so many rows to count."""
        self._came += count
        if count <= self._skip:
            self._skip -= count
            return _NONE
        return ALL if self._came <= self._most else self._sample(count)

    def _sample(self, count: int) -> slice:
        now = self._clock()
        passed = now - self._since
        if self._most or passed >= 1.0:
            self._step = math.ceil(self._came / (A_SECOND * max(1e-3, passed)))
            self._since, self._came = now, 0
            self._most = AT_ONCE if self._step == 1 else 0
        step = max(self._step, -(-count // AT_ONCE))
        first, self._skip = self._skip, 0
        if count >= step:
            return slice(int(random.random() * step), None, step)  # noqa: S311 - not a secret
        # One of these, and the next one `step` rows later on average.
        self._skip = int(random.random() * (2 * step - 1))  # noqa: S311
        return slice(first, first + 1)
