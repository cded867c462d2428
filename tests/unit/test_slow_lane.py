"""The slow lane, with a paho that only notes what it is asked to send."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.contract.messages import Answer, Carried
from edge_agent.errors import BrokerError
from edge_agent.link.packets import Pong, Puback, Publish
from edge_agent.link.slow_lane import Plain
from edge_agent.link.tls import TlsOptions
from edge_agent.link.transport import Address


class Info:
    """What paho says of a message that it was given."""

    def __init__(self, rc: int, mid: int) -> None:
        self.rc = rc
        self.mid = mid


class FakePaho:
    """paho's client, as far as it is used; `reads` is what its next `loop_read` does."""

    def __init__(self) -> None:
        self.sock: Any = None
        self.published: list[tuple[Any, ...]] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.kept_up = 0
        self.rc = 0
        self.on_message: Any = None
        self.on_publish: Any = None
        self.reads: Any = lambda: None
        self.options: dict[str, Any] = {}

    def socket(self) -> Any:
        return self.sock

    def publish(self, *message: Any) -> Info:
        self.published.append(message)
        return Info(self.rc, len(self.published))

    def ack(self, packet_id: int, qos: int) -> None:
        self.acknowledged.append((packet_id, qos))

    def loop_misc(self) -> None:
        self.kept_up += 1

    def loop_read(self) -> None:
        self.reads()

    def tls_set_context(self, context: Any) -> None:
        self.options["tls"] = context

    def ws_set_options(self, **options: Any) -> None:
        self.options |= options


@pytest.fixture
def paho() -> FakePaho:
    return FakePaho()


def make(paho: FakePaho, *, is_5: bool = True, **address: Any) -> Plain:
    client: Any = paho
    return Plain(client, Address(client_id="pi", **address), is_5=is_5)


def message(topic: bytes = b"in", payload: bytes = b"1", **properties: Any) -> MQTTMessage:
    made = MQTTMessage(7, topic)
    made.payload, made.qos, made.dup, made.retain = payload, 1, True, True
    made.properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho left this one out
    for name, value in properties.items():
        setattr(made.properties, name, value)
    return made


def read(paho: FakePaho, plain: Plain, found: MQTTMessage) -> Publish:
    paho.reads = lambda: paho.on_message(paho, None, found)
    (event,) = plain.receive()
    assert isinstance(event, Publish)
    return event


def test_what_paho_reads_becomes_the_same_as_in_the_fast_lane(paho: FakePaho) -> None:
    found = message(
        ContentType="text/plain",
        ResponseTopic="back",
        CorrelationData=b"42",
        UserProperty=("a", "b"),
        MessageExpiryInterval=30,
    )
    carried = Carried(b"42", (("a", "b"),), 30)
    assert read(paho, make(paho), found) == Publish(
        "in", b"1", 1, 7, True, None, "text/plain", "back", carried, True, None
    )


def test_what_is_too_much_to_carry_over_is_said(paho: FakePaho) -> None:
    event = read(paho, make(paho), message(CorrelationData=bytes(2000)))
    assert (event.carried, event.left) == (None, "Correlation Data of more than 1024 bytes")


def test_a_topic_that_is_no_text_is_one_that_no_route_takes(paho: FakePaho) -> None:
    assert read(paho, make(paho), message(b"\xff")).topic == "\ufffd"


def test_a_message_of_mqtt_3_has_no_properties(paho: FakePaho) -> None:
    found = message()
    found.properties = None
    assert read(paho, make(paho, is_5=False), found) == Publish("in", b"1", 1, 7, True, retained=True)


def test_events_are_given_once(paho: FakePaho) -> None:
    plain = make(paho)
    read(paho, plain, message())
    paho.reads = lambda: None
    assert plain.receive() == []


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("x"), AssertionError()])
def test_what_paho_stumbles_over_is_not_mqtt(paho: FakePaho, error: Exception) -> None:
    def stumble() -> None:
        raise error

    paho.reads = stumble
    with pytest.raises(ValueError, match="no" if isinstance(error, ValueError) else f"{type(error).__name__} in paho"):
        make(paho).receive()


