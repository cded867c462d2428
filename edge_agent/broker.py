"""One connection to the broker: the only file that imports paho.

Rules:

* A `Link` is one connection, from CONNECT to its end; the next connection is a new one. Nothing of an old epoch (a
  late acknowledgement, a queued answer) can reach a new one: the broker sends again what was not acknowledged.
* No thread. Callbacks only write down what happened; `receive` is where the connection lives and where its end is
  raised, as `BrokerError`.
* An input is acknowledged after the broker has confirmed its answers (`edge_agent.ledger`).
* Nothing grows without bound: reading stops while too much is unsent, and no more answers are unconfirmed than the
  broker's Receive Maximum allows.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.errors import BrokerError, ProtocolRefusedError
from edge_agent.health import Tally
from edge_agent.ledger import Debt, Ledger
from edge_agent.messages import Answer, Message, Refused
from edge_agent.topics import MAX_TOPIC_BYTES

_log = logging.getLogger(__name__)

#: Messages taken as one batch at the most.
_BATCH: Final = 1000
#: Answers at QoS 0 that may wait for the socket before reading stops.
_MAX_UNSENT: Final = 1000
#: From the TCP connection to the granted subscriptions, in connect timeouts.
_HANDSHAKE: Final = 3.0
#: Longest wait on the socket, so that keep-alive is looked after.
_TICK: Final = 1.0
#: MQTT 5 property "Receive Maximum" when the broker sends none: the protocol's own default.
_DEFAULT_RECEIVE_MAXIMUM: Final = 65_535


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """Files of the TLS connection; None for `ca` takes the system's own."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the broker is and how to log in. Times in seconds."""

    host: str = "localhost"
    port: int = 1883
    client_id: str
    username: str | None = None
    password: str | None = None
    tls: TlsFiles | None = None
    keepalive: int = 30
    session_expiry: int = 0
    receive_maximum: int = 500
    connect_timeout: float = 3.0

    def __repr__(self) -> str:  # a dataclass would show the password
        return f"Address({self.client_id}@{self})"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Link:
    """One connection.

    `protocol` is "5" or "3.1.1". `will` is published by the broker when the connection dies. `subscriptions` are topic
    filters, all asked for at QoS 1; those that are refused stand in `refused` once `ready` is true.
    Raises `BrokerError` when no TCP or TLS connection comes about.
    """

    def __init__(
        self,
        address: Address,
        *,
        protocol: str = "5",
        will: Answer | None = None,
        subscriptions: Sequence[str] = (),
        tally: Tally | None = None,
    ) -> None:
        self.address = address
        self.protocol = protocol
        self.ready = False
        self.refused: list[Refused] = []
        #: Reasons of answers that the broker refused to take, with their topics; read and cleared by the owner.
        self.refused_answers: list[Refused] = []
        self._tally = tally or Tally()
        self._subscriptions = list(subscriptions)
        self._inbox: list[Message] = []
        self._outbox: deque[tuple[Answer, Debt | None]] = deque()
        self._ledger = Ledger()
        self._unconfirmed: dict[int, tuple[str, Debt | None]] = {}
        self._unsent: set[int] = set()
        self._send_limit = _DEFAULT_RECEIVE_MAXIMUM
        self._accepted = False  # CONNACK said yes
        self._end: BrokerError | None = None
        self._handshake_ends = time.monotonic() + address.connect_timeout * _HANDSHAKE
        self._next_upkeep = 0.0
        self._client = self._make_client(will)
        self._socket = self._connect()
        self._poll = select.poll()

    # -- what its owner does with it

    @property
    def in_flight(self) -> int:
        """Inputs not yet acknowledged plus answers not yet confirmed or sent."""
        return len(self._ledger) + len(self._outbox) + len(self._unconfirmed) + len(self._unsent)

    @property
    def unconfirmed(self) -> frozenset[str]:
        """Topics of QoS 1 messages that the broker has not confirmed yet."""
        return frozenset(topic for topic, _ in self._unconfirmed.values()) | {
            answer.topic for answer, _ in self._outbox
        }

    def receive(self, timeout: float, wakeup: int | None = None) -> list[Message]:
        """Move everything forward; return the messages that arrived, after `timeout` seconds at the latest.

        `wakeup` is a file descriptor that ends the wait when it is readable. Raises `BrokerError` when the connection
        has ended.
        """
        self._pump()
        self._wait(min(timeout, _TICK), wakeup)
        now = time.monotonic()
        if now >= self._next_upkeep:
            self._next_upkeep = now + _TICK
            self._client.loop_misc()
        if not self.ready and now >= self._handshake_ends:
            self._give_up()
        if self._end is not None:
            raise self._end
        self._pump()
        messages, self._inbox = self._inbox, []
        return messages

    def answer(self, message: Message, answers: Iterable[Answer]) -> None:
        """Send the answers of `message`; it is acknowledged once the broker has them all."""
        debt: Debt | None = message.token
        kept = list(answers)
        if debt is not None:
            self._acknowledge(self._ledger.answer(debt, sum(answer.qos > 0 for answer in kept)))
        for answer in kept:
            self._send(answer, debt if answer.qos else None)
        self._tally.answered += len(kept)

    def publish(self, answer: Answer) -> None:
        """Send a message that answers nothing: state, info, health."""
        self._send(answer, None)

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is in flight; return whether that came about. What arrives meanwhile is not looked at."""
        ends = time.monotonic() + seconds
        while self.in_flight > self._unanswered():
            remaining = ends - time.monotonic()
            if remaining <= 0:
                return False
            self._inbox.extend(self.receive(remaining))
        return True

    def close(self) -> None:
        """Say DISCONNECT (the will is not published) and close the socket."""
        self._client.on_disconnect = None
        self._client.disconnect()
        ends = time.monotonic() + _TICK
        while self._client.want_write() and time.monotonic() < ends:
            self._wait(_TICK, None)
        self.abandon()

    def abandon(self) -> None:
        """Close the socket without a word, so that the broker publishes the will."""
        self._client.on_disconnect = None
        self._client.on_log = None
        if (sock := self._client.socket()) is not None:
            sock.close()

    # -- connecting

    def _make_client(self, will: Answer | None) -> paho.Client:
        address, is_5 = self.address, self.protocol == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=address.client_id,
            protocol=paho.MQTTv5 if is_5 else paho.MQTTv311,
            clean_session=None if is_5 else address.session_expiry == 0,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = address.connect_timeout
        # paho would walk its whole queue on every acknowledgement; the limit that counts is kept here.
        client.max_inflight_messages_set(0)
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        if address.tls is not None:
            client.tls_set_context(_tls_context(address.tls))
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        # With this set, paho queues what it sends and leaves the writing to us: many packets a system call.
        client.on_socket_register_write = _leave_writing_to_us
        return client

    def _connect(self) -> Any:
        properties = None
        if self.protocol == "5":
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self.address.session_expiry
            properties.ReceiveMaximum = self.address.receive_maximum
        clean_start = self.address.session_expiry == 0 if self.protocol == "5" else paho.MQTT_CLEAN_START_FIRST_ONLY
        try:
            self._client.connect(
                self.address.host,
                self.address.port,
                self.address.keepalive,
                clean_start=clean_start,
                properties=properties,
            )
        except ssl.SSLCertVerificationError as error:
            raise BrokerError(
                f"broker {self.address}: its certificate is not accepted: {error.verify_message}; "
                "check tls.ca, the host name and the clock"
            ) from error
        except ssl.SSLError as error:
            raise BrokerError(f"broker {self.address}: no TLS connection: {error.reason or error}") from error
        except socket.gaierror as error:
            raise BrokerError(f"broker {self.address}: the host name is not known: {error.strerror}") from error
        except OSError as error:
            raise BrokerError(
                f"broker {self.address}: no connection: {error.strerror or error}; check mqtt.host, mqtt.port and "
                "that the broker runs"
            ) from error
        except ValueError as error:
            raise BrokerError(f"broker {self.address}: {error}") from error
        sock: Any = self._client.socket()
        if sock is None:
            raise BrokerError(f"broker {self.address}: closed the connection at once")
        # Without it, Nagle's algorithm and delayed acknowledgements stall each exchange by 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _on_connect(self, _client: object, _data: object, _flags: object, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            message = f"broker {self.address}: refused the connection: {_words(reason, properties)}"
            if "rotocol version" in str(reason):
                self._end = ProtocolRefusedError(f"{message} (MQTT {self.protocol})")
            else:
                self._fail(f"{message}; check mqtt.username, mqtt.password_file and the broker's rules")
            return
        self._accepted = True
        self._send_limit = getattr(properties, "ReceiveMaximum", _DEFAULT_RECEIVE_MAXIMUM)
        if not self._subscriptions:
            self.ready = True
            return
        if self.protocol == "5":
            # A retained message comes when a subscription is new, not again with every reconnect.
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            self._client.subscribe([(one, options) for one in self._subscriptions])
        else:
            self._client.subscribe([(one, 1) for one in self._subscriptions])

    def _on_subscribe(self, _client: object, _data: object, _packet: int, reasons: list[Any], properties: Any) -> None:
        self.refused = [
            Refused(subscription, _words(reason, properties))
            for subscription, reason in zip(self._subscriptions, reasons, strict=False)
            if reason.is_failure
        ]
        self.ready = True

    def _on_disconnect(self, _client: object, _data: object, _flags: object, reason: Any, properties: Any) -> None:
        if self._end is None:
            words = _words(reason, properties)
            if not self._accepted and self.protocol == "5":
                # An old broker that does not know MQTT 5 may just hang up.
                self._end = ProtocolRefusedError(f"broker {self.address}: ended the connection: {words} (MQTT 5)")
            else:
                self._fail(f"broker {self.address}: the connection ended: {words}")

    def _give_up(self) -> None:
        """End a handshake that takes too long."""
        if self._end is None and not self._accepted and self.protocol == "5":
            # Some brokers that do not know MQTT 5 wait for the rest of a CONNECT they misread.
            self._end = ProtocolRefusedError(f"broker {self.address}: no answer to CONNECT (MQTT 5)")
        self._fail(f"broker {self.address}: no answer to CONNECT or SUBSCRIBE in time; is it an MQTT broker?")

    def _fail(self, message: str) -> None:
        if self._end is None:
            self._end = BrokerError(message)

    # -- moving bytes

    def _wait(self, timeout: float, wakeup: int | None) -> None:
        """Wait for the socket, then read and write what it lets us."""
        if self._client.socket() is None:
            self._fail(f"broker {self.address}: the connection ended")
            return
        congested = len(self._unsent) > _MAX_UNSENT
        wanted = (0 if congested else select.POLLIN) | (select.POLLOUT if self._client.want_write() else 0)
        self._poll.register(self._socket, wanted)
        if wakeup is not None:
            self._poll.register(wakeup, select.POLLIN)
        pending = not congested and self._pending()
        ready = dict(self._poll.poll(0 if pending else max(0, int(timeout * 1000))))
        events = ready.get(self._socket.fileno(), 0)
        if events & select.POLLOUT:
            self._client.loop_write()
        if pending or events & ~select.POLLOUT:
            self._read()

    def _read(self) -> None:
        """Read packets until the socket has no more, or a batch is full."""
        while True:
            code = self._client.loop_read()
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS or self._client.socket() is None:
                self._fail(f"broker {self.address}: the connection ended: {paho.error_string(code)}")
                return
            if len(self._inbox) >= _BATCH or not (self._pending() or self._poll_readable()):
                return

    def _pending(self) -> bool:
        """Tell whether TLS has bytes that poll can't see."""
        pending = getattr(self._socket, "pending", None)
        return pending is not None and pending() > 0

    def _poll_readable(self) -> bool:
        return any(
            descriptor == self._socket.fileno() and events & select.POLLIN for descriptor, events in self._poll.poll(0)
        )

    # -- messages

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        debt = self._ledger.receive(message.mid) if message.qos else None
        self._tally.received += 1
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # MQTT forbids it and brokers check it; without a topic there is nowhere to answer.
            _log.warning("a message on a topic that is not UTF-8 was dropped")
            if debt is not None:
                self._acknowledge(self._ledger.answer(debt, 0))
            return
        content_type = getattr(message.properties, "ContentType", None)
        self._inbox.append(Message(topic, bytes(message.payload), message.qos, content_type, debt))

    def _send(self, answer: Answer, debt: Debt | None) -> None:
        if len(answer.topic.encode()) > MAX_TOPIC_BYTES:
            self._refuse(answer.topic, "the topic is too long", debt)
        elif answer.qos == 0:
            self._unsent.add(self._put(answer))
        else:
            self._outbox.append((answer, debt))

    def _pump(self) -> None:
        """Publish what the broker's Receive Maximum allows, then write what is queued as far as the socket takes it."""
        while self._outbox and len(self._unconfirmed) < self._send_limit:
            answer, debt = self._outbox.popleft()
            self._unconfirmed[self._put(answer)] = answer.topic, debt
        if self._client.want_write() and self._client.socket() is not None:
            self._client.loop_write()

    def _put(self, answer: Answer) -> int:
        properties = None
        if self.protocol == "5" and answer.content_type is not None:
            properties = _properties(PacketTypes.PUBLISH)
            properties.ContentType = answer.content_type
        return self._client.publish(answer.topic, answer.payload, answer.qos, answer.retain, properties).mid

    def _on_publish(self, _client: object, _data: object, packet_id: int, reason: Any, properties: Any) -> None:
        """Paho calls this when a QoS 0 message is written and when a QoS 1 message is confirmed."""
        if packet_id in self._unsent:
            self._unsent.remove(packet_id)
            return
        topic, debt = self._unconfirmed.pop(packet_id, ("", None))
        if reason.is_failure:
            # Refused for good (an ACL, a quota): it is counted and shown, and must not hold up what comes after it.
            self._refuse(topic, _words(reason, properties), debt)
        elif debt is not None:
            self._acknowledge(self._ledger.confirm(debt))

    def _refuse(self, topic: str, reason: str, debt: Debt | None) -> None:
        self._tally.refused += 1
        if len(self.refused_answers) < _BATCH:
            self.refused_answers.append(Refused(topic, reason))
        if debt is not None:
            self._acknowledge(self._ledger.confirm(debt))

    def _acknowledge(self, packet_ids: Iterable[int]) -> None:
        for packet_id in packet_ids:
            self._client.ack(packet_id, 1)
            self._tally.acknowledged += 1

    def _unanswered(self) -> int:
        """Inputs that have arrived and were not handed out or not answered yet."""
        return self._ledger.unanswered


def _leave_writing_to_us(_client: object, _data: object, _socket: object) -> None:
    """Do nothing: `Link` asks `want_write` before every wait."""


def _properties(packet: int) -> Any:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho left this one out


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.ca)
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(str(file) for file in (files.ca, files.certificate, files.key) if file is not None)
        raise BrokerError(f"TLS files can't be used ({named}): {error}") from error
    return context


def _words(reason: Any, properties: Any) -> str:
    """Return a reason code in words, with the broker's own Reason String when it sent one."""
    own = getattr(properties, "ReasonString", None)
    return f"{reason} ({own!r})" if own else str(reason)
