"""Lines instead of a table: for pipes, for terminals that can't show more, and for the way of one sensor's messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final, Protocol

from edge_agent.contract.messages import Message
from edge_agent.serving.reports import now as time_of_day
from edge_agent.watching import events, figures
from edge_agent.watching.events import Event
from edge_agent.watching.known import DOCS, INFO, Known
from edge_agent.watching.output import Output
from edge_agent.watching.view import Connected, Lost, Told

#: Most messages that are read in a second; the others are counted. A small board reads as many with a part of its time.
MOST: Final = 1000
#: What tells where answers come, which is read all the same, and how much of it in a second.
_NEEDED: Final = (f"/{INFO}", f"/{DOCS}")
_MOST_NEEDED: Final = 100
#: Seconds until the next turn while lines wait for their reader, and otherwise.
_SOON: Final = 0.05
_LATER: Final = 1.0
_WINDOW: Final = 1.0
#: Seconds after which it is said that nothing came.
_QUIET: Final = 4.0


class Source(Protocol):
    """Makes events of messages."""

    @property
    def wanted(self) -> list[str]:
        """The topic filters to subscribe to."""

    def take(self, message: Message, now: float) -> Iterator[tuple[Event, Message | None]]:
        """Return what is to be said of a message, with the message that it is said of."""

    def due(self, now: float) -> Iterator[Event]:
        """Return what is to be said because time has passed."""

    def restart(self) -> None:
        """Forget what only holds for one connection."""


class All:
    """Everything that the nodes say, and all answers."""

    def __init__(self, known: Known, hint: str) -> None:
        self._known = known
        self._hint: str | None = hint
        self._began: float | None = None
        self._told_left_out = False

    @property
    def wanted(self) -> list[str]:
        """The topics of the nodes, and of all their answers."""
        return self._known.wanted

    def take(self, message: Message, now: float) -> Iterator[tuple[Event, Message | None]]:  # noqa: ARG002 - the interface
        """Return the event of a message."""
        self._hint = None
        for event in events.of_message(self._known, message):
            yield event, message

    def due(self, now: float) -> Iterator[Event]:
        """Say once when nothing comes, and when something is left out."""
        if (left_out := figures.left_out(self._known)) is not None and not self._told_left_out:
            self._told_left_out = True
            yield {"event": "note", "note": left_out}
        self._began = now if self._began is None else self._began
        if self._hint is not None and now - self._began > _QUIET:
            yield {"event": "hint", "hint": self._hint}
            self._hint = None

    def restart(self) -> None:
        """The silence of a connection begins with it."""
        self._began = None


class LineView:
    """Writes the events of a `source` to `output`, as JSON or for people."""

    def __init__(
        self,
        source: Source,
        output: Output,
        *,
        as_json: bool,
        clock: Callable[[], str] = time_of_day,
    ) -> None:
        self._source = source
        self._output = output
        self._as_json = as_json
        self._clock = clock
        self._connected = False
        self._window = 0.0
        self._count = 0
        self._needed = 0
        self._skipped = 0

    @property
    def wanted(self) -> list[str]:
        """The topic filters to subscribe to."""
        return self._source.wanted

    def take(self, message: Message, now: float) -> None:
        """Write what a message says, unless too much was said in this second."""
        if now >= self._window + _WINDOW:
            self._begin(now)
        self._count += 1
        if self._count > MOST and not self._is_needed(message.topic):
            self._skipped += 1
            return
        for event, about in self._source.take(message, now):
            self._write(event, about)

    def _is_needed(self, topic: str) -> bool:
        """Tell whether a message says where answers come. There are few of them, unless somebody means harm."""
        if not topic.endswith(_NEEDED) or self._needed >= _MOST_NEEDED:
            return False
        self._needed += 1
        return True

    def tell(self, told: Told) -> None:
        """Write what became of the connection."""
        if isinstance(told, Connected | Lost):
            self._source.restart()
            self._connected = isinstance(told, Connected)
        self._write(events.of_connection(told))

    def turn(self, now: float) -> float:
        """Pass on what the reader takes."""
        if now >= self._window + _WINDOW:
            self._begin(now)
        if self._connected:
            for event in self._source.due(now):
                self._write(event)
        self._output.flush()
        return _SOON if self._output.waits else _LATER

    def close(self) -> None:
        """Pass on the rest."""
        self._begin(self._window)
        self._output.finish()

    def _begin(self, now: float) -> None:
        """Begin another second."""
        skipped, self._skipped = self._skipped, 0
        self._window, self._count, self._needed = now, 0, 0
        if skipped:
            self._write({"event": "skipped", "messages": skipped})

    def _write(self, event: Event, message: Message | None = None) -> None:
        if self._as_json:
            line = events.as_json({"time": self._clock(), **event})
        else:
            line = f"{datetime.now().astimezone():%H:%M:%S} {events.as_line(event, message)}"
        if not self._output.write(line):
            self._skipped += event.get("messages", 1)
