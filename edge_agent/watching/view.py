"""Who shows what comes: the interface between the loop and the ways to show it."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from edge_agent.contract.messages import Message


class Connected(NamedTuple):
    """There is a connection, over that version of MQTT."""

    broker: str
    protocol: str


class Lost(NamedTuple):
    """There is no connection; `retry` is in how many seconds the next one is tried."""

    reason: str
    retry: float


class Refused(NamedTuple):
    """The broker lets us not subscribe to `topic`, a filter."""

    topic: str
    reason: str


class Noted(NamedTuple):
    """The connection has a problem, and goes on."""

    text: str


Told: TypeAlias = Connected | Lost | Refused | Noted


class View(Protocol):
    """Shows messages, and what becomes of the connection. Times are in seconds of the loop's clock."""

    @property
    def wanted(self) -> list[str]:
        """The topic filters to subscribe to; they may change with what comes."""

    def take(self, message: Message, now: float) -> None:
        """Take a message. Cheap: there may be thousands a second."""

    def tell(self, told: Told) -> None:
        """Take news of the connection."""

    def turn(self, now: float) -> float:
        """Show what there is. Return in how many seconds this is to be called again at the latest. Raises `ClosedError` when nobody
        is there to see it.
        """

    def close(self) -> None:
        """Show what is left, and leave the terminal as it was."""


class ClosedError(Exception):
    """What we write to is closed: a pipe whose reader has ended, a terminal that is gone."""
