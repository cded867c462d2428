"""Finds inputs whose answers end the connection each time, and answers them briefly or not at all.

The broker redelivers unacknowledged inputs. So an input over whose answer it closes the connection (or crashes) would
come again on every connection, and no later input would ever be answered. Rules:

* An input in flight at two consecutive ends of a connection is a suspect. A suspect is sent alone: once everything before
  it is confirmed, and with nothing after it. If the broker confirms it, it is forgotten.
* Only an end while a suspect was alone counts against it, and only several in a row convict it; an end without it resets
  the count. So a broker that restarts or a network that fails, however often, convicts nothing.
* A convicted input is answered with a short rejection, which is tried in the same way; if that is not confirmed either, the
  input is acknowledged without an answer.
* Convictions generalize: answers to the same topic, or larger or with more levels than anything confirmed, are suspects
  from the start, and after some convictions are not even tried. After `_TERM` all are tried again, because the broker's
  rules may have changed.
* Everything here is bounded, and in memory only.

Pure: a hash identifies an input (`cause_of`), because its packet id may change; times are passed in.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum, auto
from typing import Final, TypeAlias

from edge_agent.contract.messages import Answer, Message
from edge_agent.link.packets import size_of
from edge_agent.tally import Tally
from edge_agent.wording import LOGGED, plain

_log = logging.getLogger(__name__)

#: Consecutive ends of a connection with a suspect alone that convict it: for its answer, or for the short rejection.
_STRIKES: Final = 3
_STRIKES_WHEN_SHORT: Final = 2
#: The same while there are convictions, and for inputs like the convicted ones.
_STRIKES_AFTER_OTHERS: Final = 2
_STRIKES_OF_THE_LIKE: Final = 1
#: Convictions after which similar inputs are no longer tried.
_ENOUGH: Final = 3
#: A measure this many times above anything confirmed can't be a coincidence.
_FAR: Final = 2
#: Seconds after which convictions are tested again.
_TERM: Final = 3600.0
#: Inputs and kinds that are remembered; the least recently used are forgotten first.
_CASES: Final = 10_000
_KINDS: Final = 1_000
#: Seconds between two log lines about inputs that were not tried.
_PAUSE: Final = 60.0
#: Bytes at each end of a payload that distinguish inputs of the same size on a topic: hashing all of a batch takes as long
#: as answering several of its rows.
_LOOKED_AT: Final = 512

#: Measures of an answer: bytes of its packet, levels of its topic.
Measure: TypeAlias = tuple[int, int]
_NOTHING: Final[Measure] = (0, 0)


def cause_of(message: Message) -> int:
    """Return a hash that identifies an input; of a long payload it uses size, beginning and end. At QoS 0 nothing is
    redelivered, so there it identifies the topic.
    """
    topic, payload, qos, content_type, _, response_topic, _, _, explain = message
    if not qos:
        return hash((topic, content_type, response_topic, explain))
    if (size := len(payload)) > 2 * _LOOKED_AT:
        payload = b"%d%b%b" % (size, payload[:_LOOKED_AT], payload[-_LOOKED_AT:])
    return hash((topic, payload, content_type, response_topic, explain))


def cause_of_own(topic: str) -> int:
    """Return a hash that identifies the agent's own messages on `topic`."""
    return hash(("own", topic))


class Course(Enum):
    """What to do with an input."""

    USUAL = auto()
    ALONE = auto()
    SHORT = auto()  # the short rejection, which the broker is known to take
    SHORT_ALONE = auto()
    NOTHING = auto()

    @property
    def alone(self) -> bool:
        """Whether it must be sent alone."""
        return self in {Course.ALONE, Course.SHORT_ALONE}

    @property
    def short(self) -> bool:
        """Whether it is answered with the short rejection."""
        return self in {Course.SHORT, Course.SHORT_ALONE}


class _Stage(Enum):
    """Which answer to an input is on trial."""

    ANSWER = auto()
    SHORT = auto()
    NOTHING = auto()


class _Case:
    """A suspected or convicted input."""

    __slots__ = ("counted", "ends", "like", "stage", "strikes", "taken")

    def __init__(self, ends: float) -> None:
        self.stage = _Stage.ANSWER
        self.strikes = 0
        self.like = False  # similar inputs are convicted
        self.taken = False  # the short rejection was confirmed
        self.counted = False
        self.ends = ends


class _Kind:
    """What convicted answers have in common: their smallest measures."""

    __slots__ = ("convictions", "ends", "least")

    def __init__(self, least: Measure, ends: float) -> None:
        self.least = least
        self.convictions = 0
        self.ends = ends


class _Trial:
    """A suspect in flight, alone."""

    __slots__ = ("answers", "cause", "followed", "own", "topic")

    def __init__(self, cause: int, topic: str, *, own: bool) -> None:
        self.cause = cause
        self.topic = topic
        self.own = own
        self.answers: Sequence[Answer] = ()
        self.followed = False


