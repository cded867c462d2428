"""Reads files that a person named, and replaces one, so that no file can crash or hang the agent.

Rules:

* A file may be missing, a directory, a pipe that nobody writes to, a device, a dangling or circular link, too large, or in
  a directory that we may not enter. Each of these is one `FileError` that gives place, cause and fix.
* Its type is checked before it is opened: opening alone can hang (a pipe) or cause damage (/dev/watchdog starts a countdown).
* Reads are bounded. Messages contain no secrets.
* A file is written beside its place and renamed, so that whoever reads it finds the old one or the new one, whole.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from edge_agent.errors import FileError

_MAX_SHOWN: Final = 1024
#: Bytes read from a file that does not report its size.
_UNKNOWN_SIZE: Final = 1 << 16
#: Where systemd keeps the directories of services with a user of their own (DynamicUser=): closed, and to stay so.
_PRIVATE: Final = Path("/var/lib/private")
_KINDS: Final = (
    (stat.S_ISDIR, "Is a directory"),
    (stat.S_ISFIFO, "is a pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)
#: What follows the system's own words about an error.
_ADVICE: Final = {
    errno.ELOOP: ": it is a circular link; fix the link",
    errno.EIO: ": the disk or SD card may be failing; copy its data and replace it",
    errno.ENOSPC: "; free some space there, or name another directory",
    errno.EDQUOT: "; free some space there, or name another directory",
    errno.EROFS: "; name a directory that can be written to",
}


def read(path: Path, *, limit: int) -> bytes:
    """Return the content of the file at `path`, at most `limit` bytes. Raises `FileError`."""
    with explained(path):
        _expect_file(path, os.stat(path))  # noqa: PTH116 - Path.stat resolves nothing more
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:  # noqa: PTH123 - a descriptor
            status = os.fstat(file.fileno())  # it may have been replaced meanwhile
            _expect_file(path, status)
            # Files that the kernel generates (/proc) have size 0. `read` allocates the requested size at once.
            size = max(status.st_size, _UNKNOWN_SIZE)
            content = file.read(min(size, limit) + 1) if status.st_size <= limit else b""
    if max(len(content), status.st_size) > limit:
        raise FileError(
            f"{_shown(path)}: is too large: at most {limit} bytes are read; check that it is the right file"
        )
    return content


def exists(path: Path) -> bool:
    """Return whether there is a file at `path`; raises `FileError` when that is unknown, or it is not a regular file.

    A dangling link is an error, not a missing file: somebody meant a file to be there.
    """
    with explained(path):
        try:
            _expect_file(path, os.stat(path))  # noqa: PTH116
        except FileNotFoundError:
            if path.is_symlink():
                raise
            return False
    return True


def look(path: Path) -> os.stat_result:
    """Return the status of the file at `path`. Raises `FileError`."""
    with explained(path):
        status = os.stat(path)  # noqa: PTH116
        _expect_file(path, status)
    return status


def listing(directory: Path, suffix: str) -> list[Path]:
    """Return the files in `directory` that end in `suffix`, sorted by name, without hidden ones; empty when the directory
    does not exist. Raises `FileError`.
    """
    with explained(directory):
        try:
            names = os.listdir(directory)  # noqa: PTH208 - names alone
        except FileNotFoundError:
            if directory.is_symlink():
                raise
            return []
    return [directory / name for name in sorted(names) if name.endswith(suffix) and not name.startswith(".")]


def replace(path: Path, content: Iterable[bytes], mode: int) -> None:
    """Write a file with this content and mode in the place of `path`. Raises `FileError`.

    It is not waited for until it is on a disk: this is for a directory in memory.
    """
    # Hidden, and with another ending: whoever collects the files of a directory passes over it.
    beside = path.with_name(f".{path.name}.new")
    with explained(path, _writing_denied):
        try:
            # A remainder of ours, or what somebody put there to have us write elsewhere: neither is opened.
            beside.unlink(missing_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            with open(descriptor, "wb", buffering=1 << 16) as file:  # noqa: PTH123 - a descriptor
                os.fchmod(descriptor, mode)  # whatever the umask
                file.writelines(content)
            beside.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise


def remove(path: Path) -> None:
    """Remove the file at `path`, if there is one. Raises `FileError`."""
    with explained(path, _writing_denied):
        path.unlink(missing_ok=True)


def explain(path: Path, error: OSError | ValueError) -> FileError:
    """Return the cause and the fix for an `OSError` about `path`."""
    return FileError(f"{_shown(path)}: {_cause(path, error, _denied)}")


def exposed(path: Path) -> str | None:
    """Return who else may read or change the secret at `path`, with the fix; None when only its owner and root may.

    Also None for a file that can't be examined (reading it will report that), and for a systemd credential, whose
    permissions the service manager sets.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory and Path(directory) in path.parents:
        return None
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        who = "everybody on this machine" if mode & 0o007 else f"everybody in {_group(status.st_gid)}"
        # If the file is not ours, fewer permissions would lock us out, too.
        ours = status.st_uid == os.geteuid()
        fix = (
            f"chmod 600 {path}"
            if ours
            else "make it a credential of systemd, or a file of the agent's user with mode 600"
        )
        return f"{path}: is open to {who} (mode {mode:03o}); {fix}"
    if status.st_uid not in {0, os.geteuid()}:
        return f"{path}: belongs to {user(status.st_uid)}, and the agent runs as {user()}; chown root {path}"
    return None


