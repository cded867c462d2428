"""What MQTT 5 adds: a response topic with correlation data, and what is carried over from question to answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Mosquitto
from tests.contract.agents import NODE, STATE, RunningAgent
from tests.contract.client import Client
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import ROCK
from tests.patience import DEADLINE

IN, OUT, ERROR = "music/hall/features", "music/hall/genre", "music/hall/genre/error"
TRACE = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


@pytest.fixture
def client(server: Mosquitto, connect: Connect) -> Iterator[Client]:
    client = connect(server)
    with RunningAgent(server.port):
        client.subscribe("music/+/genre/#", "+/response/#", "edge/#", "lamp/#")
        client.wait_for_payload(STATE, "online")
        yield client


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize(("payload", "key"), [(json.dumps(ROCK), "label"), ("{}", "error")])
def test_the_answer_goes_to_the_response_topic_with_its_correlation_data(
    client: Client, qos: int, payload: str, key: str
) -> None:
    client.publish(IN, payload, qos=qos, ResponseTopic="client7/response/7", CorrelationData=b"\x00seven")
    assert key in client.json("client7/response/7")
    assert client.properties("client7/response/7")["CorrelationData"] == b"\x00seven"
    client.barrier()
    assert not client.seen(OUT) + client.seen(ERROR)


@pytest.mark.parametrize(
    "topic",
    [
        IN,
        "music/other/features",
        "music/other/genre",
        "music/other/genre/error",
        f"edge/{NODE}/state",
        f"edge/{NODE}/request/info",
        "lamp/set",
    ],
)
def test_nobody_makes_the_agent_speak_to_itself_or_in_the_name_of_a_node(client: Client, topic: str) -> None:
    client.publish(IN, json.dumps(ROCK), ResponseTopic=topic)
    assert client.json(OUT)["label"] == "Rock"
    client.barrier()
    assert [message.payload for message in client.seen(f"edge/{NODE}/state")] == [b"online"]
    assert not client.seen("music/other/genre") + client.seen("music/other/genre/error") + client.seen("lamp/set")


def test_a_request_is_answered_on_its_response_topic(client: Client) -> None:
    client.publish(f"edge/{NODE}/request/ping", "hello", ResponseTopic="client7/response/ping", CorrelationData=b"1")
    assert client.json("client7/response/ping")["pong"] == "hello"
    assert client.properties("client7/response/ping")["CorrelationData"] == b"1"


def test_user_properties_content_type_and_expiry_are_carried_over(client: Client) -> None:
    client.publish(
        IN,
        json.dumps(ROCK),
        UserProperty=[TRACE, ("a", "1"), ("a", "2")],
        MessageExpiryInterval=3600,
        ContentType="application/json; charset=utf-8",
    )
    client.message(OUT)
    properties = client.properties(OUT)
    assert properties["UserProperty"] == [TRACE, ("a", "1"), ("a", "2")]
    assert properties["ContentType"] == "application/json"
    # Whole seconds that it waited in broker and agent are gone.
    assert 3600 - DEADLINE <= properties["MessageExpiryInterval"] <= 3600


def test_a_message_asks_why(client: Client) -> None:
    for wish, key in (("path", "conditions"), ("shap", "values"), ("why?", "reason")):
        client.forget()
        client.publish(IN, json.dumps(ROCK), UserProperty=[("explain", wish)])
        assert key in client.json(OUT)["explanation"]
        assert client.properties(OUT)["UserProperty"] == [("explain", wish)]


def test_a_message_that_carries_nothing_is_answered_with_nothing(client: Client) -> None:
    client.publish(IN, json.dumps(ROCK))
    client.message(OUT)
    assert client.properties(OUT) == {"ContentType": "application/json"}


def test_another_content_type_is_refused_with_a_reason(client: Client) -> None:
    client.publish(IN, json.dumps(ROCK), ContentType="text/csv", CorrelationData=b"x")
    assert client.json(ERROR)["error"] == "unsupported_content_type"
    assert client.properties(ERROR)["CorrelationData"] == b"x"


def test_senml_is_answered_in_senml(client: Client) -> None:
    records = [{"bn": "urn:dev:ow:1:", "bt": 1700000000}, *({"n": name, "v": value} for name, value in ROCK.items())]
    client.publish(IN, json.dumps(records), ContentType="application/senml+json")
    answer = client.json(OUT)
    assert answer[0] == {"bn": "urn:dev:ow:1:", "bt": 1700000000, "n": "label", "vs": "Rock"}
    assert {record["n"] for record in answer} >= {"confidence", "probability/Rock", "probability/Hip-Hop", "version"}
    assert client.properties(OUT)["ContentType"] == "application/senml+json"
    client.publish(IN, json.dumps(records[:-1]), ContentType="application/senml+json", CorrelationData=b"x")
    assert client.json(ERROR)[0] == {"bn": "urn:dev:ow:1:", "bt": 1700000000, "n": "error", "vs": "invalid_features"}
    properties = client.properties(ERROR)
    assert (properties["ContentType"], properties["CorrelationData"]) == ("application/senml+json", b"x")


def test_what_is_too_large_to_be_carried_over_is_left_and_the_log_says_so(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.publish(IN, json.dumps(ROCK), UserProperty=[TRACE, ("a", "x" * 5000)], CorrelationData=b"x" * 1025)
    client.message(OUT)
    assert client.properties(OUT) == {"ContentType": "application/json"}
    client.publish(IN, json.dumps(ROCK), qos=1)
    client.message(OUT)
    assert "Correlation Data of more than 1024 bytes and User Properties of more than 4096 bytes" in caplog.text


#: The rules of docs/security.md, and a client that may write one sensor's features and read what is answered to it.
RULES = f"""
topic readwrite test/#
user agent
topic readwrite edge/{NODE}/#
topic read music/+/features
topic write music/+/genre
topic write music/+/genre/error
topic write +/response/#
user sensor
topic write music/x/features
topic read sensor/response/#
user watcher
topic readwrite #
"""


def test_a_client_that_may_write_one_sensor_has_no_label_published_for_another(
    mosquitto: MosquittoFactory, connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush")
    broker = mosquitto(users=dict.fromkeys(("agent", "sensor", "watcher"), "hush"), acl=RULES)
    watcher, sensor = (connect(broker, username=name, password="hush") for name in ("watcher", "sensor"))  # noqa: S106
    watcher.subscribe("music/+/genre", "music/+/genre/error", "edge/#")
    with RunningAgent(broker.port, mqtt={"username": "agent", "password_file": str(secret)}) as agent:
        watcher.wait_for_payload(STATE, "online")
        sensor.subscribe("sensor/response/#")
        forged = ["music/y/genre", "music/y/genre/error", f"edge/{NODE}/info", "music/y/features"]
        for topic in forged:
            sensor.publish("music/x/features", json.dumps(ROCK), qos=1, ResponseTopic=topic)
        sensor.publish(
            "music/x/features", json.dumps(ROCK), qos=1, ResponseTopic="sensor/response/1", CorrelationData=b"1"
        )
        # The request/response user has his answer; the others went where they go anyway.
        assert sensor.json("sensor/response/1")["label"] == "Rock"
        watcher.messages(len(forged), "music/x/genre")
        watcher.barrier()
        assert not watcher.seen("music/y/genre") + watcher.seen("music/y/genre/error")
        assert agent.agent.tally.refused == 0
    assert "Response Topic not followed" in caplog.text


def test_of_routes_that_share_a_topic_the_first_answers(
    mosquitto: MosquittoFactory, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    broker = mosquitto()
    routes = [
        {"subscribe": "tele/{device}/SENSOR", "publish": "out/tele/{device}/label"},
        {"subscribe": "{device}/status/{part}", "publish": "out/status/{device}/label"},
    ]
    client = connect(broker)
    client.subscribe("out/#", STATE)
    with caplog.at_level(logging.INFO), RunningAgent(broker.port, route=routes):
        client.wait_for_payload(STATE, "online")
        for topic in ("tele/attic/SENSOR", "attic/status/x", "tele/status/SENSOR"):
            client.publish(topic, json.dumps(ROCK), qos=1)
        client.message("out/tele/status/label")
        client.barrier()
        answered = [message.topic for message in client.seen() if message.topic.startswith("out/")]
    # Mosquitto sends one such message for each subscription over MQTT 5, so it may be answered twice; by no other route.
    assert list(dict.fromkeys(answered)) == ["out/tele/attic/label", "out/status/attic/label", "out/tele/status/label"]
    assert answered.count("out/tele/status/label") <= 2
    assert "routes 1 and 2 both take 'tele/status/SENSOR': route 1, which comes first, gets it" in caplog.text
