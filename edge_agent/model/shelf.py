"""Reads the directory of one model in the store, whatever may lie in it. `edge_agent.model.store` says what belongs there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.contract.card import SEMVER
from edge_agent.contract.manifest import MAX_MODEL_BYTES
from edge_agent.contract.minisign import SUFFIX
from edge_agent.errors import FileError, StoreError
from edge_agent.host import files
from edge_agent.host.folder import Folder
from edge_agent.wording import LOGGED, plain

CURRENT: Final = "current"
HISTORY: Final = "history"
#: Steps back that are remembered.
MAX_HISTORY: Final = 32
_MAX_HISTORY_BYTES: Final = 16 * 1024
_CHUNK: Final = 1 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_VERSION: Final = re.compile(SEMVER.removesuffix("$"), re.ASCII)
_FILE: Final = re.compile(r"(?P<version>[0-9][0-9A-Za-z.+-]{0,63})-(?P<start>[0-9a-f]{8})\.onnx", re.ASCII)


class Entry(NamedTuple):
    """A version's file, by its name."""

    file: str
    status: os.stat_result

    @property
    def version(self) -> str:
        """The version that its name tells."""
        return self.file.rpartition("-")[0]


class Version(NamedTuple):
    """One version of a model; `modified` in seconds since 1970, in the order in which versions were added."""

    name: str
    version: str
    sha256: str
    path: Path
    size: int
    modified: float

    @property
    def damaged(self) -> bool:
        """Whether the content is not the one that the name of the file tells of, or can't be read (then `sha256` is empty)."""
        return not self.sha256 or not self.path.stem.endswith(self.sha256[:8])


def is_name(name: str) -> bool:
    """Return whether this can be a model's name."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Raise `StoreError` unless this can be a model's name."""
    if not is_name(name):
        raise StoreError(
            f"model {shown(name)}: no name of a model; write one word of letters, digits, '.', '_' and '-'"
        )


def check_version(name: str, version: str) -> None:
    """Raise `StoreError` unless this can be a version."""
    if len(version) > 64 or not _VERSION.fullmatch(version):
        raise StoreError(f"model {name}: {shown(version)} is no version; write one such as 1.0.0")


def is_version_file(file: str) -> bool:
    """Return whether a file of this name is a version."""
    found = _FILE.fullmatch(file)
    return found is not None and _VERSION.fullmatch(found["version"]) is not None


def shown(text: str) -> str:
    """Return text from outside for a message."""
    return plain(text if len(text) <= LOGGED else f"{text[:LOGGED]}…")


def entry_of(folder: Folder, file: str) -> Entry | None:
    """Return a version by its file; None when there is none, or it is no file that could be served."""
    if not is_version_file(file):
        return None
    status = folder.look(file)
    fits = status is not None and stat.S_ISREG(status.st_mode) and status.st_size <= MAX_MODEL_BYTES
    return Entry(file, status) if fits and status is not None else None


def entries(folder: Folder) -> list[Entry]:
    """Return the versions, the newest first."""
    found = [entry for file in folder.names() if (entry := entry_of(folder, file)) is not None]
    return sorted(found, key=lambda entry: (entry.status.st_mtime_ns, entry.file), reverse=True)


def link(folder: Folder) -> str | None:
    """Return the file to which `current` leads, whether it is there or not; None when it leads to no version."""
    with contextlib.suppress(FileError):
        file = folder.target(CURRENT)
        if file is not None and is_version_file(file):
            return file
    return None


def current(folder: Folder) -> Entry | None:
    """Return the version in use, None when there is none. Raises `FileError` or `StoreError`, when something else is in its place."""
    file = folder.target(CURRENT)
    if file is None:
        return None
    entry = entry_of(folder, file)
    while entry is None and (now := folder.target(CURRENT)) not in {file, None}:
        file = now  # another process has put another one into use, and removed that one
        entry = entry_of(folder, file)
    if entry is None:
        why = "which is not there" if is_version_file(file) else "which is no version beside it"
        raise StoreError(
            f"{folder.path / CURRENT}: leads to {shown(file)}, {why}; choose a version with edge-agent model use"
        )
    return entry


def history(folder: Folder) -> list[str]:
    """Return what was in use, the last first; nothing where that can't be read."""
    try:
        content = folder.read(HISTORY, _MAX_HISTORY_BYTES) or b""
    except FileError:
        return []
    return [line for line in content.decode(errors="replace").split("\n") if is_version_file(line)][:MAX_HISTORY]


def way_back(folder: Folder) -> list[str]:
    """Return the file in use, and those before it, the last first."""
    now, past = link(folder), history(folder)
    if now is None:
        return past
    return past[past.index(now) :] if now in past else [now, *past]


def before(folder: Folder) -> Entry | None:
    """Return the version that was in use before, of those that are still there."""
    now = link(folder)
    return next((one for file in way_back(folder) if file != now and (one := entry_of(folder, file))), None)


def orphans(folder: Folder) -> list[str]:
    """Return the signatures without a file, which a crash left."""
    names = folder.names()
    ours = ((name, name.removesuffix(SUFFIX)) for name in names)
    return [name for name, file in ours if file != name and is_version_file(file) and file not in names]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a regular file for reading. Raises `FileError`."""
    files.look(path)
    with files.explained(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size > MAX_MODEL_BYTES:
            raise FileError(
                f"{path}: is too large: at most {MAX_MODEL_BYTES} bytes are read; check that it is the right file"
            )
        yield descriptor
    finally:
        os.close(descriptor)


def chunks(descriptor: int) -> Iterator[bytes]:
    """Read an open file from its beginning."""
    offset = 0
    while piece := os.pread(descriptor, _CHUNK, offset):
        yield piece
        offset += len(piece)


def digest(descriptor: int) -> str:
    """Return the sha256 of an open file."""
    whole = hashlib.sha256()
    for piece in chunks(descriptor):
        whole.update(piece)
    return whole.hexdigest()
