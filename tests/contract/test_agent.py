"""The wire contract, looked at from outside: the real agent on each broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from edge_agent.client import read_status
from edge_agent.contract.answers import Prediction
from edge_agent.contract.drift import Drift
from edge_agent.contract.messages import Health, Info, Pong, Rejection, UnknownVerb, validator
from edge_agent.contract.seal import seal
from edge_agent.model.library import locate
from tests.brokers import BrokerProcess
from tests.contract.agents import INFO, NODE, STATE, RunningAgent, wait_until
from tests.contract.client import Client
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import HIP_HOP, IMPOSSIBLE, ROCK
from tests.patience import fair


class Run(Protocol):
    def __call__(self, broker: BrokerProcess, **options: Any) -> RunningAgent: ...


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs agents, in the newest protocol that the broker has; they are stopped at the end of the test."""
    with ExitStack() as stack:

        def start(broker: BrokerProcess, *, mqtt: dict[str, Any] | None = None, **sections: Any) -> RunningAgent:
            newest = "5" if MQTTProtocolVersion.MQTTv5 in broker.protocols else "3.1.1"
            agent = RunningAgent(broker.port, mqtt={"protocol": newest, **(mqtt or {})}, **sections)
            return stack.enter_context(agent)

        yield start


def online(client: Client) -> Client:
    """Return when the agent has said that it is there, and forget that it did."""
    client.subscribe("edge/#", "music/#", "other/#")
    client.wait_for_payload(STATE, "online")
    client.message(INFO)
    client.forget()
    return client


def read(payload: bytes | bytearray) -> Any:
    """The content of an answer, held against the wire contract."""
    content = json.loads(payload)
    for row in content if isinstance(content, list) else [content]:
        validator(Rejection if "error" in row else Prediction).validate_json(json.dumps(row), strict=True)
    return content


def test_a_prediction_and_a_rejection(broker: BrokerProcess, connect: Connect, run: Run) -> None:
    run(broker)
    client = online(connect(broker))
    client.publish("music/hall/features", {**ROCK, "id": 1, "time": "t"})
    answer = read(client.message("music/hall/genre").payload)
    assert (answer["label"], answer["id"], answer["time"], answer["model"]) == ("Rock", 1, "t", "genre")
    client.publish("music/hall/features", {**IMPOSSIBLE, "id": 2})
    refusal = read(client.message("music/hall/genre/error").payload)
    assert (refusal["error"], refusal["id"], refusal["topic"]) == ("invalid_features", 2, "music/hall/features")
    assert refusal["detail"][0]["loc"] == ["energy"]
    client.publish("music/hall/features", b"\xff\x00")
    assert read(client.messages(2, "music/hall/genre/error")[1].payload)["error"] == "malformed_payload"
    # What is empty is not answered; what comes after it is.
    client.publish("music/hall/features", b"")
    client.publish("music/hall/features", b"[")
    assert read(client.messages(3, "music/hall/genre/error")[2].payload)["detail"][0]["input"] == "["


def test_a_batch(broker: BrokerProcess, connect: Connect, run: Run) -> None:
    run(broker)
    client = online(connect(broker))
    client.publish("music/hall/features", [ROCK, {**IMPOSSIBLE, "id": "x"}, HIP_HOP])
    rows = read(client.message("music/hall/genre").payload)
    assert [row.get("label") for row in rows] == ["Rock", None, "Hip-Hop"]
    assert rows[1]["id"] == "x"
    client.publish("music/hall/features", [])
    assert read(client.messages(2, "music/hall/genre")[1].payload) == []


def ask_everything(client: Client, qos: int) -> list[tuple[int, bool]]:
    """QoS and retain flag of each kind of answer."""
    client.publish("music/hall/features", ROCK, qos=qos)
    client.publish("music/hall/features", b"?", qos=qos)
    client.publish(f"edge/{NODE}/request/ping", b"", qos=qos)
    answers = ("music/hall/genre", "music/hall/genre/error", f"edge/{NODE}/response/ping")
    return [(message.qos, message.retain) for message in map(client.message, answers)]


def test_a_question_at_qos_1_is_answered_at_qos_1(broker: BrokerProcess, connect: Connect, run: Run) -> None:
    run(broker)
    assert ask_everything(online(connect(broker)), 1) == [(1, False)] * 3


def test_a_question_at_qos_0_is_answered_at_qos_0(mosquitto: MosquittoFactory, connect: Connect, run: Run) -> None:
    # Not with amqtt, which hands everything out at the QoS of the subscription.
    broker = mosquitto()
    run(broker)
    assert ask_everything(online(connect(broker)), 0) == [(0, False)] * 3


def test_a_question_at_qos_2_is_answered_at_qos_1(mosquitto: MosquittoFactory, connect: Connect, run: Run) -> None:
    broker = mosquitto()
    run(broker)
    assert ask_everything(online(connect(broker)), 2) == [(1, False)] * 3


