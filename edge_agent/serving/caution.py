"""Answers inputs while some are suspected of ending the connection (`edge_agent.link.poison`).

Usually the agent sends all answers to a slice of messages at once. Here the order is the same, but a suspect is sent alone:
after the broker has confirmed everything before it, and with nothing after it until the broker has confirmed it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from edge_agent.contract.messages import Answer, Message
from edge_agent.link.poison import Course, Poison, cause_of, cause_of_own
from edge_agent.serving.intake import Intake
from edge_agent.serving.plan import Connection
from edge_agent.tally import Tally

#: Longest wait for the broker, in seconds; its answer ends the wait.
_TICK: Final = 1.0
#: Seconds that a connection must be up before an input is sent against which one end counts already, and how many times as
#: long for each further end: a broker or a network that soon fails, whatever we send, must not count against the input.
_QUIET: Final = 0.25
_LONGER: Final = 4
#: Seconds of a last look at the connection before that, and for how many it counts: longer ago, it tells nothing.
_LOOK: Final = 0.001
_FRESH: Final = 1.0
#: Delayed answers that are handled together.
_MOST_DUE: Final = 100


class Work(Protocol):
    """Produces answers."""

    def work(self, link: Connection, messages: Sequence[Message]) -> list[list[Answer]]:
        """Return the answers to each message."""

    def shorten(self, message: Message) -> list[Answer]:
        """Return the short rejections in place of the answers to a message."""


class Caution:
    """Takes messages out of `intake` while there are suspects or convictions."""

    def __init__(self, poison: Poison, intake: Intake, tally: Tally, clock: Callable[[], float]) -> None:
        self._poison = poison
        self._intake = intake
        self._tally = tally
        self._clock = clock
        #: Answers that wait for earlier ones, with their messages; delayed answers have no message.
        self._made: deque[tuple[Message, list[Answer]]] = deque()
        self._due: deque[Answer] = deque()
        self._greeted = False
        self._stands_since = math.inf
        self._look_asked = -math.inf
        self._looked = False
        self._pause = 0.0
        #: Seconds until the connection is to be read, because a suspect waits for that; other work of the turn changes nothing in it.
        self.look_within = _TICK

    @property
    def due(self) -> bool:
        """Whether caution is needed instead of the usual way."""
        return self._poison.watching or bool(self._made or self._due)

    @property
    def stands(self) -> bool:
        """Whether `online` was published on the connection."""
        return self._greeted

    @property
    def pause(self) -> float:
        """Seconds until the next turn can do something, unless the broker sends something before; 0 for now."""
        return self._pause if self.due else 0.0

    def greeted(self) -> None:
        """Note that the connection is up, and that `online` was published."""
        self._greeted = True

    def received(self) -> None:
        """Note that the connection was read, and has not ended."""
        self._looked = self._clock() - self._look_asked <= _FRESH
        self._look_asked = -math.inf
        self.look_within = _TICK

    def clear(self) -> None:
        """Forget what was to be sent on a connection that has ended; delayed answers are sent on the next one."""
        self._made.clear()
        self._greeted = self._looked = False
        self._stands_since = math.inf
        self._look_asked = -math.inf
        self._pause = 0.0

    def turn(self, link: Connection, maker: Work) -> None:
        """Answer a slice of the messages, as far as the broker's confirmations allow."""
        self._pause = 0.0
        if not self._trial_is_over(link):
            return
        if not self._made:
            self._make(link, maker)
        while self._made and not self._poison.trying:
            message, answers = self._made[0]
            if not self._send(link, maker, message, answers):
                return
            self._made.popleft()

    def send_due(self, link: Connection, take: Callable[[int], list[Answer]]) -> None:
        """Send delayed answers; `take` returns those that are due, up to a given number."""
        if not self._due:
            self._due.extend(take(_MOST_DUE))
        while self._due and self._trial_is_over(link):
            answer = self._due[0]
            cause, now = cause_of_own(answer.topic), self._clock()
            course = self._poison.course(cause, now)
            if course is Course.USUAL:
                course = self._poison.judge(cause, answer.topic, [answer], now, followed=False)
            if course.alone and not self._is_alone(link, cause):
                return
            self._due.popleft()
            if course is Course.ALONE:
                self._poison.begin(cause, answer.topic, own=True)
                self._poison.made([answer])
            elif course is not Course.USUAL:
                continue
            else:
                self._poison.sent([answer])
            link.publish(_confirmed(answer) if course.alone else answer)
            self._tally.answered += 1

    def may_say(self, link: Connection, *answers: Answer) -> bool:
        """Tell whether the agent's own messages may be sent; a suspect among them is tried first."""
        self._stands_since = min(self._stands_since, self._clock())
        for answer in answers:
            cause = cause_of_own(answer.topic)
            if self._poison.course(cause, self._clock()) is Course.ALONE:
                self._pause = _TICK
                if not self._poison.trying and link.settle() and self._has_stood(cause):
                    self._poison.passed()
                    self._poison.begin(cause, answer.topic, own=True)
                    self._poison.made([answer])
                    link.publish(_confirmed(answer))
                return False
        return True

    def say(self, link: Connection, answer: Answer) -> bool:
        """Send one of the agent's own messages, unless it is known to end the connection; return whether it was sent."""
        if self._poison.course(cause_of_own(answer.topic), self._clock()) is Course.NOTHING:
            return False
        link.publish(answer)
        return True

    # -- the parts of a turn

    def _make(self, link: Connection, maker: Work) -> None:
        """Produce the answers to a slice of unsuspected messages, or handle one suspect."""
        began = self._clock()
        messages, arrived = self._intake.take(until=lambda one: self._course(one) is not Course.USUAL)
        if messages:
            self._made.extend(zip(messages, maker.work(link, messages), strict=True))
            ended = self._clock()
            self._tally.took(ended - arrived, len(messages))
            self._intake.took(ended - began)
        elif self._intake:
            message = self._intake.first
            course = self._course(message)
            if course.alone and not self._is_alone(link, cause_of(message)):
                return
            self._intake.take(1)
            if course is not Course.ALONE:
                self._cut_short(link, maker, message, course)
                return
            # Producing its answers is part of the trial, because that may fail, too.
            self._poison.begin(cause_of(message), message.topic)
            self._made.extend(zip([message], maker.work(link, [message]), strict=True))
            self._poison.interrupted()

    def _send(self, link: Connection, maker: Work, message: Message, answers: list[Answer]) -> bool:
        """Send answers of unsuspected messages; return False when they must wait."""
        cause, now = cause_of(message), self._clock()
        course = self._poison.judge(cause, message.topic, answers, now, followed=_followed(message, answers))
        if course is Course.USUAL:
            course = self._poison.course(cause, now)
        if course.alone and not self._is_alone(link, cause):
            return False
        if course is Course.USUAL:
            self._poison.sent(answers)
            link.answer(message, answers)
        elif course is Course.ALONE:
            self._poison.begin(cause, message.topic)
            self._try(link, message, answers)
        else:
            self._cut_short(link, maker, message, course)
        return True

    def _try(self, link: Connection, message: Message, answers: Sequence[Answer]) -> None:
        self._poison.made(answers, followed=_followed(message, answers))
        link.answer(message, [_confirmed(answer) for answer in answers])

    def _cut_short(self, link: Connection, maker: Work, message: Message, course: Course) -> None:
        """Answer a message with the short rejection, or not at all."""
        cause = cause_of(message)
        answers = maker.shorten(message) if course.short else []
        if not answers or self._poison.hopeless(answers, self._clock()):
            self._poison.give_up(cause)
            answers = []
        elif course.alone:
            self._poison.begin(cause, message.topic)
            self._poison.made(answers)
        link.answer(message, [_confirmed(answer) if course.alone else answer for answer in answers], bare=True)

    def _course(self, message: Message) -> Course:
        return self._poison.course(cause_of(message), self._clock())

    def _trial_is_over(self, link: Connection) -> bool:
        """Tell whether no trial is in progress."""
        if self._poison.trying:
            if not link.settle():
                self._pause = _TICK
                return False
            self._poison.passed()
        return True

    def _is_alone(self, link: Connection, cause: int) -> bool:
        """Tell whether a suspect may be sent now: the connection is up, and nothing is in flight."""
        if not self._greeted or not link.settle():
            self._pause = _TICK
            return False
        self._poison.passed()
        return self._has_stood(cause)

    def _has_stood(self, cause: int) -> bool:
        """Tell whether the connection has been up for as long as it must be before a suspect is sent, and still is."""
        strikes = self._poison.strikes(cause)
        if not strikes:
            return True
        now, looked = self._clock(), self._looked
        self._looked = False
        left = self._stands_since + _QUIET * _LONGER ** (strikes - 1) - now
        if left > 0:
            self._pause = self.look_within = min(left, _TICK)
            return False
        if not looked:
            # It may have ended while the scheduler kept us waiting: the end is read after all that came before it.
            self._look_asked = now
            self._pause = self.look_within = _LOOK
        return looked


def _followed(message: Message, answers: Sequence[Answer]) -> bool:
    """Tell whether answers go to the Response Topic of their message."""
    return any(answer.topic == message.response_topic for answer in answers)


def _confirmed(answer: Answer) -> Answer:
    """Return an answer with a QoS that the broker must confirm."""
    return answer if answer.qos else answer._replace(qos=1)
