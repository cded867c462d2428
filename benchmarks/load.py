"""A load generator on a bare socket: cheap enough that the agent, not the generator, is what is measured.

It keeps `outstanding` messages unanswered at any time, on one connection that both publishes the questions and
receives the answers, and notes for each how long its answer took. It speaks just enough MQTT for that (MQTT 3.1.1 and
5, QoS 0 and 1) and gives up loudly on anything else.
"""

from __future__ import annotations

import math
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import NamedTuple, Self

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Outcome:
    """What one run found. `latencies` in seconds, one a message, in the order of the answers."""

    messages: int
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Messages answered a second."""
        return self.messages / self.seconds

    def percentile(self, share: float) -> float:
        """Return the latency, in seconds, that `share` of the messages stay below."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Question(NamedTuple):
    """One message to ask. A content type needs MQTT 5."""

    topic: str
    payload: bytes
    content_type: str | None = None


def run(
    port: int,
    *,
    question: str,
    answer: str,
    payloads: list[bytes],
    seconds: float,
    qos: int = 1,
    protocol: str = "5",
    outstanding: int = 500,
    limit: int | None = None,
    deadline: float = 30.0,
    on_answer: Callable[[bytes], None] | None = None,
) -> Outcome:
    """Ask on the topic `question`, wait for answers on `answer`, for `seconds` or `limit` messages.

    `on_answer` is given the payload of each answer. Raises `TimeoutError` when no answer comes for `deadline` seconds.
    """
    with Connection(port, protocol, deadline=deadline, on_answer=on_answer) as connection:
        connection.subscribe(answer, qos)
        heads = cycle([connection.publish_head(Question(question, payload), qos) for payload in payloads])
        return _ask(connection, heads, seconds=seconds, qos=qos, outstanding=outstanding, limit=limit)


def ask(
    port: int,
    questions: Iterable[Question],
    *,
    answers: str,
    qos: int = 1,
    protocol: str = "5",
    outstanding: int = 500,
    deadline: float = 30.0,
) -> Outcome:
    """Ask each of `questions`, and wait for as many answers on the topic filter `answers`.

    Raises `TimeoutError` when no answer comes for `deadline` seconds.
    """
    with Connection(port, protocol, deadline=deadline) as connection:
        connection.subscribe(answers, qos)
        heads = (connection.publish_head(question, qos) for question in questions)
        return _ask(connection, heads, seconds=math.inf, qos=qos, outstanding=outstanding, limit=None)


def _ask(
    connection: Connection,
    heads: Iterator[tuple[bytes, bytes]],
    *,
    seconds: float,
    qos: int,
    outstanding: int,
    limit: int | None,
) -> Outcome:
    asked: deque[float] = deque()
    latencies: list[float] = []
    sent, packet_id, more = 0, 0, True
    began = time.perf_counter()
    ends = began + seconds
    while True:
        now = time.perf_counter()
        going = more and now < ends and (limit is None or sent < limit)
        if not going and not asked:
            return Outcome(len(latencies), now - began, latencies)
        parts: list[bytes] = []
        while going and len(asked) < outstanding and (limit is None or sent < limit):
            question = next(heads, None)
            if question is None:
                more = going = False
                break
            head, tail = question
            if qos:
                packet_id = packet_id % 65_535 + 1
                parts += (head, packet_id.to_bytes(2, "big"), tail)
            else:
                parts += (head, tail)
            asked.append(now)
            sent += 1
        if parts:
            connection.send(b"".join(parts))
        elif not asked:
            continue  # the last answer came before it was known that there is no more question
        answers = connection.receive_answers()
        now = time.perf_counter()
        latencies.extend(now - asked.popleft() for _ in range(answers))


