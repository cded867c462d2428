"""Models over MQTT, against a real broker: the agent takes them up on the connection it has, and nothing is lost. What is bad: test_bad_updates.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from edge_agent.contract import topics
from edge_agent.contract.manifest import pieces
from edge_agent.model.store import Store
from tests.brokers import Mosquitto
from tests.channel import Channel, release
from tests.contract.agents import NODE, STATE, wait_until
from tests.contract.client import Client
from tests.contract.updating import MODEL, Clocks, UpdatingAgent
from tests.e2e.tracks import ROCK
from tests.trusted import CHANNEL
from tests.versions import version


@pytest.fixture
def client(server: Mosquitto) -> Iterator[Client]:
    with Client(server.port) as client:
        client.subscribe(STATE, MODEL, f"edge/{NODE}/info", "music/+/genre/#")
        yield client


@pytest.fixture
def channel(client: Client) -> Channel:
    return Channel(client)


def state(client: Client, wanted: str, **more: Any) -> dict[str, Any]:
    """Wait until the model is said to be in a state."""

    def is_it(message: Any) -> bool:
        if message.topic != MODEL or not message.payload:
            return False
        said = json.loads(message.payload)
        return said["state"] == wanted and all(said[name] == value for name, value in more.items())

    said: dict[str, Any] = json.loads(client.wait_for(is_it).payload)
    return said


def served(client: Client) -> str:
    client.forget()
    client.publish("music/hall/features", json.dumps(ROCK))
    return str(client.json("music/hall/genre")["version"])


def test_a_model_is_fetched_tested_and_served(
    server: Mosquitto, client: Client, channel: Channel, stack: ExitStack, tmp_path: Path
) -> None:
    stack.enter_context(UpdatingAgent(server.port, tmp_path / "models"))
    client.wait_for_payload(STATE, "online")
    assert served(client) == "1.0.0"
    channel.push(version("1.1.0"))
    state(client, "idle", installed_version="1.1.0")
    assert served(client) == "1.1.0"


def test_a_model_stands_its_phases(
    server: Mosquitto, client: Client, channel: Channel, stack: ExitStack, tmp_path: Path
) -> None:
    stack.enter_context(UpdatingAgent(server.port, tmp_path / "models"))
    client.wait_for_payload(STATE, "online")
    channel.push(version("1.1.0"), soak_seconds=1, min_agreement=0.5, canary=0.5)
    for phase in ("shadow", "canary", "committed"):
        state(client, phase)
    state(client, "idle", installed_version="1.1.0")
    assert served(client) == "1.1.0"


def test_a_node_that_was_off_catches_up_and_one_that_is_stopped_in_between_goes_on(
    server: Mosquitto, client: Client, channel: Channel, tmp_path: Path
) -> None:
    new = version("1.1.0")
    file = release(new).models[0]
    parts = pieces(new)
    channel.announce(new)
    with UpdatingAgent(server.port, tmp_path / "models"):
        state(client, "fetching")
    for number, piece in enumerate(parts):
        client.publish(topics.blob(CHANNEL, file.sha256, number), piece, retain=True)
    client.forget()
    with UpdatingAgent(server.port, tmp_path / "models"):
        state(client, "idle", installed_version="1.1.0")
        assert served(client) == "1.1.0"


def test_what_is_on_trial_is_watched_after_a_restart_without_the_channel_too(
    server: Mosquitto, client: Client, channel: Channel, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    with UpdatingAgent(server.port, models):
        client.wait_for_payload(STATE, "online")
        channel.push(version("1.1.0"), soak_seconds=3600)
        serial = state(client, "committed", installed_version="1.1.0")["serial"]
    client.forget()
    with UpdatingAgent(server.port, models, clocks=Clocks(pace=1000.0), update={"channel": ""}):
        state(client, "committed", installed_version="1.1.0", channel="", serial=serial)
        state(client, "idle", installed_version="1.1.0", channel="", serial=serial)
        wait_until(lambda: Store(models).read().watched is None, "its trial is over")
        assert served(client) == "1.1.0"


def test_by_hand_a_request_installs_it(
    server: Mosquitto, client: Client, channel: Channel, stack: ExitStack, tmp_path: Path
) -> None:
    client.subscribe(f"edge/{NODE}/response/install")
    stack.enter_context(UpdatingAgent(server.port, tmp_path / "models", update={"by_hand": True}))
    client.wait_for_payload(STATE, "online")
    channel.push(version("1.1.0"))
    said = state(client, "verified", latest_version="1.1.0", installed_version="1.0.0")
    assert not said["in_progress"]
    client.publish(f"edge/{NODE}/request/install", "genre")
    assert client.json(f"edge/{NODE}/response/install") == {"installing": ["genre"], "reason": None}
    state(client, "idle", installed_version="1.1.0")


def test_a_command_that_changes_the_store_is_noticed(
    server: Mosquitto, client: Client, stack: ExitStack, tmp_path: Path
) -> None:
    """Also without a channel: and then nothing is subscribed to, or said."""
    directory = tmp_path / "models"
    stack.enter_context(UpdatingAgent(server.port, directory, update={"channel": ""}))
    client.wait_for_payload(STATE, "online")
    kept = Store(directory)
    kept.add("genre", "1.1.0", version("1.1.0"))
    kept.use("genre", "1.1.0")
    client.wait_for(lambda message: message.topic.endswith("/info") and b'"version":"1.1.0"' in message.payload)
    assert served(client) == "1.1.0"
    assert client.seen(MODEL) == []
    assert "fleet" not in server.log()
