"""`edge-agent run` against a Mosquitto, seen from outside."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.contract.agents import wait_until
from tests.contract.client import Client
from tests.e2e.conftest import Agent, call
from tests.e2e.tracks import HIP_HOP, IMPOSSIBLE, ROCK

STATE = "edge/node/state"


@pytest.fixture
def online(agent: Agent, client: Client) -> Agent:
    """The agent, serving, with the client listening to all it says."""
    client.subscribe("edge/#", "music/+/genre/#")
    agent.start()
    client.wait_for_payload(STATE, "online")
    return agent


def test_tracks_are_answered(online: Agent, client: Client) -> None:
    client.publish("music/kitchen/features", {**HIP_HOP, "id": 7})
    client.publish("music/hall/features", ROCK, qos=0)
    client.publish("music/hall/features", IMPOSSIBLE)
    assert client.json("music/kitchen/genre")["label"] == "Hip-Hop"
    assert client.json("music/kitchen/genre")["id"] == 7
    assert client.message("music/kitchen/genre").qos == 1
    assert client.json("music/hall/genre")["label"] == "Rock"
    assert client.message("music/hall/genre").qos == 0
    rejection = client.json("music/hall/genre/error")
    assert rejection["error"] == "invalid_features"
    assert rejection["model"] == "genre"
    # Each message gets one reply: after `offline` nothing more is published.
    assert online.stop() == 0
    client.wait_for_payload(STATE, "offline")
    assert len(client.seen("music/#")) == 3


def test_state_and_info_are_retained(online: Agent, client: Client) -> None:
    with Client(online.broker.port) as late:
        late.subscribe("edge/node/#")
        assert late.message(STATE).payload == b"online"
        assert late.message(STATE).retain
        info = late.message("edge/node/info")
        assert info.retain
        assert "genre" in info.payload.decode()


def test_the_will_says_offline(online: Agent, client: Client) -> None:
    online.end()  # a power cut
    client.wait_for_payload(STATE, "offline")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_asked(online: Agent, client: Client, how: signal.Signals) -> None:
    assert online.stop(how) == 0
    client.wait_for_payload(STATE, "offline")


def test_it_finishes_what_is_in_flight(online: Agent, client: Client) -> None:
    count = 200
    for number in range(count):
        client.publish("music/a/features", {**ROCK, "id": number}, wait=False)
    client.messages(1, "music/a/genre")
    assert online.stop() == 0
    client.wait_for_payload(STATE, "offline")
    # A clean end acknowledges what it has answered and answers nothing twice; what it had not read stays the broker's.
    ids = [json.loads(message.payload)["id"] for message in client.seen("music/a/genre")]
    assert ids == list(range(len(ids)))


def test_it_comes_back_with_the_broker(online: Agent, client: Client) -> None:
    online.broker.kill()
    client.close()
    online.broker.start()
    with Client(online.broker.port) as again:
        again.subscribe("edge/#", "music/+/genre/#")
        again.wait_for_payload(STATE, "online")
        again.publish("music/a/features", ROCK)
        assert again.json("music/a/genre")["label"] == "Rock"


def test_it_ends_while_the_broker_is_away(online: Agent) -> None:
    online.broker.kill()
    assert online.stop() == 0


def test_a_file_of_settings(agent: Agent, client: Client, elsewhere: Path) -> None:
    (elsewhere / "agent.toml").write_text(
        '[node]\nid = "from-file"\n\n'
        '[[route]]\nmodel = "genre"\nsubscribe = "in/{room}/{sensor}"\npublish = "out/{room}/{sensor}"\n'
    )
    client.subscribe("edge/#", "out/#")
    agent.start("--config", "agent.toml", EDGE_AGENT_NODE__ID="from-environment")
    client.wait_for_payload("edge/from-environment/state", "online")
    client.publish("in/kitchen/7", ROCK)
    client.publish("in/kitchen/7", "nonsense")
    assert client.json("out/kitchen/7")["label"] == "Rock"
    assert client.json("out/kitchen/7/error")["error"] == "malformed_payload"


def test_a_configuration_of_several_files(agent: Agent, client: Client, elsewhere: Path) -> None:
    """With no file of its own, a directory beside it; a reload takes up what was put there."""
    route = '[[route]]\nsubscribe = "{0}/{{x}}"\npublish = "{0}/{{x}}/genre"\n'
    beside = elsewhere / "agent.d"
    beside.mkdir()
    (beside / "20-hall.toml").write_text(route.format("hall"))
    (beside / "10-node.toml").write_text('[node]\nid = "from-fragment"\n')
    client.subscribe("edge/#", "hall/+/genre", "attic/+/genre")
    agent.start("--config", "agent.toml", EDGE_AGENT_NODE__ID="from-environment")
    client.wait_for_payload("edge/from-environment/state", "online")
    client.publish("hall/a", ROCK)
    assert client.json("hall/a/genre")["label"] == "Rock"
    (beside / "30-attic.toml").write_text('[log]\nlevel = "loud"\n')
    agent.send(signal.SIGHUP)
    wait_until(lambda: "agent.d/30-attic.toml: log.level: Input" in agent.log(), "the refusal does not name the file")
    (beside / "30-attic.toml").write_text(route.format("attic"))
    agent.send(signal.SIGHUP)
    wait_until(lambda: "still connected" in agent.log(), "the new route is not subscribed to")
    client.publish("hall/b", ROCK)
    client.publish("attic/b", ROCK)
    assert client.json("attic/b/genre")["label"] == client.json("hall/b/genre")["label"] == "Rock"


def test_an_open_secret_is_said_once(agent: Agent, client: Client, elsewhere: Path) -> None:
    secret = elsewhere / "password"
    secret.write_text("secret")
    secret.chmod(0o644)
    client.subscribe("edge/#")
    agent.start(EDGE_AGENT_MQTT__USERNAME="ann", EDGE_AGENT_MQTT__PASSWORD_FILE=str(secret))
    client.wait_for_payload(STATE, "online")
    agent.send(signal.SIGHUP)
    wait_until(lambda: "reloaded" in agent.log(), "not reloaded")
    lines = agent.log().splitlines()
    said = [line for line in lines if f"mqtt.password_file: {secret}: is open to everybody on this machine" in line]
    assert len(said) == 1
    assert "WARNING" in said[0]
    assert sum("WARNING running as root" in line for line in lines) == (os.geteuid() == 0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[node]\nname = 'x'\n", "name"),
        ("[mqtt]\nport = 'many'\n", "port"),
        ("[mqtt\n", "agent.toml"),
        ("[[route]]\nmodel = 'genre'\nsubscribe = 'a/{x}'\npublish = 'a/{x}'\n", "a/{x}"),
    ],
    ids=["unknown key", "bad value", "not TOML", "its own output"],
)
def test_bad_settings_are_refused_at_start(edge_agent: Path, elsewhere: Path, text: str, named: str) -> None:
    (elsewhere / "agent.toml").write_text(text)
    done = call(edge_agent, "run", "--config", "agent.toml")
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_what_is_wrong(edge_agent: Path, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_MQTT__HOST", agent.broker.host)
    monkeypatch.setenv("EDGE_AGENT_MQTT__PORT", str(agent.broker.port))
    good = call(edge_agent, "check")
    assert good.returncode == 0, good.stdout + good.stderr
    monkeypatch.setenv("EDGE_AGENT_ROUTE", '[{"fields": {"tmepo": "bpm"}}]')
    wrong = call(edge_agent, "check")
    assert (wrong.returncode, "fields.tmepo" in wrong.stdout) == (2, True), wrong.stdout + wrong.stderr
    monkeypatch.delenv("EDGE_AGENT_ROUTE")
    agent.broker.stop()
    bad = call(edge_agent, "check")
    assert bad.returncode not in {0, 2}, bad.stdout + bad.stderr
    assert str(agent.broker.port) in bad.stdout + bad.stderr
    assert "Traceback" not in bad.stdout + bad.stderr
