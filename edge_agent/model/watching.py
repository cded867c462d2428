"""Models on trial: how a release is put in place and taken back, and what happens when the agent itself ends meanwhile. No figure tells of
a model that takes the whole process with it.

Rules:

* a release is noted as on trial before any of it is put in place. Where the agent ends in the middle of that, or of taking it back, the next start
  finds some of its files in use and others not, and takes all of them back: what is served was released as a whole;
* a run of the agent counts from its start, and is taken back when it ends as it should (SIGTERM, wrong settings): what remains are crashes,
  the out-of-memory killer, the watchdog and power failures;
* after `MOST` of them the models on trial go back at the next start, and are remembered like others that were rolled back;
* nothing is written while nothing is on trial. A disk that can't be written to does not keep the agent from serving.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.model.state import Refused, State, Watched
from edge_agent.model.store import Store

_log = logging.getLogger(__name__)

#: Ends of the agent after which a model on trial goes back. One or two may be power failures.
MOST: Final = 3


class Watching:
    """A run of the agent that serves from `store`: enter it before the models are loaded. `follows`: whether models come over MQTT, without which
    no trial begins again that has not come to serve.
    """

    def __init__(self, store: Store, *, follows: bool) -> None:
        self._store, self._follows = store, follows

    def __enter__(self) -> Self:
        try:
            state = self._store.read()
            if state.watched is not None:
                self._begin(state, state.watched)
        except EdgeAgentError as error:
            _log.error("that a model is on trial can't be noted: %s", error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ends_well = kind is None or issubclass(kind, EdgeAgentError | SystemExit | KeyboardInterrupt)
        if not ends_well or isinstance(error, ModelError):
            return
        try:
            if self._store.read().watched is not None:
                self._store.change(lambda state: _counted(state, -1))
        except EdgeAgentError as trouble:
            _log.error("that the agent ended as it should can't be noted: %s", trouble)

    def _begin(self, state: State, watched: Watched) -> None:
        in_use = [name for name, sha256 in watched.files.items() if _is_current(self._store, name, sha256)]
        noted = (state.refused.get(sha256) for sha256 in watched.files.values())
        refused = next((one for one in noted if one is not None and one.serial >= watched.serial), None)
        if refused is not None or 0 < len(in_use) < len(watched.files):
            if in_use:
                what = "the agent ended while a release of %s was put in place or taken back: what was served before it is served again"
                _log.error(what, ", ".join(watched.files))
            take_back(self._store, watched.files, refused)
            in_use = []
        if refused is not None:
            return
        if not self._follows and not in_use:  # what is in use is watched to its end all the same
            self._store.change(lambda state: state.unwatch(watched.files))
        elif watched.ends < MOST:
            self._store.change(lambda state: _counted(state, 1))
        else:
            self._give_up(watched)

    def _give_up(self, watched: Watched) -> None:
        why = f"the agent ended {watched.ends} times while it was watched"
        take_back(self._store, watched.files, Refused(serial=watched.serial, reason=why, rolled_back=True))
        for name, sha256 in watched.files.items():
            _log.error("model %s %s…: %s; the one before is served again", name, sha256[:8], why)


def place(store: Store, files: Mapping[str, str]) -> None:
    """Put files of a release, by the names of their models, into use. When it fails, or is killed, `take_back` has to follow."""
    for name, sha256 in files.items():
        store.use(name, sha256)


def take_back(store: Store, files: Mapping[str, str], why: Refused | None) -> None:
    """Put what was in use before the files of a release into use again, and end its trial for a reason; without one it may be tried again."""
    if why is not None:  # first, so that whatever comes in between it is not put in place again
        store.change(lambda state: state.refuse(files.values(), why))
    for name, sha256 in files.items():
        go_back(store, name, sha256)
    if why is not None:
        store.change(lambda state: state.unwatch(files))


def go_back(store: Store, name: str, sha256: str) -> bool:
    """Make what was served before a file current again, if that file is current; return whether it was. Raises `FileError` and `StoreError`."""
    if not _is_current(store, name, sha256):
        return False
    if store.before(name) is not None:
        store.rollback(name)
    else:  # what was served before is not in the store: the bundled one, or a file by hand
        store.remove(name)
    return True


def _is_current(store: Store, name: str, sha256: str) -> bool:
    current = store.current(name)
    return current is not None and current.sha256 == sha256


def _counted(state: State, runs: int) -> State:
    watched = state.watched
    if watched is None:
        return state
    return state.model_copy(update={"watched": watched.model_copy(update={"ends": max(0, watched.ends + runs)})})
