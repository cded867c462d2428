"""Programs as processes: started, watched, measured through /proc, and ended whatever happens.

Rules:

* a program belongs to an `ExitStack` from the moment it is there; the stack ends it, whether that was done before or not;
* Ctrl-C comes as an exception at any place, but for the two where it would lose a program: `uninterrupted`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
#: Seconds that a program may take to end when asked to, and to be ready.
_PATIENCE: Final = 5.0
READY_WITHIN: Final = 60.0
#: The signals that end the benchmark; its programs, in groups of their own, would not get them.
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """What ends the benchmark, with what to do about it."""


@dataclass(frozen=True)
class Memory:
    """Bytes, over all processes of a program. A page shared by n processes counts 1/n in `pss`, and fully in `rss`."""

    rss: int
    pss: int


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back the signals that end us; one that came raises `KeyboardInterrupt` on leaving."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt


class Program:
    """A command as a process group of its own, so that the workers it starts are measured and ended with it.

    `owner` ends it. What it writes goes to a file in `directory`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        owner: ExitStack,
        directory: Path,
        cwd: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self._log = directory / f"{name}.log"
        self._ended = False
        with uninterrupted(), self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd,
                env=environment,
                process_group=0,
            )
            owner.callback(self.end)

    @property
    def pid(self) -> int:
        """The first process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the first process is still there."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise `BenchmarkError` with what the program said last when it has ended."""
        if not self.running:
            raise BenchmarkError(f"{self.name} ended with status {self._process.returncode}; it said:\n{self.said()}")

    def said(self) -> str:
        """Return the end of what it wrote."""
        return self._log.read_text(errors="replace")[-4000:].strip() or "nothing"

    def cpu_seconds(self) -> float:
        """Return the CPU time taken so far, user and system, to 1/100 s (proc(5): utime and stime in stat)."""
        return sum((int(fields[11]) + int(fields[12])) * _TICK for _, fields in self._members())

    def memory(self) -> Memory:
        """Return the memory it takes now."""
        rss = pss = 0
        for pid, _ in self._members():
            # A worker may end while we look.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                rss += _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS:")
                pss += _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
        return Memory(rss, pss)

    def end(self) -> None:
        """Ask it to end, and kill what is left; nothing happens when that was done before."""
        if self._ended:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        self._signal(signal.SIGKILL)
        self._process.wait(_PATIENCE)
        self._ended = True  # only now: when this is interrupted, the owner does it again

    def _signal(self, number: signal.Signals) -> None:
        # The group outlives its first process for as long as a worker does.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _members(self) -> list[tuple[int, list[str]]]:
        """Return each process of the group with the fields of its stat from the third on (its name may hold spaces)."""
        members = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == self._process.pid:
                    members.append((int(entry.name), fields))
        return members


def _kilobytes(file: Path, name: str) -> int:
    """Return a line's value in bytes; /proc gives it in kB."""
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


def find_mosquitto() -> str:
    """Return the broker's program; Debian keeps it in /usr/sbin, which is not on everybody's PATH."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise BenchmarkError("Mosquitto is missing: sudo apt install mosquitto")
    return found


def start_mosquitto(directory: Path, port: int, owner: ExitStack, *more: str) -> Program:
    """Start a broker that sets no limit of its own to what is in flight or waits; all else is Mosquitto's default, but for
    `more` lines of its configuration.
    """
    lines = (
        f"listener {port} {HOST}",
        "allow_anonymous true",
        "persistence false",
        "max_inflight_messages 0",
        "max_queued_messages 0",
        "log_dest none",
        # Started as root it would become the user mosquitto, who can't read a directory of root's.
        "user root",
        *more,
    )
    configuration = directory / "mosquitto.conf"
    configuration.write_text("\n".join(lines) + "\n")
    command = (find_mosquitto(), "-c", configuration)
    broker = Program("mosquitto", command, owner=owner, directory=directory, cwd=directory, environment=os.environ)
    wait_for_port(broker, port)
    return broker


def wait_for_port(program: Program, port: int) -> None:
    """Return when `program` takes connections. Raises `BenchmarkError` when it ends, or takes none in time."""
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError as error:
            program.check()
            if time.monotonic() > deadline:
                raise BenchmarkError(
                    f"{program.name} took no connection on port {port} in {READY_WITHIN:g} s: {error}"
                ) from error
            time.sleep(0.005)
        else:
            return


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port
