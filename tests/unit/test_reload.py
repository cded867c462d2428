"""New settings for an agent that runs: what stays, what goes, and what is told about it."""

from __future__ import annotations

import gc
import json
import logging
import weakref
from typing import Any

import pytest

from edge_agent.contract.messages import Answer, Message, Refused
from edge_agent.contract.templates import Template
from edge_agent.errors import BrokerError
from edge_agent.routing.routes import Route, subscriptions
from edge_agent.serving.agent import Agent
from edge_agent.serving.announcements import birth, will
from edge_agent.serving.plan import ConnectionSettings
from edge_agent.testing import ROUTE, FakeClock, FakeLink, FakeModel, make_card, make_plan
from edge_agent.testing import make_connection_settings as fake_line
from tests.unit.agents import FEATURES, GOOD, HeardNotifier, topics_of

REQUESTS = "edge/node/request/+"


MUSIC = "music/+/features"


OTHER = ROUTE._replace(subscribe=Template("other/{room}"), publish=Template("to/{room}"), errors=Template("no/{room}"))


HOME = Route("genre", Template("home/{room}/{feature}"), Template("comfort/{room}"), Template("comfort/{room}/error"))


pytestmark = pytest.mark.usefixtures("logger")


class Running:
    """An agent on a connection in memory, after its first round."""

    def __init__(self, *links: FakeLink | BrokerError, routes: tuple[Route, ...] = (ROUTE,), **options: Any) -> None:
        self.notifier = HeardNotifier()
        self.clock = FakeClock()
        self.line = fake_line(*links)
        self.agent = Agent(self.line, make_plan(routes=routes, **options), notifier=self.notifier, clock=self.clock)
        self.agent.step()

    def reload(self, line: ConnectionSettings | None = None, **options: Any) -> None:
        self.agent.take_over(line or self.line, make_plan(**options))
        self.agent.step()

    @property
    def ready(self) -> int:
        return sum(said.startswith("READY=1") for said in self.notifier.said)


def answer(link: FakeLink, agent: Agent, topic: str, payload: bytes = GOOD) -> list[Answer]:
    message = Message(topic, payload, 1)
    link.arrive(message)
    agent.step()
    ((_, answers),) = [pair for pair in link.answered if pair[0] is message]
    return answers


def test_the_connection_stays_and_the_plan_changes() -> None:
    link = FakeLink()
    running = Running(link)
    before = len(link.sent)
    running.reload(routes=(ROUTE, OTHER))
    assert (link.closed, link.abandoned) == (False, False)
    assert link.subscribed[0] == ({REQUESTS: False, MUSIC: False}, set())
    assert link.subscribed[1:] == [({REQUESTS: False, MUSIC: False, "other/+": False}, set())]
    # Neither birth nor will: nothing changed for those who listen but for what is run.
    assert topics_of(link.sent[before:]) == ["edge/node/info"]
    assert topics_of(answer(link, running.agent, "other/hall")) == ["to/hall"]
    assert running.agent.tally.connections == 1


def test_counters_and_uptime_go_on() -> None:
    link = FakeLink()
    running = Running(link)
    answer(link, running.agent, FEATURES)
    running.clock.advance(20)
    running.reload(health_interval=25)
    answer(link, running.agent, FEATURES)
    running.clock.advance(5)
    running.agent.step()
    health = json.loads(link.sent[-1].payload)
    assert link.sent[-1].topic == "edge/node/health"
    assert (health["uptime"], health["interval"], health["predictions"], health["connections"]) == (25, 25, 2, 1)
    started = [json.loads(one.payload)["started"] for one in link.sent if one.topic == "edge/node/info"]
    assert len(started) == 2
    assert len(set(started)) == 1


