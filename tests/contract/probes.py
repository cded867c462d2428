"""What a broker can do, tried with plain clients: a probe for each ability in `tests.every_broker`.

A probe returns whether the broker has the ability. None waits for what does not come: where a broker lacks something, what
it delivers instead, in order, is there first. What comes again may come later (NATS waits for its `ack_wait`), and a
confirmation that never comes is not waited for long.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion

from tests import wire
from tests.contract.agents import wait_until
from tests.contract.client import Client
from tests.every_broker import Ability, EveryBroker
from tests.patience import DEADLINE, fair


class Probe:
    """Clients of one broker, closed at the end, and topics that nobody else has."""

    def __init__(self, broker: EveryBroker, stack: ExitStack) -> None:
        self.broker = broker
        self._stack = stack
        self.place = f"probe-{uuid.uuid4().hex[:8]}"

    def client(self, **options: Any) -> Client:
        options.setdefault("protocol", MQTTProtocolVersion.MQTTv311)
        options.setdefault("port", self.broker.port)
        return self._stack.enter_context(Client(**options))

    def pair(self) -> tuple[Client, Client]:
        return self.client(), self.client()

    def comes_through(self, topic: str, payload: bytes = b"x", wanted: str | None = None) -> bool:
        """Whether a message reaches who subscribes to its topic, or to `wanted`, before one that is sent after it."""
        sender, reader = self.pair()
        reader.in_vain = lambda: None if reader.paho.is_connected() else "the broker hung up on the reader"
        try:
            reader.subscribe(wanted or topic, f"{self.place}/after")
            sent = sender.publish(topic, payload, wait=False)
            # The broker has it, or has hung up because of it.
            wait_until(lambda: sent.is_published() or not sender.paho.is_connected(), "an acknowledgement")
            self.client().publish(f"{self.place}/after")
            reader.message(f"{self.place}/after")
        except (ConnectionError, PermissionError, RuntimeError):
            return False
        return [message.payload for message in reader.seen(topic)] == [payload]


@contextmanager
def probe(broker: EveryBroker) -> Iterator[Probe]:
    with ExitStack() as stack:
        yield Probe(broker, stack)


def _lets_in(protocol: MQTTProtocolVersion) -> Callable[[Probe], bool]:
    """Whether CONNACK says yes. A broker that misreads a CONNECT may wait for the rest of it, for ever."""

    def lets_in(trying: Probe) -> bool:
        hello = wire.connect(trying.place, level=int(protocol), clean=True, keepalive=30)
        with socket.create_connection((trying.broker.host, trying.broker.port), DEADLINE) as sock:
            sock.settimeout(fair(3.0))
            sock.sendall(hello)
            try:
                answer = sock.recv(4)
            except OSError:
                return False
        return len(answer) == 4 and answer[0] >> 4 == wire.CONNACK and answer[3] == 0

    return lets_in


def _delivered_qos(qos: int) -> Callable[[Probe], bool]:
    def keeps(trying: Probe) -> bool:
        sender, reader = trying.pair()
        reader.subscribe(f"{trying.place}/q", qos=max(qos, 1))
        sender.publish(f"{trying.place}/q", b"x", qos=qos)
        return reader.message(f"{trying.place}/q").qos == qos

    return keeps


def _wildcards(trying: Probe) -> bool:
    topic = f"{trying.place}/a/b"
    return trying.comes_through(topic, wanted=f"{trying.place}/+/b") and trying.comes_through(
        topic, wanted=f"{trying.place}/#"
    )


def _dot(trying: Probe) -> bool:
    topic = f"{trying.place}/a.b/c"
    return trying.comes_through(topic) and trying.comes_through(topic, wanted=f"{trying.place}/+/c")


def _space(trying: Probe) -> bool:
    return trying.comes_through(f"{trying.place}/a b/c")


def _large(trying: Probe) -> bool:
    return trying.comes_through(f"{trying.place}/large", b"x" * 1_000_000)


def _busy(trying: Probe) -> bool:
    """Whether it confirms the answers of a client that acknowledges its questions only then, as the agent does."""
    topic, count = f"{trying.place}/busy", 150
    sender, client = trying.pair()
    client.paho.manual_ack_set(True)
    client.subscribe(topic)
    for number in range(count):
        sender.publish(topic, str(number), wait=False)
    has = Ability.BUSY in trying.broker.abilities
    client.messages(10 if has else 99, topic)  # brokers have windows of 10, 20, 100 messages
    first = client.publish(f"{trying.place}/answer", b"x", wait=False)
    first.wait_for_publish(DEADLINE if has else fair(2.0))
    return first.is_published()


def _retained(has: Ability, wanted: str) -> Callable[[Probe], bool]:
    def comes(trying: Probe) -> bool:
        sender, reader = trying.pair()
        topic = f"{trying.place}/is/kept"
        sender.publish(topic, b"x", retain=True)
        filter_ = f"{trying.place}/{wanted}/kept"

        def found() -> bool:
            reader.subscribe(filter_)
            reader.barrier()
            return (b"x", True) in [(message.payload, message.retain) for message in reader.seen(topic)]

        if has in trying.broker.abilities:
            # NATS confirms it a moment before it is kept.
            wait_until(found, "what is retained")
        return found()

    return comes


def _will(trying: Probe) -> bool:
    topic = f"{trying.place}/will"
    reader, dying = trying.client(), trying.client(will=(topic, b"gone"))
    reader.subscribe(topic)
    dying.drop()
    reader.message(topic)
    reader.barrier()
    late = trying.client()

    def found() -> bool:
        late.subscribe(topic)
        late.barrier()
        return b"gone" in [message.payload for message in late.seen(topic)]

    if Ability.WILL in trying.broker.abilities:
        wait_until(found, "the will, retained")
    return found()


def _session(trying: Probe) -> bool:
    return _kept(trying, lambda: None)


def _store(trying: Probe) -> bool:
    """What was retained, and what waits for a client, after a restart."""
    topic = f"{trying.place}/kept"
    trying.client().publish(topic, b"x", retain=True)
    if not _kept(trying, trying.broker.restart):
        return False
    reader = trying.client()
    reader.subscribe(topic)
    reader.barrier()
    return bool(reader.seen(topic))


def _kept(trying: Probe, between: Callable[[], None]) -> bool:
    topic = f"{trying.place}/queued"
    absent = trying.client(clean=False, client_id=trying.place)
    absent.subscribe(topic)
    absent.close()
    trying.client().publish(topic, b"x")
    between()
    back = trying.client(clean=False, client_id=trying.place)
    back.barrier()
    return len(back.seen(topic)) == 1


def _again(trying: Probe) -> bool:
    topic = f"{trying.place}/again"
    deaf = trying.client(clean=False, client_id=trying.place)
    deaf.paho.manual_ack_set(True)
    deaf.subscribe(topic)
    trying.client().publish(topic, b"x")
    deaf.message(topic)
    deaf.drop()
    back = trying.client(clean=False, client_id=trying.place)
    back.barrier()
    if Ability.AGAIN in trying.broker.abilities:
        back.message(topic)
    return len(back.seen(topic)) == 1


def _share(trying: Probe) -> bool:
    """Whether each message goes to one of two."""
    topic, count = f"{trying.place}/shared", 20
    first, second = trying.pair()
    try:
        for member in (first, second):
            member.subscribe(f"$share/{trying.place}/{topic}")
    except (PermissionError, ConnectionError, TimeoutError):
        return False
    sender = trying.client()
    for number in range(count):
        sender.publish(topic, str(number))
    for member in (first, second):
        member.barrier()
    got = [message.payload for member in (first, second) for message in member.seen(topic)]
    return sorted(got) == sorted(str(number).encode() for number in range(count))


def _websockets(trying: Probe) -> bool:
    client = trying.client(port=trying.broker.websockets, websockets=trying.broker.path)
    client.subscribe(f"{trying.place}/w")
    client.publish(f"{trying.place}/w", b"x")
    return client.message(f"{trying.place}/w").payload == b"x"


PROBES: Final[Mapping[Ability, Callable[[Probe], bool]]] = {
    Ability.MQTT_5: _lets_in(paho.MQTTv5),
    Ability.MQTT_311: _lets_in(paho.MQTTv311),
    Ability.QOS_0: _delivered_qos(0),
    Ability.QOS_2: _delivered_qos(2),
    Ability.WILDCARDS: _wildcards,
    Ability.DOT: _dot,
    Ability.SPACE: _space,
    Ability.LARGE: _large,
    Ability.BUSY: _busy,
    Ability.RETAIN: _retained(Ability.RETAIN, "is"),
    Ability.RETAIN_WILDCARD: _retained(Ability.RETAIN_WILDCARD, "+"),
    Ability.WILL: _will,
    Ability.SESSION: _session,
    Ability.AGAIN: _again,
    Ability.STORE: _store,
    Ability.SHARE: _share,
    Ability.WEBSOCKETS: _websockets,
}
