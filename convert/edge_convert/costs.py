"""What a model costs on the device that serves it: the size of its file, memory, and time for a row.

Memory and time of large files are measured here, in a process that does nothing else: `python -m edge_convert.costs` reads rows (as many bytes
as its argument says) and the file from standard input. Memory is the same on a Raspberry Pi to within a few per cent; its time is an estimate.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ModelError
from edge_convert.sessions import open_session

#: By how much a core of a Raspberry Pi 4 is slower than one of a workstation.
PI: Final = 5.0
#: Bytes for the model within MemoryMax=256M of systemd/edge-agent.service, the agent itself apart.
_ROOM: Final = 144 << 20
#: Seconds for a row on a Raspberry Pi beyond which few sensors are too many.
_SLOW: Final = 0.1
#: What a file below `_SMALL` takes is estimated: the runtime's own libraries, and so many times its size. Measured: 9.2 MiB with 1 KiB,
#: 12.9 with 300 KiB, 20.5 with 911 KiB.
_SMALL: Final = 1 << 20
_RUNTIME: Final = 9 << 20
_TIMES: Final = 13
_STATUS: Final = Path("/proc/self/status")
_ROWS: Final = 64
_SECONDS: Final = 0.05


class Cost(NamedTuple):
    """`size` of the file in bytes, `memory` in bytes that opening it and answering adds, `seconds` for one row: here, not on a device.
    `measured` tells whether the memory was.
    """

    size: int
    memory: int
    seconds: float
    measured: bool = True

    def __str__(self) -> str:
        return (
            f"{in_bytes(self.size)} without its card; {in_bytes(self.memory)} of memory ({'measured' if self.measured else 'estimated'}); "
            f"{milliseconds(self.seconds)} a row (measured here), about {milliseconds(PI * self.seconds)} on a Raspberry Pi 4 "
            f"(estimated, {PI:g} times that)"
        )

    @property
    def trouble(self) -> str:
        """What is too much for a Raspberry Pi; "" if nothing is."""
        if self.memory > _ROOM:
            return (
                f"the model takes {in_bytes(self.memory)} of memory. The service may have 256 MiB, itself included (MemoryMax), so it will not "
                "serve this model; a Raspberry Pi with 512 MB can't hold it, for others raise the limit"
            )
        if PI * self.seconds > _SLOW:
            return f"a Raspberry Pi 4 answers about {1 / (PI * self.seconds):.1g} rows a second"
        return ""


def measure(content: bytes, X: NDArray[Any]) -> Cost:
    """Measure a model file, without its card, on some of the rows `X` (n, f). Raises `ModelError` if it does not run."""
    some = X[np.linspace(0, len(X) - 1, min(len(X), _ROWS)).astype(int)].astype(np.float64)
    if len(content) < _SMALL:  # a process of its own would take longer than all the rest
        return Cost(
            len(content),
            _RUNTIME + _TIMES * len(content),
            _time(open_session(content).session, some),
            measured=False,
        )
    return measured_apart(content, some)


def measured_apart(content: bytes, some: NDArray[np.float64]) -> Cost:
    """Measure a model file on `some` rows (m, f) in a process of its own. Raises `ModelError` if it does not run there."""
    rows = io.BytesIO()
    np.save(rows, some)
    done = subprocess.run(  # noqa: S603 - this very module
        [sys.executable, "-m", "edge_convert.costs", str(len(rows.getvalue()))],
        input=rows.getvalue() + content,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        reason = next(iter(reversed(done.stderr.decode(errors="replace").strip().splitlines())), str(done.returncode))
        raise ModelError(f"the model can't be opened in a process of its own, to measure its memory: {reason}")
    found = json.loads(done.stdout)
    return Cost(len(content), found["memory"], found["seconds"])


def _measure() -> None:
    """Be the process."""
    rows, before = np.load(io.BytesIO(sys.stdin.buffer.read(int(sys.argv[1])))), _peak()
    content = sys.stdin.buffer.read()
    seconds = _time(open_session(content).session, rows)
    print(json.dumps({"memory": max(0, _peak() - before), "seconds": seconds}))  # noqa: T201 - its output


def _time(session: Any, rows: NDArray[np.float64]) -> float:
    """Return the processor's seconds for a row, each of `rows` (n, f) sent by itself."""
    source = session.get_inputs()[0]
    typed = rows.astype(np.float64 if source.type == "tensor(double)" else np.float32)
    single = [{source.name: typed[number : number + 1]} for number in range(len(typed))]
    session.run(None, {source.name: typed})
    runs, started = 0, time.process_time()
    while (spent := time.process_time() - started) < _SECONDS:
        for row in single:
            session.run(None, row)
        runs += len(single)
    return spent / runs


def _peak() -> int:
    """Return the largest memory that this program had so far, in bytes."""
    if _STATUS.exists():  # what getrusage() returns may be that of our parent, before it started us
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines["VmHWM"].removesuffix("kB")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_bytes(number: int) -> str:
    """Return a size for people."""
    return f"{number / (1 << 20):.1f} MiB" if number >= 1 << 20 else f"{max(1, round(number / 1024))} KiB"


def milliseconds(seconds: float) -> str:
    """Return a duration for people."""
    return f"{seconds * 1000:.2g} ms"


if __name__ == "__main__":
    _measure()
