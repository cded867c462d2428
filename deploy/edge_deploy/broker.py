"""The connection to the broker: the only import of paho, whose exceptions and return codes end here.

Rules:
* No thread: paho's loop runs inside `receive`, `publish` and `settle`, so its callbacks never meet our code half way.
* Callbacks only note things down. An exception in one of them would leave paho in a state that nobody foresaw.
* paho keeps what is unconfirmed over a new connection, and sends it again.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import paho.mqtt.client as paho
from edge_deploy.wire import Limits
from edge_deploy.wording import some
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.contract.messages import Message
from edge_agent.errors import BrokerError, FileError, ProtocolRefusedError
from edge_agent.wording import plain

#: Messages that may be unconfirmed at a time: of the largest pieces of a model they are 2 MB.
WINDOW: Final = 16
#: Seconds in which the broker has to answer what it is asked.
_PATIENCE: Final = 30.0
#: Seconds for saying goodbye.
_GOODBYE: Final = 1.0
#: Longest single wait: paho sends its keep-alive in between.
_TURN: Final = 1.0
#: Longest pause between two attempts to connect again.
_MAX_BACKOFF: Final = 30.0
#: So many connections that end over the same messages are no accident.
_MOST_LOSSES: Final = 3
#: CONNACK, "Unsupported Protocol Version".
_WRONG_PROTOCOL: Final = 0x84


class Login(NamedTuple):
    """Where the broker is and how to log in: the names and defaults of `[mqtt]` in the agent's configuration."""

    host: str = "localhost"
    port: int = 1883
    transport: Literal["tcp", "websockets", "unix"] = "tcp"
    path: str = "/mqtt"
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    username: str | None = None
    password: str | None = None
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    alpn: tuple[str, ...] = ()
    connect_timeout: float = 5.0

    def __str__(self) -> str:
        return plain(f"{self.host}:{self.port}" if self.transport != "unix" else self.host)


def connect(login: Login) -> Broker:
    """Connect, with MQTT 5 if the broker speaks it. Raises `BrokerError`, `FileError` for certificates."""
    protocols = ("5", "3.1.1") if login.protocol == "auto" else (login.protocol,)
    for protocol in protocols[:-1]:
        try:
            return Broker(login, protocol, patience=login.connect_timeout)
        except ProtocolRefusedError:
            pass  # the next one is older
    return Broker(login, protocols[-1])


