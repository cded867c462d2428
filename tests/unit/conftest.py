"""Unit tests cannot open sockets, and see none of the settings in the environment.

Python itself reports every connect, bind and name look-up to its audit hooks (PEP 578), whoever makes them, so nothing
has to be patched. A hook can't be taken away again, so it asks whether a unit test is running. Socket pairs are let
through: they lead nowhere.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator

import pytest

from tests.unit.remembering import AWAKE

FORBIDDEN = frozenset(
    {
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendmsg",
        "socket.sendto",
    }
)


class SocketGuard:
    """Refuses sockets while `armed`, and remembers what was tried in case the code under test swallows the refusal."""

    def __init__(self) -> None:
        self.armed = False
        self.tried: list[str] = []

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.armed and event in FORBIDDEN:
            tried = f"{event}{arguments[1:] if event.count('get') == 0 else arguments}"
            self.tried.append(tried)
            # pytest's failure is a BaseException: `except Exception` in the code under test does not catch it.
            pytest.fail(f"a unit test used a socket: {tried}. Use a fake, or move the test to tests/contract.")


GUARD = SocketGuard()
sys.addaudithook(GUARD)


@pytest.fixture(autouse=True)
def no_sockets() -> Iterator[SocketGuard]:
    GUARD.tried.clear()
    GUARD.armed = True
    yield GUARD
    GUARD.armed = False
    if GUARD.tried:
        pytest.fail(f"a unit test used a socket and hid it: {'; '.join(GUARD.tried)}")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the suite are none of the tests' business."""
    for name in os.environ:
        if name.upper().startswith("EDGE_AGENT_") or name == "CREDENTIALS_DIRECTORY":
            monkeypatch.delenv(name)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The agent's logger, put back afterwards as it was: a start, or a reload, sets it up anew."""
    logger = logging.getLogger("edge_agent")
    before = logger.handlers, logger.propagate, logger.level
    yield logger
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.fixture
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def awake() -> Iterator[int]:
    """A descriptor that is readable, so that no wait in the loop lasts."""
    reader, writer = os.pipe()
    os.write(writer, b"x")
    yield reader
    os.close(reader)
    os.close(writer)


@pytest.fixture
def kept_awake(awake: int) -> None:
    """No wait in the loop of a `Session` lasts."""
    AWAKE[:] = [awake]
