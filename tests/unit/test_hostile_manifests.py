"""Whatever is published on a channel, or lies beside a model file: a sentence, never another exception."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from edge_agent.contract.manifest import MAX_MESSAGE_BYTES, Manifest, written
from edge_agent.contract.minisign import PublicKey, signatures
from edge_agent.errors import TrustError
from edge_agent.model.trust import Trust, accept, accept_keys, claimed, verify_file
from tests.trusted import ANN, ISSUED, envelope, key_envelope, key_list, manifest, signed, signers, trusting

TEXT = signed(b"model", ANN)
MESSAGE = envelope(manifest())
#: JSON of any shape, with the keys that mean something.
_KEYS = (
    st.sampled_from([*Manifest.model_fields, "for", "manifest", "signature", "wave", "keys", "threshold"]) | st.text()
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=20,
)


def refused(message: bytes, node: Trust | None = None) -> None:
    """Both kinds of messages are refused in a sentence that can be shown."""
    for take in (
        lambda: accept(message, node or trusting(), float(ISSUED)),
        lambda: accept_keys(message, node or trusting()),
    ):
        with pytest.raises(TrustError) as raised:
            take()
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 2000


@given(st.binary(max_size=300))
def test_any_bytes(message: bytes) -> None:
    refused(message)
    with pytest.raises(TrustError):
        verify_file(b"model", message, signers(ANN))


@given(_JSON)
def test_any_json(content: Any) -> None:
    text = json.dumps(content)
    refused(text.encode())
    # Even with a right signature, and with none asked for.
    refused(json.dumps({"manifest": text, "signature": signed(text, ANN)}).encode())
    refused(json.dumps({"manifest": text}).encode(), trusting(required=False))


@given(_JSON, st.sampled_from(sorted(Manifest.model_fields)))
def test_any_value_in_a_manifest(value: Any, field: str) -> None:
    content = {**json.loads(written(manifest())), field.replace("meant", "for"): value}
    with suppress(TrustError):
        accept(envelope(json.dumps(content)), trusting(), float(ISSUED))


@given(st.text(alphabet=st.characters(exclude_categories=[])) | st.sampled_from(TEXT.splitlines()))
def test_any_text_as_key_or_signature(text: str) -> None:
    for take in (PublicKey.parse, signatures, lambda text: claimed(text.encode(errors="replace"))):
        said = "a key, or signatures"
        try:
            take(text)
        except TrustError as error:
            said = str(error)
        assert said.isprintable()


@given(st.integers(0, len(MESSAGE) - 1), st.binary(max_size=8))
def test_anything_in_the_middle_of_a_right_message(place: int, what: bytes) -> None:
    """What is still taken says the same."""
    with suppress(TrustError):
        offer = accept(MESSAGE[:place] + what + MESSAGE[place + len(what) :], trusting(), float(ISSUED))
        assert offer.manifest == manifest()


@pytest.mark.parametrize(
    "message",
    [
        b'{"manifest": "\\ud800", "signature": "x"}',
        b'{"manifest": "x", "signature": "\\udfff"}',
        b'{"manifest": "x", "signature": "\\u0000"}',
        b'{"manifest": ' + b"[" * 60_000 + b"]" * 60_000 + b"}",
        b'{"manifest": ' + b"9" * 100_000 + b"}",
        b'{"wave": [' + b'"*",' * 30_000 + b'"*"]}',
        b'{"' + b"k" * 100_000 + b'": 1}',
        b"{" + b",".join(b'"k%d": 0' % number for number in range(9000)) + b"}",
        b"\x00" * MAX_MESSAGE_BYTES,
        b" " * (1 << 21),
        key_envelope(key_list(ANN), ANN).replace(b"threshold", b"thresholds"),
    ],
)
def test_messages_that_are_made_to_hurt(message: bytes) -> None:
    refused(message)


def test_numbers_that_are_made_to_hurt() -> None:
    text = written(manifest())
    for number in ("1e400", "-1e400", "1" * 5000, "1e9999999", "0x10", "1_0", "Infinity", "-0"):
        refused(envelope(text.replace(str(ISSUED), number)))
