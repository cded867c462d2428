"""Start and reload: models are tested in a separate process, on a reload while the agent keeps serving with the old ones.

Rules:

* Everything is loaded and checked before anything is replaced. An invalid configuration or model changes nothing.
* Only one reload runs at a time. Requests that arrive meanwhile cause one more, which begins afterwards.
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

#: Seconds after which to check again whether the tests are done, in case the signal is lost.
_LOOK_AGAIN: Final = 1.0


def load_models(loading: Loading, signals: Signals) -> dict[str, Loaded] | None:
    """Load the models; return None when told to stop before they are loaded. Raises `ModelError`."""
    try:
        while not loading.ended:
            if signals.received:
                return None
            signals.wait(_LOOK_AGAIN)
        return loading.models()
    finally:
        loading.close()


class NextPlan(Protocol):
    """New settings and models while the models are being tested (implemented by `edge_agent.assembly.Preparation`)."""

    @property
    def connection_settings(self) -> ConnectionSettings:
        """The new connection settings."""

    @property
    def loading(self) -> Loading:
        """The models."""

    @property
    def log_level(self) -> str:
        """The new log level."""

    def plan(self, models: Mapping[str, Loaded]) -> Plan:
        """Return the plan for the loaded models. Raises `SettingsError`."""


class Reloads:
    """Reloads an agent that serves `models`. Use it as a context manager while the agent runs.

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
        """Whether the models of a reload are being tested."""
        return self._next is not None

    def see_to(self, signals: Signals) -> bool:
        """Start a requested reload, or finish one whose models are tested; return whether something new was
        applied.
        """
        self._wanted = signals.take_reload() or self._wanted
        taken = self._try(self._end)
        if self._wanted and self._next is None:
            self._wanted = False
            self._agent.notifier.reloading()
            # Without a model to test it ends at once.
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
            _log.error("reload rejected, going on with the old settings and models: %s", error)
            self._agent.stay(f"reload rejected: {error}")
        except Exception as error:  # noqa: BLE001 - a bug of ours must not end the serving agent
            _log.exception("reload failed, going on with the old settings and models")
            self._agent.stay(f"reload failed: {type(error).__name__}: {error}")
        return False
