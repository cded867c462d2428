"""The subscriptions of one connection: asks the broker for what is new, gives back what is not wanted any more.

Rules:

* What stays is not asked for again, so that what the broker has retained does not come once more; what was refused is.
* A packet id is that of one packet at a time (MQTT 5, 2.2.1), and paho numbers these packets but not our messages: a
  `Session` asks when no message is unconfirmed, holds those that follow back until then, and does not give them a number in `asked`.
* No packet has more than `_MOST` filters (AWS IoT ends the connection at the ninth), nor more bytes than the broker takes.
* What the broker said it does not have is refused here: to ask for it would end the connection.
* The new is asked for before the old is given back: where the two overlap, a message comes twice rather than not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from edge_agent.contract.messages import Refused
from edge_agent.link.granted import Granted

#: Filters of one packet.
_MOST: Final = 8
#: Bytes of a SUBSCRIBE besides its filters, and of each filter besides its text (MQTT 5, 3.8).
_ENVELOPE: Final = 8
_EACH: Final = 3


class Asker(Protocol):
    """What sends these packets; each method returns the id of its packet."""

    def subscribe(self, filters: Mapping[str, bool]) -> int:
        """Ask for `filters`; those that are true ask for retained messages even if the subscription is not new."""

    def unsubscribe(self, filters: Collection[str]) -> int:
        """Give back `filters`."""


class Subscriptions:
    """`wanted` are topic filters, each with whether retained messages are wanted even if the subscription is not new.

    `refused` are those that the broker refused; `waiting` says that `ask` is to be called.
    """

    def __init__(self, asker: Asker, wanted: Mapping[str, bool]) -> None:
        self.refused: list[Refused] = []
        self.waiting = bool(wanted)
        #: By packet id: the filters that the broker was asked for and has not granted or refused yet; none of them
        #: where it has to confirm that others were given back.
        self.asked: dict[int, list[str]] = {}
        #: What the broker lets us ask for.
        self.granted = Granted()
        self._asker = asker
        self._wanted = dict(wanted)
        self._held: set[str] = set()

    @property
    def settled(self) -> bool:
        """Whether the broker has answered all there was to ask."""
        return not (self.waiting or self.asked)

    def want(self, wanted: Mapping[str, bool], anew: Collection[str]) -> None:
        """Change what is wanted; the filters in `anew` are asked for even if they are subscribed to already."""
        self._wanted = dict(wanted)
        self._held.difference_update(anew)
        self.refused = []  # what was refused is not held, so it is asked for again
        self.waiting = self._held != self._wanted.keys()

    def ask(self) -> None:
        """Ask for the difference between what is wanted and what there is."""
        new = {one: retained for one, retained in self._wanted.items() if one not in self._held}
        gone = [one for one in self._held if one not in self._wanted]
        lacking = [Refused(one, why) for one in new if (why := self.granted.lacks(one)) is not None]
        self.refused += lacking
        self._held = self._wanted.keys() - {one.topic for one in lacking}
        for some in self._packets(one for one in new if one in self._held):
            self.asked[self._asker.subscribe({one: new[one] for one in some})] = some
        for some in self._packets(gone):
            self.asked[self._asker.unsubscribe(some)] = []
        self.waiting = False

    def subscribed(self, packet_id: int, refusals: Sequence[str | None]) -> None:
        """Note the broker's answer to a SUBSCRIBE: of each filter why it was refused, None where it was granted."""
        for one, refusal in zip(self.asked.pop(packet_id, ()), refusals, strict=False):
            if refusal is not None:
                self.refused.append(Refused(one, refusal))
                self._held.discard(one)

    def unsubscribed(self, packet_id: int) -> None:
        """Note the broker's answer to an UNSUBSCRIBE."""
        # Should the broker refuse: what still comes is counted as unrouted, and acknowledged.
        self.asked.pop(packet_id, None)

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
