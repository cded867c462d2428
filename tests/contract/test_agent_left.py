"""What the agent's session at the broker has from before it was started with other settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent.model.store import Store
from edge_agent.model.trust import Accepted, Kept
from tests.brokers import Mosquitto
from tests.contract.agents import INFO, PROTOCOLS, Relay, RunningAgent, wait_until
from tests.contract.conftest import Connect
from tests.e2e.tracks import ROCK
from tests.wire import UNSUBACK

IN, OUT = "music/hall/features", "music/hall/genre"


@PROTOCOLS
@pytest.mark.parametrize("is_remembered", [True, False])
def test_what_a_channel_has_left_in_the_session_is_given_back_after_a_restart_without_it(
    relay: Relay, server: Mosquitto, connect: Connect, tmp_path: Path, protocol: str, *, is_remembered: bool
) -> None:
    """At once, or, where nothing was ever accepted from it, as soon as something comes."""
    client, manifest = connect(server), "edge/fleet/stable/manifest"
    options: dict[str, Any] = {"mqtt": {"protocol": protocol}, "models": {"directory": str(tmp_path)}}
    client.subscribe(INFO, OUT)
    with RunningAgent(relay.port, update={"channel": "stable", "require_signature": False}, **options):
        client.message(INFO)
    if is_remembered:
        kept = {"stable": Kept(accepted=Accepted(7))}
        Store(tmp_path).change(lambda state: state.model_copy(update={"channels": kept}))
    with RunningAgent(relay.port, **options) as agent:
        client.messages(2, INFO)
        if not is_remembered:
            client.publish(manifest, b"{}")
        wait_until(lambda: len(relay.packets(up=False, kind=UNSUBACK)) == 1, "it gives them back")
        client.publish(manifest, b"{}")
        client.publish(IN, {**ROCK, "id": 1})
        client.message(OUT)
        assert agent.agent.tally.unrouted == (0 if is_remembered else 1)
