"""After a connection that ended, or did not come about: when the next one is tried, and by which protocol."""

from __future__ import annotations

import itertools
import logging

import pytest

from edge_agent.contract.messages import Info, Message, validator
from edge_agent.errors import AdaptedError, BrokerError, NarrowedError, ProtocolRefusedError, SurplusError
from edge_agent.serving.agent import Agent
from edge_agent.testing import FakeClock, FakeLink, make_connection_settings, make_plan
from tests.unit.agents import ended, pauses

pytestmark = pytest.mark.usefixtures("everything_is_logged")


def test_pauses_double_up_to_the_longest_with_jitter(caplog: pytest.LogCaptureFixture, awake: int) -> None:
    agent, clock = ended(*[BrokerError(f"no {number}") for number in range(40)], max_backoff=10)
    for _ in range(40):
        agent.step(awake)
        clock.advance(10)
    found = pauses(caplog)
    assert len(found) == 40
    for number, pause in enumerate(found):
        ceiling = min(10, 2.0**number)
        assert ceiling / 2 <= pause <= ceiling
    # Jitter: a fleet does not come back as one.
    assert len(set(found)) > 30


def test_nothing_is_tried_before_the_pause_is_over(caplog: pytest.LogCaptureFixture, awake: int) -> None:
    link = FakeLink()
    agent, clock = ended(BrokerError("no"), link)
    agent.step(awake)
    (pause,) = pauses(caplog)
    clock.advance(pause - 0.001)
    agent.step(awake)
    assert agent.tally.connections == 0
    clock.advance(0.001)
    agent.step(awake)
    assert agent.tally.connections == 1


def test_pauses_begin_anew_after_a_connection_that_worked(caplog: pytest.LogCaptureFixture, awake: int) -> None:
    works = FakeLink()
    agent, clock = ended(*[BrokerError("no") for _ in range(5)], works)
    for _ in range(6):
        agent.step(awake)
        clock.advance(60)
    works.lose(BrokerError("gone"))
    agent.step(awake)
    assert pauses(caplog)[4] >= 8
    assert pauses(caplog)[5] <= 1


def test_pauses_grow_when_connections_end_soon(caplog: pytest.LogCaptureFixture, awake: int) -> None:
    """Two agents of one name throw each other out, for ever: not once a second."""
    links = [FakeLink() for _ in range(7)]
    agent, clock = ended(*links)
    for number, link in enumerate(links):
        agent.step(awake)
        assert agent.tally.connections == number + 1
        # The last one stays for a while.
        clock.advance(30 if link is links[-1] else 29)
        link.lose(BrokerError("Session taken over"))
        agent.step(awake)
        clock.advance(60)
    found = pauses(caplog)
    for number, pause in enumerate(found[:6]):
        assert 2.0**number / 2 <= pause <= 2.0**number
    assert found[6] <= 1


def test_a_broker_that_ends_every_connection_is_asked_less_and_less_whatever_it_ends_them_for(awake: int) -> None:
    """Each connection brings messages from other sensors, and ends over the first that is sent."""
    clock, begun = FakeClock(), list[float]()

    def dial(*_: object) -> FakeLink:
        begun.append(clock.time)
        link = FakeLink()
        link.hangs_up = lambda _: True
        link.arrive(*(Message(f"music/{room}/features", b'{"loudness": 0.9}', 1) for room in range(20)))
        return link

    agent = Agent(make_connection_settings()._replace(dial=dial), make_plan(), clock=clock)
    while clock.time < 600:
        agent.step(awake)
        clock.advance(0.1)
    assert len([one for one in begun if one < 30]) <= 20
    assert len([one for one in begun if one >= 300]) <= 12


def test_pauses_grow_when_the_broker_takes_connections_but_no_log_in(
    caplog: pytest.LogCaptureFixture, awake: int
) -> None:
    refused = []
    for _ in range(4):
        link = FakeLink()
        link.ready = False
        link.lose(BrokerError("wrong password"))
        refused.append(link)
    agent, clock = ended(*refused)
    for _ in range(4):
        agent.step(awake)
        clock.advance(60)
    assert pauses(caplog)[3] >= 4


