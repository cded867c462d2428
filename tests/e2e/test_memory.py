"""Memory stays where it is, whatever arrives and however much of it, and whatever the broker does not take.

Growth is that of resident memory over what it was once warm, and of its peak over the peak until then.
"""

from __future__ import annotations

import json
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from benchmarks import load
from tests.brokers import Mosquitto, running
from tests.contract.agents import Packet, Relay
from tests.contract.client import Client
from tests.e2e.conftest import Agent
from tests.e2e.rude import RudeBroker
from tests.e2e.tracks import ROCK
from tests.requirements import require_mosquitto
from tests.traffic import Traffic
from tests.wire import PUBACK, PUBLISH

MAX_GROWTH: Final = 5 << 20
#: The same where a broker floods us at QoS 0 and takes nothing: answers for 4 MiB and what is read until then may wait. It
#: is there within seconds (17.9 MiB after 60 s, and after 150 s), and stays.
MAX_WAITING: Final = 24 << 20
#: More than the topics that the agent remembers (10,000).
WARM_UP: Final = 12_000
RECEIVE_MAXIMUM: Final = 500
STATE: Final = "edge/node/state"
LONG: Final = (pytest.mark.long, pytest.mark.timeout(1800))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """One that sets no limit of its own, so that it is the agent's that holds."""
    require_mosquitto()
    lines = ["max_queued_messages 0", "max_inflight_messages 0", "log_type none", "log_type error"]
    with running(Mosquitto(tmp_path / "broker", lines=lines)) as broker:
        yield broker


def questions(first: int, count: int) -> Iterator[load.Question]:
    """Never the same twice, and never a topic twice: right and wrong in content, format, content type."""
    numbers = struct.pack("<8f", *ROCK.values())
    # RFC 8949: a map of eight texts to single precision floats.
    cbor = b"\xa8" + b"".join(
        bytes([0x60 | len(name)]) + name.encode() + b"\xfa" + struct.pack(">f", value) for name, value in ROCK.items()
    )
    for number in range(first, first + count):
        topic = f"music/sensor-{number:0>60}/features"
        yield (
            load.Question(topic, json.dumps({**ROCK, "id": f"message {number}"}).encode()),
            load.Question(topic, json.dumps({**ROCK, "tempo": f"number {number}"}).encode()),
            load.Question(topic, json.dumps({**ROCK, f"key {number}": "x" * (number % 2000)}).encode()),
            load.Question(topic, f'{{"broken {number}'.encode()),
            load.Question(topic, numbers, "application/octet-stream"),
            load.Question(topic, numbers, f"application/x-{number}"),
            load.Question(topic, cbor, "application/cbor"),
            load.Question(topic, json.dumps([{**ROCK, "energy": number}, ROCK]).encode(), "application/json"),
        )[number % 8]


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(30_000, id="short"),
        pytest.param(1_000_000, marks=LONG, id="full"),
    ],
)
def test_many_messages(agent: Agent, client: Client, messages: int) -> None:
    client.subscribe(STATE)
    agent.start()
    client.wait_for_payload(STATE, "online")
    answers = "music/+/genre/#"
    warm = load.ask(agent.broker.port, questions(0, WARM_UP), answers=answers)
    before = agent.memory()
    rest = load.ask(agent.broker.port, questions(WARM_UP, messages - WARM_UP), answers=answers)
    growth = agent.memory().growth(before)
    assert warm.messages + rest.messages == messages
    print(  # noqa: T201
        f"{messages} messages sent, {messages} answered: {before.now >> 10} KiB once warm, grew by {growth >> 10} KiB"
    )
    assert growth < MAX_GROWTH


