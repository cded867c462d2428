"""When each row is from: a column of timestamps, or of numbers that rise with time.

Rules:

* a column has one notation. Where day and month could be either, the one counts in which the rows are in order, or newest first; if
  neither is, the column is refused: a guess would put rows of tomorrow before those of today;
* times of day without a date are refused, for they begin anew each day; numbers may be anything, so those that begin anew are told.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_convert.columns import Cell, encode, is_missing, parse, short

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK: Final = (
    r"(?:[T ]+(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?"
    r"(?: ?(?P<half>[AaPp])[Mm])?)? ?(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?"
)
_YEAR_FIRST: Final = re.compile(rf"(?P<year>\d{{4}})[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}}){_CLOCK}")
_DAY_FIRST: Final = re.compile(rf"(?P<day>\d{{1,2}})[-/.](?P<month>\d{{1,2}})[-/.](?P<year>\d{{2,4}}){_CLOCK}")
_MONTH_FIRST: Final = re.compile(rf"(?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}})[-/.](?P<year>\d{{2,4}}){_CLOCK}")
_MONTH_NAME: Final = re.compile(rf"(?P<month>[A-Za-z]{{3,9}})\.? (?P<day>\d{{1,2}}),? (?P<year>\d{{4}}){_CLOCK}")
_DAY_NAME: Final = re.compile(rf"(?P<day>\d{{1,2}})[- ](?P<month>[A-Za-z]{{3,9}})[- ](?P<year>\d{{2,4}}){_CLOCK}")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: Numbers that fall less often than this may be of two series.
_ANEW: Final = 2

Moments = NDArray[np.float64]


def read_moments(cells: Sequence[Cell], decimal: str = ".") -> Moments:
    """Return when each row (n,) is from: seconds since 1970, or the column's own numbers.

    Raises `ValueError` saying what is wrong with the column.
    """
    different, which = encode(cells)
    for cell in different:
        if is_missing(cell):
            raise ValueError("lacks the time of some rows; leave these rows out of the table, or fill them in")
    plain = (_numbers(decimal), _objects, *map(_texts, (_YEAR_FIRST, _MONTH_NAME, _DAY_NAME)))
    readings = [found for read in plain if (found := _all(different, read)) is not None]
    if not readings:
        unclear = [found for one in (_DAY_FIRST, _MONTH_FIRST) if (found := _all(different, _texts(one))) is not None]
        readings = (
            unclear if len(unclear) < 2 else [one for way in (1, -1) for one in unclear if _in_order(way * one[which])]
        )
        if unclear and not readings:
            raise ValueError(
                f"may have the day first or the month first ({short(different[0])}), and the rows are in order in neither; "
                "write dates as 2026-01-31"
            )
    if not readings:
        raise ValueError(
            f"holds no times that can be put in order ({short(different[0])}); write them as 2026-01-31 17:51:00"
        )
    return readings[0][which]


def anew(column: str, cells: Sequence[Cell], moments: Moments, decimal: str = ".") -> tuple[str, ...]:
    """Return a sentence if numbers (n,) that stand for times begin anew again and again, as the hours of a day do."""
    steps = np.diff(moments)
    if (steps < 0).sum() > (steps > 0).sum():  # newest first
        steps = -steps
    falls = -steps[steps < 0]
    # Dates tell the day. A message that came late falls a little, and rows in no order fall all the time.
    if (
        parse(cells[0], decimal) is None
        or not _ANEW <= len(falls) <= len(moments) / 3
        or np.median(falls) < np.ptp(moments) / 2
    ):
        return ()
    sentence = (
        f"column {column!r} begins anew {len(falls):,} times, as the hours of a day do: a row with a higher number counts as later, "
        "whatever day it is from. If that is so, --time needs a column that tells the day as well; where it is several "
        "series of rows, one after another, all is well"
    )
    return (sentence,)


def _in_order(moments: Moments) -> bool:
    return bool((np.diff(moments) >= 0).all())


def _all(cells: Sequence[Cell], read: Callable[[Cell], float | None]) -> Moments | None:
    found = []
    for cell in cells:
        value = read(cell)
        if value is None or not math.isfinite(value):
            return None
        found.append(value)
    return np.array(found)


def _numbers(decimal: str) -> Callable[[Cell], float | None]:
    return lambda cell: parse(cell, decimal)


def _objects(cell: Cell) -> float | None:
    """Read what Parquet itself calls a date or a timestamp."""
    if isinstance(cell, dt.datetime):
        return (cell.replace(tzinfo=cell.tzinfo or dt.UTC) - _EPOCH).total_seconds()
    return float(cell.toordinal() - _EPOCH.toordinal()) * 86400 if isinstance(cell, dt.date) else None


def _texts(pattern: re.Pattern[str]) -> Callable[[Cell], float | None]:
    def read(cell: Cell) -> float | None:
        found = pattern.fullmatch(cell.strip()) if isinstance(cell, str) else None
        try:
            return None if found is None else _seconds(found)
        except ValueError:  # a 31st of February, or a month's name that is none
            return None

    return read


def _seconds(found: re.Match[str]) -> float:
    month, year, hour = found["month"], int(found["year"]), int(found["hour"] or 0)
    number = int(month) if month.isdigit() else _MONTHS.index(month[:3].lower()) + 1
    if len(found["year"]) < 4:
        year += 1900 if year > 68 else 2000  # as POSIX has it
    if found["half"]:
        hour = hour % 12 + (12 if found["half"] in "Pp" else 0)
    moment = dt.datetime(
        year, number, int(found["day"]), hour, int(found["minute"] or 0), int(found["second"] or 0), tzinfo=dt.UTC
    )
    return (moment - _EPOCH).total_seconds() + float(f"0.{found['fraction'] or 0}") - _offset(found["zone"] or "Z")


def _offset(zone: str) -> float:
    if zone in {"Z", "UTC"}:
        return 0.0
    digits = zone[1:].replace(":", "")
    return (-1 if zone[0] == "-" else 1) * (int(digits[:2]) * 3600.0 + int(digits[2:]) * 60.0)
