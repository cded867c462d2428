"""Runs one model file; the only module that imports onnxruntime.

Loading: read the bytes -> check their seal -> open them with onnxruntime -> read the card -> run the self-test on this
device. A file that fails a step raises `ModelError` and is never served.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract import card as cards
from edge_agent.contract.card import ModelCard
from edge_agent.contract.seal import is_sealed
from edge_agent.errors import CardError, ModelError
from edge_agent.model import explain
from edge_agent.model.explain import Explainer, explainer
from edge_agent.model.outputs import Arrays, Output, UnfitError, output_of

#: Whether onnxruntime has opened a model. For the first one, Debian's 1.21 writes hundreds of harmless lines about its
#: operators to stderr.
_opened: Final = threading.Event()
#: How onnxruntime reports that memory ran out; std::bad_alloc is C++'s exception.
_NO_MEMORY: Final = ("bad_alloc", "Failed to allocate memory")
#: What a graph may take: float32, or float64 where the estimator computes in it. With `struct`'s sign for one number.
_FLOATS: Final[dict[str, tuple[str, np.dtype[Any]]]] = {
    "tensor(float)": ("f", np.dtype(np.float32)),
    "tensor(double)": ("d", np.dtype(np.float64)),
}


class Predictor:
    """One loaded model. Raises `ModelError` (or `CardError`) when the file can't be served.

    `sealed` tells whether the file carries its own, matching digest (`edge_agent.contract.seal`); without one, damage that
    leaves the file readable goes unnoticed. `tested` is the sha256 and the `self_test_difference` of a file that has just
    passed its self-test on this device: this file must have the same sha256, and is not tested again. `kind` tells from the card what kind of
    answer the model gives.
    """

    def __init__(
        self,
        content: bytes,
        *,
        where: str,
        tested: tuple[str, float] | None = None,
        kind: Callable[[ModelCard], Output] = output_of,
    ) -> None:
        self.where = where
        self.sha256 = hashlib.sha256(content).hexdigest()
        if tested is not None and tested[0] != self.sha256:
            raise ModelError(f"{where}: the file was changed while it was being opened; try again")
        self.sealed = is_sealed(content, where=where)
        self._session = _open(content, where)
        self.card = self._read_card()
        self.output = kind(self.card)
        self._names, self._packed = self.output.names, self.output.pack
        self._input, one, self._dtype = self._check_signature()
        self._pack = struct.Struct(f"{len(self.card.features)}{one}").pack
        self._explainers: dict[str, Explainer] = {}
        self.self_test_difference = self._self_test() if tested is None else tested[1]

    def predict(self, rows: Sequence[Sequence[float]]) -> Sequence[Hashable]:
        """Return the outputs for `rows` (n, features), which must be finite; `read` decodes each."""
        # Half the time of np.asarray, which inspects every row first.
        packed = b"".join([self._pack(*row) for row in rows])
        return self._packed(self._run(np.frombuffer(packed, self._dtype).reshape(len(rows), -1)))

    def read(self, output: Any) -> Any:
        """Decode one row's output for `output.fields`."""
        return self.output.read(output)

    def explainer(self, method: str) -> Explainer:
        """Return what explains the answers by `method`. Raises `ExplainError`."""
        found = self._explainers.get(method)
        if found is None:  # made once for all routes that ask
            found = self._explainers[method] = explainer(self.card, method, self._dtype)
        return found

    def _run(self, rows: npt.NDArray[Any]) -> Arrays:
        arrays: Arrays = self._session.run(self._names, {self._input: rows})
        return arrays

    def _read_card(self) -> ModelCard:
        try:
            text = self._session.get_modelmeta().custom_metadata_map.get(cards.METADATA_KEY)
        except UnicodeDecodeError:
            raise CardError(
                f"{self.where}: the file's metadata is not UTF-8 text; the file is damaged: copy it again"
            ) from None
        if text is None:
            raise CardError(f"{self.where}: an ONNX model without a model card; write it with edge-convert export")
        return cards.parse(text, where=self.where)

    def _check_signature(self) -> tuple[str, str, np.dtype[Any]]:
        """Check that inputs and outputs match the card; return the name of the input, and its kind of number."""
        inputs, width = self._session.get_inputs(), len(self.card.features)
        outputs = {output.name for output in self._session.get_outputs()}
        fits = len(inputs) == 1 and inputs[0].type in _FLOATS and list(inputs[0].shape)[1:] == [width]
        if not fits or not outputs.issuperset(self._names):
            raise ModelError(
                f"{self.where}: the graph does not match its card: it must take one float32 or float64 tensor (n, {width}) "
                f"and return {' and '.join(map(repr, self._names))}; write it again with edge-convert"
            )
        return str(inputs[0].name), *_FLOATS[inputs[0].type]

    def _self_test(self) -> float:
        """Run the self-test vectors; return the largest difference of an answer."""
        test = self.card.self_test
        try:
            arrays = self._run(np.asarray(test.rows, dtype=self._dtype))
            differences = self.output.differences(arrays)
        except UnfitError as error:
            raise ModelError(
                f"{self.where}: the graph does not match its card: {error}; write it again with edge-convert"
            ) from None
        except (
            Exception
        ) as error:  # onnxruntime raises its own tree of exceptions, ValueError and RuntimeError among it
            raise ModelError(
                f"{self.where}: the self-test could not run: {_first_line(error)}; convert the model again with edge-convert, or use a smaller one"
            ) from error
        # Written so that a NaN counts as wrong.
        wrong = [row for row, difference in enumerate(differences.tolist()) if not difference <= test.tolerance]
        if wrong:
            raise ModelError(
                f"{self.where}: the self-test failed on {len(wrong)} of {len(test.rows)} rows (first: row {wrong[0]}): "
                f"onnxruntime {runtime_version()} on this device does not reproduce the answers of {self.card.training.judge}; "
                "install another onnxruntime, or convert the model again"
            )
        unlike = [
            row for row, share in explain.differences(self.card, self._dtype).items() if not share <= explain.TOLERANCE
        ]
        if unlike:
            raise ModelError(
                f"{self.where}: the self-test failed on the explanations of {len(unlike)} rows (first: row {unlike[0]}): what this "
                "device computes from the trees on the card is not what shap said of the model; convert the model again"
            )
        try:
            self.output.check(arrays)
        except UnfitError as error:
            raise ModelError(f"{self.where}: {error}; write it again with edge-convert") from None
        return float(differences.max())


