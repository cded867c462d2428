"""Two versions of one model: which of them answers a sensor, while the other one is compared with it (`edge_agent.serving.beside`).

Shadow, canary and soak are the same thing with another share of sensors that the candidate answers: none, some, all. Rules:

* an answer is made by one engine or the other, as if there were no other. Which one is looked up once for each topic;
* a sensor is its topic, one whose values are gathered the topic of its answers. Its place from 0 to 1 is a hash of that: the same on
  each node and after each start, and whoever is within a small share is within a larger one. So no sensor goes back and forth while
  the share grows.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from edge_agent.contract.messages import Message
from edge_agent.contract.progress import Compared
from edge_agent.payload.features import Features, Unusable
from edge_agent.routing.routes import Route
from edge_agent.serving.beside import Allowance, Beside, accepted
from edge_agent.serving.engine import Engine, Model
from edge_agent.serving.evidence import ContestLimits, Figures

#: An engine, or what stands for one.
_AnyEngine = TypeVar("_AnyEngine")


def place_of(sensor: str) -> float:
    """Return where a sensor stands, from 0 to 1: evenly spread, and the same at all times."""
    return int.from_bytes(hashlib.sha256(sensor.encode(errors="replace")).digest()[:8], "big") / 2**64


class Contesting:
    """A candidate for the place of a model: `model`, the share of sensors that it answers (0: it is only compared; 1: the model before
    is), and when it is worse. The figures last as long as this does, whatever becomes of plans meanwhile.

    `clock` gives the processor time of this thread in seconds: no model is slower because others keep the machine busy.
    """

    def __init__(
        self,
        model: Model,
        share: float,
        limits: ContestLimits = ContestLimits(),  # noqa: B008 - it never changes
        *,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self.model = model
        self.share = share
        self.limits = limits
        self.clock = clock
        self.figures = Figures()

    def trouble(self, *, last: bool = False) -> str | None:
        """Return why to go back to the model before, in one sentence with the figures, or None. `last` is for the end of a phase: there
        is no more evidence to wait for.
        """
        return self.figures.trouble(self.limits, last=last)

    def describe(self) -> Compared:
        """Return the figures for messages."""
        return self.figures.describe()


def standing(models: Mapping[str, Model], contests: Mapping[str, Contesting]) -> dict[str, Model]:
    """Return the models that answer most, by the names that routes use: the candidate once it answers all sensors."""
    taken = {name: one.model for name, one in contests.items() if one.share >= 1 and name in models}
    return {**models, **taken}


class Contest:
    """The contest of one engine: `before` and `candidate` read and answer the same routes."""

    def __init__(self, before: Engine, candidate: Engine, contesting: Contesting, *, rejects: bool) -> None:
        self.engines = before, candidate
        self._share = contesting.share
        #: The one that answers most.
        self.standing = candidate if self._share >= 1 else before
        #: Whether both take the rows of one gathering. Otherwise its sensors change over with all others, at the end.
        self._gathers = accepted(before.card, rejects=False) == accepted(candidate.card, rejects=False)
        self.beside = Beside(
            before,
            candidate,
            contesting.figures,
            gathers=self.standing,
            rejects=rejects,
            within=contesting.limits.within,
            clock=contesting.clock,
        )

    def engine_for(self, sensor: str) -> Engine:
        """Return the engine that answers a sensor."""
        if not 0 < self._share < 1:
            return self.standing
        before, candidate = self.engines
        return candidate if place_of(sensor) < self._share else before

    def gathered(
        self, sensor: str, content: Features | Unusable, *, is_judged: bool
    ) -> tuple[Engine, Features | Unusable]:
        """Return the engine that answers a gathered sensor, and what it is asked; `is_judged` says that the gathering has told what is
        outside of what its model was trained on.
        """
        if isinstance(content, Unusable):
            return self.engine_for(sensor) if self._gathers else self.standing, content
        self.beside.note_row(sensor, content)
        engine = self.engine_for(sensor) if self._gathers else self.standing
        if engine is not self.standing:
            return engine, engine.judge(content._replace(outside=()))
        return engine, content if is_judged else engine.judge(content)


class Contests:
    """The contests of a pipeline, by the names of their models. An engine without one is left as it is."""

    def __init__(self, wanted: Mapping[str, Contesting]) -> None:
        self._wanted = wanted
        self._of: dict[object, Contest] = {}
        self._queue: deque[Beside] = deque()
        self._allowance = Allowance()
        self._waits = False  # whether any of them may have something to ask

    def begin(self, route: Route, before: Engine, made: Callable[[Route, Model], Engine]) -> Engine:
        """Begin the contest of a route's engine, if there is one; return the engine that answers most. `made` makes another one."""
        contesting = self._wanted.get(route.model)
        if contesting is None:
            return before
        contest = Contest(before, made(route, contesting.model), contesting, rejects=route.outside == "reject")
        self._of.update(dict.fromkeys(contest.engines, contest))
        self._queue.append(contest.beside)
        return contest.standing

    def engines_with(self, engine: _AnyEngine) -> Sequence[_AnyEngine | Engine]:
        """Return the engines of a contest, or the only one."""
        contest = self._of.get(engine)
        return (engine,) if contest is None else contest.engines

    def engine_for(self, engine: _AnyEngine, topic: str) -> _AnyEngine | Engine:
        """Return the engine that answers the messages of a topic."""
        contest = self._of.get(engine)
        return engine if contest is None else contest.engine_for(topic)

    def gathered(
        self, engine: Engine, sensor: str, content: Features | Unusable, *, is_judged: bool
    ) -> tuple[Engine, Features | Unusable]:
        """Return what answers a gathered sensor, and what it is asked (`Contest.gathered`)."""
        contest = self._of.get(engine)
        if contest is not None:
            self._waits = True
            return contest.gathered(sensor, content, is_judged=is_judged)
        return engine, content if is_judged or isinstance(content, Unusable) else engine.judge(content)

    def note(self, engine: object, questions: Sequence[tuple[int, Message, object]]) -> None:
        """Note messages that an engine has answered."""
        contest = self._of.get(engine)
        if contest is not None:
            self._waits = True
            contest.beside.note(questions)

    def wait(self, now: float) -> float:
        """Return the seconds until something is to be asked, infinity where there is nothing; `now` is of a clock that never goes back."""
        return self._allowance.wait(now) if self._waits else math.inf

    def catch_up(self, clock: Callable[[], float]) -> None:
        """Ask what is waiting, for a short time, if it is time; each contest comes first in its turn. `clock` is what those who wait
        for answers go by, in seconds.
        """
        if not self._waits or self.wait(clock()) > 0:
            return
        for beside in self._queue:
            beside.catch_up(self._allowance, clock)
        self._waits = any(beside.waits for beside in self._queue)
        self._queue.rotate()
