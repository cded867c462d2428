"""A bad line between a client and its broker: cut or stalled in the middle of a packet, or slow.

It passes bytes on and knows only where packets begin and end. (The relay of `tests.contract.agents` knows what the
packets are, and holds back whole ones.)
"""

from __future__ import annotations

import random
import socket
import threading
from typing import Final

from tests import wire
from tests.background import Server
from tests.brokers import HOST
from tests.patience import DEADLINE

#: Seconds between two pieces of a slow line.
_PIECE: Final = 0.05
#: Small, so that bytes wait at the ends of a slow or stalled line and not within it.
_BUFFER: Final = 4096


class Line(Server):
    """`with Line(broker.port) as line:` listens on `line.port` inside the block.

    What is asked of it concerns the connections there are at that moment; new ones are sound, but for their speed.
    """

    def __init__(self, port: int) -> None:
        super().__init__("line")
        self._to = port
        self._pairs: list[_Connection] = []
        self._spoilt: _Connection | None = None
        self._speed: float | None = None
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)

    def end(self) -> None:
        super().end()
        for connection in self._pairs:
            connection.end()
            connection.join()

    def slow(self, speed: float | None) -> None:
        """Pass `speed` bytes a second and direction, on every connection; None for as fast as it goes."""
        with self._changed:
            for connection in self._pairs:
                connection.set_speed(speed)
            self._speed = speed

    def cut(self, *, up: bool, share: float) -> None:
        """Pass `share` (0 to 1, rounded down to a byte) of the next packet, then end the connection with no goodbye."""
        self._spoil(up=up, share=share, stall=False)

    def stall(self, *, up: bool, share: float) -> None:
        """Pass `share` of the next packet, and from then on nothing more in that direction."""
        self._spoil(up=up, share=share, stall=True)

    def wait_for_another(self) -> None:
        """Return when a connection has come after the one that was cut or stalled last."""
        self.wait(lambda: self._pairs[-1] is not self._spoilt, "nobody has connected again")

    def _spoil(self, *, up: bool, share: float, stall: bool) -> None:
        with self._changed:
            self._spoilt = connection = self._pairs[-1]
            connection.spoil(up=up, share=share, stall=stall)

    def _accepted(self, sock: socket.socket) -> None:
        try:
            server = socket.create_connection((HOST, self._to), DEADLINE)
        except OSError:
            sock.close()
            return
        with self._changed:
            connection = _Connection(sock, server)
            connection.set_speed(self._speed)
            self._pairs.append(connection)
            self._changed.notify_all()
        connection.start()


class _Connection:
    """Two sockets and a thread for each direction."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._changed = threading.Condition()
        self._ended = False
        self._speed: float | None = None
        #: By direction: how much of the next packet passes, and whether the line stalls behind it.
        self._spoil: dict[bool, tuple[float, bool]] = {}
        self._sockets = (client, server)
        for sock in self._sockets:
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._threads = [
            threading.Thread(target=self._forward, args=(client, server, True), name="line up"),
            threading.Thread(target=self._forward, args=(server, client, False), name="line down"),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(DEADLINE)
        for sock in self._sockets:
            sock.close()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def set_speed(self, speed: float | None) -> None:
        with self._changed:
            self._speed = speed
            self._changed.notify_all()

    def spoil(self, *, up: bool, share: float, stall: bool) -> None:
        with self._changed:
            self._spoil[up] = (share, stall)

    def _forward(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        buffer = bytearray()
        try:
            while not self._ended and (data := source.recv(wire.CHUNK)):
                buffer += data
                ends = _whole(buffer)
                if ends:
                    self._pass(target, bytes(buffer[:ends]), up)
                    del buffer[:ends]
        except OSError:
            # One end has closed it: so does this, below.
            pass
        self.end()

    def _pass(self, target: socket.socket, packets: bytes, up: bool) -> None:
        with self._changed:
            spoil = self._spoil.get(up)
        if spoil is not None:
            share, stall = spoil
            first = wire.size_of(packets) or 0
            target.sendall(packets[: int(first * share)])
            if stall:
                self._hang()
            self.end()
            return
        place = 0
        while place < len(packets):
            with self._changed:
                speed = self._speed
                if speed is not None:
                    self._changed.wait_for(lambda speed=speed: self._ended or self._speed != speed, _PIECE)  # type: ignore[misc]
            piece = len(packets) if speed is None else max(1, int(speed * _PIECE))
            target.sendall(packets[place : place + piece])
            place += piece

    def _hang(self) -> None:
        """Wait until the connection ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended)


def _whole(buffer: bytearray) -> int:
    """Where the last whole packet in `buffer` ends."""
    place = 0
    while (size := wire.size_of(buffer, place)) is not None and place + size <= len(buffer):
        place += size
    return place


def shares(seed: int, count: int) -> list[float]:
    """Where to break packets, the same places every time: anywhere within, and last at their very beginning."""
    drawn = random.Random(seed)
    places = [drawn.uniform(0.05, 0.999) for _ in range(count)]
    return places if count == 1 else [*places[:-1], 0.0]
