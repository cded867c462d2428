"""A session with all that is around it: a wire and an asker that only note what they are given."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Container, Mapping
from typing import Any

from edge_agent.contract.messages import Answer
from edge_agent.link.granted import Granted
from edge_agent.link.packets import Publish
from edge_agent.link.session import Session, State
from edge_agent.link.terms import Terms
from edge_agent.link.transport import Address
from edge_agent.tally import Tally
from edge_agent.testing import FakeClock

ADDRESS = Address(client_id="pi", receive_maximum=2, keepalive=10, connect_timeout=3.0)


class FakeSocket:
    """Gives `pieces` one by one, raising those that are errors; takes up to `room` bytes, then none."""

    def __init__(self) -> None:
        self.pieces: list[bytes | OSError] = []
        self.sent = bytearray()
        self.room = 1 << 30
        self.closed = False
        self.blocking: bool | None = None

    def recv(self, _size: int) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else BlockingIOError()
        if isinstance(piece, OSError):
            raise piece
        return piece

    def send(self, data: bytearray) -> int:
        if not self.room:
            raise ssl.SSLWantWriteError
        taken = data[: self.room]
        self.sent += taken
        self.room -= len(taken)
        return len(taken)

    def setblocking(self, flag: bool) -> None:
        self.blocking = flag

    def fileno(self) -> int:
        return 77

    def close(self) -> None:
        self.closed = True


class Wire:
    """Notes what it is given, and numbers what is published."""

    def __init__(self) -> None:
        self.published: list[Answer] = []
        self.acknowledged: list[int] = []
        self.pings = 0
        self.upkeeps = 0

    def publish(self, answer: Answer, taken: Container[int]) -> int:
        self.published.append(answer)
        packet_id = len(self.published)
        assert packet_id not in taken
        return packet_id if answer.qos else 0

    def acknowledge(self, packet_id: int) -> None:
        self.acknowledged.append(packet_id)

    def ping(self) -> None:
        self.pings += 1

    def keep_alive(self, *, due: bool) -> None:
        self.upkeeps += 1
        self.pings += due


class Asker:
    """Notes what is asked for; packet ids from 101."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str]]] = []

    def subscribe(self, filters: Mapping[str, bool]) -> int:
        return self._send("subscribe", filters)

    def unsubscribe(self, filters: Collection[str]) -> int:
        return self._send("unsubscribe", filters)

    def _send(self, kind: str, filters: Collection[str]) -> int:
        self.sent.append((kind, list(filters)))
        return 100 + len(self.sent)


class Connection:
    """A session with all that is around it."""

    def __init__(
        self, *filters: str, protocol: str = "5", address: Address = ADDRESS, terms: Terms | None = None
    ) -> None:
        self.wire, self.asker, self.clock, self.tally = Wire(), Asker(), FakeClock(), Tally()
        self.session = Session(
            self.wire,
            self.asker,
            address,
            protocol=protocol,
            wanted=dict.fromkeys(filters, False),
            tally=self.tally,
            clock=self.clock,
            terms=terms,
        )

    def wait(self, seconds: float) -> None:
        """Let time pass that is spent waiting for the broker."""
        self.clock.advance(seconds)
        self.session.patience.waited(seconds)
        self.session.keep_up()


def ready(*filters: str, granted: Granted | None = None, **options: Any) -> Connection:
    """A session in the state READY."""
    made = Connection(*filters, **options)
    made.session.let_in(granted or Granted())
    made.session.pump()
    if filters:
        made.session.subscribed(101, [None] * len(filters))
    assert made.session.state is State.READY
    return made


def in_subscribing() -> Connection:
    """A session that waits for the grant of its subscription."""
    made = Connection("a")
    made.session.let_in(Granted())
    made.session.pump()
    return made


def surplus() -> list[Publish]:
    """One input more than ten, which is what is held of a Receive Maximum of two."""
    return [Publish("a", b"", 1, number) for number in range(1, 12)]


def outcome(session: Session) -> str:
    assert session.end is not None
    assert session.state is State.ENDED
    return str(session.end)
