"""The one door to model files: found, opened and tested apart first, where a bad one can do no harm, and then here.

`run`, a reload, `try`, `demo` and `check` come in here and nowhere else. Rules:

* `locate` says which file a name means; `open_file` alone reads a model's bytes, so what a file has to bring along to be
  trusted is checked there, once for all.
* A file may be anything: it may loop for ever, take gigabytes, or crash the library that opens it. So each is first
  opened, checked and tested as `edge_agent.model.onnx` says in a process of its own (`edge_agent.host.apart`). Only what
  came through is opened here, the very same bytes, without a test again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.errors import CardError, FileError, ModelError
from edge_agent.host import files
from edge_agent.host.apart import Apart, Limits
from edge_agent.model.onnx import Predictor, runtime_version

__all__ = [
    "MAX_MODEL_BYTES",
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
    "places",
    "runtime_version",
]

_log = logging.getLogger(__name__)

MAX_MODEL_BYTES: Final = 256 * 1024 * 1024
_SUFFIX: Final = ".onnx"
_BUNDLED: Final = Path(__file__).parent.parent / "models"
#: Longest name of a model in a message about what is wrong.
_LONGEST_SHOWN: Final = 80
_KINDS: Final[Mapping[str, type[ModelError]]] = {kind.__name__: kind for kind in (ModelError, CardError)}
_MIB: Final = 1 << 20


def limits(size: int) -> Limits:
    """Return what opening and testing files of `size` bytes in all may take.

    Far more than honest ones do: a Raspberry Pi Zero 2 takes 0.2 s for the bundled model; a forest of 45 MiB takes 1 s and
    14 times its size on a desktop.
    """
    seconds = 5.0 + size / _MIB
    return Limits(seconds=seconds, patience=4 * seconds, memory=128 * _MIB + 24 * size)


def places(model: str, *directories: Path) -> list[Path]:
    """Return where the file of a model may be: a path that ends in `.onnx` is one, a name stands for one in each directory."""
    if model.endswith(_SUFFIX):
        return [Path(model)]
    return [directory / f"{model}{_SUFFIX}" for directory in directories]


def locate(model: str, *directories: Path) -> Path:
    """Return the file of a model: a path that ends in `.onnx`, or a name looked for in `directories`, then bundled.

    A directory that we may not look into (that of a service, for another user) does not hide a bundled model; that it
    was passed over is logged. Raises `ModelError` when there is none, or something else is in its place.
    """
    candidates = places(model, *directories, _BUNDLED)
    said = "" if model.endswith(_SUFFIX) else f"model {_shown(model)}: "
    closed: FileError | None = None
    for candidate in candidates:
        try:
            if not files.exists(candidate):
                continue
        except FileError as error:
            if not isinstance(error.__cause__, PermissionError):
                raise ModelError(f"{said}{error}") from error
            closed = error
        else:
            if closed is not None:
                _log.warning("model %s: the bundled one is taken; %s", model, closed)
            return candidate
    if closed is not None:
        raise ModelError(f"{said}{closed}")
    looked = ", ".join(str(candidate) for candidate in candidates)
    raise ModelError(
        f"model {_shown(model)}: no such file ({looked}); write one with edge-convert, or correct the name"
    )


def _shown(model: str) -> str:
    return ascii(model) if len(model) <= _LONGEST_SHOWN else f"{model[:_LONGEST_SHOWN]!a}..."


class Stamp(NamedTuple):
    """What tells a file that was changed or replaced from one that was not; the last two are times in nanoseconds."""

    device: int
    number: int
    size: int
    modified: int
    changed: int


class Loaded(NamedTuple):
    """A model that is open, with the file that it came from, as that was then."""

    path: Path
    stamp: Stamp
    predictor: Predictor


class Library(NamedTuple):
    """The models that can be named: those in `directories`, the first of which wins, and then the bundled ones."""

    directories: tuple[Path, ...] = ()

    def places(self, model: str) -> list[Path]:
        """Return where the file of a model may be, but for a bundled one."""
        return places(model, *self.directories)

    def locate(self, model: str) -> Path:
        """Return the file of a model; see the function `locate`."""
        return locate(model, *self.directories)

    def load(self, model: str, allowed: Callable[[int], Limits] = limits) -> Predictor:
        """Open one model. Raises `ModelError`."""
        return load(self.locate(model), allowed)

    def loading(
        self, models: Iterable[str], known: Collection[Loaded] = (), allowed: Callable[[int], Limits] = limits
    ) -> Loading:
        """Begin to open several models. Raises `ModelError` when one can't be found."""
        return Loading({model: self.locate(model) for model in models}, known, allowed)