@pytest.mark.parametrize(
    ("seconds", "rate"), [pytest.param(10, 400, id="short"), pytest.param(600, 50, marks=LONG, id="full")]
)
def test_a_broker_that_confirms_nothing(agent: Agent, client: Client, seconds: float, rate: float) -> None:
    """No more comes in than Receive Maximum; the rest waits in the broker, and is answered in the end."""
    with Relay(agent.broker) as relay:
        client.subscribe(STATE, "edge/node/health", "edge/node/response/ping")
        agent.start(
            EDGE_AGENT_MQTT__PORT=str(relay.port),
            EDGE_AGENT_MQTT__KEEPALIVE="5",
            EDGE_AGENT_MQTT__RECEIVE_MAXIMUM=str(RECEIVE_MAXIMUM),
            EDGE_AGENT_HEALTH__INTERVAL="1",
        )
        client.wait_for_payload(STATE, "online")
        with Traffic(agent.broker.port, rate, in_vain=agent.in_vain) as traffic:
            traffic.wait(lambda: len(traffic.times) >= RECEIVE_MAXIMUM, "not warm")
            relay.hold(lambda packet: not packet.up and packet.kind == PUBACK)
            relay.wait(lambda: under_way(relay.log()) == RECEIVE_MAXIMUM, "Receive Maximum reached")
            before = agent.memory()
            # It is the time that is tested; nothing is waited for here.
            time.sleep(seconds)
            growth = agent.memory().growth(before)
            assert under_way(relay.log()) == RECEIVE_MAXIMUM
            client.forget()
            assert client.json("edge/node/health")["in_flight"] >= RECEIVE_MAXIMUM
            assert len({packet.connection for packet in relay.log()}) == 1
            relay.release()
            traffic.finish(f"{seconds:g} s without a confirmation, grew by {growth >> 10} KiB", at_least=1000)
            client.publish("edge/node/request/ping", "there?")
            assert client.json("edge/node/response/ping")["pong"] == "there?"
    assert growth < MAX_GROWTH


def under_way(packets: list[Packet]) -> int:
    """Inputs that the agent has and has not acknowledged."""
    came = sum(not one.up and one.kind == PUBLISH and one.id is not None for one in packets)
    return came - sum(one.up and one.kind == PUBACK for one in packets)


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(10_000, id="short"),
        pytest.param(50_000, marks=LONG, id="full"),
    ],
)
def test_a_backlog(agent: Agent, client: Client, messages: int) -> None:
    """Mosquitto 2.0.11 does not keep to Receive Maximum while it works off a queue."""
    client.subscribe(STATE)
    agent.start()
    client.wait_for_payload(STATE, "online")
    with Traffic(agent.broker.port, 5000, in_vain=agent.in_vain) as traffic:
        traffic.wait(lambda: len(traffic.times) >= 2 * RECEIVE_MAXIMUM, "not warm")
        agent.send(signal.SIGSTOP)
        before = agent.memory()
        traffic.wait(lambda: traffic.sent >= messages, "not enough asked")
        traffic.stop_asking()
        agent.send(signal.SIGCONT)
        traffic.finish("the agent was stopped", at_least=messages)
    growth = agent.memory().growth(before)
    print(f"grew by {growth >> 10} KiB")  # noqa: T201
    assert growth < MAX_GROWTH
    assert {message.payload for message in client.seen(STATE)} == {b"online"}


@pytest.mark.parametrize(
    ("qos", "reads", "seconds"),
    [
        pytest.param(1, True, 1, id="confirms nothing-short"),
        pytest.param(0, False, 1, id="QoS 0-short"),
        pytest.param(1, True, 60, marks=LONG, id="confirms nothing-full"),
        pytest.param(0, False, 60, marks=LONG, id="QoS 0-full"),
        pytest.param(1, False, 600, marks=LONG, id="reads nothing-full"),
    ],
)
def test_a_broker_without_manners(agent: Agent, qos: int, reads: bool, seconds: float) -> None:
    """It sends as fast as it can, whatever Receive Maximum says: the agent is there when it behaves again."""
    with RudeBroker(qos=qos, reads=reads) as broker:
        agent.start(
            EDGE_AGENT_MQTT__PORT=str(broker.port),
            EDGE_AGENT_MQTT__KEEPALIVE="5",
            EDGE_AGENT_MQTT__MAX_BACKOFF="1",
        )
        broker.wait_for_answers(2000)
        before = agent.memory()
        broker.be(rude=True)
        # It is the time that is tested; nothing is waited for here.
        time.sleep(seconds)
        growth = agent.memory().growth(before)
        broker.be(rude=False)
        broker.wait_for_answers(2000)
        print(  # noqa: T201
            f"{seconds:g} s of a rude broker: {broker.sent} messages sent, {broker.answered} answered, "
            f"{broker.connections} connections, grew by {growth >> 10} KiB"
        )
    assert agent.in_vain() is None
    assert growth < (MAX_GROWTH if qos else MAX_WAITING)
