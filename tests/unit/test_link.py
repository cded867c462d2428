"""A `Link` on one end of a socket pair; the test is the broker at the other end, byte by byte. No network, no threads."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from edge_agent.contract.messages import Answer, Message
from edge_agent.errors import BrokerError, FarewellError, ProtocolRefusedError, SurplusError
from edge_agent.link import packets
from edge_agent.link.link import Address, Link
from edge_agent.tally import Tally

ADDRESS = Address(client_id="pi", receive_maximum=2)
WILL = Answer("edge/pi/state", b"offline", 1, retain=True)
CONNECT, CONNACK, SUBSCRIBE, SUBACK, PUBLISH, PUBACK, DISCONNECT = 0x10, 0x20, 0x80, 0x90, 0x30, 0x40, 0xE0


class Broker:
    """The other end. It grants nothing of its own accord."""

    def __init__(self, **options: Any) -> None:
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.is_5 = options.setdefault("protocol", "5") == "5"
        self.unread = b""
        self.link = Link(options.pop("address", ADDRESS), opens=lambda _: ours, **options)

    def close(self) -> None:
        self.link.abandon()
        self.sock.close()

    def say(self, data: bytes) -> list[Message]:
        """Send bytes, and have the link read them."""
        self.sock.send(data)
        return self.link.receive(1.0)

    def heard(self) -> list[tuple[int, bytes]]:
        """What the link has sent since: first byte and body of each packet."""
        try:
            while data := self.sock.recv(1 << 20):
                self.unread += data
        except BlockingIOError:
            pass
        found = []
        while (ends := packets.bounds(self.unread, 0)) is not None and ends[1] <= len(self.unread):
            found.append((self.unread[0], self.unread[ends[0] : ends[1]]))
            self.unread = self.unread[ends[1] :]
        return found

    def let_in(self, properties: bytes = b"") -> None:
        body = b"\0\0" + bytes((len(properties),)) + properties if self.is_5 else b"\0\0"
        assert self.say(bytes((CONNACK, len(body))) + body) == []

    def answer_subscribe(self, *codes: int) -> None:
        """Read CONNECT and SUBSCRIBE, and answer the latter."""
        ((kind, body),) = [one for one in self.heard() if one[0] != CONNECT]
        assert kind & 0xF0 == SUBSCRIBE
        answer = body[:2] + (b"\0" if self.is_5 else b"") + bytes(codes)
        self.say(bytes((SUBACK, len(answer))) + answer)

    def message(self, topic: str, payload: bytes = b"", packet_id: int = 0) -> bytes:
        return packets.publish(Answer(topic, payload, int(packet_id > 0), content_type=None), packet_id, is_5=self.is_5)


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker(subscriptions={"in": False}, will=WILL)
    yield made
    made.close()


@pytest.fixture
def ready(broker: Broker) -> Broker:
    broker.let_in()
    broker.answer_subscribe(1)
    assert broker.link.ready
    return broker


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_it_says_connect_with_its_will_and_subscribes_once_let_in(protocol: str) -> None:
    broker = Broker(protocol=protocol, subscriptions={"in": False}, will=WILL)
    link = broker.link
    assert link.receive(0) == []
    ((kind, body),) = broker.heard()
    assert kind == CONNECT
    assert body[:7] == b"\0\4MQTT" + bytes((5 if protocol == "5" else 4,))
    assert WILL.topic.encode() in body
    assert not link.ready
    broker.let_in()
    assert not link.ready
    broker.answer_subscribe(0x87)
    assert link.ready
    assert [one.topic for one in link.refused] == ["in"]
    assert link.certificate_ends is None
    broker.close()


def test_one_message_in_one_answer_out_and_then_the_acknowledgement(ready: Broker) -> None:
    link = ready.link
    (message,) = ready.say(ready.message("in", b"1", 7))
    assert message[:3] == ("in", b"1", 1)
    assert link.in_flight == 1
    link.answer(message, [Answer("out", b"2", 1)])
    link.receive(0)
    ((kind, body),) = ready.heard()
    sent = packets.read_publish(kind, body, is_5=True)
    assert sent[:3] == ("out", b"2", 1)
    assert link.unconfirmed == {"out"}
    assert link.under_way
    ready.say(packets.puback(sent.packet_id))
    assert ready.heard() == [(PUBACK, b"\0\7")]
    assert (link.in_flight, link.unconfirmed) == (0, frozenset())


def test_what_arrives_in_pieces_is_one_message(ready: Broker) -> None:
    data = ready.message("in", b"payload")
    assert [ready.say(data[at : at + 1]) for at in range(len(data) - 1)] == [[]] * (len(data) - 1)
    assert [one.payload for one in ready.say(data[-1:])] == [b"payload"]


def test_a_payload_that_is_too_large_is_cut_and_what_follows_is_read() -> None:
    broker = Broker(max_payload=1000)
    broker.let_in()
    broker.sock.setblocking(True)
    data = broker.message("in", bytes(400_000)) + broker.message("in", b"next")
    messages: list[Message] = []
    while data:
        messages += broker.say(data[:50_000])
        data = data[50_000:]
    while len(messages) < 2:
        messages += broker.link.receive(0)
    assert 1000 < len(messages[0].payload) < 400_000
    assert messages[1].payload == b"next"
    broker.close()


def test_a_descriptor_wakes_it_and_can_be_taken_away_again(ready: Broker, awake: int) -> None:
    ready.link.receive(60.0, awake)  # would be cut off by the suite's time limit, or rather by the tick
    reader, writer = os.pipe()
    os.write(writer, b"x")
    ready.link.receive(60.0, reader)
    ready.link.receive(0.0, None)
    os.close(reader)
    os.close(writer)
    assert ready.link.ready


def test_nothing_is_read_while_its_owner_does_not_want_to(ready: Broker) -> None:
    ready.sock.send(ready.message("in", b"1"))
    assert ready.link.receive(0, reading=False) == []
    assert len(ready.link.receive(0)) == 1


def test_reading_stops_while_too_much_waits_for_the_socket(ready: Broker) -> None:
    link = ready.link
    for _ in range(3):
        link.publish(Answer("out", bytes(1 << 20)))
    link.receive(0)
    assert link.held_bytes > 1 << 20
    ready.sock.send(ready.message("in"))
    assert link.receive(0) == []
    heard: list[tuple[int, bytes]] = []
    got: list[Message] = []
    while link.held_bytes:
        heard += ready.heard()
        got += link.receive(0)
    heard += ready.heard()
    assert [kind for kind, _ in heard] == [PUBLISH] * 3
    assert len(got + link.receive(0)) == 1


def test_drained_is_what_the_broker_has_confirmed(ready: Broker) -> None:
    link = ready.link
    ready.say(ready.message("in", b"", 7))  # nobody answers it: it is not waited for
    assert link.drain(0.0)
    link.publish(Answer("out", b"", 1))
    assert not link.drain(0.01)
    ready.sock.send(packets.puback(1))
    assert link.drain(10.0)


def test_a_ping_tells_that_all_is_taken(ready: Broker) -> None:
    ready.link.publish(Answer("out", b""))
    assert not ready.link.settle()
    ready.link.receive(0)
    assert ready.heard()[-1] == (0xC0, b"")
    ready.say(b"\xd0\x00")
    assert ready.link.settle()
    assert ready.link.under_way == frozenset()


def test_a_change_of_subscriptions(ready: Broker) -> None:
    ready.link.subscribe({"other": True})
    assert not ready.link.ready
    ready.link.receive(0)
    (_, asked), (_, given_back) = ready.heard()
    assert b"other" in asked
    assert b"in" in given_back
    ready.say(b"\x90\x04" + asked[:2] + b"\0\1" + b"\xb0\x04" + given_back[:2] + b"\0\0")
    assert ready.link.ready


@pytest.mark.parametrize(("granted", "withheld"), [(b"", 65_535), (b"\x21\0\x05", 5), (b"\x24\x01", 0)])
def test_what_may_be_sent_at_qos_2_and_never_released(broker: Broker, granted: bytes, withheld: int) -> None:
    broker.let_in(granted)
    assert broker.link.withheld_at_once == withheld


def test_more_than_was_agreed_on_ends_with_the_rest_left_to_the_broker(ready: Broker) -> None:
    messages = ready.say(b"".join(ready.message("in", b"", number) for number in range(1, 12)))
    assert len(messages) == 10
    for message in messages:
        ready.link.answer(message, [])
    with pytest.raises(SurplusError):
        ready.link.receive(0)
    assert len(ready.heard()) == 10


# -- its end


def end(broker: Broker, data: bytes = b"") -> BrokerError:
    if data:
        broker.sock.send(data)
    try:
        broker.link.receive(0)
    except BrokerError as error:
        return error
    with pytest.raises(BrokerError) as raised:  # it showed while the link wrote, which the next call says
        broker.link.receive(0)
    return raised.value


def test_a_broker_that_hangs_up(ready: Broker) -> None:
    ready.sock.close()
    assert "the connection ended: without a reason from the broker" in str(end(ready))
    assert "the connection ended" in str(end(ready))


def test_a_broker_that_hangs_up_while_we_write(ready: Broker) -> None:
    ready.sock.close()
    ready.link.publish(Answer("out", b""))
    assert "the connection ended: Broken pipe" in str(end(ready))


def test_a_broker_that_refuses_the_login(broker: Broker) -> None:
    assert "refused the connection: Not authorized" in str(end(broker, b"\x20\x03\x00\x87\x00"))


def test_a_broker_that_wants_another_protocol(broker: Broker) -> None:
    assert type(end(broker, b"\x20\x03\x00\x84\x00")) is ProtocolRefusedError


def test_a_broker_that_says_goodbye(ready: Broker) -> None:
    error = end(ready, b"\xe0\x02\x8b\x00")
    assert type(error) is FarewellError
    assert "Server shutting down" in str(error)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x36\x05\0\1a\0\1", id="QoS 3"),
        pytest.param(b"\x30\xff\xff\xff\xff\x01", id="a length that does not end"),
    ],
)
def test_what_is_not_mqtt_ends_the_connection(ready: Broker, data: bytes) -> None:
    assert "it sent what is not MQTT 5: " in str(end(ready, data))


def test_what_is_not_mqtt_says_nothing_of_the_subscriptions(broker: Broker) -> None:
    broker.let_in()
    assert broker.heard()
    error = end(broker, b"\x36\x05\0\1a\0\1")
    assert type(error) is BrokerError
    assert "subscription" not in str(error)


def test_a_message_before_connack(broker: Broker) -> None:
    assert "it sent what is not MQTT 5: Publish before CONNACK" in str(end(broker, broker.message("in")))


def test_closing_says_disconnect_and_abandoning_does_not(ready: Broker) -> None:
    ready.link.publish(Answer("out", b"last"))
    ready.sock.shutdown(socket.SHUT_WR)  # nothing more comes, so that closing does not wait for it
    ready.link.close()
    assert [kind & 0xF0 for kind, _ in ready.heard()] == [PUBLISH, DISCONNECT]
    assert ready.sock.recv(1) == b""
    ready.link.close()  # once more does nothing


def test_abandoning_says_no_disconnect(ready: Broker) -> None:
    ready.link.publish(Answer("out", b"last"))
    ready.link.abandon()
    assert [kind & 0xF0 for kind, _ in ready.heard()] == [PUBLISH]
    assert ready.sock.recv(1) == b""


def test_its_counts_are_those_of_its_owner(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally()
    broker = Broker(tally=tally)
    broker.let_in()
    with caplog.at_level(logging.DEBUG):
        broker.say(broker.message("in"))
    assert tally.received == 1
    broker.close()
