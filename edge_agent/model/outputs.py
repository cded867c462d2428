"""The kinds of answers that models give, from the graph's outputs to the cells of a table.

Rules:

* each kind of answer is one class here, with its part of the model card (`edge_agent.contract.card`). No other module
  interprets a graph's outputs, or the fields made from them;
* `pack` runs for every message; the other methods run once per model, or once for each distinct answer;
* `fields` makes the last check of a model's output: whatever it returns is published.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_agent.contract.answers import Classified, Decided, Detected, Estimated, EstimatedAll, Probabilities, Values
from edge_agent.contract.card import ANOMALY, NORMAL, ModelCard

#: A graph's outputs for n rows: an array (n, ...) for each of an output's `names`, in their order.
Arrays: TypeAlias = Sequence[npt.NDArray[Any]]

#: Decimals of probabilities on the wire: the precision of the self-test.
DECIMALS: Final = 6

#: Significant digits of values on the wire: more than any sensor has, and fewer than differ between two processors.
DIGITS: Final = 12

_FLOAT32: Final = np.dtype(np.float32)
_FLOAT64: Final = np.dtype(np.float64)
#: A graph that answers numbers holds a number for each tree of a forest and each row: so many rows at once as with this many
#: values in an answer.
_WIDTH: Final = 32
#: How far probabilities may be outside 0 to 1, and their sum from 1. 1,024 of them rounded to six decimals, and those of
#: large forests summed in float32, stay below.
_EXACT: Final = 1e-6
_SUM: Final = 1e-3
#: Most probabilities that an error message shows.
_SHOWN: Final = 10


class UnfitError(ValueError):
    """A graph's outputs do not match its card: the message gives what is expected, and what was returned."""


class Output(Protocol):
    """One kind of answer, of one model."""

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs that the graph must have."""

    @property
    def width(self) -> int:
        """The number of values in one answer; it bounds how many rows run at once, and how many answers are cached."""

    def differences(self, arrays: Arrays) -> npt.NDArray[np.float64]:
        """Return each answer's difference from the card's self-test, (n,): infinite where no tolerance applies.

        Raises `UnfitError` when number or shape differ.
        """

    def check(self, arrays: Arrays) -> None:
        """Raise `UnfitError` when one of the self-test's answers must not be published, even if it matches."""

    def pack(self, arrays: Arrays) -> Sequence[Hashable]:
        """Return one hashable value per answer, (n,), for fast lookup: equal answers give equal values."""

    def read(self, packed: Any) -> Any:
        """Decode one value of `pack` for `fields`."""

    def fields(self, values: Any) -> Mapping[str, object]:
        """Return an answer's fields as published, in this order, before `model` and `version`.

        Numbers by name are an `edge_agent.contract.messages.Each`. Raises `ValueError` when it must not be published.
        """

    def doubted(self, fields: Mapping[str, Any], least: float) -> Mapping[str, object] | None:
        """Return the `fields` of an answer as published where its confidence is below `least`; None when it is not."""

    @property
    def has_confidence(self) -> bool:
        """Whether an answer tells how sure the model is; otherwise no route may ask for a `min_confidence`."""

    @property
    def described(self) -> Mapping[str, object]:
        """Its description in the node's info."""

    @property
    def summary(self) -> str:
        """Its possible answers, in a few words."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The titles of `cells`."""

    def cells(self, answer: Mapping[str, Any]) -> tuple[str, ...]:
        """Return an answer for people: a text for each of `columns`."""


def output_of(card: ModelCard) -> Output:
    """Return the kind of answer of a card's model."""
    kinds: Mapping[str, Callable[[ModelCard], Output]] = {
        "classification": Labels if card.has_probabilities else Decisions,
        "regression": Numbers,
        "anomaly": Verdicts,
    }
    return kinds[card.task](card)


