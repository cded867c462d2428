"""The subscriptions of one connection: asks the broker for what is new, gives back what is not wanted any more.

A private part of `edge_agent.link.link`. Rules:

* What stays is not asked for again, so that what the broker has retained does not come once more; what was refused is.
* A packet id is that of one packet at a time (MQTT 5, 2.2.1), and paho numbers these packets but not our messages: `Link`
  asks when no message is unconfirmed, holds those that follow back until then, and does not give them a number in `asked`.
* The new is asked for before the old is given back: where the two overlap, a message comes twice rather than not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from edge_agent.contract.messages import Refused
from edge_agent.link import paho_client


class Subscriptions:
    """`wanted` are topic filters, each with whether retained messages are wanted even if the subscription is not new.

    `refused` are those that the broker refused; `waiting` says that `ask` is to be called.
    """

    def __init__(self, client: Any, protocol: str, wanted: Mapping[str, bool]) -> None:
        self.refused: list[Refused] = []
        self.waiting = bool(wanted)
        #: By packet id: the filters that the broker was asked for and has not granted or refused yet; none of them
        #: where it has to confirm that others were given back.
        self.asked: dict[int, list[str]] = {}
        self._client = client
        self._protocol = protocol
        self._wanted = dict(wanted)
        self._held: set[str] = set()
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe

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
            self.asked[paho_client.subscribe(self._client, self._protocol, new)] = list(new)
        if gone:
            self.asked[paho_client.unsubscribe(self._client, gone)] = []
        self._held = set(self._wanted)
        self.waiting = False

    def _on_subscribe(self, _client: object, _data: object, packet: int, reasons: list[Any], properties: Any) -> None:
        for one, reason in zip(self.asked.pop(packet, ()), reasons, strict=False):
            if reason.is_failure:
                self.refused.append(Refused(one, paho_client.words(reason, properties)))
                self._held.discard(one)

    def _on_unsubscribe(self, _client: object, _data: object, packet: int, _reasons: object, _props: object) -> None:
        # Should the broker refuse: what still comes is counted as unrouted, and acknowledged.
        self.asked.pop(packet, None)
