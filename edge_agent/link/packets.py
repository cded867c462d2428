"""Encodes and decodes PUBLISH and PUBACK, the two packets of every message (MQTT 3.1.1 and 5, sections 2, 3.3 and 3.4).

paho handles the rest of the protocol. These two are ours because a message costs paho about 100 us, and this file
about 3 (docs/decisions/0007). DISCONNECT (3.14) is read, too: paho 2.1 drops a reason without properties, and Mosquitto
sends none.

Rules:

* input is not trusted: a packet that violates the standard raises `ValueError`, nothing else;
* text that is not UTF-8, which MQTT forbids and brokers check, is repaired with U+FFFD, and cut if that makes it too long
  for MQTT: if we ended the connection over it, the broker would redeliver the same message forever;
* everything that was read can be written again: the properties copied to an answer are bounded (`carry`), and contain
  nothing over which a broker may end the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from edge_agent.contract.messages import MAX_PACKET_BYTES, Answer, Carried
from edge_agent.contract.topics import is_unfit
from edge_agent.link.properties import (
    CONTENT_TYPE,
    CORRELATION_DATA,
    EXPIRY,
    LONGEST,
    PAYLOAD_FORMAT,
    REASON_STRING,
    RESPONSE_TOPIC,
    SUBSCRIPTION_ID,
    TOPIC_ALIAS,
    USER_PROPERTY,
    block_at,
    read_property,
    repaired,
    text_bytes,
    varint,
)

PUBLISH: Final = 0x30
PUBACK: Final = 0x40
#: A broker's answer to a QoS 2 message, with the same reason codes as PUBACK. Nothing here releases such a message.
PUBREC: Final = 0x50
CONFIRMATIONS: Final = frozenset({PUBACK, PUBREC})
DISCONNECT: Final = 0xE0
#: The whole packet.
PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = 0xD0

#: Largest packet id, and so the most QoS 1 messages in flight.
MAX_PACKET_ID: Final = 65_535
#: Highest reason code of a PUBACK that means success (MQTT 5, 2.4).
_LAST_SUCCESS: Final = 0x7F

#: The most that is copied to an answer: bytes of Correlation Data, number of User Properties, and bytes of those.
#: Thousands of inputs may be in flight, and each keeps its own.
MAX_CORRELATION_BYTES: Final = 1024
MAX_USER_PROPERTIES: Final = 32
MAX_USER_PROPERTY_BYTES: Final = 4096
#: Most characters kept of a broker's Reason String.
_WORDS: Final = 200

#: Reason codes with which a broker refuses a message (MQTT 5, 3.4.2.1).
_REFUSALS: Final = {
    0x80: "Unspecified error",
    0x83: "Implementation specific error",
    0x87: "Not authorized",
    0x90: "Topic name invalid",
    0x91: "Packet identifier in use",
    0x97: "Quota exceeded",
    0x99: "Payload format invalid",
}


class Publish(NamedTuple):
    """One PUBLISH. `topic` is empty when `alias` stands for it; `packet_id` is 0 at QoS 0. `left` says what of its
    properties is not carried over to the answer, and why, None when all is.
    """

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    duplicate: bool = False
    alias: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    carried: Carried | None = None
    retained: bool = False
    left: str | None = None


#: Of the properties of a PUBLISH: the alias, the content type, the response topic, what is carried over and what is left.
_Found: TypeAlias = tuple[int | None, str | None, str | None, Carried | None, str | None]
_NOTHING: Final[_Found] = (None, None, None, None, None)


class Puback(NamedTuple):
    """One PUBACK: `refused` says why when the broker did not take the message, else it is None."""

    packet_id: int
    refused: str | None = None


class Pong(NamedTuple):
    """The answer to our PINGREQ."""


class Disconnect(NamedTuple):
    """One DISCONNECT of MQTT 5: its reason code (3.14.2.1), 0 when it has none, and the broker's own words for it."""

    code: int
    words: str | None = None


#: The broker's packets that are read here.
Event: TypeAlias = Publish | Puback | Disconnect | Pong


