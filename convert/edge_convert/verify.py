"""Does the file answer as scikit-learn does (`edge_convert.reference`)? Every training row and a million generated ones,
on onnxruntime itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_agent.contract.card import ModelCard
from edge_agent.errors import InputError, ModelError
from edge_convert.fold import Folded
from edge_convert.graph import INPUT
from edge_convert.reference import Reference
from edge_convert.rows import Generated, Rows, around_label_changes, around_thresholds, as_sent
from edge_convert.sessions import CHUNK, Opened, open_session
from edge_convert.tasks import PROBABILITIES_ALIKE, Answers, Comparison, Task

GENERATED: Final = 1_000_000
#: Rows that are compared at once, and numbers that these may have: 128 MiB in float64. A multiple of eight: of each part three quarters are edges.
_PART: Final = 8 * CHUNK
_NUMBERS: Final = 1 << 24
_TREES: Final = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")


@dataclass(frozen=True)
class Verification:
    """How far a file is from scikit-learn: numbers of rows, and the largest difference of any probability, value or score."""

    training_rows: int
    generated_rows: int
    edge_rows: int
    edge_kind: str
    labels_differ: int
    numbers_differ: int
    largest_difference: float
    comparison: Comparison = PROBABILITIES_ALIKE
    #: Whose answers they are compared with.
    library: str = "scikit-learn"

    @property
    def passed(self) -> bool:
        """Whether the file may be written: no label differs, no number by more than the tolerance."""
        return self.labels_differ == 0 and self.numbers_differ == 0

    @property
    def _differ(self) -> str:
        return (
            f"{self.labels_differ:,} labels differ"
            if self.comparison.has_labels
            else f"{self.numbers_differ:,} {self.comparison.what}s differ by more than {self.comparison.tolerance:g}"
        )

    def __str__(self) -> str:
        what, relative = self.comparison.what, self.comparison.relative
        return (
            f"verify: {self.training_rows:,} training rows + {self.generated_rows:,} generated rows "
            f"({self.edge_rows:,} {self.edge_kind}): {self._differ}, largest {what} difference {self.largest_difference:.1e}"
            f"{' of the largest' if relative else ''}"
        )


def verify(
    reference: Reference,
    folded: Folded,
    content: bytes,
    *,
    rows: int = GENERATED,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Verification:
    """Compare scikit-learn's answers with those of the ONNX file `content`, on the training rows and `rows` generated ones.

    `folded` says where the model's thresholds are. `progress` is told how many rows of how many are done. Raises
    `InputError` if the file is not such a model.
    """
    session = open_session(content)
    total = len(reference.X) + rows
    labels_differ = numbers_differ = done = edges = 0
    largest, kind, task = 0.0, "", reference.task
    tolerance, scale = task.comparison.tolerance, _scale(reference)
    for part, expected in _asked(reference, _generate(reference, folded, content, rows, np.random.default_rng(seed))):
        got = run(session, part.X, task)
        if got.numbers.shape != expected.numbers.shape:
            unit = "labels" if task.comparison.what == "probability" else "outputs"
            raise InputError(f"the file has {got.numbers.shape[1]} {unit}, the estimator {expected.numbers.shape[1]}")
        difference = _difference(got.numbers, expected.numbers, scale)
        labels_differ += int((got.labels != expected.labels).sum())
        # Not "> tolerance": a NaN must count as different.
        numbers_differ += int((~(difference <= tolerance)).sum())
        largest = float(np.maximum(largest, difference.max()))
        done, edges, kind = done + len(part.X), edges + part.edges, part.kind
        progress(done, total)
    return Verification(
        len(reference.X),
        rows,
        edges,
        kind,
        labels_differ,
        numbers_differ,
        largest,
        task.comparison,
        reference.library,
    )


def require_verified(result: Verification, what: str, hint: str = "") -> None:
    """Raise `ModelError` with the number of rows that differ, and the `hint`, unless the comparison passed."""
    if result.passed:
        return
    total = result.training_rows + result.generated_rows
    how = result.comparison
    labels, verb = (f"{result.labels_differ:,} have a different label and ", "") if how.has_labels else ("", "have ")
    raise ModelError(
        f"{what} does not reproduce {result.library}: of {total:,} rows {labels}{result.numbers_differ:,} {verb}a {how.what} off by more "
        f"than {how.tolerance:g} (at most {result.largest_difference:.1e}){', as a share of the largest' if how.relative else ''}"
        f"{'' if result.labels_differ else '; export it with --tolerance where that may be'}{hint}"
    )


def require_self_test(content: bytes, model_card: ModelCard, task: Task) -> None:
    """Raise `ModelError` where a finished file fails the self-test on its card, which the agent runs before it serves a model: all rows at once."""
    test = model_card.self_test
    # As float64, null becomes NaN.
    got, expected = run(open_session(content), np.array(test.rows, np.float64), task), test.probabilities or test.values
    differ = got.labels != np.array(test.labels) if test.labels else np.zeros(len(test.rows), np.bool_)
    if expected:
        numbers = np.array(expected)
        largest = np.abs(numbers).max(axis=0)
        scale = np.where(largest == 0, 1.0, largest) if task.comparison.relative else 1.0
        # Not "> tolerance": a NaN must count as different.
        differ = differ | ~((np.abs(got.numbers - numbers) / scale).max(axis=1) <= test.tolerance)
    if differ.any():
        raise ModelError(
            f"{model_card.name}: the finished file fails its own self-test on {differ.sum()} of {len(differ)} rows (first: row {np.argmax(differ)}), so no "
            "agent would serve it, and it was not written; does its answer to a row depend on the rows beside it?"
        )


def run(opened: Opened, X: Rows, task: Task) -> Answers:
    """Return what the file says of `X` (n, f). Raises `InputError` if it does not have the outputs of the task."""
    session, chunk = opened
    there = {output.name for output in session.get_outputs()}
    if not there.issuperset(task.outputs):
        raise InputError(
            f"the model file must return {' and '.join(task.outputs)}; it returns {', '.join(sorted(there))}"
        )
    source = session.get_inputs()[0]
    dtype = np.float64 if source.type == "tensor(double)" else np.float32  # as the agent does
    parts = [
        task.read(session.run(list(task.outputs), {source.name: X[start : start + chunk].astype(dtype, copy=False)}))
        for start in range(0, len(X), chunk)
    ]
    labels, numbers = zip(*parts, strict=True)
    return Answers(np.concatenate(labels), np.concatenate(numbers))


def _difference(
    got: NDArray[np.float64], expected: NDArray[np.float64], scale: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the largest difference of each row. Where neither has a finite number there is none: the agent rejects such rows."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(got - expected)
        if scale is not None:
            apart = apart / np.maximum(scale, np.abs(expected))
    apart[(got == expected) | (np.isnan(got) & np.isnan(expected))] = 0.0
    return apart.max(axis=1, initial=0.0)


def _scale(reference: Reference) -> NDArray[np.float64] | None:
    """Return what differences are shares of, at the least, for each of an answer's numbers; None where they are none."""
    if not reference.task.comparison.relative:
        return None
    largest = np.abs(reference.training.numbers).max(axis=0)
    return np.where(largest == 0, 1.0, largest)


