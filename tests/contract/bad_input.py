"""Kinds of bad input on a channel of models, each with what is said of it and of the way out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pytest

from edge_agent.contract import topics
from edge_agent.contract.manifest import BLOB_BYTES, MAX_MESSAGE_BYTES, pieces, written
from edge_agent.contract.seal import LENGTH, seal
from tests.channel import release, untrue
from tests.contract.honest import Scene
from tests.trusted import ANN, CHANNEL, EVE, ISSUED, envelope, signed
from tests.versions import version

#: What is bad is said to be this version.
BAD: Final = "6.6.6"
SIGN_AGAIN: Final = "sign again with edge-convert sign"
WRITE_AGAIN: Final = "write it again with edge-convert sign"
SIGN_IT: Final = "sign the file that is meant"
COPY: Final = "copy the file again, or write it again with edge-convert"
PUBLISH: Final = "publish it again, retained"
CONVERT: Final = "write it again with edge-convert"


class Bad(NamedTuple):
    """One kind of bad input: what publishes it, what is said of it, and the way out."""

    name: str
    publish: Callable[[Scene], object]
    why: str
    fix: str
    state: str = "refused"


# -- manifests


def changed(name: str, why: str, fix: str, change: Callable[[bytes], bytes]) -> Bad:
    """A good manifest, of a model whose pieces are there, of which the message is changed."""

    def publish(scene: Scene) -> None:
        scene.publish(change(envelope(release(version(BAD), serial=scene.serial()))))

    return Bad(name, publish, why, fix)


def flipped(after: bytes, by: int = 0) -> Callable[[bytes], bytes]:
    """One bit is another one, so many bytes behind these."""

    def change(content: bytes) -> bytes:
        place = content.index(after) + len(after) + by
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    return change


def signed_as(content: bytes | str | None) -> Callable[[bytes], bytes]:
    """With Ann's signature of something else; with none."""

    def change(right: bytes) -> bytes:
        other = {} if content is None else {"signature": signed(content, ANN)}
        return json.dumps({"manifest": json.loads(right)["manifest"], **other}).encode()

    return change


