"""Changes a directory so that a crash or a power loss at any moment leaves the old or the new, whole.

Rules:

* A file is written beside its place (`STAGED`), made durable, and then renamed into it. A rename is made durable in the directory
  that it leads to, then in the one that it comes from.
* What is to go is renamed (`GONE`) and then removed. Both names lie in the top directory, so every change of a folder below changes
  the time of the top directory, too, in the same step: one `stat` tells whether anything changed.
* Nothing is addressed by its path: everything is opened relative to a directory that is open, and no link is followed. Who may write
  in the directory can't have us write elsewhere.
* root changes a directory as the owner of that directory. So what is made there is the owner's, and root's rights do no harm there.
* All changes are calls of `Disk`: a test ends the process, or has the disk full, at each of them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, Literal, Self, overload

from edge_agent.errors import FileError, StoreBusyError
from edge_agent.host.files import explained, user

#: Names in the top directory: what is being written, and what is being removed. Remainders of a crash are removed.
STAGED: Final = ".new"
GONE: Final = ".gone"
#: Most names of a directory that are looked at.
MOST_ENTRIES: Final = 4096
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOOK_AGAIN: Final = 0.02


class Disk:
    """The system calls that change what is on a disk. Names are relative to the open directory `at`."""

    def create(self, name: str, at: int, mode: int) -> int:
        """Create a file and return its descriptor."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, mode, dir_fd=at)

    def write(self, descriptor: int, content: bytes | memoryview) -> int:
        """Write some of the content and return how much."""
        return os.write(descriptor, content)

    def write_at(self, descriptor: int, content: bytes | memoryview, offset: int) -> int:
        """Write some of the content at an offset and return how much."""
        return os.pwrite(descriptor, content, offset)

    def shorten(self, descriptor: int, size: int) -> None:
        """Cut a file at a size."""
        os.ftruncate(descriptor, size)

    def permit(self, descriptor: int, mode: int) -> None:
        """Set the permissions of a file."""
        os.fchmod(descriptor, mode)

    def date(self, descriptor: int, modified: int) -> None:
        """Set the time of a file, in nanoseconds since 1970."""
        os.utime(descriptor, ns=(modified, modified))

    def sync(self, descriptor: int) -> None:
        """Wait until a file's content, or the names in a directory, are on the disk."""
        os.fsync(descriptor)

    def mkdir(self, name: str, at: int, mode: int) -> None:
        """Create a directory."""
        os.mkdir(name, mode, dir_fd=at)

    def link(self, target: str, name: str, at: int) -> None:
        """Create a symbolic link."""
        os.symlink(target, name, dir_fd=at)

    def rename(self, name: str, at: int, new: str, new_at: int) -> None:
        """Move a name into the place of another, at once."""
        os.rename(name, new, src_dir_fd=at, dst_dir_fd=new_at)

    def unlink(self, name: str, at: int) -> None:
        """Remove a file or a link."""
        os.unlink(name, dir_fd=at)

    def rmdir(self, name: str, at: int) -> None:
        """Remove an empty directory."""
        os.rmdir(name, dir_fd=at)


