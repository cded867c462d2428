"""A broker that refuses a subscription: what is told about it, and how it is asked for again."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Collection, Mapping

import pytest

from edge_agent.contract.messages import Answer, Gathered, Message, Refused, Status, validator
from edge_agent.contract.templates import Template
from edge_agent.errors import BrokerError, NarrowedError
from edge_agent.link.granted import ENDS
from edge_agent.routing.routes import Route
from edge_agent.serving.agent import Agent
from edge_agent.serving.announcements import ONLINE, birth, standing, will
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeClock, FakeLink, FakeModel, make_agent, make_connection_settings, make_plan
from tests.unit.agents import FEATURES, GOOD, HeardNotifier, status_of, topics_of

REFUSED = Refused("music/+/features", "Not authorized")
REASON = "subscription to 'music/+/features' refused: Not authorized"


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


class RefusingLink(FakeLink):
    """Refuses `denied` whenever it is asked for subscriptions, and keeps when it was."""

    def __init__(self, *denied: Refused) -> None:
        super().__init__()
        self.denied = list(denied)
        self.refused = list(denied)
        self.answers = True

    def subscribe(self, wanted: Mapping[str, bool], anew: Collection[str] = ()) -> None:
        super().subscribe(wanted, anew)
        self.ready = self.answers
        self.refused = list(self.denied)


def degraded(*links: FakeLink | BrokerError) -> tuple[Agent, FakeClock, HeardNotifier]:
    clock, notifier = FakeClock(), HeardNotifier()
    agent = make_agent(*links, clock=clock, notifier=notifier)
    agent.step()
    return agent, clock, notifier


def states(link: FakeLink) -> list[bytes]:
    return [one.payload for one in link.sent if one.topic == "edge/node/state"]


def infos(link: FakeLink) -> list[tuple[str, str | None]]:
    told = [json.loads(one.payload) for one in link.sent if one.topic == "edge/node/info"]
    return [(one["state"], one["reason"]) for one in told]


def test_it_is_said_everywhere_and_the_rest_is_served(caplog: pytest.LogCaptureFixture) -> None:
    link = RefusingLink(REFUSED)
    agent, _, notifier = degraded(link)
    assert link.sent[0] == Answer("edge/node/state", b"degraded", qos=1, retain=True, content_type=None)
    assert infos(link) == [("degraded", REASON)]
    assert notifier.said[-1].startswith(f"STATUS=degraded: {REASON}; serving ")
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line == f"broker: {REASON}; allow it in the broker's access rules; retrying in 30 s"
    status = status_of(agent, link)
    assert (status["state"], status["reason"]) == ("degraded", REASON)
    link.arrive(Message(FEATURES, GOOD, 1))
    agent.step()
    assert topics_of(link.sent)[-1] == "music/kitchen/genre"
    agent.leave()
    assert link.sent[-1] == will("node")


def test_it_is_asked_for_again_with_growing_pauses(caplog: pytest.LogCaptureFixture) -> None:
    link = RefusingLink(REFUSED)
    agent, clock, _ = degraded(link)
    asked = []
    for second in range(1, 4000):
        clock.advance(1)
        before = len(link.subscribed)
        agent.step()
        asked += [second] * (len(link.subscribed) - before)
    assert asked == [30, 91, 212, 453, 934, 1835, 2736, 3637]
    # Nothing has changed, so nothing is said.
    assert (states(link), len(infos(link))) == ([b"degraded"], 1)
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


def test_one_that_ends_the_connection_is_asked_for_less_and_less_over_connections(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each retry costs the connection, so pauses go on where they were, up to an hour; one that is granted begins anew."""

    class Ending(RefusingLink):
        def subscribe(self, wanted: Mapping[str, bool], anew: Collection[str] = ()) -> None:
            if self.subscribed:
                self.lose(NarrowedError("the broker closed", nearer=True, found=True))
            super().subscribe(wanted, anew)

    over = Refused("music/+/features", ENDS)
    links = [*(Ending(over) for _ in range(10)), FakeLink(), Ending(over)]
    agent, clock, _ = degraded(*links)
    asked = []
    for second in range(1, 20_000):
        clock.advance(1)
        before = sum(len(link.subscribed) > 1 for link in links)
        agent.step()
        asked += [second] * (sum(len(link.subscribed) > 1 for link in links) - before)
    assert [later - earlier for earlier, later in itertools.pairwise([0, *asked])] == pytest.approx(
        [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600], abs=4
    )
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told[1] == (
        f"broker: subscription to 'music/+/features' refused: {ENDS}; allow it in the broker's access rules, or raise its limit "
        "of subscriptions, or remove it from the routes; retrying in 60 s"
    )
    assert {frozenset(link.subscribed[1][1]) for link in links[:10]} == {frozenset({"music/+/features"})}
    assert states(links[10]) == [b"online"]
    links[10].lose(BrokerError("gone"))
    for _ in range(4):
        agent.step()
        clock.advance(1)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told[-1].endswith("retrying in 30 s")


