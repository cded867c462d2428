"""MQTT over WebSockets: frames in any pieces, and servers that don't keep to the rules."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.link.websocket import UpgradeError, WebSocket, upgrade

BINARY, TEXT, CLOSE, PING, PONG = 0x2, 0x1, 0x8, 0x9, 0xA
#: RFC 6455, 1.3.
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class FakeSocket:
    """Gives `pieces` one by one, then raises BlockingIOError; takes `room` bytes at a time, None for any."""

    def __init__(self, pieces: Iterable[bytes] = (), room: int | None = None) -> None:
        self.pieces = list(pieces)
        self.room = room
        self.sent = bytearray()
        self.closed = False

    def recv(self, _size: int) -> bytes:
        if not self.pieces:
            raise BlockingIOError
        return self.pieces.pop(0)

    def send(self, data: bytearray) -> int:
        room = len(data) if self.room is None else self.room
        if room == 0:
            raise BlockingIOError
        self.sent += data[:room]
        return min(room, len(data))

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def close(self) -> None:
        self.closed = True


def frame(payload: bytes, opcode: int = BINARY, *, final: bool = True) -> bytes:
    """One of a server's: not masked."""
    size = len(payload)
    first = bytes([0x80 * final | opcode])
    if size < 126:
        return first + bytes([size]) + payload
    if size < 1 << 16:
        return first + b"\x7e" + size.to_bytes(2) + payload
    return first + b"\x7f" + size.to_bytes(8) + payload


def sent_frames(raw: bytes) -> list[tuple[int, bytes]]:
    """The frames of a client, unmasked byte by byte."""
    found = []
    while raw:
        opcode, length, start = raw[0] & 0x0F, raw[1] & 0x7F, 2
        assert raw[0] & 0xF0 == 0x80
        assert raw[1] & 0x80, "clients mask every frame"
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(raw[2:start])
        mask, payload = raw[start : start + 4], raw[start + 4 : start + 4 + length]
        found.append((opcode, bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))))
        raw = raw[start + 4 + length :]
    return found


def read_all(web: WebSocket, size: int = 1 << 16) -> bytes:
    """What there is, until it says that there is no more for now."""
    received = b""
    while True:
        try:
            part = web.recv(size)
        except BlockingIOError:
            assert web.pending() == 0
            if web._sock.pieces:
                continue
            return received
        if not part:
            return received
        received += part


@given(
    st.lists(st.binary(max_size=300) | st.binary(min_size=300, max_size=300).map(lambda part: part * 220), max_size=4),
    st.integers(0, 2**32),
    st.integers(1, 1000),
)
def test_any_frames_in_any_pieces(payloads: list[bytes], seed: int, size: int) -> None:
    # Tens of thousands of pieces are more than hypothesis wants to draw one by one.
    pieces_of = random.Random(seed)
    raw = b"".join(
        frame(payload, final=number % 2 == 0) + (frame(b"?", PING) if number % 3 == 0 else b"")
        for number, payload in enumerate(payloads)
    )
    pieces = []
    while raw:
        cut = pieces_of.choice([1, 2, 7, 3000, 50_000])
        pieces.append(raw[:cut])
        raw = raw[cut:]
    sock = FakeSocket(pieces)
    assert read_all(WebSocket(sock), size) == b"".join(payloads)
    assert sent_frames(bytes(sock.sent)) == [(PONG, b"?")] * len(payloads[::3])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_what_is_sent_is_masked(size: int) -> None:
    sock = FakeSocket()
    data = bytes(range(256)) * 256
    assert WebSocket(sock).send(data[:size]) == size
    assert sent_frames(bytes(sock.sent)) == [(BINARY, data[:size])]
    assert data[:size] not in sock.sent or size < 2


def test_a_socket_that_is_full_gets_the_rest_later() -> None:
    sock = FakeSocket([frame(b"1", PING), frame(b"2", PING)], room=0)
    web = WebSocket(sock)
    data = b"abc" * 50_000
    with pytest.raises(BlockingIOError):
        web.send(data)
    # The pongs wait behind the frame that has begun.
    with pytest.raises(BlockingIOError):
        web.recv(1)
    sock.room = 1000
    left = bytearray(data)
    while left:
        del left[: web.send(left)]
    with pytest.raises(BlockingIOError):
        web.recv(1)
    opcodes = [opcode for opcode, _ in sent_frames(bytes(sock.sent))]
    assert opcodes == [BINARY, PONG, BINARY, BINARY, PONG]
    assert b"".join(payload for opcode, payload in sent_frames(bytes(sock.sent)) if opcode == BINARY) == data


