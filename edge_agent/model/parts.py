"""A model file that arrives in pieces: each is checked when it comes, and the whole can be continued after a restart.

The pieces lie at their places in one file, `.parts/<sha256>`. Nothing here waits for the disk but `finish`: what a power loss takes
away is missing afterwards, since every piece that is there is compared with its sha256 when the file is opened again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from edge_agent.contract.manifest import BLOB_BYTES, piece_size
from edge_agent.errors import StoreError, TrustError
from edge_agent.host.files import explained
from edge_agent.host.folder import Disk


class Part:
    """A file of `size` bytes with the sha256s of its pieces, open as `descriptor`, which it closes. Raises `FileError`."""

    def __init__(self, path: Path, descriptor: int, size: int, blobs: Sequence[str], *, disk: Disk) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size, self._blobs, self._disk = size, tuple(blobs), disk
        with explained(path):
            if os.fstat(descriptor).st_size > size:
                disk.shorten(descriptor, size)
            self._missing = {i for i in range(len(blobs)) if not self._fits(i, self._read(i))}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def missing(self) -> list[int]:
        """Return the numbers of the pieces that have not come."""
        return sorted(self._missing)

    def write(self, number: int, content: bytes) -> bool:
        """Write a piece at its place; False when it is not the one that is meant."""
        if not 0 <= number < len(self._blobs) or not self._fits(number, content):
            return False
        if number in self._missing:
            offset, rest = number * BLOB_BYTES, memoryview(content)
            with explained(self.path):
                while rest:
                    written = self._disk.write_at(self._descriptor, rest, offset)
                    offset, rest = offset + written, rest[written:]
            self._missing.discard(number)
        return True

    def finish(self) -> Path:
        """Return the path of the file once it is whole and on the disk. Pieces that went bad are missing again, and it raises
        `StoreError`; `TrustError` where they do not make the file that was announced. It reads everything and waits for the disk: a process apart should do it.
        """
        with explained(self.path):
            self._missing |= {i for i in range(len(self._blobs)) if not self._fits(i, self._read(i))}
            if self._missing:
                raise StoreError(
                    f"{self.path}: {len(self._missing)} of {len(self._blobs)} pieces are missing; fetch them"
                )
            whole = hashlib.sha256()
            for number in range(len(self._blobs)):
                whole.update(self._read(number))
            if whole.hexdigest() != self.path.name:
                # Who signed that is wrong, and nothing that may come again would help.
                raise TrustError(
                    f"{self.path}: its pieces do not make the file that was announced; sign the manifest again"
                )
            self._disk.sync(self._descriptor)
        return self.path

    def close(self) -> None:
        """Close it; what has come stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self, number: int) -> bytes:
        return os.pread(self._descriptor, piece_size(self._size, number), number * BLOB_BYTES)

    def _fits(self, number: int, content: bytes) -> bool:
        return (
            len(content) == piece_size(self._size, number)
            and hashlib.sha256(content).hexdigest() == self._blobs[number].lower()
        )
