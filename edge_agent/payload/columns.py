"""Checks the rows of a batch by column; only invalid rows are handled one by one.

Rules:

* the result, including all texts, is the same as that of `checks.Checker` for each row;
* work and memory are proportional to the payload: a row with few of the features is checked individually;
* the checker, and pydantic behind it, decide what plain code can't (whether a text is a number).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final

from edge_agent.contract.messages import MAX_DETAILS
from edge_agent.payload.checks import Brief, Checker, Features, Unusable, echo, may_be_a_number

#: Most reasons of one batch's rejections, besides the first of each row.
_BATCH_DETAILS: Final = 1000
#: With fewer rows, columns take more work than they save.
_FEW: Final = 8
_NUMBERS: Final = frozenset({float, int})
#: Texts that Python and pydantic parse to the same number.
_NUMERAL: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
#: Placeholder for a missing value.
_MISSING: Final = object()


class BatchTable:
    """Checks rows as they are added, up to `ROWS` at once: `values` and `echoes` of those that can be used, in order,
    and `rejected` ones by position.
    """

    ROWS: ClassVar[int] = 512

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._blank = dict.fromkeys(checker.names, _MISSING)
        self.values: list[tuple[float, ...]] = []
        self.echoes: list[dict[str, Any]] = []
        self.rejected: dict[int, Unusable | Brief] = {}
        self._left = _BATCH_DETAILS

    def add(self, rows: Sequence[Any], sent: Sequence[Any]) -> None:
        """Check the next rows; `sent` has each as received, before `fields` were applied."""
        checker, rejected = self._checker, self.rejected
        begin = len(self.values) + len(rejected)
        laid, cells = self._lay_out(rows)
        columns = _Columns(checker, cells)
        usable: dict[int, tuple[float, ...]] = dict(zip(laid, zip(*columns.values, strict=True), strict=True))
        wrong = {laid[index]: index for index in columns.first}
        if len(laid) < len(rows):
            wrong.update(dict.fromkeys(set(range(len(rows))).difference(laid), -1))
        for position in sorted(wrong):
            index, row = wrong[position], rows[position]
            more = columns.mistakes[index] - 1 if index >= 0 else 0
            usable.pop(position, None)
            found: Features | Unusable | Brief
            if index < 0 or index in columns.unsure or (more and self._left > 1):
                reasons = min(MAX_DETAILS, self._left) if self._left > 1 else 1
                found = checker.check_of_many(row, sent[position], reasons=reasons)
                if isinstance(found, Features):
                    usable[position] = found.values
                    continue
            else:
                found = checker.brief(row, sent[position], *columns.first[index], more)
            rejected[begin + position] = found
            if self._left > 1:
                self._left -= len(found.detail) if isinstance(found, Unusable) else 1 + (found[0].more > 0)
        kept = sorted(usable)
        self.values += map(usable.__getitem__, kept)
        self.echoes += [echo(rows[position]) for position in kept]

    def _lay_out(self, rows: Sequence[Any]) -> tuple[Sequence[int], list[tuple[Any, ...]]]:
        """Return which rows are checked by column, and the values of each, including missing ones."""
        if len(rows) < _FEW or not self._checker.plain:
            return (), []
        pick, width = self._checker.pick, len(self._blank)
        try:
            return range(len(rows)), list(map(pick, rows))
        except (KeyError, TypeError):  # missing, or no object
            laid = [at for at, row in enumerate(rows) if isinstance(row, dict) and 2 * len(row) >= width]
            return laid, [pick(self._blank | rows[at]) for at in laid]


class _Columns:
    """The `values` of rows by column, as floats; where one is none in bounds, any may stand in its place.

    `first` has the first such feature of a row and the kind of mistake, by the row's place, `mistakes` how many there are.
    In `unsure` are the places of rows with a text that may be a number.
    """

    def __init__(self, checker: Checker, cells: Sequence[tuple[Any, ...]]) -> None:
        self.first: dict[int, tuple[str, str]] = {}
        self.mistakes = [0] * len(cells)
        self.unsure: set[int] = set()
        self._checker = checker
        self.values: list[Sequence[float]] = [
            _floats(column, limits) or self._look_through(name, column, limits)
            for name, limits, column in zip(checker.names, checker.bounds, zip(*cells, strict=True), strict=bool(cells))
        ]

    def _look_through(self, name: str, column: Sequence[Any], limits: tuple[float, float]) -> list[float]:
        """Record the errors in one column; return it as floats."""
        low, high = limits
        numbers = list(column)
        mistakes, first = self.mistakes, self.first
        for index, value in enumerate(column):
            if type(value) is float:
                if low <= value <= high:
                    continue
                kind = _beyond(value, high)
            elif value is _MISSING:
                kind = "missing"
            else:
                number = numbers[index] = self._number(index, value)
                if low <= number <= high:
                    continue
                kind = self._checker.kind(name, value) if number != number else _beyond(number, high)  # noqa: PLR0124
            mistakes[index] += 1
            if mistakes[index] == 1:
                first[index] = name, kind
        return numbers

    def _number(self, index: int, value: Any) -> float:
        """Return a value as a number; NaN when it is not one, or when that is uncertain."""
        if type(value) is str:
            if may_be_a_number(value):
                if _NUMERAL.fullmatch(value):
                    return float(value)
                self.unsure.add(index)
        elif type(value) is int:
            with suppress(OverflowError):
                return float(value)
        return math.nan


def _beyond(number: float, high: float) -> str:
    """Return the kind of error of a number out of bounds."""
    if number - number != 0:
        return "finite_number"
    return "less_than_equal" if number > high else "greater_than_equal"


def _floats(column: Sequence[Any], limits: tuple[float, float]) -> Sequence[float] | None:
    """Return a column as floats if it contains only numbers in bounds."""
    kinds = set(map(type, column))
    if not kinds <= _NUMBERS:
        return None
    if int in kinds:
        try:
            column = tuple(map(float, column))
        except OverflowError:
            return None
    # `min` and `max` may miss NaN; a sum does not.
    return column if limits[0] <= min(column) and max(column) <= limits[1] and math.isfinite(sum(column)) else None
