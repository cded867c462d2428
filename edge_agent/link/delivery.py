"""Sends answers on one connection, tracks the broker's confirmations, and acknowledges the inputs.

Rules:

* an input is acknowledged after the broker has confirmed its answers (`edge_agent.link.ledger`);
* no more answers are unconfirmed than the broker's Receive Maximum allows; further ones wait in order;
* an answer is known to be taken when the broker has confirmed something that was sent after its confirmation: one that
  it confirms and then hangs up for was not;
* an answer that the broker refuses permanently is counted, and settled like a confirmed one, so that it does not block later ones.

A `Wire` carries the bytes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Container, Iterable, Mapping
from typing import Final, Protocol

from edge_agent.contract.messages import Answer, Refused
from edge_agent.contract.templates import MAX_TOPIC_BYTES
from edge_agent.link import packets
from edge_agent.link.granted import DEFAULT_RECEIVE_MAXIMUM
from edge_agent.link.ledger import Debt, Ledger
from edge_agent.link.packets import Puback
from edge_agent.link.terms import Terms
from edge_agent.tally import Tally
from edge_agent.wording import LOGGED

_log = logging.getLogger(__name__)

#: Most messages with an open outcome that are remembered.
_OPEN_KEPT: Final = 4096
#: Most refused answers kept for the owner to read.
_REFUSED_KEPT: Final = 1000


class Wire(Protocol):
    """Carries the packets."""

    def publish(self, answer: Answer, taken: Container[int]) -> int:
        """Send an answer; return its packet id, one that is not `taken`, or anything at QoS 0."""

    def acknowledge(self, packet_id: int) -> None:
        """Acknowledge an input."""

    def ping(self) -> None:
        """Send a ping; its answer calls `Delivery.answered`."""


class Delivery:
    """The answers of one connection. `receive_maximum`, `size_limit`, in bytes of a packet, and `terms` are the broker's."""

    def __init__(self, wire: Wire, tally: Tally, terms: Terms | None = None) -> None:
        self._terms = terms or Terms()
        #: Whether the broker confirmed a retained message.
        self.retained_taken = False
        self.receive_maximum = DEFAULT_RECEIVE_MAXIMUM
        self.size_limit: int | None = None
        #: Topics and reasons of refused answers; read and cleared by the owner.
        self.refused: list[Refused] = []
        self.ledger = Ledger()
        #: Payloads of answers that wait for the broker to confirm those before them.
        self.waiting_bytes = 0
        self._wire = wire
        self._tally = tally
        #: Answers with their debt and the cause of their input.
        self._outbox: deque[tuple[Answer, Debt | None, int]] = deque()
        #: By packet id: topic, debt, what the input is known by, its number among the packets that get an answer, whether
        #: it is retained, and the bytes of its payload.
        self._unconfirmed: dict[int, tuple[str, Debt | None, int, int, bool, int]] = {}
        #: Causes of answers sent at QoS 0, or confirmed, with the number of packets sent by then that get a response.
        self._open: deque[tuple[int, int]] = deque(maxlen=_OPEN_KEPT)
        self._packets = 0
        #: Whether each confirmation and acknowledgement is logged; asked for once a turn, not for each message.
        self._tracing = False
        #: The last of those packets that the broker has answered: what was settled when it was sent is taken. Nothing is
        #: taken out of `_open` for it, which would have to be done for each message.
        self._last_answered = 0
        self._pinged: deque[int] = deque()

    @property
    def in_flight(self) -> int:
        """Inputs not yet acknowledged plus answers not yet confirmed."""
        return len(self.ledger) + len(self._outbox) + len(self._unconfirmed)

    @property
    def retained_unconfirmed(self) -> bool:
        """Whether the broker has been sent a retained message that it has not confirmed."""
        return any(one[4] for one in self._unconfirmed.values())

    @property
    def largest_unconfirmed(self) -> int:
        """Bytes of the largest payload that the broker has been sent and has not confirmed."""
        return max((one[5] for one in self._unconfirmed.values()), default=0)

    @property
    def any_confirmed(self) -> bool:
        """Whether the broker has confirmed anything."""
        return self._last_answered > 0

    @property
    def idle(self) -> bool:
        """Whether the broker has confirmed everything sent to it."""
        return not self._unconfirmed

    @property
    def oldest_unconfirmed(self) -> int | None:
        """The number, in the order of sending, of the message that waits longest for its confirmation."""
        return next((one[3] for one in self._unconfirmed.values()), None)

    @property
    def awaited(self) -> tuple[int, int]:
        """How many messages were sent and not confirmed, and how many wait to be sent."""
        return len(self._unconfirmed), len(self._outbox)

    @property
    def sent(self) -> list[str]:
        """Topics of the messages that were sent and not confirmed, the oldest first."""
        return [one[0] for one in self._unconfirmed.values()]

    @property
    def under_way(self) -> frozenset[int]:
        """Causes of the inputs whose answers were sent but not confirmed."""
        return frozenset(one[2] for one in self._unconfirmed.values()) | {
            cause for packets_sent, cause in self._open if packets_sent >= self._last_answered
        }

    def settle(self) -> bool:
        """Return whether the broker has confirmed everything; ping it if only the last confirmation is missing."""
        if self._outbox or self._unconfirmed:
            return False
        settled = not self._open or self._open[-1][0] < self._last_answered
        if not settled and not self._pinged:
            self._packets += 1
            self._pinged.append(self._packets)
            self._wire.ping()
        return settled

    @property
    def unconfirmed(self) -> frozenset[str]:
        """Topics of QoS 1 messages that the broker has not confirmed yet."""
        return frozenset(one[0] for one in self._unconfirmed.values()) | {answer.topic for answer, _, _ in self._outbox}

    def answer(self, debt: Debt | None, answers: Collection[Answer], cause: int) -> None:
        """Send the answers to the input with this `cause`; it is acknowledged once the broker has confirmed them all.
        `debt` is None at QoS 0.
        """
        if self._terms.limited:
            answers = [self._terms.fit(answer) for answer in answers]
        if debt is not None:
            self._acknowledge(self.ledger.answer(debt, sum([answer.qos > 0 for answer in answers])))
        for answer in answers:
            self._send(answer, cause, debt if answer.qos else None)
        self._tally.answered += len(answers)

    def send(self, answer: Answer, cause: int) -> None:
        """Send one message that answers nothing; the rest as for `answer`."""
        self._send(self._terms.fit(answer) if self._terms.limited else answer, cause, None)

    def _send(self, answer: Answer, cause: int, debt: Debt | None) -> None:
        """Send one message, now or when the Receive Maximum allows it."""
        if len(answer.topic) > MAX_TOPIC_BYTES // 4 and len(answer.topic.encode()) > MAX_TOPIC_BYTES:
            self._refuse(answer.topic, "the topic is too long", debt)
        elif self.size_limit is not None and packets.size_of(answer) > self.size_limit:
            # The broker would end the connection and redeliver the input, again and again.
            self._refuse(answer.topic, f"larger than the broker's limit of {self.size_limit} bytes", debt)
        elif answer.qos == 0:
            self._wire.publish(answer, self._unconfirmed)
            self._open.append((self._packets, cause))
        else:
            self._outbox.append((answer, debt, cause))
            self.waiting_bytes += len(answer.payload)

    def pump(self, asked: Mapping[int, object]) -> None:
        """Send what the Receive Maximum allows, with packet ids that are not in `asked`."""
        self._tracing = _log.isEnabledFor(logging.DEBUG)
        taken = self._unconfirmed.keys() | asked.keys() if asked else self._unconfirmed
        room = min(self.receive_maximum, packets.MAX_PACKET_ID - len(asked))
        outbox, unconfirmed, publish = self._outbox, self._unconfirmed, self._wire.publish
        while outbox and len(unconfirmed) < room:
            answer, debt, cause = outbox.popleft()
            size = len(answer.payload)
            self.waiting_bytes -= size
            self._packets += 1
            unconfirmed[publish(answer, taken)] = answer.topic, debt, cause, self._packets, answer.retain, size

    def confirmed(self, event: Puback) -> None:
        """Handle the broker's confirmation or refusal of a message."""
        found = self._unconfirmed.pop(event.packet_id, None)
        if found is None:
            return
        topic, debt, cause, number, retained, _ = found
        if number > self._last_answered:  # noqa: PLR1730 - for each message: `max` is a call
            self._last_answered = number
        self._open.append((self._packets, cause))
        if self._tracing:
            _log.debug("%s: %s", topic[:LOGGED], event.refused or "confirmed by the broker")
        if event.refused is not None:
            self._refuse(topic, event.refused, debt)
        else:
            if retained:
                self.retained_taken = True
            if debt is not None:
                self._acknowledge(self.ledger.confirm(debt))

    def answered(self) -> None:
        """Handle the answer to a ping."""
        self._last_answered = max(self._last_answered, self._pinged.popleft())

    def clear(self) -> None:
        """Forget everything: the connection has ended."""
        self._outbox.clear()
        self.waiting_bytes = 0
        self._unconfirmed.clear()
        self._open.clear()
        self.ledger = Ledger()

    def _refuse(self, topic: str, reason: str, debt: Debt | None) -> None:
        self._tally.refused += 1
        if len(self.refused) < _REFUSED_KEPT:
            self.refused.append(Refused(topic, reason))
        if debt is not None:
            self._acknowledge(self.ledger.confirm(debt))

    def _acknowledge(self, packet_ids: Iterable[int]) -> None:
        for packet_id in packet_ids:
            if self._tracing:
                _log.debug("packet %d: acknowledged", packet_id)
            self._wire.acknowledge(packet_id)
            self._tally.acknowledged += 1