def test_an_answer_with_what_it_carries(paho: FakePaho) -> None:
    carried = Carried(b"42", (("a", "b"), ("a", "c")), 9)
    assert make(paho).publish(Answer("out", b"2", 1, retain=True, content_type="text/plain", carried=carried), ()) == 1
    ((topic, payload, qos, retain, properties),) = paho.published
    assert (topic, payload, qos, retain) == ("out", b"2", 1, True)
    assert (properties.ContentType, properties.CorrelationData) == ("text/plain", b"42")
    assert (properties.UserProperty, properties.MessageExpiryInterval) == ([("a", "b"), ("a", "c")], 9)


@pytest.mark.parametrize(("is_5", "content_type"), [(True, None), (False, "text/plain")])
def test_an_answer_without_properties(paho: FakePaho, is_5: bool, content_type: str | None) -> None:
    make(paho, is_5=is_5).publish(Answer("out", b"", 1, content_type=content_type), ())
    assert paho.published[0][4] is None


def test_an_answer_that_carries_an_empty_hand_has_its_content_type_only(paho: FakePaho) -> None:
    make(paho).publish(Answer("out", b"", 1, content_type=None, carried=Carried()), ())
    assert paho.published[0][4].isEmpty()


def test_a_full_queue_of_pahos_is_an_error(paho: FakePaho) -> None:
    paho.rc = 15
    with pytest.raises(BrokerError, match="a message could not be queued: Message queue full"):
        make(paho).publish(Answer("out", b""), ())


def test_at_qos_0_bytes_wait_until_paho_has_written_them(paho: FakePaho) -> None:
    plain = make(paho)
    plain.publish(Answer("out", b"12345"), ())
    plain.publish(Answer("out", b"1234567", 1), ())  # counted elsewhere: it waits to be confirmed
    assert plain.backlog == 5
    success = ReasonCode(PacketTypes.PUBACK, "Success")
    paho.on_publish(paho, None, 1, success, None)
    assert (plain.backlog, plain.receive()) == (0, [])


def test_confirmations_and_refusals(paho: FakePaho) -> None:
    plain = make(paho)
    for packet_id, code, words in ((1, 0, None), (2, 0x87, None), (3, 0x97, "slow down")):
        properties: Any = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call] # paho left this one out
        if words is not None:
            properties.ReasonString = words
        paho.on_publish(paho, None, packet_id, ReasonCode(PacketTypes.PUBACK, identifier=code), properties)
    assert plain.receive() == [Puback(1), Puback(2, "Not authorized"), Puback(3, "Quota exceeded ('slow down')")]


def test_what_is_pahos_is_left_to_paho(paho: FakePaho) -> None:
    plain = make(paho)
    plain.acknowledge(7)
    plain.keep_alive(due=True)
    plain.keep_alive(due=False)
    plain.flush()
    assert (paho.acknowledged, paho.kept_up, paho.published) == ([(7, 1)], 2, [])


def test_a_ping_is_taken_as_answered(paho: FakePaho) -> None:
    plain = make(paho)
    plain.ping()
    assert plain.receive() == [Pong()]


@pytest.fixture
def pair(paho: FakePaho) -> Iterator[socket.socket]:
    paho.sock, theirs = socket.socketpair()
    yield theirs
    paho.sock.close()
    theirs.close()


def test_there_is_more_to_read_while_the_socket_has_some(paho: FakePaho, pair: socket.socket) -> None:
    plain = make(paho)
    assert (plain.socket, plain.fileno()) == (paho.sock, paho.sock.fileno())
    assert not plain.pending()
    pair.send(b"x")
    assert plain.pending()


def test_without_a_socket_there_is_nothing_to_read(paho: FakePaho) -> None:
    plain = make(paho)
    assert (plain.socket, plain.fileno(), plain.pending()) == (None, -1, 0)


def test_bytes_that_tls_has_decoded_count(paho: FakePaho) -> None:
    reader, writer = os.pipe()

    class Decoded:
        def pending(self) -> int:
            return 12

        def fileno(self) -> int:
            return reader

    paho.sock = Decoded()
    assert make(paho).pending() == 12
    os.close(reader)
    os.close(writer)


def test_paho_gets_tls_and_the_path_of_the_websocket(paho: FakePaho) -> None:
    make(paho, transport="websockets", path="/ws", tls=TlsOptions())
    assert paho.options.keys() == {"tls", "path"}
    assert paho.options["path"] == "/ws"
    assert paho.options["tls"].check_hostname
    paho.options.clear()
    make(paho)
    assert paho.options == {}
