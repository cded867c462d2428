"""What a node says of itself: its state, its info, and more; and when it asks for refused subscriptions again.

    offline    also the will: the broker says it in the node's stead
    online     connected, with every subscription granted
    degraded   connected, but the broker refused a subscription: some inputs do not come. `reason` says which

An `online` or `degraded` comes on every connection, and when one becomes the other.

What else it says of itself is an `Announcement` too. A plan lists them all (`edge_agent.serving.plan.Plan`), and the loop knows
none of them: to add one, make it, here or where what it tells is known, and put it into the plan's list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from enum import Flag, auto
from typing import Final, Literal, NamedTuple

from edge_agent.contract import topics
from edge_agent.contract.messages import Answer, Info, Refused, to_json

#: Seconds until a refused subscription is asked for again; doubled each time up to the longest.
_FIRST_PAUSE: Final = 30.0
_LONGEST_PAUSE: Final = 900.0
#: Of a topic, how much a reason shows.
_SHOWN: Final = 200


class Standing(NamedTuple):
    """How a connected node stands: `reason` is None when all is well."""

    reason: str | None = None

    @property
    def state(self) -> Literal["online", "degraded"]:
        """What the state topic says."""
        return "online" if self.reason is None else "degraded"


ONLINE: Final = Standing()


def standing(refused: Sequence[Refused]) -> Standing:
    """Return how a node stands whose broker refused these subscriptions."""
    if not refused:
        return ONLINE
    first, *others = refused
    more = f", and {len(others)} more" if others else ""
    return Standing(f"subscription to {first.topic[:_SHOWN]!r} refused: {first.reason}{more}")


class News(Flag):
    """What may be new, and so a reason to say something."""

    CONNECTION = auto()
    STANDING = auto()
    PLAN = auto()


class Announcement(NamedTuple):
    """Something that a node says of itself on each new connection, and again when what it `tells` of is new.

    `make` returns the messages, from the node's id and its info.
    """

    tells: News
    make: Callable[[str, Info], Iterable[Answer]]


def announce(announcements: Iterable[Announcement], news: News, node: str, info: Info) -> list[Answer]:
    """Return what is to be said when there are such news."""
    return [answer for one in announcements if (one.tells | News.CONNECTION) & news for answer in one.make(node, info)]


def birth(node: str, standing: Standing = ONLINE) -> Answer:
    """Return the message that says a node is there; its counterpart is `will`."""
    return _said(node, standing.state)


def will(node: str) -> Answer:
    """Return the message that says a node is gone: published by the node itself, or by the broker in its stead."""
    return _said(node, "offline")


def _said(node: str, word: str) -> Answer:
    return Answer(topics.state(node), word.encode(), qos=1, retain=True, content_type=None)


#: The state, and all about the node: said by every plan.
STATE: Final = Announcement(News.STANDING, lambda node, info: [birth(node, Standing(info["reason"]))])
INFO: Final = Announcement(
    News.STANDING | News.PLAN,
    lambda node, info: [Answer(topics.info(node), to_json(info), qos=1, retain=True)],
)


class Retry:
    """When to ask for refused subscriptions again: after a pause that grows. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._when = math.inf
        self._pause = _FIRST_PAUSE

    def schedule(self) -> float:
        """Set the next time; return how many seconds there are until then."""
        pause = self._pause
        self._when = self._clock() + pause
        self._pause = min(_LONGEST_PAUSE, 2 * pause)
        return pause

    def forget(self) -> None:
        """Begin anew: there is nothing to ask for again, or it is asked for with something else."""
        self._when = math.inf
        self._pause = _FIRST_PAUSE

    def take(self) -> bool:
        """Tell, once, whether it is time."""
        if self._clock() < self._when:
            return False
        self._when = math.inf
        return True
