"""The guard itself (tests/unit/conftest.py)."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from tests.unit.conftest import SocketGuard


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
@pytest.mark.parametrize("verb", ["bind", "connect", "connect_ex"])
def test_sockets_are_refused(family: socket.AddressFamily, verb: str, tmp_path: Path, no_sockets: SocketGuard) -> None:
    address: object = {
        socket.AF_INET: ("127.0.0.1", 9),
        socket.AF_INET6: ("::1", 9),
        socket.AF_UNIX: str(tmp_path / "socket"),
    }[family]
    with socket.socket(family) as sock, pytest.raises(pytest.fail.Exception, match="a unit test used a socket"):
        getattr(sock, verb)(address)
    assert no_sockets.tried
    no_sockets.tried.clear()


def test_datagrams_and_look_ups_are_refused(no_sockets: SocketGuard) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(pytest.fail.Exception):
        sock.sendto(b"x", ("127.0.0.1", 9))
    with pytest.raises(pytest.fail.Exception, match="localhost"):
        socket.getaddrinfo("localhost", 1883)
    no_sockets.tried.clear()


def test_a_hidden_attempt_in_a_thread_is_remembered(no_sockets: SocketGuard) -> None:
    def attempt() -> None:
        with socket.socket() as sock, contextlib.suppress(BaseException):
            sock.connect(("127.0.0.1", 9))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert no_sockets.tried
    no_sockets.tried.clear()


def test_a_socket_pair_is_let_through() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"x")
        assert right.recv(1) == b"x"
