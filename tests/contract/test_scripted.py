"""What a broker may do and Mosquitto does not, or must not do: topic aliases, and packets that are not MQTT."""

from __future__ import annotations

import json
import logging
import socket
import struct

import pytest

from edge_agent.host import logs
from edge_agent.link.packets import bounds
from tests.brokers import HOST
from tests.contract.agents import STATE, RunningAgent, plainly, wait_for_line
from tests.contract.scripted import ScriptedBroker
from tests.e2e.tracks import ROCK
from tests.patience import fair

PAYLOAD = json.dumps(ROCK).encode()
GENRE = "music/hall/genre"


def publish(packet_id: int, topic: str = "", properties: bytes = b"", payload: bytes = PAYLOAD) -> bytes:
    """A PUBLISH at QoS 1, MQTT 5."""
    body = len(topic).to_bytes(2) + topic.encode() + packet_id.to_bytes(2) + bytes((len(properties),)) + properties
    size, length = len(body + payload), b""
    while size >= 0x80:
        length += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return b"\x32" + length + bytes((size,)) + body + payload


def alias(number: int) -> bytes:
    return b"\x23" + number.to_bytes(2)


def answers(broker: ScriptedBroker) -> list[str]:
    return [event.topic for event in broker.published if event.topic.startswith("music/")]


def test_a_number_stands_for_a_topic() -> None:
    script = (
        publish(1, "music/hall/features", alias(1))
        + publish(2, "music/attic/features", alias(100))
        + publish(3, "", alias(1))
        + publish(4, "", alias(100))
        + publish(5, "music/cellar/features", alias(1))
        + publish(6, "", alias(1))
    )
    with ScriptedBroker(lambda _: script) as broker, RunningAgent(broker.port):
        broker.wait(lambda: len(broker.acknowledged) == 6, "not all were acknowledged")
        assert answers(broker) == [
            f"music/{room}/genre" for room in ("hall", "attic", "hall", "attic", "cellar", "cellar")
        ]
        assert b"\x22\x00\x64" in broker.connect, "Topic Alias Maximum 100"