MANIFESTS: Final = [
    changed("unsigned", "not signed", "sign it with edge-convert sign", signed_as(None)),
    Bad(
        "another key",
        lambda scene: scene.channel.announce(version(BAD), keys=[EVE]),
        f"signed by key {EVE.public_key.name}, which is not trusted here",
        f"sign it with one that is (key {ANN.public_key.name}), or add it to update.trusted_keys",
    ),
    changed("a bit of the envelope", "manifest: Field required", WRITE_AGAIN, flipped(b'{"manifes')),
    changed("a bit of the version", "does not match the content", SIGN_AGAIN, flipped(b"6.6.")),
    changed("a bit of a sha256", "does not match the content", SIGN_AGAIN, flipped(b'\\"sha256\\":\\"')),
    changed("a bit of the signature", "signature", "again with edge-convert sign", flipped(b"\\nRU", 40)),
    changed("a bit of its comment", "the trusted comment does not match", SIGN_AGAIN, flipped(b"timestamp:")),
    changed("truncated by half", "Invalid JSON", WRITE_AGAIN, lambda right: right[: len(right) // 2]),
    changed("truncated by a byte", "Invalid JSON", WRITE_AGAIN, lambda right: right[:-1]),
    changed(
        "signature of another manifest",
        "does not match the content: one of them was changed, or belongs to another file",
        SIGN_AGAIN,
        signed_as(written(release(version(BAD), serial=ISSUED))),
    ),
    changed("signature of a file", "does not match the content", SIGN_AGAIN, signed_as(version(BAD))),
    Bad(
        "older serial",
        lambda scene: scene.channel.announce(version(BAD), serial=scene.accepted - 1),
        "which was accepted before",
        "sign it again",
    ),
    Bad(
        "the same serial",
        lambda scene: scene.channel.announce(version(BAD), serial=scene.accepted),
        "another one with serial",
        "sign it with a higher one",
    ),
    Bad(
        "another channel",
        lambda scene: scene.channel.announce(version(BAD), channel="beta"),
        "for channel 'beta', and this node follows 'stable'",
        "sign it for that one",
    ),
    changed(
        "too large",
        f"at most {MAX_MESSAGE_BYTES} are read",
        "publish fewer models at once",
        lambda right: right.ljust(10 << 20),
    ),
    Bad(
        "200 MiB announced",
        lambda scene: scene.channel.announce(
            version(BAD), models={0: {"size": 200 << 20, "blobs": ("0" * 64,) * -(-(200 << 20) // BLOB_BYTES)}}
        ),
        f"has {200 << 20} bytes, more than update.max_bytes",
        "raise that, or make a smaller model",
    ),
]


# -- files


def named(content: bytes, name: bytes) -> bytes:
    """A file whose card says another name."""
    return seal(content[:-LENGTH].replace(b'"name":"genre"', b'"name":"%s"' % name))


def pushed(name: str, why: str, fix: str, make: Callable[[], bytes], **said: Any) -> Bad:
    """A file with a manifest that is rightly signed."""

    def publish(scene: Scene) -> None:
        scene.channel.push(make(), models={0: {"version": BAD, **said}})

    return Bad(name, publish, why, fix)


def made(name: str, why: str, fix: str, kind: str) -> Bad:
    """One of tests/bad_models.py."""

    def publish(scene: Scene) -> None:
        pytest.importorskip("onnx", reason="builds models; needs the extra `convert`")
        from tests import bad_models

        scene.channel.push(getattr(bad_models, kind)())

    return Bad(name, publish, why, fix)


def put_together_wrongly(scene: Scene) -> None:
    """Each piece is what was signed, and the whole is not."""
    content, sha256 = version(BAD), "ab" * 32
    for number, piece in enumerate(pieces(content)):
        scene.client.publish(topics.blob(CHANNEL, sha256, number), piece, retain=True)
    scene.channel.announce(content, models={0: {"sha256": sha256}})


def damaged(content: bytes, place: float) -> bytes:
    """One bit of it is another one."""
    where = int(place * len(content))
    return content[:where] + bytes([content[where] ^ 4]) + content[where + 1 :]


def spoilt(place: float) -> Bad:
    """A file that was signed when one bit of it was another one already."""
    return pushed(
        f"a bit of the file, at {place:.0%}", "the file is damaged", CONVERT, lambda: damaged(version(BAD), place)
    )


RENAMED: Final = {b'"Rock"': b'"Rick"'}

FILES: Final = [
    pushed(
        "another model's name",
        "the manifest says name 'genre', the model card 'vinyl'",
        SIGN_IT,
        lambda: named(version(BAD), b"vinyl"),
    ),
    pushed(
        "another version",
        "the manifest says version '6.6.6', the model card '6.6.7'",
        SIGN_IT,
        lambda: version("6.6.7"),
    ),
    pushed(
        "a manifest that lies about labels",
        "the manifest says labels 'Hip-Hop, Jazz', the model card 'Hip-Hop, Rock'",
        SIGN_IT,
        lambda: version(BAD),
        labels=("Hip-Hop", "Jazz"),
    ),
    pushed(
        "a card that lies about labels",
        "the self-test failed on",
        "convert the model again",
        lambda: version(BAD, RENAMED),
    ),
    pushed("a self-test that fails", "the self-test failed on", "convert the model again", lambda: untrue(BAD)),
    *map(spoilt, (0.1, 0.9)),
    pushed("truncated", "the file is damaged", CONVERT, lambda: version(BAD)[:-9]),
    pushed(
        "a protobuf bomb",
        "onnxruntime can't open this as a model",
        COPY,
        lambda: b"\x0a\xff\xff\xff\xff\x07" + bytes(2000),
    ),
    pushed("a nested bomb", "onnxruntime can't open this as a model", COPY, lambda: b"\x3a" + b"\x0a" * 20_000),
    made("16 GiB out of kilobytes", "not enough memory", "use a smaller one", "huge"),
    made("external data", "onnxruntime can't open this as a model", COPY, "external"),
    made("a crash of onnxruntime", "it crashed (SIGSEGV)", "convert the model again with edge-convert", "crashing"),
    Bad("pieces of another file", put_together_wrongly, "its pieces do not make the file", "sign the manifest again"),
]

#: Those that take as long as they may.
SLOW: Final = [made("hangs", "it exceeded its limit of", "convert the model again with edge-convert", "endless")]


# -- pieces


def piecemeal(
    name: str, why: str, change: Callable[[bytes], bytes], number: str, *, fix: str = PUBLISH, **said: Any
) -> Bad:
    """A model of three pieces, of which the second one on the broker is changed."""

    def publish(scene: Scene) -> None:
        content = version(number, larger=2 * BLOB_BYTES)
        sha256 = hashlib.sha256(content).hexdigest()
        right = pieces(content)
        for place, piece in enumerate([right[0], change(right[1]), right[2]]):
            scene.client.publish(topics.blob(CHANNEL, sha256, place), piece, retain=True)
        scene.channel.announce(content, models={0: {"version": number, **said}})

    return Bad(name, publish, why, fix, "fetching")


PIECES: Final = [
    piecemeal("a bit of a piece", "piece 2 of 3 is not what was signed", lambda piece: damaged(piece, 0.3), "6.6.1"),
    piecemeal("a truncated piece", "piece 2 of 3 is not what was signed", lambda piece: piece[:-1], "6.6.2"),
    piecemeal("a piece of 3 MiB", "piece 2 of 3 is not what was signed", lambda piece: piece.ljust(3 << 20), "6.6.3"),
    piecemeal(
        "a bit of a piece that no manifest lists",
        "its pieces do not make the file",
        lambda piece: damaged(piece, 0.3),
        "6.6.5",
        fix="publish them again, retained",
        blobs=(),
    ),
]