class Poison:
    """The knowledge about inputs, over all connections of an agent."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        #: Inputs in flight when the last connection ended.
        self._last: AbstractSet[int] = frozenset()
        self._cases: OrderedDict[int, _Case] = OrderedDict()
        self._kinds: OrderedDict[tuple[str, str], _Kind] = OrderedDict()
        self._trial: _Trial | None = None
        self._largest = _NOTHING  # that the broker took since something was suspected
        self._sent = _NOTHING  # and that it was sent, but may not have taken
        self._short_taken = False
        self._convicted_until = 0.0
        self._untried = 0
        self._next_line = 0.0

    @property
    def watching(self) -> bool:
        """Whether there are suspects or convictions."""
        return bool(self._cases or self._kinds or self._trial)

    @property
    def trying(self) -> bool:
        """Whether a suspect is in flight."""
        return self._trial is not None

    def strikes(self, cause: int) -> int:
        """Return how many ends of a connection count against it; similarity to convicted inputs counts as one."""
        return 0 if (case := self._cases.get(cause)) is None else max(case.strikes, int(case.like))

    def course(self, cause: int, now: float) -> Course:
        """Return what to do with an input, if it is known."""
        case = self._cases.get(cause)
        if case is None:
            return Course.USUAL
        self._cases.move_to_end(cause)
        if case.stage is not _Stage.ANSWER and now >= case.ends:
            case.stage, case.strikes, case.like, case.ends = _Stage.ANSWER, 0, True, now + _TERM
        if case.stage is _Stage.ANSWER:
            return Course.ALONE
        if case.stage is _Stage.SHORT:
            return Course.SHORT if case.taken else Course.SHORT_ALONE
        return Course.NOTHING

    def judge(self, cause: int, topic: str, answers: Iterable[Answer], now: float, *, followed: bool) -> Course:
        """Return what to do with an input on `topic`, by its answers; `followed`: they go to a Response Topic."""
        found = Course.USUAL
        for answer in answers:
            measure = _measure(answer)
            for key in _keys(answer, followed=followed):
                kind = self._kinds.get(key)
                if kind is None:
                    continue
                of_topic, reaches = key[0] == "topic", _reaches(measure, kind.least)
                if of_topic and not reaches:
                    continue
                if not of_topic and not _stands_out(measure, kind.least, self._largest):
                    continue
                if now >= kind.ends:
                    # One of them is tried again; if convicted again, all are for another term.
                    kind.convictions, kind.ends = _ENOUGH - 1, now + _TERM
                sure = of_topic or _is_far_beyond(kind.least, self._largest)
                if reaches and sure and kind.convictions >= _ENOUGH:
                    return self._leave_untried(cause, topic, now)
                found = Course.ALONE
                self._open(cause, now).like |= reaches
        return found

    def sent(self, answers: Iterable[Answer]) -> None:
        """Note answers that are sent in the usual way."""
        for answer in answers:
            self._sent = _largest(self._sent, _measure(answer))

    def begin(self, cause: int, topic: str, *, own: bool = False) -> None:
        """Note that an input on `topic` is tried, alone; `own` if it is one of the agent's own messages, which answers no
        input.
        """
        self._trial = _Trial(cause, topic, own=own)

    def made(self, answers: Sequence[Answer], *, followed: bool = False) -> None:
        """Note the answers to the input on trial, once they are known; `followed` as for `judge`."""
        if self._trial is not None:
            self._trial.answers, self._trial.followed = answers, followed

    def passed(self) -> None:
        """Note that the broker has confirmed everything that was sent."""
        trial, self._trial = self._trial, None
        if trial is not None:
            self.sent(trial.answers)
            case = self._cases.get(trial.cause)
            if case is not None and case.stage is _Stage.SHORT:
                case.taken = self._short_taken = True
                case.strikes = 0
            elif case is not None:
                del self._cases[trial.cause]
            self._last -= {trial.cause}
        self._largest, self._sent = _largest(self._largest, self._sent), _NOTHING

    def interrupted(self) -> None:
        """Note that the connection has ended for a reason unrelated to the messages in flight."""
        self._trial, self._sent = None, _NOTHING

    def ended(self, under_way: AbstractSet[int], now: float, reason: str) -> bool:
        """Note that the connection ended with `under_way` unconfirmed; return whether that counts against one of them."""
        trial = self._trial
        self.interrupted()
        if trial is not None and under_way == {trial.cause}:
            self._strike(trial, now, reason)
            return True
        for cause in self._cases.keys() - under_way:
            self._cases[cause].strikes = 0
        if under_way:
            for cause in under_way & self._last:
                self._open(cause, now).taken = False
            self._last = under_way
        self._forget(now)
        return False

    def hopeless(self, answers: Iterable[Answer], now: float) -> bool:
        """Tell whether a short rejection would fail, too, judging by others on its topic."""
        return any(
            (kind := self._kinds.get(("topic", answer.topic))) is not None
            and kind.convictions >= _ENOUGH
            and now < kind.ends
            and _reaches(_measure(answer), kind.least)
            for answer in answers
        )

    def give_up(self, cause: int) -> None:
        """Note that an input gets no answer."""
        if (case := self._cases.get(cause)) is not None:
            case.stage = _Stage.NOTHING

    # -- convictions

    def _strike(self, trial: _Trial, now: float, reason: str) -> None:
        case = self._open(trial.cause, now)
        case.strikes += 1
        if case.stage is _Stage.SHORT:
            self._short_taken = False
            if case.strikes >= _STRIKES_WHEN_SHORT:
                case.stage = _Stage.NOTHING
                self._learn(trial, now)
                _log.error(
                    "%s: the short rejection ended the connection, too; the input is acknowledged without an answer",
                    _shown(trial.topic),
                )
            return
        needed = _STRIKES
        if case.like:
            needed = _STRIKES_OF_THE_LIKE
        elif now < self._convicted_until:
            needed = _STRIKES_AFTER_OTHERS
        if case.strikes >= needed:
            self._convict(case, trial, now, reason)

    def _convict(self, case: _Case, trial: _Trial, now: float, reason: str) -> None:
        case.stage = _Stage.NOTHING if trial.own else _Stage.SHORT
        case.strikes, case.taken = 0, False
        case.ends = self._convicted_until = now + _TERM
        self._count(case)
        self._learn(trial, now)
        made = "".join(f", {size_of(one)} bytes on {_shown(one.topic)}," for one in trial.answers[:1])
        _log.error(
            "%s: its answer%s ended the connection each time (%s); it is not sent any more",
            _shown(trial.topic),
            made,
            plain(reason)[:LOGGED],
        )

    def _learn(self, trial: _Trial, now: float) -> None:
        for answer in trial.answers:
            measure = _measure(answer)
            for key in _keys(answer, followed=trial.followed):
                kind = self._kinds.setdefault(key, _Kind(measure, now + _TERM))
                self._kinds.move_to_end(key)
                kind.least = min(kind.least[0], measure[0]), min(kind.least[1], measure[1])
                kind.convictions += 1
                kind.ends = now + _TERM
        while len(self._kinds) > _KINDS:
            self._kinds.popitem(last=False)

    def _leave_untried(self, cause: int, topic: str, now: float) -> Course:
        """Convict an input because enough similar ones were convicted."""
        case = self._open(cause, now)
        case.stage, case.like, case.taken = _Stage.SHORT, True, self._short_taken
        self._count(case)
        self._untried += 1
        if now >= self._next_line:
            self._next_line = now + _PAUSE
            _log.error(
                "%s: similar answers ended the connection each time; %d inputs so far were rejected without a trial",
                _shown(topic),
                self._untried,
            )
        return self.course(cause, now)

    def _count(self, case: _Case) -> None:
        if not case.counted:
            case.counted = True
            self._tally.poisoned += 1

    def _open(self, cause: int, now: float) -> _Case:
        case = self._cases.get(cause)
        if case is None:
            case = self._cases[cause] = _Case(now + _TERM)
            if len(self._cases) > _CASES:
                self._cases.popitem(last=False)
        return case

    def _forget(self, now: float) -> None:
        """Forget entries that were not used for a term after they were due for another trial."""
        for cause in [cause for cause, case in self._cases.items() if now >= case.ends + _TERM]:
            del self._cases[cause]
        for key in [key for key, kind in self._kinds.items() if now >= kind.ends + _TERM]:
            del self._kinds[key]


def _measure(answer: Answer) -> Measure:
    return size_of(answer), answer.topic.count("/") + 1


def _keys(answer: Answer, *, followed: bool) -> Iterator[tuple[str, str]]:
    """Return the kinds of an answer: by its topic, and by its sort."""
    yield "topic", answer.topic
    sort = "response" if followed else "rejection" if answer.payload.startswith(b'{"error":') else "prediction"
    yield "sort", sort


def _largest(one: Measure, other: Measure) -> Measure:
    return max(one[0], other[0]), max(one[1], other[1])


def _reaches(measure: Measure, least: Measure) -> bool:
    """Tell whether each measure of an answer is at least as large."""
    return measure[0] >= least[0] and measure[1] >= least[1]


def _stands_out(measure: Measure, least: Measure, taken: Measure) -> bool:
    """Tell whether a measure of an answer exceeds everything confirmed, as that of the convicted answers does."""
    return any(one > largest < convicted for one, convicted, largest in zip(measure, least, taken, strict=True))


def _is_far_beyond(least: Measure, taken: Measure) -> bool:
    """Tell whether something was confirmed, and a measure of the convicted answers is a multiple of it."""
    return any(0 < largest * _FAR <= convicted for convicted, largest in zip(least, taken, strict=True))


def _shown(topic: str) -> str:
    """Return a topic shortened for a log line."""
    return ascii(topic[:LOGGED])
