"""The document on `edge/{node}/docs`, on real brokers and on those that forbid it."""

from __future__ import annotations

import json
import logging

import pytest

from edge_agent.config.models import loading
from edge_agent.docs import asyncapi
from edge_agent.docs.served import CONTENT_TYPE
from tests.contract.agents import NODE, PROTOCOLS, STATE, RunningAgent, settings, wait_for_line
from tests.contract.conftest import Connect, MosquittoFactory
from tests.described import served
from tests.e2e.tracks import ROCK

DOCS = f"edge/{NODE}/docs"
ON = {"publish": True}


@PROTOCOLS
def test_whoever_comes_later_reads_what_the_command_writes(
    mosquitto: MosquittoFactory, connect: Connect, protocol: str
) -> None:
    broker = mosquitto()
    with RunningAgent(broker.port, mqtt={"protocol": protocol}, docs=ON) as agent:
        first = connect(broker)
        first.subscribe(DOCS)
        first.message(DOCS)
        later = connect(broker)
        later.subscribe(DOCS)
        found = later.message(DOCS)
        assert found.retain
        made = settings(broker.port, {**agent.timeout, "protocol": protocol}, {"docs": ON})
        assert found.payload == asyncapi.write(made, served(loading(made).models()))
        if protocol == "5":
            assert later.properties(DOCS)["ContentType"] == CONTENT_TYPE


def test_a_reload_renews_it(mosquitto: MosquittoFactory, connect: Connect) -> None:
    broker = mosquitto()
    client = connect(broker)
    client.subscribe(DOCS)
    with RunningAgent(broker.port, docs=ON) as agent:
        client.message(DOCS)
        agent.reload(broker.port, docs=ON, route=[{"subscribe": "other/{sensor}", "publish": "out/{sensor}"}])
        _, renewed = client.messages(2, DOCS)
    (route,) = json.loads(renewed.payload)["x-edge-agent"]["routes"]
    assert route["publish"] == "out/{sensor}"


@pytest.mark.parametrize("lines", [["max_packet_size 20000"], ["retain_available false"]])
def test_a_broker_that_says_so_is_not_sent_it(mosquitto: MosquittoFactory, connect: Connect, lines: list[str]) -> None:
    broker = mosquitto(lines=lines)
    client = connect(broker)
    client.subscribe("edge/#", "music/#")
    with RunningAgent(broker.port, docs=ON, health={"interval": 1.0}) as agent:
        client.wait_for_payload(STATE, "online")
        # It would have come before the second report.
        client.messages(2, f"edge/{NODE}/health")
        assert client.seen(DOCS) == []
        assert agent.agent.tally.refused == 0
        assert agent.agent.tally.connections == 1


def test_a_broker_that_ends_the_connection_over_it_does_without(
    mosquitto: MosquittoFactory, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """MQTT 3.1.1 can't say how much it takes."""
    caplog.set_level(logging.INFO)
    broker = mosquitto(lines=["max_packet_size 20000"])
    client = connect(broker)
    client.subscribe("edge/#", "music/#")
    with RunningAgent(broker.port, mqtt={"protocol": "3.1.1"}, docs=ON) as agent:
        wait_for_line(caplog, DOCS, "ended the connection each time")
        client.publish("music/kitchen/features", ROCK)
        client.message("music/kitchen/genre")
        assert client.seen(DOCS) == []
        assert agent.agent.tally.poisoned <= 1
