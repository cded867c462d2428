"""minisign's formats, as minisign itself wrote them, and everything that is nearly one of them."""

from __future__ import annotations

import pytest

from edge_agent.contract.minisign import MAX_KEYS, MAX_TEXT, PublicKey, Signature, signatures
from edge_agent.errors import TrustError

#: Written by minisign 0.11.
KEY = """\
untrusted comment: minisign public key A18B4AC968BD2478
RWR4JL1oyUqLoQMWyCIzVumy5xxKu6QlA2/veht0UeojXD2bi7nusaSE
"""
SIGNATURE = """\
untrusted comment: signature from minisign secret key
RUR4JL1oyUqLoUV5VR8WjmWnejslJlucd99iIVdM9nBH2tq+ij9SOXytpIeMMp5IvIHDgLC1HNfWEeTk5mzkGnGOOmuyokrnTA0=
trusted comment: timestamp:1790000000\tfile:genre.onnx
GyHxz3/82mzCh3IxvAKWV6oJBWAyL0AbZWf2qVHWekYH8iN8mKnWJqjAsYtSnAypWs9SEDEigxoa8NwM3lv7Ag==
"""
LEGACY = """\
untrusted comment: signature from minisign secret key
RWR4JL1oyUqLobf7BbiKrTXQBIDMGbF9sMMbSOHRCzMJzt/0r5TFJk6QCzJsFi5YHEH57bdi2gyJVBYifOiDUn207HWEL1r+SgQ=
trusted comment: timestamp:1795796547\tfile:genre.onnx
PiaB/14KHaB8znkkygxdhwULemg5rcm54h24iuutzKldHO2ehREMIIVJGuu4igFYJrG2mlBrkqOk9WFHgQC1DA==
"""


def test_a_key_is_read_with_its_comment_and_without() -> None:
    key = PublicKey.parse(KEY)
    assert PublicKey.parse(key.text) == PublicKey.parse(key.file) == PublicKey.parse(f"{key.text}\r\n") == key
    assert key.file == KEY
    assert key.text.startswith("RW")
    assert (len(key.text), len(key.id), len(key.key)) == (56, 8, 32)
    assert KEY.split()[5] == key.name


@pytest.mark.parametrize(
    "text", ["", "\n\n", "RW", "x" * 56, f"{KEY}{KEY}", KEY.replace("RW", "RX"), KEY[:-2] + "\x1b\n", "RWü"]
)
def test_what_is_no_key_is_refused_in_words(text: str) -> None:
    with pytest.raises(TrustError, match="public key"):
        PublicKey.parse(text)


def test_a_signature_is_read_and_written() -> None:
    signature = Signature.parse(SIGNATURE)
    assert signature.key_id == PublicKey.parse(KEY).id
    assert signature.trusted_comment == "timestamp:1790000000\tfile:genre.onnx"
    assert Signature.parse(signature.text) == signature
    assert Signature.parse(SIGNATURE.replace("\n", "\r\n")) == signature
    assert signature.signed_comment == signature.signature + b"timestamp:1790000000\tfile:genre.onnx"


def test_several_signatures_stand_one_after_the_other() -> None:
    assert signatures(SIGNATURE * 3) == [Signature.parse(SIGNATURE)] * 3
    again = "".join(signature.text for signature in signatures(SIGNATURE * 2))
    assert signatures(again) == [Signature.parse(SIGNATURE)] * 2
    with pytest.raises(TrustError, match="2 signatures where one is expected"):
        Signature.parse(SIGNATURE * 2)
    with pytest.raises(TrustError, match="17 signatures; at most 16"):
        signatures(SIGNATURE * (MAX_KEYS + 1))
    assert len(SIGNATURE * MAX_KEYS) < MAX_TEXT


def test_the_old_form_is_refused() -> None:
    with pytest.raises(TrustError, match="old form"):
        Signature.parse(LEGACY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        SIGNATURE[:-40],
        SIGNATURE.split("\n", 1)[1],
        SIGNATURE.replace("trusted comment: timestamp", "comment: timestamp"),
        SIGNATURE.replace("\nRUR", "\nQUR"),
        "\n".join(reversed(SIGNATURE.splitlines())),
        SIGNATURE.replace("file:", "file:\x1b[2J"),
        SIGNATURE.replace("file:", "file:\ud800"),
        "x" * (MAX_TEXT + 1),
    ],
)
def test_what_is_no_signature_is_refused_in_words(text: str) -> None:
    with pytest.raises(TrustError) as raised:
        signatures(text)
    assert "\n" not in str(raised.value)
    assert str(raised.value).isprintable()


def test_one_content_has_one_text() -> None:
    """base64 leaves bits of the last character unused: another text with the same bytes is no key and no signature."""
    key = PublicKey.parse(KEY).text
    assert len(key) % 4 == 0
    ending = Signature.parse(SIGNATURE).text.splitlines()[3]
    other = ending[:-3] + chr(ord(ending[-3]) + 1) + "=="
    with pytest.raises(TrustError):
        Signature.parse(SIGNATURE.replace(ending, other))
