"""One connection to the broker, from CONNECT to its end: the socket, the wait on it, and paho's client.

Rules:

* A `Link` is one connection; the next connection is a new one. Nothing of an old epoch (a late acknowledgement, a queued
  answer) can reach a new one: the broker sends again what was not acknowledged.
* No thread. Callbacks only record events; `receive` does all work on the connection, and its end is
  raised, as `BrokerError`.
* `edge_agent.link.session` interprets the packets; this module does not look at messages.
* Reading stops while too much is unsent.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from edge_agent.contract.messages import MAX_PACKET_BYTES, MAX_PAYLOAD_BYTES, Answer, Message, Refused
from edge_agent.link import packets, paho_client, transport
from edge_agent.link.fast_lane import Stream, prepare
from edge_agent.link.granted import Granted
from edge_agent.link.session import TICK, Session
from edge_agent.link.terms import Terms
from edge_agent.link.tls import TlsOptions as TlsOptions  # noqa: PLC0414 - re-exported for users of this file
from edge_agent.link.tls import digests as digests  # noqa: PLC0414
from edge_agent.link.tls import make_context as make_context  # noqa: PLC0414
from edge_agent.link.transport import Address as Address  # noqa: PLC0414
from edge_agent.tally import Tally

#: Most messages in one batch.
_BATCH: Final = 1000
#: Bytes that may wait for the socket before reading stops.
_MAX_UNWRITTEN: Final = 1 << 20
#: Bytes of a packet that all brokers take: AWS IoT ends the connection over more.
_SAFE_PACKET: Final = 128 << 10


class Link:
    """One connection.

    `protocol` is "5" or "3.1.1". `will` is published by the broker when the connection dies. `subscriptions` are topic
    filters, all asked for at `qos`; those that are refused stand in `refused` once `ready` is true. Those that are true
    ask for retained messages on every connection, not only when the subscription is new. Of a payload larger than
    `max_payload` bytes only the beginning is kept, which is still larger. `opens` opens the socket.
    `terms` are what is known of the broker, over all connections to it.
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
        qos: int = 1,
        opens: transport.Opens = transport.open_socket,
        terms: Terms | None = None,
    ) -> None:
        #: What is known of the broker.
        self.terms = terms = terms or Terms()
        self.address = address
        self.protocol = protocol
        self._client = paho_client.make_client(address, protocol, None if will is None else terms.will(will))
        self._wire = prepare(self._client, address, is_5=protocol == "5", max_payload=max_payload, opens=opens)
        self._session = Session(
            self._wire,
            paho_client.Paho(self._client, protocol, qos),
            address,
            protocol=protocol,
            wanted=subscriptions,
            tally=tally or Tally(),
            clock=time.monotonic,
            terms=terms,
        )
        # Bound methods of the session: another call for each message would cost measurable time.
        self.answer = self._session.answer
        self.publish = self._session.publish
        self.subscribe = self._session.subscribe
        self.give_back = self._session.give_back
        self._delivery = self._session.delivery
        self._patience = self._session.patience
        paho_client.listen(self._client, self._session, qos=qos)
        self._client.on_disconnect = self._on_disconnect
        #: Topics and reasons of refused answers; read and cleared by the owner.
        self.refused_answers = self._delivery.refused
        paho_client.connect(self._client, address, protocol, self._wire)
        #: When the broker's certificate expires, in seconds since 1970; None without TLS.
        self.certificate_ends = transport.certificate_ends(self._wire.socket)
        self._poll = select.poll()
        self._wakeup: int | None = None  # registered with the poll

    # -- used by its owner

    @property
    def ready(self) -> bool:
        """Whether the broker has accepted the connection, and granted or refused each subscription."""
        return self._session.ready

    @property
    def refused(self) -> list[Refused]:
        """Subscriptions that the broker refused."""
        return self._session.subscriptions.refused

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
    def granted(self) -> Granted:
        """What the broker granted; what MQTT does, before it has let us in."""
        return self._session.granted or Granted()

    @property
    def withheld_at_once(self) -> int:
        """How many QoS 2 messages may be sent without PUBREL (`edge_agent.doctor.writing`)."""
        is_ours = self.protocol == "5" and isinstance(self._wire, Stream)  # paho would release them
        granted = self._session.granted
        return self._delivery.receive_maximum if is_ours and (granted is None or granted.maximum_qos == 2) else 0

    @property
    def under_way(self) -> frozenset[int]:
        """Inputs whose answers were sent but not confirmed, by their cause in `edge_agent.link.poison`."""
        return self._delivery.under_way

    def keeps(self, answer: Answer) -> bool:
        """Return whether the broker keeps this retained message for those who come later, as far as is known. In MQTT 3.1.1 it
        can't say up to which size.
        """
        limit = self._delivery.size_limit
        if limit is None:
            limit = _SAFE_PACKET if self.protocol != "5" else MAX_PACKET_BYTES
        return self.terms.retains and packets.size_of(answer) <= limit

    def settle(self) -> bool:
        """Return whether the broker has confirmed everything; ping it if only the last confirmation is missing."""
        return self._delivery.settle()

    def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:
        """Read and write; return the messages that arrived, after `timeout` seconds at the latest.

        `wakeup` is a file descriptor that ends the wait when it is readable. Without `reading` nothing more is taken
        from the socket. Raises `BrokerError` when the connection has ended.
        """
        session = self._session
        self._pump()
        limit = TICK if session.ready else min(TICK, self.address.connect_timeout)
        self._wait(min(timeout, limit), wakeup, reading=reading)
        session.keep_up()
        if session.end is not None:
            raise session.end
        self._pump()
        return session.hand_over(unwritten=self._wants_write())

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is in flight; return whether that was reached. Messages that arrive meanwhile are neither processed
        nor acknowledged: the broker redelivers them on the next connection.
        """
        ends = time.monotonic() + seconds
        while self.in_flight > self._delivery.ledger.unanswered or self._wire.backlog:
            remaining = ends - time.monotonic()
            if remaining <= 0:
                return False
            self.receive(remaining)
        return True

    def close(self) -> None:
        """Send DISCONNECT (the will is not published), and close the socket once the broker has closed it."""
        self._client.on_disconnect = None
        if self._client.socket() is not None:
            # paho closes its socket right after the DISCONNECT.
            with socket.socket(fileno=os.dup(self._wire.fileno())) as spare:
                self._client.disconnect()
                ends = time.monotonic() + TICK
                while self._wants_write() and self._session.end is None and time.monotonic() < ends:
                    self._wait(TICK, None)
                transport.read_to_the_end(spare)
        self.abandon()

    def abandon(self) -> None:
        """Close the socket without DISCONNECT, so that the broker publishes the will."""
        self._client.on_disconnect = None
        if (sock := self._client.socket()) is not None:
            sock.close()
        # A link and its client refer to each other: without this, their memory is kept until the next full collection.
        self._session.clear()

    # -- its end

    def _on_disconnect(self, _client: object, _data: object, flags: Any, reason: Any, properties: Any) -> None:
        told = flags.is_disconnect_packet_from_server
        if self._session.end is None and not told and transport.failure(self._wire.socket) is not None:
            self._broken("")
            return
        self._session.ended(paho_client.words(reason, properties) if told else None)

    def _broken(self, words: str, *, ours: bool = False) -> None:
        """End with the socket's reason, or else with `words`; `ours` says that it is we who end it."""
        self._session.broken(words, transport.failure(self._wire.socket), ours=ours)

    # -- moving bytes

    def _wait(self, timeout: float, wakeup: int | None, *, reading: bool = True) -> None:
        """Wait for the socket, then read and write as far as possible."""
        if self._client.socket() is None:
            self._session.gone()
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
        """Write queued bytes as far as the socket accepts them."""
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
        session = self._session
        try:
            while True:
                session.take(self._wire.receive())
                if self._client.socket() is None:
                    session.gone()
                if session.end is not None or len(session.inbox) >= _BATCH or not self._wire.pending():
                    return
        except ValueError as error:
            self._broken(f"it sent what is not MQTT {self.protocol}: {error}", ours=True)

    def _pump(self) -> None:
        """Publish what may be sent, then write queued bytes as far as the socket accepts them."""
        self._session.pump()
        self._write()
