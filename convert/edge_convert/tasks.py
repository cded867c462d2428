"""What a model answers, as far as converting it depends on that: labels, numbers, or whether something is an anomaly.

One class for each task: how scikit-learn is asked, what the graph is, how the file's outputs are read, how the two are compared,
and the task's part of the model card (`edge_agent.contract.card`). How a task is trained is in `edge_convert.trainers`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from sklearn.base import is_regressor
from sklearn.ensemble import IsolationForest
from sklearn.svm import SVC, NuSVC

from edge_agent.contract import card
from edge_agent.contract.card import ANOMALY, NORMAL
from edge_agent.errors import InputError
from edge_convert.classifier import Estimator, labels_of, split
from edge_convert.composed import classifier_graph, regressor_graph
from edge_convert.fold import Folded, whole
from edge_convert.graph import LABEL, PROBABILITIES, assemble_outputs, build_graph
from edge_convert.leaves import Sum, expected_length, sum_of, write_sum
from edge_convert.trees import FORESTS
from edge_convert.writer import Writer

Arrays = Sequence[NDArray[Any]]


class Answers(NamedTuple):
    """Answers for n rows: `labels` (n,) as text, all "" where there are none; `numbers` (n, k) float64: the labels'
    probabilities, the outputs' values, or the score.
    """

    labels: NDArray[np.str_]
    numbers: NDArray[np.float64]


class Comparison(NamedTuple):
    """How close a file has to come. `tolerance` is absolute, or, where it is `relative`, a share of the largest number that the
    model answers for a training row. Labels must be the same. `device` is what a processor of another kind may be off by, None where that is
    the same.
    """

    what: str
    tolerance: float
    relative: bool = False
    has_labels: bool = True
    device: float | None = None

    @property
    def on_card(self) -> float:
        """The tolerance of the self-test, which a device runs."""
        return self.tolerance if self.device is None else self.device

    def within(self, tolerance: float) -> Comparison:
        """Return the same, with `tolerance` here and on a device."""
        return self._replace(tolerance=tolerance, device=None)


#: What answers labels only is compared by them.
LABELS_ALIKE: Final = Comparison("probability", 0.0)
PROBABILITIES_ALIKE: Final = Comparison("probability", 1e-6)
VALUES_ALIKE: Final = Comparison("value", 1e-10, relative=True, has_labels=False)
SCORES_ALIKE: Final = Comparison("score", 1e-6)
#: Halvings between any two float64 numbers, at the most.
_HALVINGS: Final = 2200


class Task(Protocol):
    """What a model answers."""

    @property
    def comparison(self) -> Comparison:
        """How the file is compared with scikit-learn."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs of the graph, which `read` takes."""

    @property
    def width(self) -> int:
        """How many numbers an answer has."""

    def ask(self, model: Any, rows: Any) -> Answers:
        """Return scikit-learn's answers for `rows` (n, f)."""

    def read(self, arrays: Arrays) -> Answers:
        """Return the answers in a graph's outputs."""

    def graph(self, folded: Folded) -> ModelProto:
        """Return the ONNX model. Raises `InputError` for what can't be exported."""

    def closer_graph(self, model: Estimator, folded: Folded) -> ModelProto | None:
        """Return a slower graph that is closer to scikit-learn than `graph`, if there is one."""

    def within(self, tolerance: float) -> Task:
        """Return the same task, with numbers that may be off by `tolerance`."""

    def on_card(self) -> dict[str, Any]:
        """Return the card's fields of the task."""

    def example(self, answers: Answers) -> dict[str, Any]:
        """Return an example's fields, from the answers for one row."""

    def self_test(self, answers: Answers) -> dict[str, Any]:
        """Return a self-test's fields."""


