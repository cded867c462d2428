"""An input whose answer ends the connection, each time: it is found and got out of the way, and the others are answered.

Each case is one that Mosquitto 2 has, by a setting or a limit of its own.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests import wire
from tests.contract.agents import INFO, PROTOCOLS, STATE, RunningAgent, wait_for_line, wait_until
from tests.contract.client import Client
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import ROCK
from tests.hostile_broker import HostileBroker, Question, Said

#: Eight features out of bounds or missing, each with the beginning of all of it: 1,500 bytes of reasons.
LARGE = {"tempo": -5, "what": "x" * 120}
#: Mosquitto 2.0.11 confirms what it refuses and hangs up, when its queue has no bound.
NO_BOUND = "max_queued_messages 0"
DENIED = "topic readwrite #\ntopic deny music/poison/genre\n"


def begin(stack: ExitStack, port: int, client: Client, **mqtt: Any) -> RunningAgent:
    agent = stack.enter_context(RunningAgent(port, mqtt=mqtt))
    client.subscribe("music/#", STATE)
    client.wait_for_payload(STATE, "online")
    return agent


def judge(agent: RunningAgent, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """The poison is answered briefly, once; what came behind it is answered as ever; all is acknowledged."""
    client.publish("music/hall/features", ROCK)
    assert client.json("music/hall/genre")["label"] == "Rock"
    wait_until(lambda: agent.agent.tally.poisoned == 1, "nothing is convicted")
    rejection = client.json("music/poison/genre/error")
    assert rejection["error"] == "undeliverable"
    assert rejection["topic"] == "music/poison/features"
    connections = agent.agent.tally.connections
    client.publish("music/attic/features", ROCK)
    client.message("music/attic/genre")
    assert agent.agent.tally.connections == connections
    assert "ended the connection each time" in wait_for_line(caplog, "'music/poison/features'")
    client.barrier()
    assert len(client.seen("music/poison/#")) <= 2, "besides the question, one answer at the most"


@PROTOCOLS
def test_an_access_rule_that_ends_the_connection(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    broker = mosquitto(lines=[NO_BOUND], acl=DENIED)
    client = connect(broker)
    agent = begin(stack, broker.port, client, protocol=protocol)
    client.publish("music/poison/features", ROCK)
    judge(agent, client, caplog)


@pytest.mark.parametrize(
    ("protocol", "lines"),
    [
        pytest.param("3.1.1", ["max_packet_size 1500"], id="a packet that is too large"),
        pytest.param("3.1.1", [NO_BOUND, "message_size_limit 1500"], id="a payload that is too large"),
        pytest.param("5", [NO_BOUND, "message_size_limit 1500"], id="a payload that is too large, MQTT 5"),
    ],
)
def test_a_size_that_ends_the_connection(
    mosquitto: MosquittoFactory,
    connect: Connect,
    stack: ExitStack,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
    lines: list[str],
) -> None:
    broker = mosquitto(lines=lines)
    client = connect(broker)
    agent = begin(stack, broker.port, client, protocol=protocol)
    client.publish("music/poison/features", LARGE)
    judge(agent, client, caplog)
    # Another one as large as that is not long in the way.
    before = agent.agent.tally.connections
    client.publish("music/poison/features", {**LARGE, "id": 2})
    wait_until(lambda: agent.agent.tally.poisoned == 2, "the second is not convicted")
    assert agent.agent.tally.connections <= before + 3


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_one_that_waits_in_the_session_is_found_too(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes before the subscriptions are granted, and again after a restart of the agent."""
    broker = mosquitto(lines=["max_packet_size 1500"])
    client = connect(broker)
    with ExitStack() as first:
        begin(first, broker.port, client, protocol="3.1.1")
    client.publish("music/poison/features", LARGE)
    client.publish("music/hall/features", {**ROCK, "id": "behind"})
    agent = stack.enter_context(RunningAgent(broker.port, mqtt={"protocol": "3.1.1"}))
    assert json.loads(client.message("music/hall/genre").payload)["id"] == "behind"
    judge(agent, client, caplog)


# -- a broker that hangs up on whatever it is told to


def mixed(count: int, poison: Callable[[int], Question]) -> list[Question]:
    """One that is poison, one that is not, and so on."""
    honest = [Question(f"music/hall{n}/features", json.dumps({**ROCK, "id": n}).encode()) for n in range(count)]
    return [question for n in range(count) for question in (poison(n), honest[n])]


def by_topic(number: int) -> Question:
    """To one topic, which the broker does not take."""
    return Question("music/poison/features", json.dumps({**ROCK, "id": number}).encode())


def by_size(number: int) -> Question:
    """From as many sensors."""
    return Question(f"music/poison{number}/features", json.dumps({**LARGE, "id": number}).encode())


def by_response_topic(number: int) -> Question:
    """To as many topics, all with more levels than the broker takes."""
    topic = wire.text(f"a/response/{number}" + "/b" * 20)
    return Question("music/any/features", json.dumps({**ROCK, "id": number}).encode(), properties=b"\x08" + topic)


