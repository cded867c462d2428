"""The one door for model files: opened and tested apart first, where a bad one can do no harm, and then here.

A file may be anything: it may loop for ever, take gigabytes, or crash the library that opens it. So each is first opened,
checked and tested as `edge_agent.model.onnx` says in a process of its own (`edge_agent.host.apart`). Only what came through is
opened here, the very same bytes, without a test again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.errors import CardError, FileError, ModelError
from edge_agent.host import files
from edge_agent.host.apart import Apart, Limits
from edge_agent.model.onnx import MAX_MODEL_BYTES, Predictor, runtime_version

__all__ = ["Limits", "Loaded", "Trial", "limits", "load"]

_KINDS: Final[Mapping[str, type[ModelError]]] = {kind.__name__: kind for kind in (ModelError, CardError)}
_MIB: Final = 1 << 20


def limits(size: int) -> Limits:
    """Return what opening and testing files of `size` bytes in all may take.

    Far more than honest ones do: a Raspberry Pi Zero 2 takes 0.2 s for the bundled model; a forest of 45 MiB takes 1 s and
    14 times its size on a desktop.
    """
    seconds = 5.0 + size / _MIB
    return Limits(seconds=seconds, patience=4 * seconds, memory=128 * _MIB + 24 * size)


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
                predictor = Predictor.load(path)
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
        try:
            content = files.read(path, limit=MAX_MODEL_BYTES)
        except FileError as error:
            raise ModelError(str(error)) from error
        predictor = Predictor(content, where=str(path), tested=(sha256, difference))
        return Loaded(path, self._stamps[path], predictor)


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
