"""What models answer: all that is known of one kind of answer, from the graph's outputs to the cells of a table.

Rules:

* a kind of answer is one class here, and what the card has to say for it (`edge_agent.contract.card`). Nobody else looks
  into what a graph gives, nor into the fields that are made of it;
* `pack` is on the path of every message; all others are called once a model, or once for each answer that differs;
* `fields` is the last look at what a model gave: what it returns goes out.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_agent.contract.card import ModelCard
from edge_agent.contract.messages import Classified, Probabilities

#: What a graph gave for n rows: an array (n, ...) for each of an output's `names`, in their order.
Arrays: TypeAlias = Sequence[npt.NDArray[Any]]

#: Probabilities on the wire are rounded to this many decimals: as fine as the self-test is exact.
DECIMALS: Final = 6

_FLOAT32: Final = np.dtype(np.float32)
#: How far probabilities may lie outside of 0 to 1, and their sum from 1: 1,024 of them, rounded to six decimals, and those
#: of large forests, summed up in float32, stay below.
_EXACT: Final = 1e-6
_SUM: Final = 1e-3
#: Probabilities that are shown when something is wrong with them.
_SHOWN: Final = 10


class UnfitError(ValueError):
    """A graph does not give what its card promises: says what it has to give, and what it gives."""


class Output(Protocol):
    """One kind of answer, of one model."""

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs that the graph has to have."""

    @property
    def width(self) -> int:
        """How many numbers are in one answer: so many fewer are asked for at once, and kept."""

    def differences(self, arrays: Arrays) -> npt.NDArray[np.float64]:
        """Return how far each answer is from what the card's self-test says, (n,): infinite where no tolerance helps.

        Raises `UnfitError` when there are not as many, or not of that shape.
        """

    def check(self, arrays: Arrays) -> None:
        """Raise `UnfitError` when one of the self-test's answers must not go out, whatever the self-test says."""

    def pack(self, arrays: Arrays) -> Sequence[Hashable]:
        """Return the answers one by one, (n,), in what is quickest to look up: equal ones are equal."""

    def read(self, packed: Any) -> Any:
        """Return one of them as `fields` takes it."""

    def fields(self, values: Any) -> Mapping[str, object]:
        """Return an answer as it goes out, in this order and before `model` and `version`.

        Numbers by name are an `edge_agent.contract.messages.Each`. Raises `ValueError` when it must not go out.
        """

    @property
    def described(self) -> Mapping[str, object]:
        """What the info of a node says of it."""

    @property
    def summary(self) -> str:
        """What it may answer, in a few words."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What people look for in an answer: the titles of `cells`."""

    def cells(self, answer: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what people see of an answer, a text for each of `columns`."""


def output_of(card: ModelCard) -> Output:
    """Return what the model of a card answers."""
    return {"classification": Labels}[card.task](card)


class Labels:
    """A label, with the probabilities of all. Read as the label and the probabilities, (labels,)."""

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
        """Return how far the probabilities of a row are off at most; infinite where the label is another one."""
        labels, probabilities = np.asarray(arrays[0]), np.asarray(arrays[1], np.float64)
        expected = np.asarray(self._test.probabilities)
        if labels.shape != expected.shape[:1] or probabilities.shape != expected.shape:
            raise UnfitError(
                f"for {len(expected)} rows it has to give as many labels, and probabilities {expected.shape}; "
                f"it gives {labels.shape} and {probabilities.shape}"
            )
        others = [given != right for given, right in zip(labels.tolist(), self._test.labels, strict=True)]
        return np.where(others, math.inf, np.abs(probabilities - expected).max(axis=1))

    def check(self, arrays: Arrays) -> None:
        """Raise `UnfitError` for what are no probabilities."""
        for row, values in enumerate(np.asarray(arrays[1], np.float64).tolist()):
            if not are_probabilities(values):
                raise UnfitError(
                    f"what the model gives for row {row} of its self-test are no probabilities: they have to lie from 0 to 1 "
                    "and to sum to 1"
                )

    def pack(self, arrays: Arrays) -> list[tuple[str, bytes]]:
        """Return labels and float32 as bytes: floats to look up would have to be made first, and there are few that differ."""
        labels, probabilities = arrays
        rows: list[bytes] = np.ascontiguousarray(probabilities, _FLOAT32).view(self._row).ravel().tolist()
        return list(zip(labels.tolist(), rows, strict=True))

    def read(self, packed: tuple[str, bytes]) -> tuple[str, list[float]]:
        """Return the label and the probabilities, rounded."""
        label, raw = packed
        return label, np.frombuffer(raw, _FLOAT32).astype(np.float64).round(DECIMALS).tolist()

    def fields(self, values: tuple[str, Sequence[float]]) -> Classified:
        """Return label, confidence and probabilities; raises `ValueError` for what are none."""
        label, probabilities = values
        if not are_probabilities(probabilities):
            raise ValueError(f"these are no probabilities: {probabilities[:_SHOWN]}")
        return {
            "label": label,
            "confidence": probabilities[self._column[label]],
            "probabilities": Probabilities(zip(self._labels, probabilities, strict=True)),
        }

    def cells(self, answer: Mapping[str, Any]) -> tuple[str, str]:
        """Return the label and how sure of it the model is."""
        return answer["label"], f"{answer['confidence']:.3f}"


def are_probabilities(values: Sequence[float]) -> bool:
    """Tell whether all are from 0 to 1 and their sum is 1, as exactly as float32 and rounding let them be."""
    # Written so that a NaN counts as wrong.
    return all(-_EXACT <= value <= 1 + _EXACT for value in values) and abs(math.fsum(values) - 1) <= _SUM
