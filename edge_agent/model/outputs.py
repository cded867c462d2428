"""The kinds of answers that models give, from the graph's outputs to the cells of a table.

Rules:

* each kind of answer is one class here, with its part of the model card (`edge_agent.contract.card`). No other module
  interprets a graph's outputs, or the fields made from them;
* `pack` runs for every message; the other methods run once per model, or once for each distinct answer;
* `fields` makes the last check of a model's output: whatever it returns is published.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_agent.contract.card import ModelCard
from edge_agent.contract.messages import Classified, Probabilities

#: A graph's outputs for n rows: an array (n, ...) for each of an output's `names`, in their order.
Arrays: TypeAlias = Sequence[npt.NDArray[Any]]

#: Decimals of probabilities on the wire: the precision of the self-test.
DECIMALS: Final = 6

_FLOAT32: Final = np.dtype(np.float32)
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
    return {"classification": Labels}[card.task](card)


class Labels:
    """A label with the probabilities of all labels. Decoded as the label and the probabilities, (labels,)."""

    names: Final = ("label", "probabilities")
    columns: Final = ("label", "confidence")

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


def are_probabilities(values: Sequence[float]) -> bool:
    """Tell whether all are between 0 and 1 and sum to 1, within the precision of float32 and rounding."""
    # Written so that NaN counts as invalid.
    return all(-_EXACT <= value <= 1 + _EXACT for value in values) and abs(math.fsum(values) - 1) <= _SUM
