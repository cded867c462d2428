"""The fast lane: PUBLISH and PUBACK bypass paho, which handles the rest of the connection.

This is the only file that uses a private part of paho: it replaces `_create_socket` by a function that returns a `Stream`
over our own socket (`edge_agent.link.transport`). A `Stream` reads and writes in large pieces, handles PUBLISH, PUBACK and
DISCONNECT itself, and passes all other packets to paho, one at a time. paho calls only `recv`, `send`, `close`, `fileno`,
`pending` and `setblocking` of its socket; `tests/contract` tests that with the oldest and the newest paho. Without that
method, `prepare` logs a warning and everything goes through paho (`edge_agent.link.slow_lane`), which is slower.

paho sees no messages, so it can't tell a busy connection from a silent one: keep-alive is ours, too. A ping goes out once
per keep-alive, whatever else is sent, and `edge_agent.link.patience` notices a broker that no longer reads or answers.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Container
from typing import Any, Final

import paho.mqtt.client as paho

from edge_agent.contract.messages import Answer
from edge_agent.link import packets, transport
from edge_agent.link.packets import CONFIRMATIONS, DISCONNECT, MAX_PACKET_ID, PINGRESP, PUBLISH, Event, Pong, Publish
from edge_agent.link.slow_lane import Plain, let_paho_read
from edge_agent.link.transport import Address, Opens

_log = logging.getLogger(__name__)

#: Bytes read at once. Larger buffers would be mapped and unmapped each time (mallopt(3), M_MMAP_THRESHOLD).
_CHUNK: Final = 1 << 17
#: Most bytes of a packet that are kept besides its payload: topic and properties.
_ENVELOPE: Final = 1 << 18


class Stream:
    """A connection's bytes. At most `max_payload` bytes of a payload are kept, and a few more to show that it is larger."""

    def __init__(self, client: paho.Client, sock: Any, *, is_5: bool, max_payload: int) -> None:
        self._client = client
        self._sock = sock
        self._is_5 = is_5
        self._longest = max_payload + _ENVELOPE
        self._last_packet_id = 0
        self._unsent = bytearray()
        self._unread = bytearray()  # the beginning of an incomplete packet
        self._awaited = 0  # the size of `_unread` at which to parse again
        self._dropping = 0  # bytes still to come of a packet that is too large
        self._pings: deque[bool] = deque()  # unanswered pings: whether somebody waits for the answer
        self._for_paho = b""
        self._end: OSError | None = None
        self._ended = False

    # -- used by `Link` and `Session`

    def receive(self) -> list[Event]:
        """Read at most one chunk. Raises `ValueError` when it is not MQTT."""
        try:
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return []
        except OSError as error:
            self._end = error
            self._client.loop_read()  # reads bytes, and finds the error
            return []
        if not data:
            self._ended = True
            self._client.loop_read()
            return []
        return self._split(data)

    def publish(self, answer: Answer, taken: Container[int]) -> int:
        """Send an answer with the next `flush`; return its packet id, one that is not `taken`, or 0 at QoS 0."""
        packet_id = 0
        if answer.qos:
            packet_id = self._last_packet_id % MAX_PACKET_ID + 1
            while packet_id in taken:
                packet_id = packet_id % MAX_PACKET_ID + 1
            self._last_packet_id = packet_id
        self._unsent += packets.publish(answer, packet_id, is_5=self._is_5)
        return packet_id

    def acknowledge(self, packet_id: int) -> None:
        """Acknowledge a message with the next `flush`."""
        self._unsent += packets.puback(packet_id)

    def keep_alive(self, *, due: bool) -> None:
        """Send a ping with the next `flush`, when one is due."""
        if due:
            self._pings.append(False)
            self._unsent += packets.PINGREQ

    def ping(self) -> None:
        """Send a ping with the next `flush`; its `Pong` confirms that the broker has read everything before it."""
        self._pings.append(True)
        self._unsent += packets.PINGREQ

    def flush(self) -> None:
        """Write buffered bytes as far as the socket accepts them without blocking. Raises `OSError`."""
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass

    @property
    def socket(self) -> Any:
        """The socket below, or an object with the same methods."""
        return self._sock

    @property
    def backlog(self) -> int:
        """Bytes that wait for the socket."""
        return len(self._unsent)

    def pending(self) -> int:
        """Return the number of bytes that TLS has decoded, which poll does not see."""
        below = getattr(self._sock, "pending", None)
        return below() if below is not None else 0

    def fileno(self) -> int:
        """Return the file descriptor, for poll."""
        number: int = self._sock.fileno()
        return number

    # -- used by paho

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes of the packet for paho; b"" at the end of the connection."""
        if self._for_paho:
            data, self._for_paho = self._for_paho[:size], self._for_paho[size:]
            return data
        if self._end is not None:
            raise self._end
        if self._ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        """Buffer `data` for the next `flush`."""
        self._unsent += data
        return len(data)

    def close(self) -> None:
        """Write buffered bytes if the socket accepts them, and close it: paho closes right after its DISCONNECT."""
        with contextlib.suppress(OSError):
            self.flush()
        self._unsent.clear()
        self._sock.close()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the signature of sockets
        """Set whether reads and writes block."""
        self._sock.setblocking(flag)

    # -- packets

    def _split(self, data: bytes) -> list[Event]:
        """Parse packets from the received bytes; the last one may be incomplete."""
        if self._dropping:
            dropped = min(self._dropping, len(data))
            self._dropping -= dropped
            data = data[dropped:]
        if self._unread:
            self._unread += data
            if len(self._unread) < self._awaited:
                return []
            data = bytes(self._unread)
            self._unread = bytearray()
        events: list[Event] = []
        place, size = 0, len(data)
        while place < size:
            start, end = packets.bounds(data, place) or (size, size + 1)
            if end > size:
                if end - place > self._longest and size - place >= self._longest:
                    events.append(self._cut(data[place], data[start:]))
                    self._dropping = end - size
                    break
                self._unread += data[place:]
                self._awaited = min(end - place, self._longest)
                break
            kind = data[place] & 0xF0
            if kind == PUBLISH:
                events.append(packets.read_publish(data[place], data[start:end], is_5=self._is_5))
            elif kind in CONFIRMATIONS:
                events.append(packets.read_puback(data[start:end]))
            else:
                events += self._rare(kind, data[place:end], start - place)
            place = end
        return events

    def _rare(self, kind: int, packet: bytes, start: int) -> list[Event]:
        """Read a packet whose body begins at `start`; other types of packets go to paho."""
        if kind == DISCONNECT and self._is_5:
            return [packets.read_disconnect(packet[start:])]
        if kind == PINGRESP and self._pings and self._pings.popleft():
            return [Pong()]
        self._for_paho = packet
        let_paho_read(self._client)
        return []

    def _cut(self, first: int, body: bytes) -> Publish:
        """Read the beginning of a packet that is too large: enough to refuse its payload."""
        if first & 0xF0 != PUBLISH:
            raise ValueError("a packet that is too large")
        try:
            return packets.read_publish(first, body, is_5=self._is_5)
        except ValueError:
            # The properties alone are too large; what counts is where the message came from, and its packet id.
            return packets.read_publish(first, body, is_5=False)


def prepare(
    client: paho.Client, address: Address, *, is_5: bool, max_payload: int, opens: Opens = transport.open_socket
) -> Stream | Plain:
    """Return the lane for the messages of a client that is about to connect: a connected `Stream` if this paho supports it,
    else a `Plain`. Raises `BrokerError` when connecting fails.
    """
    if not callable(getattr(client, "_create_socket", None)):
        _log.warning("unsupported paho-mqtt; using the slower path")
        return Plain(client, address, is_5=is_5)
    # paho limits neither the time of all steps nor the bytes of the WebSocket upgrade, and leaves sockets open.
    stream = Stream(client, transport.connect(address, opens), is_5=is_5, max_payload=max_payload)
    client._create_socket = lambda: stream  # type: ignore[method-assign] # noqa: SLF001 - see the top of this file
    return stream