class Broker:
    """A `Wire` over paho."""

    def __init__(self, login: Login, protocol: str, patience: float = _PATIENCE) -> None:
        self._login = login
        self._limits = Limits()
        self._inbox: list[Message] = []
        self._filters: set[str] = set()
        self._wanted: dict[int, list[str]] = {}
        self._refused: list[str] = []
        self._under_way: dict[int, str] = {}
        self._answer: tuple[int, str] | None = None
        self._attempts = 0
        #: Connections that ended since the broker last confirmed something.
        self._losses = 0
        #: Whether the broker had accepted the connection that ended.
        self._was_connected = False
        self._next_attempt = 0.0
        self._client = _client(login, protocol)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._options: dict[str, Any] = {}
        if protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # untyped in paho
            properties.SessionExpiryInterval = 0
            self._options = {"clean_start": True, "properties": properties}
        try:
            self._client.connect(login.host, login.port, keepalive=30, **self._options)
        except (OSError, ValueError) as error:
            raise BrokerError(
                f"broker {login}: no connection: {_explained(error)}; check --host, --port and that the broker runs"
            ) from error
        try:
            self._wait_for_answer(protocol, patience)
        except BaseException:
            self.close()
            raise

    def _wait_for_answer(self, protocol: str, patience: float) -> None:
        ends = time.monotonic() + patience
        while self._answer is None and time.monotonic() < ends:
            if not self._loop(_TURN):
                break
        if self._answer is None:
            said = f"broker {self._login}: it ended the connection, or did not answer, to MQTT {protocol}"
            raise ProtocolRefusedError(f"{said}; is there a broker at this port, and does it take TLS?")
        code, words = self._answer
        if code == _WRONG_PROTOCOL:
            raise ProtocolRefusedError(f"broker {self._login}: it does not speak MQTT {protocol}")
        if code:
            raise BrokerError(
                f"broker {self._login}: login refused: {plain(words)}; check --username and --password-file"
            )

    @property
    def limits(self) -> Limits:
        """What the broker takes."""
        return self._limits

    @property
    def connected(self) -> bool:
        """Whether the connection is there."""
        return self._client.is_connected()

    def subscribe(self, filters: Iterable[str]) -> None:
        """Subscribe to all. Raises `BrokerError` where the broker refuses one."""
        # In packets of a few: AWS IoT takes eight.
        new = sorted(set(filters) - self._filters)
        self._filters.update(new)
        if new:
            self._send_filters(new)
            self._until(lambda: not self._wanted, "the subscriptions")
        self._require_allowed("reading")

    def unsubscribe(self, filters: Iterable[str]) -> None:
        """Take subscriptions back."""
        for one in set(filters) & self._filters:
            self._filters.discard(one)
            if self.connected:
                self._client.unsubscribe(one)

    def publish(self, topic: str, payload: bytes) -> None:
        """Send a retained message; waits while too many are unconfirmed."""
        self._until(lambda: len(self._under_way) < WINDOW, "what was published")
        # paho keeps it also where the connection has just ended, which is all that its return code would say.
        self._under_way[self._client.publish(topic, payload, qos=1, retain=True).mid] = topic
        self._require_allowed("writing")

    def settle(self) -> None:
        """Wait until the broker has confirmed everything."""
        self._until(lambda: not self._under_way, "what was published")
        self._require_allowed("writing")

    def receive(self, seconds: float) -> list[Message]:
        """Return what arrived, after so many seconds at the latest."""
        ends, connected = time.monotonic() + seconds, self.connected
        while True:
            self._turn(max(0.0, min(_TURN, ends - time.monotonic())))
            # Whoever waits has to see that a connection ended, also where the next one is made soon.
            if self._inbox or time.monotonic() >= ends or (connected and not self.connected):
                inbox, self._inbox = self._inbox, []
                return inbox

    def close(self) -> None:
        """End the connection."""
        self._client.disconnect()
        # paho closes its socket when it has sent that, or when the broker has hung up.
        ends = time.monotonic() + _GOODBYE
        with contextlib.suppress(BrokerError):  # whatever it still says
            while self._loop(0.1) and time.monotonic() < ends:
                continue
        if (left := self._client.socket()) is not None:  # a broker that is silent, or a machine that is busy
            left.close()

    def _turn(self, seconds: float) -> None:
        """Let paho work; connect again when the connection has ended."""
        if self._loop(seconds):
            return
        now = time.monotonic()
        if now < self._next_attempt:
            time.sleep(min(seconds, self._next_attempt - now))
            return
        self._attempts += 1
        if self._was_connected:
            self._losses += 1
            self._was_connected = False
        self._next_attempt = now + random.uniform(0.5, 1.0) * min(_MAX_BACKOFF, 2.0**self._attempts)  # noqa: S311 - not a secret
        self._wanted.clear()
        try:
            self._client.reconnect()
        except OSError:
            return  # the next attempt comes after a pause

    def _loop(self, seconds: float) -> bool:
        """Let paho read and write; return whether the connection is still there."""
        try:
            return self._client.loop(seconds) == MQTTErrorCode.MQTT_ERR_SUCCESS
        except OSError:
            return False
        except Exception as error:
            # Over a packet that it can't read, paho raises what comes up: ValueError over a reason code that it does not know.
            over = f", after {some(sorted(self._under_way.values()))} was sent" if self._under_way else ""
            raise BrokerError(
                f"broker {self._login}: it sent a packet that can't be read ({plain(str(error))}){over}; see its log, and whether it "
                "keeps retained messages of this size"
            ) from error

    def _until(self, done: Callable[[], bool], what: str) -> None:
        ends = time.monotonic() + _PATIENCE
        waiting = len(self._under_way)
        while not done():
            if time.monotonic() >= ends and not self.connected:
                raise BrokerError(
                    f"broker {self._login}: the connection has ended, and can't be made again in {_PATIENCE:g} s; see whether the broker "
                    "runs, then run the same command again"
                )
            if time.monotonic() >= ends:
                raise BrokerError(f"broker {self._login}: no confirmation of {what} in {_PATIENCE:g} s; see its log")
            if self._losses >= _MOST_LOSSES and self._under_way:
                raise BrokerError(
                    f"broker {self._login}: it ends the connection each time over {some(sorted(self._under_way.values()))}; see its log, and "
                    "whether it keeps retained messages of this size"
                )
            self._turn(_TURN)
            if len(self._under_way) < waiting:
                ends, waiting = time.monotonic() + _PATIENCE, len(self._under_way)

    def _require_allowed(self, what: str) -> None:
        if self._refused:
            refused, self._refused = self._refused, []
            raise BrokerError(
                f"broker {self._login}: {what} {some(refused)} was refused; allow it in the broker's access rules"
            )

    def _send_filters(self, filters: list[str]) -> None:
        for start in range(0, len(filters), 8):
            some_of_them = filters[start : start + 8]
            _, mid = self._client.subscribe([(one, 1) for one in some_of_them])
            if mid is not None:
                self._wanted[mid] = some_of_them

    # -- what paho calls

    def _on_connect(self, _client: object, _data: object, _flags: object, reason: Any, properties: Any) -> None:
        self._answer = (reason.value if reason.is_failure else 0), str(reason)
        if reason.is_failure:
            return
        self._attempts = 0
        self._was_connected = True
        self._limits = Limits(
            getattr(properties, "RetainAvailable", 1) != 0, getattr(properties, "MaximumPacketSize", None)
        )
        if self._filters:
            self._send_filters(sorted(self._filters))

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # no topic of ours
        self._inbox.append(Message(topic, bytes(message.payload), message.qos, retained=message.retain))

    def _on_publish(self, _client: object, _data: object, mid: int, reason: Any, _properties: object) -> None:
        self._losses = 0
        topic = self._under_way.pop(mid, "")
        if reason.is_failure:
            self._refused.append(f"{topic} ({reason})")

    def _on_subscribe(self, _client: object, _data: object, mid: int, reasons: list[Any], _properties: object) -> None:
        for one, reason in zip(self._wanted.pop(mid, []), reasons, strict=False):
            if reason.is_failure:
                self._refused.append(f"{one} ({reason})")


def _client(login: Login, protocol: str) -> paho.Client:
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        # Several people may be at it at once, and in containers process ids are few.
        client_id=f"edge-deploy-{os.getpid()}-{secrets.token_hex(4)}",
        protocol=paho.MQTTv5 if protocol == "5" else paho.MQTTv311,
        transport=login.transport,
        clean_session=None if protocol == "5" else True,
        reconnect_on_failure=False,
    )
    client.connect_timeout = login.connect_timeout
    if login.transport == "websockets":
        client.ws_set_options(path=login.path)
    if login.username is not None:
        client.username_pw_set(login.username, login.password)
    if login.tls:
        client.tls_set_context(_context(login))
    return client


def _context(login: Login) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=login.ca)
        if login.certificate is not None:
            context.load_cert_chain(login.certificate, login.key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(file) for file in (login.ca, login.certificate, login.key) if file is not None)
        raise FileError(f"{files}: not readable as certificates (PEM): {_explained(error)}") from error
    # As the agent does: authorities of private networks seldom have all that Python 3.13 asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if login.alpn:
        context.set_alpn_protocols(list(login.alpn))
    return context


def _explained(error: Exception) -> str:
    return plain(getattr(error, "strerror", None) or str(error))
