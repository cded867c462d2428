"""What follows on a connection: when it is there, where the broker keeps it, and without anything waiting for it."""

from __future__ import annotations

import pytest

from edge_agent.contract.messages import Answer, Refused
from edge_agent.errors import BrokerError
from edge_agent.serving.agent import Agent
from edge_agent.serving.plan import Plan
from edge_agent.testing import FakeClock, FakeLink, make_connection_settings, make_plan
from tests.unit.agents import topics_of

pytestmark = pytest.mark.usefixtures("logger")

STATE, INFO, DOCS = "edge/node/state", "edge/node/info", "edge/node/docs"


class Document:
    """Is there when a test says so."""

    def __init__(self, *, ready: bool = True, there: bool = True) -> None:
        self.ready = ready
        self.there = there
        self.closed = 0

    def message(self, node: str) -> Answer | None:
        return Answer(f"edge/{node}/docs", b"{}", qos=1, retain=True) if self.there else None

    def close(self) -> None:
        self.closed += 1


def plan_with(*documents: Document) -> Plan:
    return make_plan()._replace(later=documents)


def steps(agent: Agent, count: int = 3) -> None:
    for _ in range(count):
        agent.step()


def test_it_follows_the_others_once() -> None:
    link = FakeLink()
    agent = Agent(make_connection_settings(link), plan_with(Document()), clock=FakeClock())
    steps(agent)
    assert topics_of(link.sent) == [STATE, INFO, DOCS]
    assert link.sent[-1].retain


def test_nothing_waits_for_it() -> None:
    link, document = FakeLink(), Document(ready=False)
    agent = Agent(make_connection_settings(link), plan_with(document), clock=FakeClock())
    steps(agent)
    assert topics_of(link.sent) == [STATE, INFO]
    document.ready = True
    steps(agent)
    assert topics_of(link.sent) == [STATE, INFO, DOCS]


def test_where_there_is_none_none_is_said() -> None:
    link = FakeLink()
    agent = Agent(make_connection_settings(link), plan_with(Document(there=False)), clock=FakeClock())
    steps(agent)
    assert topics_of(link.sent) == [STATE, INFO]


def test_a_broker_that_does_not_keep_it_is_not_sent_it() -> None:
    link = FakeLink()
    link.retains = False
    agent = Agent(make_connection_settings(link), plan_with(Document(), Document()), clock=FakeClock())
    steps(agent)
    assert topics_of(link.sent) == [STATE, INFO]


def test_it_is_renewed_with_each_connection() -> None:
    first, second, clock = FakeLink(), FakeLink(), FakeClock()
    agent = Agent(make_connection_settings(first, second), plan_with(Document()), clock=clock)
    steps(agent)
    first.lose(BrokerError("gone"))
    agent.step()
    clock.advance(2)
    steps(agent)
    assert topics_of(second.sent) == [STATE, INFO, DOCS]


def test_it_is_renewed_with_a_reload_and_the_earlier_one_is_let_go() -> None:
    link, earlier, later = FakeLink(), Document(ready=False), Document()
    settings = make_connection_settings(link)
    agent = Agent(settings, plan_with(earlier), clock=FakeClock())
    steps(agent)
    agent.take_over(settings, plan_with(later))
    steps(agent)
    assert topics_of(link.sent) == [STATE, INFO, INFO, DOCS]
    assert (earlier.closed, later.closed) == (1, 0)


def test_a_changed_standing_does_not_renew_it() -> None:
    link, clock = FakeLink(), FakeClock()
    link.refused.append(Refused("music/+/features", "Not authorized"))
    plan = plan_with(Document())._replace(health_interval=3600.0)
    agent = Agent(make_connection_settings(link), plan, clock=clock)
    steps(agent)
    del link.sent[:]
    link.refused.clear()
    clock.advance(60)
    steps(agent)
    assert topics_of(link.sent) == [STATE, INFO]


def test_one_over_which_the_broker_ends_the_connection_is_left_out_in_the_end() -> None:
    """Everything else is said, on a connection that stays."""
    clock = FakeClock()
    links = [FakeLink() for _ in range(12)]
    for link in links:
        link.hangs_up = lambda answer: answer.topic == DOCS
    agent = Agent(make_connection_settings(*links), plan_with(Document()), clock=clock)
    for _ in range(200):
        agent.step()
        clock.advance(0.5)
        for link in links:
            if DOCS not in topics_of(link.sent):
                link.take()
    used = [link for link in links if link.sent]
    assert 3 <= len(used) < len(links), "it goes on for ever"
    assert topics_of(used[-1].sent)[:2] == [STATE, INFO]
    assert DOCS not in topics_of(used[-1].sent)
