"""`edge-agent model` beside a running agent, and the agent killed and started again."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path

import pytest

from tests.contract.client import Client
from tests.e2e.conftest import Agent, call
from tests.e2e.tracks import ROCK
from tests.versions import write_version

STATE, INFO = "edge/node/state", "edge/node/info"
QUESTIONS = count()


@pytest.fixture
def online(agent: Agent, client: Client, elsewhere: Path) -> Agent:
    """The agent, serving the bundled model, with a directory of models that does not exist yet."""
    client.subscribe("edge/node/#", "music/+/genre")
    start(agent, client, elsewhere)
    return agent


def start(agent: Agent, client: Client, place: Path) -> None:
    client.forget()
    agent.start(EDGE_AGENT_MODELS__DIRECTORY=str(place / "models"))
    client.wait_for(lambda message: message.topic == STATE and message.payload == b"online" and not message.retain)
    client.message(INFO)


def model(edge_agent: Path, place: Path, *words: str) -> str:
    """Call `edge-agent model`, and return what it printed."""
    environment = {**os.environ, "EDGE_AGENT_MODELS__DIRECTORY": str(place / "models")}
    done = call(edge_agent, "model", *words, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for_version(client: Client, number: str) -> None:
    """Wait until the agent says that it serves a version, and answers with it."""
    client.wait_for(
        lambda message: (
            message.topic == INFO and [one["version"] for one in json.loads(message.payload)["models"]] == [number]
        )
    )
    assert answering(client) == number
    client.forget()


def answering(client: Client) -> str:
    """Ask, and return the version that answers. A kill may have left another question, which is answered again."""
    question = next(QUESTIONS)
    client.publish("music/hall/features", {**ROCK, "id": question})
    answer = client.wait_for(
        lambda message: message.topic == "music/hall/genre" and json.loads(message.payload)["id"] == question
    )
    return str(json.loads(answer.payload)["version"])


def test_a_running_agent_takes_over_what_commands_change(
    online: Agent, client: Client, edge_agent: Path, elsewhere: Path
) -> None:
    assert online.process is not None
    pid = online.process.pid
    for number in ("1.1.0", "1.2.0"):
        assert "is in use" in model(edge_agent, elsewhere, "install", str(write_version(elsewhere, number)))
        wait_for_version(client, number)
    assert model(edge_agent, elsewhere, "rollback").startswith("genre 1.1.0 is in use")
    wait_for_version(client, "1.1.0")
    assert model(edge_agent, elsewhere, "use", "1.0.0").startswith("genre 1.0.0 is in use")
    wait_for_version(client, "1.0.0")
    model(edge_agent, elsewhere, "use", "1.2.0")
    wait_for_version(client, "1.2.0")
    assert online.process.pid == pid
    assert not [message for message in client.seen(STATE) if message.payload == b"offline"]
    online.end()  # a power cut
    client.wait_for_payload(STATE, "offline")
    start(online, client, elsewhere)
    assert answering(client) == "1.2.0"
    client.forget()
    assert "removed 3 versions of genre; from now on it is 1.0.0, bundled" in model(
        edge_agent, elsewhere, "remove", "genre", "--all"
    )
    wait_for_version(client, "1.0.0")
