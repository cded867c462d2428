"""Payload formats by content type: bytes to what JSON could hold, and back.

Every payload comes from outside. A decoder gives plain values only (objects with text keys, arrays, text, numbers,
booleans, null), nested no deeper than `MAX_DEPTH`, or raises `ValueError` with a reason; so what comes after it needs
to know nothing of formats.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from edge_agent import senml
from edge_agent.messages import JSON_TYPE, to_json

SENML_TYPE: Final = "application/senml+json"
CBOR_TYPE: Final = "application/cbor"
PACKED_TYPE: Final = "application/octet-stream"

MAX_DEPTH: Final = 64
#: Most memory, in bytes, that decoding one payload may take, as `Format.weigh` estimates it.
MAX_WEIGHT: Final = 40 << 20
#: About what an object, an array and a value in one of them take.
_OBJECT: Final = 240
_ARRAY: Final = 80
_VALUE: Final = 40
#: Bytes of a payload that can't weigh too much, whatever is in it: no format has more than two objects a byte.
LIGHT: Final = MAX_WEIGHT // (2 * _OBJECT)
#: CBOR's major types that count here (RFC 8949, 3.1), and its tags that are taken (3.4): dates, whole numbers of any size,
#: and decimal fractions; those of shared values have their own refusal. cbor2 knows more, each a way to take much time or
#: memory for few bytes: regular expressions are compiled and kept, e-mails parsed, fractions reduced, and references to one
#: long text (tags 25 and 256) make an answer of as many copies.
_BYTES: Final = 2
_TEXT: Final = 3
_TAG: Final = 6
_BIGNUMS: Final = frozenset({2, 3})
_TAGS: Final = frozenset({0, 1, *_BIGNUMS, 4, 5, 28, 29, 100, 1004})
#: Tag 55799, "this is CBOR", which may stand at the beginning (3.4.6).
_SELF_DESCRIBED: Final = b"\xd9\xd9\xf7"
#: Bytes of a whole number of CBOR: for one in a decimal fraction, time goes with the square.
_MAX_BIGNUM: Final = 1024
#: Larger whole numbers are refused: writing them out would take time without bound, and none fits a float.
_MAX_BITS: Final = 1024


class Format(NamedTuple):
    """One format. `decode` takes the payload and the names that are looked for in it.

    These are the model's features in order and, where rows are `keyed`, the keys at the top that `fields` begin with.
    `weigh` takes the same and estimates, in a fraction of the time, how many bytes of memory `decode` would take: four
    megabytes of empty objects would be gigabytes. `answers` is the content type of what `encode` gives; `invalid` the
    kind of the reason when `decode` raises; `keyed` whether the keys of a row are the sensor's own.
    """

    decode: Callable[[bytes, Sequence[str]], Any]
    weigh: Callable[[bytes, Sequence[str]], int]
    encode: Callable[[Any], bytes]
    answers: str
    invalid: str
    keyed: bool = True


def find(content_type: str | None) -> Format | None:
    """Return the format of a content type (None: JSON), whatever its parameters; None when there is none."""
    if content_type is None:
        return JSON
    name = content_type.partition(";")[0].strip().lower()
    if name == CBOR_TYPE and find_spec("cbor2") is None:
        return None
    return _FORMATS.get(name)


def known() -> list[str]:
    """Return the content types that can be read here."""
    return [name for name in _FORMATS if find(name) is not None]


def _decode_json(payload: bytes, _names: Sequence[str]) -> Any:
    try:
        return from_json(payload)
    except ValueError as error:
        raise ValueError(f"Invalid JSON: {error}") from None


def _weigh_json(payload: bytes, _names: Sequence[str]) -> int:
    return _OBJECT * payload.count(b"{") + _ARRAY * payload.count(b"[") + _VALUE * payload.count(b",")


def _decode_senml(payload: bytes, names: Sequence[str]) -> Any:
    return senml.rows(_decode_json(payload, names), names)


def _encode_senml(outcome: Any) -> bytes:
    return to_json(senml.pack(outcome))


def unpack(payload: bytes, width: int) -> list[tuple[float, ...]]:
    """Return the rows of little-endian float32 values, `width` in each; raises `ValueError` when it is not one or more."""
    if not payload or len(payload) % (4 * width):
        raise ValueError(
            f"{len(payload)} bytes: packed float32 has 4 bytes a feature, so {4 * width} bytes or a multiple of it"
        )
    return list(struct.iter_unpack(f"<{width}f", payload))


def _decode_packed(payload: bytes, names: Sequence[str]) -> Any:
    """Read values in the order of the features; one row is an object, several are an array."""
    rows = [dict(zip(names, row, strict=True)) for row in unpack(payload, len(names))]
    return rows[0] if len(rows) == 1 else rows


def _weigh_packed(payload: bytes, names: Sequence[str]) -> int:
    return len(payload) // 4 * _VALUE + len(payload) // (4 * len(names)) * _OBJECT


def _decode_cbor(payload: bytes, _names: Sequence[str]) -> Any:
    """Read one CBOR item (RFC 8949)."""
    payload = payload.removeprefix(_SELF_DESCRIBED)  # cbor2 6 makes a mapping of its own of what is in a tag
    _check_tags(payload)
    try:
        content = import_module("cbor2").loads(payload)
    except Exception as error:  # noqa: BLE001 - of bytes from outside: whatever a tag's decoder raises, it is malformed
        raise ValueError(f"Invalid CBOR: {str(error)[:200]}") from None
    return _plain(content, MAX_DEPTH, set())


def _check_tags(payload: bytes) -> None:
    """Refuse what cbor2 would take minutes or gigabytes for. What is not CBOR is left to cbor2."""
    tag = None
    for kind, argument in _heads(payload):
        if tag in _BIGNUMS and (kind != _BYTES or argument is None or argument > _MAX_BIGNUM):
            raise ValueError(f"Invalid CBOR: a whole number is up to {_MAX_BIGNUM} bytes, in one piece")
        tag = argument if kind == _TAG else None
        if kind == _TAG and tag not in _TAGS:
            raise ValueError(f"Invalid CBOR: the tag {tag} is not taken")


def _weigh_cbor(payload: bytes, _names: Sequence[str]) -> int:
    weight = 0
    for kind, _ in _heads(payload):
        # Twice: what cbor2 gives is copied into plain values.
        weight += 2 * {4: _ARRAY, 5: _OBJECT}.get(kind, _VALUE)
        if weight > MAX_WEIGHT:
            break
    return weight


def _heads(payload: bytes) -> Iterator[tuple[int, int | None]]:
    """Yield the major type and the argument (None: in pieces, or their end) of each item (RFC 8949, 3): items lie one
    behind the other, whatever they are nested in.
    """
    place = 0
    while place < len(payload):
        kind, low = payload[place] >> 5, payload[place] & 31
        argument: int | None = None if low == 31 else low
        place += 1
        if 24 <= low <= 27:
            size = 1 << low - 24
            argument = int.from_bytes(payload[place : place + size], "big")
            place += size
        if kind in {_BYTES, _TEXT}:  # the pieces of one in pieces are items of their own
            place += argument or 0
        yield kind, argument


def _encode_cbor(value: Any) -> bytes:
    encoded: bytes = import_module("cbor2").dumps(value)
    return encoded


def _plain(value: Any, depth: int, seen: set[int]) -> Any:
    """Return `value` with plain values only. What is shared or contains itself is refused: it could grow without end."""
    if not isinstance(value, dict | list):
        return _plain_scalar(value)
    if depth == 0:
        raise ValueError(f"Invalid CBOR: nested more than {MAX_DEPTH} deep")
    if id(value) in seen:
        raise ValueError("Invalid CBOR: shared values are not taken")
    seen.add(id(value))
    if isinstance(value, list):
        return [_plain(item, depth - 1, seen) for item in value]
    if not all(isinstance(key, str) for key in value):
        raise ValueError("Invalid CBOR: keys have to be text")
    return {key: _plain(item, depth - 1, seen) for key, item in value.items()}


def _plain_scalar(value: Any) -> str | float | None:
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return math.inf if value > 0 else -math.inf
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date):  # datetime is one too
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    raise ValueError(f"Invalid CBOR: a value of the kind {type(value).__name__} is not taken")


JSON: Final = Format(_decode_json, _weigh_json, to_json, JSON_TYPE, "json_invalid")

PACKED: Final = Format(_decode_packed, _weigh_packed, to_json, JSON_TYPE, "packed_invalid", keyed=False)

_FORMATS: Final = {
    JSON_TYPE: JSON,
    SENML_TYPE: Format(_decode_senml, _weigh_json, _encode_senml, SENML_TYPE, "senml_invalid"),
    CBOR_TYPE: Format(_decode_cbor, _weigh_cbor, _encode_cbor, CBOR_TYPE, "cbor_invalid"),
    PACKED_TYPE: PACKED,
}
