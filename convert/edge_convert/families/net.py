"""How a fitted estimator that is not made of trees alone becomes a float64 graph: part by part, as scikit-learn computes it.

Each family has a function in a module beside this one, which is handed the `Net` to write to, the fitted estimator and its
`Columns`; `registry` says which function belongs to which class. The rules:

* Everything is float64, in the order in which scikit-learn computes it; what it rounds to float32 (trees) is rounded here, too.
* A label is decided by what scikit-learn decides it by (decision function, votes, threshold), and not by the largest probability:
  where everything is saturated these are not the same.
* Names of nodes come from the `Writer`, so a family may occur in a model as often as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto
from sklearn.pipeline import Pipeline

from edge_agent.errors import InputError
from edge_convert.boosters import opening as boosters
from edge_convert.classifier import unwrapped
from edge_convert.families.refusals import reason_of
from edge_convert.words import Words
from edge_convert.writer import Writer

Operand = Any  # the name of a tensor, or a number or array, which becomes a constant


@dataclass(frozen=True)
class Columns:
    """The rows that an estimator gets: the tensor (n, columns) float64, and the words of columns that hold codes of words."""

    name: str
    words: Mapping[int, Words] = field(default_factory=dict)


class Classified(NamedTuple):
    """What a classifier says: `place` (n,) int64 is where the label is in `classes_`; `probabilities` (n, labels) and `decision`
    ((n, 1) where there are two labels, else as scikit-learn has it), None where it has none.
    """

    place: str
    probabilities: str | None = None
    decision: str | None = None


@dataclass(frozen=True)
class Registry:
    """Which function writes which class of estimator, by what is asked of it."""

    transformers: Mapping[type, Callable[[Net, Any, Columns], Columns | str]]
    classifiers: Mapping[type, Callable[[Net, Any, Columns], Classified]]
    regressors: Mapping[type, Callable[[Net, Any, Columns], str]]


class UnknownFamilyError(InputError):
    """There is no function for a class of estimator."""


class Net(Writer):
    """A graph under construction."""

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self._registry = registry

    # -- parts of a model

    def transform(self, estimator: Any, x: Columns) -> Columns:
        """Write what a transformer makes of `x`."""
        if estimator is None or (isinstance(estimator, str) and estimator == "passthrough"):
            return x
        if isinstance(estimator, Pipeline):
            for _, step in estimator.steps:
                x = self.transform(step, x)
            return x
        written = self._find(self._registry.transformers, estimator)(self, estimator, x)
        return written if isinstance(written, Columns) else Columns(written)

    def classify(self, estimator: Any, x: Columns) -> Classified:
        """Write what a classifier says of `x`."""
        last, x = self.last(estimator, x)
        written: Classified = self._find(self._registry.classifiers, last)(self, last, x)
        return written

    def estimate(self, estimator: Any, x: Columns) -> str:
        """Write the numbers (n, outputs) that a regressor answers."""
        last, x = self.last(estimator, x)
        written: str = self._find(self._registry.regressors, last)(self, last, x)
        return written

    def last(self, estimator: Any, x: Columns) -> tuple[Any, Columns]:
        """Write the steps before the last one; return that, and what it gets."""
        last = unwrapped(estimator)
        while isinstance(last, Pipeline):
            for _, step in last.steps[:-1]:
                x = self.transform(step, x)
            last = last.steps[-1][1]
        return last, x

    @staticmethod
    def _find(functions: Mapping[type, Callable[..., Any]], estimator: Any) -> Callable[..., Any]:
        # The very class: one derived from it may answer in another way.
        found = functions.get(type(estimator))
        if found is None:
            why = boosters.inside(estimator) or reason_of(estimator, functions)
            raise UnknownFamilyError(f"{type(estimator).__name__} {why}")
        return found

    # -- arithmetic

    def op(self, operator: str, *operands: Operand, **attributes: Any) -> str:
        """Add a node; numbers and arrays become constants: float64, int64 or bool. Return the name of its output."""
        return self.add(operator, *map(self._lifted, operands), **attributes)

    def _lifted(self, operand: Operand) -> str:
        if isinstance(operand, str):
            return operand
        array = np.asarray(operand)
        kind = {"b": np.bool_, "i": np.int64, "u": np.int64}.get(array.dtype.kind, np.float64)
        return self.constant(array, kind)

    def columns(self, x: str, places: Sequence[int] | Any) -> str:
        """Return some of the columns."""
        return self.op("Gather", x, np.asarray(places, np.int64), axis=1)

    def beside(self, parts: Sequence[str]) -> str:
        """Return tensors (n, some) side by side."""
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=1)

    def sum(self, x: str) -> str:
        """Return the sum of each row, (n, 1)."""
        return self.op("ReduceSum", x, np.array([1]), keepdims=1)

    def running_sum(self, parts: Sequence[str]) -> str:
        """Return the sum of tensors, one after the other."""
        total = parts[0]
        for part in parts[1:]:
            total = self.op("Add", total, part)
        return total

    def largest(self, x: str) -> str:
        """Return where in each row the first of the largest is, (n,)."""
        return self.op("ArgMax", x, axis=1, keepdims=0)

    def flat(self, x: str) -> str:
        """Return (n, 1) as (n,)."""
        return self.op("Reshape", x, np.array([-1]))

    def number(self, x: str) -> str:
        """Return booleans or integers as float64."""
        return self.op("Cast", x, to=TensorProto.DOUBLE)

    def whole(self, x: str) -> str:
        """Return booleans or numbers as int64."""
        return self.op("Cast", x, to=TensorProto.INT64)

    def affine(self, x: str, weights: Any, first: Any) -> str:
        """Return `x @ weights + first`; `weights` (columns, k)."""
        return self.op("Add", self.op("MatMul", x, np.asarray(weights, np.float64)), np.asarray(first, np.float64))

    def logistic(self, x: str) -> str:
        """Return 1 / (1 + exp(-x))."""
        return self.op("Div", 1.0, self.op("Add", self.op("Exp", self.op("Neg", x)), 1.0))

    def softmax(self, x: str) -> str:
        """Return exp(x) as shares of each row's sum."""
        powers = self.op("Exp", self.op("Sub", x, self.op("ReduceMax", x, axes=[1], keepdims=1)))
        return self.op("Div", powers, self.sum(powers))

    def shares(self, x: str) -> str:
        """Return numbers as shares of each row's sum; all alike where that is 0."""
        total = self.sum(x)
        none = self.op("Equal", total, 0.0)
        filled = self.op("Where", none, 1.0, x)
        return self.op("Div", filled, self.op("Where", none, self.sum(filled), total))

    def both(self, second: str) -> str:
        """Return the probabilities (n, 2), from those of the second label (n, 1)."""
        return self.beside([self.op("Sub", 1.0, second), second])

    def ones(self, x: str) -> str:
        """Return ones, (n, 1), for as many rows as `x` has."""
        missing = self.number(self.op("IsNaN", self.columns(x, [0])))
        return self.op("Sub", self.op("Add", missing, 1.0), missing)

    def above(self, decision: str, threshold: float = 0.0, *, equal: bool = False) -> str:
        """Return the places (n,) of two labels: the second where `decision` (n, 1) is above the threshold."""
        return self.flat(self.whole(self.op("GreaterOrEqual" if equal else "Greater", decision, threshold)))

    def decided(self, decision: str, labels: int, probabilities: str | None = None) -> Classified:
        """Return what scikit-learn's linear classifiers say: above 0, or the largest."""
        index = self.above(decision) if labels <= 2 else self.largest(decision)
        return Classified(index, probabilities, decision)

    def among(self, labels: Any, part: Any, index: str) -> str:
        """Return places in `labels` for places in the labels of a part."""
        if np.array_equal(labels, part):
            return index
        places = {label: place for place, label in enumerate(np.asarray(labels).tolist())}
        return self.op("Gather", np.array([places[label] for label in np.asarray(part).tolist()]), index)

    def spread(self, labels: Any, part: Any, probabilities: str) -> str:
        """Return probabilities of a part's labels as those of `labels`, 0 for what it does not know."""
        if np.array_equal(labels, part):
            return probabilities
        matrix = (np.asarray(part)[:, np.newaxis] == np.asarray(labels)[np.newaxis]).astype(np.float64)
        return self.op("MatMul", probabilities, matrix)
