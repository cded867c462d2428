"""A client that means harm: what an attack on the agent sent, by name, and a thread that sends it.

`ATTACKS` are messages that any broker carries to the agent, each with the reason why it once was, or could be, trouble.
Most are cheap to answer. Those in `HEAVY` keep the agent busy for as long as one message can. None of them may cost it a
message of somebody else's, its memory, or its life.
"""

from __future__ import annotations

import itertools
import json
import select
import socket
import struct
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from tests import wire
from tests.background import Client
from tests.e2e.tracks import ROCK
from tests.traffic import SENSORS

TOPIC: Final = "music/hostile/features"
#: What the agent takes by default.
MIB: Final = 1 << 20
ROW: Final = json.dumps(ROCK).encode()

# MQTT 5, 2.2.2.2: properties of PUBLISH.


def expiry(seconds: int) -> bytes:
    return b"\x02" + seconds.to_bytes(4)


def text_format() -> bytes:
    return b"\x01\x01"


def content_type(value: str) -> bytes:
    return b"\x03" + wire.text(value)


def response_topic(value: str | bytes) -> bytes:
    encoded = value.encode() if isinstance(value, str) else value
    return b"\x08" + len(encoded).to_bytes(2) + encoded


def correlation(data: bytes) -> bytes:
    return b"\x09" + len(data).to_bytes(2) + data


def user(name: str | bytes, value: str | bytes) -> bytes:
    pair = (one.encode() if isinstance(one, str) else one for one in (name, value))
    return b"\x26" + b"".join(len(one).to_bytes(2) + one for one in pair)


class Attack(NamedTuple):
    """One message. `properties` are encoded, without their length."""

    payload: bytes
    topic: str = TOPIC
    properties: bytes = b""
    retain: bool = False
    qos: int = 1

    def packet(self, packet_id: int) -> bytes:
        """As MQTT 5 PUBLISH."""
        length = wire.varint(len(self.properties))
        middle = packet_id.to_bytes(2) if self.qos else b""
        body = wire.text(self.topic) + middle + length + self.properties + self.payload
        return wire.pack(wire.PUBLISH, body, self.qos << 1 | self.retain)


def _row(**values: object) -> bytes:
    return json.dumps({**ROCK, **values}).encode()


def _batch(row: bytes, count: int) -> bytes:
    return b"[" + b",".join([row] * count) + b"]"


def _cbor_batch(row: bytes, count: int) -> bytes:
    return b"\x99" + count.to_bytes(2) + row * count


def _named(topic: str) -> str:
    return f"music/{topic}/features"


CBOR: Final = content_type("application/cbor")
PACKED: Final = content_type("application/octet-stream")
SENML: Final = content_type("application/senml+json")