@dataclass(frozen=True)
class Classification:
    """One of several labels, in the order of the probabilities, if there are any."""

    labels: tuple[str, ...]
    comparison: Comparison = PROBABILITIES_ALIKE
    outputs: tuple[str, ...] = (LABEL, PROBABILITIES)

    @property
    def bare(self) -> bool:
        """Whether it answers a label and nothing else."""
        return PROBABILITIES not in self.outputs

    @property
    def width(self) -> int:
        """How many labels there are."""
        return len(self.labels)

    def ask(self, model: Any, rows: Any) -> Answers:
        """Return labels and probabilities."""
        labels = np.asarray(model.predict(rows)).astype(str)
        return Answers(
            labels, np.empty((len(labels), 0)) if self.bare else model.predict_proba(rows).astype(np.float64)
        )

    def read(self, arrays: Arrays) -> Answers:
        """Return labels and probabilities, float32 widened."""
        labels, *probabilities = arrays
        return Answers(
            labels.astype(str), *(p.astype(np.float64) for p in probabilities or [np.empty((len(labels), 0))])
        )

    def graph(self, folded: Folded) -> ModelProto:
        """Return the graph, which answers a label and, unless it is bare, probabilities."""
        if folded.trees is not None and folded.splits:
            return build_graph(folded, self.labels)
        return classifier_graph(folded, self.labels, bare=self.bare)

    def closer_graph(self, model: Estimator, folded: Folded) -> ModelProto | None:
        """Return that of a forest which divides before it compares: sums one float64 step apart may have the same mean."""
        if not isinstance(folded.estimator, FORESTS):
            return None
        return classifier_graph(whole(model), self.labels, bare=self.bare)

    def within(self, tolerance: float) -> Task:
        """Return the same task, with numbers that may be off by `tolerance`."""
        return replace(self, comparison=self.comparison.within(tolerance))

    def on_card(self) -> dict[str, Any]:
        """Return the labels."""
        return {"labels": self.labels}

    def example(self, answers: Answers) -> dict[str, Any]:
        """Return the label."""
        return {"label": str(answers.labels[0])}

    def self_test(self, answers: Answers) -> dict[str, Any]:
        """Return labels and probabilities."""
        labels = {"labels": _texts(answers.labels)}
        if self.bare:
            return labels
        return {
            **labels,
            "probabilities": _rows(_within_1(answers.numbers)),
            "tolerance": self.comparison.on_card,
        }


@dataclass(frozen=True)
class Regression:
    """Numbers, one for each of the `quantities`."""

    quantities: tuple[card.Quantity, ...]
    comparison: Comparison = VALUES_ALIKE
    outputs: tuple[str, ...] = ("values",)

    @property
    def width(self) -> int:
        """How many numbers there are."""
        return len(self.quantities)

    def ask(self, model: Any, rows: Any) -> Answers:
        """Return the values."""
        return self.read([np.asarray(model.predict(rows), np.float64).reshape(len(rows), -1)])

    def read(self, arrays: Arrays) -> Answers:
        """Return the values."""
        (values,) = arrays
        return Answers(np.full(len(values), ""), values)

    def graph(self, folded: Folded) -> ModelProto:
        """Return the graph, which answers values (n, outputs) in float64."""
        if folded.trees is None:
            return regressor_graph(folded, self.outputs[0], self.width)
        writer = Writer()
        total = write_sum(writer, folded.trees, sum_of(folded.estimator), wide=folded.wide)
        writer.add("Identity", total, output=self.outputs[0])
        return assemble_outputs(folded, writer, [(self.outputs[0], TensorProto.DOUBLE, self.width)])

    def closer_graph(self, _model: Estimator, _folded: Folded) -> None:
        """Return None: there is none."""

    def within(self, tolerance: float) -> Task:
        """Return the same task, with numbers that may be off by `tolerance`."""
        return replace(self, comparison=self.comparison.within(tolerance))

    def on_card(self) -> dict[str, Any]:
        """Return the outputs."""
        return {"task": "regression", "outputs": self.quantities}

    def example(self, answers: Answers) -> dict[str, Any]:
        """Return the values."""
        return {"values": _rows(answers.numbers)[0]}

    def self_test(self, answers: Answers) -> dict[str, Any]:
        """Return the values, and how close they have to be."""
        return {"values": _rows(answers.numbers), "tolerance": self.comparison.on_card}


