"""The only way to load a model file: find it, open and test it in a separate process, then open it here.

`run`, a reload, `try`, `demo` and `check` all load models through this module. Rules:

* `locate` finds the file for a name. Only this module reads a model's bytes.
* Where signatures are required, one is verified in that separate process, before anything else is done with the bytes
  (`edge_agent.model.trust`). A bundled model needs none, wherever it was copied to: it came with this program.
* A file may contain anything: it may loop forever, take gigabytes, or crash the library that opens it. So each is first
  opened and tested, as `edge_agent.model.onnx` describes, in a separate process (`edge_agent.host.apart`). Only a file
  that passed is opened here, with the same bytes, and not tested again: in a thread (`edge_agent.host.aside`) for whoever serves
  meanwhile and asks whether it has `ended`.
"""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.contract.manifest import MAX_MODEL_BYTES
from edge_agent.errors import CardError, CutShortError, FileError, ModelError, TrustError
from edge_agent.host import files
from edge_agent.host.apart import Apart, Limits
from edge_agent.host.aside import Aside
from edge_agent.model.onnx import Predictor, runtime_version
from edge_agent.model.shelf import CURRENT, is_name
from edge_agent.model.store import Store
from edge_agent.model.trust import Signers, evidence_of, verify_beside

__all__ = [
    "MAX_MODEL_BYTES", "Library", "Limits", "Loaded", "Loading", "Predictor", "Trial",
    "limits", "load", "locate", "open_file", "passed_over", "places", "runtime_version",
]  # fmt: skip

_log = logging.getLogger(__name__)

_SUFFIX: Final = ".onnx"
_BUNDLED: Final = Path(__file__).parent.parent / "models"
#: Longest model name that an error message shows, in characters.
_LONGEST_SHOWN: Final = 80
_KINDS: Final[Mapping[str, type[ModelError]]] = {kind.__name__: kind for kind in (ModelError, CardError, TrustError)}
_MIB: Final = 1 << 20


def limits(size: int) -> Limits:
    """Return the limits for opening and testing files of `size` bytes in all.

    Good models need far less: a Raspberry Pi Zero 2 takes 0.2 s for the bundled model; a forest of 45 MiB takes 1 s and
    14 times its size in memory on a desktop.
    """
    seconds = 5.0 + size / _MIB
    return Limits(seconds=seconds, patience=4 * seconds, memory=128 * _MIB + 24 * size)


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
    candidates = places(model, *directories, _BUNDLED)
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


class Stamp(NamedTuple):
    """Identifies a file's content, to notice changes and replacement; `modified` and `changed` are times in nanoseconds. `trust` is whose
    signature was asked for, and the identity of the file that it is in; None where none is needed.
    """

    device: int
    number: int
    size: int
    modified: int
    changed: int
    trust: tuple[Signers, int, int, int] | None = None


class Loaded(NamedTuple):
    """An open model, and its file's identity when it was opened. `signed_by` names the keys that signed it, where signatures are required."""

    path: Path
    stamp: Stamp
    predictor: Predictor
    signed_by: tuple[str, ...] = ()


class _Passed(NamedTuple):
    """What the separate process says of a file."""

    sha256: str
    difference: float
    signed_by: tuple[str, ...]


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
        return next((path for path in places(model, *self.directories, _BUNDLED) if _is_there(path)), None)

    def origin(self, path: Path) -> str:
        """Return in words where a file that `locate` returned comes from."""
        if path.parent == _BUNDLED:
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


