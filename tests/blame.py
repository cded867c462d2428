"""Whose loss a message is that was never answered: the agent's or the broker's, from what went over the line between them.

The rule of at-least-once (MQTT 5 and 3.1.1, 4.4), for each end of a connection: who has not confirmed a message will be sent
it again, and who has is answerable for it. So the agent may confirm a question only after the broker has confirmed all of
its answer, and answers what came on a connection that lasts. Whatever breaks that is the agent's loss. Every other loss is the broker's: it had confirmed the
question to whoever asked, or the answer to the agent, and did not keep what it had confirmed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from tests.contract.agents import Packet
from tests.wire import PUBACK, PUBLISH

_NUMBER = re.compile(rb'"id": ?(\d+)\}')


class Fate(StrEnum):
    NEVER_SENT = "confirmed to whoever asked, and never sent to the agent"
    NOT_SENT_AGAIN = "sent to the agent, not confirmed by it, and not sent again"
    ANSWER_LOST = "its answer confirmed to the agent, and not delivered"
    TOO_EARLY = "confirmed by the agent before the broker had confirmed its answer"
    STUCK = "sent on the last connection, and neither answered nor confirmed"


OURS = frozenset({Fate.TOO_EARLY, Fate.STUCK})


class Record:
    """What is known of each numbered question, from a relay's packets in the order in which they went through."""

    def __init__(self, packets: Iterable[Packet]) -> None:
        #: By number of the question: on which connection it was sent to the agent last.
        self.sent: dict[int, int] = {}
        #: Numbers of the questions that the agent confirmed, and of those whose answer the broker confirmed.
        self.acknowledged: set[int] = set()
        self.answer_confirmed: set[int] = set()
        #: Confirmed by the agent while the broker had not confirmed the answer: there must be none, lost or not.
        self.too_early: set[int] = set()
        #: By connection and packet id: the question, or the answer, that is not confirmed yet.
        questions: dict[tuple[int, int | None], int] = {}
        answers: dict[tuple[int, int | None], int] = {}
        self._last = 0
        for packet in packets:
            self._last = max(self._last, packet.connection)
            place = packet.connection, packet.id
            if packet.kind == PUBLISH and (found := _NUMBER.search(packet.rest)):
                number = int(found[1])
                if packet.up:
                    answers[place] = number
                else:
                    questions[place] = number
                    self.sent[number] = packet.connection
            elif packet.kind == PUBACK and packet.up and place in questions:
                number = questions.pop(place)
                self.acknowledged.add(number)
                if number not in self.answer_confirmed:
                    self.too_early.add(number)
            elif packet.kind == PUBACK and not packet.up and place in answers:
                self.answer_confirmed.add(answers.pop(place))

    def fate(self, number: int) -> Fate:
        """Of a question that was not answered."""
        if number in self.too_early:
            return Fate.TOO_EARLY
        if number not in self.sent:
            return Fate.NEVER_SENT
        if number in self.answer_confirmed:
            return Fate.ANSWER_LOST
        if self.sent[number] == self._last:
            return Fate.STUCK
        return Fate.NOT_SENT_AGAIN
