"""The agent's connection settings and its plan. A reload replaces both.

They are separate because a new plan can use the existing connection, while new connection settings need a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from edge_agent.contract.messages import Answer, Described, Message, Refused
from edge_agent.serving.announcements import INFO, STATE, Announcement, Later
from edge_agent.serving.pipeline import Pipeline
from edge_agent.tally import Tally

if TYPE_CHECKING:
    from edge_agent.serving.discovery import Discovery  # loaded by an agent that is to tell Home Assistant
    from edge_agent.serving.drifting import Drifting  # and by one that watches for drift
    from edge_agent.serving.updating import Updates  # loaded by one that models reach over MQTT


class Connection(Protocol):
    """What the loop needs from a connection; see `edge_agent.link.link.Link` for each method."""

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
        """Bytes of answers that are not confirmed yet."""

    @property
    def under_way(self) -> AbstractSet[int]:
        """Inputs whose answers were sent but not confirmed, by their cause in `edge_agent.link.poison`."""

    def settle(self) -> bool:
        """Return whether the broker has confirmed everything; ping it if only the last confirmation is missing."""

    def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:
        """Return the messages that arrived."""

    def answer(self, message: Message, answers: Iterable[Answer], *, bare: bool = False) -> None:
        """Send the answers to a message; `bare` answers copy no properties from it."""

    def publish(self, answer: Answer) -> None:
        """Send a message that is not an answer."""

    def keeps(self, answer: Answer) -> bool:
        """Return whether the broker keeps this retained message for those who come later, as far as is known."""

    def subscribe(self, wanted: Mapping[str, bool], anew: Collection[str] = ()) -> None:
        """Change the subscriptions."""

    def give_back(self, one: str) -> None:
        """Unsubscribe from a filter that the session has from before, unless it is wanted."""

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is in flight."""

    def close(self) -> None:
        """Disconnect."""

    def abandon(self) -> None:
        """Drop the connection without DISCONNECT."""


class ConnectionSettings(NamedTuple):
    """How a node connects to its broker. While this stays equal, the connection is kept.

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
    """What a node does on its connection: routes, subscriptions and announcements.

    `subscriptions` are topic filters of the routes and of requests, each with whether its retained messages are wanted on every connection;
    `describe` returns the node's info for a connection's protocol and the time at which the agent started;
    `health_interval` is in seconds; `announcements` are the node's own messages, `later` those that follow on each connection;
    `textfile` is the file for its metrics, if they are wanted; `discovery` tells Home Assistant of it, `updates`
    bring its models over MQTT, `drift` tells how what models are asked differs from training.
    """

    pipeline: Pipeline
    subscriptions: Mapping[str, bool]
    describe: Callable[[str, str], Described]
    health_interval: float = 30.0
    announcements: tuple[Announcement, ...] = (STATE, INFO)
    textfile: Path | None = None
    discovery: Discovery | None = None
    later: tuple[Later, ...] = ()
    drift: Drifting | None = None
    updates: Updates | None = None

    @property
    def wanted(self) -> Mapping[str, bool]:
        """All that is to be subscribed to now, as `subscriptions`."""
        # What discovery has recorded comes first, because all that it says waits for it; models come last, because nothing waits for them.
        first = {} if self.discovery is None else self.discovery.subscriptions
        last = {} if self.updates is None else self.updates.subscriptions
        return {**first, **self.subscriptions, **last}

    def install(self, name: str) -> tuple[list[str], str | None]:
        """Install what waits for that; see `Updates.install`."""
        if self.updates is None:
            return [], "no models come over MQTT: update.channel is not set"
        return self.updates.install(name)
