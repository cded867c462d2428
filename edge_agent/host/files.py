"""Files that a person named: looked at and read in a way that nothing about them can end or hang the agent.

Rules:

* A file may be missing, a directory, a pipe that nobody writes to, a device, a link that leads nowhere or in a circle,
  in a directory that we may not enter, too large: each is one `FileError` that says place, cause and what mends it.
* It is looked at before it is opened: opening alone can hang (a pipe) or do harm (/dev/watchdog starts a countdown).
* What is read is bounded. A secret stands in no message.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_agent.errors import FileError

_MAX_SHOWN: Final = 1024
#: How much is read of a file that does not say how large it is.
_UNKNOWN_SIZE: Final = 1 << 16
_KINDS: Final = (
    (stat.S_ISDIR, "Is a directory"),
    (stat.S_ISFIFO, "is a pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)


def read(path: Path, *, limit: int) -> bytes:
    """Return the content of the file at `path`, of `limit` bytes at most. Raises `FileError`."""
    with _explained(path):
        _expect_file(path, os.stat(path))  # noqa: PTH116 - Path.stat resolves nothing more
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:  # noqa: PTH123 - a descriptor
            status = os.fstat(file.fileno())  # it may have been replaced meanwhile
            _expect_file(path, status)
            # Of what the kernel makes up as it is read (/proc) the size is 0. What is asked for takes memory at once.
            size = max(status.st_size, _UNKNOWN_SIZE)
            content = file.read(min(size, limit) + 1) if status.st_size <= limit else b""
    if max(len(content), status.st_size) > limit:
        raise FileError(f"{_shown(path)}: is too large: at most {limit} bytes are read; is it the right file?")
    return content


def exists(path: Path) -> bool:
    """Return whether there is a file at `path`; raises `FileError` when that can't be told, or it is no file.

    A link that leads nowhere is an error, not an absence: somebody meant a file to be there.
    """
    with _explained(path):
        try:
            _expect_file(path, os.stat(path))  # noqa: PTH116
        except FileNotFoundError:
            if path.is_symlink():
                raise
            return False
    return True


def look(path: Path) -> os.stat_result:
    """Return what the operating system tells of the file at `path`. Raises `FileError`."""
    with _explained(path):
        status = os.stat(path)  # noqa: PTH116
        _expect_file(path, status)
    return status


def listing(directory: Path, suffix: str) -> list[Path]:
    """Return what lies in `directory` and ends in `suffix`, in order of name, without what is hidden; empty when the
    directory is not there. Raises `FileError`.
    """
    with _explained(directory):
        try:
            names = os.listdir(directory)  # noqa: PTH208 - names alone
        except FileNotFoundError:
            if directory.is_symlink():
                raise
            return []
    return [directory / name for name in sorted(names) if name.endswith(suffix) and not name.startswith(".")]


def explain(path: Path, error: OSError | ValueError) -> FileError:
    """Return what an error of the operating system about `path` means, and what to do about it."""
    return FileError(f"{_shown(path)}: {_cause(path, error)}")


def exposed(path: Path) -> str | None:
    """Return who else may read or change the secret at `path`, and what mends it; None when only its owner and root may.

    None too for a file that can't be looked at, which reading it will tell, and for a credential of systemd: who may
    read those is the service manager's business.
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
        # Of a file that is not ours, less would be nothing for us either.
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
    """Return the name of a user, of ourselves when none is given; the number where it has no name."""
    number = os.geteuid() if number is None else number
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def _shown(path: Path) -> str:
    # Longer ones than Linux has are a mistake, or worse, and nothing that a log should hold.
    return str(path) if len(str(path)) <= _MAX_SHOWN else f"{str(path)[:_MAX_SHOWN]}…"


def _group(number: int) -> str:
    try:
        return f"group {grp.getgrgid(number).gr_name}"
    except KeyError:
        return f"group {number}"


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or a character that no path can hold
        raise explain(path, error) from error


def _expect_file(path: Path, status: os.stat_result) -> None:
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            raise FileError(f"{_shown(path)}: {name}, not a file; name the file itself")


def _cause(path: Path, error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return "no path can hold such a character; write the path anew"
    said = error.strerror or str(error)
    match error.errno:
        case errno.ENOENT if path.is_symlink():
            return f"{said}: it is a link to {path.readlink()}; mend the link, or put the file there"
        case errno.EACCES | errno.EPERM:
            return f"{said}: {_denied(path)}"
        case errno.ELOOP:
            return f"{said}: it is a link that leads round in a circle; mend the link"
        case errno.EIO:
            return f"{said}: the disk or card may be worn out; copy what is on it, and replace it"
    return f"{said}; check path and permissions"


def _denied(path: Path) -> str:
    """Say which part of the way to `path` is closed to us."""
    otherwise = "or put the file elsewhere" if os.geteuid() == 0 else "or, at a terminal, put sudo in front"
    for directory in reversed(Path(os.path.realpath(path)).parents):
        if not os.access(directory, os.X_OK, effective_ids=True):
            return f"{user()} may not enter {directory}; give that user the right to, {otherwise}"
    return f"{user()} may not read it; give that user the right to, by chown or chmod, {otherwise}"
