"""What an agent works with: how to connect to its broker, and a plan of what to do there. A reload brings a new pair.

They are apart because their ends are: a new plan goes on with the connection there is, new connection settings need a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

from edge_agent.contract.messages import Answer, Described, Message, Refused
from edge_agent.serving.announcements import INFO, STATE, Announcement
from edge_agent.serving.pipeline import Pipeline
from edge_agent.tally import Tally


class Connection(Protocol):
    """What the loop needs of a connection; `edge_agent.link.link.Link` says what each part does."""

    protocol: str
    refused_answers: list[Refused]

    @property
    def ready(self) -> bool:
        """Whether the broker has granted or refused each subscription."""

    @property
    def refused(self) -> list[Refused]:
        """Subscriptions that the broker refused."""

    @property
    def in_flight(self) -> int:
        """Messages not yet acknowledged, confirmed or sent."""

    @property
    def held_bytes(self) -> int:
        """Bytes of answers that the broker has not taken yet."""

    @property
    def under_way(self) -> AbstractSet[int]:
        """What was sent and is not known to be taken, by what `edge_agent.link.poison` knows it by."""

    def settle(self) -> bool:
        """Return whether the broker is known to have taken all there is; ask it when only that is not known."""

    def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:
        """Return the messages that arrived."""

    def answer(self, message: Message, answers: Iterable[Answer], *, bare: bool = False) -> None:
        """Send the answers of a message; those that are `bare` carry nothing over from it."""

    def publish(self, answer: Answer) -> None:
        """Send a message that answers nothing."""

    def subscribe(self, wanted: Mapping[str, bool], anew: Collection[str] = ()) -> None:
        """Change what is subscribed to."""

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is in flight."""

    def close(self) -> None:
        """End the connection in good order."""

    def abandon(self) -> None:
        """Drop the connection."""


class ConnectionSettings(NamedTuple):
    """How a node gets to its broker. While it stays equal, so does the connection.

    `dial` begins a connection of a protocol version, with subscriptions as in `Plan` and a tally to count in, or raises
    `BrokerError`. `session` names the client and its broker, `broker` the broker for people. `protocols` are the versions to try, best first;
    `max_backoff` is the longest pause between two attempts, in seconds.
    """

    node: str
    dial: Callable[[str, Mapping[str, bool], Tally], Connection]
    session: str = ""
    protocols: tuple[str, ...] = ("5", "3.1.1")
    max_backoff: float = 60.0
    broker: str = "the broker"


class Plan(NamedTuple):
    """What a node does on its connection.

    `subscriptions` are topic filters, each with whether its retained messages are wanted on every connection;
    `describe` returns the node's info for a connection's protocol and the time at which the agent started;
    `health_interval` is in seconds; `announcements` is what the node says of itself.
    """

    pipeline: Pipeline
    subscriptions: Mapping[str, bool]
    describe: Callable[[str, str], Described]
    health_interval: float = 30.0
    announcements: tuple[Announcement, ...] = (STATE, INFO)
