"""What the commands say: events, each with its data and its words."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

#: Seconds between two lines about the same wave where they can't be written over one another.
_SPACED: Final = 10.0


class Event(NamedTuple):
    """Something that happened. `passing`: the next one of its kind takes its place."""

    kind: str
    text: str
    data: dict[str, Any]
    passing: bool = False


#: Takes an event.
Say = Callable[[Event], None]


class Lines:
    """Writes events as lines; passing ones over one another on a terminal, and seldom elsewhere."""

    def __init__(self, clock: Callable[[], float], *, terminal: bool | None = None) -> None:
        self._clock = clock
        self._terminal = sys.stdout.isatty() if terminal is None else terminal
        self._last = -_SPACED
        self._is_open = False
        self._passing = ""

    def __call__(self, event: Event) -> None:
        """Write one."""
        if event.passing and event.text == self._passing:
            return
        if event.passing and not self._terminal:
            if self._clock() - self._last < _SPACED:
                return
            self._last = self._clock()
        self._passing = event.text if event.passing else ""
        if self._is_open:
            sys.stdout.write("\r\x1b[K")
        self._is_open = event.passing and self._terminal
        sys.stdout.write(event.text if self._is_open else f"{event.text}\n")
        sys.stdout.flush()


def json_lines() -> Say:
    """Write events as lines of JSON; passing ones when they change."""
    passing: Event | None = None

    def write(event: Event) -> None:
        nonlocal passing
        if event.passing and event == passing:
            return
        passing = event if event.passing else None
        sys.stdout.write(json.dumps({"event": event.kind, **event.data}) + "\n")
        sys.stdout.flush()

    return write
