"""New settings and models while messages come: on the connection there is, or, where that can't be, on a new one."""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from edge_agent.contract.seal import seal
from edge_agent.model.library import locate
from tests.brokers import Mosquitto
from tests.contract.agents import INFO, PROTOCOLS, STATE, Packet, Relay, RunningAgent, wait_for_line, wait_until
from tests.contract.client import Client
from tests.contract.conftest import Connect, MosquittoFactory
from tests.contract.test_agent_trouble import dynamic_security
from tests.e2e.tracks import ROCK
from tests.patience import fair
from tests.wire import CONNECT, PUBACK, PUBLISH, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE

IN, OUT, FILTER = "music/hall/features", "music/hall/genre", "music/+/features"
MUSIC: Final[dict[str, Any]] = {}
OTHER: Final = {"subscribe": "other/{room}/features", "publish": "other/{room}/genre"}
HOME: Final = {"subscribe": "home/{room}/{feature}", "publish": "comfort/{room}"}


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


class Models:
    """A directory with one model, `genre`, in the version that was put there last."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.put("1.0.0")

    def put(self, version: str) -> None:
        card = b'"name":"genre","version":"%s"'
        before = locate("genre").read_bytes()
        assert card % b"1.0.0" in before
        (self.directory / "genre.onnx").write_bytes(seal(before.replace(card % b"1.0.0", card % version.encode())))

    @property
    def section(self) -> dict[str, str]:
        return {"directory": str(self.directory)}


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path / "models")


def begin(stack: ExitStack, port: int, client: Client, protocol: str = "5", **sections: Any) -> RunningAgent:
    """Run an agent until it is online."""
    agent = stack.enter_context(RunningAgent(port, mqtt={"protocol": protocol}, **sections))
    client.subscribe("+/+/genre", "+/+/genre/error", "comfort/+", STATE, INFO)
    client.wait_for_payload(STATE, "online")
    client.message(INFO)
    return agent


def reload(agent: RunningAgent, client: Client, port: int, protocol: str = "5", **sections: Any) -> None:
    """Reload, and return when the agent has said what it runs now, which is when everything is granted."""
    told = len(client.seen(INFO))
    agent.reload(port, mqtt={"protocol": protocol}, **sections)
    client.messages(told + 1, INFO)


def count(relay: Relay, kind: int) -> int:
    return len(relay.packets(up=True, kind=kind))


def answers(client: Client, topic: str = OUT) -> list[dict[str, Any]]:
    return [json.loads(message.payload) for message in client.seen(topic)]


def ids(client: Client, topic: str = OUT) -> list[int]:
    return [answer["id"] for answer in answers(client, topic)]


def states(client: Client) -> list[bytes]:
    return [bytes(message.payload) for message in client.seen(STATE)]


@PROTOCOLS
def test_a_model_is_swapped_under_traffic_on_the_same_connection(
    relay: Relay, server: Mosquitto, connect: Connect, stack: ExitStack, models: Models, protocol: str
) -> None:
    client = connect(server)
    agent = begin(stack, relay.port, client, protocol, models=models.section)
    models.put("1.0.1")
    for number in range(400):
        client.publish(IN, {**ROCK, "id": number}, wait=False)
        if number == 100:
            client.message(OUT)
            agent.reload(relay.port, mqtt={"protocol": protocol}, models=models.section)
    client.messages(2, INFO)
    client.publish(IN, {**ROCK, "id": 400})
    client.messages(401, OUT)
    client.barrier()
    # Each once, in order, by the one model and then by the other.
    assert ids(client) == list(range(401))
    versions = [answer["version"] for answer in answers(client)]
    assert versions == sorted(versions)
    assert versions[0] == "1.0.0"
    assert versions[-1] == "1.0.1"
    assert [json.loads(one.payload)["models"][0]["version"] for one in client.seen(INFO)] == ["1.0.0", "1.0.1"]
    assert (count(relay, CONNECT), count(relay, SUBSCRIBE), count(relay, UNSUBSCRIBE)) == (1, 1, 0)
    assert states(client) == [b"online"]
    assert agent.agent.tally.connections == 1
    assert agent.agent.tally.redelivered == 0


@PROTOCOLS
def test_subscriptions_change_by_the_difference(
    relay: Relay, server: Mosquitto, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    agent = begin(stack, relay.port, client, protocol, route=[MUSIC, OTHER])
    client.publish(IN, {**ROCK, "id": 1}, retain=True)
    client.publish("third/hall/features", {**ROCK, "id": 2}, retain=True)
    client.message(OUT)
    third = {"subscribe": "third/{room}/features", "publish": "third/{room}/genre"}
    reload(agent, client, relay.port, protocol, route=[MUSIC, third])
    # Retained: comes with the new subscription, and does not come again for the one that stays.
    client.message("third/hall/genre")
    client.publish("other/hall/features", ROCK)
    client.publish(IN, {**ROCK, "id": 3})
    client.messages(2, OUT)
    client.barrier()
    assert ids(client) == [1, 3]
    assert ids(client, "third/hall/genre") == [2]
    assert client.seen("other/+/genre") == []
    assert agent.agent.tally.unrouted == 0
    log = server.log()
    asked = log.split("Received UNSUBSCRIBE from edge-agent-kitchen")
    assert len(asked) == 2
    assert asked[1].splitlines()[1].endswith("\tother/+/features")
    second = log.split("Received SUBSCRIBE from edge-agent-kitchen")[2]
    assert "\tthird/+/features (QoS 1)" in second
    assert f"\t{FILTER} (QoS 1)" not in second
    assert (count(relay, CONNECT), count(relay, SUBSCRIBE), count(relay, UNSUBSCRIBE)) == (1, 2, 1)


@PROTOCOLS
def test_a_packet_id_is_that_of_one_packet_at_a_time(
    relay: Relay, server: Mosquitto, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    """MQTT 5, 2.2.1: also of a subscription that is asked for while answers are under way."""
    client = connect(server)
    agent = begin(stack, relay.port, client, protocol)
    relay.wait(lambda: len(relay.packets(up=False, kind=PUBACK)) == 2, "state and info confirmed")
    relay.hold(lambda packet: not packet.up and packet.kind == PUBACK)
    for number in range(10):
        client.publish(IN, {**ROCK, "id": number})
    relay.wait(lambda: len(relay.held) == 10, "ten answers unconfirmed")
    agent.reload(relay.port, mqtt={"protocol": protocol}, route=[MUSIC, OTHER])
    for number in range(10, 20):
        client.publish(IN, {**ROCK, "id": number})
    wait_until(lambda: agent.agent.tally.answered == 20, "twenty answers made")
    assert count(relay, SUBSCRIBE) == 1
    client.barrier()
    assert ids(client) == list(range(10))
    # Now the grant is held back, and what is sent before it comes keeps clear of its number.
    relay.release(then_hold=lambda packet: not packet.up and packet.kind == SUBACK)
    relay.wait(lambda: [one.kind for one in relay.held] == [SUBACK], "the subscription asked for")
    (grant,) = relay.held
    client.messages(20, OUT)
    relay.wait(lambda: count(relay, PUBACK) == 20, "all inputs acknowledged")
    assert grant.id not in [one.id for one in relay.packets(up=True, kind=PUBLISH)[-10:]]
    assert len(client.seen(INFO)) == 1
    relay.release()
    client.messages(2, INFO)
    client.barrier()
    assert ids(client) == list(range(20))
    assert _clashes(relay.log()) == []


@PROTOCOLS
def test_nor_while_the_first_subscription_is_asked_for(
    relay: Relay, server: Mosquitto, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    with ExitStack() as first:
        begin(first, relay.port, client, protocol)
    client.wait_for_payload(STATE, "offline")
    for number in range(5):
        client.publish(IN, {**ROCK, "id": number})
    relay.hold(lambda packet: not packet.up and packet.kind == SUBACK)
    stack.enter_context(RunningAgent(relay.port, mqtt={"protocol": protocol}))
    # What waited in the session is answered before the subscription is granted.
    client.messages(5, OUT)
    relay.wait(lambda: len(relay.held) == 1, "the grant held back")
    relay.release()
    client.messages(2, INFO)
    assert _clashes([packet for packet in relay.log() if packet.connection == 2]) == []


def _clashes(log: list[Packet]) -> list[Packet]:
    """Packets of the client's that have a number which another one of its packets still has."""
    used: dict[int | None, int] = {}
    found = []
    for packet in log:
        if packet.up and packet.kind in {PUBLISH, SUBSCRIBE, UNSUBSCRIBE} and packet.id is not None:
            if packet.id in used:
                found.append(packet)
            used[packet.id] = packet.kind
        elif not packet.up and packet.kind in {PUBACK, SUBACK, UNSUBACK}:
            used.pop(packet.id, None)
    return found


