"""A model file that arrives in pieces: each is checked when it comes, and the whole can be continued after a restart.

The pieces lie at their places in one file, `.parts/<sha256>`. Nothing here waits for the disk but `finish`: what a power loss takes
away is missing afterwards, since every piece that is there is compared with its sha256 when the file is opened again; or, where only that of the
whole is known, with it at the end.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from edge_agent.contract.manifest import BLOB_BYTES, MAX_MESSAGE_BYTES, piece_size
from edge_agent.errors import StoreError, TrustError
from edge_agent.host.files import explained
from edge_agent.host.folder import Disk


class Part:
    """A file of `size` bytes with the sha256s of its pieces, open as `descriptor`, which it closes. Raises `FileError`."""

    #: The number of pieces, as far as it is known.
    count: int

    def __init__(self, path: Path, descriptor: int, size: int, blobs: Sequence[str], *, disk: Disk) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size, self._blobs, self._disk = size, tuple(blobs), disk
        self.count = -(-size // BLOB_BYTES)
        self._missing: set[int] = set()
        with explained(path):
            if os.fstat(descriptor).st_size > size:
                disk.shorten(descriptor, size)
            self._look()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def there(self) -> int:
        """How many pieces have come."""
        return self.count - len(self._missing)

    def missing(self) -> list[int]:
        """Return the numbers of the pieces that are to be fetched, as far as they are known."""
        return sorted(self._missing)

    def write(self, number: int, content: bytes) -> bool:
        """Write a piece at its place; False when it is not the one that is meant."""
        if not 0 <= number < len(self._blobs) or not self._fits(number, content):
            return False
        if number in self._missing:
            self._write(number * BLOB_BYTES, content)
            self._missing.discard(number)
        return True

    def instead(self, number: int) -> int:
        """Return which piece is to be asked for when this one did not come, or was not what it should be."""
        return number

    def finish(self) -> Path:
        """Return the path of the file once it is whole and on the disk. Pieces that went bad are missing again, and it raises
        `StoreError`; `TrustError` where they do not make the file that was announced. It reads everything and waits for the disk: a process apart should do it.
        """
        with explained(self.path):
            self._look()
            if (lacking := self.count - self.there) > 0:
                raise StoreError(f"{self.path}: {lacking} of {self.count} pieces are missing; fetch them")
            whole = hashlib.sha256()
            for start in range(0, self._size, BLOB_BYTES):
                whole.update(os.pread(self._descriptor, min(BLOB_BYTES, self._size - start), start))
            if whole.hexdigest() != self.path.name:
                raise self._another()
            self._disk.sync(self._descriptor)
        return self.path

    def close(self) -> None:
        """Close it; what has come stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _look(self) -> None:
        """Find what is there."""
        self._missing |= {i for i in range(len(self._blobs)) if not self._fits(i, self._read(i))}

    def _another(self) -> StoreError | TrustError:
        """Return what is wrong with a file that is whole, but not the one that was announced."""
        # Who signed that is wrong, and nothing that may come again would help.
        return TrustError(f"{self.path}: its pieces do not make the file that was announced; sign the manifest again")

    def _write(self, offset: int, content: bytes) -> None:
        rest = memoryview(content)
        with explained(self.path):
            while rest:
                written = self._disk.write_at(self._descriptor, rest, offset)
                offset, rest = offset + written, rest[written:]

    def _read(self, number: int) -> bytes:
        return os.pread(self._descriptor, piece_size(self._size, number), number * BLOB_BYTES)

    def _fits(self, number: int, content: bytes) -> bool:
        return (
            len(content) == piece_size(self._size, number)
            and hashlib.sha256(content).hexdigest() == self._blobs[number].lower()
        )


class Unlisted(Part):
    """A file of whose pieces no sha256 is known: they come in order, each as long as the first but the last, and are checked together. After
    a restart it goes on where the first piece is the one that is there already.
    """

    def __init__(self, path: Path, descriptor: int, size: int, *, disk: Disk) -> None:
        #: The length of a piece; 0 until the first has come.
        self._piece = self._length = 0
        self._whole = hashlib.sha256()
        super().__init__(path, descriptor, size, (), disk=disk)

    @property
    def there(self) -> int:
        """How many pieces have come."""
        return self.count if self._length == self._size else self._length // (self._piece or BLOB_BYTES)

    def missing(self) -> list[int]:
        """Return the number of the next piece, if there is one."""
        if self._length == self._size:
            return []
        return [self._length // self._piece if self._piece else 0]

    def write(self, number: int, content: bytes) -> bool:
        """Write the next piece; False when it is not that. With the last one it raises `StoreError` when they do not make the file, and
        forgets them all.
        """
        if [number] != self.missing():
            return False
        if not self._piece and not self._begin(content):
            return False
        start = number * self._piece
        if len(content) != min(self._piece, self._size - start):
            return False
        if start == self._length:
            self._write(start, content)
            self._length += len(content)
            self._whole.update(content)
        if self._length == self._size and self._whole.hexdigest() != self.path.name:
            raise self._another()
        return True

    def instead(self, number: int) -> int:  # noqa: ARG002 - as in every part
        """Ask for the first again: if that was not the right one, no other is."""
        self._piece = 0
        return 0

    def _begin(self, first: bytes) -> bool:
        """Learn from the first piece how long they are, and how many of them are there."""
        if not 0 < len(first) <= min(self._size, MAX_MESSAGE_BYTES):
            return False
        self._piece, self._whole = len(first), hashlib.sha256()
        self.count = -(-self._size // self._piece)
        with explained(self.path):
            same = os.pread(self._descriptor, self._piece, 0) == first
            self._length = self._length // self._piece * self._piece if same else 0
            for number in range(self._length // self._piece):
                self._whole.update(os.pread(self._descriptor, self._piece, number * self._piece))
        return True

    def _look(self) -> None:
        self._length = os.fstat(self._descriptor).st_size

    def _another(self) -> StoreError:
        with explained(self.path):
            self._disk.shorten(self._descriptor, 0)
        self._piece = self._length = 0
        return StoreError(
            f"{self.path}: its pieces do not make the file that was announced; publish them again, retained"
        )


def open_part(path: Path, descriptor: int, size: int, blobs: Sequence[str], *, disk: Disk) -> Part:
    """Return a file that arrives in pieces with these sha256s, if they are known."""
    return Part(path, descriptor, size, blobs, disk=disk) if blobs else Unlisted(path, descriptor, size, disk=disk)
