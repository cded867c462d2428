"""A broker that keeps to no rule but the handshake: it sends without end, ignores Receive Maximum, and accepts nothing."""

from __future__ import annotations

import select
import socket
from typing import Final

from tests import wire
from tests.background import Server
from tests.traffic import SENSORS, question

#: Messages under way while it behaves: no more than the agent's Receive Maximum, 500.
_POLITE: Final = 450
#: Packets put together for one write.
_PIECE: Final = 50
_ANSWERS: Final = tuple(f"music/{sensor}/genre" for sensor in SENSORS)


class RudeBroker(Server):
    """`with RudeBroker(qos=1, reads=True) as broker:` serves whoever comes to `broker.port`, MQTT 5 only.

    It begins well-behaved. Once `rude` is set it sends as fast as the socket takes, and then either reads nothing at
    all or reads and confirms nothing; PINGREQ it answers as long as it reads.
    """

    def __init__(self, *, qos: int, reads: bool) -> None:
        super().__init__("rude broker")
        self._qos = qos
        self._reads = reads
        self._rude = False
        self.sent = 0
        self.answered = 0

    def be(self, *, rude: bool) -> None:
        """Change manners; from rude to polite on the next connection."""
        self._rude = rude

    def wait_for_answers(self, count: int) -> None:
        """Return when `count` more questions are answered."""
        with self._changed:
            goal = self.answered + count
        self.wait(lambda: self.answered >= goal, f"{count} more answers")

    def __str__(self) -> str:
        return f"{self.sent} sent, {self.answered} answered"

    # -- in the thread

    def _serve(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        poll = select.poll()
        arrived, unsent = bytearray(), bytearray()
        subscribed = rude = False
        open_questions = 0
        while not self._closed.is_set():
            if rude and not self._rude:
                return
            rude = rude or (self._rude and subscribed)
            if subscribed and not unsent and (rude or open_questions + _PIECE <= _POLITE):
                unsent += self._questions()
                open_questions += _PIECE
            reading = self._reads or not rude
            poll.register(sock, (select.POLLIN if reading else 0) | (select.POLLOUT if unsent else 0))
            for _, events in poll.poll(100):
                if events & select.POLLOUT:
                    del unsent[: sock.send(unsent)]
                if events & (select.POLLERR | select.POLLHUP) and not events & select.POLLIN:
                    raise ConnectionResetError
                if events & select.POLLIN:
                    data = sock.recv(wire.CHUNK)
                    if not data:
                        return
                    arrived += data
            for packet in wire.take(arrived):
                subscribed = subscribed or packet.kind == wire.SUBSCRIBE
                open_questions -= self._is_answer(packet)
                unsent += self._reply(packet, rude)

    def _questions(self) -> bytes:
        numbers = range(self.sent, self.sent + _PIECE)
        self.sent += _PIECE
        return b"".join(
            wire.publish(
                f"music/{SENSORS[number % len(SENSORS)]}/features",
                question(number),
                number % 65_535 + 1 if self._qos else None,
                level=5,
            )
            for number in numbers
        )

    def _is_answer(self, packet: wire.Packet) -> bool:
        if packet.kind != wire.PUBLISH or wire.read_publish(packet).topic not in _ANSWERS:
            return False
        with self._changed:
            self.answered += 1
            self._changed.notify_all()
        return True

    def _reply(self, packet: wire.Packet, rude: bool) -> bytes:
        if packet.kind == wire.CONNECT:
            return wire.pack(wire.CONNACK, b"\0\0\0")
        if packet.kind == wire.SUBSCRIBE:
            return wire.pack(wire.SUBACK, packet.body[:2] + b"\0\1\1")
        if packet.kind == wire.PINGREQ:
            return wire.pack(wire.PINGRESP)
        if packet.kind == wire.PUBLISH and not rude and (packet_id := wire.read_publish(packet).packet_id) is not None:
            return wire.pack(wire.PUBACK, packet_id.to_bytes(2))
        return b""