class Trial:
    """Opens and tests files in one separate process; close it when done. With `signers`, files that they have not signed are refused."""

    #: Bytes that are opened in place: that takes milliseconds, and a thread keeps memory of its own for good.
    small = _MIB // 4

    def __init__(
        self,
        paths: Sequence[Path],
        allowed: Callable[[int], Limits] = limits,
        known: Collection[Loaded] = (),
        signers: Signers | None = None,
    ) -> None:
        """Start the process. Files that have not changed since `known` models were opened are skipped."""
        runtime_version()  # imports onnxruntime before the fork, so that the process need not
        self._signers = signers
        self._stamps = {path: _stamp(path, signers) for path in dict.fromkeys(paths)}
        unchanged = {(one.path, one.stamp): one for one in known}
        self._known = {path: unchanged.get((path, stamp)) for path, stamp in self._stamps.items()}
        self._anew = [path for path, one in self._known.items() if one is None]
        self._size = sum(min(self._stamps[path].size, MAX_MODEL_BYTES) for path in self._anew)
        self._apart = Apart(self._work, allowed(self._size)) if self._anew else None
        self._opening: Aside[list[Loaded]] | None = None

    @property
    def ended(self) -> bool:
        """Whether `open` does not block for long. Once the process has ended, a thread begins to open what passed, unless it is small."""
        if self._apart is None or not self._apart.ended:
            return self._apart is None
        if self._opening is None and self._size > self.small:
            try:
                self._opening = Aside(partial(self._open_all, self._passed()))
            except (ModelError, RuntimeError):  # for `open` to say; or to do, where there is no thread to be had
                return True
        return self._opening is None or self._opening.ended

    def wait(self) -> None:
        """Wait until it has ended; the limits bound that."""
        if self._apart is not None:
            self._apart.wait()

    def close(self) -> None:
        """End it."""
        if self._apart is not None:
            self._apart.close()
            self._apart = None

    def open(self) -> list[Loaded]:
        """Open the files here, once the process has ended. Raises `ModelError`; `CutShortError` when the system ended the process."""
        return self._open_all(self._passed()) if self._opening is None else self._opening.result()

    def _open_all(self, passed: Mapping[Path, _Passed]) -> list[Loaded]:
        return [
            self._known[path] or Loaded(path, stamp, open_file(path, passed[path][:2]), passed[path].signed_by)
            for path, stamp in self._stamps.items()
        ]

    def _work(self, tell: Callable[[str], None]) -> None:
        kept = []  # all stay open at once, as later here
        for path in self._anew:
            try:
                content = _read(path)
                signed_by = self._verified(path, content)
                predictor = Predictor(content, where=str(path))
            except ModelError as error:
                tell(json.dumps({"error": str(error), "kind": type(error).__name__}))
                return
            kept.append(predictor)
            tell(json.dumps(_Passed(predictor.sha256, predictor.self_test_difference, signed_by)._asdict()))

    def _verified(self, path: Path, content: bytes) -> tuple[str, ...]:
        """Return which keys signed a file, nothing where none has to. Raises `TrustError`."""
        if self._signers is None or (_is_bundled(content) and not files.exists(evidence_of(path))):
            return ()
        return verify_beside(path, content, self._signers).key_ids

    def _passed(self) -> dict[Path, _Passed]:
        """Return what is said of each tested file."""
        if self._apart is None:
            return {}
        passed: dict[Path, _Passed] = {}
        for path, line in zip(self._anew, self._apart.report(), strict=False):
            try:
                told = json.loads(line)
                if "error" in told:
                    raise _KINDS[told["kind"]](told["error"])
                passed[path] = _Passed(told["sha256"], told["difference"], tuple(told.get("signed_by", ())))
            except ValueError:  # truncated: the process was killed
                break
        for path in self._anew:
            if path not in passed:
                why = self._apart.trouble() or "it ended early"
                raise (CutShortError if self._apart.ended_by is signal.SIGKILL else ModelError)(
                    f"{path}: failed while being tested in a separate process: {why}; "
                    "convert the model again with edge-convert, or use a smaller one"
                )
        return passed


def open_file(path: Path, tested: tuple[str, float] | None = None) -> Predictor:
    """Read and open a file in this process, whoever signed it. Raises `ModelError`. `tested` is as in `Predictor`."""
    return Predictor(_read(path), where=str(path), tested=tested)


def load(path: Path, allowed: Callable[[int], Limits] = limits) -> Predictor:
    """Open one file, whoever signed it. Raises `ModelError`."""
    return _load(path, allowed).predictor


def _load(path: Path, allowed: Callable[[int], Limits], signers: Signers | None = None) -> Loaded:
    with closing(Trial([path], allowed, signers=signers)) as trial:
        trial.wait()
        return trial.open()[0]


def _read(path: Path) -> bytes:
    try:
        return files.read(path, limit=MAX_MODEL_BYTES)
    except FileError as error:
        raise ModelError(str(error)) from error


def _stamp(path: Path, signers: Signers | None) -> Stamp:
    try:
        status = files.look(path)
        stamp = Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if signers is None:
            return stamp
        evidence = evidence_of(path)
        beside = files.look(evidence) if files.exists(evidence) else None
    except FileError as error:
        raise ModelError(str(error)) from error
    seen = (0, 0, 0) if beside is None else (beside.st_ino, beside.st_mtime_ns, beside.st_ctime_ns)
    return stamp._replace(trust=(signers, *seen))


def _is_bundled(content: bytes) -> bool:
    """Tell whether this is a model that came with this program, wherever it was copied to."""
    return any(content == path.read_bytes() for path in _BUNDLED.glob(f"*{_SUFFIX}"))
