"""The running process: its signals and its memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

#: Least seconds between two reloads: requests that arrive meanwhile are combined.
_BETWEEN_RELOADS: Final = 1.0
#: mallopt(3): the option for blocks of their own, and from how many bytes on a block is one.
_M_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 1 << 20


class Signals:
    """While entered, SIGTERM and SIGINT set `received`, SIGHUP requests a reload, and, with `children`, SIGCHLD tells that
    a child process has ended; each makes `wakeup` readable, so that a waiting poll returns. For a command at a terminal,
    which `reloads` nothing, SIGHUP says that the terminal is gone, and sets `received` too.
    """

    def __init__(
        self, *, children: bool = False, reloads: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.received = False
        self._reloads = reloads
        self._interrupts = False
        self._reload = False
        self._ended = False
        self._clock = clock
        self._next_reload = -float("inf")
        self._numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *([signal.SIGCHLD] if children else [])]
        self.wakeup, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
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

    def take_news(self) -> bool:
        """Tell whether there is work besides serving: a due reload (`take_reload`), or a child process
        that has ended since the last call.
        """
        if not (self._reload or self._ended):
            return False
        # First, so that later signals wake us again.
        self._sleep()
        ended, self._ended = self._ended, False
        return ended or self._is_reload_due()

    def take_reload(self) -> bool:
        """Tell whether a reload was requested since the last one, and is due; several requests are combined."""
        if not self._is_reload_due():
            return False
        self._reload = False
        self._next_reload = self._clock() + _BETWEEN_RELOADS
        return True

    def wait(self, seconds: float) -> None:
        """Wait for a signal, at most `seconds`."""
        pause(seconds, self.wakeup)
        self._sleep()

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Inside, a signal to end raises `KeyboardInterrupt`: for calls that wait for something else than `wakeup`."""
        self._interrupts = True
        try:
            if self.received:
                raise KeyboardInterrupt
            yield
        finally:
            self._interrupts = False

    def _is_reload_due(self) -> bool:
        return self._reload and self._clock() >= self._next_reload

    def _sleep(self) -> None:
        """Drain `wakeup`, except when told to stop, which must wake every later wait."""
        if not self.received:
            with contextlib.suppress(BlockingIOError):
                while os.read(self.wakeup, 1024):
                    pass

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self._reloads:
            self._reload = True
        elif number == signal.SIGCHLD:
            self._ended = True
        else:
            self.received = True
            if self._interrupts:
                raise KeyboardInterrupt


def pause(seconds: float, wakeup: int | None) -> None:
    """Wait for `seconds`, or less if the wakeup is readable first."""
    poll = select.poll()
    if wakeup is not None:
        poll.register(wakeup, select.POLLIN)
    poll.poll(int(seconds * 1000))


def rss_bytes() -> int:
    """Return the resident memory of this process, from /proc (proc(5): the second field of statm, in pages)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def return_large_blocks() -> None:
    """Let the allocator return large blocks to the system once they are free.

    glibc learns from the first large block that is freed to keep such blocks (mallopt(3), M_MMAP_THRESHOLD), so that a few large messages
    would enlarge the process for good. Other C libraries have no such function, and an administrator's own setting stands.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
