"""A queue of what costs most: batches of 10 kB that are 10,000 rejections each, waiting for an agent that was away."""

from __future__ import annotations

import logging

import pytest

from edge_agent.host.process import rss_bytes
from tests.brokers import Mosquitto
from tests.contract.agents import STATE, RunningAgent, wait_until
from tests.contract.client import Client
from tests.contract.conftest import Connect
from tests.patience import fair

#: An array of 10,000 empty maps.
HOSTILE = b"\x99\x27\x10" + b"\xa0" * 10_000
COUNT = 60
MOST = 100 << 20


def run(server: Mosquitto) -> RunningAgent:
    """A handshake may take three connect timeouts, which is less than the whole queue takes."""
    return RunningAgent(server.port, mqtt={"protocol": "5", "session_expiry": 600, "connect_timeout": fair(0.3)})


def queue(server: Mosquitto, client: Client) -> None:
    """Let the batches wait in the session of an agent that is away."""
    client.subscribe(STATE)
    with run(server):
        client.wait_for_payload(STATE, "online")
    for number in range(COUNT):
        client.publish(f"music/{number}/features", HOSTILE, ContentType="application/cbor")


def test_all_are_answered_on_one_connection_in_little_memory(
    server: Mosquitto, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    queue(server, connect(server))
    before, peak = rss_bytes(), 0

    def all_acknowledged() -> bool:
        nonlocal peak
        peak = max(peak, rss_bytes())
        return tally.acknowledged == COUNT

    with run(server) as agent:
        tally = agent.agent.tally
        wait_until(all_acknowledged, "everything acknowledged")
        assert (tally.received, tally.redelivered, tally.answered, tally.refused) == (COUNT, 0, COUNT, 0)
        assert tally.total.rejections == {"invalid_features": COUNT * 10_000}
        assert tally.connections == 1
    assert peak - before < MOST
    assert "trying again" not in caplog.text


def test_it_stops_in_the_middle_and_the_next_one_goes_on(server: Mosquitto, connect: Connect) -> None:
    queue(server, connect(server))
    with run(server) as first:
        done = first.agent.tally
        wait_until(lambda: done.answered >= 3, "some are answered")
        first.stop()
    assert 3 <= done.answered < COUNT
    with run(server) as second:
        rest = second.agent.tally
        wait_until(lambda: done.acknowledged + rest.acknowledged == COUNT, "everything acknowledged")
        assert rest.answered == rest.received == COUNT - done.acknowledged