@PROTOCOLS
def test_nothing_is_lost_in_ten_reloads_under_load(
    relay: Relay, server: Mosquitto, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    agent = begin(stack, relay.port, client, protocol)
    for number in range(1000):
        client.publish(IN, {**ROCK, "id": number}, wait=False)
        if number % 100 == 50:
            client.messages(number // 100 + 1, INFO)
            routes = [MUSIC, OTHER] if number % 200 == 50 else [MUSIC]
            agent.reload(relay.port, mqtt={"protocol": protocol}, route=routes)
    client.messages(11, INFO)
    client.messages(1000, OUT)
    relay.wait(lambda: count(relay, PUBACK) == 1000, "all acknowledged")
    client.barrier()
    assert ids(client) == list(range(1000))
    assert (count(relay, CONNECT), count(relay, SUBSCRIBE), count(relay, UNSUBSCRIBE)) == (1, 6, 5)
    assert states(client) == [b"online"]
    assert _clashes(relay.log()) == []
    assert (agent.agent.tally.connections, agent.agent.tally.redelivered, agent.agent.tally.unrouted) == (1, 0, 0)


@pytest.mark.parametrize("changed", ["port", "keepalive"])
def test_other_connection_settings_make_a_new_connection_and_lose_nothing(
    relay: Relay, server: Mosquitto, connect: Connect, stack: ExitStack, changed: str
) -> None:
    client = connect(server)
    agent = begin(stack, relay.port, client)
    other = stack.enter_context(Relay(server))
    for number in range(300):
        client.publish(IN, {**ROCK, "id": number}, wait=False)
        if number == 100:
            if changed == "port":
                agent.reload(other.port, mqtt={"protocol": "5"})
            else:
                agent.reload(relay.port, mqtt={"protocol": "5", "keepalive": 20})
    client.messages(300, OUT)
    client.messages(2, INFO)
    client.barrier()
    assert set(ids(client)) == set(range(300))
    assert (count(relay, CONNECT), count(other, CONNECT)) == ((1, 1) if changed == "port" else (2, 0))
    # Elsewhere it may be another broker, where nobody else would say that it has left. In the same session it has not.
    before = [b"online", b"offline"] if changed == "port" else [b"online"]
    assert states(client) == [*before, b"online"]
    assert agent.agent.tally.connections == 2


def test_a_broker_that_is_gone_is_left_for_the_one_that_is_there(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack
) -> None:
    first, second = mosquitto(), mosquitto()
    client = connect(second)
    client.subscribe(OUT, STATE)
    agent = stack.enter_context(RunningAgent(first.port))
    wait_until(lambda: agent.agent.tally.connections == 1, "connected")
    first.stop()
    agent.reload(second.port)
    client.wait_for_payload(STATE, "online")
    client.publish(IN, ROCK)
    assert client.json(OUT)["label"] == "Rock"


@PROTOCOLS
def test_a_refused_subscription_is_told_and_asked_for_again(
    mosquitto: MosquittoFactory,
    connect: Connect,
    stack: ExitStack,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    protocol: str,
) -> None:
    server = mosquitto(lines=dynamic_security(tmp_path))
    client = connect(server)
    agent = begin(stack, server.port, client, protocol, route=[OTHER])
    assert "refused" not in caplog.text
    for times in (1, 2):
        reload(agent, client, server.port, protocol, route=[OTHER, MUSIC])
        wait_for_line(caplog, f"subscription to '{FILTER}' refused", "allow it", count=times)
        client.publish("other/hall/features", ROCK)
        client.messages(times, "other/hall/genre")
    assert server.log().count("\tmusic/+/features (QoS") == 2
    # Not wanted any more, it is not complained about any more.
    reload(agent, client, server.port, protocol, route=[OTHER])
    assert caplog.text.count("allow it in the broker's access rules") == 2


@PROTOCOLS
def test_gathered_values_stay_with_a_route_that_did_not_change(
    relay: Relay, server: Mosquitto, connect: Connect, stack: ExitStack, models: Models, protocol: str
) -> None:
    client = connect(server)
    agent = begin(stack, relay.port, client, protocol, models=models.section, route=[HOME])
    for name, value in ROCK.items():
        if name != "tempo":
            client.publish(f"home/hall/{name}", str(value))
    wait_until(lambda: agent.agent.tally.acknowledged == 7, "seven values taken")
    models.put("1.0.1")
    reload(agent, client, relay.port, protocol, models=models.section, route=[HOME])
    client.publish("home/hall/tempo", str(ROCK["tempo"]))
    assert client.json("comfort/hall")["version"] == "1.0.1"
    assert (count(relay, CONNECT), count(relay, SUBSCRIBE)) == (1, 1)


@PROTOCOLS
def test_a_route_that_changed_gathers_anew_beginning_with_what_is_retained(
    relay: Relay, server: Mosquitto, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    agent = begin(stack, relay.port, client, protocol, route=[HOME])
    for name, value in ROCK.items():
        client.publish(f"home/hall/{name}", str(value), retain=True)
    client.message("comfort/hall")
    reload(agent, client, relay.port, protocol, route=[{**HOME, "publish": "else/{room}/genre"}])
    assert client.json("else/hall/genre")["label"] == "Rock"
    client.barrier()
    assert len(client.seen("comfort/hall")) == len(client.seen("else/hall/genre")) == 1
    assert (count(relay, CONNECT), count(relay, SUBSCRIBE), count(relay, UNSUBSCRIBE)) == (1, 2, 0)


def test_stopping_before_the_new_subscriptions_are_granted(
    relay: Relay, server: Mosquitto, connect: Connect, stack: ExitStack
) -> None:
    client = connect(server)
    agent = begin(stack, relay.port, client)
    relay.hold(lambda packet: not packet.up and packet.kind == SUBACK)
    agent.reload(relay.port, mqtt={"protocol": "5"}, route=[MUSIC, OTHER])
    relay.wait(lambda: len(relay.held) == 1, "asked")
    client.publish(IN, ROCK)
    client.message(OUT)
    assert agent.stop() < fair(5)
    client.wait_for_payload(STATE, "offline")


def test_the_time_for_the_grant_begins_with_the_reload(
    relay: Relay, server: Mosquitto, connect: Connect, stack: ExitStack
) -> None:
    """Three connect timeouts, 2.4 intervals of health; it is health that tells the time."""
    client = connect(server)
    client.subscribe("edge/+/health", INFO)
    interval = round(fair(1))
    options: dict[str, Any] = {"mqtt": {"connect_timeout": 0.8 * interval}, "health": {"interval": interval}}
    agent = stack.enter_context(RunningAgent(relay.port, **options))
    client.messages(3, "edge/+/health")
    relay.hold(lambda packet: not packet.up and packet.kind == SUBACK)
    agent.reload(relay.port, **options, route=[MUSIC, OTHER])
    relay.wait(lambda: len(relay.held) == 1, "asked for")
    client.messages(4, "edge/+/health")
    relay.release()
    client.messages(2, INFO)
    assert count(relay, CONNECT) == 1


def test_a_grant_that_does_not_come_ends_the_connection(
    relay: Relay, server: Mosquitto, connect: Connect, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(server)
    agent = begin(stack, relay.port, client)
    relay.hold(lambda packet: not packet.up and packet.kind == SUBACK)
    agent.reload(relay.port, mqtt={"protocol": "5"}, route=[MUSIC, OTHER])
    wait_for_line(caplog, "no answer to CONNECT or SUBSCRIBE in time")
    relay.release()
    client.messages(2, INFO)
    client.publish("other/hall/features", ROCK)
    assert client.json("other/hall/genre")["label"] == "Rock"
