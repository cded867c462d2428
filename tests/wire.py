"""MQTT's framing, just enough of it for the tests' own ends of a connection (MQTT 5 and 3.1.1, section 2.1)."""

from __future__ import annotations

from typing import Final, NamedTuple

CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
#: What an end has taken off the wire at once, at the most.
CHUNK: Final = 1 << 16


class Packet(NamedTuple):
    """One whole packet; `body` is what follows the fixed header."""

    kind: int
    flags: int
    body: bytes


class Publish(NamedTuple):
    topic: str
    packet_id: int | None
    #: Properties and payload in MQTT 5, the payload alone in 3.1.1.
    rest: bytes


def size_of(buffer: bytes | bytearray, place: int = 0) -> int | None:
    """The length of the packet that begins at `place`, when its fixed header is all there."""
    size = 0
    for position in range(1, min(len(buffer) - place, 5)):
        byte = buffer[place + position]
        size |= (byte & 0x7F) << 7 * (position - 1)
        if not byte & 0x80:
            return position + 1 + size
    return None


def take(buffer: bytearray) -> list[Packet]:
    """Take the whole packets off the front of `buffer`."""
    packets: list[Packet] = []
    place = 0
    while (size := size_of(buffer, place)) is not None and place + size <= len(buffer):
        body = place + 2
        while buffer[body - 1] & 0x80:
            body += 1
        packets.append(Packet(buffer[place] >> 4, buffer[place] & 0x0F, bytes(buffer[body : place + size])))
        place += size
    del buffer[:place]
    return packets


def varint(value: int) -> bytes:
    """A length of seven bits a byte (MQTT 5, 1.5.5)."""
    length = bytearray()
    while True:
        value, digit = value >> 7, value & 0x7F
        length.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(length)


def pack(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2) + encoded


def connect(client_id: str, *, level: int, clean: bool, properties: bytes = b"", keepalive: int = 0) -> bytes:
    """CONNECT, by default without a keep-alive. `level` is 5 or 4 (3.1.1); `properties` without their length."""
    given = bytes([len(properties)]) + properties if level == 5 else b""
    flags = bytes([level, clean << 1]) + keepalive.to_bytes(2)
    return pack(CONNECT, text("MQTT") + flags + given + text(client_id))


def publish(topic: str, payload: bytes, packet_id: int | None, *, level: int, again: bool = False) -> bytes:
    """PUBLISH at QoS 1, or at QoS 0 without a packet id."""
    middle = b"" if packet_id is None else packet_id.to_bytes(2)
    flags = (0 if packet_id is None else 0b0010) | (0b1000 if again else 0)
    return pack(PUBLISH, text(topic) + middle + (b"\0" if level == 5 else b"") + payload, flags)


def read_publish(packet: Packet) -> Publish:
    body = packet.body
    ends = 2 + int.from_bytes(body[:2])
    topic = body[2:ends].decode()
    if packet.flags & 0b0110:
        return Publish(topic, int.from_bytes(body[ends : ends + 2]), body[ends + 2 :])
    return Publish(topic, None, body[ends:])
