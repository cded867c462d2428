"""The subscriptions of one connection: subscribes to new filters, and unsubscribes from those no longer wanted.

Rules:

* Unchanged filters are not subscribed to again, so that retained messages do not come again; refused ones are,
  but one over which the broker ends the connection only where that is wanted.
* A packet id may be used by one packet at a time (MQTT 5, 2.2.1), and paho numbers these packets but not our messages: a
  `Session` asks when no message is unconfirmed, holds those that follow back until then, and does not give them a number in `asked`.
* No packet has more than `_MOST` filters (AWS IoT ends the connection at the ninth), nor more bytes than the broker takes.
* What the broker said it does not have is refused here, and so is what ended the connection (`edge_agent.link.narrowing`): to
  ask for it would end this one.
* A session may have filters from before this connection, which no plan of ours knows of: those that are named are given back once, unless they are wanted.
* New filters are subscribed to before old ones are unsubscribed from: if they overlap, a message comes twice rather than not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from edge_agent.contract.messages import Refused
from edge_agent.link.granted import Granted
from edge_agent.link.narrowing import Narrowing

#: Filters of one packet.
_MOST: Final = 8
#: Most filters from before that are given back on one connection.
_MOST_INHERITED: Final = 1000
#: Bytes of a SUBSCRIBE besides its filters, and of each filter besides its text (MQTT 5, 3.8).
_ENVELOPE: Final = 8
_EACH: Final = 3


class Asker(Protocol):
    """Sends the packets; each method returns its packet id."""

    def subscribe(self, filters: Mapping[str, bool]) -> int:
        """Subscribe to `filters`; those that are true request retained messages even if the subscription is not new."""

    def unsubscribe(self, filters: Collection[str]) -> int:
        """Unsubscribe from `filters`."""


class Subscriptions:
    """`wanted` are topic filters, each with whether retained messages are wanted even if the subscription is not new.

    `refused` are those that the broker refused; `waiting` says that `ask` is to be called. `narrowing` outlasts the connection.
    """

    def __init__(self, asker: Asker, wanted: Mapping[str, bool], narrowing: Narrowing | None = None) -> None:
        self.refused: list[Refused] = []
        self.waiting = bool(wanted)
        #: By packet id: the filters that the broker was asked for and has not granted or refused yet; none of them
        #: where it has to confirm that others were given back.
        self.asked: dict[int, list[str]] = {}
        #: What the broker lets us ask for.
        self.granted = Granted()
        self._asker = asker
        self._narrowing = narrowing or Narrowing()
        self._narrowing.begin(wanted)
        self._wanted = dict(wanted)
        self._held: set[str] = set()
        #: Filters from before that are still to be given back, those that the broker was asked to take back, by packet id, and all of them.
        self._inherited: set[str] = set()
        self._returned: dict[int, list[str]] = {}
        self._seen: set[str] = set()

    @property
    def settled(self) -> bool:
        """Whether the broker has answered all requests."""
        return not (self.waiting or self.asked)

    @property
    def unanswered(self) -> list[str]:
        """Filters that the broker was asked for and has neither granted nor refused."""
        return [one for filters in self.asked.values() for one in filters]

    def inherit(self, filters: set[str]) -> None:
        """Give back what the session may have from before, unless it is wanted. What was given back is removed from `filters`."""
        self._inherited = filters
        new = filters - self._wanted.keys() - self._seen
        if new and len(self._seen) < _MOST_INHERITED:
            self._seen |= new
            self._held |= new
            self.waiting = True

    def want(self, wanted: Mapping[str, bool], anew: Collection[str]) -> None:
        """Change the wanted filters; those in `anew` are subscribed to even if they already are, or are known to end the
        connection.
        """
        self._narrowing.keep(wanted)
        self._narrowing.try_again(anew)
        self._wanted = dict(wanted)
        self._held.difference_update(anew, self._inherited & wanted.keys())
        self._inherited.difference_update(wanted)
        self.refused = []  # refused filters are not held, so they are subscribed to again
        self.waiting = self._held != self._wanted.keys()

    def ask(self, stood: float = 0.0) -> None:
        """Send the difference between the wanted and the current subscriptions, or as much of it as may be sent at once.
        `stood` is for how many seconds the connection is known to have stood.
        """
        refused = {one.topic for one in self.refused}
        new = [one for one in self._wanted if one not in self._held and one not in refused]
        lacking = [found for one in new if (found := self._refusal(one)) is not None]
        self.refused += lacking
        new = [one for one in new if one not in {found.topic for found in lacking}]
        if self._narrowing.one_at_a_time([*new, *self.unanswered]):
            if self.asked:
                return
            for some in self._packets(self._narrowing.next(new, stood)):
                self._subscribe(some)
                return
            if new:
                return
            self._narrowing.settled()
        for some in self._packets(new):
            self._subscribe(some)
        gone = [one for one in self._held if one not in self._wanted]
        self._held.difference_update(gone)
        for some in self._packets(gone):
            packet_id = self._asker.unsubscribe(some)
            self.asked[packet_id], self._returned[packet_id] = [], some
        self.waiting = False

    def subscribed(self, packet_id: int, refusals: Sequence[str | None]) -> None:
        """Handle a SUBACK: for each filter the reason for its refusal, None where it was granted."""
        asked = self.asked.pop(packet_id, [])
        self._narrowing.answered(asked)
        for one, refusal in zip(asked, refusals, strict=False):
            if refusal is not None:
                self.refused.append(Refused(one, refusal))
                self._held.discard(one)

    def unsubscribed(self, packet_id: int) -> None:
        """Handle an UNSUBACK."""
        # If the broker refuses, further messages are counted as unrouted, and acknowledged.
        self.asked.pop(packet_id, None)
        self._inherited.difference_update(self._returned.pop(packet_id, ()))

    def _refusal(self, one: str) -> Refused | None:
        """Return a filter as refused that is not to be asked for."""
        reason = self.granted.lacks(one)
        return self._narrowing.refusal(one) if reason is None else Refused(one, reason)

    def _subscribe(self, some: list[str]) -> None:
        self.asked[self._asker.subscribe({one: self._wanted[one] for one in some})] = some
        self._held.update(some)

    def _packets(self, filters: Iterable[str]) -> Iterator[list[str]]:
        """Divide filters into packets."""
        limit = self.granted.maximum_packet_size
        some: list[str] = []
        size = _ENVELOPE
        for one in filters:
            more = _EACH + len(one.encode())
            if some and (len(some) == _MOST or (limit is not None and size + more > limit)):
                yield some
                some, size = [], _ENVELOPE
            some.append(one)
            size += more
        if some:
            yield some