def test_aliases_end_with_their_connection(caplog: pytest.LogCaptureFixture) -> None:
    scripts = {1: publish(1, "music/hall/features", alias(1)) + b"\x00\x00", 2: publish(1, "", alias(1))}
    with (
        caplog.at_level(logging.WARNING),
        ScriptedBroker(lambda number: scripts.get(number, publish(1, "music/hall/features"))) as broker,
        RunningAgent(broker.port),
    ):
        broker.wait(lambda: broker.acknowledged == [1], "the third connection's message is not acknowledged")
    assert "sent what is not MQTT 5: the topic alias 1" in caplog.text
    assert broker.connections >= 3


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"\x32\xff\xff\xff\xff\x01", id="a length of five bytes"),
        pytest.param(b"\x32\x02\x00\x09", id="a topic that is cut"),
        pytest.param(publish(1, "music/hall/features", b"\x13\x00\x01"), id="a property of CONNECT"),
        pytest.param(b"\x40\x01\x00", id="half a packet id"),
        pytest.param(b"\x00\x00", id="a packet that does not exist"),
        pytest.param(b"\xf0\xff\xff\xff\x7f" + b"x" * 5_000_000, id="a packet that is too large"),
    ],
)
def test_what_is_not_mqtt_ends_the_connection_and_the_next_one_works(
    broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    fine = publish(7, "music/hall/features")
    with (
        caplog.at_level(logging.WARNING),
        ScriptedBroker(lambda number: broken if number == 1 else fine) as broker,
        RunningAgent(broker.port),
    ):
        broker.wait(lambda: broker.acknowledged == [7], "the second connection's message is not acknowledged")
        assert answers(broker) == [GENRE]
    lines = [record.getMessage() for record in caplog.records if "trying again" in record.getMessage()]
    assert len(lines) == 1


def test_what_a_broker_says_commands_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    words = "\x1b]0;pwned\x07\x9b31m\u202ego away\n<0>fake".encode()
    said = b"\x1f" + struct.pack("!H", len(words)) + words
    goodbye = b"\xe0" + bytes([2 + len(said)]) + b"\x8b" + bytes([len(said)]) + said
    fine = publish(7, "music/hall/features")
    with (
        caplog.at_level(logging.WARNING),
        ScriptedBroker(lambda number: goodbye if number == 1 else fine) as broker,
        RunningAgent(broker.port),
    ):
        broker.wait(lambda: broker.acknowledged == [7], "the second connection's message is not acknowledged")
    lines = [logs._OneLine("%(message)s").format(record) for record in caplog.records]
    (line,) = [line for line in lines if "go away" in line]
    assert "\\x1b]0;pwned\\x07\\x9b31m\\u202ego away\\n<0>fake" in line
    assert all(line.isprintable() for line in lines)


def test_a_payload_beyond_the_limit_is_answered_and_costs_no_memory() -> None:
    large = publish(1, "music/hall/features", payload=b" " * 50_000_000) + publish(2, "music/hall/features")
    assert bounds(large, 0) is not None
    with ScriptedBroker(lambda _: large) as broker, RunningAgent(broker.port, limits={"payload_bytes": 1000}):
        broker.wait(lambda: broker.acknowledged == [1, 2], "not both were acknowledged")
        rejection, prediction = [event for event in broker.published if event.topic.startswith("music/")]
    assert json.loads(rejection.payload)["error"] == "payload_too_large"
    assert json.loads(rejection.payload)["detail"][0]["msg"] == "The payload has more than 1000 bytes"
    assert json.loads(prediction.payload)["label"] == "Rock"


def test_what_a_broker_sends_past_the_receive_maximum_is_left_for_the_next_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flood = b"".join(publish(number, "music/hall/features") for number in range(1, 1001))
    rest = b"".join(publish(number, "music/hall/features") for number in range(501, 1001))
    with (
        caplog.at_level(logging.WARNING),
        ScriptedBroker(lambda number: flood if number == 1 else rest) as broker,
        RunningAgent(broker.port, mqtt={"receive_maximum": 100}),
    ):
        broker.wait(lambda: len(broker.acknowledged) == 1000, "not all were acknowledged")
    assert broker.acknowledged == list(range(1, 1001))
    assert broker.connections == 2
    assert "more than 5 times mqtt.receive_maximum (100) at once" in caplog.text


def test_what_is_held_is_bounded_when_a_broker_confirms_nothing() -> None:
    flood = b"".join(publish(number, "music/hall/features") for number in range(1, 1001))
    with (
        ScriptedBroker(lambda _: flood, confirms=False) as broker,
        RunningAgent(broker.port, mqtt={"receive_maximum": 100}) as agent,
    ):
        broker.wait(lambda: len(broker.published) >= 500, "not as many answers as may be held")
        assert agent.agent.tally.received == 500
        assert broker.acknowledged == []


def test_a_broker_that_confirms_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """It lives, and answers pings; the wait is the shortest keep-alive that can be set."""
    flood = b"".join(publish(number, "music/hall/features") for number in range(1, 101))
    with (
        caplog.at_level(logging.WARNING),
        ScriptedBroker(lambda _: flood, confirms=False) as broker,
        RunningAgent(broker.port, mqtt={"keepalive": 5}),
    ):
        line = wait_for_line(caplog, "has not confirmed a message for 5 s")
    assert "inputs not acknowledged: 100" in line
    assert broker.acknowledged == []
    assert broker.connections == 1


def test_a_long_queue_may_come_before_the_subscriptions_are_granted() -> None:
    """It takes longer than a handshake may, three connect timeouts, and there is something all the time."""
    timeout = fair(0.2)
    queue = [publish(number, "music/hall/features") for number in range(1, 21)]
    with (
        ScriptedBroker(lambda _: b"", queue=queue, pace=timeout / 4) as broker,
        RunningAgent(broker.port, mqtt={"connect_timeout": timeout}),
    ):
        broker.wait(lambda: any(event.topic == STATE for event in broker.published), "it does not say that it is there")
    assert broker.connections == 1
    assert broker.acknowledged[:20] == list(range(1, 21))


def test_a_refused_subscription_that_is_granted_later_makes_the_node_online(caplog: pytest.LogCaptureFixture) -> None:
    def said() -> list[bytes]:
        return [event.payload for event in broker.published if event.topic == STATE]

    with (
        caplog.at_level(logging.INFO),
        ScriptedBroker(lambda _: b"", grants=lambda number: 0x87 if number == 1 else 1) as broker,
        RunningAgent(broker.port) as agent,
    ):
        broker.wait(lambda: said() == [b"degraded"], "it does not say that a subscription was refused")
        agent.reload(broker.port)
        broker.wait(lambda: said() == [b"degraded", b"online"], "it does not say that it was granted")
    assert "refused: Not authorized" in caplog.text
    assert "all subscriptions are granted now" in caplog.text
    assert (broker.connections, said()[-1]) == (1, b"offline")


#: "Session taken over" as Mosquitto 2.0.21 sends it: a reason with no properties behind it, which paho 2.1.0 drops.
TAKEN_OVER = b"\xe0\x01\x8e"
OTHER = "another client uses our client id, 'edge-agent-kitchen': give each agent its own node.id or mqtt.client_id"


@pytest.mark.parametrize(
    ("goodbye", "words"),
    [
        pytest.param(TAKEN_OVER, "Session taken over; ", id="a reason"),
        pytest.param(b"\xe0\x02\x8e\x00", "Session taken over; ", id="a reason with no properties"),
        pytest.param(b"\xe0\x06\x8e\x04\x1f\0\x01x", "Session taken over ('x'); ", id="and the broker's own words"),
        pytest.param(b"\xe0\x06\x8e\x04\x1c\0\x01x", "Session taken over; ", id="with a property we do not know"),
        pytest.param(b"\xe0\0", "without a reason from the broker; if this repeats, ", id="none"),
    ],
)
def test_the_reason_of_a_disconnect_is_told(goodbye: bytes, words: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        ScriptedBroker(lambda number: goodbye if number == 1 else b"") as broker,
        RunningAgent(broker.port),
    ):
        broker.wait(lambda: broker.subscribed == 2, "it does not come back")
    (line,) = [record.getMessage() for record in caplog.records if "trying again" in record.getMessage()]
    assert f"the connection ended: {words}{OTHER}" in line


def test_the_slow_lane_does_not_pass_off_a_dropped_reason_as_a_normal_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.link.link.prepare", plainly)
    with (
        caplog.at_level(logging.WARNING),
        ScriptedBroker(lambda number: TAKEN_OVER if number == 1 else b"") as broker,
        RunningAgent(broker.port),
    ):
        broker.wait(lambda: broker.subscribed == 2, "it does not come back")
    (line,) = [record.getMessage() for record in caplog.records if "trying again" in record.getMessage()]
    assert OTHER in line
    assert "Normal disconnection" not in line


def test_a_broker_that_says_nothing_is_told_within_the_connect_timeout(caplog: pytest.LogCaptureFixture) -> None:
    timeout = round(fair(0.2), 1)
    with (
        caplog.at_level(logging.WARNING),
        socket.create_server((HOST, 0)) as silent,
        RunningAgent(silent.getsockname()[1], mqtt={"connect_timeout": timeout}),
    ):
        line = wait_for_line(caplog, f"no answer to CONNECT for {timeout:g} s; is it an MQTT broker? Still waiting")
        # It is the first thing that is said: nothing is given up yet.
        assert next(iter(caplog.records)).getMessage() == line