ATTACKS: Final[dict[str, Attack]] = {
    # Payloads that are no features.
    "nothing": Attack(b""),
    "nothing, retained": Attack(b"", retain=True),
    "not UTF-8": Attack(b"\xff" * 30_000),
    "half a character": Attack(ROW[:-1] + b', "id": "\xe2\x82"}'),
    "a byte order mark": Attack(b"\xef\xbb\xbf" + ROW),
    "UTF-16": Attack(ROW.decode().encode("utf-16")),
    "cut off": Attack(ROW[:-5]),
    "a word": Attack(b"unavailable"),
    "null": Attack(b"null"),
    "an empty batch": Attack(b"[]"),
    "a batch of an empty batch": Attack(b"[[]]"),
    "brackets": Attack(b"[" * 100_000),
    "objects in objects": Attack(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "lone surrogates": Attack(b'{"\\ud800": "\\udfff"}'),
    "NUL in a key": Attack(b'{"tempo\\u0000": 1}'),
    "keys that come twice": Attack(b"{" + b",".join([b'"tempo": 1'] * 1000) + b"}"),
    # Values.
    "an integer of 5,000 digits": Attack(ROW[:-1] + b', "tempo": ' + b"9" * 5000 + b"}"),
    "an exponent beyond all": Attack(ROW[:-1] + b', "tempo": 1e999999}'),
    "not a number": Attack(ROW[:-1] + b', "tempo": NaN}'),
    "a long text for a number": Attack(_row(tempo="1" * 30_000)),
    "an array for a number": Attack(_row(tempo=[[]] * 1000)),
    # What is carried over into the answer.
    "a long id": Attack(_row(id="x" * 30_000)),
    "a deep id": Attack(ROW[:-1] + b', "id": ' + b"[" * 500 + b"]" * 500 + b"}"),
    "escape sequences": Attack(_row(id="\x1b]0;owned\x07\x1b[2J", time="\u202e\u2066")),
    "an id like everybody's": Attack(_row(id=0)),
    # Formats.
    "CBOR, nested": Attack(b"\x81" * 30_000, properties=CBOR),
    "CBOR with a length that lies": Attack(b"\x9b" + b"\xff" * 8, properties=CBOR),
    "CBOR text that lies": Attack(b"\x7b" + b"\xff" * 8, properties=CBOR),
    "CBOR decimal of a huge number": Attack(
        b"\xa1\x61a\xc4\x82\x1b" + b"\xff" * 8 + b"\xc2\x43\1\0\0", properties=CBOR
    ),
    "CBOR, a number of 30,000 bytes": Attack(b"\xa1\x61a\xc2\x59\x75\x30" + b"\xff" * 30_000, properties=CBOR),
    "CBOR that refers to itself": Attack(b"\xd8\x1c\x81\xd8\x1d\x00", properties=CBOR),
    "CBOR pieces without an end": Attack(b"\x7f" + b"\x60" * 30_000, properties=CBOR),
    "SenML, times": Attack(
        b"[" + b",".join(b'{"n":"a","v":1,"t":%d}' % time for time in range(1000)) + b"]", properties=SENML
    ),
    "SenML, no name": Attack(b'[{"v": 1}, {"bver": 99}]', properties=SENML),
    "packed, a byte too many": Attack(bytes(33), properties=PACKED),
    "packed, not numbers": Attack(struct.pack("<8f", *[float("nan")] * 8), properties=PACKED),
    "a format of 60,000 characters": Attack(ROW, properties=content_type("a/" + "b" * 60_000)),
    "a format with a newline": Attack(ROW, properties=content_type("application/json\n\x1b[31m")),
    # Topics.
    "a level of 20,000 characters": Attack(b"{}", _named("x" * 20_000)),
    "a level of 60,000 characters": Attack(b"{}", _named("x" * 60_000)),
    "an empty level": Attack(ROW, _named("")),
    "a level from right to left": Attack(ROW, _named("\u202egnp.exe")),
    "a level with a dollar": Attack(ROW, _named("$SYS")),
    "a level that is a template": Attack(ROW, _named("{sensor}")),
    "a level that is a path": Attack(ROW, _named("..")),
    # MQTT 5.
    "a response topic of 250 levels": Attack(ROW, properties=response_topic("a" + "/a" * 250)),
    "a response topic of 250 levels, where one may be": Attack(
        ROW, properties=response_topic("hostile/response" + "/a" * 250)
    ),
    "a response topic of 60,000 characters": Attack(ROW, properties=response_topic("a" * 60_000)),
    "a response topic with a wildcard": Attack(ROW, properties=response_topic("#")),
    "a response topic of the broker": Attack(ROW, properties=response_topic("$SYS/broker/version")),
    "a response topic of the agent": Attack(b"offline", properties=response_topic("edge/node/state")),
    "a response topic that is an input": Attack(ROW, properties=response_topic("music/loop/features")),
    "somebody else's answer": Attack(_row(id="forged"), properties=response_topic(f"music/{SENSORS[0]}/genre")),
    "correlation data of 65,000 bytes": Attack(ROW, properties=correlation(b"\xff" * 65_000)),
    "a thousand user properties": Attack(ROW, properties=user("k", "v" * 50) * 1000),
    "a user property of 130,000 characters": Attack(ROW, properties=user("k" * 65_000, "v" * 65_000)),
    "a user property with a newline": Attack(ROW, properties=user("a\nb", "\x1b[2J")),
    "expired at once": Attack(ROW, properties=expiry(0)),
    "expires in 136 years": Attack(ROW, properties=expiry(0xFFFFFFFF)),
    "text that is none": Attack(b"\xff\xfe", properties=text_format()),
    # Requests.
    "a request nobody knows": Attack(b"", "edge/node/request/explode"),
    "a request of a template": Attack(b"", "edge/node/request/{verb}"),
    "a long ping": Attack(b"x" * 100_000, "edge/node/request/ping"),
    "status": Attack(b"", "edge/node/request/status"),
    "info": Attack(b"[" * 1000, "edge/node/request/info"),
}

HEAVY: Final[dict[str, Callable[[], Attack]]] = {
    "empty rows": lambda: Attack(_batch(b"{}", 10_000)),
    "zeros on a level of 20,000 characters": lambda: Attack(_batch(b"0", 10_000), _named("x" * 20_000)),
    "zeros on a level of 60,000 characters": lambda: Attack(_batch(b"0", 10_000), _named("x" * 60_000)),
    "CBOR, empty rows": lambda: Attack(_cbor_batch(b"\xa0", 10_000), properties=CBOR),
    "a wrong value in every row": lambda: Attack(_batch(b'{"tempo":"' + b"x" * 400 + b'"}', 9_000)),
    "an id in every row": lambda: Attack(_batch(_row(id="x" * 200), 5_000)),
    "objects": lambda: Attack(_batch(b"{}", 4 * MIB // 3 - 2)),
    "keys": lambda: Attack(json.dumps({str(key): 0 for key in range(200_000)}).encode()),
    "a text of four megabytes": lambda: Attack(b'{"tempo": "' + b"x" * (4 * MIB - 13) + b'"}'),
    "too large": lambda: Attack(bytes(4 * MIB + 1)),
    "brackets, four megabytes": lambda: Attack(b"[" * (4 * MIB)),
    "packed, four megabytes": lambda: Attack(bytes(4 * MIB), properties=PACKED),
    "CBOR arrays": lambda: Attack(b"\x9a" + (MIB).to_bytes(4) + b"\x80" * MIB, properties=CBOR),
    "CBOR text in pieces": lambda: Attack(b"\x7f" + b"\x60" * MIB + b"\xff", properties=CBOR),
}
#: How many messages of `HEAVY` one after the other are sent as "thirteen in one read" (a kilobyte or ten each).
BURST: Final = 13


class HostileClient(Client):
    """`with HostileClient(port) as client:` sends inside the block: `rate` of `ATTACKS` a second, in turn, and one of
    `HEAVY` every `heavy_every` seconds; each third of those is a burst of CBOR batches. Without rates it sends what it is
    told to. When the broker throws it out it comes back."""

    def __init__(
        self, port: int, *, rate: float = 0.0, heavy_every: float = 0.0, attacks: Iterable[str] = (*ATTACKS,)
    ) -> None:
        super().__init__("hostile client", port)
        self._rate = rate
        self._heavy_every = heavy_every
        self._heavy_in = heavy_every
        self._names = itertools.cycle(attacks)
        self._heavy = itertools.cycle(HEAVY)
        self._waiting: list[Attack] = []
        #: How often each was sent, by name.
        self.sent = Counter[str]()
        #: What the broker has confirmed, whatever it thinks of it.
        self.confirmed = 0

    def send(self, *attacks: Attack) -> None:
        """Send these as well, on the next occasion."""
        with self._changed:
            self._waiting += attacks

    @property
    def waiting(self) -> int:
        """How many of those that it was told to send it has not sent."""
        with self._changed:
            return len(self._waiting)

    def __str__(self) -> str:
        heavy = sum(count for name, count in self.sent.items() if name in HEAVY)
        return f"{self.sent.total()} hostile messages of {len(self.sent)} kinds ({heavy} heavy)"

    # -- in the thread

    def _serve(self, sock: socket.socket) -> None:
        sock.sendall(wire.connect(f"hostile-{uuid.uuid4().hex[:8]}", level=5, clean=True))
        buffer = bytearray()
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        beat = 1 / self._rate if self._rate else 0.05
        packet_ids = itertools.cycle(range(1, 65_536))
        greeted = False
        while not self._closed.is_set():
            if poll.poll(0):
                data = sock.recv(wire.CHUNK)
                if not data:
                    raise ConnectionResetError("thrown out")
                buffer += data
                kinds = [packet.kind for packet in wire.take(buffer)]
                greeted = greeted or wire.CONNACK in kinds
                with self._changed:
                    self.confirmed += kinds.count(wire.PUBACK)
                    self._changed.notify_all()
                continue
            if greeted:
                if self._heavy_every:
                    self._heavy_in -= beat
                    if self._heavy_in <= 0:
                        self._heavy_in = self._heavy_every
                        self._send(sock, self._next_heavy(), packet_ids)
                if self._rate:
                    name = next(self._names)
                    self.sent[name] += 1
                    self._send(sock, [ATTACKS[name]], packet_ids)
                self._send_waiting(sock, packet_ids)
            self._closed.wait(beat)

    def _send_waiting(self, sock: socket.socket, packet_ids: Iterator[int]) -> None:
        # One after the other: the broker hangs up over some, and those behind it are for the next connection.
        while self.waiting and not select.select([sock], [], [], 0)[0]:
            with self._changed:
                attack = self._waiting.pop(0)
            self._send(sock, [attack], packet_ids)

    def _next_heavy(self) -> list[Attack]:
        name = next(self._heavy)
        self.sent[name] += 1
        attack = HEAVY[name]()
        return [attack] * (BURST if len(attack.payload) < 2 * wire.CHUNK // BURST else 1)

    @staticmethod
    def _send(sock: socket.socket, attacks: list[Attack], packet_ids: Iterator[int]) -> None:
        if attacks:
            sock.sendall(b"".join(attack.packet(next(packet_ids)) for attack in attacks))