class Loading:
    """Models that are tried apart, and then opened here; `paths` are their files, by the names that they are asked for by.

    `known` are those that are open already: a file that is as it was then is not opened again. Raises `ModelError`.
    """

    def __init__(
        self, paths: Mapping[str, Path], known: Collection[Loaded] = (), allowed: Callable[[int], Limits] = limits
    ) -> None:
        self._paths = paths
        self._known = known
        self._trial = Trial(list(paths.values()), allowed, known)

    @property
    def ended(self) -> bool:
        """Whether all have been tried, so that `models` does not wait."""
        return self._trial.ended

    def models(self) -> dict[str, Loaded]:
        """Return every model by the name that it was asked for by. Raises `ModelError`; either way, this is the end."""
        try:
            self._trial.wait()
            opened = {one.path: one for one in self._trial.open()}
        finally:
            self.close()
        for one in opened.values():
            if one not in self._known:
                _log.info(
                    "model %s %s from %s: self-test passed on %d rows",
                    one.predictor.card.name,
                    one.predictor.card.version,
                    one.path,
                    len(one.predictor.card.self_test.rows),
                )
        return {name: opened[path] for name, path in self._paths.items()}

    def close(self) -> None:
        """Give up."""
        self._trial.close()


class Trial:
    """Files that are opened and tested apart, all in one process; close it when done."""

    def __init__(
        self, paths: Sequence[Path], allowed: Callable[[int], Limits] = limits, known: Collection[Loaded] = ()
    ) -> None:
        """Begin. Of files that are as they were when `known` models were opened nothing is done again."""
        runtime_version()  # imported here, so that the process need not
        self._stamps = {path: _stamp(path) for path in dict.fromkeys(paths)}
        unchanged = {(one.path, one.stamp): one for one in known}
        self._known = {path: unchanged.get((path, stamp)) for path, stamp in self._stamps.items()}
        self._anew = [path for path, one in self._known.items() if one is None]
        size = sum(min(self._stamps[path].size, MAX_MODEL_BYTES) for path in self._anew)
        self._apart = Apart(self._work, allowed(size)) if self._anew else None

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._apart is None or self._apart.ended

    def wait(self) -> None:
        """Wait until it has ended, which the limits bound."""
        if self._apart is not None:
            self._apart.wait()

    def close(self) -> None:
        """End it."""
        if self._apart is not None:
            self._apart.close()

    def open(self) -> list[Loaded]:
        """Open the files here, after the end. Raises `ModelError` when one of them can't be served."""
        passed = self._passed()
        return [self._known[path] or self._open(path, *passed[path]) for path in self._stamps]

    def _work(self, tell: Callable[[str], None]) -> None:
        kept = []  # all at once, as they will be here
        for path in self._anew:
            try:
                predictor = open_file(path)
            except ModelError as error:
                tell(json.dumps({"error": str(error), "kind": type(error).__name__}))
                return
            kept.append(predictor)
            tell(json.dumps({"sha256": predictor.sha256, "difference": predictor.self_test_difference}))

    def _passed(self) -> dict[Path, tuple[str, float]]:
        """Return sha256 and the self-test's difference of each file that was tested."""
        if self._apart is None:
            return {}
        passed: dict[Path, tuple[str, float]] = {}
        for path, line in zip(self._anew, self._apart.report(), strict=False):
            try:
                told = json.loads(line)
                if "error" in told:
                    raise _KINDS[told["kind"]](told["error"])
                passed[path] = (told["sha256"], told["difference"])
            except ValueError:  # cut when it was ended
                break
        for path in self._anew:
            if path not in passed:
                why = self._apart.trouble() or "it ended early"
                raise ModelError(
                    f"{path}: opened and tested in a process of its own, {why}; the model is not to be used: "
                    "convert it again with edge-convert, or take a smaller one"
                )
        return passed

    def _open(self, path: Path, sha256: str, difference: float) -> Loaded:
        predictor = open_file(path, tested=(sha256, difference))
        return Loaded(path, self._stamps[path], predictor)


def open_file(path: Path, tested: tuple[str, float] | None = None) -> Predictor:
    """Read and open a file in this very process. Raises `ModelError`. `tested` is as in `Predictor`."""
    try:
        content = files.read(path, limit=MAX_MODEL_BYTES)
    except FileError as error:
        raise ModelError(str(error)) from error
    return Predictor(content, where=str(path), tested=tested)


def load(path: Path, allowed: Callable[[int], Limits] = limits) -> Predictor:
    """Open one file. Raises `ModelError`."""
    trial = Trial([path], allowed)
    try:
        trial.wait()
        ((_, _, predictor),) = trial.open()
    finally:
        trial.close()
    return predictor


def _stamp(path: Path) -> Stamp:
    try:
        status = files.look(path)
    except FileError as error:
        raise ModelError(str(error)) from error
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