@dataclass(frozen=True)
class Anomaly:
    """Whether a row is an anomaly: what scores above `threshold` is."""

    threshold: float
    comparison: Comparison = SCORES_ALIKE
    outputs: tuple[str, ...] = ("score", "anomaly")
    width: int = 1

    def ask(self, model: Any, rows: Any) -> Answers:
        """Return verdicts, and scores as in the method's paper: high is unusual."""
        return Answers(
            np.where(model.predict(rows) == -1, ANOMALY, NORMAL),
            -np.asarray(model.score_samples(rows), np.float64)[:, np.newaxis],
        )

    def read(self, arrays: Arrays) -> Answers:
        """Return verdicts and scores."""
        scores, anomalies = arrays
        return Answers(np.where(anomalies[:, 0], ANOMALY, NORMAL), scores)

    def graph(self, folded: Folded) -> ModelProto:
        """Return the graph: `score` is 2 to the power of minus the path length's share of the expected one.

        Which rows are anomalies is asked of the path length, an exact sum: powers differ in their last bit.
        """
        trees, writer = _trees(folded), Writer()
        expected = expected_length(cast("IsolationForest", folded.estimator), trees)
        if not expected:
            raise InputError(
                "IsolationForest: each tree saw one row only, so nothing is unusual to it; raise max_samples"
            )
        length = write_sum(writer, trees, Sum(), wide=folded.wide)
        share = writer.add("Neg", writer.add("Div", length, writer.constant(expected, np.float64)))
        writer.add("Pow", writer.constant(2.0, np.float64), share, output=self.outputs[0])
        longest = _longest_of_anomalies(expected, -self.threshold)
        writer.add("LessOrEqual", length, writer.constant(longest, np.float64), output=self.outputs[1])
        shape = [(self.outputs[0], TensorProto.DOUBLE, 1), (self.outputs[1], TensorProto.BOOL, 1)]
        return assemble_outputs(folded, writer, shape)

    def closer_graph(self, _model: Estimator, _folded: Folded) -> None:
        """Return None: there is none."""

    def within(self, tolerance: float) -> Task:
        """Return the same task, with numbers that may be off by `tolerance`."""
        return replace(self, comparison=self.comparison.within(tolerance))

    def on_card(self) -> dict[str, Any]:
        """Return the threshold."""
        return {"task": "anomaly", "threshold": self.threshold}

    def example(self, answers: Answers) -> dict[str, Any]:
        """Return label and score."""
        return {"label": str(answers.labels[0]), "values": _rows(answers.numbers)[0]}

    def self_test(self, answers: Answers) -> dict[str, Any]:
        """Return labels and scores."""
        tolerance = self.comparison.on_card
        return {"labels": _texts(answers.labels), "values": _rows(answers.numbers), "tolerance": tolerance}


def task_of(model: Estimator, quantities: Sequence[card.Quantity] = ()) -> Task | None:
    """Return the task of a fitted model; None where it has none that can be served. `quantities` are a regression's; they are
    numbered where none are given.
    """
    _, last = split(model)
    own = getattr(last, "own_task", None)  # of other libraries: `edge_convert.boosters`
    if own is not None:
        task: Task = own(quantities)
        return task
    if hasattr(model, "classes_"):
        # Probabilities of a support vector machine are another model's, and may contradict its label.
        if isinstance(last, SVC | NuSVC) or not hasattr(model, "predict_proba"):
            return Classification(labels_of(model), LABELS_ALIKE, (LABEL,))
        return Classification(labels_of(model))
    if isinstance(last, IsolationForest):
        return Anomaly(float(-last.offset_))
    if is_regressor(last):
        width = _outputs_of(last)
        return Regression(tuple(quantities) or tuple(card.Quantity(name=f"output {n + 1}") for n in range(width)))
    return None


def _outputs_of(estimator: Any) -> int:
    """Return how many numbers a regressor answers: scikit-learn has no name for that that all of them have."""
    if isinstance(width := getattr(estimator, "n_outputs_", None), int | np.integer):
        return int(width)
    columns = getattr(estimator, "n_features_in_", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return int(np.asarray(estimator.predict(np.ones((1, columns)))).reshape(1, -1).shape[1])


def quantities_of(names: Sequence[str], units: Sequence[str] = ()) -> tuple[card.Quantity, ...]:
    """Return a regression's outputs. Raises `InputError` unless there is a unit for each, or none at all."""
    if units and len(units) != len(names):
        raise InputError(
            f"there are {len(units)} units for {len(names)} numbers; give --unit once for each --target, '' for none"
        )
    return tuple(
        card.Quantity(name=name, unit=unit) for name, unit in zip(names, units or [""] * len(names), strict=True)
    )


def _longest_of_anomalies(expected: float, offset: float) -> float:
    """Return the longest path length that is an anomaly, -1 if none is: the last at which scikit-learn's own formula says so."""

    def is_anomaly(length: float) -> bool:
        score = 2 ** (-np.divide(np.array([length]), expected))
        return bool((-score - offset < 0)[0])

    low, high = -1.0, float(np.finfo(np.float64).max)
    if is_anomaly(high):
        return high
    for _ in range(_HALVINGS):
        middle = low + (high - low) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if is_anomaly(middle) else (low, middle)
    return low


def _trees(folded: Folded) -> list[Any]:
    if folded.trees is None:
        name = type(split(folded.estimator)[1]).__name__
        raise InputError(
            f"{name}: can be exported with nothing but scalers in front (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler); "
            "train it without the other steps"
        )
    return folded.trees


def _texts(labels: NDArray[np.str_]) -> tuple[str, ...]:
    return tuple(map(str, labels))


def _within_1(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities between 0 and 1 where they are off by the last steps of a sum; others stay as they are."""
    inside = np.clip(probabilities, 0.0, 1.0)
    return np.where(np.abs(inside - probabilities) <= PROBABILITIES_ALIKE.tolerance, inside, probabilities)


def _rows(numbers: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in numbers)
