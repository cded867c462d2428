"""The queue of received messages, taken in slices so that no turn of the loop takes long.

Rules:

* a slice is bounded by its cost, not by its number of messages: the most rows that each message can have, which
  is estimated from its bytes before it is decoded;
* a message is never split and always taken, whatever it costs: `limits` bound a single message;
* the order of arrival is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from edge_agent.contract.messages import Message

#: Largest cost of a slice, in rows of a batch: rejecting a row takes about 5 us on two cores of 2023.
MOST: Final = 10_000
#: The cost to which it is reduced if that takes too long: a slow model, a small share of a slow processor.
_LEAST: Final = 500
#: Seconds that a slice should take at most.
_TOO_LONG: Final = 0.1
#: Above this cost nothing more is read from the broker until some messages are answered.
_FULL: Final = 4 * MOST
#: Above this cost messages at QoS 0 are dropped. It is only reached while reading goes on for the broker's confirmations.
_OVERFULL: Final = 8 * _FULL
#: Fixed cost of a message, in rows.
_EACH: Final = 10
#: Bytes of payload that cost as much as one row, as a power of two: for reading and memory.
_BYTES: Final = 8

#: The first byte of a payload tells whether it can be a batch. Objects are none: `{`, and maps in CBOR.
_OBJECT: Final = frozenset(b"{" + bytes(range(0xA0, 0xC0)))
#: JSON: `[`, white space, or the beginning of a byte order mark. Its rows have commas between them.
_JSON: Final = frozenset(b"[ \t\r\n\xef")
#: CBOR: arrays, and tags that may stand before one. A row may be a single byte.
_CBOR: Final = frozenset(range(0x80, 0xA0)) | frozenset(range(0xC0, 0xDC))


def cost(payload: bytes) -> int:
    """Return the most that answering a payload can cost, in rows of a batch."""
    size = len(payload)
    first = payload[0] if size else 0
    if first in _OBJECT:
        return _EACH + (size >> _BYTES)
    if first in _JSON:
        return _EACH + (size >> _BYTES) + _commas(payload)
    if first in _CBOR:
        return _EACH + size
    # One value, or float32 packed.
    return _EACH + (size >> 2)


def _commas(payload: bytes) -> int:
    # In a long payload numpy counts three times as fast.
    if len(payload) < 4096:
        return payload.count(b",")
    return int(np.count_nonzero(np.frombuffer(payload, np.uint8) == ord(",")))


class Intake:
    """Received messages, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Message, int, float]] = deque()
        self._cost = 0
        self._budget = MOST

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether so much is waiting that no more should be read."""
        return self._cost > _FULL

    @property
    def first(self) -> Message:
        """The oldest message; IndexError when there is none."""
        return self._waiting[0][0]

    def add(self, messages: Iterable[Message], now: float) -> list[Message]:
        """Add messages that arrived at `now`, in seconds of any clock. Return those for which there is no room, all of them
        at QoS 0: the others are bounded by the connection.
        """
        lost: list[Message] = []
        for message in messages:
            if self._cost > _OVERFULL and not message.qos:
                lost.append(message)
                continue
            costs = cost(message.payload)
            self._cost += costs
            self._waiting.append((message, costs, now))
        return lost

    def take(
        self, limit: int | None = None, *, until: Callable[[Message], bool] | None = None
    ) -> tuple[list[Message], float]:
        """Return the next slice, of at most `limit` messages and ending with one for which `until` is true, and when its
        first message arrived.
        """
        waiting = self._waiting
        arrived = waiting[0][2] if waiting else 0.0
        if limit is None and until is None and self._cost <= self._budget:
            everything = [message for message, _, _ in waiting]
            self.clear()
            return everything, arrived
        slice_: list[Message] = []
        left = self._budget
        while waiting and (left >= waiting[0][1] or not slice_) and (limit is None or len(slice_) < limit):
            message, costs, _ = waiting[0]
            if until is not None and until(message):
                break
            waiting.popleft()
            left -= costs
            self._cost -= costs
            slice_.append(message)
        return slice_, arrived

    def took(self, seconds: float) -> None:
        """Note how long the last slice took: the next ones are smaller when it was too long, and grow again after."""
        if seconds > _TOO_LONG:
            self._budget = max(_LEAST, self._budget // 2)
        elif seconds < _TOO_LONG / 2 and self._budget < MOST:
            self._budget = min(MOST, self._budget * 2)

    def clear(self) -> None:
        """Forget all messages: the connection has ended, and the broker redelivers what was not acknowledged."""
        self._waiting.clear()
        self._cost = 0
