"""The loop on a connection in memory, with a clock that goes on when told to."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.messages import Answer, Health, Info, Message, Pong, Refused, Status, UnknownVerb, validator
from edge_agent.contract.topics import Template
from edge_agent.errors import BrokerError, ProtocolRefusedError, SurplusError
from edge_agent.host.process import Signals
from edge_agent.host.systemd import Notifier
from edge_agent.routing.routes import Route
from edge_agent.serving.agent import Agent
from edge_agent.serving.announcements import birth, will
from edge_agent.serving.reports import now
from edge_agent.testing import FakeClock, FakeLink, FakeModel, make_agent, make_card

GOOD = b'{"loudness": 0.9}'
FEATURES = "music/kitchen/features"


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def awake() -> Iterator[int]:
    """A descriptor that is readable, so that no wait in the loop lasts."""
    reader, writer = os.pipe()
    os.write(writer, b"x")
    yield reader
    os.close(reader)
    os.close(writer)


def topics_of(answers: list[Answer]) -> list[str]:
    return [answer.topic for answer in answers]


def ended(*links: FakeLink | BrokerError, **options: Any) -> tuple[Agent, FakeClock]:
    clock = FakeClock()
    return make_agent(*links, clock=clock, **options), clock


class HeardNotifier(Notifier):
    """Keeps what systemd would have been told."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        super().__init__(environment or {})
        self.said: list[str] = []

    def _send(self, state: str) -> None:
        self.said.append(state)


# -- a connection


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


# -- connecting again


def pauses(caplog: pytest.LogCaptureFixture) -> list[float]:
    return [
        float(str(record.args[1]))
        for record in caplog.records
        if isinstance(record.args, tuple) and "again in" in record.msg
    ]


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


# -- protocol versions


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


# -- answers and requests


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


def ask(verb: str, payload: bytes = b"", qos: int = 1) -> Answer:
    link = FakeLink()
    link.arrive(Message(f"edge/node/request/{verb}", payload, qos))
    make_agent(link).step()
    ((_, (answer,)),) = link.answered
    assert answer.topic == f"edge/node/response/{verb}"
    assert answer.qos == qos
    return answer


@pytest.mark.parametrize("qos", [0, 1])
def test_ping(qos: int) -> None:
    pong = validator(Pong).validate_json(ask("ping", b"are you there", qos).payload)
    assert (pong["pong"], pong["node"]) == ("are you there", "node")
    assert validator(Pong).validate_json(ask("ping").payload)["pong"] is None


def test_info() -> None:
    assert validator(Info).validate_json(ask("info").payload)["node"] == "node"


def test_an_unknown_verb_is_told_what_is_known() -> None:
    answer = validator(UnknownVerb).validate_json(ask("reboot").payload)
    assert answer == {"error": "unknown_verb", "verb": "reboot", "known": ["info", "ping", "status"]}


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


# -- reports


def healths(link: FakeLink) -> list[dict[str, Any]]:
    return [validator(Health).validate_json(one.payload) for one in link.sent if one.topic == "edge/node/health"]


def test_health_is_reported_at_its_interval() -> None:
    link = FakeLink()
    agent, clock = ended(link, health_interval=30)
    agent.step()
    for _ in range(10):
        clock.advance(10)
        agent.step()
    found = healths(link)
    assert [health["uptime"] for health in found] == [30, 60, 90]
    assert [health["interval"] for health in found] == [30, 30, 30]


def test_health_counts() -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    link.arrive(Message(FEATURES, GOOD, 1), Message(FEATURES, GOOD, 1), Message(FEATURES, b"?", 1))
    link.in_flight = 7
    clock.advance(20)
    agent.step()
    clock.advance(20)
    agent.step()
    (health,) = healths(link)
    assert health["predictions"] == 2
    assert health["rejections"] == {"malformed_payload": 1}
    assert health["connections"] == 1
    assert health["in_flight"] == 7
    assert health["predictions_per_second"] == pytest.approx(2 / 40, abs=0.01)
    assert health["latency_ms"] == {"p50": 0.0, "p99": 0.0}
    assert health["rss_bytes"] > 0
    # Rates are those since the last report, totals since the start.
    clock.advance(30)
    agent.step()
    last = healths(link)[-1]
    assert (last["predictions"], last["predictions_per_second"], last["latency_ms"]) == (2, 0, None)


