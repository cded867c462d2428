"""Table files as they are: text with any separator (the FMA project's several header rows included), JSON and Parquet.

Nothing is interpreted here: a `RawTable` holds cells and knows how a person finds each row again. Every complaint names
the file, and the column and row where there is one.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.contract.tabular import Dialect, decode, decompress, find_separator, single_blanks
from edge_agent.errors import InputError
from edge_convert.arrow import ArrowCells, Ragged, read_csv, read_parquet
from edge_convert.columns import Cell, parse, short

#: The FMA project's `fma_metadata` files; their columns carry the levels of their header, joined by dots.
FMA_METADATA: Final = "fma_metadata"
PLAIN: Final = "plain"
#: What the names of tables end in; each may also be compressed (.gz).
ENDINGS: Final = (".csv", ".tsv", ".txt", ".json", ".ndjson", ".jsonl", ".parquet")
#: So many rows tell whether they are numbered.
_LOOKED_AT: Final = 1000
#: So many numbers rise by chance once in 40,000 rows.
_SCALE: Final = 8
#: What pandas calls an index without a name in Parquet.
_PANDAS_INDEX: Final = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class RawTable:
    """One file's cells by column, all columns equally long, with at least one row.

    `row_names` says for each row where it is ("row 7"; the header is row 1). `layout` is `PLAIN` or `FMA_METADATA`.
    A column without a name is called "". `notes` are sentences about what was found; `decimal` is that of its text.
    """

    path: Path
    sha256: str
    columns: dict[str, Sequence[Cell]]
    row_names: Sequence[str]
    layout: str = PLAIN
    notes: tuple[str, ...] = ()
    decimal: str = "."

    def column(self, name: str) -> Sequence[Cell]:
        """Return the cells of a column. Raises `InputError` naming the columns there are."""
        if name not in self.columns:
            raise InputError(f"{self.path}: no column {name!r}; there are {_listing(self.columns)}")
        return self.columns[name]


@dataclass(frozen=True)
class _Content:
    columns: dict[str, Sequence[Cell]]
    row_names: Sequence[str]
    layout: str = PLAIN
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RowNames(Sequence[str]):
    """Says of each row where it is, from its number."""

    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, row: Any) -> Any:
        return f"row {self.numbers[row]}" if not isinstance(row, slice) else RowNames(self.numbers[row])


def read_raw(path: Path, dialect: Dialect | None = None) -> RawTable:
    """Read a table file by the ending of its name (`ENDINGS`, each also with .gz).

    JSON is either a list of records or an object of columns (each an array, or an object from row key to value). Raises
    `InputError` if the file is missing, empty or not what its name says.
    """
    dialect = dialect or Dialect()
    name = path.name.lower().removesuffix(".gz")
    ending = Path(name).suffix
    if ending not in ENDINGS:
        raise InputError(
            f"{path}: a table is a {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} file, each also compressed (.gz)"
        )
    try:
        stored = path.read_bytes()
        content = decompress(stored)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    if not content.strip():
        raise InputError(f"{path}: the file is empty")
    looks = _looks_like(content)
    if looks and looks != ending and not (looks == ".json" and ending in {".ndjson", ".jsonl"}):
        raise InputError(
            f"{path}: is named {ending} but its content is {looks[1:]}; name it {path.name[: len(name) - len(ending)]}{looks}"
        )
    if ending == ".parquet":
        found = _read_parquet(path, content)
    elif ending in {".json", ".ndjson", ".jsonl"}:
        found = (_read_json if ending == ".json" else _read_lines)(path, _text(path, content, dialect))
    else:
        found = _read_text(path, _text(path, content, dialect), dialect)
    if not len(found.row_names):
        raise InputError(f"{path}: there is a header but no row")
    digest = hashlib.sha256(stored).hexdigest()
    return RawTable(path, digest, found.columns, found.row_names, found.layout, tuple(found.notes), dialect.decimal)


def _looks_like(content: bytes) -> str | None:
    """Return the ending that the first bytes ask for, if they ask for one."""
    if content.startswith(b"PAR1"):
        return ".parquet"
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return ".json" if start in {b"{", b"["} else None


def _text(path: Path, content: bytes, dialect: Dialect) -> str:
    try:
        text = decode(content, dialect.encoding)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    if not text.strip():
        raise InputError(f"{path}: the file is empty")
    return text


def _read_text(path: Path, text: str, dialect: Dialect) -> _Content:
    separator = dialect.separator or find_separator(text)
    if separator == dialect.decimal:
        raise InputError(
            f"{path}: {separator!r} is the decimal separator and separates the columns, too; see --sep and --decimal"
        )
    if separator == " ":
        text = single_blanks(text)
    _require_closed_quotes(path, text, separator)
    head, ends = _head(path, text, separator)
    names, used, layout = _header(head)
    if layout == PLAIN:
        _refuse_headless(path, names, dialect.decimal)
    names, notes = _with_row_names(names, head[used:]) if layout == PLAIN else (names, [])
    body = text[ends[used - 1] :]
    if not body.strip():
        raise InputError(f"{path}: there is a header but no row")
    columns, ragged = read_csv(body, separator, len(names))
    if ragged:
        _refuse_ragged(path, ragged, used, len(names))
    # A line with nothing on it, often the last one, or with separators only, as spreadsheets write them.
    full = ~np.logical_and.reduce([column.blank() for column in columns])
    if not full.all():
        columns = [column.take(full) for column in columns]
    if notes:
        _refuse_shifted(path, columns[0], head[used:], len(names) - 1)
    return _Content(
        _named(path, names, columns, notes), RowNames((np.flatnonzero(full) + used + 1).tolist()), layout, notes
    )


def _named(path: Path, names: list[str], columns: list[ArrowCells], notes: list[str]) -> dict[str, Sequence[Cell]]:
    """Return the columns by name, without those that have neither a name nor a value (`notes` says so)."""
    found: dict[str, Sequence[Cell]] = {}
    for position, (name, cells) in enumerate(zip(names, columns, strict=True), start=1):
        if not name and cells.blank().all():
            notes.append(f"column {position} has neither a name nor a value: left out")
        elif not name and position > 1:
            raise InputError(f"{path}: row 1: column {position} has no name; give it one there")
        elif name in found:
            raise InputError(f"{path}: row 1: column {name!r} appears twice")
        else:
            found[name] = cells
    return found


def _head(path: Path, text: str, separator: str) -> tuple[list[list[str]], list[int]]:
    """Return the first rows, and for each the place in the text where it ends. Raises `InputError` for a cell without end."""
    place, ends = 0, list[int]()

    def lines() -> Iterator[str]:
        nonlocal place
        for line in io.StringIO(text, newline=""):
            place += len(line)
            yield line

    rows: list[list[str]] = []
    try:
        for row in itertools.islice(csv.reader(lines(), delimiter=separator), 6):
            rows.append(row)
            ends.append(place)
    except csv.Error as error:
        raise _no_csv(path, len(rows) + 1, error) from None
    return rows, ends


def _header(rows: list[list[str]]) -> tuple[list[str], int, str]:
    """Return the column names, how many rows they took, and the layout.

    pandas wrote the FMA project's files: the levels of the columns one below the other, and then a row that names
    nothing but the index.
    """
    for number, row in enumerate(rows[1:4], start=1):
        if len(row) > 1 and row[0] and not any(row[1:]) and not rows[0][0]:
            levels = zip(*(level[1:] for level in rows[:number]), strict=False)
            return [row[0], *(".".join(part for part in parts if part) for parts in levels)], number + 1, FMA_METADATA
    first = next((number for number, row in enumerate(rows) if any(row)), 0)
    return [name.strip() for name in rows[first]], first + 1, PLAIN


def _with_row_names(names: list[str], rows: list[list[str]]) -> tuple[list[str], list[str]]:
    """Return the names, with one more where all rows are longer by a cell, and sentences about that."""
    lengths = {len(row) for row in rows if row}
    if lengths != {len(names) + 1}:
        return names, []
    if all(not row[-1] for row in rows if row):
        return [*names, ""], []  # each row ends with a separator
    return ["", *names], ["the header has no name for the first column, as R writes row names"]


def _refuse_shifted(path: Path, first: ArrowCells, rows: list[list[str]], width: int) -> None:
    """Refuse rows whose additional first cell is no row name: then a cell is split in two, and all after it are shifted."""
    quoted = any(cell.lstrip().startswith('"') for row in rows for cell in row)
    if len(first.encode()[0]) == len(first) and not quoted and not _are_values(first):
        return
    raise InputError(
        f"{path}: the rows have a cell more than the header, which has {width}: a quote after a blank (remove the blank), a "
        "decimal comma (separate columns by ; or tabs, and say --decimal ,), or row names (each only once, or give them a name)?"
    )


def _are_values(first: ArrowCells) -> bool:
    """Tell whether the first cells (n) are numbers, and not those of the rows: then they are the part before a decimal comma."""
    numbers = [parse(str(cell)) for cell in first[:_LOOKED_AT]]
    return None not in numbers and numbers != list(range(1, len(numbers) + 1))


def _refuse_headless(path: Path, names: list[str], decimal: str) -> None:
    """Refuse a first row that holds values: numbers other than those that columns may be called."""
    # A column may well be called inf, or nan.
    values = [(name, value) for name in names if (value := parse(name, decimal)) is not None and math.isfinite(value)]
    if values and not _may_be_names([name for name, _ in values], [value for _, value in values]):
        raise InputError(
            f"{path}: row 1 has no column names but values ({short(values[0][0])}, …): add a first row with a name for each of "
            f"the {len(names)} columns"
        )


def _may_be_names(names: list[str], values: list[float]) -> bool:
    """Tell whether numbers may be names of columns: whole ones that rise, or a scale, such as wavelengths (1100.5, 1102.5, …)."""
    steps = [other - one for one, other in itertools.pairwise(values)]
    if any(step <= 0 for step in steps):
        return False
    even = len(steps) > 1 and max(steps) - min(steps) <= 1e-6 * max(map(abs, values))
    return all(name.isdigit() for name in names) or even or len(names) >= _SCALE


def _refuse_ragged(path: Path, ragged: list[Ragged], above: int, width: int) -> None:
    first = f"{path}: row {ragged[0].row + above} has {ragged[0].cells} cells, the header has {width}"
    others = ", ".join(str(row.row + above) for row in ragged[1:6]) + (", …" if len(ragged) > 6 else "")
    more = f"; so have {len(ragged) - 1:,} more rows another number of cells ({others})" if len(ragged) > 1 else ""
    raise InputError(first + more)


def _require_closed_quotes(path: Path, text: str, separator: str) -> None:
    """Refuse quotes that don't match: a lenient reader takes half of the file for one cell then."""
    if '"' not in text:
        return
    number = 0
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
            number += 1
    except csv.Error as error:
        raise _no_csv(path, number + 1, error) from None


