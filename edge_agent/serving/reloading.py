"""Start and reload: models are tried in a process apart, at a reload beside the agent, which goes on as it was meanwhile.

Rules:

* Everything is loaded and checked before the old is let go of. What can't be used changes nothing.
* One reload at a time. Those that are asked for meanwhile are one, which begins when this one has ended.
* A signal to stop is obeyed at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Final, Protocol, Self

from edge_agent.errors import EdgeAgentError
from edge_agent.host import logs
from edge_agent.host.process import Signals
from edge_agent.model.library import Loaded, Loading
from edge_agent.serving.agent import Agent
from edge_agent.serving.plan import ConnectionSettings, Plan

_log = logging.getLogger(__name__)

#: Seconds after which to look again whether the models are tried, should the signal that tells it not come.
_LOOK_AGAIN: Final = 1.0


def load_models(loading: Loading, signals: Signals) -> dict[str, Loaded] | None:
    """Load the models; None when told to stop meanwhile. Raises `ModelError`."""
    try:
        while not loading.ended:
            if signals.received:
                return None
            signals.wait(_LOOK_AGAIN)
        return loading.models()
    finally:
        loading.close()


class NextPlan(Protocol):
    """What the agent is to go on with, while its models are tried (`edge_agent.assembly.Preparation` is one)."""

    @property
    def connection_settings(self) -> ConnectionSettings:
        """How to connect."""

    @property
    def loading(self) -> Loading:
        """The models."""

    @property
    def log_level(self) -> str:
        """What the log is to say from then on."""

    def plan(self, models: Mapping[str, Loaded]) -> Plan:
        """Return what to do with the models, once they are loaded. Raises `SettingsError`."""


class Reloads:
    """The reloads of an agent that serves `models`, which change with each. Enter it while it runs.

    `prepare` reads the settings as they are now, and begins to load their models but for those that are open already.
    """

    def __init__(
        self, agent: Agent, prepare: Callable[[Collection[Loaded]], NextPlan], models: Mapping[str, Loaded]
    ) -> None:
        self._agent = agent
        self._prepare = prepare
        self.models = models
        self._next: NextPlan | None = None
        self._wanted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._next is not None:
            self._next.loading.close()

    @property
    def busy(self) -> bool:
        """Whether the models of a reload are being tried."""
        return self._next is not None

    def see_to(self, signals: Signals) -> bool:
        """Begin the reload that was asked for, or end the one whose models are tried; return whether something new was
        taken over.
        """
        self._wanted = signals.take_reload() or self._wanted
        taken = self._try(self._end)
        if self._wanted and self._next is None:
            self._wanted = False
            self._agent.notifier.reloading()
            # With no model to try it ends at once.
            taken = (self._try(self._begin) or self._try(self._end)) or taken
        return taken

    def _begin(self) -> bool:
        self._next = self._prepare(self.models.values())
        return False

    def _end(self) -> bool:
        if self._next is None or not self._next.loading.ended:
            return False
        following, self._next = self._next, None
        models = following.loading.models()
        plan = following.plan(models)
        logs.set_up(following.log_level)
        self._agent.take_over(following.connection_settings, plan)
        self.models = models
        _log.info("reloaded")
        return True

    def _try(self, step: Callable[[], bool]) -> bool:
        try:
            return step()
        except EdgeAgentError as error:
            _log.error("reload refused, everything stays as it was: %s", error)
            self._agent.stay(f"reload refused: {error}")
        except Exception as error:  # noqa: BLE001 - a fault of ours: the agent that serves is not to end by it
            _log.exception("reload failed, everything stays as it was")
            self._agent.stay(f"reload failed: {type(error).__name__}: {error}")
        return False
