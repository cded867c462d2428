"""The only way to load a model file: find it, open and test it in a separate process, then open it here.

`run`, a reload, `try`, `demo` and `check` all load models through this module. `locate` finds the file for a name; how it is opened is
in `edge_agent.model.opening`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.errors import FileError, ModelError
from edge_agent.host import files
from edge_agent.host.apart import Limits
from edge_agent.model.onnx import Predictor, runtime_version
from edge_agent.model.opening import BUNDLED, Loaded, Trial, limits, open_file
from edge_agent.model.shelf import CURRENT, is_name
from edge_agent.model.store import Store
from edge_agent.model.trust import Signers

__all__ = [
    "Library",
    "Limits",
    "Loaded",
    "Loading",
    "Predictor",
    "Trial",
    "limits",
    "load",
    "locate",
    "open_file",
    "passed_over",
    "places",
    "runtime_version",
]

_log = logging.getLogger(__name__)

_SUFFIX: Final = ".onnx"
#: Longest model name that an error message shows, in characters.
_LONGEST_SHOWN: Final = 80


def places(model: str, *directories: Path) -> list[Path]:
    """Return the possible files of a model: `model` itself if it ends in `.onnx`, otherwise one in each directory."""
    if model.endswith(_SUFFIX):
        return [Path(model)]
    return [directory / f"{model}{_SUFFIX}" for directory in directories]


def locate(model: str, *directories: Path) -> Path:
    """Return the file of a model: a path that ends in `.onnx`, or a name. A name is looked for in each of the `directories`, in its
    store (`edge_agent.model.store`) and as a file put there by hand, then bundled.

    A directory that we may not read (a service's, say, for another user) is skipped in favour of a bundled model, with a
    warning in the log; so is a file by hand beside a version of the store. Raises `ModelError` when there is no such file, or it is
    not a regular file.
    """
    candidates = places(model, *directories, BUNDLED)
    said = "" if model.endswith(_SUFFIX) else f"model {_shown(model)}: "
    closed: FileError | None = None
    for candidate, look in _looks(model, directories, candidates):
        try:
            found = look()
            if found is None:
                continue
        except FileError as error:
            if not isinstance(error.__cause__, PermissionError):
                raise ModelError(f"{said}{error}") from error
            closed = error
        else:
            if closed is not None:
                _log.warning("model %s: using the bundled one; %s", model, closed)
            if found != candidate and _is_there(candidate):
                _log.warning("model %s: using %s, not %s; remove one of them", model, found, candidate)
            return found
    if closed is not None:
        raise ModelError(f"{said}{closed}")
    looked = ", ".join(str(candidate) for candidate in candidates)
    raise ModelError(
        f"model {_shown(model)}: no such file ({looked}); create it with edge-convert, or correct the name"
    )


def passed_over(model: str, *directories: Path) -> Path | None:
    """Return the file put there by hand that `locate` passes over in favour of the store's."""
    for directory in directories:
        if not model.endswith(_SUFFIX) and Store(directory).locate(model) is not None:
            by_hand = directory / f"{model}{_SUFFIX}"
            return by_hand if _is_there(by_hand) else None
    return None


def _looks(
    model: str, directories: Iterable[Path], candidates: Iterable[Path]
) -> Iterator[tuple[Path, Callable[[], Path | None]]]:
    """Yield each place, with what returns the file that is there."""
    stores = [] if model.endswith(_SUFFIX) else [Store(directory) for directory in directories]
    for candidate, store in zip_longest(candidates, stores):
        if store is not None:
            yield candidate, partial(store.locate, model)
        yield candidate, partial(_file_at, candidate)


def _file_at(path: Path) -> Path | None:
    return path if files.exists(path) else None


def _is_there(path: Path) -> bool:
    try:
        return files.exists(path)
    except FileError:
        return True


def _shown(model: str) -> str:
    return ascii(model) if len(model) <= _LONGEST_SHOWN else f"{model[:_LONGEST_SHOWN]!a}..."


class Library(NamedTuple):
    """All models by name: those in `directories`, where the first match wins, then the bundled ones. `signers` have to have signed all but the
    bundled ones; None where no signature is required.
    """

    directories: tuple[Path, ...] = ()
    signers: Signers | None = None

    def places(self, model: str) -> list[Path]:
        """Return the possible files of a model, except a bundled one."""
        in_stores = [directory / model / CURRENT for directory in self.directories if is_name(model)]
        return [*([] if model.endswith(_SUFFIX) else in_stores), *places(model, *self.directories)]

    def locate(self, model: str) -> Path:
        """Return the file of a model; see the function `locate`."""
        return locate(model, *self.directories)

    def passed_over(self, model: str) -> Path | None:
        """Return the file put there by hand that is passed over in favour of the store's; None when there is none."""
        return passed_over(model, *self.directories)

    def elsewhere(self, model: str) -> Path | None:
        """Return the file of a model that is served when the store has none; None when there is none."""
        return next((path for path in places(model, *self.directories, BUNDLED) if _is_there(path)), None)

    def origin(self, path: Path) -> str:
        """Return in words where a file that `locate` returned comes from."""
        if path.parent == BUNDLED:
            return "bundled"
        if path.parent.parent in self.directories:
            return "from the store"
        return "put there by hand" if path.parent in self.directories else "named by its path"

    def load(self, model: str, allowed: Callable[[int], Limits] = limits) -> Predictor:
        """Open one model. Raises `ModelError`."""
        return self.open(model, allowed).predictor

    def open(self, model: str, allowed: Callable[[int], Limits] = limits) -> Loaded:
        """Open one model. Raises `ModelError`."""
        return _load(self.locate(model), allowed, self.signers)

    def loading(
        self, models: Iterable[str], known: Collection[Loaded] = (), allowed: Callable[[int], Limits] = limits
    ) -> Loading:
        """Start to open several models. Raises `ModelError` when one can't be found."""
        return Loading({model: self.locate(model) for model in models}, known, allowed, self.signers)


class Loading:
    """Models being tested in a separate process, to be opened here then; `paths` maps the requested names to files.

    `known` are models that are already open: a file that has not changed is not opened again. Raises `ModelError`.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        known: Collection[Loaded] = (),
        allowed: Callable[[int], Limits] = limits,
        signers: Signers | None = None,
    ) -> None:
        self._paths = paths
        self._known = known
        self._trial = Trial(list(paths.values()), allowed, known, signers)

    @property
    def ended(self) -> bool:
        """Whether the models are tested and open, so that `models` does not block."""
        return self._trial.ended

    def models(self) -> dict[str, Loaded]:
        """Return every model by its requested name. Raises `ModelError`. Call it once: it closes in any case."""
        with closing(self):
            self._trial.wait()
            opened = {one.path: one for one in self._trial.open()}
        for one in opened.values():
            if one not in self._known:
                card = one.predictor.card
                rows = len(card.self_test.rows)
                _log.info("model %s %s from %s: self-test passed on %d rows", card.name, card.version, one.path, rows)
        return {name: opened[path] for name, path in self._paths.items()}

    def close(self) -> None:
        """Stop the tests."""
        self._trial.close()


def load(path: Path, allowed: Callable[[int], Limits] = limits) -> Predictor:
    """Open one file, whoever signed it. Raises `ModelError`."""
    return _load(path, allowed).predictor


def _load(path: Path, allowed: Callable[[int], Limits], signers: Signers | None = None) -> Loaded:
    with closing(Trial([path], allowed, signers=signers)) as trial:
        trial.wait()
        return trial.open()[0]
