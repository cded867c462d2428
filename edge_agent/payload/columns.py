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
from operator import itemgetter
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
        self.values: list[tuple[float, ...]] = []
        self.echoes: list[dict[str, Any]] = []
        self.rejected: dict[int, Unusable | Brief] = {}
        self._left = _BATCH_DETAILS

    def add(self, rows: Sequence[Any], sent: Sequence[Any]) -> None:
        """Check the next rows; `sent` has each as received, before `fields` were applied."""
        checker, rejected = self._checker, self.rejected
        begin = len(self.values) + len(rejected)
        laid = self._laid(rows)
        columns = _Columns(checker, rows if len(laid) == len(rows) else [rows[at] for at in laid])
        first, mistakes, unsure = columns.first, columns.mistakes, columns.unsure
        wrong = {laid[index]: index for index in first}
        if len(laid) < len(rows):
            wrong.update(dict.fromkeys(set(range(len(rows))).difference(laid), -1))
        usable: dict[int, tuple[float, ...]] = {}
        if len(wrong) < len(rows):
            usable.update(zip(laid, zip(*columns.values, strict=True), strict=True))
        for position in sorted(wrong):
            index, row = wrong[position], rows[position]
            more = mistakes[index] - 1 if index >= 0 else 0
            usable.pop(position, None)
            found: Features | Unusable | Brief
            if index < 0 or index in unsure or (more and self._left > 1):
                reasons = min(MAX_DETAILS, self._left) if self._left > 1 else 1
                found = checker.check_of_many(row, sent[position], reasons=reasons)
                if isinstance(found, Features):
                    usable[position] = found.values
                    continue
            else:
                name, kind = first[index]
                found = checker.brief(row, sent[position], name, kind, more)
            rejected[begin + position] = found
            if self._left > 1:
                self._left -= len(found.detail) if isinstance(found, Unusable) else 1 + (found[0].more > 0)
        kept = sorted(usable)
        self.values += map(usable.__getitem__, kept)
        self.echoes += [echo(rows[position]) for position in kept]

    def _laid(self, rows: Sequence[Any]) -> Sequence[int]:
        """Return which rows are checked by column: objects with half of the features or more."""
        if len(rows) < _FEW or not self._checker.plain:
            return ()
        least = len(self._checker.names) / 2
        if set(map(type, rows)) == {dict} and min(map(len, rows)) >= least:
            return range(len(rows))
        return [at for at, row in enumerate(rows) if type(row) is dict and len(row) >= least]


class _Columns:
    """The `values` of rows by column, as floats; where one is none in bounds, any may stand in its place.

    `first` has the first such feature of a row and the kind of mistake, by the row's place, `mistakes` how many there are.
    In `unsure` are the places of rows with a text that may be a number.
    """

    def __init__(self, checker: Checker, rows: Sequence[dict[str, Any]]) -> None:
        self.first: dict[int, tuple[str, str]] = {}
        self.mistakes = [0] * len(rows)
        self.unsure: set[int] = set()
        self._checker = checker
        self.values: list[Sequence[float]] = []
        for name, limits in zip(checker.names, checker.bounds, strict=True) if rows else ():
            column = _column(rows, name)
            self.values.append(_floats(column, limits) or self._look_through(name, column, limits))

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
            elif type(value) is str and not may_be_a_number(value):
                kind = "float_parsing"
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
            if _NUMERAL.fullmatch(value):
                return float(value)
            self.unsure.add(index)
        elif type(value) is int:
            with suppress(OverflowError):
                return float(value)
        return math.nan


def _column(rows: Sequence[dict[str, Any]], name: str) -> list[Any]:
    try:
        return list(map(itemgetter(name), rows))
    except KeyError:
        return [row.get(name, _MISSING) for row in rows]


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