class Folder:
    """An open directory. Its methods raise `FileError`; use it as a context manager."""

    def __init__(self, path: Path, descriptor: int, disk: Disk) -> None:
        self.path = path
        self.descriptor = descriptor
        self._disk = disk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    @overload
    def folder(self, name: str, *, create: Literal[True], lasting: bool = True) -> Folder: ...
    @overload
    def folder(self, name: str) -> Folder | None: ...
    def folder(self, name: str, *, create: bool = False, lasting: bool = True) -> Folder | None:
        """Open a directory in this one; None when there is none. `create`: then it is created, durably if it is to be `lasting`."""
        path = self.path / name
        with explained(path, _denied):
            for _ in range(2):
                try:
                    descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self.descriptor)
                except FileNotFoundError:
                    if not create:
                        return None
                    self._disk.mkdir(name, self.descriptor, 0o755)
                    if lasting:
                        self._disk.sync(self.descriptor)
                except NotADirectoryError:
                    raise FileError(f"{path}: is not a directory, or a link to one; move it elsewhere") from None
                else:
                    return Folder(path, descriptor, self._disk)
        raise FileError(f"{path}: keeps vanishing; look for what removes it")

    def names(self) -> list[str]:
        """Return the names in it, sorted; `MOST_ENTRIES` at most."""
        with explained(self.path), os.scandir(self.descriptor) as entries:
            return sorted(entry.name for entry in islice(entries, MOST_ENTRIES))

    def look(self, name: str) -> os.stat_result | None:
        """Return the status of what has this name, of a link itself; None when there is nothing."""
        with explained(self.path / name):
            try:
                return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def target(self, name: str) -> str | None:
        """Return where a link leads; None when there is nothing. Raises `FileError` when it is no link."""
        with explained(self.path / name):
            try:
                return os.readlink(name, dir_fd=self.descriptor)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                raise FileError(f"{self.path / name}: is not a link; move it elsewhere") from None

    def open(self, name: str, flags: int = os.O_RDONLY) -> int | None:
        """Open a regular file and return its descriptor; None when there is nothing. Nothing else is opened."""
        path = self.path / name
        with explained(path):
            status = self.look(name)
            if status is None:
                return None
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{path}: is not a regular file; move it elsewhere")
            return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.descriptor)

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the content of a file, None when there is none; more than `limit` bytes are an error."""
        descriptor = self.open(name)
        if descriptor is None:
            return None
        with open(descriptor, "rb") as file, explained(self.path / name):  # noqa: PTH123 - a descriptor
            content = file.read(limit + 1)
        if len(content) > limit:
            raise FileError(f"{self.path / name}: is too large: at most {limit} bytes are read; move it elsewhere")
        return content

    # -- changes, of the top directory

    def stage(self, content: Iterable[bytes], mode: int, modified: int | None = None) -> None:
        """Write a file, `STAGED`, and make it durable. `modified` is its time, in nanoseconds since 1970."""
        with explained(self.path / STAGED, _denied):
            descriptor = self._disk.create(STAGED, self.descriptor, mode)
            try:
                for piece in content:
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[self._disk.write(descriptor, rest) :]
                self.finish(descriptor, mode, modified)
            except OSError:
                with contextlib.suppress(
                    OSError
                ):  # a full disk needs the space; what stays is removed by the next change
                    self._disk.unlink(STAGED, self.descriptor)
                raise
            finally:
                os.close(descriptor)

    def finish(self, descriptor: int, mode: int, modified: int | None) -> None:
        """Give a file permissions and time, and make it durable."""
        self._disk.permit(descriptor, mode)  # whatever the umask
        if modified is not None:
            self._disk.date(descriptor, modified)
        self._disk.sync(descriptor)

    def stage_link(self, target: str) -> None:
        """Create a link, `STAGED`, and make it durable."""
        with explained(self.path / STAGED, _denied):
            try:
                self._disk.link(target, STAGED, self.descriptor)
            except OSError as error:
                if error.errno in (errno.EPERM, errno.EOPNOTSUPP):  # FAT
                    raise FileError(
                        f"{self.path}: its file system has no links; name a directory on another one ([models] directory)"
                    ) from error
                raise
            self._disk.sync(self.descriptor)

    def move(self, name: str, to: Folder, new: str) -> None:
        """Move a name into the place of another, and make that durable."""
        with explained(to.path / new, _denied):
            self._disk.rename(name, self.descriptor, new, to.descriptor)
            self._disk.sync(to.descriptor)
            if to is not self:
                self._disk.sync(self.descriptor)

    def remove(self, name: str, top: Folder) -> None:
        """Remove a file or a link durably, by way of the top directory."""
        if self.look(name) is None:
            return
        self.move(name, top, GONE)
        with explained(top.path / GONE, _denied):
            self._disk.unlink(GONE, top.descriptor)

    def remove_folder(self, name: str) -> None:
        """Remove a directory in this one if it is empty."""
        with explained(self.path / name, _denied):
            try:
                self._disk.rmdir(name, self.descriptor)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise

    def sweep(self) -> None:
        """Remove what a crash left in the top directory."""
        for name in (STAGED, GONE):
            if self.look(name) is not None:
                with explained(self.path / name, _denied):
                    self._disk.unlink(name, self.descriptor)


@contextlib.contextmanager
def changing(path: Path, disk: Disk, patience: float) -> Iterator[Folder]:
    """Open a directory for changes, as its owner, and keep others from changing it meanwhile; it is created if it is missing.

    Raises `FileError`, or `StoreBusyError` when others change it for more than `patience` seconds.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_entered(path.absolute(), disk, stack))
        _lock(folder, patience)
        folder.sweep()
        yield folder


def reading(path: Path, disk: Disk) -> Folder | None:
    """Open a directory for reading; None when there is none. Raises `FileError`."""
    with explained(path):
        try:
            return Folder(path, os.open(path, _DIRECTORY), disk)
        except FileNotFoundError:
            if path.is_symlink():
                raise
            return None


def _entered(path: Path, disk: Disk, stack: contextlib.ExitStack) -> Folder:
    parent = _parent(path, disk)
    try:
        with explained(path):
            above = os.fstat(parent)
            try:
                entry = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                entry = None
        owner = above if entry is None else entry
        roots_own = entry is not None and entry.st_uid == 0 and stat.S_ISDIR(entry.st_mode)
        if roots_own and os.geteuid() == 0 and above.st_uid != 0:
            # `sudo mkdir` in the service's directory: the service could not replace anything in it.
            owner = above
            with explained(path):
                given = os.open(path.name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
                try:
                    os.fchown(given, above.st_uid, above.st_gid)
                finally:
                    os.close(given)
        stack.enter_context(_as_owner(path, owner))
        with explained(path, _denied):
            if entry is None:
                with contextlib.suppress(FileExistsError):
                    disk.mkdir(path.name, parent, 0o755)
                disk.sync(parent)
            # A link is followed: with no more rights than those of whoever made it.
            descriptor = os.open(path.name, _DIRECTORY | (os.O_NOFOLLOW if roots_own else 0), dir_fd=parent)
        return Folder(path, descriptor, disk)
    finally:
        os.close(parent)


def _parent(path: Path, disk: Disk) -> int:
    """Open the directory above, which is created, as the owner of the one above it, if it is missing."""
    with explained(path.parent):
        try:
            return os.open(path.parent, _DIRECTORY)
        except FileNotFoundError:
            if path.parent.is_symlink() or path.parent == path:
                raise
    with contextlib.ExitStack() as stack:
        stack.enter_context(_entered(path.parent, disk, stack))
    with explained(path.parent):
        return os.open(path.parent, _DIRECTORY)


@contextlib.contextmanager
def _as_owner(path: Path, owner: os.stat_result) -> Iterator[None]:
    """Act as the owner of a directory, where we are root; it changes the whole process."""
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    with explained(path):
        os.setgroups([])
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _lock(folder: Folder, patience: float) -> None:
    ends = time.monotonic() + patience
    with explained(folder.path):
        while True:
            try:
                fcntl.flock(folder.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= ends:
                    raise StoreBusyError(
                        f"{folder.path}: another process is changing it; wait until it is done, and try again"
                    ) from None
                time.sleep(_LOOK_AGAIN)
            else:
                return


def _denied(path: Path) -> str:
    return f"{user()} may not write in {path.parent}; use sudo, or name another directory ([models] directory)"
