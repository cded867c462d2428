"""What MQTT 5 adds: a response topic with correlation data, and what is carried over from question to answer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.brokers import Mosquitto
from tests.contract.agents import NODE, STATE, RunningAgent
from tests.contract.client import Client
from tests.contract.conftest import Connect
from tests.e2e.tracks import ROCK

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
        MessageExpiryInterval=60,
        ContentType="application/json; charset=utf-8",
    )
    client.message(OUT)
    properties = client.properties(OUT)
    assert properties["UserProperty"] == [TRACE, ("a", "1"), ("a", "2")]
    assert properties["ContentType"] == "application/json"
    assert 55 <= properties["MessageExpiryInterval"] <= 60


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
