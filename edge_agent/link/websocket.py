"""MQTT over WebSockets: wraps a socket (RFC 6455; MQTT 5, section 6).

Unlike paho's own, it limits the time and the bytes of the upgrade, masks all frames that it sends (servers insist on
masked pongs, too), and reads ahead. It has the socket methods that `edge_agent.link.fast_lane` calls, with the same
rules: a call that would block raises `BlockingIOError` or the exceptions that TLS has for it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import ssl
import time
from typing import Any, Final

#: RFC 6455, 1.3.
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Most bytes of the response to the upgrade.
_MAX_HEAD: Final = 16 * 1024
#: Bytes read at once, and largest payload of a frame that we send.
_CHUNK: Final = 1 << 16
_MAX_CONTROL: Final = 125
_CHECK: Final = "check mqtt.port and mqtt.path"
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA
_DATA: Final = frozenset({_CONTINUATION, _BINARY})
_CONTROL: Final = frozenset({_CLOSE, _PING, _PONG})
_NORMAL_CLOSURE: Final = (1000).to_bytes(2)
#: Exceptions of a non-blocking socket that would block.
_NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class UpgradeError(OSError):
    """The server does not speak MQTT over WebSockets at this URL; the text says what it did, and what to check."""


class WebSocket:
    """The bytes inside binary frames, as a socket. Make one with `upgrade`."""

    def __init__(self, sock: Any, early: bytes = b"") -> None:
        self._sock = sock
        self._raw = bytearray()  # the beginning of a frame whose header is not complete
        self._left = 0  # bytes of the current frame's payload that are still to come
        self._payload = bytearray()
        self._out = bytearray()  # frames on their way
        self._sending = 0  # bytes of `send`'s data in those frames
        self._ended = False
        self._own_failure: str | None = None
        self._decode(early)

    @property
    def below(self) -> Any:
        """The socket that carries it."""
        return self._sock

    @property
    def failure(self) -> str | None:
        """Why reading ended, if known."""
        below: str | None = getattr(self._sock, "failure", None)
        return self._own_failure or below

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes; raises BlockingIOError when there are none yet, returns b"" at the end."""
        if not self._payload and not self._ended:
            data = self._sock.recv(_CHUNK)
            if data:
                self._decode(data)
            else:
                self._ended = True
            self._send_control()
            if not self._payload and not self._ended:
                raise BlockingIOError("no payload yet")
        part = bytes(self._payload[:size])
        del self._payload[:size]
        return part

    def send(self, data: bytes | bytearray) -> int:
        """Send the beginning of `data` as one frame; return its length once the frame is out.

        Until then it raises what the socket raises, and must be called again with data that begins with the same bytes.
        """
        if not self._sending:
            part = bytes(data[:_CHUNK])
            self._out += _frame(_BINARY, part)
            self._sending = len(part)
        self._flush()
        sent, self._sending = self._sending, 0
        return sent

    def pending(self) -> int:
        """Return the number of readable bytes that poll does not see; the end counts as one."""
        below = getattr(self._sock, "pending", None)
        return len(self._payload) + self._ended + (below() if below is not None else 0)

    def close(self) -> None:
        """Send a close frame if that does not block, and close the socket."""
        with contextlib.suppress(OSError):
            self._out += _frame(_CLOSE, _NORMAL_CLOSURE)
            self._flush()
        self._sock.close()

    def fileno(self) -> int:
        """Return the file descriptor, for poll."""
        number: int = self._sock.fileno()
        return number

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the signature of sockets
        """Set whether reads and writes block."""
        self._sock.setblocking(flag)

    def _flush(self) -> None:
        while self._out:
            del self._out[: self._sock.send(self._out)]

    def _send_control(self) -> None:
        """Send pongs at once; bytes that would block are sent by the next call."""
        if self._out and not self._sending:
            with contextlib.suppress(*_NOT_NOW):
                self._flush()

    def _decode(self, data: bytes) -> None:
        self._raw += data
        while not self._ended:
            if self._left:
                part = self._raw[: self._left]
                del self._raw[: self._left]
                self._payload += part
                self._left -= len(part)
            if self._left or not self._begin_frame():
                return

    def _begin_frame(self) -> bool:
        """Parse the next header, or a whole control frame; return False when it is incomplete, and at the end."""
        header = self._header()
        if header is None:
            return False
        opcode, start, length = header
        if opcode in _DATA:
            del self._raw[:start]
            self._left = length
        elif len(self._raw) < start + length:
            return False
        else:
            payload = bytes(self._raw[start : start + length])
            del self._raw[: start + length]
            self._take_control(opcode, payload)
        return not self._ended

    def _header(self) -> tuple[int, int, int] | None:
        """Return opcode, header length and payload length, or None (5.2)."""
        raw = self._raw
        if len(raw) < 2:
            return None
        start = 2 + {126: 2, 127: 8}.get(raw[1], 0)
        if len(raw) < start:
            return None
        opcode, length = raw[0] & 0x0F, raw[1] if start == 2 else int.from_bytes(raw[2:start])
        # Invalid: extension bits (we negotiate none), a mask (servers must not use one), text frames (not MQTT).
        if raw[0] & 0x70 or raw[1] & 0x80 or opcode not in _DATA | _CONTROL:
            self._fail(f"it sent a frame that is not MQTT over WebSockets (0x{raw[:2].hex()})")
            return None
        if opcode in _CONTROL and length > _MAX_CONTROL:
            self._fail("it sent a WebSocket control frame that is too long")
            return None
        return opcode, start, length

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == _CLOSE:
            code = int.from_bytes(payload[:2]) if len(payload) >= 2 else 1005  # 7.1.5: no status
            self._fail(f"it closed the WebSocket, code {code} {payload[2:].decode(errors='replace')!r}")
        elif opcode == _PING and len(self._out) < 2 * _CHUNK:  # bounds the memory under a flood of pings
            self._out += _frame(_PONG, payload)

    def _fail(self, words: str) -> None:
        self._own_failure = words
        self._ended = True


