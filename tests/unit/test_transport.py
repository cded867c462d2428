"""From an address to a socket that is ready for MQTT: what each step does when the other end does not do its own.

The other end of a socket pair has said all it will say before the step begins, so nothing waits.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import BrokerError
from edge_agent.link import transport
from edge_agent.link.tls import TlsOptions
from edge_agent.link.transport import Address, connect
from edge_agent.link.websocket import WebSocket

SECRET = "swordfish"  # noqa: S105 - nobody's
#: Long enough for a machine that is busy, and never waited for.
PATIENT = 30.0


class Pair:
    """Two ends of a connection, of which ours is opened by `connect`."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()

    def connect(self, said: bytes = b"", *, hung_up: bool = False, **address: Any) -> Any:
        """Connect to a broker that has `said` something already, and maybe `hung_up` behind it."""
        self.theirs.sendall(said)
        if hung_up:
            self.theirs.shutdown(socket.SHUT_WR)
        self.ours.settimeout(PATIENT)
        return connect(Address(client_id="pi", **{"connect_timeout": PATIENT} | address), lambda _: self.ours)

    def error(self, said: bytes = b"", **address: Any) -> str:
        """Return why that does not come about; nothing is left open."""
        with pytest.raises(BrokerError) as raised:
            self.connect(said, **address)
        assert self.ours.fileno() == -1
        assert "\n" not in str(raised.value)
        return str(raised.value)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (Address(client_id="pi"), "localhost:1883"),
        (Address(client_id="pi", host="::1", port=8883), "[::1]:8883"),
        (Address(client_id="pi", transport="unix", socket=Path("/run/mqtt.sock")), "/run/mqtt.sock"),
        (Address(client_id="pi", transport="websockets", port=80), "ws://localhost:80/mqtt"),
        (
            Address(client_id="pi", transport="websockets", port=443, path="/x", tls=TlsOptions()),
            "wss://localhost:443/x",
        ),
    ],
)
def test_an_address_reads_as_people_write_it(address: Address, words: str) -> None:
    assert str(address) == words


def test_an_address_never_shows_its_password() -> None:
    address = Address(client_id="pi", username="user", password=SECRET)
    assert repr(address) == "Address(pi@localhost:1883)"
    assert SECRET not in f"{address!r} {address}"


def test_an_address_never_shows_a_token_in_its_path() -> None:
    address = Address(client_id="pi", transport="websockets", port=80, path=f"/mqtt?token={SECRET}")
    assert str(address) == "ws://localhost:80/mqtt"
    assert SECRET not in f"{address!r} {address}"


def test_an_error_never_shows_a_token_in_the_path_which_is_sent(pair: Pair) -> None:
    error = pair.error(b"HTTP/1.1 403 Forbidden\r\n\r\n", transport="websockets", path=f"/mqtt?token={SECRET}")
    assert SECRET not in error
    assert pair.theirs.recv(1 << 16).startswith(f"GET /mqtt?token={SECRET} HTTP/1.1".encode())


def test_without_tls_and_websocket_the_socket_is_the_connection(pair: Pair) -> None:
    assert pair.connect() is pair.ours


def test_what_can_not_be_opened_is_told_as_it_is() -> None:
    def opens(_: Address) -> socket.socket:
        raise BrokerError("no route")

    with pytest.raises(BrokerError, match="no route"):
        connect(Address(client_id="pi"), opens)


# -- WebSockets


def test_a_web_server_that_knows_no_such_page(pair: Pair) -> None:
    error = pair.error(b"HTTP/1.1 404 Not Found\r\n\r\n", transport="websockets")
    assert error == (
        "broker ws://localhost:1883/mqtt: no WebSocket: the server answered 'HTTP/1.1 404 Not Found'; check mqtt.port "
        "and mqtt.path"
    )


def test_a_web_server_that_keeps_the_connection_after_its_refusal_is_not_waited_for() -> None:
    class Keeps:
        said = b"HTTP/1.1 404 Not Found\r\n\r\n"
        timeout: float | None = None
        closed = False

        def settimeout(self, seconds: float) -> None:
            self.timeout = seconds

        def sendall(self, _data: bytes) -> None:
            """Take the request."""

        def recv(self, _size: int) -> bytes:
            said, self.said = self.said, b""
            assert said or self.timeout == 0
            if not said:
                raise BlockingIOError
            return said

        def close(self) -> None:
            self.closed = True

    sock: Any = Keeps()
    with pytest.raises(BrokerError, match="no WebSocket: the server answered"):
        connect(Address(client_id="pi", transport="websockets"), lambda _: sock)
    assert sock.closed


