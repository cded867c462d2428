"""WebSockets and unix sockets against Mosquitto, alone and under load."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.brokers import HOST, Mosquitto, free_port
from tests.certificates import Authority
from tests.contract.agents import STATE, RunningAgent, plainly, wait_for_line, wait_until
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import ROCK
from tests.patience import fair
from tests.requirements import lacking

TRANSPORTS = ["websockets", "websockets with TLS", "unix"]


class Set(NamedTuple):
    """A broker with a plain TCP listener for the test's client, and the agent's settings for its other one."""

    broker: Mosquitto
    port: int
    mqtt: dict[str, Any]


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def start(broker: Mosquitto) -> None:
    try:
        broker.start()
    except RuntimeError:
        if "support not available" in broker.log().lower() or "Invalid protocol value" in broker.log():
            lacking("this Mosquitto was built without WebSockets")
        raise


@pytest.fixture
def listening(mosquitto: MosquittoFactory, tmp_path: Path) -> Callable[[str], Set]:
    def make(transport: str) -> Set:
        port = free_port()
        mqtt: dict[str, Any] = {"transport": transport.partition(" ")[0], "connect_timeout": min(60.0, fair(5.0))}
        if transport == "unix":
            mqtt["socket"] = tmp_path / "mqtt.sock"
            lines = [f"listener 0 {mqtt['socket']}"]
        else:
            lines = [f"listener {port} {HOST}", "protocol websockets"]
        if "TLS" in transport:
            authority = Authority(tmp_path)
            pair = authority.issue("broker")
            lines += [f"certfile {pair.certificate}", f"keyfile {pair.key}"]
            mqtt["tls"] = {"ca": str(authority.file)}
        broker = mosquitto(lines=[*lines, "max_queued_messages 0"], start=False)
        start(broker)
        return Set(broker, port, mqtt)

    return make


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_thousands_of_messages_and_large_answers(
    listening: Callable[[str], Set], connect: Connect, transport: str
) -> None:
    made = listening(transport)
    client = connect(made.broker)
    client.subscribe(STATE, "music/+/genre")
    with RunningAgent(made.port, mqtt=made.mqtt) as agent:
        client.wait_for_payload(STATE, "online")
        for number in range(2000):
            client.publish("music/hall/features", {**ROCK, "id": number}, wait=False)
            if number % 1000 == 0:
                # Short questions with long answers: Mosquitto 2.0.11 itself sends long messages over WebSockets at
                # 4 kB in 100 ms, and with TLS it may stop in the midst of one, whoever listens.
                client.publish("music/room/features", [ROCK, *[{}] * 3000], wait=False)
        answers = client.messages(2000, "music/hall/genre")
        large = client.messages(2, "music/room/genre")
        wait_until(lambda: agent.agent.tally.acknowledged == 2002, "everything acknowledged")
        assert agent.agent.tally.connections == 1
    assert [b'"id":%d}' % number in answer.payload for number, answer in enumerate(answers)] == [True] * 2000
    assert min(len(answer.payload) for answer in large) > 500_000
    client.wait_for_payload(STATE, "offline")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_paho_that_opens_its_sockets_elsewhere(
    listening: Callable[[str], Set], connect: Connect, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.link.link.prepare", plainly)
    made = listening(transport)
    client = connect(made.broker)
    client.subscribe(STATE, "music/+/genre")
    with RunningAgent(made.port, mqtt=made.mqtt):
        client.wait_for_payload(STATE, "online")
        client.publish("music/hall/features", ROCK, qos=1)
        assert client.json("music/hall/genre")["label"] == "Rock"
    client.wait_for_payload(STATE, "offline")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_it_comes_back_with_the_broker(
    listening: Callable[[str], Set], connect: Connect, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = listening(transport)
    client = connect(made.broker)
    client.subscribe(STATE)
    with RunningAgent(made.port, mqtt=made.mqtt):
        client.wait_for_payload(STATE, "online")
        client.close()
        made.broker.kill()
        wait_for_line(caplog, "no connection: ", "that the broker runs; trying again in")
        made.broker.start()
        again = connect(made.broker)
        again.subscribe(STATE)
        again.wait_for_payload(STATE, "online")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_will_says_offline(listening: Callable[[str], Set], connect: Connect, transport: str) -> None:
    made = listening(transport)
    client = connect(made.broker)
    client.subscribe(STATE)
    with RunningAgent(made.port, mqtt=made.mqtt) as agent:
        client.wait_for_payload(STATE, "online")
        link = agent.agent._link
        assert link is not None
        # The cable is pulled: the connection ends below whatever lies over TCP.
        with socket.socket(fileno=socket.dup(link._wire.fileno())) as cable:  # type: ignore[attr-defined]
            cable.shutdown(socket.SHUT_RDWR)
        client.wait_for_payload(STATE, "offline")
        client.wait_for_payload(STATE, "online")


def test_websockets_to_a_port_of_plain_mqtt(mosquitto: MosquittoFactory, caplog: pytest.LogCaptureFixture) -> None:
    broker = mosquitto()
    with RunningAgent(broker.port, mqtt={"transport": "websockets"}):
        line = wait_for_line(caplog, "no WebSocket: ", "; check mqtt.port and mqtt.path; trying again in")
        assert f"broker ws://{HOST}:{broker.port}/mqtt: " in line


def test_plain_mqtt_to_a_port_of_websockets(listening: Callable[[str], Set], caplog: pytest.LogCaptureFixture) -> None:
    with RunningAgent(listening("websockets").port):
        wait_for_line(caplog, "or for WebSockets (mqtt.transport)?", "trying again in")


def test_a_server_that_says_nothing_has_its_time(caplog: pytest.LogCaptureFixture) -> None:
    slow = {"transport": "websockets", "connect_timeout": 0.1}
    with socket.create_server((HOST, 0)) as silent, RunningAgent(silent.getsockname()[1], mqtt=slow):
        wait_for_line(caplog, "no WebSocket: the server's response does not end", "trying again in")


def test_a_unix_socket_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "nobody.sock"
    with RunningAgent(1, mqtt={"transport": "unix", "socket": str(path)}):
        wait_for_line(caplog, f"broker {path}: no connection: No such file or directory; check mqtt.socket, its")
