"""paho behind a buffered socket: what it calls of it, and what happens where it can't have one.

The suite runs with the oldest and the newest paho, so that a new one that keeps its socket elsewhere is noticed here.
"""

from __future__ import annotations

import json
import logging
import socket
from types import SimpleNamespace
from typing import Any, cast

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent._stream import BufferedSocket, install
from tests.brokers import BrokerProcess
from tests.contract.agents import STATE, RunningAgent
from tests.contract.conftest import Connect
from tests.e2e.tracks import ROCK


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield BufferedSocket(ours), theirs


def test_this_paho_takes_the_buffer(broker: BrokerProcess) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=broker.protocols[0])
    client.connect(broker.host, broker.port)
    assert isinstance(install(client), BufferedSocket)
    assert isinstance(client.socket(), BufferedSocket)
    client.disconnect()


def test_a_paho_that_keeps_its_socket_elsewhere_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    other = SimpleNamespace(socket=object)
    with caplog.at_level(logging.WARNING):
        assert install(cast("paho.Client", other)) is None
    assert "slower" in caplog.text


def test_the_agent_works_without_it(broker: BrokerProcess, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.broker.install", lambda _client: None)
    client = connect(broker)
    protocol = "3.1.1" if broker.name == "amqtt" else "5"
    with RunningAgent(broker.port, mqtt={"protocol": protocol}):
        client.subscribe("music/+/genre", STATE)
        client.wait_for_payload(STATE, "online")
        client.publish("music/hall/features", json.dumps(ROCK), qos=1)
        assert client.json("music/hall/genre")["label"] == "Rock"
    client.wait_for_payload(STATE, "offline")


def test_it_reads_ahead_and_says_so(pair: tuple[BufferedSocket, socket.socket]) -> None:
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    theirs.sendall(b"abcdef")
    assert [ours.recv(1), ours.recv(2), ours.pending(), ours.recv(10), ours.pending()] == [b"a", b"bc", 3, b"def", 0]
    theirs.shutdown(socket.SHUT_WR)
    assert ours.recv(1) == b""


def test_it_keeps_what_is_sent_until_the_socket_takes_it(pair: tuple[BufferedSocket, socket.socket]) -> None:
    ours, theirs = pair
    data = bytes(range(256)) * 8192
    assert ours.send(data) == len(data)
    ours.flush()
    assert 0 < ours.unsent < len(data)
    received = b""
    while ours.unsent:
        received += theirs.recv(1 << 16)
        ours.flush()
    theirs.settimeout(5)
    ours.close()
    while part := theirs.recv(1 << 16):
        received += part
    assert received == data


def test_closing_writes_what_is_kept(pair: tuple[BufferedSocket, socket.socket]) -> None:
    ours, theirs = pair
    ours.send(b"\xe0\x00")
    ours.close()
    assert theirs.recv(10) == b"\xe0\x00"
