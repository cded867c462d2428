"""Files that are there whole or not at all, whatever happens in between: no reader ever sees half a model."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from edge_agent.errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`, replacing what was there.

    The bytes go to a temporary file beside `path`, reach the disk, and only then take the name; the rename reaches the
    disk, too, before this returns. Raises `InputError` if the place can't be written; then `path` is as it was.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                # mkstemp() keeps others out; a model is for the agent's user to read, as far as the umask lets it.
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    except OSError as error:
        raise InputError(f"{path}: can't be written: {error.strerror or error}") from error


def _umask() -> int:
    # There is no way to ask for it without setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