def user(number: int | None = None) -> str:
    """Return the name of a user (default: ours), or the number if there is no name."""
    number = os.geteuid() if number is None else number
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def _shown(path: Path) -> str:
    # A path longer than Linux allows is a mistake or an attack; the log should not contain all of it.
    return str(path) if len(str(path)) <= _MAX_SHOWN else f"{str(path)[:_MAX_SHOWN]}…"


def _group(number: int) -> str:
    try:
        return f"group {grp.getgrgid(number).gr_name}"
    except KeyError:
        return f"group {number}"


@contextlib.contextmanager
def explained(path: Path, denied: Callable[[Path], str] | None = None) -> Iterator[None]:
    """Raise a `FileError` about `path` for an `OSError` within; `denied` says what to do about missing permissions."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or a character that no path can hold
        raise FileError(f"{_shown(path)}: {_cause(path, error, denied or _denied)}") from error


def _expect_file(path: Path, status: os.stat_result) -> None:
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            raise FileError(f"{_shown(path)}: {name}, not a file; name the file itself")


def _cause(path: Path, error: OSError | ValueError, denied: Callable[[Path], str]) -> str:
    if not isinstance(error, OSError):
        return "contains a character that paths can't have; correct the path"
    said = error.strerror or str(error)
    if error.errno == errno.ENOENT and path.is_symlink():
        return f"{said}: it is a link to {path.readlink()}; fix the link, or put the file there"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{said}: {denied(path)}"
    return said + _ADVICE.get(error.errno or 0, "; check path and permissions")


def _denied(path: Path) -> str:
    """Return which directory or file on the way to `path` we may not access."""
    otherwise = "or move the file elsewhere" if os.geteuid() == 0 else "or, in a terminal, use sudo"
    for directory in reversed(Path(os.path.realpath(path)).parents):
        if not os.access(directory, os.X_OK, effective_ids=True):
            if directory == _PRIVATE and os.geteuid() != 0:
                return f"{user()} may not enter {directory}; use sudo"
            return f"{user()} may not enter {directory}; allow it with chmod or chown, {otherwise}"
    return f"{user()} may not read it; allow it with chmod or chown, {otherwise}"


def _writing_denied(path: Path) -> str:
    return f"{user()} may not write in {path.parent}; allow it with chmod or chown, or name another directory"