def by_sensor(number: int) -> Question:
    """From ten sensors, each of whose topics the broker does not take: they have nothing in common with each other."""
    return Question(f"music/poison{number % 10}/features", json.dumps({**ROCK, "id": number}).encode())


def refuses_topics(said: Said) -> bool:
    return said.topic.startswith("music/poison") and said.topic.endswith("/genre")


def refuses_sizes(said: Said) -> bool:
    return said.size > 1500


def refuses_levels(said: Said) -> bool:
    return said.topic.count("/") > 10


@pytest.mark.parametrize("confirms_first", [False, True], ids=["hangs up", "confirms and hangs up"])
@pytest.mark.parametrize(
    ("poison", "hangs_up", "protocol", "most"),
    [
        pytest.param(by_topic, refuses_topics, "5", 20, id="a topic"),
        pytest.param(by_topic, refuses_topics, "3.1.1", 20, id="a topic, 3.1.1"),
        pytest.param(by_size, refuses_sizes, "3.1.1", 20, id="a size"),
        pytest.param(by_response_topic, refuses_levels, "5", 20, id="response topics"),
        pytest.param(by_sensor, refuses_topics, "5", 70, id="ten topics"),
    ],
)
def test_two_hundred_of_a_kind_among_as_many_others(
    poison: Callable[[int], Question],
    hangs_up: Callable[[Said], bool],
    protocol: str,
    most: int,
    confirms_first: bool,
) -> None:
    count = 200
    with (
        HostileBroker(hangs_up, protocol=protocol, confirms_first=confirms_first) as broker,
        RunningAgent(broker.port, mqtt={"protocol": protocol, "response_topics": ["+/response/#"]}) as agent,
    ):
        began = time.monotonic()
        broker.ask(mixed(count, poison))
        broker.wait(lambda: broker.acknowledged == 2 * count, "not all are acknowledged")
        took = time.monotonic() - began
        tally = agent.agent.tally
        print(f"{took:.1f} s, {broker.connections} connections, {tally.poisoned} poisoned")  # noqa: T201
        labels = {said.topic for said in broker.said if b'"label":"Rock"' in said.payload and "hall" in said.topic}
        assert len(labels) == count, "every honest sensor has its label"
        assert tally.poisoned == count
        assert broker.connections <= most
        first = [said for said in broker.said if "hall" in said.topic]
        numbers = list(dict.fromkeys(int(said.topic.split("/")[1].removeprefix("hall")) for said in first))
        assert numbers == sorted(numbers), "in order"
        briefly = [said for said in broker.said if b'"error":"undeliverable"' in said.payload]
        assert len(briefly) == count
        assert max(said.size for said in briefly) < 400
        assert {said.topic.rpartition("/")[2] for said in briefly} == {"error"}


def test_a_broker_that_takes_nothing_of_a_sensor_gets_nothing() -> None:
    with (
        HostileBroker(lambda said: "poison" in said.topic) as broker,
        RunningAgent(broker.port) as agent,
    ):
        broker.ask(mixed(20, by_topic))
        broker.wait(lambda: broker.acknowledged == 40, "not all are acknowledged")
        assert agent.agent.tally.poisoned == 20
        assert len({said.topic for said in broker.said if "hall" in said.topic}) == 20


def test_a_broker_that_hangs_up_at_random_is_not_its_answers_fault() -> None:
    """On every tenth answer, whichever it is."""
    count = 0

    def tenth(said: Said) -> bool:
        nonlocal count
        count += said.topic.startswith("music/")
        return count % 10 == 0 and said.topic.startswith("music/")

    with HostileBroker(tenth, window=20) as broker, RunningAgent(broker.port) as agent:
        broker.ask([Question(f"music/hall{n}/features", json.dumps({**ROCK, "id": n}).encode()) for n in range(100)])
        broker.wait(lambda: broker.acknowledged == 100, "not all are acknowledged")
        assert agent.agent.tally.poisoned == 0
        assert len({said.topic for said in broker.said if "hall" in said.topic}) == 100


@PROTOCOLS
def test_an_info_that_the_broker_does_not_take_keeps_nobody_waiting(protocol: str) -> None:
    with (
        HostileBroker(lambda said: said.topic == INFO, protocol=protocol, confirms_first=True) as broker,
        RunningAgent(broker.port, mqtt={"protocol": protocol}) as agent,
    ):
        broker.ask([Question("music/hall/features", json.dumps(ROCK).encode())])
        broker.wait(lambda: broker.acknowledged == 1, "the question is not acknowledged")
        broker.wait(lambda: any(said.topic == STATE for said in broker.said), "it does not say that it is there")
        wait_until(lambda: agent.agent.tally.poisoned == 1, "info is not left out")
        broker.ask([Question("music/hall/features", json.dumps({**ROCK, "id": 2}).encode())])
        broker.wait(lambda: broker.acknowledged == 2, "the second question is not acknowledged")
        assert agent.agent.tally.received <= 2 * broker.connections
