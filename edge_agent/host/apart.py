"""Runs work that may hang, crash or exhaust memory in a separate, short-lived process with limits on time and memory.

Rules:

* The process is a fork: imported modules need not be imported again, which would take longer than everything else. No thread of ours
  runs meanwhile (`edge_agent.host.aside`).
* It shares nothing that could affect us: it has default signal handlers, its only descriptor is that of its report, its
  standard output and error are discarded, it dumps no core, and it exits without running our cleanup code.
* The kernel enforces the limits, so nothing here needs to watch the clock, and the service can go on.
* When memory is short, the kernel kills it first.
* It has half of our stack, so that what native code does there within its stack does not overflow ours.
* SIGCHLD tells that it has ended.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from edge_agent.host import aside
from edge_agent.wording import mebibytes

#: Signals that a process of ours may have handlers for.
_HANDLED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGALRM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class End(IntEnum):
    """The exit statuses of the process: done, an unexpected exception, or out of memory."""

    DONE = 0
    RAISED = 1
    NO_MEMORY = 2


class Limits(NamedTuple):
    """Limits for the work: `seconds` of processor time, `patience` in seconds on the clock, and `memory` in bytes beyond
    what we have already mapped. `nice` is by how much others come first (nice(2)), where that is allowed.
    """

    seconds: float
    patience: float
    memory: int
    nice: int = 0


class Apart:
    """Work running in a separate process.

    `work` is called with a function that adds a line to the report, which stays readable however the work ends.
    """

    def __init__(self, work: Callable[[Callable[[str], None]], None], limits: Limits) -> None:
        self._limits = limits
        self._status: int | None = None
        self._closed = False
        self._report = os.memfd_create("report")
        aside.wait_for_all()
        # A signal between the fork and the child's first steps would run our handlers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _be_apart(work, limits, self._report)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        if self._status is None:
            self._reap(os.WNOHANG)
        return self._status is not None

    def wait(self) -> None:
        """Wait until it has ended; the limits bound that."""
        if self._status is None:
            self._reap(0)

    def stop(self) -> None:
        """Kill it, if it has not ended."""
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def report(self) -> list[str]:
        """Return the lines of its report, after its end; the last one may be cut if it was killed."""
        with os.fdopen(os.dup(self._report), "rb") as file:
            file.seek(0)
            return file.read().decode(errors="replace").splitlines()

    @property
    def ended_by(self) -> signal.Signals | None:
        """The signal that ended it; None for none. SIGKILL comes from outside: our limits send others."""
        return signal.Signals(-self._status) if self._status is not None and self._status < 0 else None

    def trouble(self) -> str | None:
        """Return in a few words why it failed; None when it did not."""
        match self._status:
            case None | End.DONE:
                return None
            case End.NO_MEMORY:
                return f"it exceeded its memory limit of {mebibytes(self._limits.memory)}"
            case status if status > 0:
                return f"it failed: {''.join(self.report()[-1:]) or status}"
            case status:
                return self._ended_by(signal.Signals(-status))

    def _ended_by(self, number: signal.Signals) -> str:
        match number:
            case signal.SIGXCPU:
                return f"it exceeded its limit of {round(self._limits.seconds, 1):g} s of processor time"
            case signal.SIGALRM:
                return f"it exceeded its limit of {round(self._limits.patience, 1):g} s"
            case signal.SIGKILL:
                return "it was killed, most likely because the system ran out of memory"
            case other:
                return f"it crashed ({other.name})"

    def close(self) -> None:
        """Kill it and free its resources; may be called again."""
        if self._closed:
            return
        self._closed = True
        self.stop()
        os.close(self._report)

    def _reap(self, how: int) -> None:
        try:
            pid, status = os.waitpid(self.pid, how)
        except ChildProcessError:
            # Our parent had SIGCHLD ignored, so the exit status is unknown: the report must show the result.
            self._status = End.DONE
            return
        if pid:
            self._status = os.waitstatus_to_exitcode(status)


def _be_apart(work: Callable[[Callable[[str], None]], None], limits: Limits, report: int) -> NoReturn:
    """Run in the process."""
    status = End.RAISED
    try:
        signal.set_wakeup_fd(-1)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        _let_go(report)
        _limit(limits)
        work(lambda line: _write(report, line.encode(errors="replace") + b"\n"))
        status = End.DONE
    except MemoryError:
        status = End.NO_MEMORY
    except BaseException as error:  # noqa: BLE001 - reported, and nothing may continue from here
        _write(report, f"\n{type(error).__name__}: {error}".encode(errors="replace"))
    finally:
        # Whatever was raised: none of our code may run twice, especially exit handlers.
        os._exit(status)


def _let_go(report: int) -> None:
    """Close all descriptors except the report's: otherwise our connections would stay open while the process runs."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    for entry in list(Path("/proc/self/fd").iterdir()):
        if (descriptor := int(entry.name)) > 2 and descriptor != report:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself is already closed
                os.close(descriptor)
    # The inherited ones may have been redirected, and may buffer text that we have not written yet.
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - as long as the process


def be_first_to_go() -> None:
    """Make the kernel kill this process first when memory is short, not the service."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _limit(limits: Limits) -> None:
    be_first_to_go()
    # A sandbox may keep us from it, as systemd's ~@resources does: that is no reason not to do the work.
    with contextlib.suppress(OSError):
        os.nice(limits.nice)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_STACK, _stack() // 2),
        (resource.RLIMIT_CPU, math.ceil(limits.seconds)),
        (resource.RLIMIT_AS, mapped + limits.memory),
    ):
        _, hard = resource.prlimit(0, what)
        resource.prlimit(0, what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    signal.setitimer(signal.ITIMER_REAL, limits.patience)


def _stack() -> int:
    """Return how much stack native code has here at the least, in a thread or without one."""
    ours, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return aside.STACK if ours == resource.RLIM_INFINITY else min(ours, aside.STACK)


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
