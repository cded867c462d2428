"""Model files that arrive in pieces: continued after a restart, checked one by one or together."""

from __future__ import annotations

import hashlib

import pytest

from edge_agent.contract.manifest import BLOB_BYTES
from edge_agent.errors import StoreError, TrustError
from edge_agent.model.store import Store
from tests.unit.store_changes import BLOBS, CONTENT, PIECES, SHA256
from tests.unit.test_store import files, store

__all__ = ["store"]


def test_pieces_are_continued_after_a_restart(store: Store) -> None:
    with store.part(SHA256, len(CONTENT), BLOBS) as part:
        assert part.missing() == [0, 1, 2]
        assert part.write(2, PIECES[2])
        assert part.write(2, PIECES[2])
        assert not part.write(0, PIECES[1])
        assert not part.write(0, PIECES[0][:-1])
        assert not part.write(3, PIECES[0])
        assert not part.write(-1, PIECES[2])
        assert part.missing() == [0, 1]
        with pytest.raises(StoreError, match="2 of 3 pieces are missing"):
            part.finish()
    with store.part(SHA256, len(CONTENT), BLOBS) as part:
        assert part.missing() == [0, 1]
        assert part.write(0, PIECES[0])
        assert part.write(1, PIECES[1])
        path = part.finish()
    version = store.add("genre", "1.0.0", path)
    assert (version.sha256, version.path.read_bytes(), path.exists()) == (SHA256, CONTENT, False)


def test_pieces_that_went_bad_are_missing_again(store: Store) -> None:
    with store.part(SHA256, len(CONTENT), BLOBS) as part:
        for number, piece in enumerate(PIECES):
            part.write(number, piece)
        with part.path.open("r+b") as file:
            file.seek(BLOB_BYTES)
            file.write(b"x")
        with pytest.raises(StoreError, match="1 of 3 pieces are missing"):
            part.finish()
        assert part.missing() == [1]
    part.path.write_bytes(CONTENT + b"more")
    with store.part(SHA256, len(CONTENT), BLOBS) as part:
        assert part.missing() == []
        assert part.finish().read_bytes() == CONTENT


def test_pieces_that_are_not_the_file(store: Store) -> None:
    with store.part("0" * 64, len(PIECES[0]), BLOBS[:1]) as part:
        assert part.write(0, PIECES[0])
        with pytest.raises(TrustError, match="do not make the file that was announced"):
            part.finish()
    store.clear_parts(keep=["0" * 64])
    assert files(store) == [".parts", f".parts/{'0' * 64}"]
    store.clear_parts()
    assert files(store) == [".parts"]
    for sha256, size, blobs in (("..", 1, BLOBS[:1]), (SHA256, BLOB_BYTES + 1, BLOBS[:1]), ("A" * 64, 1, BLOBS[:1])):
        with pytest.raises(StoreError, match="sign the manifest again"):
            store.part(sha256, size, blobs)


def test_pieces_without_hashes_come_in_order_and_count_together(store: Store) -> None:
    size = 100_000
    with store.part(SHA256, len(CONTENT), ()) as part:
        assert (part.missing(), part.there) == ([0], 0)
        assert not part.write(1, CONTENT[:size])
        assert not part.write(0, b"")
        assert not part.write(0, CONTENT[: 128 * 1024 + 1])
        assert part.write(0, CONTENT[:size])
        assert (part.missing(), part.there, part.count) == ([1], 1, 3)
        assert not part.write(0, CONTENT[:size])
        assert not part.write(1, CONTENT[size : 2 * size - 1])
        assert part.write(1, CONTENT[size : 2 * size])
        with pytest.raises(StoreError, match="1 of 3 pieces are missing"):
            part.finish()
    with store.part(SHA256, len(CONTENT), ()) as part:  # the first piece says how many there are
        assert part.missing() == [0]
        assert part.write(0, CONTENT[:size])
        assert part.missing() == [2]
        assert part.write(2, CONTENT[2 * size :])
        assert (part.missing(), part.there) == ([], 3)
    with store.part(SHA256, len(CONTENT), ()) as part:
        assert (part.missing(), part.there, part.count) == ([], 3, 3)
        path = part.finish()
    assert store.add("genre", "1.0.0", path).sha256 == SHA256


def test_pieces_without_hashes_that_do_not_make_the_file_are_all_fetched_again(store: Store) -> None:
    size = 130_000
    with store.part(SHA256, len(CONTENT), ()) as part:
        assert part.write(0, CONTENT[:size])
        with pytest.raises(StoreError, match="do not make the file that was announced; publish them again"):
            part.write(1, bytes(len(CONTENT) - size))
        assert (part.missing(), part.there) == ([0], 0)
        part.write(0, bytes(size))
    with store.part(SHA256, len(CONTENT), ()) as part:  # another first piece than before: nothing of it is kept
        assert part.write(0, CONTENT[:size])
        assert part.missing() == [1]
        assert part.write(1, CONTENT[size:])
        part.path.write_bytes(bytes(len(CONTENT)))
        with pytest.raises(StoreError, match="do not make the file"):
            part.finish()
        assert part.missing() == [0]


def test_one_piece_without_a_hash(store: Store) -> None:
    with store.part(hashlib.sha256(b"small").hexdigest(), 5, ()) as part:
        assert part.write(0, b"small")
        assert part.finish().read_bytes() == b"small"


def test_a_first_piece_that_was_not_the_right_one_is_asked_for_again(store: Store) -> None:
    """Of pieces without hashes: whoever put it there decides nothing for good."""
    size = 100_000
    with store.part(SHA256, len(CONTENT), ()) as part:
        assert part.write(0, b"x")
        assert (part.missing(), part.count) == ([1], len(CONTENT))
        assert not part.write(1, CONTENT[size : 2 * size])
        assert part.instead(1) == 0
        assert part.missing() == [0]
        assert part.write(0, CONTENT[:size])
        assert part.write(1, CONTENT[size : 2 * size])
        # What is right stays where the one behind it is only late.
        assert part.instead(2) == 0
        assert part.write(0, CONTENT[:size])
        assert (part.missing(), part.there) == ([2], 2)
        assert part.write(2, CONTENT[2 * size :])
        assert part.finish().read_bytes() == CONTENT
    with store.part(SHA256, len(CONTENT), BLOBS) as listed:
        assert listed.instead(2) == 2
