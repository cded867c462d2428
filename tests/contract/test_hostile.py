"""All that the hostile client knows, against a real broker: whoever is honest is answered, on the connection that there was."""

from __future__ import annotations

import pytest

from tests.contract.agents import PROTOCOLS, STATE, RunningAgent, wait_until
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import ROCK
from tests.hostile import ATTACKS, HEAVY, HostileClient


@PROTOCOLS
@pytest.mark.parametrize("kind", ["cheap", "heavy"])
def test_whoever_is_honest_is_answered(mosquitto: MosquittoFactory, connect: Connect, protocol: str, kind: str) -> None:
    broker = mosquitto(lines=["max_queued_messages 0"])
    client = connect(broker)
    client.subscribe(STATE, "music/hall/genre/#")
    attacks = [*ATTACKS.values()] if kind == "cheap" else [make() for make in HEAVY.values()]
    with RunningAgent(broker.port, mqtt={"protocol": protocol}) as agent:
        client.wait_for_payload(STATE, "online")
        with HostileClient(broker.port) as hostile:
            for number, attack in enumerate(attacks):
                # A broker throws it out over some of them, and has not confirmed those before.
                hostile.send(attack)
                client.publish("music/hall/features", {**ROCK, "id": number}, wait=False)
            wait_until(lambda: not hostile.waiting, "all sent")
            client.publish("music/hall/features", {**ROCK, "id": "last"})
            answers = client.messages(len(attacks) + 1, "music/hall/genre")
        wait_until(lambda: agent.agent.tally.acknowledged == agent.agent.tally.received, "everything acknowledged")
        tally = agent.agent.tally
        assert (tally.connections, tally.refused, tally.unrouted) == (1, 0, 0)
        assert tally.received > len(attacks)
    assert [b'"label":"Rock"' in answer.payload for answer in answers] == [True] * len(answers)
    assert not client.seen("music/hall/genre/error")
