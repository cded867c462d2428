"""Brokers of the cloud as their documentation describes them, played: nobody's code but ours, on a loopback port.

Rules:

* What they refuse, close the connection on and say in CONNACK is what their pages say (`tests/cloud.py` has the limits).
* What nobody has to know of them is MQTT at its plainest: nothing is kept but what is retained, and what a client did not
  acknowledge, which comes again when it is back; messages go out at QoS 1 at the most. `thrown_out` lists why they closed a connection; a test that waits gives up after `patience` of these.
"""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Final, NamedTuple

import paho.mqtt.client as paho

from tests import wire
from tests.background import Server
from tests.cloud import NO_RETAIN, Limits, maximum_qos
from tests.patience import DEADLINE

_5: Final = 5
_PUBREC, _PUBREL, _PUBCOMP = 5, 6, 7
#: CONNACK's word for a wrong password (MQTT 5, 3.2.2.2; MQTT 3.1.1, 3.2.2.3).
_BAD_LOGIN: Final = {5: 0x86, 4: 4}


class Said(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    response_topic: str | None = None
    #: How many connections the broker had closed before.
    ends: int = 0


class _ClosedError(Exception):
    """The broker closes, for the reason that this carries."""


class _Connection:
    """One client of the broker; `level` is MQTT's protocol level."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.level = _5
        self.name = ""
        self.keep_alive = 0
        self.filters: dict[str, int] = {}
        self.will: Said | None = None
        self.held: dict[int, Said] = {}
        #: What it was sent and did not acknowledge, by packet id.
        self.unacknowledged: dict[int, Said] = {}
        self._next_id = 0

    def nothing(self) -> bytes:
        """No properties, where there may be some."""
        return b"\0" if self.level == _5 else b""

    def send(self, packet: bytes) -> None:
        try:
            self.sock.sendall(packet)
        except OSError:
            return

    def deliver(self, said: Said, qos: int, *, retain: bool) -> None:
        qos = min(qos, said.qos, 1)
        self._next_id = self._next_id % 65_535 + 1
        identifier = self._next_id.to_bytes(2) if qos else b""
        if qos:
            self.unacknowledged[self._next_id] = said
        properties = self.nothing()
        if self.level == _5 and said.response_topic is not None:
            block = b"\x08" + wire.text(said.response_topic)
            properties = wire.varint(len(block)) + block
        body = wire.text(said.topic) + identifier + properties + said.payload
        self.send(wire.pack(wire.PUBLISH, body, qos << 1 | retain))


class PlayedBroker(Server):
    """`with PlayedBroker(AWS) as broker:` takes any number of clients at `broker.port`."""

    def __init__(self, limits: Limits, tls: ssl.SSLContext | None = None, *, patience: int = 4) -> None:
        super().__init__(f"played {limits.title}")
        self._patience = patience
        self.limits = limits
        self.thrown_out: list[str] = []
        self.published: list[Said] = []
        self.client_ids: list[str] = []
        self.pings = 0
        self._tls = tls
        self._retained: dict[str, Said] = {}
        #: By client id.
        self._left: dict[str, list[Said]] = {}
        self._clients: list[_Connection] = []
        self._threads: list[threading.Thread] = []
        self._turn = 0

    def __str__(self) -> str:
        return f"thrown out for {self.thrown_out}, published {[(said.topic, said.payload[:40]) for said in self.published[-8:]]}"

    def _in_vain(self) -> str | None:
        return f"it was thrown out {self._patience} times" if len(self.thrown_out) >= self._patience else None

    def said(self, topic: str) -> list[bytes]:
        with self._changed:
            return [one.payload for one in self.published if one.topic == topic]

    def wait_for(self, topic: str, count: int = 1) -> list[bytes]:
        """What was published on a topic, when that are `count` messages."""
        self.wait(lambda: len(self.said(topic)) >= count, f"{count} messages on {topic}")
        return self.said(topic)

    def ends_before(self, topic: str, payload: bytes | None = None) -> int:
        """How many connections the broker had closed when this came first: however late one looks."""
        with self._changed:
            return next(one.ends for one in self.published if one.topic == topic and payload in {None, one.payload})

    def wait_for_payload(self, topic: str, payload: bytes) -> None:
        self.wait(lambda: payload in self.said(topic), f"{payload!r} on {topic}")

    def ask(self, topic: str, payload: bytes, response_topic: str | None = None) -> None:
        """Send a message to whoever has subscribed to its topic."""
        with self._changed:
            self._route(Said(topic, payload, 1, retain=False, response_topic=response_topic))

    def keep(self, topic: str, payload: bytes) -> None:
        """Retain a message."""
        with self._changed:
            self._retained[topic] = Said(topic, payload, 1, retain=True)

    def end(self) -> None:
        super().end()
        with self._changed:
            clients = list(self._clients)
        for client in clients:
            try:
                client.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(DEADLINE)

    # -- in threads

    def _accepted(self, sock: socket.socket) -> None:
        thread = threading.Thread(target=self._look_after, args=(sock,), name=self._name)
        self._threads.append(thread)
        thread.start()

    def _look_after(self, sock: socket.socket) -> None:
        try:
            end = self._tls.wrap_socket(sock, server_side=True) if self._tls else sock
        except OSError:
            sock.close()
            return
        client = _Connection(end)
        with self._changed:
            self._clients.append(client)
        try:
            left = self._converse(client)
        except _ClosedError as reason:
            left = False
            with self._changed:
                self.thrown_out.append(str(reason))
        with self._changed:
            self._clients.remove(client)
            self._left.setdefault(client.name, []).extend(client.unacknowledged.values())
            if not left and client.will is not None:
                self._take(client.will)
            self._changed.notify_all()
        end.close()

    def _converse(self, client: _Connection) -> bool:
        """Serve until the end; return whether the client said goodbye."""
        arrived = bytearray()
        client.sock.settimeout(DEADLINE)
        while True:
            try:
                data = client.sock.recv(wire.CHUNK)
            except TimeoutError:
                raise _ClosedError("silence") from None
            except OSError:
                return False
            if not data:
                return False
            arrived += data
            size = wire.size_of(arrived) or 0
            if self.limits.max_packet is not None and size > self.limits.max_packet:
                raise _ClosedError(f"a packet of {size} bytes")
            for packet in wire.take(arrived):
                if packet.kind == 14:  # DISCONNECT
                    return True
                with self._changed:
                    self._react(client, packet)
                    self._changed.notify_all()

    def _react(self, client: _Connection, packet: wire.Packet) -> None:
        identifier = packet.body[:2]
        match packet.kind:
            case wire.CONNECT:
                self._connect(client, packet.body)
            case wire.SUBSCRIBE:
                self._subscribe(client, packet.body)
            case wire.UNSUBSCRIBE:
                client.send(wire.pack(wire.UNSUBACK, identifier + client.nothing() + client.nothing()))
            case wire.PINGREQ:
                self.pings += 1
                client.send(wire.pack(wire.PINGRESP))
            case wire.PUBLISH:
                self._publish(client, packet)
            case wire.PUBACK:
                client.unacknowledged.pop(int.from_bytes(identifier), None)
            case kind if kind == _PUBREL:
                self._take(client.held.pop(int.from_bytes(identifier)))
                client.send(wire.pack(_PUBCOMP, identifier))

    def _connect(self, client: _Connection, body: bytes) -> None:
        client.level, flags = body[6], body[7]
        asked, place = int.from_bytes(body[8:10]), 10
        if client.level == _5:
            place += 1 + body[place]

        def field_() -> bytes:
            nonlocal place
            size = int.from_bytes(body[place : place + 2])
            place += 2 + size
            return body[place - size : place]

        client.name = field_().decode()
        self.client_ids.append(client.name)
        if flags & 0x04:
            if client.level == _5:
                place += 1 + body[place]
            topic, payload = field_().decode(), field_()
            client.will = Said(topic, payload, flags >> 3 & 3, retain=bool(flags & 0x20))
        login = (field_().decode() if flags & 0x80 else "", field_().decode() if flags & 0x40 else "")
        if self.limits.login is not None and login != self.limits.login:
            client.will = None
            client.send(wire.pack(wire.CONNACK, bytes((0, _BAD_LOGIN[client.level])) + client.nothing()))
            raise _ClosedError("a wrong user name or password")
        if (will := client.will) is not None and self.limits.checks_will:
            client.will = None
            self._check_will(client, will)
            client.will = will
        client.keep_alive = self.limits.keep_alive or asked
        if client.keep_alive:
            client.sock.settimeout(1.5 * client.keep_alive)
        properties = self.limits.connack if client.level == _5 else b""
        block = wire.varint(len(properties)) + properties if client.level == _5 else b""
        left = self._left.pop(client.name, [])
        client.send(wire.pack(wire.CONNACK, bytes((bool(left), 0)) + block))
        for said in left:
            client.deliver(said, 1, retain=False)

    def _check_will(self, client: _Connection, will: Said) -> None:
        """Refuse a will; where CONNACK would say that there is no such thing it has a word for it (MQTT 5, 3.2.2.2)."""
        known = [NO_RETAIN] if will.retain else []
        known += [maximum_qos(qos) for qos in range(will.qos)]
        for said in known:
            if client.level == _5 and said in self.limits.connack:
                client.send(wire.pack(wire.CONNACK, bytes((0, 0x9A if said == NO_RETAIN else 0x9B, 0))))
                break
        self._check(will, "a will")

    def _check(self, said: Said, what: str = "a message") -> None:
        """Close the connection over what is forbidden."""
        limits = self.limits
        if said.retain and not limits.retain:
            raise _ClosedError(f"{what} that is retained, on {said.topic}")
        if said.qos > limits.max_qos:
            raise _ClosedError(f"{what} at QoS {said.qos}")
        self._check_topic(said.topic)

    def _check_topic(self, topic: str) -> None:
        if self.limits.max_slashes is not None and topic.count("/") > self.limits.max_slashes:
            raise _ClosedError(f"{topic.count('/')} slashes in {topic}")
        if not self.limits.allows(topic):
            raise _ClosedError(f"{topic} is forbidden")

    def _subscribe(self, client: _Connection, body: bytes) -> None:
        place, codes, new = 2 + len(client.nothing()), b"", []
        while place < len(body):
            size = int.from_bytes(body[place : place + 2])
            topic, qos = body[place + 2 : place + 2 + size].decode(), body[place + 2 + size] & 3
            place += 3 + size
            shared = topic.startswith("$share/")
            if shared and not self.limits.shared:
                codes += b"\x9e" if client.level == _5 else b"\x80"
                continue
            bare = topic.split("/", 2)[2] if shared else topic
            self._check_topic(bare)
            if self.limits.refuses(bare):
                codes += b"\x87" if client.level == _5 else b"\x80"
                continue
            if self.limits.max_filters is not None and len({*client.filters, topic}) > self.limits.max_filters:
                raise _ClosedError(f"more than {self.limits.max_filters} topic filters")
            client.filters[topic] = granted = min(qos, self.limits.max_qos)
            codes += bytes((granted,))
            new += [] if shared else [topic]
        if self.limits.filters_at_once is not None and len(codes) > self.limits.filters_at_once:
            raise _ClosedError(f"{len(codes)} topic filters in one SUBSCRIBE")
        client.send(wire.pack(wire.SUBACK, body[:2] + client.nothing() + codes))
        for topic in new:
            for said in self._retained.values():
                if paho.topic_matches_sub(topic, said.topic):
                    client.deliver(said, client.filters[topic], retain=True)

    def _publish(self, client: _Connection, packet: wire.Packet) -> None:
        topic, packet_id, rest = wire.read_publish(packet)
        if client.level == _5:
            # Properties: their length, of at most two bytes here, and themselves.
            long = rest[0] >= 0x80
            length = (rest[0] & 0x7F) + (rest[1] << 7 if long else 0)
            rest = rest[1 + long + length :]
        said = Said(topic, rest, packet.flags >> 1 & 3, retain=bool(packet.flags & 1))
        self._check(said)
        if said.qos == 2 and packet_id is not None:
            client.held[packet_id] = said
            client.send(wire.pack(_PUBREC, packet_id.to_bytes(2)))
            return
        self._take(said)
        if packet_id is not None:
            client.send(wire.pack(wire.PUBACK, packet_id.to_bytes(2)))

    def _take(self, said: Said) -> None:
        self.published.append(said._replace(ends=len(self.thrown_out)))
        if said.retain:
            self._retained[said.topic] = said
        self._route(said)

    def _route(self, said: Said) -> None:
        pools: dict[str, list[_Connection]] = {}
        for client in self._clients:
            for wanted in client.filters:
                shared = wanted.startswith("$share/")
                if not paho.topic_matches_sub(wanted.split("/", 2)[2] if shared else wanted, said.topic):
                    continue
                if shared:
                    pools.setdefault(wanted, []).append(client)
                else:
                    client.deliver(said, client.filters[wanted], retain=False)
                    break
        for wanted, members in pools.items():
            self._turn += 1
            member = members[self._turn % len(members)]
            member.deliver(said, member.filters[wanted], retain=False)
