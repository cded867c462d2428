"""A foreign file, what it answered for the rows of a table, and what the person says of it: all that its meaning is found out from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_convert.foreign.outputs import Asked, Said
from edge_convert.foreign.reading import Original
from edge_convert.tables import Table

#: How far the agent lets probabilities be outside 0 to 1, and their sum from 1.
_EXACT: Final = 1e-6
_SUM: Final = 1e-3


class Hints(NamedTuple):
    """What the person says: `--output`, `--scores`, `--label-names`."""

    outputs: tuple[str, ...] = ()
    scores: str | None = None
    label_names: tuple[str, ...] = ()


class Case(NamedTuple):
    """What there is to go by."""

    original: Original
    asked: Asked
    answered: Said
    table: Table
    hints: Hints

    @property
    def where(self) -> Path:
        """The file, for messages."""
        return self.original.path

    @property
    def width(self) -> int:
        """How many numbers it answers for a row."""
        return 0 if self.answered.numbers is None else self.answered.numbers.shape[1]

    @property
    def n_labels(self) -> int:
        """How many labels these numbers are for: one number stands for two; 0 where there are none."""
        return 2 if self.width == 1 else self.width

    @property
    def column(self) -> str:
        """The column of the table's labels, for messages."""
        return repr(self.table.label_column)

    @property
    def targets(self) -> list[NDArray[np.str_]]:
        """The table's columns of what is to be answered, (n,) each."""
        return [] if self.table.labels is None else [self.table.labels, *self.table.others.values()]

    @property
    def is_numbered(self) -> bool:
        """Whether it answers labels by number."""
        return self.answered.labels is not None and self.answered.labels.dtype.kind in "iu"

    @property
    def has_probabilities(self) -> bool:
        """Whether its numbers can be probabilities: of each label, or one of the second of two."""
        numbers = self.answered.numbers
        if numbers is None:
            return False
        wide = numbers.astype(np.float64)
        wide = np.c_[1 - wide, wide] if self.width == 1 else wide
        inside = (wide >= -_EXACT) & (wide <= 1 + _EXACT)
        return bool(inside.all() and (np.abs(wide.sum(axis=1) - 1) <= _SUM).all())


def is_numeric(texts: NDArray[np.str_]) -> bool:
    """Return whether all of these are finite numbers."""
    try:
        return bool(np.isfinite(texts.astype(np.float64)).all())
    except ValueError:
        return False


def in_order(values: Iterable[str]) -> tuple[str, ...]:
    """Return different values in their order: numbers by size, else by the alphabet, as scikit-learn's LabelEncoder has them."""
    different = set(values)
    return tuple(sorted(different, key=float) if is_numeric(np.array(list(different))) else sorted(different))


def largest(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Return the place of the largest number of each row, the first of equals."""
    return np.argmax(np.nan_to_num(numbers, nan=-np.inf), axis=1)