def test_ready_is_said_at_once_and_serving_when_the_subscriptions_are_granted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    link = FakeLink()
    running = Running(link)
    link.ready = False
    running.reload(routes=(OTHER,))
    running.agent.step()
    assert (running.ready, running.notifier.said[-1]) == (
        2,
        "READY=1\nSTATUS=waiting for the broker to grant the subscriptions",
    )
    # Served it is at once.
    assert len(answer(link, running.agent, "other/hall")) == 1
    link.ready = True
    running.agent.step()
    running.agent.step()
    assert running.ready == 2
    assert running.notifier.said[-1].startswith("STATUS=serving ")
    assert "still connected to the broker as node node; serving" in caplog.text


def test_refused_subscriptions_are_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    running = Running(link := FakeLink())
    link.refused.append(Refused("other/+", "Not authorized"))
    running.reload(routes=(ROUTE, OTHER))
    assert "'other/+' refused: Not authorized" in caplog.text


def test_a_connection_that_breaks_before_the_grant_is_made_again_with_the_new_plan() -> None:
    first, second = FakeLink(), FakeLink()
    running = Running(first, second)
    first.ready = False
    running.reload(routes=(OTHER,))
    first.lose(BrokerError("gone"))
    running.agent.step()
    running.clock.advance(1)
    running.agent.step()
    assert second.subscribed == [({REQUESTS: False, "other/+": False}, set())]
    assert topics_of(second.sent) == ["edge/node/state", "edge/node/info"]
    assert running.ready == 2


def test_stopping_before_the_grant_says_offline() -> None:
    running = Running(link := FakeLink())
    link.ready = False
    running.reload(routes=(OTHER,))
    running.agent.leave()
    assert link.sent[-1] == will("node")
    assert link.closed


def test_nothing_of_the_old_plan_is_kept() -> None:
    running = Running(link := FakeLink())
    answer(link, running.agent, FEATURES)
    model = FakeModel()
    running.reload(model=model)
    gone = weakref.ref(model)
    answer(link, running.agent, FEATURES)
    del model
    running.reload()
    gc.collect()
    assert gone() is None


def test_another_line_is_taken_in_good_order_without_a_last_word() -> None:
    first, second = FakeLink(), FakeLink()
    running = Running(first)
    before = len(first.sent)
    running.reload(fake_line(second))
    assert (first.closed, first.sent[before:], first.drained) == (True, [], [2])
    assert topics_of(second.sent) == ["edge/node/state", "edge/node/info"]
    assert (running.agent.tally.connections, running.ready) == (2, 2)


def test_another_node_says_goodbye_for_the_one_before() -> None:
    first, second = FakeLink(), FakeLink()
    running = Running(first)
    running.reload(fake_line(second, node="other"), node="other")
    assert first.sent[-1] == will("node")
    assert second.sent[0] == birth("other")
    assert running.agent.node == "other"
    second.arrive(Message("edge/other/request/ping", b"", 1))
    running.agent.step()
    assert second.sent[-1].topic == "edge/other/response/ping"


def test_another_broker_leaves_no_node_behind_that_seems_to_be_there() -> None:
    first, second = FakeLink(), FakeLink()
    running = Running(first)
    running.reload(fake_line(second, session="elsewhere"))
    assert first.sent[-1] == will("node")
    assert second.sent[0] == birth("node")


def test_a_connection_that_was_not_granted_yet_is_made_anew() -> None:
    first, second = FakeLink(), FakeLink()
    first.ready = False
    running = Running(first, second)
    running.reload(routes=(OTHER,))
    assert (first.closed, first.sent) == (True, [])
    assert second.subscribed == [({REQUESTS: False, "other/+": False}, set())]
    assert running.ready == 2


def test_without_a_connection_the_next_attempt_is_at_once() -> None:
    link = FakeLink()
    running = Running(BrokerError("no"), link)
    running.reload()
    assert topics_of(link.sent) == ["edge/node/state", "edge/node/info"]


def put(link: FakeLink, agent: Agent, name: str, value: float, room: str = "hall") -> list[str]:
    return topics_of(answer(link, agent, f"home/{room}/{name}", json.dumps(value).encode()))