def runtime_version() -> str:
    """Return the version of onnxruntime."""
    return str(_onnxruntime().__version__)


def _open(content: bytes, where: str) -> Any:
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    # A tree takes microseconds: a thread pool costs more than it gains, and memory.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; its log lines would only repeat them
    try:
        # Only for the first model: later ones are opened while the service runs, and its log must not be captured.
        with contextlib.nullcontext() if _opened.is_set() else _output_kept():
            session = runtime.InferenceSession(content, sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen kinds with no common base but Exception
        raise ModelError(
            f"{where}: onnxruntime can't open this as a model: {_first_line(error)}; "
            "copy the file again, or write it again with edge-convert"
        ) from error
    _opened.set()
    return session


def _first_line(error: Exception) -> str:
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return "not enough memory"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _onnxruntime() -> ModuleType:
    """Import onnxruntime, with telemetry off (on by default since 1.29), and hide what native code prints."""
    if "onnxruntime" not in sys.modules:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        with _output_kept() as kept:
            try:
                import onnxruntime
            except ImportError as error:
                raise ModelError(f"onnxruntime can't be imported: {error}; {kept()[-2000:]}") from error
    import onnxruntime

    return onnxruntime  # type: ignore[no-any-return]


@contextlib.contextmanager
def _output_kept() -> Iterator[Any]:
    """Capture native code's standard output and error; yields a function that returns the text."""
    with os.fdopen(os.memfd_create("output"), "w+b") as kept:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = {standard: os.dup(standard) for standard in (1, 2)}
        for standard in saved:
            os.dup2(kept.fileno(), standard)

        def read() -> str:
            kept.seek(0)
            return kept.read().decode(errors="replace")

        try:
            yield read
        finally:
            for standard, before in saved.items():
                os.dup2(before, standard)
                os.close(before)
