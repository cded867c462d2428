"""Payload formats by content type: bytes to what JSON could hold, and back.

Every payload comes from outside. A decoder gives plain values only (objects with text keys, arrays, text, numbers,
booleans, null), nested no deeper than `weights.MAX_DEPTH`, or raises `ValueError` with a reason; so what comes after it needs
to know nothing of formats.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from edge_agent.contract.messages import JSON_TYPE, to_json
from edge_agent.payload import cbor, senml
from edge_agent.payload.weights import ARRAY, MAX_WEIGHT, OBJECT, VALUE

SENML_TYPE: Final = "application/senml+json"
CBOR_TYPE: Final = "application/cbor"
PACKED_TYPE: Final = "application/octet-stream"

#: Bytes of a payload that can't weigh too much, whatever is in it: no format has more than two objects a byte.
LIGHT: Final = MAX_WEIGHT // (2 * OBJECT)


class Format(NamedTuple):
    """One format. `decode` takes the payload and the names that are looked for in it.

    These are the model's features in order and, where rows are `keyed`, the keys at the top that `fields` begin with.
    `weigh` takes the same and estimates, in a fraction of the time, how many bytes of memory `decode` would take.
    `invalid` is the kind of the reason when `decode` raises; `keyed` whether the keys of a row are the sensor's own.

    `encode` gives an answer, whose content type is `answers`. One of many rows is written row by row, so that its size is
    known before it is too large: what `begin` makes of their number, what a new `row_encoder` makes of each, one after
    the other, with `between`, and `end`. `alike` says that a row is written the same whatever stands before it.
    """

    decode: Callable[[bytes, Sequence[str]], Any]
    weigh: Callable[[bytes, Sequence[str]], int]
    encode: Callable[[Any], bytes]
    answers: str
    invalid: str
    keyed: bool = True
    begin: Callable[[int], bytes] = lambda _: b"["
    row_encoder: Callable[[], Callable[[Any], bytes]] = lambda: to_json
    between: bytes = b","
    end: bytes = b"]"
    alike: bool = True


def find(content_type: str | None) -> Format | None:
    """Return the format of a content type (None: JSON), whatever its parameters; None when there is none."""
    if content_type is None:
        return JSON
    name = content_type.partition(";")[0].strip().lower()
    if name == CBOR_TYPE and not cbor.is_there():
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
    return OBJECT * payload.count(b"{") + ARRAY * payload.count(b"[") + VALUE * payload.count(b",")


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
    return len(payload) // 4 * VALUE + len(payload) // (4 * len(names)) * OBJECT


JSON: Final = Format(_decode_json, _weigh_json, to_json, JSON_TYPE, "json_invalid")

PACKED: Final = Format(_decode_packed, _weigh_packed, to_json, JSON_TYPE, "packed_invalid", keyed=False)

_FORMATS: Final = {
    JSON_TYPE: JSON,
    SENML_TYPE: Format(
        _decode_senml,
        _weigh_json,
        _encode_senml,
        SENML_TYPE,
        "senml_invalid",
        row_encoder=senml.row_encoder,
        alike=False,
    ),
    CBOR_TYPE: Format(
        cbor.decode,
        cbor.weigh,
        cbor.encode,
        CBOR_TYPE,
        "cbor_invalid",
        begin=cbor.begin_array,
        row_encoder=cbor.row_encoder,
        between=b"",
        end=b"",
    ),
    PACKED_TYPE: PACKED,
}