def test_each_message_is_answered_once_and_in_order(broker: BrokerProcess, connect: Connect, run: Run) -> None:
    run(broker)
    client = online(connect(broker))
    for number in range(300):
        client.publish(
            f"music/{number % 3}/features", {**(ROCK if number % 5 else IMPOSSIBLE), "id": number}, wait=False
        )
    answers = [
        read(message.payload)["id"]
        for message in client.messages(600, "music/#")
        if not message.topic.endswith("features")
    ]
    assert answers == list(range(300))
    client.barrier()
    assert len(client.seen("music/#")) == 600


def test_a_stream_at_qos_0_goes_on_and_leaves_nothing_behind(
    mosquitto: MosquittoFactory, connect: Connect, run: Run
) -> None:
    broker = mosquitto()
    agent = run(broker)
    client = online(connect(broker))
    # In portions, since a broker may drop QoS 0 messages that are too many; more in all than may wait to be sent.
    for portion in range(1, 9):
        for _ in range(200):
            client.publish("music/hall/features", ROCK, qos=0, wait=False)
        client.messages(200 * portion, "music/hall/genre")
    link = agent.agent._link
    assert link is not None
    wait_until(lambda: link.in_flight == 0, "nothing in flight")


def test_requests(broker: BrokerProcess, connect: Connect, run: Run) -> None:
    run(broker)
    client = online(connect(broker))
    for verb in ("ping", "info", "reboot"):
        client.publish(f"edge/{NODE}/request/{verb}", b"hello")
    pong = validator(Pong).validate_json(client.message(f"edge/{NODE}/response/ping").payload)
    assert (pong["pong"], pong["node"]) == ("hello", NODE)
    info = validator(Info).validate_json(client.message(f"edge/{NODE}/response/info").payload)
    assert [model["name"] for model in info["models"]] == ["genre"]
    unknown = validator(UnknownVerb).validate_json(client.message(f"edge/{NODE}/response/reboot").payload)
    assert unknown["known"] == ["info", "install", "ping", "status"]


def test_state_and_info_are_retained(broker: BrokerProcess, connect: Connect, run: Run) -> None:
    agent = run(broker)
    online(connect(broker))
    late = connect(broker)
    late.subscribe("edge/#")
    state, info = late.message(STATE), late.message(INFO)
    assert (state.payload, state.retain, info.retain) == (b"online", True, True)
    content = validator(Info).validate_json(info.payload)
    assert content["node"] == NODE
    assert content["mqtt"] == ("5" if MQTTProtocolVersion.MQTTv5 in broker.protocols else "3.1.1")
    assert content["routes"] == [
        {
            "model": "genre",
            "subscribe": "music/{sensor}/features",
            "publish": "music/{sensor}/genre",
            "errors": "music/{sensor}/genre/error",
        }
    ]
    assert agent.stop() < fair(5)
    late.wait_for_payload(STATE, "offline")
    latest = connect(broker)
    latest.subscribe(STATE)
    gone = latest.message(STATE)
    assert (gone.payload, gone.retain) == (b"offline", True)


def test_stopping_loses_nothing(mosquitto: MosquittoFactory, connect: Connect, run: Run) -> None:
    # Not with amqtt, which does not send again what a session has not acknowledged.
    broker = mosquitto()
    agent = run(broker)
    client = online(connect(broker))
    for number in range(50):
        client.publish("music/hall/features", {**ROCK, "id": number}, wait=False)
    client.message("music/hall/genre")
    agent.stop()
    client.wait_for_payload(STATE, "offline")
    answers = [read(message.payload)["id"] for message in client.seen("music/hall/genre")]
    # Those that had arrived are answered, in order and once; the broker keeps the rest for the next connection.
    assert answers == list(range(len(answers)))
    run(broker)
    client.messages(50, "music/hall/genre")
    client.barrier()
    found = {read(message.payload)["id"] for message in client.seen("music/hall/genre")}
    assert found == set(range(50))


def test_everything_is_renewed_after_the_broker_was_away(broker: BrokerProcess, connect: Connect, run: Run) -> None:
    agent = run(broker)
    online(connect(broker))
    broker.kill()
    broker.start()
    # This broker has forgotten everything: session, subscriptions and what was retained.
    client = online(connect(broker))
    client.publish("music/hall/features", ROCK)
    assert read(client.message("music/hall/genre").payload)["label"] == "Rock"
    assert agent.agent.tally.connections == 2


def second_model(directory: Path) -> Path:
    """The bundled model under another name: of the same length, because protobuf counts bytes."""
    content = locate("genre").read_bytes()
    old, new = b'"name":"genre"', b'"name":"metal"'
    assert content.count(old) == 1
    file = directory / "metal.onnx"
    file.write_bytes(seal(content.replace(old, new)))
    return file


