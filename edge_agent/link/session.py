"""One connection's protocol without its socket: events and time go in, packets for a `Wire` come out.

Rules:

* `MAY_FOLLOW` lists the allowed changes of state. If there are several reasons for an end, the first one counts.
* `edge_agent.link.delivery` handles sending, confirmations and acknowledgements.
* Nothing grows without bound. A broker may not keep to our Receive Maximum (Mosquitto 2.0.11 lets out as many again with
  every acknowledgement as long as it has a queue; MQTT 3.1.1 can't be told): past `_SURPLUS` times that, inputs are left
  with it, and `SurplusError` ends the connection once all the others are settled, so that the broker sends them again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Protocol

from edge_agent.contract.messages import Answer, Message
from edge_agent.errors import BrokerError, FarewellError, NarrowedError, SurplusError
from edge_agent.link import delivery, endings, paho_client
from edge_agent.link.granted import Granted
from edge_agent.link.narrowing import LONGEST_QUIET, Learned
from edge_agent.link.packets import Disconnect, Event, Puback, Publish
from edge_agent.link.patience import Patience
from edge_agent.link.poison import cause_of, cause_of_own
from edge_agent.link.subscriptions import Asker, Subscriptions
from edge_agent.link.terms import Terms
from edge_agent.link.transport import Address
from edge_agent.tally import Tally

_log = logging.getLogger(__name__)

#: Seconds between two checks of the keep-alive.
TICK: Final = 1.0
#: Most inputs held at once, as a multiple of our Receive Maximum. By default more than Mosquitto keeps for an absent client.
_SURPLUS: Final = 5


class State(Enum):
    """The states of a connection."""

    CONNECTING = "CONNECT has not been answered"
    SUBSCRIBING = "the broker has accepted the connection, but not answered every subscription"
    READY = "each subscription is granted or refused"
    EMPTYING = "some inputs are left to the broker: the connection ends once all others are settled"
    ENDED = "the next receive raises the reason"


MAY_FOLLOW: Final[Mapping[State, frozenset[State]]] = {
    State.CONNECTING: frozenset({State.SUBSCRIBING, State.ENDED}),
    State.SUBSCRIBING: frozenset({State.READY, State.EMPTYING, State.ENDED}),
    State.READY: frozenset({State.SUBSCRIBING, State.EMPTYING, State.ENDED}),
    State.EMPTYING: frozenset({State.ENDED}),
    State.ENDED: frozenset(),
}


#: Used for every message; a lookup in the class each time would cost measurable time.
_READY: Final = State.READY
_EMPTYING: Final = State.EMPTYING


class Wire(delivery.Wire, Protocol):
    """Carries the packets, and keeps the connection alive."""

    def keep_alive(self, *, due: bool) -> None:
        """Handle the keep-alive; send a ping when one is `due`."""


class Session:
    """One connection. `protocol`, `wanted` (the subscriptions) and `tally` are as for `edge_agent.link.link.Link`; `clock`
    gives seconds and never goes back. `terms` outlast the connection.
    """

    def __init__(
        self,
        wire: Wire,
        asker: Asker,
        address: Address,
        *,
        protocol: str,
        wanted: Mapping[str, bool],
        tally: Tally,
        clock: Callable[[], float],
        terms: Terms | None = None,
    ) -> None:
        self.terms = terms or Terms()
        self.state = State.CONNECTING
        #: Why it ended.
        self.end: BrokerError | None = None
        #: None until the broker has accepted the connection.
        self.granted: Granted | None = None
        self.subscriptions = Subscriptions(asker, wanted, self.terms.narrowing)
        self.delivery = delivery.Delivery(wire, tally, self.terms)
        #: How long the broker may keep us waiting. The connection is there: what it has to answer now is CONNECT.
        self.patience = Patience(address.connect_timeout, address.keepalive, clock())
        self.inbox: list[Message] = []
        self._wire = wire
        self._address = address
        self._protocol = protocol
        self._tally = tally
        self._clock = clock
        self._aliases: dict[int, str] = {}
        self._next_upkeep = 0.0
        self._let_in_at = 0.0
        self._looked = False  # the socket was read, as far as it goes, since `pump` was called last

    # -- used by its owner

    @property
    def ready(self) -> bool:
        """Whether the broker has accepted the connection, and granted or refused each subscription."""
        state = self.state
        return state is _READY or (state is _EMPTYING and self.subscriptions.settled)

    def answer(self, message: Message, answers: Iterable[Answer], *, bare: bool = False) -> None:
        """Send the answers to `message`; it is acknowledged once the broker has confirmed them all. `bare` answers copy
        no properties from it.
        """
        debt, taken_over = message.token if message.token is not None else (None, None)
        kept = list(answers)
        if taken_over is not None and not bare:
            found, arrived = taken_over
            carried = found.after(self._clock() - arrived)
            kept = [answer._replace(carried=carried) for answer in kept]
        self.delivery.answer(debt, kept, cause_of(message))

    def publish(self, answer: Answer) -> None:
        """Send a message that is not an answer: state, info, health."""
        self.delivery.send(answer, cause_of_own(answer.topic))

    def subscribe(self, wanted: Mapping[str, bool], anew: Collection[str] = ()) -> None:
        """Change the subscriptions: only the difference is sent to the broker, and the filters in `anew` once more, even if
        it ends the connection over them.

        `ready` is false until it has answered.
        """
        self.subscriptions.want(wanted, anew)
        self._look_at_subscriptions()

    def _look_at_subscriptions(self) -> None:
        self.patience.begin_handshake()
        if self.state is State.READY and not self.subscriptions.settled:
            self._become(State.SUBSCRIBING)
        self._check_settled()  # a change that was reverted before it was sent needs no answer

    def give_back(self, one: str) -> None:
        """Unsubscribe from a filter that the session has from before, unless it is wanted."""
        self.terms.left.add(one)
        self.subscriptions.inherit(self.terms.left)
        self._look_at_subscriptions()

    def pump(self) -> None:
        """Pass to the wire what may be sent now."""
        subscriptions = self.subscriptions
        if subscriptions.waiting and self.granted is not None and self.delivery.idle:
            stood = self._clock() - self._let_in_at
            subscriptions.ask(stood if self._looked else 0.0)
            if not subscriptions.asked and stood <= LONGEST_QUIET:
                self.patience.begin_handshake()  # it is we who wait: the connection has to stand for a while
            self._check_settled()  # there may be nothing left to subscribe to
        if not subscriptions.waiting:
            self.delivery.pump(subscriptions.asked)
        self._looked = False

    def keep_up(self) -> None:
        """Handle timeouts: keep-alive and handshake."""
        self._looked = True
        now, patience = self._clock(), self.patience
        accepted = self.granted is not None
        if now >= self._next_upkeep:
            self._next_upkeep = now + TICK
            self._wire.keep_alive(due=accepted and patience.take_ping(now))
            if patience.take_unconfirmed(self.delivery.oldest_unconfirmed):
                self._warn_of_silence()
        if patience.is_gone:
            self.fail(BrokerError(f"broker {self._address}: no answer to a ping for {patience.keepalive:g} s"))
        if self.ready or self.state is State.ENDED:
            return
        if patience.handshake_failed:
            self.terms.narrowing.settled()
            self.fail(endings.unanswered(self._address, self._protocol, accepted=accepted))
        elif patience.take_late():
            _log.warning("%s", endings.late(self._address, accepted=accepted))

    def hand_over(self, *, unwritten: bool) -> list[Message]:
        """Return the messages that arrived. `unwritten` says whether bytes still wait for the socket.

        Raises `SurplusError` when inputs were left to the broker and all others are settled.
        """
        if self.state is _EMPTYING and not (self.inbox or self.delivery.in_flight or unwritten):
            raise SurplusError(
                f"broker {self._address}: it sent more than {_SURPLUS} times mqtt.receive_maximum "
                f"({self._address.receive_maximum}) at once; reconnecting for the rest"
            )
        messages, self.inbox = self.inbox, []
        return messages

    def clear(self) -> None:
        """Forget everything: the connection has ended."""
        self.inbox.clear()
        self.delivery.clear()

    # -- the broker's packets

    def let_in(self, granted: Granted) -> None:
        """Note that the broker accepts the connection."""
        self.granted = granted
        self._let_in_at = self._clock()
        self.delivery.receive_maximum = granted.receive_maximum
        self.delivery.size_limit = granted.maximum_packet_size
        self.subscriptions.granted = granted
        self.subscriptions.inherit(self.terms.left)
        if granted.server_keep_alive:
            # Brokers allow half as much again, and we look once a `TICK`.
            self.patience.agree(max(TICK, granted.server_keep_alive - TICK), self._clock())
        for news in self.terms.let_in(granted, self._protocol):
            _log.warning("broker %s: %s", self._address, news)
        if self.state is State.CONNECTING:
            self._become(State.SUBSCRIBING)
            self._check_settled()

    def turned_away(self, reason: str, words: str) -> None:
        """Note that the broker refuses the connection: its reason, and the reason in words."""
        adapted = self.terms.refuse(reason)
        self.fail(endings.refused(self._address, self._protocol, reason, words, adapted=adapted))

    def subscribed(self, packet_id: int, refusals: Sequence[str | None]) -> None:
        """Handle a SUBACK: for each filter the reason for its refusal, None where it was granted."""
        self.subscriptions.subscribed(packet_id, refusals)
        self.patience.begin_handshake()  # it progresses
        self._check_settled()

    def granted_qos_0(self) -> None:
        """Note that no filter of a SUBSCRIBE was granted more than QoS 0."""
        if self._protocol != "5":
            for news in self.terms.granted_qos_0():
                _log.warning("broker %s: %s", self._address, news)

    def unsubscribed(self, packet_id: int) -> None:
        """Handle an UNSUBACK."""
        self.subscriptions.unsubscribed(packet_id)
        self._check_settled()

    def take(self, events: Sequence[Event]) -> None:
        """Handle a packet. Raises `ValueError` when it is not MQTT."""
        if not events:
            return
        if not self.ready:
            # The SUBACK comes after the session's backlog, which may be long.
            self.patience.begin_handshake()
        accepted = self.granted is not None
        for event in events:
            if not (accepted or isinstance(event, Disconnect)):
                raise ValueError(f"{type(event).__name__} before CONNACK")
            if isinstance(event, Publish):
                self._arrived(event)
            elif isinstance(event, Puback):
                self.delivery.confirmed(event)
            elif isinstance(event, Disconnect):
                self.ended(paho_client.words_of(event))
            else:
                self.delivery.answered()

    # -- its end

    def ended(self, words: str | None) -> None:
        """Note that the broker ended the connection, with its reason in `words` if it gave one."""
        if words in {None, endings.NO_REASON} and self._tries_plain_will():
            return
        fits, sent = self._what_fits(words), self.delivery.sent
        self._end(
            endings.ended(
                self._address,
                self._protocol,
                words,
                accepted=self.granted is not None,
                client_id=self.client_id,
                fits=fits,
                sent=sent,
            ),
            words,
        )

    def broken(self, words: str, known: str | None = None, *, ours: bool = False) -> None:
        """End with the socket's `known` reason, or else with `words`. An end of `ours` says nothing of what we sent."""
        if not words and self._tries_plain_will():
            return
        fits = None if ours else self._what_fits(None)
        error = endings.broken(self._address, known, words, accepted=self.granted is not None, fits=fits)
        if ours:
            self.fail(error)
        else:
            self._end(error)

    def gone(self) -> None:
        """Note that the socket is gone."""
        self.fail(BrokerError(f"broker {self._address}: the connection ended"))

    def fail(self, error: BrokerError) -> None:
        """End with this error, unless it has ended already."""
        if self.state is not State.ENDED:
            self.end = error
            self._become(State.ENDED)

    @property
    def client_id(self) -> str:
        """The client id that holds."""
        return (self.granted and self.granted.assigned_client_id) or self._address.client_id

    def _tries_plain_will(self) -> bool:
        """End so that the next attempt follows at once with a plain will, where that is worth trying."""
        tries = self.granted is None and self.state is not State.ENDED and self.terms.hung_up(self._protocol)
        if tries:
            self.fail(endings.will(self._address))
        return tries

    def _end(self, error: BrokerError, words: str | None = None) -> None:
        """End with this error, for which the broker, not we, gave up; note what that says of the filters it was asked for."""
        if self.granted is not None and self.state is not State.ENDED and not isinstance(error, FarewellError):
            asked = self.subscriptions.unanswered
            learned = self.terms.narrowing.ended(asked, endings.of_filter(asked, words))
            if learned is not Learned.NOTHING:
                found = learned is Learned.FOUND
                error = NarrowedError(str(error), nearer=found or learned is Learned.NEARER, found=found)
        self.fail(error)

    def _warn_of_silence(self) -> None:
        sent, unsent = self.delivery.awaited
        seconds, inputs = self.patience.longest_unconfirmed, len(self.delivery.ledger)
        _log.warning("%s", endings.unconfirmed(self._address, seconds, sent, unsent, inputs))

    def _what_fits(self, words: str | None) -> str | None:
        """Return what the broker may have ended the connection for, by what was under way; None when nothing was."""
        if self.granted is None or self.state is State.ENDED:
            return None
        if words is not None and words != endings.NO_REASON:
            self.terms.refuse(words)
            return None
        delivery = self.delivery
        found = self.terms.ended(
            retained=delivery.retained_unconfirmed, taken=delivery.retained_taken, confirmed=delivery.any_confirmed
        )
        if found is not None:
            _log.warning("broker %s: %s", self._address, found)
        asked, sent = self.subscriptions.unanswered, delivery.sent
        return endings.what_fits(asked, sent, delivery.largest_unconfirmed, retained=delivery.retained_unconfirmed)

    def _become(self, state: State) -> None:
        if state not in MAY_FOLLOW[self.state]:
            raise RuntimeError(f"a connection that is {self.state.name} can't become {state.name}: a bug in edge-agent")
        self.state = state

    def _check_settled(self) -> None:
        if self.state is State.SUBSCRIBING and self.subscriptions.settled:
            self._become(State.READY)

    # -- messages

    def _arrived(self, event: Publish) -> None:
        topic, payload, qos, packet_id, duplicate, alias, content_type, reply_to, carried, retained, left = event
        if alias is not None:
            topic = self._aliased(alias, topic)
        if qos and (self.state is _EMPTYING or len(self.delivery.ledger) >= _SURPLUS * self._address.receive_maximum):
            # Not reading would be worse: the confirmations that make room come later. All following inputs are left, too,
            # so that the order is kept.
            if self.state not in {State.EMPTYING, State.ENDED}:
                self._become(State.EMPTYING)
            return
        self._tally.received += 1
        debt = self.delivery.ledger.receive(packet_id) if qos else None
        token: Any = (debt, None if carried is None else (carried, self._clock()))
        if duplicate:
            self._tally.redelivered += 1
        if left is not None:
            self._tally.note(f"not copied to the answer: {left}", topic)
        explain = None if carried is None else carried.asked("explain")
        self.inbox.append(Message(topic, payload, qos, content_type, token, reply_to, duplicate, retained, explain))

    def _aliased(self, alias: int, topic: str) -> str:
        """Return the topic for the broker's alias; raises `ValueError` for an unknown one."""
        if topic and 0 < alias <= paho_client.MAX_ALIASES:
            self._aliases[alias] = topic
        elif alias not in self._aliases:
            raise ValueError(f"the topic alias {alias}")
        return self._aliases[alias]
