"""One connection to the broker. What knows paho are its private parts: `_paho`, `_stream` and `_plain`.

Rules:

* A `Link` is one connection, from CONNECT to its end; the next connection is a new one. Nothing of an old epoch (a
  late acknowledgement, a queued answer) can reach a new one: the broker sends again what was not acknowledged.
* No thread. Callbacks only write down what happened; `receive` is where the connection lives and where its end is
  raised, as `BrokerError`.
* What is sent, confirmed and acknowledged is `edge_agent.link.delivery`'s.
* Nothing grows without bound: reading stops while too much is unsent. A broker may not keep to ours (Mosquitto 2.0.11 lets out as many again with every
  acknowledgement as long as it has a queue; MQTT 3.1.1 can't be told): past `_PATIENCE` times that, inputs are left,
  and `SurplusError` ends the connection once all the others are settled, so that the broker sends them again.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from edge_agent.contract.messages import MAX_PAYLOAD_BYTES, Answer, Message, Refused
from edge_agent.errors import BrokerError, SurplusError
from edge_agent.link import endings, paho_client, transport
from edge_agent.link.delivery import DEFAULT_RECEIVE_MAXIMUM, Delivery
from edge_agent.link.fast_lane import Stream, prepare
from edge_agent.link.packets import Disconnect, Event, Puback, Publish
from edge_agent.link.patience import Patience
from edge_agent.link.poison import cause_of, cause_of_own
from edge_agent.link.subscriptions import Subscriptions
from edge_agent.link.tls import TlsOptions as TlsOptions  # noqa: PLC0414 - where users of this file look for it
from edge_agent.link.tls import digests as digests  # noqa: PLC0414
from edge_agent.link.tls import make_context as make_context  # noqa: PLC0414
from edge_agent.link.transport import Address as Address  # noqa: PLC0414
from edge_agent.tally import Tally

_log = logging.getLogger(__name__)

#: Messages taken as one batch at the most.
_BATCH: Final = 1000
#: Bytes that may wait for the socket before reading stops.
_MAX_UNWRITTEN: Final = 1 << 20
#: Longest wait on the socket, so that keep-alive is looked after.
_TICK: Final = 1.0
#: Inputs held at once, in our Receive Maximums. By default more than Mosquitto keeps for an absent client.
_PATIENCE: Final = 5


class Link:
    """One connection.

    `protocol` is "5" or "3.1.1". `will` is published by the broker when the connection dies. `subscriptions` are topic
    filters, all asked for at QoS 1; those that are refused stand in `refused` once `ready` is true. Those that are true
    ask for retained messages on every connection, not only when the subscription is new. Of a payload larger than
    `max_payload` bytes only the beginning is kept, which is still larger.
    Raises `BrokerError` when no TCP or TLS connection comes about.
    """

    def __init__(
        self,
        address: Address,
        *,
        protocol: str = "5",
        will: Answer | None = None,
        subscriptions: Mapping[str, bool] = MappingProxyType({}),
        tally: Tally | None = None,
        max_payload: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        self.address = address
        self.protocol = protocol
        self._tally = tally or Tally()
        self._inbox: list[Message] = []
        self._aliases: dict[int, str] = {}
        self._left = False  # inputs were left with the broker
        self._accepted = False  # CONNACK said yes
        self._highest_qos = 2
        self._end: BrokerError | None = None
        self._next_upkeep = 0.0
        self._client = paho_client.make_client(address, protocol, will)
        self._subscriptions = Subscriptions(self._client, protocol, subscriptions)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._wire = prepare(self._client, address, is_5=protocol == "5", max_payload=max_payload)
        self._delivery = Delivery(self._wire, self._tally)
        #: Reasons of answers that the broker refused to take, with their topics; read and cleared by the owner.
        self.refused_answers = self._delivery.refused
        paho_client.connect(self._client, address, protocol, self._wire)
        #: When the broker's certificate expires, in seconds since 1970; None without TLS.
        self.certificate_ends = transport.certificate_ends(self._wire.socket)
        self._poll = select.poll()
        self._wakeup: int | None = None  # registered with the poll
        self._patience = Patience(address.connect_timeout, address.keepalive, time.monotonic())

    # -- what its owner does with it

    @property
    def ready(self) -> bool:
        """Whether the broker has let us in, and granted or refused each subscription."""
        return self._accepted and self._subscriptions.settled

    @property
    def refused(self) -> list[Refused]:
        """Subscriptions that the broker refused."""
        return self._subscriptions.refused

    @property
    def in_flight(self) -> int:
        """Inputs not yet acknowledged plus answers not yet confirmed."""
        return self._delivery.in_flight

    @property
    def unconfirmed(self) -> frozenset[str]:
        """Topics of QoS 1 messages that the broker has not confirmed yet."""
        return self._delivery.unconfirmed

    @property
    def held_bytes(self) -> int:
        """Bytes of answers that wait: for the socket, or for the broker to confirm those before them."""
        return self._wire.backlog + self._delivery.waiting_bytes

    @property
    def withheld_at_once(self) -> int:
        """How many messages of QoS 2 may be sent whose second step never comes (`edge_agent.doctor.writing`)."""
        is_ours = self.protocol == "5" and isinstance(self._wire, Stream)  # paho would release them
        return self._delivery.receive_maximum if is_ours and self._highest_qos == 2 else 0

    @property
    def under_way(self) -> frozenset[int]:
        """What was sent and is not known to be taken, by what `edge_agent.link.poison` knows it by."""
        return self._delivery.under_way

    def settle(self) -> bool:
        """Return whether the broker is known to have taken all there is; ask it when only that is not known."""
        return self._delivery.settle()

    def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:
        """Move everything forward; return the messages that arrived, after `timeout` seconds at the latest.

        `wakeup` is a file descriptor that ends the wait when it is readable. Without `reading` nothing more is taken
        from the socket. Raises `BrokerError` when the connection has ended.
        """
        self._pump()
        limit = _TICK if self.ready else min(_TICK, self.address.connect_timeout)
        self._wait(min(timeout, limit), wakeup, reading=reading)
        self._keep_up()
        if self._end is not None:
            raise self._end
        self._pump()
        if self._left and not (self._inbox or self.in_flight or self._wants_write()):
            raise SurplusError(
                f"broker {self.address}: it sent more than {_PATIENCE} times mqtt.receive_maximum "
                f"({self.address.receive_maximum}) at once; connecting again for the rest"
            )
        messages, self._inbox = self._inbox, []
        return messages

    def answer(self, message: Message, answers: Iterable[Answer], *, bare: bool = False) -> None:
        """Send the answers of `message`; it is acknowledged once the broker has them all. Those that are `bare` carry
        nothing over from it.
        """
        debt, taken_over = message.token if message.token is not None else (None, None)
        kept = list(answers)
        if taken_over is not None and not bare:
            found, arrived = taken_over
            carried = found.after(time.monotonic() - arrived)
            kept = [answer._replace(carried=carried) for answer in kept]
        self._delivery.answer(debt, kept, cause_of(message))

    def publish(self, answer: Answer) -> None:
        """Send a message that answers nothing: state, info, health."""
        self._delivery.send(answer, cause_of_own(answer.topic))

    def subscribe(self, wanted: Mapping[str, bool], anew: Collection[str] = ()) -> None:
        """Change what is subscribed to: only the difference goes to the broker, and those in `anew` once more.

        `ready` is false until it has answered.
        """
        self._subscriptions.want(wanted, anew)
        self._patience.begin_handshake()

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is in flight; return whether that came about. What arrives meanwhile is not looked at."""
        ends = time.monotonic() + seconds
        while self.in_flight > self._delivery.ledger.unanswered or self._wire.backlog:
            remaining = ends - time.monotonic()
            if remaining <= 0:
                return False
            self._inbox.extend(self.receive(remaining))
        return True

    def close(self) -> None:
        """Say DISCONNECT (the will is not published) and close the socket once the broker has."""
        self._client.on_disconnect = None
        if self._client.socket() is not None:
            # paho closes its own right behind the DISCONNECT.
            with socket.socket(fileno=os.dup(self._wire.fileno())) as spare:
                self._client.disconnect()
                ends = time.monotonic() + _TICK
                while self._wants_write() and self._end is None and time.monotonic() < ends:
                    self._wait(_TICK, None)
                transport.read_to_the_end(spare)
        self.abandon()

    def abandon(self) -> None:
        """Close the socket without a word, so that the broker publishes the will."""
        self._client.on_disconnect = None
        if (sock := self._client.socket()) is not None:
            sock.close()
        # A link and its client refer to each other: without this, what they hold stays until the next full collection.
        self._inbox.clear()
        self._delivery.clear()

    # -- connecting

    def _on_connect(self, _client: object, _data: object, _flags: object, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            words = paho_client.words(reason, properties)
            self._end = self._end or endings.refused(self.address, self.protocol, str(reason), words)
            return
        self._accepted = True
        self._delivery.receive_maximum = getattr(properties, "ReceiveMaximum", DEFAULT_RECEIVE_MAXIMUM)
        self._highest_qos = getattr(properties, "MaximumQoS", 2)
        self._delivery.size_limit = getattr(properties, "MaximumPacketSize", None)

    def _on_disconnect(self, _client: object, _data: object, flags: Any, reason: Any, properties: Any) -> None:
        if self._end is None:
            told = flags.is_disconnect_packet_from_server
            if not told and transport.failure(self._wire.socket) is not None:
                self._broken("")
                return
            words = paho_client.words(reason, properties) if told else None
            self._end = endings.ended(self.address, self.protocol, words, accepted=self._accepted)

    def _keep_up(self) -> None:
        """Look after what is a matter of time: keep-alive, and a handshake."""
        now = time.monotonic()
        if now >= self._next_upkeep:
            self._next_upkeep = now + _TICK
            self._wire.keep_alive(due=self._accepted and self._patience.take_ping(now))
        if self._patience.is_gone:
            self._fail(f"broker {self.address}: no answer to a ping for {self.address.keepalive} s")
        if not self.ready and self._patience.handshake_failed:
            self._end = self._end or endings.unanswered(self.address, self.protocol, accepted=self._accepted)
        elif not self.ready and self._patience.take_late():
            _log.warning("%s", endings.late(self.address, accepted=self._accepted))

    def _broken(self, words: str) -> None:
        """End, with what the socket knows about it, or else `words`."""
        known = transport.failure(self._wire.socket)
        guess = "" if self._accepted else f"; {transport.suspicion(self.address)}"
        self._fail(f"broker {self.address}: the connection ended: {known or words + guess}")

    def _fail(self, message: str) -> None:
        if self._end is None:
            self._end = BrokerError(message)

    # -- moving bytes

    def _wait(self, timeout: float, wakeup: int | None, *, reading: bool = True) -> None:
        """Wait for the socket, then read and write what it lets us."""
        if self._client.socket() is None:
            self._fail(f"broker {self.address}: the connection ended")
            return
        congested = self._wire.backlog > _MAX_UNWRITTEN
        closed = congested or not reading
        wanted = (0 if closed else select.POLLIN) | (select.POLLOUT if self._wants_write() else 0)
        self._poll.register(self._wire, wanted)
        if wakeup != self._wakeup:
            if self._wakeup is not None:
                # Once the signal to stop has come it stays readable, and draining would spin on it.
                self._poll.unregister(self._wakeup)
            if wakeup is not None:
                self._poll.register(wakeup, select.POLLIN)
            self._wakeup = wakeup
        pending = not closed and self._wire.pending()
        began = time.monotonic()
        ready = dict(self._poll.poll(0 if pending else max(0, int(timeout * 1000))))
        self._patience.waited(time.monotonic() - began)
        events = ready.get(self._wire.fileno(), 0)
        if pending or events & (select.POLLOUT if congested else select.POLLIN):
            self._patience.heard()
        if events & select.POLLOUT:
            self._write()
        if pending or events & ~select.POLLOUT:
            self._read()

    def _write(self) -> None:
        """Write what is queued, as far as the socket takes it."""
        if self._client.want_write() and self._client.socket() is not None:
            self._client.loop_write()
        try:
            self._wire.flush()
        except OSError as error:
            self._broken(error.strerror or str(error))

    def _wants_write(self) -> bool:
        return self._client.want_write() or self._wire.backlog > 0

    def _read(self) -> None:
        """Read packets until the socket has no more, or a batch is full."""
        try:
            while True:
                events = self._wire.receive()
                if events and not self.ready:
                    # The grant of the subscriptions comes behind what waited in the session, which may be a lot.
                    self._patience.begin_handshake()
                for event in events:
                    self._take(event)
                if self._client.socket() is None:
                    self._fail(f"broker {self.address}: the connection ended")
                if self._end is not None or len(self._inbox) >= _BATCH or not self._wire.pending():
                    return
        except ValueError as error:
            self._broken(f"it sent what is not MQTT {self.protocol}: {error}")

    # -- messages

    def _take(self, event: Event) -> None:
        if not (self._accepted or isinstance(event, Disconnect)):
            raise ValueError(f"{type(event).__name__} before CONNACK")
        if isinstance(event, Publish):
            self._arrived(event)
        elif isinstance(event, Puback):
            self._delivery.confirmed(event)
        elif isinstance(event, Disconnect):
            words = paho_client.words_of(event)
            self._end = self._end or endings.ended(self.address, self.protocol, words, accepted=self._accepted)
        else:
            self._delivery.answered()

    def _arrived(self, event: Publish) -> None:
        topic, payload, qos, packet_id, duplicate, alias, content_type, reply_to, carried, retained, left = event
        if alias is not None:
            topic = self._aliased(alias, topic)
        if qos and (self._left or len(self._delivery.ledger) >= _PATIENCE * self.address.receive_maximum):
            # Not to read on would be worse: the confirmations that make room come behind. What follows is left as well,
            # so that the order holds.
            self._left = True
            return
        self._tally.received += 1
        debt = self._delivery.ledger.receive(packet_id) if qos else None
        token = (debt, None if carried is None else (carried, time.monotonic()))
        if duplicate:
            self._tally.redelivered += 1
        if left is not None:
            self._tally.note(f"not carried over to the answer: {left}", topic)
        self._inbox.append(Message(topic, payload, qos, content_type, token, reply_to, duplicate, retained))

    def _aliased(self, alias: int, topic: str) -> str:
        """Return the topic that the broker put a number in place of; ValueError when it never said which."""
        if topic and 0 < alias <= paho_client.MAX_ALIASES:
            self._aliases[alias] = topic
        elif alias not in self._aliases:
            raise ValueError(f"the topic alias {alias}")
        return self._aliases[alias]

    def _pump(self) -> None:
        """Publish what may be, then write what is queued as far as the socket takes it."""
        subscriptions = self._subscriptions
        if subscriptions.waiting and self._accepted and self._delivery.idle:
            subscriptions.ask()
        if not subscriptions.waiting:
            self._delivery.pump(subscriptions.asked)
        self._write()
