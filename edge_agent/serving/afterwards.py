"""Messages about the node that follow the others on each connection, once they are there: nothing waits for them.

Rules:

* each is for those who come later, so it is left out where the broker does not keep it;
* one that may end the connection is tried alone, as all of the agent's own are (`edge_agent.serving.caution`), and those after it wait.
"""

from __future__ import annotations

from collections import deque

from edge_agent.serving.announcements import Later
from edge_agent.serving.answering import Answering
from edge_agent.serving.plan import Connection, Plan


class Afterwards:
    """What is yet to be said on a connection."""

    def __init__(self) -> None:
        self._all: tuple[Later, ...] = ()
        self._left: deque[Later] = deque()

    def begin(self, plan: Plan) -> None:
        """Say all that a plan has, on a new connection or because the plan is new."""
        if plan.later is not self._all:
            self.close()
        self._all = plan.later
        self._left = deque(plan.later)

    def close(self) -> None:
        """End what is being made."""
        for one in self._all:
            one.close()
        self._left.clear()

    def turn(self, link: Connection, answering: Answering, node: str) -> None:
        """Say the next one, if it is there."""
        if not self._left or not self._left[0].ready:
            return
        message = self._left[0].message(node)
        if message is not None and link.keeps(message):
            if not answering.may_say(link, message):
                return
            answering.say(link, message)
        self._left.popleft()
