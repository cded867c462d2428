"""The loop of `edge-agent watch`: connects, receives, shows; and again, until it is told to end.

Rules: it never gives up on a broker; a signal ends it at once, also while it connects; it publishes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol

from edge_agent.contract.messages import Answer, Message
from edge_agent.contract.messages import Refused as RefusedFilter
from edge_agent.errors import BrokerError
from edge_agent.host.process import Signals
from edge_agent.watching.view import ClosedError, Connected, Lost, Refused, View

#: Seconds before the first new attempt; doubled each time, up to the longest, until a connection has lasted.
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_LASTED: Final = 30.0
#: Longest wait in the loop, in seconds.
_TICK: Final = 1.0


class Connection(Protocol):
    """A connection to the broker, as of `edge_agent.link.link.Link`."""

    protocol: str

    @property
    def refused(self) -> list[RefusedFilter]:
        """Subscriptions that the broker refused."""

    def receive(self, timeout: float, wakeup: int | None = None) -> list[Message]:
        """Return the messages that arrived."""

    def answer(self, message: Message, answers: Iterable[Answer]) -> None:
        """Acknowledge a message."""

    def subscribe(self, wanted: Mapping[str, bool], anew: Collection[str] = ()) -> None:
        """Change the subscriptions."""

    def close(self) -> None:
        """Disconnect."""

    def abandon(self) -> None:
        """Drop the connection."""


#: Connects and subscribes; returns what came with the broker's answer, too. Raises `BrokerError`.
Connect = Callable[[Sequence[str]], tuple[Connection, list[Message]]]


class Watch:
    """Shows in `view` what comes from `broker` (its name for people), for so many `seconds`, or until a signal."""

    def __init__(
        self,
        connect: Connect,
        view: View,
        signals: Signals,
        *,
        broker: str,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._view = view
        self._signals = signals
        self._broker = broker
        self._clock = clock
        self._ends = None if seconds is None else clock() + seconds
        self._link: Connection | None = None
        self._asked: list[str] = []
        self._told: set[RefusedFilter] = set()
        self._failures = 0
        self._began = 0.0
        self._next_attempt = 0.0
        #: Whether there ever was a connection.
        self.connected = False

    def run(self) -> None:
        """Watch until it is over. However that comes, the view is closed."""
        try:
            while not self._over():
                self.turn()
        except (ClosedError, KeyboardInterrupt):
            pass  # the two ways to say that nobody wants to see more
        finally:
            self._leave()

    def turn(self) -> None:
        """Run one turn: wait for messages, take them, show them."""
        pause = self._view.turn(self._clock())
        if self._ends is not None:
            pause = min(pause, self._ends - self._clock())
        pause = max(0.0, min(pause, _TICK))
        if self._link is None:
            wait = self._next_attempt - self._clock()
            if wait > 0:
                self._signals.wait(min(pause, wait))
            else:
                self._dial()
            return
        try:
            self._ask()
            self._take(self._link.receive(pause, self._signals.wakeup))
            self._look_at_refusals()
        except BrokerError as error:
            self._lost(error)

    def _over(self) -> bool:
        return self._signals.received or (self._ends is not None and self._clock() >= self._ends)

    def _dial(self) -> None:
        self._asked = list(self._view.wanted)
        try:
            with self._signals.interrupting():
                self._link, early = self._connect(self._asked)
        except BrokerError as error:
            self._lost(error)
            return
        self.connected = True
        self._began = self._clock()
        self._view.tell(Connected(self._broker, self._link.protocol))
        self._take(early)
        self._look_at_refusals()

    def _take(self, messages: Sequence[Message]) -> None:
        now, take = self._clock(), self._view.take
        for message in messages:
            if message.qos and self._link is not None:
                self._link.answer(message, ())
            take(message, now)

    def _ask(self) -> None:
        wanted = self._view.wanted
        if wanted != self._asked and self._link is not None:
            self._asked = list(wanted)
            self._link.subscribe(dict.fromkeys(wanted, False))

    def _look_at_refusals(self) -> None:
        if self._link is None:
            return
        for one in self._link.refused:
            if one not in self._told:
                self._told.add(one)
                self._view.tell(Refused(*one))

    def _lost(self, error: BrokerError) -> None:
        if self._link is not None:
            self._link.abandon()
            self._link = None
            if self._clock() - self._began >= _LASTED:
                self._failures = 0
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._next_attempt = self._clock() + pause
        self._told.clear()
        self._view.tell(Lost(str(error), pause))

    def _leave(self) -> None:
        try:
            self._view.close()
        except ClosedError:
            pass  # as above: there is nobody to see it
        finally:
            if self._link is not None:
                try:
                    self._link.close()
                except BrokerError:
                    self._link.abandon()