def two(maximum: float = 1.0) -> FakeModel:
    return FakeModel(make_card(("loudness", "tempo"), maximum=maximum))


def test_values_stay_and_are_answered_once_more_by_the_new_model() -> None:
    running = Running(link := FakeLink(), routes=(HOME,), model=two())
    assert put(link, running.agent, "loudness", 0.9) == []
    running.reload(routes=(HOME._replace(subscribe=Template("home/{room}/{feature}")),), model=two())
    assert link.subscribed[1] == ({REQUESTS: False, "home/+/+": True}, set())
    assert put(link, running.agent, "tempo", 0.5) == ["comfort/hall"]
    assert put(link, running.agent, "tempo", 0.5) == []
    running.reload(routes=(HOME,), model=two())
    assert put(link, running.agent, "tempo", 0.5) == ["comfort/hall"]


@pytest.mark.parametrize(
    "change",
    [
        {"routes": (HOME._replace(publish=Template("else/{room}")),), "model": two()},
        {"routes": (HOME._replace(max_age=60.0),), "model": two()},
        {"routes": (HOME,), "model": two(maximum=2.0)},
        {"routes": (HOME,), "model": FakeModel(make_card(("tempo", "loudness")))},
    ],
)
def test_a_route_that_changed_begins_anew_and_asks_for_what_is_retained(change: dict[str, Any]) -> None:
    running = Running(link := FakeLink(), routes=(HOME,), model=two())
    put(link, running.agent, "loudness", 0.9)
    running.reload(**change)
    assert link.subscribed[1] == ({REQUESTS: False, "home/+/+": True}, {"home/+/+"})
    assert put(link, running.agent, "tempo", 0.5) == []
    assert len(put(link, running.agent, "loudness", 0.9)) == 1


def test_values_stay_when_the_connection_was_down_but_not_from_another_broker() -> None:
    first, second, third = FakeLink(), FakeLink(), FakeLink()
    running = Running(first, second, routes=(HOME,), model=two())
    put(first, running.agent, "loudness", 0.9)
    first.lose(BrokerError("gone"))
    running.agent.step()
    running.reload(routes=(HOME,), model=two())
    assert put(second, running.agent, "tempo", 0.5) == ["comfort/hall"]
    running.reload(fake_line(third), routes=(HOME,), model=two())
    assert put(third, running.agent, "tempo", 0.5) == []


def test_an_answer_that_was_put_off_goes_out_before_its_route_does() -> None:
    running = Running(link := FakeLink(), routes=(HOME._replace(debounce=60.0),))
    put(link, running.agent, "loudness", 0.9)
    running.reload()
    assert topics_of(link.sent)[2:] == ["comfort/hall", "edge/node/info"]


def test_a_connection_that_breaks_while_it_does() -> None:
    class Fragile(FakeLink):
        def publish(self, answer: Answer) -> None:
            if answer.topic == "comfort/hall":
                raise BrokerError("gone at the worst moment")
            super().publish(answer)

    link, second = Fragile(), FakeLink()
    running = Running(link, second, routes=(HOME._replace(debounce=60.0),))
    put(link, running.agent, "loudness", 0.9)
    running.reload()
    assert link.abandoned
    running.clock.advance(1)
    running.agent.step()
    assert second.subscribed == [({REQUESTS: False, MUSIC: False}, set())]
    assert running.ready == 2


def test_retained_messages_are_wanted_for_routes_that_gather() -> None:
    assert subscriptions("node", [ROUTE, HOME]) == {REQUESTS: False, MUSIC: False, "home/+/+": True}
    plain = HOME._replace(subscribe=Template("home/{room}/{value}"))
    for both in ([HOME, plain], [plain, HOME]):
        assert subscriptions("node", both) == {REQUESTS: False, "home/+/+": True}
