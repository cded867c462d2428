"""The store of models: what was installed, which version is in use, and what was in use before.

    <directory>/<name>/<version>-<first 8 digits of sha256>.onnx       and .onnx.minisig beside it, where there is one
    <directory>/<name>/current    a link to the one in use
    <directory>/<name>/history    file names, the one in use last first: a way back goes down the list
    <directory>/state.json        what updates remember (edge_agent.model.state)
    <directory>/.parts/           files that are arriving

Rules:

* A crash or a power loss at any moment leaves the old or the new (`edge_agent.host.folder`): a version appears whole, with its signature
  before it; `history` is written before `current`, and means the same before and after that.
* What is in use is never taken away by anything but `use`, `rollback` and `remove`.
* The content of the directory is input from outside. What does not belong there is passed over; in the place of something that
  does, it is an error that says so.
* Reading writes nothing, and needs no lock. Changes take a lock, and wait for the disk: a process apart should do the large ones.

Why it is so: docs/decisions/0041-the-store.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from edge_agent.contract.manifest import BLOB_BYTES
from edge_agent.contract.minisign import SUFFIX
from edge_agent.errors import FileError, StoreError
from edge_agent.host.files import explained
from edge_agent.host.folder import STAGED, Disk, Folder, changing, reading
from edge_agent.model import shelf
from edge_agent.model.parts import Part, open_part
from edge_agent.model.shelf import CURRENT, HISTORY, MAX_HISTORY, Entry, Version, shown
from edge_agent.model.state import MAX_STATE_BYTES, State, dump, parse
from edge_agent.wording import mebibytes

__all__ = ["Part", "State", "Store", "Version"]

_STATE: Final = "state.json"
_PARTS: Final = ".parts"
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BEGINNING: Final = re.compile(r"[0-9a-f]{4,64}", re.ASCII)
#: Nanoseconds within which a directory may change again without another time: the kernel's clock for that has ticks.
_TICK: Final = 50_000_000
#: The latest time that a file may have, in nanoseconds.
_LATEST: Final = 1 << 62


class Store:
    """The store in `directory`, of which `keep` versions of each model are kept. It need not exist. Raises `FileError` and `StoreError`.

    `patience`: how many seconds a change waits for those of other processes before it raises `StoreBusyError`.
    """

    def __init__(self, directory: Path, keep: int = 3, *, patience: float = 0.0, disk: Disk | None = None) -> None:
        self.directory = directory
        self._keep = keep
        self._patience = patience
        self._disk = disk or Disk()
        self._digests: dict[tuple[int, ...], str] = {}

    # -- reading

    def names(self) -> list[str]:
        """Return the names of the models with a version in the store."""
        with contextlib.ExitStack() as stack:
            top = self._reading(stack)
            return [] if top is None else [name for name in top.names() if self._is_model(top, name)]

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a model, the newest first."""
        with self._model(name) as folder:
            return [] if folder is None else [self._version(name, folder, entry) for entry in shelf.entries(folder)]

    def current(self, name: str) -> Version | None:
        """Return the version in use, None when there is none in the store."""
        with self._model(name) as folder:
            entry = None if folder is None else shelf.current(folder)
            return None if folder is None or entry is None else self._version(name, folder, entry)

    def locate(self, name: str) -> Path | None:
        """Return the file in use, None when there is none in the store; without reading it."""
        if not shelf.is_name(name):
            return None
        with self._model(name) as folder:
            entry = None if folder is None else shelf.current(folder)
            return None if folder is None or entry is None else folder.path / entry.file

    def find(self, name: str, which: str) -> Version:
        """Return the version that `use` would put into use."""
        with self._model(name) as folder:
            if folder is None:
                raise self._none(name)
            return self._choose(name, folder, which)

    def before(self, name: str) -> Version | None:
        """Return the version to which `rollback` would go."""
        with self._model(name) as folder:
            entry = None if folder is None else shelf.before(folder)
            return None if folder is None or entry is None else self._version(name, folder, entry)

    def read(self) -> State:
        """Return what updates remember."""
        with contextlib.ExitStack() as stack:
            top = self._reading(stack)
            return State() if top is None else _read(top)

    def stamp(self) -> object:
        """Return what differs whenever something here was changed: it takes one `stat`.

        It may differ without a change, too, shortly after one. It says that there was a change, not what: compare `locate`.
        """
        try:
            status = os.stat(self.directory)  # noqa: PTH116
        except OSError as error:
            return error.errno
        settled = abs(time.time_ns() - status.st_mtime_ns) > _TICK
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, settled

    # -- changing

    def add(self, name: str, version: str, content: bytes | Path, signature: bytes | None = None) -> Version:
        """Add a version, which is not in use then; a file of `part` is moved, any other copied. Again, it does nothing.

        `signature` is put beside it. The caller has opened and tested it.
        """
        shelf.check_name(name)
        shelf.check_version(name, version)
        with contextlib.ExitStack() as stack:
            source = None if isinstance(content, bytes) else stack.enter_context(shelf.opened(content))
            sha256 = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else shelf.digest(source or 0)
            top = self._changing(stack)
            folder = self._create(stack, top, name)
            file = f"{version}-{sha256[:8]}.onnx"
            entries = {entry.file: entry for entry in shelf.entries(folder)}
            if signature is not None:
                self._put(top, folder, file + SUFFIX, signature)
            if file in entries:
                there = self._version(name, folder, entries[file])
                if there.sha256 == sha256:
                    return there
                if not there.damaged:
                    raise StoreError(f"{there.path}: another file begins with the same 8 digits; remove that one first")
            # In the order of adding, whatever the clock says: it may be that of 1970.
            latest = max((entry.status.st_mtime_ns + 1000 for entry in entries.values()), default=0)
            modified = min(max(time.time_ns(), latest), _LATEST)
            if source is not None and isinstance(content, Path) and self._is_part(content, sha256):
                self._take_part(stack, top, sha256, source, modified)
            else:
                top.stage([content] if isinstance(content, bytes) else shelf.chunks(source or 0), 0o644, modified)
            top.move(STAGED, folder, file)
            added = shelf.entry_of(folder, file)
            if added is None:
                raise StoreError(f"{folder.path / file}: vanished; look for what removes it")
            return self._version(name, folder, added)

    def use(self, name: str, which: str) -> Version:
        """Put a version into use: `which` is a version, or the beginning of a sha256. The one before is remembered."""
        with contextlib.ExitStack() as stack:
            top, folder = self._change(stack, name)
            chosen = self._choose(name, folder, which)
            if chosen.damaged:
                raise StoreError(f"{chosen.path}: is damaged: its sha256 is {chosen.sha256[:8]}…; install it again")
            file = chosen.path.name
            with contextlib.suppress(StoreError, FileError):  # what lies in its place is replaced
                if (now := shelf.current(folder)) is not None and now.file == file:
                    return chosen
            # The one in use keeps its own way back below until the link is replaced, even where that leads to the chosen one.
            history = [file, *dict.fromkeys(shelf.way_back(folder))]
            self._put_history(top, folder, history)
            self._switch(top, folder, file)
            self._put_history(top, folder, list(dict.fromkeys(history)))
            return chosen

    def rollback(self, name: str) -> Version:
        """Go back to the version that was in use before."""
        with contextlib.ExitStack() as stack:
            top, folder = self._change(stack, name)
            entry = shelf.before(folder)
            if entry is None:
                raise StoreError(f"model {name}: no version was in use before; choose one with edge-agent model use")
            back = self._version(name, folder, entry)
            if back.damaged:
                raise StoreError(f"{back.path}: is damaged; choose another with edge-agent model use")
            self._switch(top, folder, entry.file)
            return back

    def remove(self, name: str, which: str | None = None) -> None:
        """Remove a version that is not in use; without `which`, all of a model, so that another place is looked in again."""
        with contextlib.ExitStack() as stack:
            top, folder = self._change(stack, name)
            if which is not None:
                chosen = self._choose(name, folder, which)
                if chosen.path.name == shelf.link(folder):
                    raise StoreError(
                        f"model {name}: {chosen.version} is in use; use another version first, or remove all of {name}"
                    )
                self._drop(top, folder, chosen.path.name)
                return
            folder.remove(CURRENT, top)  # first: from here on no version is in use
            for entry in shelf.entries(folder):
                self._drop(top, folder, entry.file)
            for file in shelf.orphans(folder):
                folder.remove(file, top)
            folder.remove(HISTORY, top)
            top.remove_folder(name)

    def prune(self, name: str) -> None:
        """Remove old versions: those in use, in use before, and the newest are kept, and as many as `keep` in all."""
        with contextlib.ExitStack() as stack:
            top, folder = self._change(stack, name)
            entries = [entry.file for entry in shelf.entries(folder)]
            before = shelf.before(folder)
            kept = [file for file in (shelf.link(folder), before and before.file, *entries[:1]) if file]
            kept = list(dict.fromkeys([*kept, *entries]))[: max(self._keep, len(set(kept)))]
            for file in entries:
                if file not in kept:
                    self._drop(top, folder, file)
            for file in shelf.orphans(folder):
                folder.remove(file, top)

    def write(self, state: State) -> None:
        """Replace what updates remember; only where it differs."""
        self.change(lambda _: state)

    def change(self, to: Callable[[State], State]) -> State:
        """Replace what updates remember by what `to` makes of it, which no other process changes meanwhile; return that."""
        with contextlib.ExitStack() as stack:
            top = self._changing(stack)
            before = _read(top)
            state = to(before)
            if state != before:
                top.stage([dump(state)], 0o600)
                top.move(STAGED, top, _STATE)
            return state

    def part(self, sha256: str, size: int, blobs: Sequence[str]) -> Part:
        """Begin, or go on, to receive a file of `size` bytes in pieces with these sha256s, if they are known; close it when done."""
        if not _SHA256.fullmatch(sha256) or (blobs and len(blobs) != -(-size // BLOB_BYTES)):
            raise StoreError(
                f"model file {shown(sha256)}: {len(blobs)} pieces for {size} bytes; sign the manifest again"
            )
        with contextlib.ExitStack() as stack:
            top = self._changing(stack)
            parts = stack.enter_context(top.folder(_PARTS, create=True, lasting=False))
            descriptor = parts.open(sha256, os.O_RDWR)
            if descriptor is None:
                self._need(parts, size)
                with explained(parts.path / sha256):
                    descriptor = self._disk.create(sha256, parts.descriptor, 0o600)
            return open_part(parts.path / sha256, descriptor, size, blobs, disk=self._disk)

    def arriving(self) -> set[str]:
        """Return the files in the folder of those that are arriving."""
        with contextlib.ExitStack() as stack:
            top = self._reading(stack)
            parts = None if top is None else top.folder(_PARTS)
            return set() if parts is None else set(stack.enter_context(parts).names())

    def clear_parts(self, keep: Collection[str] = ()) -> None:
        """Remove files that were arriving, but those with the sha256s of `keep`."""
        if not self.arriving() - set(keep):
            return
        with contextlib.ExitStack() as stack:
            top = self._changing(stack)
            parts = self._create(stack, top, _PARTS)
            for file in parts.names():
                if file not in keep:
                    parts.remove(file, top)

    # -- how

    def _reading(self, stack: contextlib.ExitStack) -> Folder | None:
        top = reading(self.directory, self._disk)
        return None if top is None else stack.enter_context(top)

    def _changing(self, stack: contextlib.ExitStack) -> Folder:
        return stack.enter_context(changing(self.directory, self._disk, self._patience))

    def _change(self, stack: contextlib.ExitStack, name: str) -> tuple[Folder, Folder]:
        """Open the top directory and that of a model, which must be there."""
        with self._model(name) as folder:
            if folder is None:
                raise self._none(name)
        top = self._changing(stack)
        return top, self._create(stack, top, name)

    def _none(self, name: str) -> StoreError:
        return StoreError(
            f"model {name}: no version of it in {self.directory}; install one with edge-agent model install"
        )

    def _create(self, stack: contextlib.ExitStack, top: Folder, name: str) -> Folder:
        return stack.enter_context(top.folder(name, create=True))

    @contextlib.contextmanager
    def _model(self, name: str) -> Iterator[Folder | None]:
        shelf.check_name(name)
        with contextlib.ExitStack() as stack:
            top = self._reading(stack)
            status = None if top is None else top.look(name)
            if top is None or status is None or stat.S_ISREG(status.st_mode):
                yield None  # a file of somebody else's, without an ending
                return
            folder = top.folder(name)
            yield None if folder is None else stack.enter_context(folder)

    def _is_model(self, top: Folder, name: str) -> bool:
        status = top.look(name)
        if not shelf.is_name(name) or status is None or not stat.S_ISDIR(status.st_mode):
            return False
        folder = top.folder(name)
        if folder is None:
            return False
        with folder:
            return bool(shelf.entries(folder)) or folder.look(CURRENT) is not None

    def _version(self, name: str, folder: Folder, entry: Entry) -> Version:
        status = entry.status
        key = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        if key not in self._digests:
            try:
                descriptor = folder.open(entry.file)
            except FileError:
                descriptor = None
            if descriptor is None:
                return Version(
                    name, entry.version, "", folder.path / entry.file, status.st_size, status.st_mtime_ns / 1e9
                )
            try:
                with explained(folder.path / entry.file):
                    self._digests[key] = shelf.digest(descriptor)
            finally:
                os.close(descriptor)
        sha256 = self._digests[key]
        return Version(name, entry.version, sha256, folder.path / entry.file, status.st_size, status.st_mtime_ns / 1e9)

    def _choose(self, name: str, folder: Folder, which: str) -> Version:
        there = [self._version(name, folder, entry) for entry in shelf.entries(folder)]
        found = [one for one in there if one.version == which]
        if not found and _BEGINNING.fullmatch(which):
            found = [one for one in there if one.sha256.startswith(which)]
        if not found:
            said = ", ".join(f"{one.version} ({one.sha256[:8]})" for one in there) or "none"
            raise StoreError(
                f"model {name}: no version {shown(which)} in the store; there are: {said}; name one of them"
            )
        if len(found) > 1:
            said = ", ".join(one.sha256[:8] for one in found)
            raise StoreError(f"model {name}: {which} is ambiguous: {said}; name one by the beginning of its sha256")
        return found[0]

    def _put(self, top: Folder, folder: Folder, file: str, content: bytes) -> None:
        """Write a small file where it is not there already with this content."""
        with contextlib.suppress(FileError):
            if folder.read(file, max(len(content), 1)) == content:
                return
        top.stage([content], 0o644)
        top.move(STAGED, folder, file)

    def _put_history(self, top: Folder, folder: Folder, history: list[str]) -> None:
        self._put(top, folder, HISTORY, "".join(f"{file}\n" for file in history[:MAX_HISTORY]).encode())

    def _switch(self, top: Folder, folder: Folder, file: str) -> None:
        top.stage_link(file)
        top.move(STAGED, folder, CURRENT)

    def _drop(self, top: Folder, folder: Folder, file: str) -> None:
        folder.remove(file, top)
        folder.remove(file + SUFFIX, top)

    def _is_part(self, path: Path, sha256: str) -> bool:
        return path == self.directory / _PARTS / sha256 or path == self.directory.absolute() / _PARTS / sha256

    def _take_part(self, stack: contextlib.ExitStack, top: Folder, sha256: str, source: int, modified: int) -> None:
        parts = self._create(stack, top, _PARTS)
        with explained(parts.path / sha256):
            parts.finish(source, 0o644, modified)
        parts.move(sha256, top, STAGED)

    def _need(self, folder: Folder, size: int) -> None:
        """Raise `FileError` when a file of this size would not fit."""
        with explained(folder.path):
            room = os.fstatvfs(folder.descriptor)
        free = room.f_bavail * room.f_frsize
        if size > free:
            raise FileError(f"{folder.path}: {mebibytes(free)} free for {mebibytes(size)}; free some space there")


def _read(top: Folder) -> State:
    content = top.read(_STATE, MAX_STATE_BYTES)
    return State() if content is None else parse(content, str(top.path / _STATE))
