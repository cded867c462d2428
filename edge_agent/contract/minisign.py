"""minisign's text formats: public keys and detached signatures. Reading and writing only; `edge_agent.model.trust` verifies.

Rules:

* only the prehashed form is read (`ED`: Ed25519 over the BLAKE2b-512 of the content); the older one (`Ed`) is refused;
* a signature has two parts: one over the content, and one over the first with the trusted comment behind it;
* several signatures of the same content, for a threshold of keys, stand one after the other;
* everything is bounded before it is decoded.

Source of the formats: https://jedisct1.github.io/minisign/.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final, NamedTuple

from edge_agent.errors import TrustError

#: Ending of a file of signatures, beside the file that they sign.
SUFFIX: Final = ".minisig"
#: Most keys that may be trusted, and most signatures of one content.
MAX_KEYS: Final = 16
#: Longest text of signatures, in characters: minisign's own comments have at most 8,192 bytes.
MAX_TEXT: Final = 16_384
_UNTRUSTED: Final = "untrusted comment: "
_TRUSTED: Final = "trusted comment: "
_KEY: Final = b"Ed"
_PREHASHED: Final = b"ED"
_LEGACY: Final = b"Ed"
_ID_BYTES: Final = 8
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
#: Longest text in an error message.
_SHOWN: Final = 60


class PublicKey(NamedTuple):
    """A public key: 8 bytes that name it, and the 32 bytes of Ed25519."""

    id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """The id as minisign shows it: 16 hexadecimal digits."""
        return shown(self.id)

    @property
    def text(self) -> str:
        """The key as one line of base64, as it stands in the configuration."""
        return _encoded(_KEY, self.id, self.key)

    @property
    def file(self) -> str:
        """The content of a .pub file."""
        return f"{_UNTRUSTED}minisign public key {self.name}\n{self.text}\n"

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the line of base64 alone, or a .pub file with its comment. Raises `TrustError`."""
        lines = _lines(text, "public key")
        line = lines[-1] if lines else ""
        if len(lines) > 2 or (len(lines) == 2 and not lines[0].startswith(_UNTRUSTED)):
            raise TrustError("not a public key: more than a comment and one line; write the key that begins with RW")
        content = _decoded(line, 2 + _ID_BYTES + _KEY_BYTES)
        if content is None or content[:2] != _KEY:
            raise TrustError(
                f"{_cut(line)}: not a public key; write the line of 56 characters that begins with RW, "
                "as edge-convert keygen or minisign -G shows it"
            )
        return cls(content[2:10], content[10:])


class Signature(NamedTuple):
    """A signature of one key: `signature` (64 bytes) over the content, `global_signature` (64) over both `signature` and `trusted_comment`."""

    key_id: bytes
    signature: bytes
    trusted_comment: str
    global_signature: bytes

    @property
    def signed_comment(self) -> bytes:
        """What the global signature signs."""
        return self.signature + self.trusted_comment.encode()

    @property
    def text(self) -> str:
        """The content of a .minisig file."""
        return (
            f"{_UNTRUSTED}signature of key {shown(self.key_id)}\n"
            f"{_encoded(_PREHASHED, self.key_id, self.signature)}\n"
            f"{_TRUSTED}{self.trusted_comment}\n"
            f"{_encoded(self.global_signature)}\n"
        )

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Read one signature. Raises `TrustError`."""
        found = signatures(text)
        if len(found) != 1:
            raise TrustError(f"{len(found)} signatures where one is expected")
        return found[0]


def signatures(text: str) -> list[Signature]:
    """Read signatures that stand one after the other. Raises `TrustError` when there is none, or one is malformed."""
    lines = _lines(text, "signature")
    if not lines or len(lines) % 4:
        raise TrustError(
            f"not a signature: {len(lines)} lines instead of four; sign the file again with edge-convert sign"
        )
    if len(lines) // 4 > MAX_KEYS:
        raise TrustError(f"{len(lines) // 4} signatures; at most {MAX_KEYS} are read")
    return [_signature(lines[start : start + 4]) for start in range(0, len(lines), 4)]


def shown(key_id: bytes) -> str:
    """Return a key's id as minisign shows it: a number in little-endian order, in hexadecimal."""
    return key_id[::-1].hex().upper()


def _signature(lines: Sequence[str]) -> Signature:
    untrusted, signed, comment, ending = lines
    content, closing = _decoded(signed, 2 + _ID_BYTES + _SIGNATURE_BYTES), _decoded(ending, _SIGNATURE_BYTES)
    if not untrusted.startswith(_UNTRUSTED) or not comment.startswith(_TRUSTED) or content is None or closing is None:
        raise TrustError("not a signature in minisign's format; sign the file again with edge-convert sign")
    if content[:2] == _LEGACY:
        raise TrustError("a signature in minisign's old form, which is not accepted; sign again without minisign's -l")
    if content[:2] != _PREHASHED:
        raise TrustError("a signature of an unknown kind; sign the file again with edge-convert sign")
    return Signature(content[2:10], content[10:], comment.removeprefix(_TRUSTED), closing)


def _lines(text: str, what: str) -> list[str]:
    if len(text) > MAX_TEXT:
        raise TrustError(f"{what}: longer than {MAX_TEXT} characters; check that it is the right file")
    lines = [line.rstrip("\r") for line in text.rstrip("\r\n").split("\n")] if text.strip() else []
    # Comments end up in logs and on terminals; minisign's own have tabs.
    if not all(line.replace("\t", " ").isprintable() for line in lines):
        raise TrustError(f"{what}: contains characters that can't be printed; check that it is the right file")
    return lines


def _decoded(text: str, length: int) -> bytes | None:
    """Return the bytes of one line of base64, None when it is not exactly the encoding of `length` bytes."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # One content, one text: the last character may carry bits that decoding drops.
    return content if len(content) == length and _encoded(content) == text else None


def _encoded(*parts: bytes) -> str:
    return base64.b64encode(b"".join(parts)).decode("ascii")


def _cut(text: str) -> str:
    return ascii(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!a}..."