def bounds(data: bytes | bytearray, place: int) -> tuple[int, int] | None:
    """Return where the packet that begins at `place` has its body and its end; None when that can't be told yet.

    Raises `ValueError` when the length is longer than four bytes.
    """
    size, shift, here = 0, 0, place + 1
    if here < len(data) and data[here] < 0x80:
        return here + 1, here + 1 + data[here]
    while here < len(data):
        digit = data[here]
        size |= (digit & 0x7F) << shift
        here += 1
        if digit < 0x80:
            return here, here + size
        shift += 7
        if shift > 21:
            raise ValueError("the length of a packet has more than four bytes")
    return None


def read_publish(flags: int, body: bytes, *, is_5: bool) -> Publish:
    """Read the body of a PUBLISH; `flags` is the first byte of the packet."""
    size = len(body)
    place = 2 + int.from_bytes(body[:2], "big")
    try:
        topic = body[2:place].decode()
    except UnicodeDecodeError:
        topic = repaired(body[2:place])
    qos = flags >> 1 & 3
    packet_id = 0
    if qos:
        if qos == 3:
            raise ValueError("a PUBLISH at QoS 3, which does not exist")
        packet_id = int.from_bytes(body[place : place + 2], "big")
        place += 2
        if not packet_id:
            raise ValueError("a PUBLISH without its packet id")
    alias, content_type, response_topic, carried, left = _NOTHING
    if is_5:
        if body[place : place + 1] == b"\0":
            place += 1
        else:
            start, place = block_at(body, place)
            if place <= size:
                alias, content_type, response_topic, carried, left = _of_publish(body[start:place])
    if place > size:
        raise ValueError("a PUBLISH that ends too early")
    # By position: by name takes twice as long.
    return Publish(
        topic,
        body[place:],
        qos,
        packet_id,
        flags & 0x08 != 0,
        alias,
        content_type,
        response_topic,
        carried,
        flags & 0x01 != 0,
        left,
    )


def read_puback(body: bytes) -> Puback:
    """Read the body of a PUBACK; in MQTT 3.1.1 it has only the packet id."""
    if len(body) < 2:
        raise ValueError("a PUBACK without its packet id")
    packet_id = int.from_bytes(body[:2], "big")
    if len(body) == 2 or body[2] <= _LAST_SUCCESS:
        return Puback(packet_id)
    code = body[2]
    text = _REFUSALS.get(code, f"reason code {code:#04x}")
    if len(body) > 3:
        start, end = block_at(body, 3)
        place, block = 0, body[start:end]
        while place < len(block):
            kind, value, place = read_property(block, place)
            if kind == REASON_STRING:
                text = f"{text} ({value[:_WORDS]!r})"
    return Puback(packet_id, text)


def carry(
    correlation_data: bytes | None, user_properties: Sequence[tuple[str, str]], expiry: int | None
) -> tuple[Carried | None, str | None]:
    """Return the properties to copy to an answer, and those not copied with the reason, None when all are.

    Each is copied whole or not at all.
    """
    left: list[str] = []
    if correlation_data is not None and len(correlation_data) > MAX_CORRELATION_BYTES:
        left.append(f"Correlation Data of more than {MAX_CORRELATION_BYTES} bytes")
        correlation_data = None
    if user_properties and (wrong := _unfit(user_properties)):
        left.append(f"User Properties {wrong}")
        user_properties = ()
    words = " and ".join(left) or None
    if not user_properties and correlation_data is None and expiry is None:
        return None, words
    return Carried(correlation_data, tuple(user_properties), expiry), words


def _unfit(user_properties: Sequence[tuple[str, str]]) -> str | None:
    """Return why these are not copied, None when they are."""
    if len(user_properties) > MAX_USER_PROPERTIES:
        return f"of which there are more than {MAX_USER_PROPERTIES}"
    text = "".join([part for pair in user_properties for part in pair])
    if len(text) > MAX_USER_PROPERTY_BYTES or len(text.encode(errors="replace")) > MAX_USER_PROPERTY_BYTES:
        return f"of more than {MAX_USER_PROPERTY_BYTES} bytes"
    return None if text.isprintable() else is_unfit(text)