def test_a_server_that_hangs_up_on_the_upgrade(pair: Pair) -> None:
    assert "no WebSocket: the server closed the connection" in pair.error(hung_up=True, transport="websockets")


def test_the_upgrade_asks_for_the_host_and_path_of_the_address(pair: Pair) -> None:
    pair.error(b"HTTP/1.1 404\r\n\r\n", transport="websockets", host="::1", port=80, path="/x")
    asked = pair.theirs.recv(1 << 16)
    assert asked.startswith(b"GET /x HTTP/1.1\r\nHost: [::1]:80\r\n")


# -- TLS


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the port does not speak TLS; check mqtt.port"),
        (b"", "the broker ended the TLS handshake; check that mqtt.port is its port for TLS"),
    ],
)
def test_a_port_that_does_not_speak_tls(pair: Pair, said: bytes, words: str) -> None:
    assert words in pair.error(said, hung_up=True, tls=TlsOptions())


def test_a_host_name_that_can_not_stand_in_a_certificate(pair: Pair) -> None:
    assert "check mqtt.host" in pair.error(tls=TlsOptions(), host=".broker")


def test_files_that_are_not_there_are_told_before_anything_is_opened(tmp_path: Path) -> None:
    def opens(_: Address) -> socket.socket:
        raise AssertionError("nothing is to be opened")

    address = Address(client_id="pi", tls=TlsOptions(ca=tmp_path / "none.pem"))
    with pytest.raises(BrokerError, match=r"broker localhost:1883: .*none\.pem"):
        connect(address, opens)


def test_an_address_with_tls_never_gives_a_socket_without_it(pair: Pair) -> None:
    """Whatever the broker says: the bytes of its plain MQTT are no reason to go on without."""
    assert "TLS" in pair.error(b"\x20\x03\0\0\0", hung_up=True, tls=TlsOptions())


def test_an_error_of_the_system_is_told_in_its_words() -> None:
    address = Address(client_id="pi")
    assert transport.explained(OSError(104, "Connection reset by peer"), address) == "Connection reset by peer"
    assert transport.explained(OSError("odd"), address) == "odd"


# -- the end


def test_what_is_on_its_way_is_read_before_a_socket_is_closed(pair: Pair) -> None:
    pair.theirs.sendall(b"late" * 1000)
    pair.theirs.shutdown(socket.SHUT_WR)
    transport.read_to_the_end(pair.ours)
    pair.ours.setblocking(False)
    assert pair.ours.recv(1) == b""


class Tells:
    """A socket that knows why it ended, once somebody has read from it."""

    def __init__(self, failure: str | None, error: Exception | None = None) -> None:
        self._known = failure
        self._error = error
        self.failure: str | None = None

    def recv(self, _size: int) -> bytes:
        self.failure = self._known
        if self._error is not None:
            raise self._error
        return b""


@pytest.mark.parametrize("error", [None, ConnectionResetError(), ValueError("closed")])
def test_the_socket_is_asked_for_the_reason_after_a_last_read(error: Exception | None) -> None:
    assert transport.failure(Tells("code 1002", error)) == "code 1002"
    assert transport.failure(Tells(None, error)) is None


def test_no_socket_knows_nothing(pair: Pair) -> None:
    assert transport.failure(None) is None
    pair.ours.close()
    assert transport.failure(pair.ours) is None


def test_without_tls_there_is_no_certificate_to_expire(pair: Pair) -> None:
    assert transport.certificate_ends(pair.ours) is None
    assert transport.certificate_ends(WebSocket(pair.ours)) is None


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ({}, "is it a port for TLS ([mqtt.tls]) or for WebSockets (mqtt.transport)?"),
        ({"transport": "unix"}, "is it an MQTT broker?"),
        ({"tls": TlsOptions()}, "it may require a client certificate; set tls.certificate and tls.key"),
        ({"tls": TlsOptions(certificate=Path("/x.pem"))}, "it may reject our client certificate, /x.pem; check it"),
    ],
)
def test_what_may_be_wrong_when_a_broker_hangs_up_on_connect(address: dict[str, Any], words: str) -> None:
    assert transport.suspicion(Address(client_id="pi", **address)) == words
