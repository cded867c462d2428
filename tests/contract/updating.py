"""An agent whose loop takes other plans as `edge-agent run` does, in a thread of the test's."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, Self

from edge_agent import assembly
from edge_agent.config.models import loading, store
from edge_agent.config.settings import Settings
from edge_agent.docs.served import Served
from edge_agent.model.library import Loaded
from edge_agent.serving.plan import ConnectionSettings, Plan
from edge_agent.serving.released import Wish
from edge_agent.serving.reloading import Noticing, Reloads
from tests.contract import witness
from tests.contract.agents import NODE, RunningAgent, impatient, settings
from tests.described import served as described
from tests.trusted import ANN, CHANNEL

MODEL = f"edge/{NODE}/model/genre"


class Clocks(NamedTuple):
    """The clocks of an update: how many of its seconds are one, and the time of day."""

    pace: float = 1.0
    today: Callable[[], float] = time.time

    def set(self, plan: Plan, now: Settings, models: Mapping[str, Loaded], wish: Wish | None) -> Plan:
        """Return the plan with these clocks."""
        if plan.updates is None:
            return plan
        updates = assembly.make_updates(now, models, wish, clock=lambda: self.pace * time.monotonic(), today=self.today)
        return plan._replace(updates=updates)


class Witnessed(assembly.Preparation):
    """What is served of it is known to who looks at each message."""

    def __init__(self, now: Settings, known: Any, wish: Wish | None, agent: UpdatingAgent) -> None:
        super().__init__(now, known, wish=wish)
        # The same as before, so that the connection stays.
        self.connection_settings = impatient(self.connection_settings)
        self._agent = agent

    def again(self, known: Collection[Loaded], wish: Wish | None) -> Self:
        return type(self)(self._settings, known, wish, self._agent)

    def plan(self, models: Mapping[str, Loaded]) -> Plan:
        self._agent.serves(described(models))
        return self._agent.clocks.set(super().plan(models), self._settings, models, self._wish)


#: Agents that run, each of which is told when a process has ended, as `edge_agent.host.process.Signals` would tell it.
_RUNNING: Final[set[UpdatingAgent]] = set()


def _tell(_number: int, _frame: FrameType | None) -> None:
    for agent in list(_RUNNING):
        agent.child_ended()


class UpdatingAgent(RunningAgent):
    """One whose loop takes other plans as `edge-agent run` does."""

    def __init__(self, port: int, directory: Path, *, clocks: Clocks = Clocks(), **sections: Any) -> None:  # noqa: B008 - immutable
        update = {"channel": CHANNEL, "trusted_keys": [ANN.public_key.text], **sections.pop("update", {})}
        sections = {"models": {"directory": str(directory)}, "update": update, **sections}
        self.clocks = clocks
        self._served: dict[str, Served] = {}
        super().__init__(port, **sections)
        self._settings = settings(port, dict(self.timeout), sections)

    def __enter__(self) -> Self:
        if not _RUNNING:
            signal.signal(signal.SIGCHLD, _tell)
        _RUNNING.add(self)
        return super().__enter__()

    def end(self) -> None:
        _RUNNING.discard(self)
        super().end()
        if not _RUNNING:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def child_ended(self) -> None:
        self._stop.child_ended_now()

    def serves(self, models: dict[str, Served] | None = None) -> None:
        """Note what it serves from now on, or (in another test) still."""
        self._served = models or self._served
        witness.current.served(self._settings, self._served)

    def _prepared(self, loaded: Settings) -> tuple[ConnectionSettings, Plan]:
        connection, plan = super()._prepared(loaded)
        models = loading(loaded).models()
        self._served = described(models)
        return connection, self.clocks.set(plan, loaded, models, None)

    def _run(self) -> None:
        now = self._settings

        def again(known: Any, wish: Wish | None) -> assembly.Preparation:
            return Witnessed(now, known, wish, self)

        models = loading(now).models()
        noticing = Noticing(store(now).stamp)
        with Reloads(self.agent, lambda known: Witnessed(now, known, None, self), models, again, noticing) as reloads:
            while self.agent.run(self._stop, reloads.asks):
                reloads.see_to(self._stop)
