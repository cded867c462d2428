"""What cells become: numbers to the last bit, missing values, timestamps."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from edge_convert.columns import holds_times, number, numbers, parse
from edge_convert.files import read_raw
from edge_convert.tables import read_table
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.tabular import Dialect

ODD = "1 +1 -0 1. .5 1e5 1E-5 0.1 1654733331.123456 5e-324 2.2250738585072011e-308 9007199254740993 0.30000000000000004"


def _column(tmp_path: Path, cells: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["a,b", *(f"{cell},x" for cell in cells)]) + "\n")
    found = numbers(read_raw(path).column("a"))
    assert found.bad is None
    return found.values


def test_numbers_are_what_the_text_says_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells = ODD.split() + [
        repr(value) for value in (rng.normal(size=2000) * 10.0 ** rng.integers(-30, 30, 2000)).tolist()
    ]
    cells += [f"{value:.{digits}f}" for digits in (1, 6, 17, 25) for value in rng.uniform(-180, 180, 500)]
    expected = np.array([float(cell) for cell in cells])
    assert np.array_equal(_column(tmp_path, cells).view(np.int64), expected.view(np.int64))


@given(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from(["{!r}", " {:.17g}", "{:e} ", "+{:.25f}"]),
)
def test_a_number_reads_the_same_alone_and_in_a_column(value: float, style: str) -> None:
    import pyarrow as pa
    from edge_convert.arrow import ArrowCells

    text = style.format(abs(value))
    (found,) = numbers(ArrowCells(pa.chunked_array([[text]]))).values
    assert found == float(text) == parse(text)


@pytest.mark.parametrize(
    "text", ["1_000", "0x10", "\u0661", "True", "1,5", "nan(1)", "1f", "1 2", "inf", "1e39", "--1"]
)
def test_what_is_no_number_is_none_in_a_column_either(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not|is beyond"):
        number(text)
    path = tmp_path / "t.csv"
    path.write_text(f'a;b\n1;x\n"{text}";x\n')
    found = numbers(read_raw(path).column("a"))
    assert found.bad is not None
    assert (found.bad.row, found.bad.cells) == (1, 1)


def test_a_decimal_comma(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a;b\n1,5;2\n-0,1;3\n")
    read = read_raw(path, Dialect(decimal=","))
    assert numbers(read.column("a"), read.decimal).values.tolist() == [1.5, -0.1]
    bad = numbers(read_raw(path).column("a")).bad
    assert bad is not None
    assert bad.reason == "'1,5' is not a number (a decimal comma? --decimal ,)"
    path.write_text("a;b\n1,5;2\n1.000,5;3\n")
    bad = numbers(read_raw(path, Dialect(decimal=",")).column("a"), ",").bad
    assert bad is not None
    assert bad.row == 1


def test_marks_for_missing_values(tmp_path: Path) -> None:
    found = numbers(["1", "", " ", "NA", "NaN", "?", "null", None, math.nan])
    assert found.missing.tolist() == [False] + [True] * 8
    assert found.bad is None
    assert np.array_equal(np.isnan(found.values), found.missing)
    assert np.isnan(_column(tmp_path, ["1", "NA", "", "?"])).tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    "text",
    [
        "2015-02-04 17:51:00",
        "2015-02-04T17:51:00.123Z",
        "2015-02-04 17:51:00+01:00",
        "2012/01/01",
        "10/03/2004",
        "18.00.00",
        "17:51",
        "Jan 1 2000",
        "31-Dec-99",
        "1.2.2006 5:30 PM",
    ],
)
def test_timestamps(text: str) -> None:
    assert holds_times([text, None, text])
    assert not holds_times([text, "word"])


@pytest.mark.parametrize("text", ["12", "1.5", "ON", "a 1 2000 b", "10.0.0.1", ""])
def test_no_timestamps(text: str) -> None:
    assert not holds_times([text])


def test_a_table_keeps_what_float32_would_round(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"lat,y\n52.520008,u\n13.404954,v\n"))
    table = read_table(path, target="y")
    assert table.X.tolist() == [[52.520008], [13.404954]]