def test_several_routes_and_two_models(broker: BrokerProcess, connect: Connect, run: Run, tmp_path: Path) -> None:
    model = str(second_model(tmp_path))
    run(
        broker,
        route=[
            {},
            # The same subscription: one message, an answer of each model.
            {"model": model, "subscribe": "music/{room}/features", "publish": "other/{room}/metal"},
            {"model": model, "subscribe": "other/{a}/{b}/in", "publish": "other/{b}/{a}/out", "errors": "other/bad"},
        ],
    )
    client = online(connect(broker))
    client.publish("music/hall/features", {**ROCK, "id": 1})
    assert read(client.message("music/hall/genre").payload)["model"] == "genre"
    assert read(client.message("other/hall/metal").payload)["model"] == "metal"
    client.publish("music/hall/features", b"?")
    assert read(client.message("music/hall/genre/error").payload)["model"] == "genre"
    assert read(client.message("other/hall/metal/error").payload)["model"] == "metal"
    client.publish("other/x/y/in", HIP_HOP)
    assert read(client.message("other/y/x/out").payload)["label"] == "Hip-Hop"
    client.publish("other/x/y/in", b"[")
    assert read(client.message("other/bad").payload)["topic"] == "other/x/y/in"
    client.barrier()
    # What the node says of itself is left out: it was published while the client subscribed, and amqtt then may send it twice.
    answers = [message.topic for topic in ("music/#", "other/#") for message in client.seen(topic)]
    assert sorted(topic for topic in answers if not topic.endswith(("features", "/in"))) == [
        "music/hall/genre",
        "music/hall/genre/error",
        "other/bad",
        "other/hall/metal",
        "other/hall/metal/error",
        "other/y/x/out",
    ]


def test_health(mosquitto: MosquittoFactory, connect: Connect, run: Run) -> None:
    broker = mosquitto()
    run(broker, health={"interval": 1})
    client = online(connect(broker))
    client.publish("music/hall/features", [ROCK, IMPOSSIBLE])
    client.message("music/hall/genre")
    message = client.wait_for(
        lambda one: one.topic == f"edge/{NODE}/health" and json.loads(one.payload)["predictions"] == 1
    )
    health = validator(Health).validate_json(message.payload)
    assert (health["received"], health["answered"], health["rejections"]) == (1, 1, {"invalid_features": 1})
    assert (health["refused"], health["connections"]) == (0, 1)
    assert not message.retain


def test_drift_is_kept_and_part_of_the_status(mosquitto: MosquittoFactory, connect: Connect, run: Run) -> None:
    broker = mosquitto()
    run(broker, drift={"interval": 1})
    client = online(connect(broker))
    client.publish("music/hall/features", [ROCK, IMPOSSIBLE])
    client.message("music/hall/genre")
    client.wait_for(lambda one: one.topic == f"edge/{NODE}/drift" and json.loads(one.payload)["models"][0]["rows"] == 1)
    late = connect(broker)
    late.subscribe(f"edge/{NODE}/drift")
    kept = late.message(f"edge/{NODE}/drift")
    assert kept.retain
    assert validator(Drift).validate_json(kept.payload)["state"] == "collecting"
    client.publish(f"edge/{NODE}/request/status", b"")
    assert read_status(bytes(client.message(f"edge/{NODE}/response/status").payload))["drift"]["models"][0]["rows"] == 1


def test_content_type_is_looked_at_and_set(mosquitto: MosquittoFactory, connect: Connect, run: Run) -> None:
    broker = mosquitto()
    run(broker)
    client = online(connect(broker))
    client.publish("music/hall/features", ROCK, ContentType="application/json; charset=utf-8")
    assert read(client.message("music/hall/genre").payload)["label"] == "Rock"
    assert client.properties("music/hall/genre")["ContentType"] == "application/json"
    client.publish("music/hall/features", ROCK, ContentType="application/xml")
    assert read(client.message("music/hall/genre/error").payload)["error"] == "unsupported_content_type"


def test_auto_falls_back_where_mqtt_5_is_not_spoken(broker: BrokerProcess, connect: Connect, run: Run) -> None:
    run(broker, mqtt={"protocol": "auto", "connect_timeout": fair(0.3)})
    client = online(connect(broker))
    client.publish(f"edge/{NODE}/request/info")
    spoken = client.json(f"edge/{NODE}/response/info")["mqtt"]
    assert spoken == ("5" if MQTTProtocolVersion.MQTTv5 in broker.protocols else "3.1.1")
    client.publish("music/hall/features", ROCK)
    assert read(client.message("music/hall/genre").payload)["label"] == "Rock"


def test_mosquitto_over_mqtt_3_1_1(mosquitto: MosquittoFactory, connect: Connect, run: Run) -> None:
    broker = mosquitto()
    run(broker, mqtt={"protocol": "3.1.1"})
    client = online(connect(broker))
    client.publish("music/hall/features", ROCK)
    assert read(client.message("music/hall/genre").payload)["label"] == "Rock"
    client.publish(f"edge/{NODE}/request/info")
    assert client.json(f"edge/{NODE}/response/info")["mqtt"] == "3.1.1"
