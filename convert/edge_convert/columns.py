"""What the cells of a column are: numbers, missing values, words, timestamps.

Rules:

* a number is what Python's `float` makes of the text, to the last bit; but `1_000`, digits of other scripts and booleans are
  none, for the agent takes none of these;
* a missing value is an empty cell, null, NaN, or a mark that stands for one (`NA`, `?`, …): NaN here;
* timestamps are no features: a model that knows the day it was trained on knows nothing of tomorrow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.contract.card import FLOAT32_MAX
from edge_agent.contract.tabular import MISSING
from edge_convert.arrow import ArrowCells

Cell = object
"""What a file holds: text from CSV; text, number, boolean or None from JSON and Parquet."""

#: What does so among numbers; in a column of words it may be a word.
MISSING_NUMBERS: Final = MISSING | {"NULL", "null", "None", "none", "-", "."}

_DATE: Final = (
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    r"|[A-Za-z]{3,9}\.? \d{1,2},? \d{4}|\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4}"
)
_CLOCK: Final = r"\d{1,2}(:\d{2}(:\d{2}([.,]\d+)?)?|\.\d{2}\.\d{2})( ?[AaPp][Mm])?"
_TIMESTAMP: Final = re.compile(rf"(({_DATE})([T ]+{_CLOCK})?|{_CLOCK})( ?(Z|UTC|[+-]\d{{2}}:?\d{{2}}))?")


class Bad(NamedTuple):
    """Cells of a column that can't be what the column is: the first one's row, what it is, and how many there are."""

    row: int
    reason: str
    cells: int


class Numbers(NamedTuple):
    """A column as float64 (n,), NaN where `missing` (n,) says so or where a cell is `bad`."""

    values: NDArray[np.float64]
    missing: NDArray[np.bool_]
    bad: Bad | None


def numbers(cells: Sequence[Cell], decimal: str = ".") -> Numbers:
    """Return a column as numbers; `decimal` is the decimal separator of text."""
    values = _at_once(cells, decimal)
    if values is not None and not (np.abs(values) > FLOAT32_MAX).any():
        return Numbers(values, np.isnan(values), None)
    return coded(cells, lambda cell: number(cell, decimal), MISSING_NUMBERS)


def coded(cells: Sequence[Cell], code: Callable[[Cell], float], marks: frozenset[str] = MISSING) -> Numbers:
    """Return what `code` makes of each different cell of a column, which raises `ValueError` for what it doesn't take."""
    different, which = encode(cells)
    codes, missing = np.full(len(different), np.nan), np.zeros(len(different), dtype=bool)
    reasons: dict[int, str] = {}
    for position, cell in enumerate(different):
        if is_missing(cell, marks):
            missing[position] = True
            continue
        try:
            codes[position] = code(cell)
        except ValueError as error:
            reasons[position] = str(error)
    bad = None
    if reasons:
        wrong = np.flatnonzero(np.isin(which, list(reasons)))
        bad = Bad(int(wrong[0]), reasons[int(which[wrong[0]])], len(wrong))
    return Numbers(codes[which], missing[which], bad)


def number(cell: Cell, decimal: str = ".") -> float:
    """Return a finite number within float32. Raises `ValueError` saying what the cell is instead."""
    value = parse(cell, decimal)
    if value is None:
        if decimal == "." and isinstance(cell, str) and parse(cell, ",") is not None:
            raise ValueError(f"{short(cell)} is not a number (a decimal comma? --decimal ,)")
        raise ValueError(f"{short(cell)} is not a number (--drop leaves a column out)")
    if not math.isfinite(value):
        raise ValueError(f"{short(cell)} is not finite (no model takes that)")
    if abs(value) > FLOAT32_MAX:
        raise ValueError(f"{short(cell)} is beyond what float32 holds")
    return value


def parse(cell: Cell, decimal: str = ".") -> float | None:
    """Return the number that a cell is, if it is one."""
    # float() takes True, "1_000" and digits of other scripts, too; the agent takes none of these for a number.
    if isinstance(cell, bool) or not isinstance(cell, str | int | float | Decimal):
        return None
    if isinstance(cell, str):
        if "_" in cell or not cell.strip().isascii():
            return None
        if decimal != ".":
            if "." in cell:
                return None
            cell = cell.replace(decimal, ".")
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def is_missing(cell: Cell, marks: frozenset[str] = MISSING) -> bool:
    """Tell whether a cell is empty, null, NaN or one of the marks for that."""
    if cell is None:
        return True
    if isinstance(cell, float):
        return math.isnan(cell)
    return isinstance(cell, str) and cell.strip() in marks


def holds_times(cells: Sequence[Cell]) -> bool:
    """Tell whether all cells that are not missing are dates, times of day or both."""
    if isinstance(cells, ArrowCells) and cells.is_time:
        return True
    some = [cell for cell in cells[:100] if not is_missing(cell)]
    if not some or not all(_is_time(cell) for cell in some):
        return False
    return all(_is_time(cell) for cell in encode(cells)[0] if not is_missing(cell))


def encode(cells: Sequence[Cell]) -> tuple[list[Cell], NDArray[np.int64]]:
    """Return the different cells in the order of their first appearance, and for each row which one it is."""
    if isinstance(cells, ArrowCells):
        return cells.encode()
    # 1, 1.0 and True are equal to Python, and different cells to us; lists and objects can't be keys.
    positions: dict[tuple[type, str], int] = {}
    different: list[Cell] = []
    which = np.empty(len(cells), dtype=np.int64)
    for row, cell in enumerate(cells):
        key = type(cell), cell if isinstance(cell, str) else repr(cell)
        if key not in positions:
            positions[key] = len(different)
            different.append(cell)
        which[row] = positions[key]
    return different, which


def short(cell: Cell) -> str:
    """Return a cell for a message."""
    text = repr(cell)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _is_time(cell: Cell) -> bool:
    return isinstance(cell, str) and _TIMESTAMP.fullmatch(cell.strip()) is not None


def _at_once(cells: Sequence[Cell], decimal: str) -> NDArray[np.float64] | None:
    """Return a column of numbers and missing values only, quickly; None if there is anything else in it."""
    if isinstance(cells, ArrowCells):
        return cells.numbers(decimal, MISSING_NUMBERS)
    if not set(map(type, cells)) <= {int, float, type(None)}:
        return None
    try:
        found = np.array([math.nan if cell is None else float(cell) for cell in cells])  # type: ignore[arg-type]
    except OverflowError:
        return None
    return None if np.isinf(found).any() else found