class Labels:
    """A label with the probabilities of all labels. Decoded as the label and the probabilities, (labels,)."""

    names: Final = ("label", "probabilities")
    columns: Final = ("label", "confidence")
    has_confidence: Final = True

    def __init__(self, card: ModelCard) -> None:
        self._labels = card.labels
        self._column = {label: position for position, label in enumerate(card.labels)}
        self._test = card.self_test
        self.width = len(card.labels)
        self._row: np.dtype[Any] = np.dtype((np.void, _FLOAT32.itemsize * self.width))
        self.described = {"labels": list(card.labels)}
        self.summary = ", ".join(card.labels)

    def differences(self, arrays: Arrays) -> npt.NDArray[np.float64]:
        """Return the largest difference of each row's probabilities; infinite where the label differs."""
        labels, probabilities = np.asarray(arrays[0]), np.asarray(arrays[1], np.float64)
        expected = np.asarray(self._test.probabilities)
        if labels.shape != expected.shape[:1] or probabilities.shape != expected.shape:
            raise UnfitError(
                f"for {len(expected)} rows it must return as many labels, and probabilities {expected.shape}; "
                f"it returns {labels.shape} and {probabilities.shape}"
            )
        others = [given != right for given, right in zip(labels.tolist(), self._test.labels, strict=True)]
        return np.where(others, math.inf, np.abs(probabilities - expected).max(axis=1))

    def check(self, arrays: Arrays) -> None:
        """Raise `UnfitError` for invalid probabilities."""
        for row, values in enumerate(np.asarray(arrays[1], np.float64).tolist()):
            if not are_probabilities(values):
                raise UnfitError(
                    f"row {row} of the self-test gives invalid probabilities: they must lie between 0 and 1 and sum to 1"
                )

    def pack(self, arrays: Arrays) -> list[tuple[str, bytes]]:
        """Return labels and float32 values as bytes: Python floats would first have to be created, mostly equal ones."""
        labels, probabilities = arrays
        rows: list[bytes] = np.ascontiguousarray(probabilities, _FLOAT32).view(self._row).ravel().tolist()
        return list(zip(labels.tolist(), rows, strict=True))

    def read(self, packed: tuple[str, bytes]) -> tuple[str, list[float]]:
        """Return the label and the rounded probabilities."""
        label, raw = packed
        return label, np.frombuffer(raw, _FLOAT32).astype(np.float64).round(DECIMALS).tolist()

    def fields(self, values: tuple[str, Sequence[float]]) -> Classified:
        """Return label, confidence and probabilities; raises `ValueError` for invalid ones."""
        label, probabilities = values
        if not are_probabilities(probabilities):
            raise ValueError(f"not valid probabilities: {probabilities[:_SHOWN]}")
        return {
            "label": label,
            "confidence": probabilities[self._column[label]],
            "probabilities": Probabilities(zip(self._labels, probabilities, strict=True)),
        }

    def doubted(self, fields: Mapping[str, Any], least: float) -> Mapping[str, object] | None:
        """Return the fields without the label: it stays first, so that SenML's records begin with what is there."""
        if fields["confidence"] >= least:
            return None
        return {"label": None, "uncertain": True, **{name: fields[name] for name in ("confidence", "probabilities")}}

    def cells(self, answer: Mapping[str, Any]) -> tuple[str, str]:
        """Return the label and the confidence."""
        return answer["label"] or "(uncertain)", f"{answer['confidence']:.3f}"


class Decisions:
    """A label and nothing else (docs/decisions/0034). Decoded as the label."""

    names: Final = ("label",)
    columns: Final = ("label",)
    has_confidence: Final = False

    def __init__(self, card: ModelCard) -> None:
        self._labels = frozenset(card.labels)
        self._test = card.self_test
        self.width = len(card.labels)
        self.described = {"labels": list(card.labels), "probabilities": False}
        self.summary = ", ".join(card.labels)

    def differences(self, arrays: Arrays) -> npt.NDArray[np.float64]:
        """Return 0 where the label is right, infinity where it differs."""
        labels, expected = np.asarray(arrays[0]), self._test.labels
        if labels.shape != (len(expected),):
            raise UnfitError(f"for {len(expected)} rows it must return as many labels; it returns {labels.shape}")
        others = [given != right for given, right in zip(labels.tolist(), expected, strict=True)]
        return np.where(others, math.inf, 0.0)

    def check(self, arrays: Arrays) -> None:
        """Accept all: a label that differs is not served."""

    def pack(self, arrays: Arrays) -> list[str]:
        """Return the labels."""
        labels: list[str] = arrays[0].tolist()
        return labels

    def read(self, packed: str) -> str:
        """Return the label."""
        return packed

    def fields(self, values: str) -> Decided:
        """Return the label. Raises `ValueError` for one that is not on the card."""
        if values not in self._labels:
            raise ValueError(f"not a label of the model: {values!r:.80}")
        return {"label": values}

    def doubted(self, fields: Mapping[str, Any], least: float) -> None:
        """Return None: nothing tells how sure a label is."""

    def cells(self, answer: Mapping[str, Any]) -> tuple[str]:
        """Return the label."""
        return (answer["label"],)


