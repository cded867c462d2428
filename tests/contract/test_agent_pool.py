"""Several agents on one pool (`share`) take turns: each message is answered once."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.contract.agents import RunningAgent
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import ROCK

MESSAGES = 300


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_three_agents_answer_each_message_once(mosquitto: MosquittoFactory, connect: Connect, protocol: str) -> None:
    server = mosquitto()
    client = connect(server)
    nodes = ["one", "two", "three"]
    with ExitStack() as stack:
        agents = [
            stack.enter_context(
                RunningAgent(server.port, node={"id": node}, mqtt={"protocol": protocol}, route=[{"share": "pool"}])
            )
            for node in nodes
        ]
        client.subscribe("music/+/genre", "edge/+/state")
        for node in nodes:
            client.wait_for_payload(f"edge/{node}/state", "online")
        for number in range(MESSAGES):
            client.publish("music/hall/features", json.dumps({**ROCK, "id": number}), wait=False)
        client.messages(MESSAGES, "music/hall/genre")
        client.barrier()
        answered = Counter(json.loads(message.payload)["id"] for message in client.seen("music/hall/genre"))
        assert answered == Counter(range(MESSAGES))
        assert all(agent.agent.tally.received > 0 for agent in agents)
