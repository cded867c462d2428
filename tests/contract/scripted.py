"""A broker that says what the test wants, byte by byte: for what a real one does not do."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence

from edge_agent.link import packets
from edge_agent.link.packets import Puback, Publish
from tests.background import Server
from tests.patience import DEADLINE


class ScriptedBroker(Server):
    """Takes connections one after the other, MQTT 5; grants what is asked for, confirms what is published, and sends
    `script(connection number)` once somebody has subscribed. With `confirms` off it acknowledges nothing. `queue` is
    what it sends before it grants, `pace` seconds apart, as a broker does that has a session to work off. `grants` gives
    the reason code of the nth SUBSCRIBE, for each of its filters. `connack` gives the reason code and the properties that
    answer a CONNECT, of which it sees the flags. It ends the connection at a packet that `hangs_up` says so of, by its
    first byte and its body."""

    def __init__(
        self,
        script: Callable[[int], bytes],
        *,
        confirms: bool = True,
        queue: Sequence[bytes] = (),
        pace: float = 0.05,
        grants: Callable[[int], int] = lambda _: 1,
        connack: Callable[[int], tuple[int, bytes]] = lambda _: (0, b""),
        hangs_up: Callable[[int, bytes], bool] = lambda _, __: False,
    ) -> None:
        super().__init__("scripted broker")
        self._pace = pace
        self._grants = grants
        self._connack = connack
        self._hangs_up = hangs_up
        self.subscribed = 0
        self._confirms = confirms
        self._queue = queue
        self._script = script
        self.published: list[Publish] = []
        self.acknowledged: list[int] = []
        self.connect = b""

    def __str__(self) -> str:
        return f"published {self.published[-5:]}, {self.acknowledged}"

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(DEADLINE)
        buffer = b""
        while not self._closed.is_set():
            try:
                data = sock.recv(65_536)
            except OSError:
                return
            if not data:
                return
            buffer += data
            while (found := packets.bounds(buffer, 0)) is not None and found[1] <= len(buffer):
                first, body, buffer = buffer[0], buffer[found[0] : found[1]], buffer[found[1] :]
                if self._hangs_up(first, body):
                    return
                if first & 0xF0 == 0x80:
                    for message in self._queue:
                        sock.sendall(message)
                        time.sleep(self._pace)
                sock.sendall(self._reply(first, body))

    def _reply(self, first: int, body: bytes) -> bytes:
        reply = b""
        with self._changed:
            match first & 0xF0:
                case 0x10:
                    self.connect = body
                    reason, properties = self._connack(body[7])
                    reply = bytes((0x20, 3 + len(properties), 0, reason, len(properties))) + properties
                case 0x80:
                    # Packet id, no properties, and as many granted QoS 1 as there are filters.
                    self.subscribed += 1
                    filters = count_filters(body)
                    reply = (
                        b"\x90"
                        + bytes((3 + filters,))
                        + body[:2]
                        + b"\0"
                        + bytes((self._grants(self.subscribed),)) * filters
                    )
                    reply += self._script(self.connections)
                case 0xC0:
                    reply = b"\xd0\0"
                case packets.PUBLISH:
                    event = packets.read_publish(first, body, is_5=True)
                    self.published.append(event)
                    if event.qos and self._confirms:
                        reply = packets.puback(event.packet_id)
                case packets.PUBACK:
                    event_ = packets.read_puback(body)
                    assert isinstance(event_, Puback)
                    self.acknowledged.append(event_.packet_id)
            self._changed.notify_all()
        return reply


def count_filters(body: bytes) -> int:
    """Return how many filters a SUBSCRIBE without properties has."""
    place, filters = 3, 0
    while place < len(body):
        place += 3 + struct.unpack_from("!H", body, place)[0]
        filters += 1
    return filters
