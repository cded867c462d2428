"""The real agent in a thread of the test's, and a relay to put between it and its broker."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import paho.mqtt.client as paho
import pytest

from edge_agent.assembly import make_connection_settings, make_plan
from edge_agent.config.models import loading
from edge_agent.config.settings import Settings
from edge_agent.host.process import Signals
from edge_agent.link.link import Address
from edge_agent.link.slow_lane import Plain
from edge_agent.serving.agent import Agent
from edge_agent.serving.plan import ConnectionSettings, Plan
from tests import wire
from tests.background import Background, Server
from tests.brokers import HOST, BrokerProcess
from tests.contract import witness
from tests.described import served
from tests.patience import DEADLINE, fair
from tests.wire import PUBACK, PUBLISH, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE

#: Without a will of its own each test has its node; nothing else stands on the topics of a broker of its own.
NODE: Final = "kitchen"
STATE, INFO = f"edge/{NODE}/state", f"edge/{NODE}/info"

#: Longest pause between two connections, in seconds.
_PAUSE: Final = 0.05

#: For tests that hold with both versions of the protocol.
PROTOCOLS: Final = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


class Stop(Signals):
    """Says stop when told to, from any thread, as a signal would."""

    def now(self) -> None:
        self.received = True
        os.write(self._write, b"x")

    def reload_now(self) -> None:
        self._reload = True
        os.write(self._write, b"x")

    def child_ended_now(self) -> None:
        self._ended = True
        os.write(self._write, b"x")

    def close(self) -> None:
        os.close(self.wakeup)
        os.close(self._write)


def settings(port: int, mqtt: dict[str, Any] | None, sections: dict[str, Any]) -> Settings:
    mqtt = {"host": HOST, "port": port, "connect_timeout": 1.0, **(mqtt or {})}
    # One more message, which is large, and comes at a time of its own: tests of it have it, and those of the installed agent.
    return Settings(mqtt=mqtt, **{"node": {"id": NODE}, "docs": {"publish": False}, **sections})


def prepared(loaded: Settings) -> tuple[ConnectionSettings, Plan]:
    """What the agent makes of its settings."""
    models = loading(loaded).models()
    # What it publishes from now on is looked at.
    witness.current.served(loaded, served(models))
    return impatient(make_connection_settings(loaded)), make_plan(loaded, models)


def impatient(connecting: ConnectionSettings) -> ConnectionSettings:
    """The same with pauses between connections that are shorter than any setting: how long they are is held by tests with a clock of their
    own, and here they would only be waited for."""
    return connecting._replace(max_backoff=_PAUSE)


class RunningAgent(Background):
    """`with RunningAgent(port) as agent:` runs inside the block; it is asked to stop at its end."""

    def __init__(self, port: int, *, mqtt: dict[str, Any] | None = None, **sections: Any) -> None:
        super().__init__("agent")
        # The same for all its life: a reload with another one would connect anew.
        self.timeout = {"connect_timeout": min(60.0, fair(1.0))}
        self.agent = Agent(*self._prepared(settings(port, {**self.timeout, **(mqtt or {})}, sections)))
        self._next: tuple[ConnectionSettings, Plan] | None = None
        self._stop = Stop()

    def _prepared(self, loaded: Settings) -> tuple[ConnectionSettings, Plan]:
        return prepared(loaded)

    def _run(self) -> None:
        while self.agent.run(self._stop):
            assert self._stop.take_reload()
            assert self._next is not None
            self.agent.take_over(*self._next)

    def _wake(self) -> None:
        self._stop.now()

    def reload(self, port: int, *, mqtt: dict[str, Any] | None = None, **sections: Any) -> None:
        """Go on with new settings, as after SIGHUP, as soon as the agent takes it up."""
        self._next = self._prepared(settings(port, {**self.timeout, **(mqtt or {})}, sections))
        self._stop.reload_now()

    def stop(self) -> float:
        """Stop it, as SIGTERM would; return how many seconds it took."""
        began = time.monotonic()
        self.end()
        self._fail()
        return time.monotonic() - began

    def end(self) -> None:
        if self._closed.is_set():
            return
        super().end()
        self._stop.close()


def wait_until(ready: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    """Look again and again; for what nobody tells of (a line in a log, a counter)."""
    ends = time.monotonic() + deadline
    while not ready():
        if time.monotonic() > ends:
            raise TimeoutError(f"after {deadline:g} s: {what}")
        time.sleep(0.005)


def wait_for_line(caplog: pytest.LogCaptureFixture, *parts: str, count: int = 1) -> str:
    """The first line with all of `parts`, when there are `count` of them."""

    def found() -> list[str]:
        messages = [record.getMessage() for record in list(caplog.records)]
        return [message for message in messages if all(part in message for part in parts)]

    wait_until(lambda: len(found()) >= count, f"{count} lines with {parts}, in {caplog.text}")
    return found()[0]


def plainly(client: paho.Client, address: Address, *, is_5: bool, **_: object) -> Plain:
    """In place of `prepare`: as with a paho that it does not know."""
    return Plain(client, address, is_5=is_5)


class Packet(NamedTuple):
    """One packet that went through the relay. `up` is from the client to the broker; the id is None where the kind has none."""

    connection: int
    up: bool
    kind: int
    id: int | None
    topic: str | None
    again: bool
    #: Of PUBLISH: properties (MQTT 5) and payload.
    rest: bytes = b""


class Relay(Server):
    """A TCP relay that knows where packets begin and end: it keeps a list of them, and holds back what `hold` names.

    What is held back is neither passed on nor listed until `release`, which lets it through in the order it came, and
    may hold back something else from then on;
    `cut` ends all connections without a goodbye, with what is held back.
    """

    def __init__(self, broker: BrokerProcess) -> None:
        super().__init__("relay")
        self._broker = broker
        self._packets: list[Packet] = []
        self._hold: Callable[[Packet], bool] | None = None
        self._held: list[tuple[socket.socket, bytes, Packet]] = []
        self._ends: list[socket.socket] = []
        self._all: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def end(self) -> None:
        super().end()
        self.cut()
        for thread in self._threads:
            thread.join(DEADLINE)
        for end in self._all:
            end.close()

    def hold(self, what: Callable[[Packet], bool]) -> None:
        with self._changed:
            self._hold = what

    def release(self, then_hold: Callable[[Packet], bool] | None = None) -> None:
        with self._changed:
            self._hold = then_hold
            held, self._held = self._held, []
            for target, data, packet in held:
                self._pass(target, data, packet)

    def cut(self) -> None:
        with self._changed:
            self._held.clear()
            ends, self._ends = self._ends, []
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def packets(self, *, up: bool, kind: int) -> list[Packet]:
        """Those that went through so far."""
        with self._changed:
            return [packet for packet in self._packets if packet.up == up and packet.kind == kind]

    def log(self) -> list[Packet]:
        with self._changed:
            return list(self._packets)

    @property
    def held(self) -> list[Packet]:
        with self._changed:
            return [packet for _, _, packet in self._held]

    def __str__(self) -> str:
        return f"so far {self._packets[-20:]}, held {self._held}"

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="relay")
        self._threads.append(thread)
        thread.start()

    def _accepted(self, sock: socket.socket) -> None:
        try:
            server = socket.create_connection((self._broker.host, self._broker.port), DEADLINE)
        except OSError:
            sock.close()
            return
        for end in (sock, server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._changed:
            self._all += [sock, server]
            self._ends += [sock, server]
        self._start(self._forward, sock, server, True, self.connections)
        self._start(self._forward, server, sock, False, self.connections)

    def _forward(self, source: socket.socket, target: socket.socket, up: bool, connection: int) -> None:
        buffer = b""
        while True:
            try:
                data = source.recv(65_536)
            except OSError:
                data = b""
            if not data:
                break
            buffer += data
            while (size := wire.size_of(buffer)) is not None and size <= len(buffer):
                raw, buffer = buffer[:size], buffer[size:]
                packet = _read(raw, up, connection)
                with self._changed:
                    if self._hold is not None and self._hold(packet):
                        self._held.append((target, raw, packet))
                        self._changed.notify_all()
                    else:
                        self._pass(target, raw, packet)
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _pass(self, target: socket.socket, data: bytes, packet: Packet) -> None:
        # Listed before it is sent: what it causes comes after it in the list.
        self._packets.append(packet)
        self._changed.notify_all()
        try:
            target.sendall(data)
        except OSError:
            return


def _read(raw: bytes, up: bool, connection: int) -> Packet:
    kind, flags = raw[0] >> 4, raw[0] & 0x0F
    body = raw[1:]
    while body[0] & 0x80:
        body = body[1:]
    body = body[1:]
    topic: str | None = None
    packet_id: int | None = None
    rest = b""
    if kind == PUBLISH:
        size = int.from_bytes(body[:2])
        topic = body[2 : 2 + size].decode()
        if flags & 0b0110:
            packet_id = int.from_bytes(body[2 + size : 4 + size])
        rest = body[2 + size + (2 if packet_id is not None else 0) :]
    elif kind in {PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK}:
        packet_id = int.from_bytes(body[:2])
    return Packet(connection, up, kind, packet_id, topic, kind == PUBLISH and bool(flags & 0b1000), rest)
