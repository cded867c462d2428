"""Answering while something is suspected of ending the connection (`edge_agent.link.poison`).

The usual way is the agent's own: a slice of messages, all their answers at once. Here the order is the same, but what is
suspected is sent alone: when the broker is known to have taken all before it, and with nothing behind it until the broker
is known to have taken it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from edge_agent.contract.messages import Answer, Message
from edge_agent.link.poison import Course, Poison, cause_of, cause_of_own
from edge_agent.serving.intake import Intake
from edge_agent.serving.plan import Connection
from edge_agent.tally import Tally

#: Longest wait for the broker, whose answer ends it.
_TICK: Final = 1.0
#: Seconds that a connection stands before something is sent that one more end may convict: a broker, or a line, that is gone
#: again at once whatever we send does not count against it.
_QUIET: Final = 0.25
#: Answers that were put off which are looked at together.
_MOST_DUE: Final = 100


class Work(Protocol):
    """What makes answers."""

    def work(self, link: Connection, messages: Sequence[Message]) -> list[list[Answer]]:
        """Return the answers to each message."""

    def shorten(self, message: Message) -> list[Answer]:
        """Return the short rejections in place of the answers to a message."""


class Caution:
    """Takes messages out of `intake` while there is something to look out for."""

    def __init__(self, poison: Poison, intake: Intake, tally: Tally, clock: Callable[[], float]) -> None:
        self._poison = poison
        self._intake = intake
        self._tally = tally
        self._clock = clock
        #: Answers that wait for those before them, with their messages; and those that answer none, which were put off.
        self._made: deque[tuple[Message, list[Answer]]] = deque()
        self._due: deque[Answer] = deque()
        self._stands_since: float | None = None
        self._pause = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time for this, and not for the usual way."""
        return self._poison.watching or bool(self._made or self._due)

    @property
    def stands(self) -> bool:
        """Whether the connection has been greeted."""
        return self._stands_since is not None

    @property
    def pause(self) -> float:
        """Seconds to wait, unless the broker says something, before the next turn can do anything; 0 for not at all."""
        return self._pause if self.due else 0.0

    def greeted(self) -> None:
        """Note that the connection stands, and has heard that we are there."""
        self._stands_since = self._clock()

    def clear(self) -> None:
        """Forget what was to be sent on a connection that has ended; what was put off goes out on the next one."""
        self._made.clear()
        self._stands_since = None
        self._pause = 0.0

    def turn(self, link: Connection, maker: Work) -> None:
        """Answer a slice of what has arrived, as far as the broker has got."""
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
        """Send answers that were put off; `take` returns some of those that are due, up to so many."""
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
        """Tell whether messages of our own may be sent; one of them that is suspected is tried first."""
        for answer in answers:
            cause = cause_of_own(answer.topic)
            if self._poison.course(cause, self._clock()) is Course.ALONE:
                if not self._poison.trying and link.settle():
                    self._poison.passed()
                    self._poison.begin(cause, answer.topic, own=True)
                    self._poison.made([answer])
                    link.publish(_confirmed(answer))
                self._pause = _TICK
                return False
        return True

    def say(self, link: Connection, answer: Answer) -> None:
        """Send a message of our own, unless it is one that ends the connection."""
        if self._poison.course(cause_of_own(answer.topic), self._clock()) is not Course.NOTHING:
            link.publish(answer)

    # -- the parts of a turn

    def _make(self, link: Connection, maker: Work) -> None:
        """Make the answers to a slice of messages that nothing is known about, or see to one that something is."""
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
            # To make its answers is part of the trial, for that may go wrong as well.
            self._poison.begin(cause_of(message), message.topic)
            self._made.extend(zip([message], maker.work(link, [message]), strict=True))
            self._poison.interrupted()

    def _send(self, link: Connection, maker: Work, message: Message, answers: list[Answer]) -> bool:
        """Send answers that were made in the usual way; return False when they have to wait."""
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
        """Answer a message briefly, or not at all."""
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
        """Tell whether nothing is tried at the moment."""
        if self._poison.trying:
            if not link.settle():
                self._pause = _TICK
                return False
            self._poison.passed()
        return True

    def _is_alone(self, link: Connection, cause: int) -> bool:
        """Tell whether a suspect may be sent now: the connection stands, and nothing is under way."""
        if self._stands_since is None or not link.settle():
            self._pause = _TICK
            return False
        self._poison.passed()
        left = self._stands_since + _QUIET - self._clock()
        if left > 0 and self._poison.is_grave(cause):
            self._pause = left
            return False
        return True


def _followed(message: Message, answers: Sequence[Answer]) -> bool:
    """Tell whether answers go where the sender of their question wants them."""
    return any(answer.topic == message.response_topic for answer in answers)


def _confirmed(answer: Answer) -> Answer:
    """Return an answer as one that the broker has to confirm."""
    return answer if answer.qos else answer._replace(qos=1)
