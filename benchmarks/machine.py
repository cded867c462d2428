"""The machine and the versions that figures belong to."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from benchmarks.processes import find_mosquitto

_LIBRARIES: Final = (
    "edge-label-agent",
    "paho-mqtt",
    "pydantic",
    "onnxruntime",
    "numpy",
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
    "flask",
    "gunicorn",
    "scikit-learn",
)


def describe() -> dict[str, Any]:
    """Return what a reader needs to know to believe the figures, or to doubt them."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "system": _system(),
        "python": platform.python_version(),
        "mosquitto": _mosquitto(),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name)) is not None},
        "load_before": os.getloadavg()[0],
    }


def busy(machine: dict[str, Any]) -> str | None:
    """Return a warning when something else was running."""
    load: float = machine["load_before"]
    if load < 0.3:
        return None
    return f"other programs were running (load average {load:.2f} before the start): do not trust these figures"


def _cpu() -> str:
    # A Raspberry Pi says what it is here; cpuinfo has no "model name" on Arm.
    board = Path("/proc/device-tree/model")
    if board.exists():
        return board.read_text(errors="replace").strip("\0\n ")
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _mosquitto() -> str:
    # -h ends with status 3 in version 2.
    done = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True, check=False, timeout=10)
    first, _, _ = done.stdout.partition("\n")
    return first.removeprefix("mosquitto version ").strip() or "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
