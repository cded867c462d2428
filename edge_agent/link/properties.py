"""Encodes and decodes the MQTT 5 properties of messages and their confirmations (MQTT 5, 1.5 and 2.2.2). The rules are
those of `edge_agent.link.packets`.
"""

from __future__ import annotations

from typing import Any, Final

#: Properties of a PUBLISH (MQTT 5, 3.3.2.3).
PAYLOAD_FORMAT: Final = 0x01
EXPIRY: Final = 0x02
CONTENT_TYPE: Final = 0x03
RESPONSE_TOPIC: Final = 0x08
CORRELATION_DATA: Final = 0x09
SUBSCRIPTION_ID: Final = 0x0B
REASON_STRING: Final = 0x1F
TOPIC_ALIAS: Final = 0x23
USER_PROPERTY: Final = 0x26
#: Bytes of the properties with a fixed length.
_FIXED: Final = {PAYLOAD_FORMAT: 1, EXPIRY: 4, TOPIC_ALIAS: 2}
_TEXTS: Final = frozenset({CONTENT_TYPE, RESPONSE_TOPIC, REASON_STRING})

#: Longest text and longest binary value, in bytes: their length is two bytes (MQTT 5, 1.5.4).
LONGEST: Final = 65_535


def read_property(block: bytes, place: int) -> tuple[int, Any, int]:
    """Return the property at `place`: its identifier, its value, and where the next one begins."""
    kind = block[place]
    place += 1
    size = _FIXED.get(kind)
    if size is not None:
        value: Any = int.from_bytes(block[place : place + size], "big")
        place += size
    elif kind == SUBSCRIPTION_ID:
        value, place = read_varint(block, place)
    elif kind in _TEXTS:
        raw, place = binary_at(block, place)
        value = repaired(raw)
    elif kind == CORRELATION_DATA:
        value, place = binary_at(block, place)
    elif kind == USER_PROPERTY:
        name, place = binary_at(block, place)
        raw, place = binary_at(block, place)
        value = (repaired(name), repaired(raw))
    else:
        raise ValueError(f"a property that does not belong there: {kind:#04x}")
    if place > len(block):
        raise ValueError("a property that ends too early")
    return kind, value, place


def repaired(raw: bytes) -> str:
    """Return the text; each invalid byte becomes U+FFFD, which has three bytes in UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode(errors="replace").encode()[:LONGEST].decode(errors="ignore")


def text_bytes(value: bytes) -> bytes:
    """Return text or binary data with its length. Raises `ValueError` when it is longer than MQTT can write."""
    if len(value) > LONGEST:
        raise ValueError("a text that is too long for MQTT")
    return len(value).to_bytes(2, "big") + value


def block_at(body: bytes, place: int) -> tuple[int, int]:
    """Return the beginning and the end of the block of properties whose length is at `place`."""
    size, start = read_varint(body, place)
    return start, start + size


def binary_at(block: bytes, place: int) -> tuple[bytes, int]:
    """Return the text or binary data whose length is at `place`, and its end."""
    end = place + 2 + int.from_bytes(block[place : place + 2], "big")
    return block[place + 2 : end], end


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number of up to four bytes at `place`, and its end. Raises `ValueError` when it does not end."""
    value = 0
    for shift in (0, 7, 14, 21):
        if place >= len(data):
            break
        digit = data[place]
        place += 1
        value |= (digit & 0x7F) << shift
        if digit < 0x80:
            return value, place
    raise ValueError("a length that does not end")


def varint(value: int) -> bytes:
    """Return a number as a variable byte integer: seven bits per byte."""
    if value < 0x80:
        return value.to_bytes(1, "big")
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
