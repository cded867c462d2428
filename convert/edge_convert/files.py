"""Table files as they are: CSV (the FMA project's several header rows included), JSON and Parquet.

Nothing is interpreted here: a `RawTable` holds cells and knows how a person finds each row again. Every complaint names
the file, and the column and row where there is one.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.errors import InputError

Cell = object
"""What a file holds: text from CSV; text, number, boolean or None from JSON and Parquet."""

#: The FMA project's `fma_metadata` files; their columns carry the levels of their header, joined by dots.
FMA_METADATA: Final = "fma_metadata"
PLAIN: Final = "plain"


@dataclass(frozen=True)
class RawTable:
    """One file's cells by column, all columns equally long, with at least one row.

    `row_names` says for each row where it is ("row 7"; the header is row 1). `layout` is `PLAIN` or `FMA_METADATA`.
    """

    path: Path
    sha256: str
    columns: dict[str, Sequence[Cell]]
    row_names: Sequence[str]
    layout: str = PLAIN

    def column(self, name: str) -> Sequence[Cell]:
        """Return the cells of a column. Raises `InputError` naming the columns there are."""
        if name not in self.columns:
            raise InputError(f"{self.path}: no column {name!r}; there are {_listing(self.columns)}")
        return self.columns[name]


def read_raw(path: Path) -> RawTable:
    """Read a table file by the ending of its name: .csv, .json, .parquet.

    JSON is either a list of records or an object of columns (each an array, or an object from row key to value). Raises
    `InputError` if the file is missing, empty or not what its name says.
    """
    readers = {".csv": _read_csv, ".json": _read_json, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: a table is a .csv, .json or .parquet file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    if not content.strip():
        raise InputError(f"{path}: the file is empty")
    looks = _looks_like(content)
    if looks and looks != path.suffix.lower():
        raise InputError(f"{path}: is named {path.suffix} but its content is {looks[1:]}; name it {path.stem}{looks}")
    columns, row_names, layout = reader(path, content)
    if not row_names:
        raise InputError(f"{path}: there is a header but no row")
    return RawTable(path, hashlib.sha256(content).hexdigest(), columns, row_names, layout)


_Content = tuple[dict[str, Sequence[Cell]], Sequence[str], str]


def _looks_like(content: bytes) -> str | None:
    """Return the ending that the first bytes ask for, if they ask for one."""
    if content.startswith(b"PAR1"):
        return ".parquet"
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return ".json" if start in {b"{", b"["} else None


def _text(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text in UTF-8 (byte {error.start})") from None
    if "\0" in text:
        raise InputError(f"{path}: is not text (a zero byte at character {text.index(chr(0))})")
    return text


def _read_csv(path: Path, content: bytes) -> _Content:
    rows: list[list[str]] = []
    try:
        rows.extend(csv.reader(io.StringIO(_text(path, content), newline=""), strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: row {len(rows) + 1}: is not CSV: {error}") from None
    header, first, layout = _header(rows)
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise InputError(f"{path}: row 1: the columns are not separated by commas; save it with commas")
    if "" in header:
        raise InputError(f"{path}: row 1: column {header.index('') + 1} has no name")
    _refuse_repeated(path, header)
    body: list[list[str]] = []
    names: list[str] = []
    for number, row in enumerate(rows[first:], start=first + 1):
        if not row:  # an empty line, often the last one
            continue
        if len(row) != len(header):
            raise InputError(f"{path}: row {number} has {len(row)} cells, the header has {len(header)}")
        body.append(row)
        names.append(f"row {number}")
    columns: dict[str, Sequence[Cell]] = {name: [row[i] for row in body] for i, name in enumerate(header)}
    return columns, names, layout


def _header(rows: list[list[str]]) -> tuple[list[str], int, str]:
    """Return the column names, how many rows they took, and the layout.

    pandas wrote the FMA project's files: the levels of the columns one below the other, and then a row that names
    nothing but the index.
    """
    for number, row in enumerate(rows[1:4], start=1):
        if len(row) > 1 and row[0] and not any(row[1:]) and not rows[0][0]:
            levels = zip(*(level[1:] for level in rows[:number]), strict=False)
            return [row[0], *(".".join(part for part in parts if part) for parts in levels)], number + 1, FMA_METADATA
    return [name.strip() for name in rows[0]], 1, PLAIN


def _read_json(path: Path, content: bytes) -> _Content:
    try:
        document = json.loads(_text(path, content))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {error}") from None
    if isinstance(document, list) and all(isinstance(record, dict) for record in document):
        return _records(path, document)
    if isinstance(document, dict) and document:
        values = list(document.values())
        if all(isinstance(value, list) for value in values):
            _refuse_unequal(path, {name: range(1, len(cells) + 1) for name, cells in document.items()})
            return document, [f"row {number + 1}" for number in range(len(values[0]))], PLAIN
        if all(isinstance(value, dict) for value in values):
            _refuse_unequal(path, document)
            return (
                {name: list(cells.values()) for name, cells in document.items()},
                [f"row {k}" for k in values[0]],
                PLAIN,
            )
    raise InputError(f"{path}: is neither a list of records nor an object of columns")


def _records(path: Path, records: list[dict[str, Any]]) -> _Content:
    names = list(records[0]) if records else []
    for number, record in enumerate(records, start=1):
        if set(record) != set(names):
            odd = next(iter(set(record) ^ set(names)))
            raise InputError(f"{path}: row {number}: column {odd!r} is in some rows only")
    return (
        {name: [record[name] for record in records] for name in names},
        [f"row {number}" for number in range(1, len(records) + 1)],
        PLAIN,
    )


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
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from None
    try:
        table = pq.read_table(io.BytesIO(content))
        _refuse_repeated(path, table.column_names)
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: is not Parquet: {str(error).splitlines()[0]}") from None
    return columns, [f"row {number}" for number in range(1, table.num_rows + 1)], PLAIN


def _refuse_repeated(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{path}: row 1: column {name!r} appears twice")
        seen.add(name)


def _listing(names: Collection[str]) -> str:
    shown = [repr(name) for name in list(names)[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
