"""Opens and tests model files in a separate process, then opens here what passed. Only this module reads a model's bytes.

Rules:

* A file may contain anything: it may loop forever, take gigabytes, or crash the library that opens it. So each is first
  opened and tested, as `edge_agent.model.onnx` describes, in a separate process (`edge_agent.host.apart`). Only a file
  that passed is opened here, with the same bytes, and not tested again: in a thread (`edge_agent.host.aside`) for whoever serves
  meanwhile and asks whether it has `ended`.
* Where signatures are required, one is verified in that separate process, before anything else is done with the bytes
  (`edge_agent.model.trust`). A bundled model needs none, wherever it was copied to: it came with this program.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.contract.manifest import MAX_MODEL_BYTES
from edge_agent.errors import CardError, CutShortError, FileError, ModelError, TrustError
from edge_agent.host import files
from edge_agent.host.apart import Apart, Limits
from edge_agent.host.aside import Aside
from edge_agent.model.onnx import Predictor, runtime_version
from edge_agent.model.trust import Signers, evidence_of, verify_beside

#: Where the models lie that come with this program.
BUNDLED: Final = Path(__file__).parent.parent / "models"
_KINDS: Final[Mapping[str, type[ModelError]]] = {kind.__name__: kind for kind in (ModelError, CardError, TrustError)}
_MIB: Final = 1 << 20


def limits(size: int) -> Limits:
    """Return the limits for opening and testing files of `size` bytes in all.

    Good models need far less: a Raspberry Pi Zero 2 takes 0.2 s for the bundled model; a forest of 45 MiB takes 1 s and
    14 times its size in memory on a desktop.
    """
    seconds = 5.0 + size / _MIB
    return Limits(seconds=seconds, patience=4 * seconds, memory=128 * _MIB + 24 * size)


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
    return any(content == path.read_bytes() for path in BUNDLED.glob("*.onnx"))
