"""The fast lane: what paho calls of the socket that stands in for its own, and what happens where it can't have one.

The suite runs with the oldest and the newest paho, so that a new one that keeps its socket elsewhere is noticed here.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.contract.messages import Answer, Carried
from edge_agent.link import packets
from edge_agent.link.fast_lane import Stream, prepare
from edge_agent.link.link import Address
from edge_agent.link.packets import Puback, Publish
from edge_agent.link.slow_lane import Plain
from tests.brokers import BrokerProcess
from tests.contract.agents import STATE, RunningAgent, plainly, wait_until
from tests.contract.conftest import Connect
from tests.e2e.tracks import ROCK

LIMIT = 1000


class Paho:
    """What a `Stream` needs of a client: it is told when there is a packet for it."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.packets: list[bytes] = []

    def loop_read(self) -> None:
        assert self.stream is not None
        try:
            self.packets.append(self.stream.recv(1 << 20))
        except OSError as error:
            self.packets.append(repr(error).encode())


@pytest.fixture
def client() -> Paho:
    return Paho()


@pytest.fixture
def pair(client: Paho) -> Iterator[tuple[Stream, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        client.stream = Stream(cast("paho.Client", client), ours, is_5=True, max_payload=LIMIT)
        yield client.stream, theirs


def a_publish(payload: bytes, packet_id: int = 7, **more: object) -> bytes:
    return packets.publish(Answer("music/hall/features", payload, 1, **more), packet_id, is_5=True)  # type: ignore[arg-type]


def test_this_paho_takes_it(broker: BrokerProcess) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=broker.protocols[0])
    address = Address(client_id="one", host=broker.host, port=broker.port)
    stream = prepare(client, address, is_5=True, max_payload=LIMIT)
    client.connect(broker.host, broker.port)
    assert isinstance(stream, Stream)
    assert client.socket() is stream
    client.disconnect()


def test_a_paho_that_opens_its_sockets_elsewhere_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    other = cast("paho.Client", SimpleNamespace(socket=object))
    with caplog.at_level(logging.WARNING):
        assert isinstance(prepare(other, Address(client_id="one"), is_5=True, max_payload=LIMIT), Plain)
    assert "slower" in caplog.text


@pytest.mark.parametrize("qos", [0, 1])
def test_the_agent_works_without_it(
    broker: BrokerProcess, connect: Connect, monkeypatch: pytest.MonkeyPatch, qos: int
) -> None:
    monkeypatch.setattr("edge_agent.link.link.prepare", plainly)
    client = connect(broker)
    protocol = "3.1.1" if broker.name == "amqtt" else "5"
    with RunningAgent(broker.port, mqtt={"protocol": protocol}) as running:
        client.subscribe("music/+/genre", STATE)
        client.wait_for_payload(STATE, "online")
        for number in range(50):
            client.publish("music/hall/features", json.dumps({**ROCK, "id": number}), qos=qos)
        answers = client.messages(50, "music/hall/genre")
        assert [json.loads(answer.payload)["id"] for answer in answers] == list(range(50))
        wait_until(lambda: running.agent.tally.acknowledged >= 50 * qos, "not all were acknowledged")
    client.wait_for_payload(STATE, "offline")


def test_without_it_too_a_lost_connection_is_made_again(
    broker: BrokerProcess, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """paho has let go of its socket by then."""
    monkeypatch.setattr("edge_agent.link.link.prepare", plainly)
    protocol = "3.1.1" if broker.name == "amqtt" else "5"
    with RunningAgent(broker.port, mqtt={"protocol": protocol}) as running:
        wait_until(lambda: running.agent.tally.connections == 1, "connected")
        broker.restart()
        client = connect(broker)
        client.subscribe(STATE)
        client.wait_for_payload(STATE, "online")


def test_messages_go_past_paho_and_the_rest_to_it(pair: tuple[Stream, socket.socket], client: Paho) -> None:
    stream, broker = pair
    broker.sendall(a_publish(b"one") + b"\xd0\x00" + packets.puback(3) + a_publish(b"two", 8))
    assert stream.receive() == [
        Publish("music/hall/features", b"one", 1, 7, content_type="application/json"),
        Puback(3),
        Publish("music/hall/features", b"two", 1, 8, content_type="application/json"),
    ]
    assert client.packets == [b"\xd0\x00"]
    with pytest.raises(BlockingIOError):
        stream.recv(1)


def test_packets_come_in_any_pieces(pair: tuple[Stream, socket.socket], client: Paho) -> None:
    stream, broker = pair
    carried = Carried(b"7", (("traceparent", "00-1"),), 60)
    whole = b"\x90\x04\x00\x01\x00\x01" + a_publish(b"x" * 300, carried=carried) + packets.puback(3)
    events = []
    for byte in whole:
        broker.send(bytes((byte,)))
        events += stream.receive()
    assert events == [
        Publish("music/hall/features", b"x" * 300, 1, 7, content_type="application/json", carried=carried),
        Puback(3),
    ]
    assert client.packets == [b"\x90\x04\x00\x01\x00\x01"]


@pytest.mark.parametrize("extra", [1, 300_000, 3_000_000])
def test_of_a_payload_that_is_too_large_a_bounded_part_is_kept(pair: tuple[Stream, socket.socket], extra: int) -> None:
    stream, broker = pair
    whole = a_publish(b"x" * (LIMIT + extra)) + a_publish(b"next", 8)
    events = []
    broker.setblocking(False)
    while whole:
        whole = whole[broker.send(whole) :]
        events += stream.receive()
        assert len(stream._unread) < 1_000_000
    large, following = cast("list[Publish]", [*events, *stream.receive()])
    assert (large.topic, large.packet_id) == ("music/hall/features", 7)
    assert LIMIT < len(large.payload) <= LIMIT + max(extra, 300_000)
    assert following.payload == b"next"


def test_properties_without_end_are_not_kept_either(pair: tuple[Stream, socket.socket]) -> None:
    stream, broker = pair
    endless = Carried(None, (("name", "x" * 60_000),) * 50, None)
    whole = a_publish(b"", carried=endless) + a_publish(b"next", 8)
    broker.setblocking(False)
    events = []
    while whole:
        whole = whole[broker.send(whole) :]
        events += stream.receive()
    large, following = cast("list[Publish]", [*events, *stream.receive()])
    assert (large.topic, large.packet_id) == ("music/hall/features", 7)
    assert len(large.payload) > LIMIT, "so that the message is refused as too large"
    assert following.payload == b"next"


def test_the_end_is_left_to_paho(pair: tuple[Stream, socket.socket], client: Paho) -> None:
    stream, broker = pair
    broker.close()
    assert stream.receive() == []
    assert client.packets == [b""]


def test_an_error_is_left_to_paho(pair: tuple[Stream, socket.socket], client: Paho) -> None:
    stream, _ = pair
    stream._sock.close()
    assert stream.receive() == []
    assert b"Bad file descriptor" in client.packets[0]


def test_what_is_sent_waits_for_flush(pair: tuple[Stream, socket.socket]) -> None:
    stream, broker = pair
    broker.setblocking(False)
    stream.send(b"\xc0\x00")
    stream.acknowledge(9)
    with pytest.raises(BlockingIOError):
        broker.recv(1)
    assert stream.backlog == 6
    stream.flush()
    assert broker.recv(100) == b"\xc0\x00\x40\x02\x00\x09"
    assert stream.backlog == 0


def test_what_the_socket_does_not_take_is_kept(pair: tuple[Stream, socket.socket]) -> None:
    stream, broker = pair
    payload = bytes(range(256)) * 40_000
    stream.send(payload)
    stream.flush()
    assert stream.backlog > 0
    received = bytearray()
    while len(received) < len(payload):
        received += broker.recv(1 << 20)
        stream.flush()
    assert received == payload


def test_packet_ids_go_round_and_leave_out_those_in_use(pair: tuple[Stream, socket.socket]) -> None:
    stream, _ = pair
    answer = Answer("t", b"", 1)
    assert [stream.publish(answer, {2}) for _ in range(3)] == [1, 3, 4]
    stream._last_packet_id = 65_534
    assert [stream.publish(answer, {1, 2}) for _ in range(2)] == [65_535, 3]
    assert stream.publish(Answer("t", b"", 0), {}) == 0


def test_close_writes_what_is_kept(pair: tuple[Stream, socket.socket]) -> None:
    stream, broker = pair
    stream.send(b"\xe0\x00")
    stream.close()
    assert broker.recv(100) == b"\xe0\x00"
    assert broker.recv(100) == b""
