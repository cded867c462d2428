"""Answers the messages of a connection: in slices, in order, and carefully while an input is a suspect.

Rules:

* a turn is bounded by its cost (`edge_agent.serving.intake`), and by the bytes that the broker has not confirmed yet;
* inputs being answered when an internal error occurs are suspects, like those in flight when the connection ended
  (`edge_agent.link.poison`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Final

from edge_agent.contract.messages import Answer, Message
from edge_agent.contract.topics import FLEET, ROOT
from edge_agent.errors import BrokerError, FarewellError
from edge_agent.link.poison import Poison, cause_of
from edge_agent.serving import trace
from edge_agent.serving.caution import Caution
from edge_agent.serving.intake import Intake
from edge_agent.serving.plan import Connection, Plan

#: While more bytes of answers than this are unconfirmed, nothing more is answered.
_MOST_HELD: Final = 4 << 20
#: Longest wait for messages, in seconds.
_TICK: Final = 1.0
#: Topics of channels, which are subscribed to one by one.
_FLEET: Final = f"{ROOT}/{FLEET}/"
#: While this many messages are in flight, delayed answers of gathering routes wait: waiting costs nothing.
_ENOUGH_IN_FLIGHT: Final = 1000


class Answering:
    """Answers the messages on an agent's connections, one connection after the other.

    `respond` returns the answer to a management request, None for any other message.
    """

    def __init__(
        self,
        plan: Plan,
        clock: Callable[[], float],
        respond: Callable[[Connection, Message], Answer | None],
    ) -> None:
        self.pipeline, self.discovery, self.updates = plan.pipeline, plan.discovery, plan.updates
        self._tally = plan.pipeline.tally
        self._clock = clock
        self._respond = respond
        self._intake = Intake()
        self._poison = Poison(self._tally)
        self._caution = Caution(self._poison, self._intake, self._tally, clock)
        self._working: Sequence[Message] = ()  # the messages being answered

    def go_on_with(self, plan: Plan) -> None:
        """Answer by another plan from now on; what was announced by the last one is taken back where it is gone."""
        self.pipeline, former, self.discovery = plan.pipeline, self.discovery, plan.discovery
        if former is None:
            if self.discovery is not None:
                self.discovery.begin()
        elif self.discovery is None:
            self.discovery = former.retired()
        else:
            self.discovery.take_over(former)
        last, self.updates = self.updates, plan.updates
        if last is not None and self.updates is not None:
            self.updates.take_over(last)
        elif last is not None:
            last.close()

    def close(self) -> None:
        """End what is under way besides messages."""
        if self.updates is not None:
            self.updates.close()

    def reconnected(self) -> None:
        """Note a new connection, before any of its messages."""
        self.pipeline.reconnected()
        if self.discovery is not None:
            self.discovery.reconnected()
        if self.updates is not None:
            self.updates.reconnected()

    @property
    def busy_alone(self) -> bool:
        """Whether a message that must be sent alone is in flight."""
        return self._poison.trying

    def receive(self, link: Connection, wakeup: int | None, *, hurry: bool) -> None:
        """Read messages; wait for them, unless there is work to do or in a `hurry`."""
        # Don't read while much is waiting, which bounds it, unless we need the broker's confirmations to go on.
        reading = not self._intake.full or _is_behind(link) or self._caution.pause > 0
        patience = 0.0 if hurry and not self._caution.due else self._patience(link)
        contests = self.pipeline.contests
        if contests is not None:
            patience = min(patience, contests.wait(self._clock()))
        self._take_in(link.receive(patience, wakeup, reading=reading))
        self._caution.received()
        if contests is not None:
            contests.catch_up(self._clock)  # now that the answers are on their way

    def may_say(self, link: Connection, *answers: Answer) -> bool:
        """Tell whether the agent's own messages may be sent now, unless they are known to end the connection."""
        return self._caution.may_say(link, *answers)

    def say(self, link: Connection, answer: Answer) -> bool:
        """Send one of the agent's own messages, unless it is known to end the connection; return whether it was sent."""
        return self._caution.say(link, answer)

    def greeted(self) -> None:
        """Note that the connection is up, and that `online` was published."""
        self._caution.greeted()

    def answer(self, link: Connection) -> None:
        """Answer a slice of the messages if there is room for its answers."""
        if _is_behind(link):
            return
        if self._caution.due:
            self._caution.turn(link, self)
        elif self._intake:
            messages, arrived = self._intake.take()
            began = self._clock()
            made = self.work(link, messages)
            self._say_first(link)
            for message, answers in zip(messages, made, strict=True):
                link.answer(message, answers)
            ended = self._clock()
            self._tally.took(ended - arrived, len(messages))
            if self._tally.detailed:
                self.pipeline.took(ended - arrived)
            self._intake.took(ended - began)
        self._working = ()

    def work(self, link: Connection, messages: Sequence[Message]) -> list[list[Answer]]:
        """Return the answers to each message."""
        self._working = messages
        if tracing := trace.is_on():
            trace.received(messages, self.pipeline.routes_of)
        made = self.pipeline.process(messages, self._clock())
        for message, answers in zip(messages, made, strict=True):
            if message.topic.startswith(ROOT) and (response := self._respond(link, message)) is not None:
                answers.append(response)
            elif not answers and not self.pipeline.takes(message.topic):
                if self._heard(message):
                    self._tally.received -= 1  # like a request for figures: it is no work
                else:
                    self._tally.unrouted += 1
                    # From a channel that was followed before: the session is older than we are.
                    if message.topic.startswith(_FLEET):
                        link.give_back(message.topic)
        if tracing:
            trace.answered(messages, made)
        return made

    def shorten(self, message: Message) -> list[Answer]:
        """Return the short rejections in place of the answers to a message."""
        return self.pipeline.undeliverable(message)

    def finish(self, link: Connection, seconds: float, tick: Callable[[], None]) -> None:
        """Answer received messages for at most `seconds`, then all delayed answers. Messages that arrive
        meanwhile wait. `tick` is called repeatedly.
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

    def introduce(self, link: Connection) -> None:
        """Send a few of the announcements that are due."""
        if self.discovery is None or (self.discovery.is_idle and not link.refused_answers):
            return
        if not (self._caution.stands and link.ready):
            return
        self.discovery.refused(link.refused_answers)
        for said in self.discovery.due(link, self._tally.received):
            if not self.may_say(link, said):
                return
            if not self.say(link, said):
                self.discovery.undelivered(said)

    def update(self, link: Connection) -> bool:
        """Go on with the update of models; return whether other subscriptions are wanted for it."""
        if self.updates is None or self.updates.is_idle or not (self._caution.stands and link.ready):
            return False
        busy = _is_behind(link) or self._intake.full
        self.updates.turn(link.refused, busy=busy, retains=link.keeps(self.updates.about.probe))
        for said in self.updates.unsaid():
            if not self.may_say(link, said):
                break
            self.say(link, said)
        return self.updates.has_changed()

    def answer_due(self, link: Connection) -> None:
        """Send delayed answers that are due."""
        if self._caution.due:
            if self._room(link) > 0:
                self._caution.send_due(link, lambda limit: self.pipeline.due(self._clock(), limit=limit))
        elif self.pipeline.next_due is not None:
            self._publish(link, self.pipeline.due(self._clock(), limit=self._room(link)))

    def ended(self, link: Connection, error: BrokerError) -> bool:
        """Note that a connection has ended; return whether that helped to find an input that ends connections."""
        under_way = link.under_way | {cause_of(message) for message in self._working}
        refused = link.refused_answers[-1].reason if link.refused_answers else None
        nearer = not isinstance(error, FarewellError) and self._poison.ended(
            under_way, self._clock(), refused or str(error).partition("; ")[0]
        )
        self.drop()
        return nearer

    def drop(self) -> None:
        """Forget the messages of a connection: the broker redelivers what was not acknowledged."""
        self._working = ()
        self._intake.clear()
        self._caution.clear()
        self._poison.interrupted()

    def _take_in(self, messages: Sequence[Message]) -> None:
        for lost in self._intake.add(messages, self._clock()):
            self._tally.note(
                "lost at QoS 0: too many messages are waiting, and the broker does not confirm answers", lost.topic
            )

    def _heard(self, message: Message) -> bool:
        if self.discovery is not None and self.discovery.heard(message):
            return True
        return self.updates is not None and self.updates.heard(message)

    def _say_first(self, link: Connection) -> None:
        """Send what has to come before the answers that were just made."""
        if self.discovery is not None and not self.discovery.is_idle:
            for answer in self.discovery.first():
                self.say(link, answer)

    def _publish(self, link: Connection, answers: Sequence[Answer]) -> None:
        self._say_first(link)
        for answer in answers:
            link.publish(answer)
        if trace.is_on():
            trace.published(answers)
        self._tally.answered += len(answers)

    def _room(self, link: Connection) -> int:
        """Return how many delayed answers may be sent now."""
        return _ENOUGH_IN_FLIGHT - link.in_flight if self._caution.stands else 0

    def _patience(self, link: Connection) -> float:
        """Return how long to wait for messages: not at all if some need an answer, and at most until the
        next delayed answer is due.
        """
        if self._caution.pause:
            return min(self._caution.pause, self._caution.look_within)
        if (self._intake and not _is_behind(link)) or (self.updates is not None and self.updates.hurries):
            return 0.0
        due = self.pipeline.next_due
        if due is None or self._room(link) <= 0:
            return self._caution.look_within
        # One millisecond more: the wait counts whole milliseconds and would otherwise end too early.
        return min(self._caution.look_within, max(0.0, due - self._clock()) + 0.001)


def _is_behind(link: Connection) -> bool:
    """Tell whether too many answers wait for the broker to produce more."""
    return link.held_bytes > _MOST_HELD
