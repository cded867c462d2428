"""Which inputs end the connection, each time: found, answered briefly or not at all, and so got out of the way.

The broker sends again what was not acknowledged, so an input whose answer it does not survive, or does not want to, would
come again on every connection, and nothing behind it would ever be answered. Rules:

* What was under way at two ends of a connection in a row is suspected. A suspect is sent alone: with everything before it
  known to be taken, and nothing behind it. When the broker takes it, it is forgotten.
* Only an end at which a suspect was alone counts against it, and it takes several in a row; an end without it takes back
  what counted. So a broker that is restarted, or a line that breaks, however often, looks like it to nobody.
* What is convicted is answered by a short rejection, which is tried in the same way; when that is not taken either, the
  input is acknowledged without an answer.
* Convictions teach: what goes to a topic, or is as large or has as many levels as nothing that was taken, is suspected
  from the start, and after some convictions it is not even tried. After `_TERM` all of it is tried again, for the broker's
  rules may have changed.
* Everything here is bounded, and in memory only.

Pure: an input is known by a hash (`cause_of`), for its packet id may change; times are handed in.
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
from edge_agent.wording import plain

_log = logging.getLogger(__name__)

#: Ends of a connection at which a suspect was alone, in a row, that convict it: of its answer, or of the short rejection.
_STRIKES: Final = 3
_STRIKES_WHEN_SHORT: Final = 2
#: The same while there are convictions, and for what is like the convicted ones.
_STRIKES_AFTER_OTHERS: Final = 2
_STRIKES_OF_THE_LIKE: Final = 1
#: Convictions after which their like is not tried any more.
_ENOUGH: Final = 3
#: How many times as much as all that was taken is so much more that it can't be by chance.
_FAR: Final = 2
#: Seconds after which what was learned is tried again.
_TERM: Final = 3600.0
#: Inputs and kinds that are remembered; those that were looked at least recently are forgotten first.
_CASES: Final = 10_000
_KINDS: Final = 1_000
#: Seconds between two lines about inputs that were not tried.
_PAUSE: Final = 60.0
#: Bytes of each end of a payload that tell an input from another of the same size on its topic: to look at all of a batch
#: takes as long as answering several of its rows.
_LOOKED_AT: Final = 512
#: Longest topic and reason, in characters, that a line shows.
_SHOWN: Final = 200

#: What can be measured of an answer: bytes of its packet, levels of its topic.
Measure: TypeAlias = tuple[int, int]
_NOTHING: Final[Measure] = (0, 0)


def cause_of(message: Message) -> int:
    """Return what an input is known by; of a long payload its size, and how it begins and ends. At QoS 0 no input comes
    again, so there it is where it comes from.
    """
    topic, payload, qos, content_type, _, response_topic, _, _ = message
    if not qos:
        return hash((topic, content_type, response_topic))
    if (size := len(payload)) > 2 * _LOOKED_AT:
        payload = b"%d%b%b" % (size, payload[:_LOOKED_AT], payload[-_LOOKED_AT:])
    return hash((topic, payload, content_type, response_topic))


def cause_of_own(topic: str) -> int:
    """Return what a message on `topic` that answers no input is known by."""
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
        """Whether it has to be sent alone."""
        return self in {Course.ALONE, Course.SHORT_ALONE}

    @property
    def short(self) -> bool:
        """Whether it is answered by the short rejection."""
        return self in {Course.SHORT, Course.SHORT_ALONE}


class _Stage(Enum):
    """What of an input is on trial."""

    ANSWER = auto()
    SHORT = auto()
    NOTHING = auto()


class _Case:
    """One input that is suspected or convicted."""

    __slots__ = ("counted", "ends", "like", "stage", "strikes", "taken")

    def __init__(self, ends: float) -> None:
        self.stage = _Stage.ANSWER
        self.strikes = 0
        self.like = False  # others like it are convicted
        self.taken = False  # the short rejection was
        self.counted = False
        self.ends = ends


class _Kind:
    """What convicted answers have in common: the least that they measured."""

    __slots__ = ("convictions", "ends", "least")

    def __init__(self, least: Measure, ends: float) -> None:
        self.least = least
        self.convictions = 0
        self.ends = ends


class _Trial:
    """A suspect that is under way, alone."""

    __slots__ = ("answers", "cause", "followed", "own", "topic")

    def __init__(self, cause: int, topic: str, *, own: bool) -> None:
        self.cause = cause
        self.topic = topic
        self.own = own
        self.answers: Sequence[Answer] = ()
        self.followed = False


class Poison:
    """What is known of inputs, over all connections of an agent."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        #: What was under way when the last connection ended.
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
        """Whether there is anything to look out for."""
        return bool(self._cases or self._kinds or self._trial)

    @property
    def trying(self) -> bool:
        """Whether a suspect is under way."""
        return self._trial is not None

    def strikes(self, cause: int) -> int:
        """Return how many ends of a connection count against it; likeness to what is convicted is as good as one."""
        return 0 if (case := self._cases.get(cause)) is None else max(case.strikes, int(case.like))

    def course(self, cause: int, now: float) -> Course:
        """Return what to do with an input, as far as it is known."""
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
        """Return what to do with an input that came on `topic`, by what its answers are like. `followed` says whether
        they go to a Response Topic.
        """
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
                    # One of them is tried again; convicted once more, they all are for another term.
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
        """Note that an input that came on `topic` is tried, alone; `own` when it is none, but a message that answers no
        input.
        """
        self._trial = _Trial(cause, topic, own=own)

    def made(self, answers: Sequence[Answer], *, followed: bool = False) -> None:
        """Note the answers of what is tried, once they are known; `followed` as for `judge`."""
        if self._trial is not None:
            self._trial.answers, self._trial.followed = answers, followed

    def passed(self) -> None:
        """Note that the broker has taken all that was sent."""
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
        """Note that the connection has ended for a reason that has nothing to do with what was under way."""
        self._trial, self._sent = None, _NOTHING

    def ended(self, under_way: AbstractSet[int], now: float, reason: str) -> bool:
        """Note that the connection has ended with `under_way` sent and not known to be taken. Return whether that
        counts against one of them.
        """
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
        """Tell whether a short rejection would not be taken either, by what happened to others on its topic."""
        return any(
            (kind := self._kinds.get(("topic", answer.topic))) is not None
            and kind.convictions >= _ENOUGH
            and now < kind.ends
            and _reaches(_measure(answer), kind.least)
            for answer in answers
        )

    def give_up(self, cause: int) -> None:
        """Note that an input is not answered at all."""
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
                _log.error("%s: a short rejection ended the connection too: not answered", _shown(trial.topic))
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
            plain(reason)[:_SHOWN],
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
        """Convict an input whose like were convicted often enough."""
        case = self._open(cause, now)
        case.stage, case.like, case.taken = _Stage.SHORT, True, self._short_taken
        self._count(case)
        self._untried += 1
        if now >= self._next_line:
            self._next_line = now + _PAUSE
            _log.error(
                "%s: answers like its own ended the connection each time; so far %d inputs were not tried",
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
        """Forget what nobody has asked about for a term after it was to be tried again."""
        for cause in [cause for cause, case in self._cases.items() if now >= case.ends + _TERM]:
            del self._cases[cause]
        for key in [key for key, kind in self._kinds.items() if now >= kind.ends + _TERM]:
            del self._kinds[key]


def _measure(answer: Answer) -> Measure:
    return size_of(answer), answer.topic.count("/") + 1


def _keys(answer: Answer, *, followed: bool) -> Iterator[tuple[str, str]]:
    """Return the kinds that an answer is of: its topic, and what sort of answer it is."""
    yield "topic", answer.topic
    sort = "response" if followed else "rejection" if answer.payload.startswith(b'{"error":') else "prediction"
    yield "sort", sort


def _largest(one: Measure, other: Measure) -> Measure:
    return max(one[0], other[0]), max(one[1], other[1])


def _reaches(measure: Measure, least: Measure) -> bool:
    """Tell whether an answer measures at least as much, in every way."""
    return measure[0] >= least[0] and measure[1] >= least[1]


def _stands_out(measure: Measure, least: Measure, taken: Measure) -> bool:
    """Tell whether an answer measures more than all that the broker took, in a way in which the convicted ones did too."""
    return any(one > largest < convicted for one, convicted, largest in zip(measure, least, taken, strict=True))


def _is_far_beyond(least: Measure, taken: Measure) -> bool:
    """Tell whether something was taken, and what was convicted measures a multiple of that, in one way at least."""
    return any(0 < largest * _FAR <= convicted for convicted, largest in zip(least, taken, strict=True))


def _shown(topic: str) -> str:
    """Return a topic fit for a line of the log."""
    return ascii(topic[:_SHOWN])
