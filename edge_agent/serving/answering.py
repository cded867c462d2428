"""From what arrives on a connection to its answers: in slices, in order, and with caution where that is due.

Rules:

* a turn is bounded by what it costs (`edge_agent.serving.intake`), and by how much the broker has not taken yet;
* what was being answered when something went wrong that should not is under suspicion like what was under way when the
  connection ended (`edge_agent.link.poison`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Final

from edge_agent.contract.messages import Answer, Message
from edge_agent.contract.topics import ROOT
from edge_agent.errors import BrokerError, FarewellError
from edge_agent.link.poison import Poison, cause_of
from edge_agent.serving import trace
from edge_agent.serving.caution import Caution
from edge_agent.serving.intake import Intake
from edge_agent.serving.pipeline import Pipeline
from edge_agent.serving.plan import Connection

#: Bytes of answers that the broker has not taken yet, past which nothing more is answered.
_MOST_HELD: Final = 4 << 20
#: Longest wait for messages.
_TICK: Final = 1.0
#: Answers that gathering puts off wait while this many messages are in flight: waiting, they cost nothing.
_ENOUGH_IN_FLIGHT: Final = 1000


class Answering:
    """Answers what comes on the connections of an agent, one after the other.

    `respond` returns the answer to a management request, None for a message that is none.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        clock: Callable[[], float],
        respond: Callable[[Connection, Message], Answer | None],
    ) -> None:
        self.pipeline = pipeline
        self._tally = pipeline.tally
        self._clock = clock
        self._respond = respond
        self._intake = Intake()
        self._poison = Poison(self._tally)
        self._caution = Caution(self._poison, self._intake, self._tally, clock)
        self._working: Sequence[Message] = ()  # what is being answered

    @property
    def busy_alone(self) -> bool:
        """Whether something is under way that has to be alone."""
        return self._poison.trying

    def receive(self, link: Connection, wakeup: int | None, *, hurry: bool) -> None:
        """Take in what has arrived; wait for it, unless there is something to be done or in a `hurry`."""
        # Not to read while much waits keeps it bounded, unless only the broker's confirmations get us on.
        reading = not self._intake.full or _is_behind(link) or self._caution.pause > 0
        patience = 0.0 if hurry and not self._caution.due else self._patience(link)
        self._take_in(link.receive(patience, wakeup, reading=reading))

    def may_say(self, link: Connection, *answers: Answer) -> bool:
        """Tell whether messages of our own may be sent now, as far as they are not known to end the connection."""
        return self._caution.may_say(link, *answers)

    def say(self, link: Connection, answer: Answer) -> None:
        """Send a message of our own, unless it is one that ends the connection."""
        self._caution.say(link, answer)

    def greeted(self) -> None:
        """Note that the connection stands, and has heard that we are there."""
        self._caution.greeted()

    def answer(self, link: Connection) -> None:
        """Answer a slice of what has arrived, when there is room for its answers."""
        if _is_behind(link):
            return
        if self._caution.due:
            self._caution.turn(link, self)
        elif self._intake:
            messages, arrived = self._intake.take()
            began = self._clock()
            for message, answers in zip(messages, self.work(link, messages), strict=True):
                link.answer(message, answers)
            ended = self._clock()
            self._tally.took(ended - arrived, len(messages))
            self._intake.took(ended - began)
        self._working = ()

    def work(self, link: Connection, messages: Sequence[Message]) -> list[list[Answer]]:
        """Return the answers to each message."""
        self._working = messages
        made = self.pipeline.process(messages, self._clock())
        for message, answers in zip(messages, made, strict=True):
            if message.topic.startswith(ROOT) and (response := self._respond(link, message)) is not None:
                answers.append(response)
            elif not answers and not self.pipeline.takes(message.topic):
                self._tally.unrouted += 1
        trace.answered(messages, made)
        return made

    def shorten(self, message: Message) -> list[Answer]:
        """Return the short rejections in place of the answers to a message."""
        return self.pipeline.undeliverable(message)

    def finish(self, link: Connection, seconds: float, tick: Callable[[], None]) -> None:
        """Answer what has arrived, as far as that goes in so many seconds, then all that was put off. What arrives
        meanwhile waits behind it. `tick` is called again and again.
        """
        ends = self._clock() + seconds
        later: list[Message] = []
        while self._intake and not self._caution.pause and (left := ends - self._clock()) > 0:
            tick()
            behind = _is_behind(link)
            later += link.receive(min(left, _TICK) if behind else 0.0, reading=behind)
            self.answer(link)
        self._take_in(later)
        if self._caution.stands:
            self._publish(link, self.pipeline.due(self._clock(), limit=sys.maxsize, ahead=math.inf))

    def answer_due(self, link: Connection) -> None:
        """Send answers that were put off until now."""
        if self._caution.due:
            if self._room(link) > 0:
                self._caution.send_due(link, lambda limit: self.pipeline.due(self._clock(), limit=limit))
        elif self.pipeline.next_due is not None:
            self._publish(link, self.pipeline.due(self._clock(), limit=self._room(link)))

    def ended(self, link: Connection, error: BrokerError) -> bool:
        """Note that a connection has ended; return whether that brought us nearer to an input that ends them."""
        under_way = link.under_way | {cause_of(message) for message in self._working}
        refused = link.refused_answers[-1].reason if link.refused_answers else None
        nearer = not isinstance(error, FarewellError) and self._poison.ended(
            under_way, self._clock(), refused or str(error).partition("; ")[0]
        )
        self.drop()
        return nearer

    def drop(self) -> None:
        """Forget what came on a connection: the broker sends again what was not acknowledged."""
        self._working = ()
        self._intake.clear()
        self._caution.clear()
        self._poison.interrupted()

    def _take_in(self, messages: Sequence[Message]) -> None:
        for lost in self._intake.add(messages, self._clock()):
            self._tally.note(
                "lost at QoS 0: too much waits to be answered, and the broker does not take answers", lost.topic
            )

    def _publish(self, link: Connection, answers: Sequence[Answer]) -> None:
        for answer in answers:
            link.publish(answer)
        trace.published(answers)
        self._tally.answered += len(answers)

    def _room(self, link: Connection) -> int:
        """Return how many answers that were put off may go out now."""
        return _ENOUGH_IN_FLIGHT - link.in_flight if self._caution.stands else 0

    def _patience(self, link: Connection) -> float:
        """Return how long to wait for messages: not at all when some are to be answered, and no longer than until the
        next answer that was put off.
        """
        if self._caution.pause:
            return self._caution.pause
        if self._intake and not _is_behind(link):
            return 0.0
        due = self.pipeline.next_due
        if due is None or self._room(link) <= 0:
            return _TICK
        # A millisecond more, for the wait counts whole ones and would come back a little too early.
        return min(_TICK, max(0.0, due - self._clock()) + 0.001)


def _is_behind(link: Connection) -> bool:
    """Tell whether so many answers wait for the broker that no more should be made."""
    return link.held_bytes > _MOST_HELD
