"""An agent on a broker that remembers what it did not take, in memory: over many connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edge_agent.contract.messages import Answer, Message
from edge_agent.routing.routes import Route
from edge_agent.serving.agent import Agent
from edge_agent.serving.plan import Plan
from edge_agent.testing import ROUTE, FakeClock, FakeLink, make_connection_settings, make_plan

GOOD = b'{"loudness": 0.9}'


def message(room: str, number: int = 0, **options: Any) -> Message:
    return Message(f"music/{room}/features", b'{"loudness": 0.9, "id": %d}' % number, 1, **options)


def to(room: str) -> Callable[[Answer], bool]:
    return lambda answer: answer.topic == f"music/{room}/genre"


class Session:
    """A broker with a session: what was not taken comes again on the next connection."""

    def __init__(
        self,
        hangs_up: Callable[[Answer], bool],
        *,
        plan: Plan | None = None,
        routes: Sequence[Route] = (ROUTE,),
        link: Callable[[], FakeLink] = FakeLink,
    ) -> None:
        self.make = link
        self.links: list[FakeLink] = []
        self.queue: list[Message] = []
        self.hangs_up = hangs_up
        self.clock = FakeClock()
        line = make_connection_settings()
        self.agent = Agent(
            line._replace(dial=lambda *_: self._dial()), plan or make_plan(routes=routes), clock=self.clock
        )

    def _dial(self) -> FakeLink:
        link = self.make()
        link.hangs_up = self.hangs_up
        link.arrive(*self.queue)
        self.links.append(link)
        return link

    def send(self, *messages: Message) -> None:
        self.queue += messages
        if self.links:
            self.links[-1].arrive(*messages)

    def connect(self) -> FakeLink:
        """Have the agent connect anew; what waits has not come yet."""
        queue, self.queue = self.queue, []
        before = len(self.links)
        while len(self.links) == before:
            self.run(1)
        self.queue = queue
        self.links[-1].arrive(*queue)
        return self.links[-1]

    def run(self, turns: int = 100) -> None:
        for _ in range(turns):
            link = self.links[-1] if self.links else None
            self.agent.step(wakeup=AWAKE[0])
            self.clock.advance(0.3)
            if link is not None and not link.under_way:
                taken = [id(one) for one, _ in link.answered]
                self.queue = [one for one in self.queue if id(one) not in taken]

    @property
    def sent(self) -> list[Answer]:
        return [answer for link in self.links for answer in link.sent if answer.topic.startswith("music/")]

    def topics(self) -> list[str]:
        return [answer.topic for answer in self.sent]


#: A descriptor that is readable, so that no wait in the loop lasts: that of the fixture `kept_awake`.
AWAKE: list[int] = []