def test_a_flood_of_pings_takes_no_memory() -> None:
    sock = FakeSocket([frame(b"x" * 125, PING) * 100] * 100, room=0)
    web = WebSocket(sock)
    for _ in range(100):
        with pytest.raises(BlockingIOError):
            web.recv(1)
    assert len(web._out) <= (1 << 17) + 131


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (frame((1002).to_bytes(2) + b"go\n away", CLOSE), r"it closed the WebSocket, code 1002 'go\n away'"),
        (frame(b"", CLOSE), "it closed the WebSocket, code 1005 ''"),
        (frame(b"text", TEXT), "a frame that is not MQTT over WebSockets (0x8104)"),
        (b"\x82\x81abcde", "a frame that is not MQTT over WebSockets (0x8281)"),
        (b"\xc2\x01a", "a frame that is not MQTT over WebSockets (0xc201)"),
        (frame(b"x" * 126, PING), "a WebSocket control frame that is too long"),
        (b"HTTP/1.1", "a frame that is not MQTT"),
    ],
)
def test_the_end_and_its_reason_come_after_what_was_sent_before(raw: bytes, expected: str) -> None:
    web = WebSocket(FakeSocket([frame(b"last") + raw + frame(b"not read any more")]))
    assert web.recv(10) == b"last"
    assert web.pending() > 0, "nobody would come to read the end"
    assert web.recv(10) == b""
    assert web.failure is not None
    assert expected in web.failure


def test_closing_says_so() -> None:
    sock = FakeSocket()
    WebSocket(sock).close()
    assert sent_frames(bytes(sock.sent)) == [(CLOSE, (1000).to_bytes(2))]
    assert sock.closed
    full = FakeSocket(room=0)
    WebSocket(full).close()
    assert full.closed


class Server(FakeSocket):
    """Answers an upgrade with `answer`, in which {accept} is what it should be; in pieces of `size` bytes."""

    def __init__(self, answer: str, size: int = 7, early: bytes = b"") -> None:
        super().__init__()
        self._answer, self._size, self._early = answer, size, early

    def sendall(self, data: bytes) -> None:
        super().sendall(data)
        match = re.search(rb"Sec-WebSocket-Key: (\S+)", data)
        assert match is not None
        accept = base64.b64encode(hashlib.sha1(match[1] + GUID.encode()).digest()).decode()  # noqa: S324 - the RFC's
        raw = self._answer.replace("{accept}", accept).encode() + self._early
        self.pieces = [raw[place : place + self._size] for place in range(0, len(raw), self._size)] + [b""]


GOOD = "HTTP/1.1 101 Switching Protocols\r\nUPGRADE:WebSocket\r\nsec-websocket-accept:{accept}\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_an_upgrade_and_what_comes_right_behind_it(size: int) -> None:
    server = Server(GOOD, size, frame(b"early"))
    web = upgrade(server, "broker.lan:8080", "/mqtt?x=1", 5.0)
    assert read_all(web) == b"early"
    request = bytes(server.sent).decode()
    assert request.startswith("GET /mqtt?x=1 HTTP/1.1\r\nHost: broker.lan:8080\r\n")
    assert "\r\nSec-WebSocket-Protocol: mqtt\r\n" in request


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "the server answered 'HTTP/1.1 404 Not Found'; check mqtt.port and mqtt.path",
        ),
        ("\x1b[2J\r\n\r\n", r"the server answered '\x1b[2J'"),
        ("HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n\r\n", "does not speak WebSockets"),
        ("HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: eA==\r\n\r\n", "does not speak WebSockets"),
        (GOOD.replace("WebSocket", "h2c"), "does not speak WebSockets"),
        ("HTTP/1.1 101", "the server closed the connection"),
        ("HTTP/1.1 101\r\n" + "x" * 100_000, "the server's response does not end"),
    ],
)
def test_an_upgrade_that_fails(answer: str, expected: str) -> None:
    with pytest.raises(UpgradeError) as raised:
        upgrade(Server(answer, 4096), "broker", "/mqtt", 5.0)
    assert expected in str(raised.value)
    assert str(raised.value).startswith("no WebSocket: ")


def test_an_upgrade_has_its_time() -> None:
    class Slow(Server):
        def recv(self, _size: int) -> bytes:
            return b"x"

    with pytest.raises(UpgradeError, match="the server's response does not end"):
        upgrade(Slow(GOOD), "broker", "/mqtt", 0.005)
