"""Numbered questions at a steady rate, and who was answered: nothing lost, each sensor's in order, repeats counted.

One connection, in a persistent session, asks and listens. It is at-least-once on its own side as well: when the
connection breaks, what the broker had not confirmed is published again on the next one, in order and before anything
new. A bare socket, so that a test at 2,000 messages a second leaves the processor to the agent.
"""

from __future__ import annotations

import itertools
import json
import math
import select
import socket
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

import pytest

from tests import wire
from tests.background import Client
from tests.e2e.tracks import ROCK

SENSORS: Final = ("attic", "cellar", "hall")
#: MQTT 3.1.1: no properties to think of, and its persistent session lasts for ever.
_LEVEL: Final = 4
#: Seconds between two looks at what is due.
_TICK: Final = 0.01
#: Questions that the broker has not confirmed, at the most.
_MAX_UNCONFIRMED: Final = 5_000


class Traffic(Client):
    """`with Traffic(port, rate) as traffic:` asks inside the block; `finish` waits for the last answer and judges.

    `doubt` is how many confirmed questions are published again after a broken connection: of a broker that confirms
    before it has written to disk, the last ones may be gone with it. `ahead` is how many may be asked behind the last
    one that was answered, or on a connection that brought no answer yet: what such a broker lost does not count.
    """

    def __init__(
        self, port: int, rate: float, *, doubt: int = 0, ahead: float = math.inf, in_vain: Callable[[], str | None]
    ) -> None:
        super().__init__("traffic", port)
        # Another one's session may still have answers waiting.
        self._client_id = f"traffic-{uuid.uuid4().hex[:8]}"
        self._rate = rate
        self._ahead = ahead
        self._vain = in_vain
        self._asking = True
        self._unconfirmed: deque[int] = deque()
        self._doubted: deque[int] = deque(maxlen=doubt)
        self._next_id = itertools.count()
        self._ids: dict[int, int] = {}
        #: Questions asked, answers by number, publishes beyond the first of each question.
        self.sent = 0
        self._news_since = 0  # the number behind the last one answered, and behind all of the last connection
        self.times = Counter[int]()
        self.sent_again = 0
        #: Each sensor's numbers in the order of their first answers.
        self.first: dict[str, list[int]] = {sensor: [] for sensor in SENSORS}

    def wait_for_news(self) -> None:
        """Return when a question has been answered that was not asked before this call."""
        asked = self.sent
        self.wait(lambda: any(numbers[-1:] >= [asked] for numbers in self.first.values()), "no new answer")

    def stop_asking(self) -> None:
        """Ask nothing new; what is not confirmed is seen to all the same."""
        with self._changed:
            self._asking = False

    def lost(self, what: str) -> list[int]:
        """Wait for the answer to a question that is asked now, stop asking, and wait for all that came after it. What is
        not answered by then is lost: brokers keep the order, on the way to the agent as on the way back."""
        with self._changed:
            since = self.sent
        self.wait_for_news()
        self.stop_asking()
        self.wait(
            lambda: not self._unconfirmed and all(number in self.times for number in range(since, self.sent)), what
        )
        return sorted(set(range(self.sent)) - set(self.times))

    def finish(self, what: str, *, at_least: int) -> None:
        """Stop asking, wait until everything is answered, print the outcome, and fail when it is not as promised."""
        self.stop_asking()
        try:
            self.wait(lambda: len(self.times) >= self.sent and not self._unconfirmed, "not all are answered")
        except TimeoutError:
            missing = sorted(set(range(self.sent)) - set(self.times))
            pytest.fail(f"{what}: {len(missing)} lost, {missing[:20]} among them: {self}")
        print(f"{what}: {self}, 0 lost")  # noqa: T201
        assert self.sent >= at_least, "there was not enough of a load"
        for sensor, numbers in self.first.items():
            assert numbers == sorted(numbers), f"the first answers of {sensor} are out of order"

    def __str__(self) -> str:
        repeated = self.times.total() - len(self.times)
        again = f" ({self.sent_again} of them again)" if self.sent_again else ""
        return f"{self.sent} messages sent{again}, {len(self.times)} answered, {repeated} answers repeated"

    # -- in the thread

    def _in_vain(self) -> str | None:
        return self._vain()

    def _serve(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray()
        # No one else's: those are not for us to judge.
        filters = b"".join(wire.text(f"music/{sensor}/genre/#") + b"\1" for sensor in SENSORS)
        sock.sendall(
            wire.connect(self._client_id, level=_LEVEL, clean=False)
            + wire.pack(wire.SUBSCRIBE, b"\0\1" + filters, 0b0010)
        )
        ready = False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        self._news_since = self.sent
        due = time.monotonic()
        while not self._closed.is_set():
            now = time.monotonic()
            if not ready or self.sent - self._news_since >= self._ahead or len(self._unconfirmed) >= _MAX_UNCONFIRMED:
                due = now
            elif due <= now and self._asking:
                count = int((now - due) * self._rate) + 1
                due += count / self._rate
                self._ask(sock, count)
            if not poll.poll(_TICK * 1000):
                continue
            data = sock.recv(wire.CHUNK)
            if not data:
                raise ConnectionResetError("the broker closed the connection")
            buffer += data
            packets = wire.take(buffer)
            self._look(sock, packets)
            if not ready and any(packet.kind == wire.SUBACK for packet in packets):
                ready = True
                self._ask_again(sock)

    def _ask(self, sock: socket.socket, count: int) -> None:
        # Noted before they are written: a connection that breaks in between leaves them to be published again.
        numbers = range(self.sent, self.sent + count)
        with self._changed:
            self.sent += count
            self._unconfirmed.extend(numbers)
        sock.sendall(b"".join(self._question(number) for number in numbers))

    def _ask_again(self, sock: socket.socket) -> None:
        numbers = [*self._doubted, *self._unconfirmed]
        with self._changed:
            self._doubted.clear()
            self._unconfirmed = deque(numbers)
            self._ids.clear()
            self.sent_again += len(numbers)
        for place in range(0, len(numbers), 100):
            sock.sendall(b"".join(self._question(number, again=True) for number in numbers[place : place + 100]))

    def _question(self, number: int, *, again: bool = False) -> bytes:
        packet_id = next(self._next_id) % 65_535 + 1
        self._ids[packet_id] = number
        topic = f"music/{SENSORS[number % len(SENSORS)]}/features"
        return wire.publish(topic, question(number), packet_id, level=_LEVEL, again=again)

    def _look(self, sock: socket.socket, packets: list[wire.Packet]) -> None:
        acknowledged = bytearray()
        with self._changed:
            for packet in packets:
                if packet.kind == wire.PUBLISH:
                    topic, packet_id, payload = wire.read_publish(packet)
                    self._take(topic.split("/")[1], json.loads(payload))
                    acknowledged += wire.pack(wire.PUBACK, (packet_id or 0).to_bytes(2))
                elif packet.kind == wire.PUBACK:
                    number = self._ids.pop(int.from_bytes(packet.body[:2]))
                    # Brokers confirm in the order of what they were sent (MQTT 3.1.1, 4.6).
                    assert self._unconfirmed.popleft() == number
                    self._doubted.append(number)
                else:
                    assert packet.kind in {wire.CONNACK, wire.SUBACK}, f"the broker sent {packet}"
            self._changed.notify_all()
        if acknowledged:
            sock.sendall(acknowledged)

    def _take(self, sensor: str, answer: dict[str, object]) -> None:
        number = answer["id"]
        assert isinstance(number, int)
        assert "label" in answer, f"a rejection: {answer}"
        if number not in self.times:
            self.first[sensor].append(number)
            self._news_since = max(self._news_since, number + 1)
        self.times[number] += 1


_QUESTION: Final = json.dumps(ROCK)[:-1].encode()


def question(number: int) -> bytes:
    """A track that any model of the house labels, with a number to be known by."""
    return _QUESTION + f', "id": {number}}}'.encode()
