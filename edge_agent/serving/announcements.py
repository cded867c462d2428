"""A node's announcements (its state, its info, and more), and when it retries refused subscriptions.

    offline    also the will, which the broker publishes for the node
    online     connected, with all subscriptions granted
    degraded   connected, but the broker refused a subscription: some inputs do not come. `reason` says which

`online` or `degraded` is published on every connection, and when it changes.

All other messages about the node are `Announcement`s, too. A plan lists them all (`edge_agent.serving.plan.Plan`); the loop knows
none of them: to add one, make it, here or where what it tells is known, and put it into the plan's list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from enum import Flag, auto
from typing import Final, Literal, NamedTuple

from edge_agent.contract import topics
from edge_agent.contract.messages import Answer, Info, Refused, to_json
from edge_agent.link.granted import ENDS
from edge_agent.wording import LOGGED

#: Seconds until a refused subscription is retried; doubled each time up to the longest, and up to another one where it costs
#: the connection.
_FIRST_PAUSE: Final = 30.0
_LONGEST: Final = 900.0
_LONGEST_COSTLY: Final = 3600.0


class Standing(NamedTuple):
    """The standing of a connected node: `reason` is None when all subscriptions are granted."""

    reason: str | None = None

    @property
    def state(self) -> Literal["online", "degraded"]:
        """The payload of the state topic."""
        return "online" if self.reason is None else "degraded"


ONLINE: Final = Standing()


def standing(refused: Sequence[Refused]) -> Standing:
    """Return the standing of a node whose broker refused these subscriptions."""
    if not refused:
        return ONLINE
    first, *others = refused
    more = f", and {len(others)} more" if others else ""
    return Standing(f"subscription to {first.topic[:LOGGED]!r} refused: {first.reason}{more}")


class News(Flag):
    """What has changed, and so may need an announcement."""

    CONNECTION = auto()
    STANDING = auto()
    PLAN = auto()


class Announcement(NamedTuple):
    """Messages that a node publishes on each new connection, and again when what it `tells` of has changed.

    `make` returns the messages, from the node's id and its info.
    """

    tells: News
    make: Callable[[str, Info], Iterable[Answer]]


def announce(announcements: Iterable[Announcement], news: News, node: str, info: Info) -> list[Answer]:
    """Return the messages to publish for these news."""
    return [answer for one in announcements if (one.tells | News.CONNECTION) & news for answer in one.make(node, info)]


def birth(node: str, standing: Standing = ONLINE) -> Answer:
    """Return the message that announces a node; its counterpart is `will`."""
    return _said(node, standing.state)


def will(node: str) -> Answer:
    """Return the message that a node is offline: published by the node itself, or by the broker as its will."""
    return _said(node, "offline")


def _said(node: str, word: str) -> Answer:
    return Answer(topics.state(node), word.encode(), qos=1, retain=True, content_type=None)


#: State and info, which every plan announces.
STATE: Final = Announcement(News.STANDING, lambda node, info: [birth(node, Standing(info["reason"]))])
INFO: Final = Announcement(
    News.STANDING | News.PLAN,
    lambda node, info: [Answer(topics.info(node), to_json(info), qos=1, retain=True)],
)


class Retry:
    """When to retry refused subscriptions: after pauses that grow until none is refused. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._when = math.inf
        self._pause = _FIRST_PAUSE

    def schedule(self, refused: Sequence[Refused]) -> float:
        """Set the next time to retry these, if there are any; return the seconds until then."""
        if not refused:
            self.forget()
            return 0.0
        costly = any(one.reason.startswith(ENDS) for one in refused)
        pause = min(self._pause, _LONGEST_COSTLY if costly else _LONGEST)
        self._when = self._clock() + pause
        self._pause = 2 * pause
        return pause

    def suspend(self) -> None:
        """Retry nothing until the next time is set: a new connection asks for everything."""
        self._when = math.inf

    def forget(self) -> None:
        """Start over: there is nothing to retry, or it is requested with other changes."""
        self.suspend()
        self._pause = _FIRST_PAUSE

    def take(self) -> bool:
        """Tell, once, whether it is time to retry."""
        if self._clock() < self._when:
            return False
        self._when = math.inf
        return True