def _no_csv(path: Path, row: int, error: csv.Error) -> InputError:
    return InputError(f"{path}: row {row}: is not CSV: {error}")


def _read_lines(path: Path, text: str) -> _Content:
    """Read a record a line."""
    records, numbers = [], []
    for number, line in enumerate(text.split("\n"), start=1):  # JSON allows the other ends in a string
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise _no_json(f"{path}: row {number}", error) from None
        if not isinstance(records[-1], dict):
            raise InputError(f"{path}: row {number}: is not a JSON object")
        numbers.append(number)
    return _records(records, numbers)


def _read_json(path: Path, text: str) -> _Content:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        if _is_record_a_line(text):
            raise InputError(f"{path}: has a record a line, which is NDJSON; name it .ndjson") from None
        raise _no_json(str(path), error) from None
    if isinstance(document, list) and all(isinstance(record, dict) for record in document):
        return _records(document, range(1, len(document) + 1))
    if isinstance(document, dict) and document:
        values = list(document.values())
        if all(isinstance(value, list) for value in values):
            _refuse_unequal(path, {name: range(1, len(cells) + 1) for name, cells in document.items()})
            return _Content(document, RowNames(range(1, len(values[0]) + 1)))
        if all(isinstance(value, dict) for value in values):
            _refuse_unequal(path, document)
            columns: dict[str, Sequence[Cell]] = {name: list(cells.values()) for name, cells in document.items()}
            return _Content(columns, [f"row {key}" for key in values[0]])
    raise InputError(f"{path}: is neither a list of records nor an object of columns")


