"""The loop on a connection in memory, with a clock that goes on when told to."""

from __future__ import annotations

import json
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.messages import Answer, Info, Message, Pong, UnknownVerb, validator
from edge_agent.errors import BrokerError
from edge_agent.host.process import Signals
from edge_agent.serving.announcements import birth, will
from edge_agent.testing import FakeLink, FakeModel, make_agent
from tests.unit.agents import FEATURES, GOOD, ask, ended, run, topics_of, warnings

pytestmark = pytest.mark.usefixtures("everything_is_logged")


def test_a_new_connection_is_greeted_before_anything_else() -> None:
    link = FakeLink()
    link.arrive(Message(FEATURES, GOOD, 1))
    make_agent(link).step()
    state, info, answer = link.sent
    assert state == birth("node") == Answer("edge/node/state", b"online", qos=1, retain=True, content_type=None)
    assert (info.topic, info.qos, info.retain, info.content_type) == ("edge/node/info", 1, True, "application/json")
    assert validator(Info).validate_json(info.payload)["mqtt"] == "5"
    assert answer.topic == "music/kitchen/genre"


def test_birth_and_will_are_a_pair() -> None:
    assert birth("n")._replace(payload=b"offline") == will("n")


def test_nothing_is_said_before_the_connection_is_ready() -> None:
    link = FakeLink()
    link.ready = False
    agent = make_agent(link)
    agent.step()
    assert link.sent == []
    link.ready = True
    agent.step()
    agent.step()
    assert topics_of(link.sent) == ["edge/node/state", "edge/node/info"]
    assert agent.tally.connections == 1


def test_a_connection_is_logged_with_its_broker(caplog: pytest.LogCaptureFixture) -> None:
    make_agent(FakeLink(), broker="broker.lan:1883").step()
    assert "connected to broker.lan:1883 as node node; serving" in caplog.text


def test_each_connection_is_greeted_anew() -> None:
    first, second = FakeLink(), FakeLink()
    agent, clock = ended(first, second)
    agent.step()
    first.lose(BrokerError("gone"))
    agent.step()
    assert first.abandoned
    clock.advance(1)
    agent.step()
    assert second.sent == first.sent
    assert agent.tally.connections == 2


def test_messages_of_an_old_connection_are_not_answered_on_the_new_one() -> None:
    first, second = FakeLink(), FakeLink()
    agent, clock = ended(first, second)
    agent.step()
    first.arrive(Message(FEATURES, GOOD, 1))
    first.lose(BrokerError("gone"))
    agent.step()
    clock.advance(1)
    agent.step()
    assert first.answered == second.answered == []


def test_every_message_is_answered_once_in_order() -> None:
    link = FakeLink()
    messages = [Message(f"music/{number}/features", GOOD if number % 2 else b"?", number % 2) for number in range(50)]
    link.arrive(*messages)
    make_agent(link).step()
    assert [message for message, _ in link.answered] == messages
    for message, (answer,) in link.answered:
        assert answer.qos == message.qos


def test_a_message_of_no_route_is_acknowledged_without_an_answer() -> None:
    link = FakeLink()
    stray = Message("elsewhere", b"", 1)
    link.arrive(stray)
    make_agent(link).step()
    assert link.answered == [(stray, [])]


@pytest.mark.parametrize("qos", [0, 1])
def test_ping(qos: int) -> None:
    pong = validator(Pong).validate_json(ask("ping", b"are you there", qos).payload)
    assert (pong["pong"], pong["node"]) == ("are you there", "node")
    assert validator(Pong).validate_json(ask("ping").payload)["pong"] is None


def test_info() -> None:
    assert validator(Info).validate_json(ask("info").payload)["node"] == "node"


def test_an_unknown_verb_is_told_what_is_known() -> None:
    answer = validator(UnknownVerb).validate_json(ask("reboot").payload)
    assert answer == {"error": "unknown_verb", "verb": "reboot", "known": ["info", "install", "ping", "status"]}


@given(verb=st.text(st.characters(exclude_characters="/+#\0", exclude_categories=["Cs"])), payload=st.binary())
def test_no_request_crashes_it_and_answers_are_short(verb: str, payload: bytes) -> None:
    assert len(ask(verb, payload).payload) < 8000


def test_a_model_that_fails_does_not_stop_the_agent() -> None:
    model = FakeModel()
    model.broken = MemoryError()
    link = FakeLink()
    link.arrive(Message(FEATURES, GOOD, 1))
    agent = make_agent(link, model=model)
    agent.step()
    assert json.loads(link.sent[-1].payload)["error"] == "inference_failed"
    model.broken = None
    link.arrive(Message(FEATURES, GOOD, 1))
    agent.step()
    assert json.loads(link.sent[-1].payload)["label"] == "Rock"


def test_it_drains_then_says_offline_then_closes() -> None:
    link = FakeLink()
    link.arrive(Message(FEATURES, GOOD, 1))
    run(make_agent(link), 1)
    assert topics_of(link.sent) == ["edge/node/state", "edge/node/info", "music/kitchen/genre", "edge/node/state"]
    assert link.sent[-1] == will("node")
    # Drained before the last word, which then had its own time.
    assert link.drained == [3, 4]
    assert link.closed
    assert not link.abandoned


def test_what_can_not_be_drained_is_told(caplog: pytest.LogCaptureFixture) -> None:
    link = FakeLink()
    link.in_flight = 3
    run(make_agent(link), 1)
    assert warnings(caplog) == ["stopping with 3 in flight; the broker will send them again"]
    assert link.sent[-1] == will("node")
    assert link.closed


def test_a_connection_that_ends_while_stopping(caplog: pytest.LogCaptureFixture) -> None:
    class Fragile(FakeLink):
        def drain(self, seconds: float) -> bool:  # noqa: ARG002 - the interface
            raise BrokerError("gone at the worst moment")

    link = Fragile()
    run(make_agent(link), 1)
    assert link.abandoned
    assert warnings(caplog) == ["while stopping: gone at the worst moment"]


def test_stopping_without_a_connection() -> None:
    run(make_agent(), 1)
    link = FakeLink()
    link.ready = False
    run(make_agent(link), 1)
    # Nobody heard `online`, so nobody has to hear `offline`.
    assert link.sent == []
    assert link.closed


def test_stopping_on_a_connection_that_took_over_one_that_said_online() -> None:
    """The broker may not have published the will of the former one: then `online` would stay."""
    first, second = FakeLink(), FakeLink()
    second.ready = False
    agent, clock = ended(first, second)
    agent.step()
    first.lose(BrokerError("gone"))
    agent.step()
    clock.advance(60)
    run(agent, 1)
    assert second.sent == [will("node")]
    assert second.closed


def test_a_signal_before_the_first_round_ends_it() -> None:
    link = FakeLink()
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        while not signals.received:
            pass
        make_agent(link).run(signals)
    assert link.sent == []


def test_a_message_that_no_route_takes_is_counted_and_answered_with_nothing() -> None:
    link = FakeLink()
    agent = make_agent(link)
    message = Message("an/earlier/subscription", b"{}", qos=1)
    link.arrive(message)
    agent.step()
    assert link.answered == [(message, [])]
    assert agent.tally.unrouted == 1
    assert link.given_back == []


def test_what_comes_from_a_channel_that_is_not_followed_is_given_back() -> None:
    link = FakeLink()
    agent = make_agent(link)
    link.arrive(Message("edge/fleet/stable/manifest", b"{}", qos=1))
    agent.step()
    assert agent.tally.unrouted == 1
    assert link.given_back == ["edge/fleet/stable/manifest"]
