"""The store of models: which version is in use, which are kept, and whether the agent can replace them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_agent.config.models import library, store
from edge_agent.config.settings import Settings
from edge_agent.doctor.findings import Finding, fail, failed, note, ok
from edge_agent.errors import FileError, StoreError


def check_store(loaded: Settings, names: Iterable[str], *, as_service: bool) -> Iterator[Finding]:
    """Check what the store has of models that are served, and whether the agent can change it. It takes the reading of each version."""
    for name in names:
        yield from _kept(loaded, name, as_service=as_service)
    yield from _replacing(loaded, as_service=as_service)


def _kept(loaded: Settings, name: str, *, as_service: bool) -> Iterator[Finding]:
    kept = store(loaded)
    try:
        path = kept.locate(name)
        if path is None:
            return
        versions, before = kept.versions(name), kept.before(name)
        by_hand = library(loaded).passed_over(name)
    except (FileError, StoreError) as error:
        if not as_service and isinstance(error.__cause__, PermissionError):
            # The service's directory is nobody else's business; what is served was found without it.
            yield note("store", str(error), "to see the service's store: sudo edge-agent check")
        else:
            yield failed("store", error)
        return
    now = next((one.version for one in versions if one.path == path), "?")
    said = f"{name}: {now} is in use" + (f", before it {before.version}" if before else "") + f"; {len(versions)} kept"
    damaged = [one for one in versions if one.damaged]
    if damaged:
        yield note(
            "store",
            f"{said}; damaged, or not readable: {', '.join(one.path.name for one in damaged)}",
            f"edge-agent model remove {name} {damaged[0].version}, and install it again if it is needed",
        )
    else:
        yield ok("store", said)
    if by_hand is not None:
        yield note(
            "store",
            f"{name}: {by_hand}, which somebody put there, is not used: the store has {now}",
            f"sudo rm {shlex.quote(str(by_hand))}, or use it: edge-agent model remove {name} --all",
        )


def _replacing(loaded: Settings, *, as_service: bool) -> Iterator[Finding]:
    """Check whether the agent can change its store, where models come over MQTT. Only the service itself can tell."""
    if not loaded.update.channel or not as_service:
        return
    kept = store(loaded)
    try:
        directories = [kept.directory, *(kept.directory / name for name in kept.names())]
    except FileError as error:
        yield failed("store", error)
        return
    closed = next(
        (one for one in directories if one.exists() and not os.access(one, os.W_OK | os.X_OK, effective_ids=True)), None
    )
    if closed is not None:
        yield fail(
            "store", f"{closed}: the service's user may not write there, so no update can be installed", _mend(closed)
        )


def _mend(closed: Path) -> str:
    return f"sudo chown -R --reference={shlex.quote(str(closed.parent))} {shlex.quote(str(closed))}"
