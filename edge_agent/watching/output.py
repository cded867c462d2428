"""Writes lines to a pipe, a file or a terminal, without ever waiting for its reader.

Rule: while the reader takes nothing, only so much is kept, and the rest is left out and counted by the caller. A reader that has
gone is noticed even if there is nothing to write.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from typing import Final

from edge_agent.watching.view import ClosedError

#: Bytes that are kept for a slow reader.
_MOST: Final = 1 << 20
#: Bytes that can be written at once to what poll calls writable, without waiting (PIPE_BUF, pipe(7)).
_AT_ONCE: Final = 4096
#: Most bytes that are written in one turn, and seconds to wait for the reader of the last ones.
_IN_A_TURN: Final = 1 << 20
_LAST: Final = 1.0


class Output:
    """Lines for a file descriptor, in an encoding; what that can't say is escaped."""

    def __init__(self, descriptor: int, encoding: str = "utf-8") -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    @property
    def waits(self) -> bool:
        """Whether something could not be written yet."""
        return bool(self._pieces)

    def write(self, line: str) -> bool:
        """Write a line soon. Return False when there is no room for it."""
        data = line.encode(self._encoding, "backslashreplace") + b"\n"
        if self._size and self._size + len(data) > _MOST:
            return False
        self._pieces.append(data)
        self._size += len(data)
        return True

    def flush(self) -> None:
        """Write what can be written at once. Raises `ClosedError`."""
        left = _IN_A_TURN
        while True:
            events = self._ready(0)
            if events & (select.POLLERR | select.POLLNVAL | select.POLLHUP):
                raise ClosedError
            if not self._pieces or not events or left <= 0:
                return
            left -= self._write()

    def finish(self) -> None:
        """Write the rest, as far as its reader takes it within a second. Raises `ClosedError`."""
        ends = time.monotonic() + _LAST
        while self._pieces and (left := ends - time.monotonic()) > 0:
            if self._ready(left):
                self.flush()

    def _ready(self, seconds: float) -> int:
        return next((events for _, events in self._poll.poll(seconds * 1000)), 0)

    def _write(self) -> int:
        piece = self._pieces.popleft()
        while self._pieces and len(piece) < _AT_ONCE:
            piece += self._pieces.popleft()
        try:
            written = os.write(self._descriptor, piece[:_AT_ONCE])
        except BlockingIOError:  # somebody else set it so, and fills it too
            written = 0
        except (BrokenPipeError, ConnectionError):
            raise ClosedError from None
        if written < len(piece):
            self._pieces.appendleft(piece[written:])
        self._size -= written
        return max(written, 1)
