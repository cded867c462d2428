"""Messages about the node that follow the others on each connection, once they are there: nothing waits for them.

Rules:

* each is for those who come later, so it is left out where the broker does not keep it; but for drift, which is told again and again;
* one that may end the connection is tried alone, as all of the agent's own are (`edge_agent.serving.caution`), and those after it wait.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from edge_agent.serving.announcements import Later
from edge_agent.serving.answering import Answering
from edge_agent.serving.plan import Connection, Plan

if TYPE_CHECKING:
    from edge_agent.serving.drifting import Drifting


class Afterwards:
    """What is yet to be said on a connection, and what is said on it every now and then."""

    def __init__(self) -> None:
        self._all: tuple[Later, ...] = ()
        self._left: deque[Later] = deque()
        self._drift: Drifting | None = None

    def begin(self, plan: Plan) -> None:
        """Say all that a plan has, on a new connection or because the plan is new."""
        if plan.later is not self._all:
            self.close()
        self._all = plan.later
        self._left = deque(plan.later)
        self._drift = plan.drift
        if self._drift is not None:
            self._drift.say_again()

    def close(self) -> None:
        """End what is being made."""
        for one in self._all:
            one.close()
        self._left.clear()

    def turn(self, link: Connection, answering: Answering, node: str) -> None:
        """Say the next one, if it is there."""
        if self._drift is not None:
            self._say_drift(self._drift, link, answering, node)
        if not self._left or not self._left[0].ready:
            return
        message = self._left[0].message(node)
        if message is not None and link.keeps(message):
            if not answering.may_say(link, message):
                return
            answering.say(link, message)
        self._left.popleft()

    @staticmethod
    def _say_drift(drift: Drifting, link: Connection, answering: Answering, node: str) -> None:
        message = drift.message(node)
        if message is None:
            return
        if not link.keeps(message):
            message = message._replace(retain=False)
        if answering.may_say(link, message):
            answering.say(link, message)
            drift.said()
