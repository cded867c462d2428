"""The file for Prometheus: whether it can be written, whether that wears out an SD card, and whether anybody reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from edge_agent.config.settings import Settings
from edge_agent.doctor.findings import Finding, fail, note, ok
from edge_agent.doctor.reach import May, barrier, explain_barrier, hiding, may
from edge_agent.host.device import Device

#: Where the service may write, in memory, whatever its name is.
_BETTER: Final = 'a name alone is a file in memory: textfile = "edge-agent.prom"'
#: What node_exporter reads of a directory.
_SUFFIX: Final = ".prom"


def check_place(loaded: Settings, device: Device) -> Iterator[Finding]:
    """Check where the file lies: on which device, and under which name."""
    path = loaded.metrics.path
    if path is None:
        return
    disk = device.disk(path.parent)
    if disk.is_card:
        every = f"{loaded.health.interval:g} s"
        yield note(
            "metrics", f"{path} is on the SD card ({disk.device}): writing it every {every} wears it out", _BETTER
        )
    if path.suffix != _SUFFIX:
        yield note(
            "metrics", f"{path}: node_exporter reads only files that end in {_SUFFIX}", f"call it {path.stem}{_SUFFIX}"
        )


def check_writing(loaded: Settings, *, as_service: bool, may: May = may) -> Iterator[Finding]:
    """Check, as whoever runs the agent, whether the file can be written."""
    path = loaded.metrics.path
    if path is None:
        return
    directory, own = path.parent, os.environ.get("RUNTIME_DIRECTORY", "").split(":")
    if (found := barrier(directory, how=os.W_OK, may=may)) is not None:
        yield fail("metrics", f"metrics.textfile: {path}: {explain_barrier(found)}", _BETTER)
    elif as_service and (hidden := hiding(directory)) is not None:
        said = f"metrics.textfile: {path}: only the service sees it: its sandbox has its own {hidden[0]} ({hidden[1]})"
        yield fail("metrics", said, _BETTER)
    elif not directory.is_dir() and str(directory) in own:
        yield ok("metrics", f"{path}: its directory comes with the service")
    elif not directory.is_dir():
        yield fail(
            "metrics", f"metrics.textfile: {path}: there is no directory {directory}", f"create it, or: {_BETTER}"
        )
    else:
        yield ok("metrics", f"{path} can be written")
