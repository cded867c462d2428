"""Manifests: what is in them is bounded and complete, whom they mean is the same at all times."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from edge_agent.contract import manifest as manifests
from edge_agent.contract.manifest import (
    BLOB_BYTES,
    MAX_MESSAGE_BYTES,
    Envelope,
    KeyEnvelope,
    KeyList,
    Manifest,
    Release,
    is_meant,
    piece_size,
    place_of,
    read,
    share_of,
    written,
)
from edge_agent.contract.minisign import PublicKey
from edge_agent.errors import TrustError

SHA = "ab" * 32
MODEL = {"name": "genre", "version": "1.1.0", "sha256": SHA, "size": 5, "features": ["tempo"], "labels": ["Rock"], "blobs": [SHA]}  # fmt: skip
GIVEN = {"v": 1, "channel": "stable", "serial": 1_790_000_000, "models": [MODEL], "for": ["*"], "issued": "2026-09-21T13:33:20Z"}  # fmt: skip
KEYS = [PublicKey(bytes([number]) * 8, bytes(32)).text for number in range(3)]


def given(**others: Any) -> str:
    """A manifest with other values; None leaves one out."""
    return json.dumps({key: value for key, value in {**GIVEN, **others}.items() if value is not ...})


def refusal(text: str | bytes, kind: type[Manifest | KeyList | Envelope | Release] = Manifest) -> str:
    with pytest.raises(TrustError) as raised:
        read(kind, text, "the manifest")
    message = str(raised.value)
    assert message.startswith("the manifest: ")
    assert message.isprintable()
    assert len(message) < 500
    return message


def test_the_least_that_a_manifest_says_and_its_defaults() -> None:
    manifest = read(Manifest, given(**{"for": ...}), "the manifest")
    assert (manifest.meant, manifest.canary, manifest.soak_seconds, manifest.min_agreement) == (("*",), 0.0, 0, None)
    assert (manifest.max_failed, manifest.max_rejected, manifest.new_contract, manifest.expires) == (
        0.0,
        None,
        False,
        None,
    )
    assert manifest.max_slower is None
    model = manifest.model("genre")
    assert model is not None
    assert (model.version, model.title, piece_size(model.size, 0)) == ("1.1.0", "", 5)
    assert manifest.model("other") is None


def test_what_is_written_is_read_as_the_same() -> None:
    manifest = read(
        Manifest,
        given(expires="2027-01-31T00:00:00Z", canary=0.1, soak_seconds=600, min_agreement=0.98, max_slower=5),
        "it",
    )
    assert read(Manifest, written(manifest), "it") == manifest
    assert json.loads(written(manifest))["for"] == ["*"]
    envelope = Envelope(manifest=written(manifest), signature="…", wave=("pi-1", "10%"))
    assert read(Envelope, envelope.payload(), "it") == envelope
    assert "wave" not in json.loads(Envelope(manifest="", signature="").payload())
    release = Release(channel="stable", manifest=envelope, files={SHA: "genre-1.1.0.onnx"})
    assert read(Release, written(release), "it") == release


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"v": 2}, "v: Input should be 1"),
        ({"serial": 0}, "serial"),
        ({"serial": 1 << 53}, "serial"),
        ({"serial": 1.5}, "serial"),
        ({"serial": "7"}, "serial"),
        ({"serial": True}, "serial"),
        ({"channel": "a/b"}, "channel"),
        ({"channel": "+"}, "channel"),
        ({"models": []}, "models"),
        ({"models": [MODEL, MODEL]}, "'genre' is there twice"),
        ({"models": [{**MODEL, "name": "../genre"}]}, "models.0.name"),
        ({"models": [{**MODEL, "version": "new"}]}, "models.0.version"),
        ({"models": [{**MODEL, "sha256": SHA.upper()}]}, "models.0.sha256"),
        ({"models": [{**MODEL, "size": 1 << 40}]}, "models.0.size"),
        ({"models": [{**MODEL, "size": BLOB_BYTES + 1}]}, "1 pieces for"),
        ({"models": [{**MODEL, "blobs": [SHA, SHA]}]}, "2 pieces for 5 bytes"),
        ({"models": [{**MODEL, "features": []}]}, "features"),
        ({"models": [{**MODEL, "title": "\x1b[2J"}]}, "title"),
        ({"models": [{**MODEL, "url": "http://"}]}, "models.0.url"),
        ({"meant": ["*"]}, "meant"),
        ({"for": ["a/b"]}, "for.0"),
        ({"for": ["100.1%"]}, "more than 100%"),
        ({"for": "*"}, "for"),
        ({"canary": 0.1}, "need soak_seconds"),
        ({"min_agreement": 0.9}, "need soak_seconds"),
        ({"canary": 1.1, "soak_seconds": 1}, "canary"),
        ({"issued": "2026-13-01T00:00:00Z"}, "issued"),
        ({"expires": "2026-01-01"}, "expires"),
        ({"x\n\x1b": 1}, "Extra inputs"),
    ],
)
def test_everything_is_bounded(others: dict[str, Any], said: str) -> None:
    assert said in refusal(given(**others))


#: What docs/messages.md says a manifest has to have, and what it may leave out.
PLAIN = {"v": 1, "serial": 1790000000, "models": [{key: MODEL[key] for key in MODEL if key != "blobs"}], "for": ["*"], "canary": 0,
         "soak_seconds": 0, "min_agreement": 0}  # fmt: skip


def test_a_manifest_needs_no_more_than_who_what_and_its_serial() -> None:
    found = manifests.read_manifest(json.dumps(PLAIN), "it", "stable")
    assert (found.channel, found.issued, found.expires, found.new_contract) == ("stable", None, None, False)
    assert (found.models[0].blobs, found.models[0].pieces) == ((), 1)
    least = {key: PLAIN[key] for key in ("v", "serial", "models")}
    assert manifests.read_manifest(json.dumps(least), "it", "stable").meant == ("*",)
    assert manifests.read_manifest(json.dumps({**PLAIN, "channel": "beta"}), "it", "stable").channel == "beta"


@pytest.mark.parametrize(
    "time",
    ["2027-01-31T00:00:00Z", "2027-01-31T00:00:00.123Z", "2027-01-31T00:00:00+00:00", "2027-01-31T02:00:00+02:00"],
)
def test_times_are_taken_as_rfc_3339_writes_them(time: str) -> None:
    found = manifests.read_manifest(json.dumps({**PLAIN, "expires": time}), "it", "stable")
    assert found.expires is not None
    assert manifests.instant(manifests.seconds(found.expires)) == "2027-01-31T00:00:00Z"


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "[" * 50_000, '{"v":', b"\xff\xfe", '{"channel": "\ud800"}', given()[:-1]]
)
def test_what_is_no_manifest_is_refused(text: str | bytes) -> None:
    refusal(text)


def test_endless_messages_are_not_even_parsed() -> None:
    assert str(MAX_MESSAGE_BYTES) in refusal(b" " * (MAX_MESSAGE_BYTES + 1))
    # JSON within JSON: what fits in a message and unfolds to more is refused by its own bounds.
    assert "for" in refusal(given(**{"for": ["*"] * 1025}))


def test_who_is_meant() -> None:
    assert is_meant("kitchen", "stable", ["*"])
    assert is_meant("pi-12", "stable", ["hall", "pi-*"])
    assert not is_meant("pi-12", "stable", ["pi-1", "hall", "*-13"])
    assert not is_meant("pi-12", "stable", [])
    assert is_meant("pi-12", "stable", ["100%"])
    assert not is_meant("pi-12", "stable", ["0%"])
    assert not is_meant("PI-1", "stable", ["pi-*"])


def test_shares_of_a_fleet_are_stable_and_within_one_another() -> None:
    fleet = [f"pi-{number}" for number in range(10_000)]
    last: set[str] = set()
    for entry in ("0.5%", "1%", "10%", "50%", "100%"):
        share = share_of(entry)
        assert share is not None
        meant = {node for node in fleet if is_meant(node, "stable", [entry])}
        assert meant >= last
        assert abs(len(meant) / len(fleet) - share) < 0.02
        last = meant
    # The formula is part of the interface: edge-deploy has to count the same nodes.
    digest = hashlib.sha256(b"stable/pi-1").digest()
    assert place_of("pi-1", "stable") == int.from_bytes(digest[:8], "big") / 2**64
    assert [share_of(text) for text in ("1%", "100%", "0.25%", "pi-1", "*", "1000%", "-1%")] == [
        0.01, 1.0, 0.0025, None, None, None, None,
    ]  # fmt: skip


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    """Patterns come from outside: one may not cost more than another."""
    assert not is_meant("a" * 64, "stable", ["*a" * 31 + "*b"] * 100)


def test_a_list_of_keys() -> None:
    keys = {"v": 1, "channel": "stable", "serial": 5, "keys": KEYS, "threshold": 2}
    found = read(KeyList, json.dumps(keys), "the list")
    assert [key.text for key in found.public_keys] == KEYS
    assert read(KeyList, written(found), "the list") == found
    envelope = KeyEnvelope(keys=written(found), signature="…")
    assert read(KeyEnvelope, envelope.payload(), "it") == envelope
    for others, said in (
        ({"keys": []}, "keys"),
        ({"keys": ["RW"]}, "not a public key"),
        ({"keys": [KEYS[0], KEYS[0]]}, "same id"),
        ({"threshold": 4}, "nobody could reach"),
        ({"threshold": 0}, "threshold"),
    ):
        assert said in refusal(json.dumps({**keys, **others}), KeyList)


@pytest.mark.parametrize("name", ["../genre.onnx", "/etc/passwd", "..", "a/b", "", "\n"])
def test_a_release_names_only_files_beside_it(name: str) -> None:
    release = {"v": 1, "channel": "stable", "manifest": {"manifest": "", "signature": ""}, "files": {SHA: name}}
    assert "files" in refusal(json.dumps(release), Release)


def test_pieces() -> None:
    content = bytes(range(256)) * 1000
    assert b"".join(manifests.pieces(content)) == content
    assert {len(piece) for piece in manifests.pieces(content)[:-1]} == {BLOB_BYTES}
    assert len(manifests.pieces(bytes(BLOB_BYTES))) == 1