def _generate(
    reference: Reference, folded: Folded, content: bytes, rows: int, rng: np.random.Generator
) -> Iterator[Generated]:
    """Draw `rows` rows in parts: a million of a thousand columns would be 8 GB at once."""
    X = reference.X.astype(folded.dtype, copy=False)
    # The file's own thresholds as well: should it ask something else than the estimator, that is where it shows.
    theirs = [values[np.isfinite(values)] for values in _thresholds_in(content, X.shape[1])]
    thresholds = [np.union1d(one, other) for one, other in zip(folded.thresholds, theirs, strict=True)]
    part = part_of(X.shape[1])
    for start in range(0, rows, part):
        n = min(part, rows - start)
        if folded.trees is None:
            found = _around_both(reference, X, thresholds, n, rng)
        else:
            found = around_thresholds(X, thresholds, n, rng, reference.gaps)
        sent = _with_sent(found, reference.X, rng)
        yield replace(sent, X=reference.within(sent.X))


def _around_both(
    reference: Reference, X: Rows, thresholds: Sequence[NDArray[np.float64]], n: int, rng: np.random.Generator
) -> Generated:
    """Draw `n` rows for a model that is not trees alone: around changes of label, and half of them around thresholds of trees in it."""
    labels, predict = reference.training.labels, lambda some: reference.answers(some).labels
    if not any(map(len, thresholds)):
        return around_label_changes(X, labels, predict, n, rng)
    trees = around_thresholds(X, thresholds, n // 2, rng, reference.gaps)
    rest = around_label_changes(X, labels, predict, n - n // 2, rng)
    edges_first = (rest.X[: rest.edges], trees.X[: trees.edges], trees.X[trees.edges :], rest.X[rest.edges :])
    both: NDArray[Any] = np.concatenate(edges_first)
    return Generated(both, rest.edges + trees.edges, f"{rest.kind}, or {trees.kind}")


def part_of(columns: int) -> int:
    """Return how many rows of so many columns are compared at once."""
    return max(8, min(_PART, _NUMBERS // columns // 8 * 8))


def _with_sent(generated: Generated, X: Rows, rng: np.random.Generator) -> Generated:
    """Make half of the rows that are on no edge, as float64, such as come over the wire."""
    rows = generated.X.astype(np.float64, copy=False)
    as_sent(rows[(generated.edges + len(rows)) // 2 :], X, rng)
    return Generated(rows, generated.edges, generated.kind)


def _asked(reference: Reference, generated: Iterator[Generated]) -> Iterator[tuple[Generated, Answers]]:
    """Every training row and every generated one, in parts, with scikit-learn's answers."""
    size = part_of(reference.X.shape[1])
    for start in range(0, len(reference.X), size):
        part = slice(start, start + size)
        labels, numbers = reference.training
        yield Generated(reference.X[part], 0, ""), Answers(labels[part], numbers[part])
    for found in generated:
        yield found, reference.answers(found.X)


def _kept_by(node: onnx.NodeProto) -> str:
    """Return the input of a node of which all columns keep their places in its output, "" if there is none."""
    if node.op_type in {"Cast", "Concat"}:  # others may be put behind them
        return str(node.input[0])
    return str(node.input[2]) if node.op_type == "Where" else ""  # some are filled in, or made missing


def _thresholds_in(content: bytes, n_features: int) -> list[NDArray[np.float64]]:
    """Return the thresholds, by input column, of the tree ensembles in a file that look at its input directly."""
    found: list[list[float]] = [[] for _ in range(n_features)]
    inputs = {INPUT}
    for node in onnx.load_from_string(content).graph.node:
        if _kept_by(node) in inputs:
            inputs.add(node.output[0])
        if node.op_type not in _TREES or node.input[0] not in inputs:
            continue
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        values = attributes.get("nodes_values") or numpy_helper.to_array(attributes["nodes_values_as_tensor"])
        for column, mode, value in zip(attributes["nodes_featureids"], attributes["nodes_modes"], values, strict=True):
            if mode != b"LEAF" and column < n_features:
                found[column].append(float(value))
    return [np.unique(np.array(values, dtype=np.float64)) for values in found]
