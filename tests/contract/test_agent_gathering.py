"""One value per topic, on real brokers: what a restart, a broken connection and a redelivery do to gathered values."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from paho.mqtt.enums import MQTTProtocolVersion

from edge_agent.assembly import make_agent
from edge_agent.cli.main import cli
from edge_agent.config.load import load
from edge_agent.contract.answers import Prediction
from edge_agent.contract.messages import validator
from edge_agent.errors import SettingsError
from tests.brokers import BrokerProcess, Mosquitto
from tests.contract.agents import INFO, PROTOCOLS, STATE, Packet, Relay, RunningAgent, wait_until
from tests.contract.client import Client
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import HIP_HOP, ROCK
from tests.patience import fair
from tests.wire import PUBACK, PUBLISH

OUT, ERROR = "genre/hall", "genre/hall/error"
ROUTE = {"subscribe": "home/{room}/{feature}", "publish": "genre/{room}"}


def run(stack: ExitStack, port: int, client: Client, protocol: str = "5", **route: Any) -> RunningAgent:
    """Run an agent that gathers, until it is online."""
    agent = stack.enter_context(RunningAgent(port, mqtt={"protocol": protocol}, route=[{**ROUTE, **route}]))
    client.subscribe("genre/#", STATE, INFO)
    client.wait_for_payload(STATE, "online")
    return agent


def send(client: Client, values: dict[str, float], **options: Any) -> None:
    for name, value in values.items():
        client.publish(f"home/hall/{name}", str(value), **options)


def labels(client: Client) -> list[str]:
    """The labels so far, in order."""
    return [validator(Prediction).validate_json(bytes(one.payload))["label"] for one in client.seen(OUT)]


def test_one_value_per_topic(broker: BrokerProcess, connect: Connect, stack: ExitStack) -> None:
    newest = "5" if MQTTProtocolVersion.MQTTv5 in broker.protocols else "3.1.1"
    client = connect(broker)
    agent = run(stack, broker.port, client, newest)
    send(client, ROCK)
    assert client.json(OUT)["label"] == "Rock"
    client.publish("home/hall/tempo", "unavailable")
    assert client.json(ERROR)["detail"][0]["loc"] == ["tempo"]
    # Not answered: what another firmware says, an unchanged value, and a set with a value that can't be used.
    client.publish("home/hall/battery", "97")
    send(client, {name: value for name, value in HIP_HOP.items() if name != "tempo"})
    send(client, {"tempo": HIP_HOP["tempo"]})
    client.messages(2, OUT)
    send(client, HIP_HOP)
    wait_until(lambda: agent.agent.tally.acknowledged == 26, "everything acknowledged")
    client.barrier()
    assert labels(client) == ["Rock", "Hip-Hop"]
    assert agent.agent.tally.unrouted == 0


@PROTOCOLS
def test_retained_values_come_again_after_a_restart(
    server: Mosquitto, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    with ExitStack() as first:
        run(first, server.port, client, protocol)
        send(client, ROCK, retain=True)
        client.message(OUT)
    client.wait_for_payload(STATE, "offline")
    client.forget()
    # The session is the same, so the subscription is not new; nobody publishes anything.
    with ExitStack() as second:
        run(second, server.port, client, protocol)
        assert client.json(OUT)["label"] == "Rock"
        client.barrier()
        assert labels(client) == ["Rock"]


@PROTOCOLS
def test_a_value_that_was_not_acknowledged_is_answered_again(
    server: Mosquitto, relay: Relay, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    agent = run(stack, relay.port, client, protocol)
    relay.wait(lambda: len(relay.packets(up=False, kind=PUBACK)) == 2, "state and info confirmed")
    send(client, {name: value for name, value in ROCK.items() if name != "tempo"})
    # What brings about no answer is acknowledged at once.
    relay.wait(lambda: len(relay.packets(up=True, kind=PUBACK)) == 7, "seven values acknowledged")
    relay.hold(lambda packet: not packet.up and packet.kind == PUBACK)
    send(client, {"tempo": ROCK["tempo"]})
    client.message(OUT)
    relay.wait(lambda: len(relay.held) == 1, "the answer's confirmation under way")
    assert len(relay.packets(up=True, kind=PUBACK)) == 7
    relay.hold(lambda _: False)
    relay.cut()
    client.messages(2, OUT)
    relay.wait(lambda: len(relay.packets(up=True, kind=PUBACK)) == 8, "the last value acknowledged")

    def again(packet: Packet) -> bool:
        return packet.connection == 2 and packet.topic == "home/hall/tempo" and packet.again

    assert len([one for one in relay.packets(up=False, kind=PUBLISH) if again(one)]) == 1
    assert agent.agent.tally.redelivered == 1
    client.barrier()
    assert labels(client) == ["Rock", "Rock"]


@PROTOCOLS
def test_a_retained_value_is_answered_once_more_after_the_connection_broke(
    server: Mosquitto, relay: Relay, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    """The last answer might have been lost with the connection, though its values were acknowledged."""
    client = connect(server)
    agent = run(stack, relay.port, client, protocol)
    send(client, ROCK, retain=True)
    client.message(OUT)
    relay.wait(lambda: len(relay.packets(up=True, kind=PUBACK)) == 8, "all values acknowledged")
    relay.cut()
    client.messages(2, OUT)
    wait_until(lambda: agent.agent.tally.acknowledged == 16, "all retained values acknowledged")
    client.barrier()
    assert labels(client) == ["Rock", "Rock"]


def test_a_debounced_answer_comes_by_itself(server: Mosquitto, connect: Connect, stack: ExitStack) -> None:
    client = connect(server)
    run(stack, server.port, client, debounce=0.2)
    send(client, ROCK)
    assert client.json(OUT)["label"] == "Rock"
    send(client, {"tempo": 100.0}, qos=0)
    assert [answer.qos for answer in client.messages(2, OUT)] == [1, 0]


def test_debounce_makes_one_answer_of_many_changes_and_gives_it_before_the_agent_ends(
    server: Mosquitto, connect: Connect, stack: ExitStack
) -> None:
    client = connect(server)
    agent = run(stack, server.port, client, debounce=3600)
    send(client, ROCK)
    for tempo in (100.0, ROCK["tempo"]) * 20:
        send(client, {"tempo": tempo}, wait=False)
    wait_until(lambda: agent.agent.tally.acknowledged == 48, "all values acknowledged")
    agent.stop()
    client.wait_for_payload(STATE, "offline")
    assert labels(client) == ["Rock"]


def test_a_debounced_answer_outlives_its_connection(
    server: Mosquitto, relay: Relay, connect: Connect, stack: ExitStack
) -> None:
    client = connect(server)
    agent = run(stack, relay.port, client, debounce=fair(1.5))
    send(client, ROCK)
    wait_until(lambda: agent.agent.tally.acknowledged == 8, "all values acknowledged")
    relay.cut()
    assert client.json(OUT)["label"] == "Rock"
    assert agent.agent.tally.connections == 2


def test_more_sensors_than_are_kept(mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack) -> None:
    """More than are kept: the least recently heard go, it is counted, and those that stay are answered."""
    # By default it drops what comes when 1,000 messages wait for an agent that is behind.
    server = mosquitto(lines=["max_queued_messages 0"])
    client = connect(server)
    agent = stack.enter_context(
        RunningAgent(server.port, mqtt={"protocol": "5"}, route=[ROUTE], limits={"sensors": 1000})
    )
    client.subscribe("genre/#", STATE, "edge/+/response/status")
    client.wait_for_payload(STATE, "online")
    send(client, ROCK)
    client.message(OUT)
    for number in range(3000):
        client.publish(f"home/{number}/tempo", "100", wait=False)
    wait_until(lambda: agent.agent.tally.received == 3008, "all received")
    client.publish("edge/kitchen/request/status")
    gathered = client.json("edge/+/response/status")["gathering"]
    assert (gathered["sensors"], gathered["complete"], gathered["forgotten"]) == (1000, 0, 2001)
    assert [one["sensor"] for one in gathered["waiting"]] == [str(number) for number in range(2000, 2100)]
    assert json.loads(client.message(OUT).payload)["label"] == "Rock"


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        (
            '{ tempo = "bpm", energy = "mood.e", valence = "mood.v" }',
            0,
            "danceability on home/{room}/danceability; energy, valence on home/{room}/mood;",
        ),
        ('{ tmepo = "bpm" }', 2, "FAIL  fields         route 1: fields.tmepo: model 'genre' has no such feature"),
        ('{ tempo = "energy.bpm" }', 2, "FAIL  fields         route 1: level 'energy': energy is all"),
        ('{ tempo = ["a/b"] }', 2, "FAIL  fields         route 1: feature 'tempo': 'a/b' can't be one level"),
    ],
)
def test_check_says_where_the_features_are_expected(
    server: Mosquitto, tmp_path: Path, fields: str, status: int, says: str
) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        f'[node]\nid = "check"\n[mqtt]\nhost = "{server.host}"\nport = {server.port}\n'
        f'[[route]]\nsubscribe = "home/{{room}}/{{feature}}"\npublish = "genre/{{room}}"\nfields = {fields}\n'
    )
    result = CliRunner().invoke(cli, ["check", "--config", str(file)])
    assert result.exit_code == status, result.output
    assert says in result.output
    assert "ok    publish        genre/+\n" in result.output
    # Nor does the agent start with what the check does not pass.
    if status:
        with pytest.raises(SettingsError, match="route 1: "):
            make_agent(load(file))
