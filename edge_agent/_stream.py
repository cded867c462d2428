"""Large reads and writes for paho, which reads byte by byte and writes packet by packet.

The only file that touches a private part of paho: its `_sock`. paho calls `recv`, `send`, `close`, `fileno`, `pending`
and `setblocking` of it and nothing else, which `tests/contract` holds for the oldest and the newest paho. Where the
attribute is not there, `install` leaves paho its plain socket: slower, and said once in the log.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from typing import Any, Final

import paho.mqtt.client as paho

_log = logging.getLogger(__name__)

_CHUNK: Final = 1 << 16


class BufferedSocket:
    """A socket that reads ahead, and keeps what is sent until `flush`."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._read = b""
        self._place = 0
        self._unsent = bytearray()

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes; raises BlockingIOError when there are none, returns b"" at the end."""
        if self._place >= len(self._read):
            self._read = self._sock.recv(_CHUNK)
            self._place = 0
        start = self._place
        self._place = start + size
        return self._read[start : self._place]

    def send(self, data: bytes | bytearray) -> int:
        """Keep `data` for the next `flush`."""
        self._unsent += data
        return len(data)

    def flush(self) -> None:
        """Write what is kept, as far as the socket takes it without waiting."""
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass

    @property
    def unsent(self) -> int:
        """Bytes that wait for the socket."""
        return len(self._unsent)

    def pending(self) -> int:
        """Bytes that were read ahead, and those that TLS has decoded: poll sees neither."""
        below = getattr(self._sock, "pending", None)
        return max(0, len(self._read) - self._place) + (below() if below is not None else 0)

    def close(self) -> None:
        """Write what is kept, if the socket takes it, and close the socket: paho closes right behind its DISCONNECT."""
        with contextlib.suppress(OSError):
            self.flush()
        self._sock.close()

    def fileno(self) -> int:
        """Return the file descriptor, for poll."""
        number: int = self._sock.fileno()
        return number

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the signature of sockets
        """Set whether reads and writes wait."""
        self._sock.setblocking(flag)


def install(client: paho.Client) -> BufferedSocket | None:
    """Put a buffer between a connected client and its socket; None when this paho can't have one."""
    plain = client.socket()
    if plain is None or getattr(client, "_sock", None) is not plain:
        _log.warning("this version of paho keeps its socket elsewhere: reading and writing packet by packet, slower")
        return None
    buffered = BufferedSocket(plain)
    client._sock = buffered  # noqa: SLF001 - see the top of this file
    return buffered
