"""An agent whose loop takes other plans as `edge-agent run` does, in a thread of the test's."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

from edge_agent import assembly
from edge_agent.config.models import loading, store
from edge_agent.model.library import Loaded
from edge_agent.serving.plan import Plan
from edge_agent.serving.reloading import Noticing, Reloads
from tests.contract import witness
from tests.contract.agents import NODE, RunningAgent, settings
from tests.described import served as described
from tests.trusted import ANN, CHANNEL

MODEL = f"edge/{NODE}/model/genre"


class Witnessed(assembly.Preparation):
    """What is served of it is known to who looks at each message."""

    def plan(self, models: Mapping[str, Loaded]) -> Plan:
        witness.current.served(self._settings, described(models))
        return super().plan(models)


#: Agents that run, each of which is told when a process has ended, as `edge_agent.host.process.Signals` would tell it.
_RUNNING: Final[set[UpdatingAgent]] = set()


def _tell(_number: int, _frame: FrameType | None) -> None:
    for agent in list(_RUNNING):
        agent.child_ended()


class UpdatingAgent(RunningAgent):
    """One whose loop takes other plans as `edge-agent run` does."""

    def __init__(self, port: int, directory: Path, **sections: Any) -> None:
        update = {"channel": CHANNEL, "trusted_keys": [ANN.public_key.text], **sections.pop("update", {})}
        sections = {"models": {"directory": str(directory)}, "update": update, **sections}
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

    def _run(self) -> None:
        now = self._settings

        def again(known: Any, wish: Any) -> assembly.Preparation:
            return Witnessed(now, known, wish=wish)

        models = loading(now).models()
        noticing = Noticing(store(now).stamp)
        with Reloads(self.agent, lambda known: Witnessed(now, known), models, again, noticing) as reloads:
            while self.agent.run(self._stop, reloads.asks):
                reloads.see_to(self._stop)
