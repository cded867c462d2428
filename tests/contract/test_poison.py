"""An input whose answer ends the connection, each time: it is found and got out of the way, and the others are answered.

Each case is one that Mosquitto 2 has, by a setting or a limit of its own.
"""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from typing import Any

import pytest

from tests.contract.agents import PROTOCOLS, STATE, RunningAgent, wait_for_line, wait_until
from tests.contract.client import Client
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import ROCK

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