def test_health_is_not_retained() -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    clock.advance(30)
    agent.step()
    health = link.sent[-1]
    assert (health.topic, health.qos, health.retain) == ("edge/node/health", 0, False)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_rejections_are_logged_at_once_and_then_in_summaries(caplog: pytest.LogCaptureFixture) -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    for _ in range(600):
        link.arrive(Message(FEATURES, b"{}", 1))
        clock.advance(0.25)
        agent.step()
    lines = warnings(caplog)
    assert lines[0] == "1 rejected: 1 x invalid_features (loudness: missing)"
    assert lines[1:] == ["240 rejected: 240 x invalid_features (loudness: missing)"] * 2


def test_good_messages_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    caplog.clear()
    for _ in range(100):
        link.arrive(Message(FEATURES, GOOD, 1))
        clock.advance(1)
        agent.step()
    assert caplog.records == []


def test_answers_that_the_broker_refuses_are_logged_at_once_and_then_in_summaries(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    for _ in range(600):
        link.refused_answers += [Refused("music/k/genre", "Not authorized")] * 2
        clock.advance(0.25)
        agent.step()
        assert link.refused_answers == []
    lines = warnings(caplog)
    assert (
        lines[0]
        == "broker: refused 2 of our messages (the first on 'music/k/genre': Not authorized); check the broker's rules and limits"
    )
    assert [line.split("(")[0] for line in lines[1:]] == ["broker: refused 480 of our messages "] * 2


def test_lines_are_short_whatever_came(caplog: pytest.LogCaptureFixture) -> None:
    link = FakeLink()
    link.arrive(*(Message(f"music/{'x' * 60_000}/features", b'{"loudness": "' + b"y" * 10_000 + b'"}', 1),) * 3)
    link.refused_answers = [Refused("t" * 60_000, "r")]
    make_agent(link).step()
    assert len(warnings(caplog)) == 2
    assert max(map(len, warnings(caplog))) < 1000


# -- the end


class Stop(Signals):
    """Says stop after so many looks at it; a look is a round of the loop."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds

    @property
    def received(self) -> bool:
        self.rounds -= 1
        return self.rounds < 0

    @received.setter
    def received(self, value: bool) -> None:
        pass


def run(agent: Agent, rounds: int) -> None:
    with Stop(rounds) as stop:
        agent.run(stop)


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


def test_a_signal_before_the_first_round_ends_it() -> None:
    link = FakeLink()
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        while not signals.received:
            pass
        make_agent(link).run(signals)
    assert link.sent == []


# -- systemd


def test_systemd_hears_how_it_goes(awake: int) -> None:
    notifier = HeardNotifier()
    lost = FakeLink()
    agent, clock = ended(BrokerError("no route"), lost, notifier=notifier)
    agent.step(awake)
    clock.advance(1)
    agent.step(awake)
    lost.lose(BrokerError("gone"))
    run(agent, 1)
    ready, waiting, serving, *rest = notifier.said
    assert ready == "READY=1\nSTATUS=waiting for the broker"
    assert waiting == "STATUS=waiting for the broker: no route"
    assert serving.startswith("STATUS=serving ")
    assert rest == [
        "STATUS=waiting for the broker: gone",
        "STOPPING=1\nSTATUS=finishing what is in flight",
    ]


def test_it_is_ready_before_it_looks_for_a_broker() -> None:
    """Boot and terminals wait for it, and a broker may be away for long."""
    notifier = HeardNotifier()
    said: list[list[str]] = []

    def dial(protocol: str, wanted: object, tally: object) -> FakeLink:
        said.append(list(notifier.said))
        raise BrokerError("broker.lan: no route")

    agent, _ = ended(notifier=notifier)
    agent._settings = agent._settings._replace(dial=dial)
    run(agent, 1)
    assert said == [["READY=1\nSTATUS=waiting for the broker"]]
    assert notifier.said[1] == "STATUS=waiting for the broker: broker.lan: no route"


@pytest.mark.parametrize("ready", [True, False])
def test_a_reload_ends_at_once(*, ready: bool) -> None:
    """It is over when the new settings are in use; what the broker says to them is in the status, later."""
    notifier, link = HeardNotifier(), FakeLink()
    link.ready = ready
    agent, _ = ended(link, notifier=notifier)
    agent.stay("reload refused: no such model")
    other = make_agent()
    agent.take_over(other._settings, other._plan)
    run(agent, 2)
    assert notifier.said[:2] == [
        "READY=1\nSTATUS=reload refused: no such model",
        "READY=1\nSTATUS=waiting for the broker",
    ]
    assert sum(said.startswith("READY=1") for said in notifier.said) == 2


def test_the_watchdog_is_fed_from_the_loop(awake: int) -> None:
    notifier = HeardNotifier({"WATCHDOG_USEC": "20000000"})
    agent, clock = ended(FakeLink(), notifier=notifier)
    fed: list[float] = []
    for _ in range(31):
        before = notifier.said.count("WATCHDOG=1")
        agent.step(awake)
        fed += [clock()] * (notifier.said.count("WATCHDOG=1") > before)
        clock.advance(1)
    assert fed == [0, 10, 20, 30]


def test_the_watchdog_is_fed_without_a_broker_too(awake: int) -> None:
    notifier = HeardNotifier({"WATCHDOG_USEC": "20000000"})
    agent, clock = ended(notifier=notifier)
    for _ in range(100):
        agent.step(awake)
        clock.advance(1)
    assert notifier.said.count("WATCHDOG=1") >= 10


def test_the_time_of_day() -> None:
    assert len(now()) == len("2026-01-01T00:00:00.000Z")
    assert now().endswith("Z")


def test_a_message_that_no_route_takes_is_counted_and_answered_with_nothing() -> None:
    link = FakeLink()
    agent = make_agent(link)
    message = Message("an/earlier/subscription", b"{}", qos=1)
    link.arrive(message)
    agent.step()
    assert link.answered == [(message, [])]
    assert agent.tally.unrouted == 1


# -- routes that gather

GATHERING = Route(
    "genre",
    Template("home/{room}/{feature}"),
    Template("comfort/{room}"),
    Template("comfort/{room}/error"),
    debounce=2.0,
    max_age=60.0,
)


class PatientLink(FakeLink):
    """Keeps how long it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:
        self.waits.append(timeout)
        return super().receive(timeout, wakeup, reading=reading)


def gathering(*links: FakeLink | BrokerError, **options: Any) -> tuple[Agent, FakeClock]:
    return ended(*links, routes=[GATHERING._replace(**options)])


def value(payload: bytes = b"0.9", room: str = "kitchen", qos: int = 1) -> Message:
    return Message(f"home/{room}/loudness", payload, qos)


def test_a_value_that_is_taken_and_answered_with_nothing_is_routed_all_the_same() -> None:
    link = FakeLink()
    agent, _ = gathering(link)
    link.arrive(value(), Message("home/kitchen/other", b"", 1))
    agent.step()
    assert [answers for _, answers in link.answered] == [[], []]
    assert agent.tally.unrouted == 0


def test_a_debounced_answer_goes_out_when_it_is_due_and_the_loop_wakes_for_it() -> None:
    link = PatientLink()
    agent, clock = gathering(link)
    link.arrive(value(b"0.1"))
    agent.step()
    for later in (0.5, 0.5, 0.5):
        clock.advance(later)
        link.arrive(value())
        agent.step()
    assert topics_of(link.sent) == ["edge/node/state", "edge/node/info"]
    # Not at all before it has said what it serves.
    assert link.waits == pytest.approx([0.0, 1.0, 1.0, 0.5], abs=0.01)
    clock.advance(0.4)
    agent.step()
    assert link.waits[-1] == pytest.approx(0.1, abs=0.01)
    assert link.sent[2:] == []
    clock.advance(0.1)
    agent.step()
    (answer,) = link.sent[2:]
    assert (answer.topic, answer.qos, json.loads(answer.payload)["label"]) == ("comfort/kitchen", 1, "Rock")
    assert agent.tally.answered == 1
    clock.advance(10)
    agent.step()
    assert (link.waits[-1], link.sent[3:]) == (1.0, [])


def test_what_is_too_old_is_not_answered_for() -> None:
    link = FakeLink()
    agent, clock = gathering(link)
    link.arrive(value())
    agent.step()
    clock.advance(61)
    agent.step()
    assert topics_of(link.sent)[2:] == ["edge/node/health"]


def test_answers_that_were_put_off_wait_while_too_much_is_in_flight() -> None:
    link = PatientLink()
    agent, clock = gathering(link)
    link.arrive(*[value(room=str(number)) for number in range(30)])
    link.in_flight = 1000
    agent.step()
    clock.advance(2)
    agent.step()
    agent.step()
    # Nothing is sent, and the loop does not spin.
    assert (link.sent[2:], link.waits[-1]) == ([], 1.0)
    link.in_flight = 990
    agent.step()
    assert topics_of(link.sent[2:]) == [f"comfort/{number}" for number in range(10)]
    link.in_flight = 0
    agent.step()
    assert len(link.sent[2:]) == 30


def test_a_debounced_answer_waits_for_a_connection(awake: int) -> None:
    first, second = FakeLink(), FakeLink()
    second.ready = False
    agent, clock = gathering(first, second)
    first.arrive(value())
    agent.step(awake)
    first.lose(BrokerError("gone"))
    agent.step(awake)
    clock.advance(5)
    agent.step(awake)
    assert second.sent == []
    second.ready = True
    agent.step(awake)
    assert topics_of(second.sent) == ["edge/node/state", "edge/node/info", "comfort/kitchen"]


def test_each_sensor_is_answered_once_more_on_a_new_connection(awake: int) -> None:
    first, second = FakeLink(), FakeLink()
    agent, clock = gathering(first, second, debounce=0.0)
    first.arrive(value(), value())
    agent.step(awake)
    assert topics_of(first.sent)[2:] == ["comfort/kitchen"]
    first.lose(BrokerError("gone"))
    agent.step(awake)
    clock.advance(1)
    agent.step(awake)
    second.arrive(value(), value())
    agent.step(awake)
    assert topics_of(second.sent)[2:] == ["comfort/kitchen"]


def test_what_was_put_off_is_answered_before_the_last_word() -> None:
    link = FakeLink()
    agent, _ = gathering(link)
    link.arrive(value())
    run(agent, 1)
    assert topics_of(link.sent)[2:] == ["comfort/kitchen", "edge/node/state"]
    # Drained with the answer in it.
    assert link.drained[0] == 3


def test_all_that_was_put_off_is_answered_at_the_end_however_much_it_is() -> None:
    link = FakeLink()
    agent, _ = gathering(link)
    link.arrive(*[value(room=str(number)) for number in range(1500)])
    link.in_flight = 990
    agent.step()
    agent.leave()
    assert topics_of(link.sent)[2:] == [*(f"comfort/{number}" for number in range(1500)), "edge/node/state"]


def test_health_and_status_tell_of_gathering() -> None:
    link = FakeLink()
    card = make_card(("loudness", "tempo"))
    agent, clock = ended(link, routes=[GATHERING], model=FakeModel(card), health_interval=30)
    link.arrive(*[value(room=str(number)) for number in range(150)])
    agent.step()
    link.arrive(Message("edge/node/request/status", b"", 1))
    clock.advance(10)
    agent.step()
    status = validator(Status).validate_json(link.sent[-1].payload, strict=True)
    assert (status["node"], status["mqtt"], status["uptime"], status["received"]) == ("node", "5", 10, 150)
    assert (status["gathering"]["sensors"], len(status["gathering"]["waiting"])) == (150, 100)
    clock.advance(20)
    agent.step()
    (health,) = healths(link)
    assert [one["sensor"] for one in health["gathering"]["waiting"]] == [str(number) for number in range(10)]
    assert health["gathering"]["waiting"][0]["missing"] == ["tempo"]


def test_status_does_not_disturb_health() -> None:
    told = []
    for asks in (0, 3):
        link = FakeLink()
        agent, clock = ended(link, health_interval=30)
        agent.step()
        link.arrive(Message(FEATURES, GOOD, 1))
        for _ in range(asks):
            link.arrive(Message("edge/node/request/status", b"", 1))
            agent.step()
        clock.advance(30)
        agent.step()
        (health,) = healths(link)
        assert "gathering" not in health
        told.append((health["predictions_per_second"], health["interval"], health["latency_ms"] is not None))
    assert told == [(0.03, 30, True)] * 2


def test_status_in_the_first_moment() -> None:
    """No time has passed that a rate could be of."""
    status = validator(Status).validate_json(ask("status").payload, strict=True)
    assert (status["uptime"], status["messages_per_second"]) == (0, 0)
    assert (status["state"], status["reason"]) == ("online", None)


def status_of(agent: Agent, link: FakeLink) -> Status:
    link.arrive(Message("edge/node/request/status", b"", 1))
    agent.step()
    status: Status = validator(Status).validate_json(link.sent[-1].payload, strict=True)
    return status


def test_a_status_does_not_count_its_own_request() -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    clock.advance(10)
    link.in_flight = 1
    status = status_of(agent, link)
    assert [status[key] for key in ("received", "answered", "acknowledged", "in_flight", "messages_per_second")] == [
        0
    ] * 5
    assert status["latency_ms"] is None
    link.in_flight = 3
    link.arrive(Message(FEATURES, GOOD, 1))
    agent.step()
    status = status_of(agent, link)
    assert (status["received"], status["in_flight"]) == (2, 2)