def test_a_connection_that_breaks_now_and_then_is_no_reason_not_to_ask_again() -> None:
    """Each new one would put it off, and take it for a retry."""
    links = [RefusingLink(Refused("music/+/features", ENDS)) for _ in range(60)]
    agent, clock, _ = degraded(*links)
    asked = []
    for second in range(1, 60 * 1200):
        clock.advance(1)
        link = links[second // 1200]
        if second % 1200 == 0:
            links[second // 1200 - 1].lose(BrokerError("gone"))
        before = len(link.subscribed)
        agent.step()
        asked += [second] * (len(link.subscribed) > before > 0)
    assert asked[:6] == [30, 91, 212, 453, 934, 1895]
    assert {round(later - earlier, -2) for earlier, later in itertools.pairwise(asked[7:])} == {3600}


def test_what_is_refused_newly_is_retried_soon_however_long_the_pause_is() -> None:
    link = RefusingLink(Refused("music/+/features", ENDS))
    agent, clock, _ = degraded(link)
    for _ in range(5000):
        clock.advance(1)
        agent.step()
    link.denied.append(Refused("edge/node/request/+", ENDS))
    count = len(link.subscribed)
    while len(link.subscribed) == count:
        clock.advance(1)
        agent.step()
    agent.step()
    count = len(link.subscribed)
    clock.advance(30)
    agent.step()
    assert len(link.subscribed) == count + 1


def test_one_that_costs_the_connection_does_not_put_the_others_off() -> None:
    costly = Refused("music/+/features", ENDS)
    link = RefusingLink(REFUSED._replace(topic="other/+"), costly)
    agent, clock, _ = degraded(link)
    for _ in range(20_000):
        clock.advance(1)
        agent.step()
    asked = [anew for _, anew in link.subscribed]
    assert 20_000 / 901 <= len(asked) <= 40
    assert 8 <= asked.count({costly.topic}) <= 11
    assert set(map(frozenset, asked)) == {frozenset(), frozenset({costly.topic})}
    before = len(asked)
    agent.take_over(make_connection_settings(link), make_plan())
    assert len(link.subscribed) <= before + 1


def test_when_it_is_granted_that_is_said_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    link = RefusingLink(REFUSED)
    agent, clock, notifier = degraded(link)
    link.denied = []
    clock.advance(30)
    agent.step()
    agent.step()
    assert states(link) == [b"degraded", b"online"]
    assert infos(link) == [("degraded", REASON), ("online", None)]
    assert notifier.said[-1].startswith("STATUS=serving ")
    assert "all subscriptions are granted now" in caplog.text
    assert agent.tally.connections == 1
    clock.advance(10_000)
    agent.step()
    assert len(link.subscribed) == 2


def test_nothing_is_said_before_the_broker_has_answered() -> None:
    link = RefusingLink(REFUSED)
    agent, clock, _ = degraded(link)
    link.denied, link.answers = [], False
    clock.advance(30)
    for _ in range(3):
        agent.step()
    assert states(link) == [b"degraded"]
    link.ready = True
    agent.step()
    assert states(link) == [b"degraded", b"online"]


def test_another_reason_is_said() -> None:
    link = RefusingLink(REFUSED)
    agent, clock, _ = degraded(link)
    link.denied = [REFUSED, Refused("other/+", "Quota exceeded")]
    clock.advance(30)
    agent.step()
    agent.step()
    assert infos(link)[-1] == ("degraded", f"{REASON}, and 1 more")


def test_a_reload_asks_again_and_pauses_begin_anew() -> None:
    link, clock = RefusingLink(REFUSED), FakeClock()
    line = make_connection_settings(link)
    agent = Agent(line, make_plan(), clock=clock)
    agent.step()
    clock.advance(30)
    agent.step()
    agent.step()
    agent.take_over(line, make_plan())
    agent.step()
    assert (len(link.subscribed), states(link)) == (3, [b"degraded"])
    assert link.subscribed[2][1] == {REFUSED.topic}, "if it was found to end the connection, a reload tries it, too"
    clock.advance(30)
    agent.step()
    assert len(link.subscribed) == 4
    agent.step()
    link.denied = []
    agent.take_over(line, make_plan())
    agent.step()
    assert states(link) == [b"degraded", b"online"]


def test_a_new_connection_says_how_it_stands_itself() -> None:
    first, second = RefusingLink(REFUSED), FakeLink()
    agent, clock, _ = degraded(first, second)
    first.lose(BrokerError("gone"))
    agent.step()
    clock.advance(60)
    agent.step()
    assert states(second) == [b"online"]
    clock.advance(10_000)
    agent.step()
    assert len(second.subscribed) == 1


def test_a_reason_is_short_and_fit_for_a_terminal() -> None:
    reason = standing([Refused("t\x1b" * 40_000, "r")] * 3).reason
    assert reason is not None
    assert len(reason) < 1000
    assert "\x1b" not in reason
    assert reason.endswith("refused: r, and 2 more")
    assert standing([]) == ONLINE


def test_birth_and_will_are_a_pair() -> None:
    assert birth("n")._replace(payload=b"offline") == will("n")


# -- requests


def request(agent: Agent, link: FakeLink, verb: str, count: int) -> list[dict[str, object]]:
    link.arrive(*[Message(f"edge/node/request/{verb}", b"", 1)] * count)
    before = len(link.sent)
    agent.step()
    return [json.loads(one.payload) for one in link.sent[before:]]


def test_requests_beyond_those_of_a_second_get_a_short_answer() -> None:
    link = FakeLink()
    agent, clock, _ = degraded(link)
    answers = request(agent, link, "status", 200)
    assert ["node" in one for one in answers] == [True] * 20 + [False] * 180
    assert answers[20:] == [{"error": "busy", "verb": "status", "retry_after": 1}] * 180
    clock.advance(0.9)
    assert request(agent, link, "ping", 1)[0]["error"] == "busy"
    clock.advance(0.1)
    assert validator(Status).validate_python(request(agent, link, "status", 1)[0])


def test_many_requests_take_one_look_at_the_sensors() -> None:
    looks: list[float] = []

    class Counting(Pipeline):
        def gathered(self, now: float, *, limit: int) -> Gathered | None:
            looks.append(now)
            return super().gathered(now, limit=limit)

    route = Route("genre", Template("home/{room}/{feature}"), Template("comfort/{room}"), Template("error/{room}"))
    link, clock = FakeLink(), FakeClock()
    plan = make_plan(routes=(route,), health_interval=30)
    plan = plan._replace(pipeline=Counting((route,), {"genre": FakeModel()}))
    agent = Agent(make_connection_settings(link), plan, clock=clock)
    agent.step()
    for _ in range(10):
        request(agent, link, "status", 100)
        clock.advance(0.5)
    assert looks == [0.0, 1.0, 2.0, 3.0, 4.0]
    # What a look has found ends with its plan.
    agent.take_over(make_connection_settings(FakeLink()), make_plan())
    agent.step()
    assert agent.tally.received == 1000