def read_disconnect(body: bytes) -> Disconnect:
    """Read the body of a DISCONNECT; reason and properties are optional. Errors are ignored: the connection ends anyway."""
    if len(body) < 2:
        return Disconnect(body[0] if body else 0)
    words = None
    try:
        start, end = block_at(body, 1)
        place, block = 0, body[start:end]
        while place < len(block):
            kind, value, place = read_property(block, place)
            if kind == REASON_STRING:
                words = value[:_WORDS]
    except (ValueError, IndexError):
        pass  # an unknown property, such as another server's address; only the code matters
    return Disconnect(body[0], words)


def publish(answer: Answer, packet_id: int, *, is_5: bool) -> bytes:
    """Return the PUBLISH of an answer; `packet_id` is left out at QoS 0.

    Raises `ValueError` when MQTT can't write it: `size_of` says so before, and the length of the topic.
    """
    topic, payload, qos, retain, content_type, carried = answer
    name = topic.encode()
    properties = b""
    if is_5:
        properties = _content_type(content_type) if carried is None else _properties(content_type, carried)
    identifier = packet_id.to_bytes(2, "big") if qos else b""
    size = 2 + len(name) + len(identifier) + len(properties) + len(payload)
    if len(name) > LONGEST or size > MAX_PACKET_BYTES:
        raise ValueError("a PUBLISH that is too large for MQTT")
    return b"".join(
        (
            (PUBLISH | qos << 1 | retain).to_bytes(1, "big"),
            varint(size),
            len(name).to_bytes(2, "big"),
            name,
            identifier,
            properties,
            payload,
        )
    )


def puback(packet_id: int) -> bytes:
    """Return the PUBACK of an accepted message."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def size_of(answer: Answer) -> int:
    """Return the most bytes that the PUBLISH of an answer can have (MQTT 5, 3.3)."""
    # Fixed header 5, length of the topic 2, packet id 2, length of the properties 4, Content Type 3 and its text.
    size = 16 + len(answer.topic.encode()) + len((answer.content_type or "").encode()) + len(answer.payload)
    if answer.carried is not None:
        correlation_data, user_properties, _ = answer.carried
        # Correlation Data 3, Message Expiry Interval 5, a User Property 5 and its two texts.
        size += 8 + len(correlation_data or b"")
        size += sum(5 + len(name.encode()) + len(value.encode()) for name, value in user_properties)
    return size


# -- properties


def _of_publish(block: bytes) -> _Found:
    """Read the properties of a PUBLISH."""
    alias = content_type = response_topic = correlation_data = expiry = None
    user_properties: list[tuple[str, str]] = []
    place = 0
    while place < len(block):
        kind, value, place = read_property(block, place)
        if kind == USER_PROPERTY:
            user_properties.append(value)
        elif kind == CONTENT_TYPE:
            content_type = value
        elif kind == RESPONSE_TOPIC:
            response_topic = value
        elif kind == CORRELATION_DATA:
            correlation_data = value
        elif kind == EXPIRY:
            expiry = value
        elif kind == TOPIC_ALIAS:
            alias = value
        elif kind not in {PAYLOAD_FORMAT, SUBSCRIPTION_ID}:
            raise ValueError(f"a PUBLISH with the property {kind:#04x}")
    if user_properties or correlation_data is not None or expiry is not None:
        return alias, content_type, response_topic, *carry(correlation_data, user_properties, expiry)
    return alias, content_type, response_topic, None, None


@lru_cache(maxsize=64)
def _content_type(content_type: str | None) -> bytes:
    """Return the properties of nearly every answer."""
    return _properties(content_type, Carried())


def _properties(content_type: str | None, carried: Carried) -> bytes:
    parts: list[bytes] = []
    if content_type is not None:
        parts += (bytes((CONTENT_TYPE,)), text_bytes(content_type.encode()))
    if carried.correlation_data is not None:
        parts += (bytes((CORRELATION_DATA,)), text_bytes(carried.correlation_data))
    for name, value in carried.user_properties:
        parts += (bytes((USER_PROPERTY,)), text_bytes(name.encode()), text_bytes(value.encode()))
    if carried.expiry is not None:
        parts += (bytes((EXPIRY,)), carried.expiry.to_bytes(4, "big"))
    block = b"".join(parts)
    return varint(len(block)) + block
