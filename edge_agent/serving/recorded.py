"""The retained record of what a node has announced to Home Assistant: how it is made, read and waited for.

Rules:

* it comes from the broker, so from anyone: its names have the form that ours have (`edge_agent.contract.messages.Announced`),
  and there is a limit to how much of it is believed;
* the broker sends it once the subscription is granted, but after the backlog of the session, which may be long;
* it is taken once on each connection: a broker may pass on our own with the mark of a retained one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

import pydantic

from edge_agent.contract import topics
from edge_agent.contract.messages import Announced, AnnouncedRoute, Answer, to_json, validator
from edge_agent.routing.sensors import MAX_SENSORS
from edge_agent.serving.home_assistant import About, Kind
from edge_agent.wording import LOGGED

#: Models of a record that are believed.
_MODELS: Final = 256
#: Seconds within which the broker sends what it has retained; as many messages in them are a backlog, which is waited for so long.
_GRACE: Final = 2.0
_BACKLOG: Final = 200
_LONGEST: Final = 60.0


class Line(Protocol):
    """What is asked of a connection (`edge_agent.link.link.Link`)."""

    @property
    def in_flight(self) -> int:
        """Messages not yet acknowledged, confirmed or sent."""

    def keeps(self, answer: Answer) -> bool:
        """Return whether the broker keeps this retained message."""


class Awaited:
    """Whether the record of the former run has come, or does not come any more. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.is_over = False
        self._clock = clock
        self._is_taken = False
        self._granted: float | None = None
        self._ends = 0.0
        self._received = 0

    def begin(self) -> None:
        """Wait anew, unless that is over: on another connection, or for another subscription."""
        self._is_taken = False
        self._granted = None

    def take(self) -> bool:
        """Note that a record has come; return whether it is to be read."""
        is_first = not self._is_taken
        self._is_taken = self.is_over = True
        return is_first

    def look(self, received: int) -> bool:
        """Return whether the wait is over. To be called from when the subscription is granted; `received` counts messages."""
        if self.is_over:
            return True
        now = self._clock()
        if self._granted is None:
            self._granted = now
        elif now < self._ends:
            return False
        elif received - self._received < _BACKLOG or now >= self._granted + _LONGEST:
            self.is_over = True
            return True
        self._ends, self._received = now + _GRACE, received
        return False


def record(about: About, announced: Iterable[tuple[str, Kind]]) -> Answer:
    """Return what the next run has to know; nothing where nothing is announced."""
    routes: dict[str, AnnouncedRoute] = {}
    for topic, kind in announced:
        text = kind.route.publish.text
        route = routes.get(text)
        if route is None:
            route = routes[text] = AnnouncedRoute(publish=text, shape=kind.shape, topics=[])
        route["topics"].append(topic)
    models = [name for name, _ in about.models]
    told = Announced(prefix=about.prefix, models=models, routes=[*routes.values()])
    topic = topics.announced(about.node)
    return Answer(topic, to_json(told), qos=1, retain=True) if routes or models else cleared(topic)


def cleared(topic: str) -> Answer:
    """Return the message that clears a retained one."""
    return Answer(topic, b"", qos=1, retain=True, content_type=None)


def read(payload: bytes, limit: int) -> Announced:
    """Return what is believed of a record. Raises `ValueError` when it is none.

    `limit` is for topics. It may have been larger before: as many as by default are taken back even so.
    """
    try:
        told: Announced = validator(Announced).validate_json(payload)
    except pydantic.ValidationError as error:
        raise ValueError(error.errors(include_url=False)[0]["msg"][:LOGGED]) from None
    if unfit := topics.is_unfit(told["prefix"]):
        raise ValueError(f"a prefix {unfit}")
    left = max(limit, MAX_SENSORS)
    routes: list[AnnouncedRoute] = []
    for route in told["routes"]:
        routes.append(AnnouncedRoute(publish=route["publish"], shape=route["shape"], topics=route["topics"][:left]))
        left -= len(routes[-1]["topics"])
    return Announced(prefix=told["prefix"], models=told["models"][:_MODELS], routes=routes)
