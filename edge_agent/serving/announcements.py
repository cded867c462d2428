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
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Flag, auto
from typing import Final, Literal, NamedTuple, Protocol

from edge_agent.contract import topics
from edge_agent.contract.messages import Answer, Info, Refused, to_json
from edge_agent.link.granted import ENDS
from edge_agent.wording import LOGGED

#: Seconds until a refused subscription is retried; doubled with each retry up to the longest, and up to another one where it
#: costs the connection.
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


class Later(Protocol):
    """A message for those who come later: published once it is there, after the others, where the broker keeps it."""

    @property
    def ready(self) -> bool:
        """Whether it is there, or known not to come; asked once a turn until then."""

    def message(self, node: str) -> Answer | None:
        """Return the message, retained; None where there is none."""

    def close(self) -> None:
        """End what is made of it: it is not asked for any more."""


class TakenBack(NamedTuple):
    """Clears what a former run with other settings may have left on a topic: a `Later`."""

    topic: str

    @property
    def ready(self) -> bool:
        """It is there."""
        return True

    def message(self, node: str) -> Answer:  # noqa: ARG002 - as all of them
        """Return an empty message, which the broker does not keep."""
        return Answer(self.topic, b"", qos=1, retain=True, content_type=None)

    def close(self) -> None:
        """Do nothing."""


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


class _Pauses:
    """When to retry some topic filters together: after pauses that grow up to the `longest`, over connections, until none is
    left. One that comes in addition makes them begin anew. `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float], longest: float) -> None:
        self.filters: Collection[str] = ()
        #: Seconds until then, when it was scheduled last.
        self.left = 0.0
        self._clock = clock
        self._longest = longest
        self._when = math.inf
        self._pause = _FIRST_PAUSE

    def schedule(self, filters: Collection[str]) -> None:
        """Set the next time to retry these, unless it is set."""
        if not (filters and set(self.filters).issuperset(filters)):
            self.forget()
        self.filters = filters
        if not filters:
            return
        now = self._clock()
        if self._when == math.inf:
            self._when = now + self._pause
            self._pause = min(2 * self._pause, self._longest)
        self.left = max(0.0, self._when - now)

    def take(self) -> bool:
        """Tell, once, whether it is time."""
        if self._clock() < self._when:
            return False
        self._when = math.inf
        return True

    def forget(self) -> None:
        """Start over."""
        self._when = math.inf
        self._pause = _FIRST_PAUSE


class Retry:
    """When to retry refused subscriptions. Those over which the broker ends the connection have pauses of their own, because
    each retry costs the connection.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._refused = _Pauses(clock, _LONGEST)
        self._costly = _Pauses(clock, _LONGEST_COSTLY)

    def schedule(self, refused: Sequence[Refused]) -> None:
        """Set the times to retry these. A new connection is no retry: it changes neither times nor pauses."""
        self._costly.schedule([one.topic for one in refused if _is_costly(one)])
        self._refused.schedule([one.topic for one in refused if not _is_costly(one)])

    def left(self, one: Refused) -> float:
        """Return the seconds until this is retried, when it was scheduled last."""
        return (self._costly if _is_costly(one) else self._refused).left

    def take(self) -> Collection[str] | None:
        """Return, once, when it is time to retry, the filters to be tried even if that ends the connection; else None."""
        if self._costly.take():
            return self._costly.filters
        return () if self._refused.take() else None

    def forget(self) -> Collection[str]:
        """Start over, because everything is requested with other changes. Return what was refused."""
        self._costly.forget()
        self._refused.forget()
        return [*self._costly.filters, *self._refused.filters]


def _is_costly(one: Refused) -> bool:
    return one.reason.startswith(ENDS)