def test_a_day_without_a_broker(caplog: pytest.LogCaptureFixture, awake: int) -> None:
    agent, clock = ended()
    for _ in range(2880):
        agent.step(awake)
        clock.advance(30)
    # Tried all day long, and never later than the longest pause: however many attempts failed, the next one comes.
    assert 86_400 / 60 <= len(found := pauses(caplog)) <= 2880
    assert max(found) <= 60


def test_what_a_broker_sent_too_much_of_is_fetched_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    links = FakeLink(), FakeLink(), FakeLink()
    agent, _ = ended(*links)
    for link in links[:2]:
        agent.step()
        link.lose(SurplusError("too much at once"))
        agent.step()
    agent.step()
    # In good order, so with no will, and with no pause; told once.
    assert [(link.closed, link.abandoned) for link in links] == [(True, False), (True, False), (False, False)]
    assert agent.tally.connections == 3
    assert caplog.text.count("too much at once") == 1


def refusing() -> FakeLink:
    link = FakeLink()
    link.ready = False
    link.lose(ProtocolRefusedError("no MQTT 5 here"))
    return link


def test_the_older_protocol_is_tried_at_once() -> None:
    first, second = refusing(), FakeLink()
    agent, _ = ended(first, second)
    agent.step()
    agent.step()
    assert (first.protocol, second.protocol) == ("5", "3.1.1")
    assert first.abandoned
    assert validator(Info).validate_json(second.sent[1].payload)["mqtt"] == "3.1.1"


def test_what_the_broker_refuses_is_left_out_at_once(caplog: pytest.LogCaptureFixture) -> None:
    first, second = FakeLink(), FakeLink()
    first.ready = False
    first.lose(AdaptedError("no retained will here"))
    agent, _ = ended(first, second)
    agent.step()
    agent.step()
    assert (first.protocol, second.protocol) == ("5", "5")
    assert pauses(caplog) == []
    assert agent.tally.connections == 1


def narrowing(*, nearer: bool, found: bool) -> tuple[Agent, FakeClock, list[float]]:
    """An agent whose broker ends every connection, perhaps over a subscription, its clock, and when it connected."""
    clock, begun = FakeClock(), list[float]()

    def dial(*_: object) -> FakeLink:
        begun.append(clock.time)
        link = FakeLink()
        link.ready = False
        link.lose(NarrowedError("the broker closed", nearer=nearer, found=found))
        return link

    return Agent(make_connection_settings()._replace(dial=dial), make_plan(), clock=clock), clock, begun


@pytest.mark.parametrize(
    ("nearer", "found", "least", "most"), [(True, True, 250, 310), (True, False, 12, 20), (False, False, 4, 8)]
)
def test_a_filter_that_ends_the_connection_is_looked_for_at_once_as_long_as_that_leads_somewhere(
    nearer: bool, found: bool, least: int, most: int, awake: int
) -> None:
    """With a broker that ends every connection it does not, so that is asked less and less; nor may a first end be one of those."""
    agent, clock, begun = narrowing(nearer=nearer, found=found)
    while clock.time < 30:
        agent.step(awake)
        clock.advance(0.1)
    assert least <= len(begun) <= most


def test_a_fleet_does_not_look_for_a_filter_in_step(awake: int) -> None:
    """The broker may be overloaded, and do the same to all."""
    agent, clock, begun = narrowing(nearer=True, found=True)
    while len(begun) < 50:
        agent.step(awake)
        clock.advance(0.001)
    waits = [later - earlier for earlier, later in itertools.pairwise(begun)]
    assert min(waits) < 0.75 * max(waits)
    assert max(waits) < 0.25


def test_the_newest_protocol_is_tried_first_on_the_next_connection() -> None:
    first, second, third = refusing(), FakeLink(), FakeLink()
    agent, clock = ended(first, second, third)
    agent.step()
    agent.step()
    second.lose(BrokerError("gone"))
    agent.step()
    clock.advance(1)
    agent.step()
    assert third.protocol == "5"


def test_a_broker_that_refuses_both_is_left_alone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    agent, _ = ended(refusing(), refusing(), FakeLink())
    agent.step()
    assert pauses(caplog) == []
    agent.step()
    assert len(pauses(caplog)) == 1


def test_one_protocol_only_when_told_so(caplog: pytest.LogCaptureFixture) -> None:
    link = refusing()
    agent, _ = ended(link, protocols=["3.1.1"])
    agent.step()
    assert link.protocol == "3.1.1"
    assert len(pauses(caplog)) == 1