class Numbers:
    """Numbers, one for each output of the card. Decoded as a list of them, (outputs,)."""

    names: Final = ("values",)
    has_confidence: Final = False

    def __init__(self, card: ModelCard) -> None:
        self._outputs = tuple(output.name for output in card.outputs)
        self._unit = card.outputs[0].unit
        self._units = [output.unit for output in card.outputs]
        self._test = card.self_test
        self.width = max(_WIDTH, len(card.outputs))
        self._row: np.dtype[Any] = np.dtype((np.void, _FLOAT64.itemsize * len(card.outputs)))
        self.columns = ("value",) if self._is_one else self._outputs
        self.described = {"outputs": [{"name": output.name, "unit": output.unit} for output in card.outputs]}
        self.summary = ", ".join(
            f"{output.name} in {output.unit}" if output.unit else output.name for output in card.outputs
        )

    @property
    def _is_one(self) -> bool:
        return len(self._outputs) == 1

    def differences(self, arrays: Arrays) -> npt.NDArray[np.float64]:
        """Return the largest difference of each row's values, as a share of the largest that the output has in the self-test."""
        expected = np.asarray(self._test.values)
        scale = np.abs(expected).max(axis=0)
        shares = np.abs(_of_shape(arrays[0], expected) - expected) / np.where(scale == 0, 1.0, scale)
        return np.asarray(shares.max(axis=1))

    def check(self, arrays: Arrays) -> None:
        """Accept all: the self-test has finite values only, and what is not finite differs from them."""

    def pack(self, arrays: Arrays) -> Sequence[Hashable]:
        """Return the number itself where there is one, else the bytes of all."""
        values = arrays[0]
        if self._is_one:
            return values.ravel().tolist()
        return np.ascontiguousarray(values, _FLOAT64).view(self._row).ravel().tolist()

    def read(self, packed: Any) -> list[float]:
        """Return the numbers."""
        return [packed] if self._is_one else np.frombuffer(packed, _FLOAT64).tolist()

    def fields(self, values: Sequence[float]) -> Estimated | EstimatedAll:
        """Return the value, with its unit if it has one, or the values by name. Raises `ValueError` for what is not finite."""
        if not all(map(math.isfinite, values)):
            raise ValueError(f"not finite: {values[:_SHOWN]}")
        shown = [float(f"{value:.{DIGITS}g}") for value in values]
        if not self._is_one:
            return {"values": Values(zip(self._outputs, shown, strict=True))}
        return {"value": shown[0], "unit": self._unit} if self._unit else {"value": shown[0]}

    def doubted(self, fields: Mapping[str, Any], least: float) -> None:
        """Return None: nothing tells how sure a number is."""

    def cells(self, answer: Mapping[str, Any]) -> tuple[str, ...]:
        """Return each value with its unit."""
        values = [answer["value"]] if self._is_one else [answer["values"][name] for name in self._outputs]
        return tuple(f"{value:g} {unit}".rstrip() for value, unit in zip(values, self._units, strict=True))


class Verdicts:
    """Normal or an anomaly, with the score. Decoded as the score and whether it is an anomaly.

    The graph itself says which it is: a score that lies next to the threshold may differ in its last bit from what scikit-learn
    compared.
    """

    names: Final = ("score", "anomaly")
    columns: Final = ("label", "score")
    has_confidence: Final = False
    width: Final = _WIDTH

    def __init__(self, card: ModelCard) -> None:
        self._test = card.self_test
        self.described = {"labels": [NORMAL, ANOMALY], "threshold": card.threshold}
        self.summary = f"{NORMAL}, {ANOMALY}"

    def differences(self, arrays: Arrays) -> npt.NDArray[np.float64]:
        """Return the difference of each row's score; infinite where the verdict differs."""
        expected = np.asarray(self._test.values)
        anomalies = np.asarray([[label == ANOMALY] for label in self._test.labels])
        difference = np.abs(_of_shape(arrays[0], expected) - expected)
        return np.where(_of_shape(arrays[1], expected) != anomalies, math.inf, difference)[:, 0]

    def check(self, arrays: Arrays) -> None:
        """Accept all: the self-test has finite scores only, and what is not finite differs from them."""

    def pack(self, arrays: Arrays) -> list[tuple[float, bool]]:
        """Return scores and verdicts."""
        scores, anomalies = arrays
        return list(zip(scores.ravel().tolist(), anomalies.ravel().tolist(), strict=True))

    def read(self, packed: tuple[float, bool]) -> tuple[float, bool]:
        """Return the score and whether it is an anomaly."""
        return packed

    def fields(self, values: tuple[float, bool]) -> Detected:
        """Return the label and the score. Raises `ValueError` for a score that is not finite."""
        score, anomaly = values
        if not math.isfinite(score):
            raise ValueError(f"not finite: {score}")
        return {"label": ANOMALY if anomaly else NORMAL, "score": round(score, DECIMALS)}

    def doubted(self, fields: Mapping[str, Any], least: float) -> None:
        """Return None: a score is no confidence."""

    def cells(self, answer: Mapping[str, Any]) -> tuple[str, str]:
        """Return the label and the score."""
        return answer["label"], f"{answer['score']:.3f}"


def _of_shape(array: npt.NDArray[Any], expected: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return `array`. Raises `UnfitError` when it has another shape than what is expected."""
    if array.shape != expected.shape:
        raise UnfitError(f"for {len(expected)} rows it must return values {expected.shape}; it returns {array.shape}")
    return array


def are_probabilities(values: Sequence[float]) -> bool:
    """Tell whether all are between 0 and 1 and sum to 1, within the precision of float32 and rounding."""
    # Written so that NaN counts as invalid.
    return all(-_EXACT <= value <= 1 + _EXACT for value in values) and abs(math.fsum(values) - 1) <= _SUM