def _is_record_a_line(text: str) -> bool:
    first = [line for line in text.split("\n", 3)[:3] if line.strip()][:2]
    try:
        return len(first) > 1 and all(isinstance(json.loads(line), dict) for line in first)
    except (ValueError, RecursionError):
        return False


def _no_json(where: str, error: ValueError | RecursionError) -> InputError:
    """Return the error for what Python's parser doesn't take; it refuses whole numbers of thousands of digits, too."""
    if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
        return InputError(f"{where}: has a whole number with too many digits for any model; remove it")
    return InputError(f"{where}: is not JSON: {error}")


def _records(records: list[dict[str, Any]], numbers: Sequence[int]) -> _Content:
    """Return records by column; a key that one of them omits is a missing value."""
    names = dict.fromkeys(name for record in records for name in record)
    return _Content({name: [record.get(name) for record in records] for name in names}, RowNames(numbers))


def _refuse_unequal(path: Path, columns: dict[str, Collection[Any]]) -> None:
    """Refuse columns whose row keys differ: pairing them by position would mix rows up without a word."""
    first, keys = next(iter((name, list(cells)) for name, cells in columns.items()))
    for name, cells in columns.items():
        if list(cells) != keys:
            odd = next(iter(set(cells) ^ set(keys)), None)
            what = f"row {odd} is in one of them only" if odd is not None else "their rows are in another order"
            raise InputError(f"{path}: columns {first!r} and {name!r} do not have the same row ids: {what}")


def _read_parquet(path: Path, content: bytes) -> _Content:
    try:
        names, columns = read_parquet(content)
    except ValueError as error:
        raise InputError(f"{path}: is not Parquet: {error}") from None
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: row 1: column {name!r} appears twice")
    found = dict(zip(names, columns, strict=True))
    notes = [f"column {name!r} holds pandas' row names: left out" for name in names if _PANDAS_INDEX.fullmatch(name)]
    kept = {name: cells for name, cells in found.items() if not _PANDAS_INDEX.fullmatch(name)}
    return _Content(kept, RowNames(range(1, (len(columns[0]) if columns else 0) + 1)), notes=notes)


def _listing(names: Collection[str]) -> str:
    shown = [repr(name) for name in list(names)[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
