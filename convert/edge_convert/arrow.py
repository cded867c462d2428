"""Apache Arrow: it reads CSV and Parquet, and turns columns into numbers. Nothing else of the project imports it.

Rules:

* every cell of a CSV arrives as its text; what it means is decided later, and column by column (`edge_convert.columns`);
* text becomes float64 here (Arrow rounds correctly, as Python's `float` does), never anything narrower.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray


class ArrowCells(Sequence[object]):
    """The cells of a column, without a Python object for each."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, row: int) -> object: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[object]: ...

    def __getitem__(self, row: int | slice) -> object:
        return self._values[row].to_pylist() if isinstance(row, slice) else self._values[row].as_py()

    def __iter__(self) -> Iterator[object]:
        yield from self._values.to_pylist()

    def encode(self) -> tuple[list[object], NDArray[np.int64]]:
        """Return the different cells in the order of their first appearance, and for each row which one it is."""
        encoded = self._values.combine_chunks().dictionary_encode(null_encoding="encode")
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.unify_dictionaries().combine_chunks()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)

    def numbers(self, decimal: str, missing: Collection[str]) -> NDArray[np.float64] | None:
        """Return the column as float64 (n,), NaN where a cell is one of `missing` or null; None unless all the others are
        finite numbers.
        """
        values = self._values
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            values = pc.ascii_trim_whitespace(values)
            values = pc.if_else(pc.is_in(values, pa.array(sorted(missing))), pa.scalar(None, values.type), values)
            if decimal != ".":
                if pc.any(pc.match_substring(values, ".")).as_py():
                    return None
                values = pc.replace_substring(values, decimal, ".")
        elif not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            return None
        try:
            numbers = pc.cast(values, pa.float64(), safe=False)
        except pa.ArrowInvalid:
            return None
        found: NDArray[np.float64] = np.asarray(numbers.to_numpy(), dtype=np.float64)
        return found if int(np.isfinite(found).sum()) == len(found) - numbers.null_count else None

    def take(self, rows: NDArray[np.bool_]) -> ArrowCells:
        """Return the cells of some rows (a mask)."""
        return ArrowCells(self._values.filter(pa.array(rows)))

    def blank(self) -> NDArray[np.bool_]:
        """Return which cells (n,) are the empty text."""
        found: NDArray[np.bool_] = pc.equal(self._values, "").to_numpy()
        return found

    @property
    def is_time(self) -> bool:
        """Whether the file itself says that these are dates or times."""
        return bool(pa.types.is_temporal(self._values.type))


class Ragged(NamedTuple):
    """A row, from 1 on, that has another number of cells than the others."""

    row: int
    cells: int


def read_csv(body: str, separator: str, width: int) -> tuple[list[ArrowCells], list[Ragged]]:
    """Read rows of `width` cells, without a header, as text. A line with nothing on it is a row of empty cells.

    Returns the columns, without the ragged rows, and these.
    """
    ragged: list[Ragged] = []

    def note(row: Any) -> str:
        ragged.append(Ragged(row.number, row.actual_columns))
        return "skip"

    names = [str(column) for column in range(width)]
    content = body.encode()
    table = pa.csv.read_csv(
        io.BytesIO(content),
        # Only one thread tells the numbers of ragged rows. No row is larger than the file.
        pa.csv.ReadOptions(
            use_threads=False, column_names=names, block_size=max(1 << 20, min(len(content) + 1, 1 << 30))
        ),
        pa.csv.ParseOptions(
            delimiter=separator, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=note
        ),
        pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    return [ArrowCells(table.column(name)) for name in names], ragged


def read_parquet(content: bytes) -> tuple[list[str], list[Sequence[object]]]:
    """Read a Parquet file: the names of its columns, which may repeat, and the columns. Raises `ValueError`."""
    try:
        table = pa.parquet.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error).splitlines()[0]) from None
    return list(table.column_names), [_plain(column) for column in table.columns]


def _plain(column: Any) -> Sequence[object]:
    """Return a column of categories as what the categories are, one that is all null as text, and one whose cells are lists or
    records, which Arrow can't encode, as Python's. Times have microseconds: Python's have no more.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    elif pa.types.is_duration(column.type):
        column = column.cast(pa.duration("us"), safe=False)
    if pa.types.is_nested(column.type):
        cells: list[object] = column.to_pylist()
        return cells
    return ArrowCells(column.cast(pa.string()) if pa.types.is_null(column.type) else column)
