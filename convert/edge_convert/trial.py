"""Opens a file of strangers in a process apart first, with limits on time and memory, as a device does with its models.

Such a file may loop, take all memory, or crash the library that reads it. `python -m edge_convert.trial FILE SECONDS [COLUMNS]` is that process: it opens the
file, asks for the answer to one row, and exits with 0, or says why not.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from edge_agent.errors import InputError

_MIB: Final = 1 << 20
_REFUSED: Final = 2
#: How many times as long as its processor time it may take: what loops meets its own limit, also where many others want the processor.
_WAITS: Final = 20


def require_opens(path: Path, width: int | None = None, *, seconds: float = 30.0) -> None:
    """Raise `InputError` if opening a file fails in a process apart: with its own words, or because it crashed or exceeded the limits.

    `width` is how many columns it takes, where the file does not say. It may take `seconds` of the processor, and one for each MiB.
    """
    seconds += path.stat().st_size / _MIB
    command = [sys.executable, "-P", "-m", __name__, str(path), str(seconds), *([] if width is None else [str(width)])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_WAITS * seconds, check=False)  # noqa: S603 - our own
    except subprocess.TimeoutExpired:
        why = f"it took more than {_WAITS * seconds:.0f} s"
    else:
        if done.returncode == 0:
            return
        said = done.stderr.decode(errors="replace").strip().splitlines()
        if done.returncode == _REFUSED and said:
            raise InputError(said[-1])
        why = _why(done.returncode, said)
    raise InputError(
        f"{path}: can't be opened: it was tried in a process apart, and {why}; the file is damaged, or not what its name says"
    )


def _why(code: int, said: list[str]) -> str:
    if code == -signal.SIGXCPU:
        return "it exceeded its limit of processor time"
    if code < 0:
        return f"it crashed ({signal.Signals(-code).name})"
    return f"it failed: {said[-1][:200]}" if said else f"it ended with status {code}"


def _limit(path: Path, seconds: float) -> None:
    """Bound this process: a device allows less, but libraries for training are larger."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    memory = mapped + 2048 * _MIB + 24 * path.stat().st_size
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, max(1, int(seconds))),
        (resource.RLIMIT_AS, memory),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def main(path: Path, seconds: float, width: int | None) -> None:
    """Open a file and ask for one answer."""
    ask = _asked_graph if path.suffix.lower() == ".onnx" else _asked_booster
    try:
        ask(path, seconds, width)
    except InputError as error:
        sys.stderr.write(f"\n{error}\n")
        sys.exit(_REFUSED)


def _asked_graph(path: Path, seconds: float, width: int | None) -> None:
    from edge_convert.foreign.running import tried

    _limit(path, seconds)
    tried(path, width)


def _asked_booster(path: Path, seconds: float, _width: int | None) -> None:
    import numpy as np

    from edge_convert.boosters.opening import opened

    _limit(path, seconds)
    model = opened(path)
    model.predict(np.zeros((1, model.n_features_in_)))


if __name__ == "__main__":
    _path, _seconds, *_width = sys.argv[1:]
    main(Path(_path), float(_seconds), int(_width[0]) if _width else None)
