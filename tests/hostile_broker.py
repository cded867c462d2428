"""A broker with a session that hangs up on what it does not like: by topic, size or number, in both protocols.

It keeps to all other rules: what was not acknowledged comes again, in order, on the next connection.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from tests import wire
from tests.background import Server

#: MQTT's protocol level, by name.
LEVELS: Final = {"5": 5, "3.1.1": 4}


class Said(NamedTuple):
    """A message from the agent; `size` is that of the whole packet."""

    topic: str
    payload: bytes
    qos: int
    size: int
    connection: int


class Question(NamedTuple):
    """A message to the agent; `properties` are those of MQTT 5, without their length."""

    topic: str
    payload: bytes
    qos: int = 1
    properties: bytes = b""


class HostileBroker(Server):
    """`with HostileBroker(hangs_up) as broker:` serves one client after the other at `broker.port`.

    `hangs_up` is asked about each message of the client. With `confirms_first` the broker confirms it before it hangs
    up, as Mosquitto 2.0.11 does. `window` is how many questions are under way at once.
    """

    gone = ConnectionError

    def __init__(
        self,
        hangs_up: Callable[[Said], bool] = lambda _: False,
        *,
        protocol: str = "5",
        confirms_first: bool = False,
        window: int = 100,
    ) -> None:
        super().__init__("hostile broker")
        self._hangs_up = hangs_up
        self._level = LEVELS[protocol]
        self._confirms_first = confirms_first
        self._window = window
        self._waiting: deque[Question] = deque()
        self._sent: dict[int, Question] = {}  # by packet id, not acknowledged
        self._next_id = 0
        #: What the agent has published, and questions that were acknowledged.
        self.said: list[Said] = []
        self.acknowledged = 0

    def ask(self, questions: Sequence[Question]) -> None:
        """Send questions, as soon as there is somebody who has subscribed."""
        with self._changed:
            self._waiting.extend(questions)

    def __str__(self) -> str:
        return f"{self.acknowledged} acknowledged, {self.connections} connections, said at last {self.said[-5:]}"

    # -- in the thread

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(0.05)
        arrived = bytearray()
        subscribed = again = False
        while not self._closed.is_set():
            if subscribed:
                if not again:
                    again = True
                    sock.sendall(b"".join(self._packet(one, packet, again=True) for packet, one in self._sent.items()))
                sock.sendall(self._questions())
            try:
                data = sock.recv(wire.CHUNK)
            except TimeoutError:
                continue
            if not data:
                return
            arrived += data
            for packet in wire.take(arrived):
                subscribed = subscribed or packet.kind == wire.SUBSCRIBE
                reply, ends = self._take(packet)
                sock.sendall(reply)
                if ends:
                    return

    def _questions(self) -> bytes:
        made = []
        with self._changed:
            while self._waiting and len(self._sent) < self._window:
                question = self._waiting.popleft()
                self._next_id = self._next_id % 65_535 + 1
                if question.qos:
                    self._sent[self._next_id] = question
                made.append(self._packet(question, self._next_id))
        return b"".join(made)

    def _packet(self, question: Question, packet_id: int, *, again: bool = False) -> bytes:
        body = wire.text(question.topic) + (packet_id.to_bytes(2) if question.qos else b"")
        if self._level == LEVELS["5"]:
            body += wire.varint(len(question.properties)) + question.properties
        return wire.pack(wire.PUBLISH, body + question.payload, question.qos << 1 | (0b1000 if again else 0))

    def _take(self, packet: wire.Packet) -> tuple[bytes, bool]:
        """Return the reply, and whether to hang up behind it."""
        reply, ends = b"", False
        nothing = b"\0" if self._level == LEVELS["5"] else b""  # no properties
        with self._changed:
            match packet.kind:
                case wire.CONNECT:
                    reply = wire.pack(wire.CONNACK, b"\0\0" + nothing)
                case wire.SUBSCRIBE:
                    # As many as any agent here asks for: two.
                    reply = wire.pack(wire.SUBACK, packet.body[:2] + nothing + b"\1\1")
                case wire.PINGREQ:
                    reply = wire.pack(wire.PINGRESP)
                case wire.PUBACK:
                    known = self._sent.pop(int.from_bytes(packet.body[:2]), None)
                    self.acknowledged += known is not None
                case wire.PUBLISH:
                    topic, packet_id, rest = wire.read_publish(packet)
                    said = Said(topic, rest, 0 if packet_id is None else 1, len(packet.body), self.connections)
                    ends = self._hangs_up(said)
                    if packet_id is not None and (self._confirms_first or not ends):
                        reply = wire.pack(wire.PUBACK, packet_id.to_bytes(2))
                    if not ends:
                        self.said.append(said)
            self._changed.notify_all()
        return reply, ends
