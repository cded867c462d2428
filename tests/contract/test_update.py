"""Models over MQTT, against a real broker: the agent takes them up on the connection it has, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_agent import assembly
from edge_agent.config.models import loading, store
from edge_agent.model.library import Loaded
from edge_agent.serving.plan import Plan
from edge_agent.serving.released import Wish
from edge_agent.serving.reloading import Noticing, Reloads
from tests.brokers import Mosquitto
from tests.channel import Channel, version
from tests.contract import witness
from tests.contract.agents import NODE, STATE, RunningAgent, settings
from tests.contract.client import Client
from tests.described import served as described
from tests.e2e.tracks import ROCK
from tests.trusted import ANN, CHANNEL

MODEL = f"edge/{NODE}/model/genre"


class Witnessed(assembly.Preparation):
    """What is served of it is known to who looks at each message."""

    def plan(self, models: Mapping[str, Loaded]) -> Plan:
        witness.current.served(self._settings, described(models))
        return super().plan(models)

    def again(self, known: Collection[Loaded], wish: Wish | None) -> Witnessed:
        return Witnessed(self._settings, (*known, *(() if wish is None else wish.known)), wish=wish)  # type: ignore[arg-type]


class UpdatingAgent(RunningAgent):
    """One whose loop takes other plans as `edge-agent run` does."""

    def __init__(self, port: int, directory: Path, **sections: Any) -> None:
        update = {"channel": CHANNEL, "trusted_keys": [ANN.public_key.text], **sections.pop("update", {})}
        sections = {"models": {"directory": str(directory)}, "update": update, **sections}
        super().__init__(port, **sections)
        self._settings = settings(port, dict(self.timeout), sections)

    def _run(self) -> None:
        now = self._settings

        def again(known: Any, wish: Any) -> assembly.Preparation:
            return Witnessed(now, (*known, *(() if wish is None else wish.known)), wish=wish)

        models = loading(now).models()
        noticing = Noticing(store(now).stamp)
        with Reloads(self.agent, lambda known: Witnessed(now, known), models, again, noticing) as reloads:
            while self.agent.run(self._stop, reloads.asks):
                reloads.see_to(self._stop)


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
