"""Opens a socket that is ready for MQTT: TCP or unix, TLS, WebSocket.

Rules: each step has a timeout; an address with TLS gives an encrypted socket or none; a failed step leaves nothing open;
every failure is a `BrokerError` of one line that gives the fix.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from edge_agent.errors import BrokerError, SettingsError
from edge_agent.link.tls import TlsOptions, explain, make_context
from edge_agent.link.websocket import upgrade

#: Seconds between DISCONNECT and closing the socket: the longest silence, and the longest time in all.
_SILENCE: Final = 0.5
_LAST_READ: Final = 3.0


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the broker is and how to log in. Times in seconds."""

    host: str = "localhost"
    port: int = 1883
    transport: Literal["tcp", "websockets", "unix"] = "tcp"
    #: Path of the WebSocket's URL.
    path: str = "/mqtt"
    #: The unix socket, instead of host and port.
    socket: Path | None = None
    client_id: str
    username: str | None = None
    password: str | None = None
    tls: TlsOptions | None = None
    keepalive: int = 30
    session_expiry: int = 0
    receive_maximum: int = 500
    connect_timeout: float = 3.0

    def __repr__(self) -> str:  # a dataclass would show the password
        return f"Address({self.client_id}@{self})"

    def __str__(self) -> str:
        if self.transport == "unix":
            return str(self.socket)
        if self.transport == "websockets":
            # Without the query, which may hold a token: this is what logs and errors show.
            return f"{'ws' if self.tls is None else 'wss'}://{self.netloc}{self.path.partition('?')[0]}"
        return self.netloc

    @property
    def netloc(self) -> str:
        """Host and port as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def open_socket(address: Address) -> socket.socket:
    """Return a socket that is connected to the address, with nothing on it yet. Raises `BrokerError`."""
    return _connect_unix(address) if address.transport == "unix" else _connect_tcp(address)


#: Opens the socket that all else lies over.
Opens: TypeAlias = Callable[[Address], socket.socket]


def connect(address: Address, opens: Opens = open_socket) -> Any:
    """Return a connected socket, or an object with the same methods. Raises `BrokerError`."""
    context = None if address.tls is None else make_context_for(address)
    opened = opens(address)
    try:
        if context is not None:
            opened = _secure(opened, address, context)
        if address.transport == "websockets":
            return upgrade(opened, address.netloc, address.path, address.connect_timeout)
    except OSError as error:
        opened.settimeout(0)  # what is known is there: a server that keeps the connection is not waited for
        words = failure(opened) or error.strerror or error
        opened.close()
        raise BrokerError(f"broker {address}: {words}") from error
    except BaseException:
        opened.close()
        raise
    return opened


def make_context_for(address: Address) -> ssl.SSLContext:
    """Return the TLS context of an address that has TLS. Raises `BrokerError`."""
    assert address.tls is not None  # noqa: S101 - for the type checker: the caller has looked
    try:
        return make_context(address.tls)
    except SettingsError as error:
        raise BrokerError(f"broker {address}: {error}") from error


def _connect_tcp(address: Address) -> socket.socket:
    try:
        sock = socket.create_connection((address.host, address.port), address.connect_timeout)
    except socket.gaierror as error:
        raise BrokerError(
            f"broker {address}: the host name can't be resolved: {error.strerror}; check mqtt.host and the network"
        ) from error
    except OSError as error:
        raise BrokerError(
            f"broker {address}: no connection: {error.strerror or error}; check mqtt.host, mqtt.port and "
            "that the broker runs"
        ) from error
    except ValueError as error:  # not a possible host name
        raise BrokerError(f"broker {address}: {error}; check mqtt.host") from error
    # Otherwise Nagle's algorithm and delayed acknowledgements stall each exchange by 40 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _connect_unix(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(address.connect_timeout)
    try:
        sock.connect(os.fspath(address.socket or ""))
    except OSError as error:
        sock.close()
        raise BrokerError(
            f"broker {address}: no connection: {error.strerror or error}; check mqtt.socket, its permissions and "
            "that the broker runs"
        ) from error
    return sock


def _secure(sock: socket.socket, address: Address, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Wrap a socket in TLS; closes it on failure."""
    secured: socket.socket = sock
    try:
        address.host.encode("idna")  # up to Python 3.12, `wrap_socket` leaves the socket open when this fails
        secured = context.wrap_socket(sock, server_hostname=address.host, do_handshake_on_connect=False)
        secured.settimeout(address.connect_timeout)
        secured.do_handshake()
    except OSError as error:
        secured.close()
        raise BrokerError(f"broker {address}: {explained(error, address)}") from error
    except ValueError as error:  # a host name that a certificate can't contain
        secured.close()
        raise BrokerError(f"broker {address}: {error}; check mqtt.host") from error
    return secured


def explained(error: OSError, address: Address) -> str:
    """Return why connecting failed."""
    if address.tls is None:
        return error.strerror or str(error)
    return explain(error, has_certificate=address.tls.certificate is not None)


def read_to_the_end(sock: socket.socket) -> None:
    """Read until the broker closes or is silent. Closing a socket with unread bytes resets it, and then the broker loses
    what it has not read yet: acknowledgements and DISCONNECT.
    """
    sock.settimeout(_SILENCE)
    ends = time.monotonic() + _LAST_READ
    with contextlib.suppress(OSError):
        while time.monotonic() < ends and sock.recv(1 << 16):
            pass


def certificate_ends(sock: Any) -> float | None:
    """Return when the broker's certificate expires, in seconds since 1970; None without a certificate."""
    sock = getattr(sock, "below", sock)
    shown = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    return ssl.cert_time_to_seconds(str(shown["notAfter"])) if shown else None


def failure(sock: Any) -> str | None:
    """Return why a connection ended, if its socket knows."""
    if sock is None:  # paho has closed its own already
        return None
    # The broker's last bytes (an alert that it requires a certificate, say) may not have been read yet.
    with contextlib.suppress(OSError, ValueError):
        sock.recv(1)
    words: str | None = getattr(sock, "failure", None)
    return words


def suspicion(address: Address) -> str:
    """Return the likely cause when a broker closes the connection after CONNECT without a reason."""
    if address.transport != "tcp" and address.tls is None:
        return "is it an MQTT broker?"
    if address.tls is None:
        return "is it a port for TLS ([mqtt.tls]) or for WebSockets (mqtt.transport)?"
    if address.tls.certificate is None:
        return "it may require a client certificate; set tls.certificate and tls.key"
    return f"it may reject our client certificate, {address.tls.certificate}; check it"
