"""The digest that a model file carries of itself: no damaged file is served, whatever is damaged."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import pytest

from edge_agent.contract.seal import KEY, LENGTH, is_sealed, seal
from edge_agent.errors import ModelError
from edge_agent.model.library import locate
from edge_agent.model.onnx import Predictor

SEALED = locate("genre").read_bytes()
BARE = SEALED[:-LENGTH]
#: How much of a byte is flipped: each bit of these.
BITS = tuple(1 << bit for bit in range(8))


def refused(content: bytes) -> bool:
    """Whether a file is refused before onnxruntime sees it."""
    try:
        is_sealed(content, where="genre.onnx")
    except ModelError as error:
        return str(error).startswith("genre.onnx: the file is damaged, or was changed")
    return False


def flipped(content: bytes, step: int = 1) -> Iterator[bytes]:
    """The file with every `step`-th bit the other way round, one at a time."""
    for bit in range(0, 8 * len(content), step):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def test_the_bundled_model_is_sealed() -> None:
    predictor = Predictor(SEALED, where="genre.onnx")
    assert predictor.sealed
    assert predictor.sha256 == hashlib.sha256(SEALED).hexdigest()
    assert SEALED.endswith(hashlib.sha256(BARE).hexdigest().encode())


def test_a_model_without_a_seal_is_served_and_says_so() -> None:
    unsealed = Predictor(BARE, where="genre.onnx")
    assert not unsealed.sealed
    assert unsealed.card == Predictor(SEALED, where="genre.onnx").card


def test_sealing_again_changes_nothing() -> None:
    assert seal(SEALED) == seal(BARE) == SEALED
    changed = bytearray(SEALED)
    changed[100] ^= 1
    assert is_sealed(seal(bytes(changed)), where="genre.onnx")


def test_every_file_with_a_bit_flipped_is_refused() -> None:
    # A prime: each bit of a byte gets its turn.
    found = [refused(content) for content in flipped(SEALED, 31)]
    assert len(found) > 4000
    assert all(found)


def test_every_bit_of_a_small_file_and_of_the_seal_itself() -> None:
    small = seal(b"\x08\x08\x12\x0cedge-convert")
    assert all(refused(content) for content in flipped(small))
    assert all(refused(BARE + damaged) for damaged in flipped(SEALED[-LENGTH:]))


def test_what_a_flipped_bit_did_without_a_seal() -> None:
    """The test of the test: files that are served although their labels, probabilities or names are others."""
    expected = Predictor(BARE, where="genre.onnx")
    others = 0
    # In the card only: a graph that is damaged may end the whole process (onnxruntime 1.21 aborts).
    for place in range(BARE.index(b'{"format"'), len(BARE), 127):
        content = bytearray(BARE)
        content[place] ^= 1
        try:
            found = Predictor(bytes(content), where="genre.onnx")
        except ModelError:
            continue
        others += found.card != expected.card
    assert others > 0


def test_damage_to_both_the_model_and_its_seal_is_damage() -> None:
    chance = random.Random(9)
    for _ in range(500):
        changed = bytearray(SEALED)
        for place in (chance.randrange(len(BARE)), chance.randrange(len(BARE), len(SEALED))):
            changed[place] ^= chance.choice(BITS)
        assert refused(bytes(changed))
    # Several bytes of what the seal is known by.
    for start in range(LENGTH - 64 - 8):
        changed = bytearray(SEALED)
        changed[100] ^= 1
        changed[len(BARE) + start : len(BARE) + start + 8] = bytes(8)
        assert refused(bytes(changed)), start


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(SEALED + b"\x32\x04more", id="a field appended"),
        pytest.param(SEALED + SEALED[-LENGTH:], id="a seal of its own behind it"),
        pytest.param(SEALED + bytes(512), id="zeros of a file system behind it"),
        pytest.param(SEALED[-LENGTH:] + BARE, id="the seal at the front"),
        pytest.param(SEALED[1:], id="a byte lost"),
        pytest.param(SEALED[:-1], id="the last byte lost"),
        pytest.param(SEALED[:-60], id="cut within the digest"),
        pytest.param(BARE[:-1] + SEALED[-LENGTH:], id="a piece lost"),
        pytest.param(BARE.replace(b"Rock", b"Jazz") + SEALED[-LENGTH:], id="another label"),
    ],
)
def test_a_seal_that_does_not_belong_there(content: bytes) -> None:
    assert refused(content)
    with pytest.raises(ModelError, match=r"copy it again, or write it again with edge-convert$"):
        Predictor(content, where="genre.onnx")


@pytest.mark.parametrize("content", [b"", b"\x00", SEALED[: len(SEALED) // 2], BARE, KEY, b"x" * 1000, KEY * 9])
def test_files_without_a_seal(content: bytes) -> None:
    assert not is_sealed(content, where="genre.onnx")
