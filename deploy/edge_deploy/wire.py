"""What the commands need of a connection to the broker; `edge_deploy.broker` has the real one, `edge_deploy.testing` one in memory.

Rules:
* One thread: the connection works only while one of its methods runs, so whoever waits does so in `receive`.
* A connection that ends is made again by `receive`, with its subscriptions: retained messages then come again.
* What is published goes out at QoS 1, and is retained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from edge_agent.contract.messages import Message

#: Seconds without a message after which what the broker had kept has come. MQTT does not tell where it ends.
QUIET: Final = 1.0
#: The same where something is expected, and taken for lost when it does not come.
PATIENT: Final = 20.0

#: A monotonic time in seconds.
Clock = Callable[[], float]


class Limits(NamedTuple):
    """What the broker says that it takes: whether retained messages, and packets of which size (None: it does not say)."""

    retains: bool = True
    packet_bytes: int | None = None


class Wire(Protocol):
    """A connection to the broker."""

    @property
    def limits(self) -> Limits:
        """What the broker takes."""

    @property
    def connected(self) -> bool:
        """Whether the connection is there; while it is not, nothing that is known of the nodes is new."""

    def subscribe(self, filters: Iterable[str]) -> None:
        """Subscribe to all. Raises `BrokerError` where the broker refuses one."""

    def unsubscribe(self, filters: Iterable[str]) -> None:
        """Take subscriptions back."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Send a retained message; waits while too many are unconfirmed. Raises `BrokerError` when one was refused."""

    def settle(self) -> None:
        """Wait until the broker has confirmed everything. Raises `BrokerError` when it does not, or refused something."""

    def receive(self, seconds: float) -> list[Message]:
        """Return what arrived, after so many seconds at the latest."""

    def close(self) -> None:
        """End the connection."""


def kept(
    wire: Wire,
    filters: Iterable[str],
    take: Callable[[Message], bool],
    clock: Clock = time.monotonic,
    quiet: float = QUIET,
) -> None:
    """Subscribe, and give `take` what the broker had kept. Ends when `take` says that it has all, or when no more comes."""
    wire.subscribe(filters)
    last = clock()
    while True:
        # What has arrived is looked at however late it is: on a busy machine it may be us who were silent.
        messages = wire.receive(max(0.0, last + quiet - clock()))
        if any(take(message) for message in messages):
            return
        if any(message.retained for message in messages):
            last = clock()
        elif clock() >= last + quiet:
            return
