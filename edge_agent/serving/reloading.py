"""Start and reload: models are tested in a separate process, on a reload while the agent keeps serving with the old ones.

Rules:

* Everything is loaded and checked before anything is replaced. An invalid configuration or model changes nothing.
* Only one reload runs at a time. Requests that arrive meanwhile cause one more, which begins afterwards; so do those that arrive while an
  update changes the store, where there may be half a release until it is done.
* There is one way to another plan. It is asked for by SIGHUP, which reads the settings anew; by a store of models that was changed, most
  likely by a command; and by an update (`edge_agent.serving.updating`). The last two keep the settings.
* A signal to stop is obeyed at any time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from edge_agent.errors import EdgeAgentError
from edge_agent.host import logs
from edge_agent.host.process import Signals
from edge_agent.model.library import Loaded, Loading
from edge_agent.serving.agent import Agent
from edge_agent.serving.plan import ConnectionSettings, Plan

if TYPE_CHECKING:
    from edge_agent.serving.released import Wish  # loaded by an agent that models reach over MQTT

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

    def again(self, known: Collection[Loaded], wish: Wish | None) -> NextPlan:
        """Begin to load the models of the same settings, as they are now on the disk, for a plan with what is wished for."""


class Noticing:
    """Notices that a store of models was changed: within a second, by one look at its directory."""

    def __init__(self, stamp: Callable[[], object] = lambda: None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stamp, self._clock = stamp, clock
        self._seen = stamp()
        self._next = 0.0

    def __call__(self) -> bool:
        """Tell, once, whether it was changed."""
        if (now := self._clock()) < self._next:
            return False
        self._next = now + _LOOK_AGAIN
        before, self._seen = self._seen, self._stamp()
        return before != self._seen


class Reloads:
    """Reloads an agent that serves `models`. Use it as a context manager while the agent runs.

    `prepare` reads the settings as they are now, and begins to load their models but for those that are open already. `again` is that of
    the plan in use, and `noticing` tells that there may be other models on the disk.
    """

    def __init__(
        self,
        agent: Agent,
        prepare: Callable[[Collection[Loaded]], NextPlan],
        models: Mapping[str, Loaded],
        again: Callable[[Collection[Loaded], Wish | None], NextPlan] | None = None,
        noticing: Callable[[], bool] = bool,
    ) -> None:
        self._agent = agent
        self._prepare = prepare
        self._again = again
        self._noticing = noticing
        self.models = models
        self._next: NextPlan | None = None
        #: Whether the next plan has the same settings, and what is wished for in it.
        self._is_same = False
        self._wish: Wish | None = None
        self._wanted = self._changed = False

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
        if self._wanted and self._next is None and not self._held:
            self._wanted = False
            self._agent.notifier.reloading()
            # Without a model to test it ends at once.
            taken = (self._try(self._begin) or self._try(self._end)) or taken
        if self.asks() and self._next is None and self._again is not None:
            self._changed = False
            taken = (self._try(self._begin_again) or self._try(self._end)) or taken
        return taken

    def asks(self) -> bool:
        """Tell whether an update, or the store, asks for another plan."""
        if self._next is not None:
            return False
        wished = self._agent.updates is not None and self._agent.updates.wish is not None
        if self._held:
            return wished
        self._changed = self._noticing() or self._changed
        return self._wanted or self._changed or wished

    @property
    def _held(self) -> bool:
        """Whether an update is changing the store: what is there just now may be half a release."""
        return self._agent.updates is not None and self._agent.updates.holds

    def _begin(self) -> bool:
        self._is_same, self._wish = False, None
        self._next = self._prepare(self.models.values())
        return False

    def _begin_again(self) -> bool:
        assert self._again is not None  # noqa: S101 - for the type checker: the caller has looked
        self._is_same, self._wish = True, None
        if self._agent.updates is not None:
            self._wish = self._agent.updates.take_wish()
        self._next = self._again(self.models.values(), self._wish)
        return False

    def _end(self) -> bool:
        if self._next is None or not self._next.loading.ended:
            return False
        following, self._next = self._next, None
        models = following.loading.models()
        if self._is_same and self._wish is None and models == self.models:
            return False  # what was changed in the store concerns none of them
        plan = following.plan(models)
        logs.set_up(following.log_level)
        self._agent.take_over(following.connection_settings, plan)
        self.models = models
        self._again = following.again
        _log.info("the models on the disk are in use" if self._is_same else "reloaded")
        return True

    def _try(self, step: Callable[[], bool]) -> bool:
        try:
            return step()
        except EdgeAgentError as error:
            _log.error("reload rejected, going on with the old settings and models: %s", error)
            self._stay(f"reload rejected: {error}", str(error))
        except Exception as error:  # noqa: BLE001 - a bug of ours must not end the serving agent
            _log.exception("reload failed, going on with the old settings and models")
            self._stay(f"reload failed: {type(error).__name__}: {error}", f"{type(error).__name__}: {error}")
        return False

    def _stay(self, said: str, why: str) -> None:
        self._agent.stay(said)
        if self._wish is not None and self._agent.updates is not None:
            self._agent.updates.plan_refused(why)
