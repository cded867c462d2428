"""A `Stream` over a socket that is a list of pieces: what is ours is read here, all else is handed to paho."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from edge_agent.contract.messages import Answer
from edge_agent.link import packets
from edge_agent.link.fast_lane import Stream
from edge_agent.link.packets import Disconnect, Pong, Puback, Publish
from edge_agent.link.properties import varint
from tests.unit.sessions import FakeSocket

LIMIT = 1000
#: What is kept of a packet besides `LIMIT`.
ENVELOPE = 1 << 18


class FakePaho:
    """paho's client, as far as it is used: reads what there is for it."""

    def __init__(self) -> None:
        self.stream: Any = None
        self.read: list[bytes] = []
        self.met: list[OSError] = []

    def loop_read(self) -> None:
        # As paho does: the first byte, then the rest.
        try:
            self.read.append(self.stream.recv(1) + self.stream.recv(1 << 20))
        except OSError as error:
            self.met.append(error)


class Case:
    """A stream with what is on both of its sides."""

    def __init__(self, *, is_5: bool = True) -> None:
        self.sock, self.paho = FakeSocket(), FakePaho()
        paho: Any = self.paho
        self.stream = self.paho.stream = Stream(paho, self.sock, is_5=is_5, max_payload=LIMIT)

    def arrive(self, *pieces: bytes | OSError) -> list[Any]:
        """Let pieces arrive; return what is read."""
        self.sock.pieces += pieces
        return [event for _ in pieces for event in self.stream.receive()]


def message(topic: str, payload: bytes = b"", packet_id: int = 0) -> bytes:
    return packets.publish(Answer(topic, payload, int(packet_id > 0), content_type=None), packet_id, is_5=True)


MIXED = message("a", b"1", 7) + packets.puback(3) + message("b", b"2") + b"\x50\x02\0\4"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, len(MIXED)])
def test_in_whatever_pieces_it_comes_the_packets_are_the_same(size: int) -> None:
    read = Case().arrive(*(MIXED[at : at + size] for at in range(0, len(MIXED), size)))
    assert read == [Publish("a", b"1", 1, 7), Puback(3), Publish("b", b"2"), Puback(4)]


@pytest.mark.parametrize("error", [BlockingIOError(), ssl.SSLWantReadError(), ssl.SSLWantWriteError()])
def test_nothing_there_is_no_event(error: OSError) -> None:
    case = Case()
    assert case.arrive(error) == []
    assert case.paho.met == []


def test_what_is_not_ours_is_pahos_one_packet_at_a_time() -> None:
    case = Case()
    suback, connack = b"\x90\x04\0\1\0\1", b"\x20\x03\0\0\0"
    assert case.arrive(connack + message("a") + suback) == [Publish("a", b"")]
    assert case.paho.read == [connack, suback]
    with pytest.raises(BlockingIOError):
        case.stream.recv(1)


def test_what_paho_stumbles_over_is_not_mqtt() -> None:
    case = Case()

    def stumble() -> None:
        raise IndexError("out of range")

    case.paho.loop_read = stumble  # type: ignore[method-assign] # the fake's own
    with pytest.raises(ValueError, match="IndexError in paho: out of range"):
        case.arrive(b"\x90\x00")


@pytest.mark.parametrize("is_5", [True, False])
def test_a_disconnect_is_read_here_where_it_can_have_a_reason(is_5: bool) -> None:
    case = Case(is_5=is_5)
    assert case.arrive(b"\xe0\x01\x8e") == ([Disconnect(0x8E)] if is_5 else [])
    assert case.paho.read == ([] if is_5 else [b"\xe0\x01\x8e"])


def test_the_end_is_pahos_to_find() -> None:
    case = Case()
    assert case.arrive(b"") == []
    assert case.paho.read == [b""]
    error = ConnectionResetError()
    assert case.arrive(error) == []
    assert case.paho.met == [error]


def test_packet_ids_go_round_and_leave_out_those_that_are_taken() -> None:
    stream = Case().stream
    answer = Answer("out", b"", 1)
    assert stream.publish(answer, ()) == 1
    assert stream.publish(answer, {2, 3}) == 4
    assert stream.publish(Answer("out", b""), ()) == 0
    stream._last_packet_id = packets.MAX_PACKET_ID - 1
    assert stream.publish(answer, ()) == packets.MAX_PACKET_ID
    assert stream.publish(answer, {1}) == 2


def test_what_is_sent_waits_for_the_flush_and_for_the_socket() -> None:
    case = Case()
    stream = case.stream
    stream.acknowledge(7)
    stream.keep_alive(due=False)
    assert stream.send(b"paho's") == 6
    assert (bytes(case.sock.sent), stream.backlog) == (b"", 10)
    case.sock.room = 3
    stream.flush()
    assert (len(case.sock.sent), stream.backlog) == (3, 7)
    case.sock.room = 100
    stream.flush()
    assert (bytes(case.sock.sent), stream.backlog) == (packets.puback(7) + b"paho's", 0)


def test_a_pong_is_told_to_whoever_waits_for_it_only() -> None:
    case = Case()
    case.stream.keep_alive(due=True)
    case.stream.ping()
    case.stream.flush()
    assert bytes(case.sock.sent) == packets.PINGREQ * 2
    assert case.arrive(b"\xd0\0", b"\xd0\0", b"\xd0\0") == [Pong()]
    # The answers to the first, and to a ping that nobody sent, are paho's to ignore.
    assert case.paho.read == [b"\xd0\0", b"\xd0\0"]


def test_closing_writes_what_the_socket_takes_and_forgets_the_rest() -> None:
    case = Case()
    case.stream.send(b"DISCONNECT")
    case.sock.room = 4
    case.stream.close()
    assert (bytes(case.sock.sent), case.sock.closed, case.stream.backlog) == (b"DISC", True, 0)


def test_it_stands_in_for_its_socket() -> None:
    case = Case()
    case.stream.setblocking(False)
    assert (case.stream.fileno(), case.stream.socket, case.sock.blocking) == (77, case.sock, False)
    assert case.stream.pending() == 0
    case.sock.pending = lambda: 12  # type: ignore[attr-defined] # only TLS and WebSockets have it
    assert case.stream.pending() == 12


# -- too large


@pytest.mark.parametrize("size", [1 << 17, 999])
def test_of_a_payload_that_is_too_large_the_beginning_is_kept(size: int) -> None:
    case = Case()
    data = message("a", b"x" * (ENVELOPE * 3), 7) + message("b", b"next")
    large, after = case.arrive(*(data[at : at + size] for at in range(0, len(data), size)))
    assert (large.topic, large.packet_id) == ("a", 7)
    assert LIMIT < len(large.payload) <= ENVELOPE + LIMIT + size
    assert after == Publish("b", b"next")


def test_of_properties_that_are_too_large_topic_and_packet_id_are_kept() -> None:
    size = ENVELOPE * 2
    user_property = b"\x26\0\1a\xff\xff" + b"v" * 65_535
    block = user_property * (size // len(user_property))
    body = b"\0\1a\0\7" + varint(len(block)) + block + b"payload"
    data = b"\x32" + varint(len(body)) + body
    case = Case()
    (read,) = case.arrive(*(data[at : at + 100_000] for at in range(0, len(data), 100_000)))
    assert (read.topic, read.packet_id) == ("a", 7)
    assert len(read.payload) > LIMIT


def test_another_packet_that_is_too_large_is_not_mqtt() -> None:
    with pytest.raises(ValueError, match="a packet that is too large"):
        Case().arrive(b"\x90" + varint(ENVELOPE * 2) + bytes(ENVELOPE + LIMIT))
