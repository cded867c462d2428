"""The subscriptions of one connection: asks the broker for what is new, gives back what is not wanted any more.

Rules:

* What stays is not asked for again, so that what the broker has retained does not come once more; what was refused is.
* A packet id is that of one packet at a time (MQTT 5, 2.2.1), and paho numbers these packets but not our messages: a
  `Session` asks when no message is unconfirmed, holds those that follow back until then, and does not give them a number in `asked`.
* The new is asked for before the old is given back: where the two overlap, a message comes twice rather than not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from edge_agent.contract.messages import Refused


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
        if new:
            self.asked[self._asker.subscribe(new)] = list(new)
        if gone:
            self.asked[self._asker.unsubscribe(gone)] = []
        self._held = set(self._wanted)
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