def upgrade(sock: Any, host: str, path: str, timeout: float) -> WebSocket:
    """Upgrade a connected socket to MQTT over WebSockets, within `timeout` seconds.

    `host` is sent as the Host header, unchanged. Raises `UpgradeError`, or what the socket raises.
    """
    ends = time.monotonic() + timeout
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    try:
        head = _exchange(sock, request.encode("ascii"), ends)
    except ConnectionError as error:
        raise UpgradeError(f"no WebSocket: {error.strerror}; {_CHECK}") from error
    text, _, early = head.partition(b"\r\n\r\n")
    _check_answer(text.decode("latin-1"), key)
    return WebSocket(sock, early)


def _exchange(sock: Any, request: bytes, ends: float) -> bytes:
    """Send the request; return the response up to the end of its headers, possibly with bytes that follow."""
    sock.settimeout(max(0.001, ends - time.monotonic()))
    sock.sendall(request)
    head = b""
    while b"\r\n\r\n" not in head:
        remaining = ends - time.monotonic()
        if remaining <= 0 or len(head) > _MAX_HEAD:
            raise UpgradeError(f"no WebSocket: the server's response does not end; {_CHECK}")
        sock.settimeout(remaining)
        with contextlib.suppress(TimeoutError):
            data = sock.recv(4096)
            if not data:
                raise UpgradeError(f"no WebSocket: the server closed the connection; {_CHECK}")
            head += data
    return head


def _check_answer(text: str, key: str) -> None:
    first, *lines = text.split("\r\n")
    if not first.startswith("HTTP/1.1 101"):
        raise UpgradeError(f"no WebSocket: the server answered {first[:80]!r}; {_CHECK}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    # 4.2.2: the hash proves that the server speaks WebSockets; SHA-1 is the RFC's choice.
    accept = base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()
    if headers.get("upgrade", "").lower() != "websocket" or headers.get("sec-websocket-accept") != accept:
        raise UpgradeError(f"no WebSocket: the server does not speak WebSockets; {_CHECK}")


def _frame(opcode: int, payload: bytes) -> bytes:
    """Return one masked frame (5.2)."""
    size = len(payload)
    if size < 126:
        header = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        header = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2)
    else:
        header = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8)
    mask = os.urandom(4)
    # XOR as one large integer: byte by byte is a hundred times slower in Python.
    stretched = (mask * (size // 4 + 1))[:size]
    return header + mask + (int.from_bytes(payload) ^ int.from_bytes(stretched)).to_bytes(size)
