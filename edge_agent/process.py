"""The running process, as the operating system sees it: the signals it takes, and its memory."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self


class Signals:
    """While entered, SIGTERM and SIGINT set `received`, SIGHUP asks to reload; each makes `wakeup` readable, so that a
    waiting poll returns.
    """

    def __init__(self) -> None:
        self.received = False
        self._reload = False
        self.wakeup, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned
        os.close(self.wakeup)
        os.close(self._write)

    def take_reload(self) -> bool:
        """Tell whether a reload was asked for since the last call; several requests are one."""
        if not self._reload:
            return False
        # First: a request that comes from here on is a new one.
        self._reload = False
        if not self.received:
            with contextlib.suppress(BlockingIOError):
                while os.read(self.wakeup, 1024):
                    pass
        return True

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self.received = True


def rss_bytes() -> int:
    """Return the resident memory of this process, from /proc (proc(5): the second field of statm, in pages)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