class Connection:
    """A connection to the broker at `port`; `deadline` in seconds bounds every wait."""

    def __init__(
        self,
        port: int,
        protocol: str = "5",
        *,
        client_id: str = "load",
        deadline: float = 30.0,
        on_answer: Callable[[bytes], None] | None = None,
    ) -> None:
        self._is_5 = protocol == "5"
        self._properties = b"\0" if self._is_5 else b""
        self._on_answer = on_answer
        self._buffer = bytearray()
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=deadline)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._open(client_id.encode())
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sock.close()

    def _open(self, client_id: bytes) -> None:
        receive_maximum = b"\x03\x21" + struct.pack("!H", 65_535) if self._is_5 else b""
        level = 5 if self._is_5 else 4
        keepalive = struct.pack("!H", 0)
        self._send(_CONNECT, b"\0\x04MQTT" + bytes([level, 0x02]) + keepalive + receive_maximum + _text(client_id))
        kind, body = self._packet()
        if kind != _CONNACK or body[1]:
            raise ConnectionError(f"CONNECT was refused: {kind:#x} {body!r}")

    def subscribe(self, topic: str, qos: int) -> None:
        """Subscribe, and return when the broker has confirmed it."""
        self._send(_SUBSCRIBE, b"\0\x01" + self._properties + _text(topic.encode()) + bytes([qos]))
        kind, body = self._packet()
        if kind != _SUBACK or body[-1] > 2:
            raise ConnectionError(f"SUBSCRIBE was refused: {kind:#x} {body!r}")

    def retain(self, topic: str, payload: bytes) -> None:
        """Leave a retained message with the broker, and return when it has it."""
        name, tail = _text(topic.encode()), self._properties + payload
        self._send(_PUBLISH | 0x03, name + b"\0\x01" + tail)
        kind, body = self._packet()
        if kind != _PUBACK:
            raise ConnectionError(f"PUBLISH was refused: {kind:#x} {body!r}")

    def send(self, packets: bytes) -> None:
        """Write whole packets."""
        self._sock.sendall(packets)

    def publish_head(self, question: Question, qos: int) -> tuple[bytes, bytes]:
        """Return what stands before and behind the packet id of a PUBLISH."""
        properties = self._properties
        if question.content_type is not None:
            content_type = b"\x03" + _text(question.content_type.encode())
            properties = _length(len(content_type)) + content_type
        name, tail = _text(question.topic.encode()), properties + question.payload
        return bytes([_PUBLISH | qos << 1]) + _length(len(name) + 2 * qos + len(tail)) + name, tail

    def receive_answers(self) -> int:
        """Wait for bytes; acknowledge the answers among them and return how many there were."""
        data = self._sock.recv(_CHUNK)
        if not data:
            raise ConnectionError("the broker closed the connection")
        self._buffer += data
        buffer, place, answers = self._buffer, 0, 0
        acknowledgements: list[bytes] = []
        while True:
            after = _header(buffer, place)
            if after is None:
                break
            start, end = after
            if end > len(buffer):
                break
            kind = buffer[place] & 0xF0
            if kind == _PUBLISH:
                answers += 1
                topic_ends = start + 2 + (buffer[start] << 8 | buffer[start + 1])
                if buffer[place] & 0x06:
                    acknowledgements += (b"\x40\x02", bytes(buffer[topic_ends : topic_ends + 2]))
                if self._on_answer is not None:
                    self._on_answer(self._payload(topic_ends + (2 if buffer[place] & 0x06 else 0), end))
            elif kind != _PUBACK:
                raise ConnectionError(f"an unexpected packet: {kind:#x}")
            place = end
        del buffer[:place]
        if acknowledgements:
            self._sock.sendall(b"".join(acknowledgements))
        return answers

    def _payload(self, place: int, end: int) -> bytes:
        """Return the payload of a PUBLISH whose properties, in MQTT 5, begin at `place`."""
        if self._is_5:
            properties = _variable(self._buffer, place)
            if properties is None:
                raise ConnectionError("a PUBLISH ends within its properties")
            place = properties[1]
        return bytes(self._buffer[place:end])

    def _send(self, kind: int, body: bytes) -> None:
        self._sock.sendall(bytes([kind]) + _length(len(body)) + body)

    def _packet(self) -> tuple[int, bytes]:
        while True:
            after = _header(self._buffer, 0)
            if after is not None and after[1] <= len(self._buffer):
                kind, body = self._buffer[0], bytes(self._buffer[after[0] : after[1]])
                del self._buffer[: after[1]]
                return kind, body
            data = self._sock.recv(_CHUNK)
            if not data:
                raise ConnectionError("the broker closed the connection")
            self._buffer += data


def _text(value: bytes) -> bytes:
    return struct.pack("!H", len(value)) + value


def _length(value: int) -> bytes:
    """Encode a remaining length (MQTT 5, 1.5.5)."""
    encoded = bytearray()
    while True:
        value, digit = value >> 7, value & 0x7F
        encoded.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(encoded)


def _header(buffer: bytearray, place: int) -> tuple[int, int] | None:
    """Return where the packet at `place` has its body and its end, or None when its length is not all there."""
    return _variable(buffer, place + 1)


def _variable(buffer: bytearray, place: int) -> tuple[int, int] | None:
    """Return where what the length at `place` speaks of begins and ends, or None when the length is not all there."""
    length, shift, here = 0, 0, place
    while here < len(buffer):
        digit = buffer[here]
        length |= (digit & 0x7F) << shift
        here += 1
        if not digit & 0x80:
            return here, here + length
        shift += 7
    return None
