from __future__ import annotations

import contextlib
import math
from pathlib import Path

import numpy as np
import pytest
from edge_convert import columns
from edge_convert.tables import read_pair, read_table, require_trainable
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.tabular import Dialect
from edge_agent.errors import InputError
from tests.unit.convert.conftest import FIXTURES, make_table


def _csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_everything_in_one_file(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "id,a,b,note,y", "x1, 1.5 ,2e3,foo,on", "x2,-0,7,bar,off")
    table = read_table(path, target="y", id_column="id", drop=["note"])
    assert table.feature_names == ("a", "b")
    assert table.X.dtype == np.float64
    assert table.X.tolist() == [[1.5, 2000.0], [0.0, 7.0]]
    assert table.labels is not None
    assert table.labels.tolist() == ["on", "off"]
    assert table.ids is not None
    assert table.ids.tolist() == ["x1", "x2"]
    assert table.class_counts == {"off": 1, "on": 1}
    assert len(table.sources[0].sha256) == 64


def test_columns_choose_the_features_and_their_order(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "a,b,c,y", "1,2,x,0", "3,4,y,1")
    table = read_table(path, target="y", columns=["b", "a"])
    assert table.feature_names == ("b", "a")
    assert table.X.tolist() == [[2, 1], [4, 3]]


def test_labels_are_text_whatever_they_were(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"a": [1, 2, 3], "y": [1, 1.0, 0]}')
    assert read_table(tmp_path / "t.json", target="y").class_counts == {"0": 1, "1": 2}


def test_a_pair_is_joined_on_the_id(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text('{"track_id": {"0": 5, "1": 7, "2": 9}, "tempo": {"0": 100, "1": 120, "2": 90}}')
    labels = _csv(tmp_path / "l.csv", "track_id,genre", "9,Rock", "5,Folk", "11,Rock", "7,")
    table = read_pair(tmp_path / "f.json", labels, label_column="genre")
    assert table.X.tolist() == [[100], [90]]
    assert table.labels is not None
    assert table.labels.tolist() == ["Folk", "Rock"]
    assert table.left_out == ("2 of 3 rows of features and 4 rows of labels share a track_id",)


def test_the_fma_projects_own_files() -> None:
    directory = FIXTURES / "fma_metadata"
    table = read_pair(
        directory / "echonest.csv", directory / "tracks.csv", label_column="genre_top", classes=["Rock", "Hip-Hop"]
    )
    assert table.feature_names[0] == "acousticness"
    assert len(table.feature_names) == 8
    assert set(table.class_counts) == {"Rock", "Hip-Hop"}
    assert "rows say Rock or Hip-Hop" in table.left_out[-1]
    everything = read_pair(directory / "echonest.csv", directory / "tracks.csv", label_column="track.genre_top")
    assert set(everything.class_counts) == {"Rock", "Hip-Hop", "Folk"}


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["a,y", "1,u", "2,v"], {"target": "z"}, "t.csv: no column 'z'; there are 'a', 'y'"),
        (["a,y", "1,u", "2,v"], {"target": "y", "drop": ["b"]}, "t.csv: no column 'b'"),
        (["a,y", "1,u", "2,v"], {"target": "y", "columns": ["b"]}, "t.csv: no column 'b'"),
        (["a,y", "1,u", "2,v"], {"target": "y", "id_column": "b"}, "t.csv: no column 'b'"),
        (["a,y", "1,u", "two,v"], {"target": "y"}, "t.csv: column 'a', row 3: 'two' is not a number"),
        (["a,y", "1,u", "1_0,v"], {"target": "y"}, "t.csv: column 'a', row 3: '1_0' is not a number"),
        (["a,y", "1,u", "1_000,v"], {"target": "y"}, "t.csv: column 'a', row 3: '1_000' is not a number"),
        (["a,y", "1,u", "\u0661,v"], {"target": "y"}, "t.csv: column 'a', row 3: '\u0661' is not a number"),
        (["a,y", "1,u", "True,v"], {"target": "y"}, "t.csv: column 'a', row 3: 'True' is not a number"),
        (["a,y", "1,u", ",v"], {"target": "y"}, "in 1 of 2 rows: column 'a' in 1 (first in row 3); --missing drop"),
        (["a,y", "1,u", "NaN,v"], {"target": "y"}, "in 1 of 2 rows: column 'a' in 1 (first in row 3); --missing drop"),
        (["a,y", "1,u", "-inf,v"], {"target": "y"}, "t.csv: column 'a', row 3: '-inf' is not finite"),
        (["a,y", "1,u", "1e39,v"], {"target": "y"}, "t.csv: column 'a', row 3: '1e39' is beyond what float32 holds"),
        (["a,y", "1,u", "2,"], {"target": "y"}, "in 1 of 2 rows: label 'y' in 1 (first in row 3); --missing drop"),
        (["a,y", "1,u", "2,\x07"], {"target": "y"}, "t.csv: label '\\x07' is not a name"),
        (["y", "u", "v"], {"target": "y"}, "t.csv: no column is left as a feature"),
        (["i,a,y", "5,1,u", "5,2,v"], {"target": "y", "id_column": "i"}, "column 'i', row 3: '5' was the id of row 2"),
        (["i,a,y", "5,1,u", ",2,v"], {"target": "y", "id_column": "i"}, "column 'i', row 3: the id is empty"),
        (["a,y", "1,u", "2,v"], {"target": "y", "classes": ["w"]}, "column 'y': no row says 'w'; there are 'u', 'v'"),
    ],
)
def test_bad_cells_are_named_by_file_column_and_row(
    tmp_path: Path, lines: list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_table(_csv(tmp_path / "t.csv", *lines), **options)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_cells_are_checked_as_well(tmp_path: Path) -> None:
    missing = r"1 of 2 rows: column 'a' in 1 \(first in row 2\)"
    for cell, message in (("true", "column 'a', row 2: True is not a number"), ("NaN", missing), ("null", missing)):
        (tmp_path / "t.json").write_text(f'{{"a": [1, {cell}], "y": [0, 1]}}')
        with pytest.raises(InputError, match=message):
            read_table(tmp_path / "t.json", target="y")


def test_a_pair_without_a_common_id(tmp_path: Path) -> None:
    features = _csv(tmp_path / "f.csv", "track_id,a", "1,1", "2,2")
    labels = _csv(tmp_path / "l.csv", "track_id,y", "3,u", "4,v")
    with pytest.raises(InputError, match=r"f\.csv and .*l\.csv: no track_id is in both files with a label"):
        read_pair(features, labels, label_column="y")
    with pytest.raises(InputError, match=r"l\.csv: no column 'z'"):
        read_pair(features, labels, label_column="z")


def test_too_little_to_train_on() -> None:
    with pytest.raises(InputError, match=r"table\.csv: column 'mood': all 9 rows say 'calm'; two labels are needed"):
        require_trainable(make_table(9, labels=("calm",)), 10)
    with pytest.raises(InputError, match="only 1 of 2 rows say 'calm'; 10 folds need 10 rows of each label"):
        require_trainable(make_table(2), 10)
    require_trainable(make_table(40), 10)


@given(st.one_of(st.text(max_size=12), st.floats(), st.integers(), st.booleans(), st.none()))
def test_a_cell_becomes_a_finite_float32_or_a_complaint(cell: object) -> None:
    with contextlib.suppress(ValueError):
        assert math.isfinite(np.float32(columns.number(cell)))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "a,b,c,y", "1,x,1,u", "2,5,,v", "one,6,NA,", "two,7,1e39,u")
    with pytest.raises(InputError) as caught:
        read_table(path, target="y")
    where, *lines = str(caught.value).splitlines()
    assert where.endswith("t.csv: 4 problems:")
    assert lines == [
        "  column 'a', row 4: 'one' is not a number (--drop leaves a column out); so are 1 more of its cells",
        "  column 'b', row 2: 'x' is not a number (--drop leaves a column out)",
        "  column 'c', row 5: '1e39' is beyond what float32 holds",
        (
            "  values are missing in 2 of 4 rows: column 'c' in 2 (first in row 3), label 'y' in 1 (first in row 4); "
            "--missing drop leaves these rows out, --missing native learns from them, --drop a column; or fill them in"
        ),
    ]
    with pytest.raises(InputError) as caught:
        read_table(path, target="y", columns=["a", "q", "y", "a"], drop=["r"])
    assert "4 problems" in str(caught.value)


def test_rows_that_lack_values_are_dropped_when_asked(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "a,s,y", "1,on,u", "NA,off,v", "3,,u", "4,off,", "5,on,v")
    table = read_table(path, target="y", missing="drop")
    assert table.X.tolist() == [[1, 1], [5, 1]]
    assert list(table.row_names) == ["row 2", "row 6"]
    assert table.words["s"].kind == "boolean"
    assert table.left_out == (
        (
            "values are missing in 3 of 5 rows: column 'a' in 1 (first in row 3), column 's' in 1 (first in row 4), "
            "label 'y' in 1 (first in row 5): 3 rows dropped, 2 left"
        ),
    )
    _csv(path, "a,b,y", "1,,u", ",2,v")
    with pytest.raises(InputError, match="no row is left without them: --drop the columns that lack the most"):
        read_table(path, target="y", missing="drop")


def test_names_with_commas(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", '"a, m",b,c,"d, s",y', '1,2,3,4,"u, v"', '5,6,7,8,"u, v"', "1,1,1,1,w", "1,1,1,1,x")
    assert read_table(path, target="y", columns=["a, m", "b,c"]).feature_names == ("a, m", "b", "c")
    assert read_table(path, target="y", drop=["b,c", "d, s"]).feature_names == ("a, m",)
    assert read_table(path, target="y", classes=["u, v", "w"]).class_counts == {"u, v": 2, "w": 1}


def test_row_names_and_timestamps_are_left_out_and_told(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", ",time,a,y", "0,2026-01-01 10:00,5,u", "1,2026-01-01 10:05,7,v")
    table = read_table(path, target="y")
    assert table.feature_names == ("a",)
    first, time = table.left_out
    assert first == "the first column has no name (row names: 0, 1, …): left out"
    assert time == (
        "column 'time' holds timestamps (2026-01-01 10:00, 2026-01-01 10:05, …), which are no features: left out. With --time "
        "'time' the figures are also those on rows later than those trained on"
    )
    # A time of day tells no day.
    _csv(tmp_path / "u.csv", "hour,a,y", "10:05,5,u", "10:10,7,v")
    assert read_table(tmp_path / "u.csv", target="y").left_out[0].endswith("left out")
    _csv(path, "time,a,y", "2026-01-01 10:05,5,u", "2026-01-01 10:00,7,v")
    assert read_table(path, target="y", id_column="time").feature_names == ("a",)
    _csv(path, ",time,a,y", "0,2026-01-01 10:00,5,u", "1,2026-01-01 10:05,7,v")
    assert read_table(path, target="y", drop=["", "time"]).left_out == ()
    with pytest.raises(InputError, match="column 'time', row 2: '2026-01-01 10:00' is not a number"):
        read_table(path, target="y", columns=["time", "a"])


def test_what_misleads_is_told(tmp_path: Path) -> None:
    rows = [f"{i + 1},7,{1654733331 + i},{i % 5},{'u' if i % 3 else 'v'}" for i in range(100)]
    table = read_table(_csv(tmp_path / "t.csv", "n,same,epoch,a,y", *rows), target="y")
    counts, constant, epoch = table.strange
    assert counts.startswith("column 'n' counts the rows (1, 2, …)")
    assert constant.startswith("column 'same' is 7 in all rows")
    assert epoch.startswith("column 'epoch' counts the rows")
    rows = [f"{i % 60 + 1},{'u' if i < 60 else 'v'}" for i in range(100)]
    (again,) = read_table(_csv(tmp_path / "t.csv", "sample,y", *rows), target="y").strange
    assert again.startswith(
        "column 'sample' counts the rows, and begins anew once: where that is the number of a row in its group"
    )
    rows = [f"{i % 12 + 1},{'u' if i < 60 else 'v'}" for i in range(100)]
    assert not read_table(_csv(tmp_path / "t.csv", "month,y", *rows), target="y").strange
    rows = [f"{1654733331 + i * i},{'u' if i % 3 else 'v'}" for i in range(100)]
    (merged,) = read_table(_csv(tmp_path / "t.csv", "epoch,y", *rows), target="y").strange
    assert merged.startswith("column 'epoch' has 100 different whole numbers, of which float32 keeps ")
    assert "less than 128 is the same" in merged


def test_a_word_that_never_changes_is_left_out_and_told(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "region,a,door,y", *(f"Anvers,{n},{'on' if n else ''},{n % 2}" for n in range(3)))
    with pytest.raises(
        InputError, match="column 'door', row 3: 'on' is not a number"
    ):  # whether it is there may tell something
        read_table(path, target="y")
    table = read_table(path, target="y", drop=["door"])
    assert table.feature_names == ("a",)
    assert table.left_out == ("column 'region' says 'Anvers' in all rows, so nothing can be learned from it: left out",)
    with pytest.raises(InputError, match="column 'region', row 2: 'Anvers' is not a number"):
        read_table(path, target="y", columns=["region", "a"])


def test_one_number_is_one_label(tmp_path: Path) -> None:
    table = read_table(_csv(tmp_path / "t.csv", "a,y", "1,1", "2,1.0", "3,2.0", "4,01"), target="y")
    assert table.class_counts == {"1": 3, "2.0": 1}
    (told,) = table.left_out
    assert told.endswith("are the same number: one label, '1'")
    # A sentence, and not one for each of a thousand numbers.
    rows = [f"{n},{n}.5" for n in range(9)] + [f"{n},{n}.50" for n in range(9)]
    (told,) = read_table(_csv(tmp_path / "t.csv", "a,y", *rows), target="y").left_out
    assert "'0.5' and '0.50' are the same number, and so are 8 more in several ways: one label, '0.5'" in told


def test_numbers_to_learn_have_the_decimal_comma_of_the_table(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "a;y", "1,5;20,5", "2,5;7", "3,5;a,b")
    assert read_table(path, target="y", dialect=Dialect(None, ",", None)).class_counts == {"20.5": 1, "7": 1, "a,b": 1}


def test_a_label_may_be_marked_as_missing_like_any_value(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "a,y", "1,u", "2,NA", "3,v", "4,?")
    with pytest.raises(InputError, match="label 'y' in 2"):
        read_table(path, target="y")
    assert read_table(path, target="y", missing="drop").class_counts == {"u": 1, "v": 1}


def test_a_quantity_is_no_label(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "a,y", *(f"{i},{i * 0.37:.2f}" for i in range(60)))
    with pytest.raises(InputError, match=r"column 'y': holds 60 different numbers in 60 rows, .* regression"):
        require_trainable(read_table(path, target="y"), 10)


def test_advice_for_a_rare_label(tmp_path: Path) -> None:
    rows = ["1,u"] * 30 + ["2,v"] * 30 + ["3,w"]
    table = read_table(_csv(tmp_path / "t.csv", "a,y", *rows), target="y")
    with pytest.raises(InputError) as caught:
        require_trainable(table, 10)
    assert "each label: --classes u,v (without the rare ones), or collect more rows of it" in str(caught.value)
    table = read_table(_csv(tmp_path / "t.csv", "a,y", *rows, "3,w"), target="y")
    with pytest.raises(InputError, match="each label: --folds 2, or --classes u,v"):
        require_trainable(table, 10)


def test_what_parquet_knows_of_its_columns(tmp_path: Path) -> None:
    import datetime as dt

    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")

    columns = {
        "level": pa.array(["a", "b", "a"]).dictionary_encode(),
        "nothing": pa.nulls(3),
        "on": [True, False, None],
        "time": [dt.datetime(2020, 1, 1, tzinfo=dt.UTC)] * 3,
        "single": pa.array([0.1, 2, 3], pa.float32()),
        "y": ["u", "v", "u"],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", target="y", drop=["nothing"], missing="drop")
    assert table.X.tolist() == [[0, 1, float(np.float32(0.1))], [1, 0, 2]]
    assert {name: words.kind for name, words in table.words.items()} == {"level": "category", "on": "boolean"}
    assert "column 'time' holds timestamps" in table.left_out[0]
    with pytest.raises(InputError, match="column 'nothing' in 3"):
        read_table(tmp_path / "t.parquet", target="y")


def test_nanoseconds_of_parquet_are_times_as_well(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, n = tmp_path / "t.parquet", 8
    moments = pa.array([1_700_000_000_000_000_000 + row * 1_000_000_007 for row in range(n)], pa.timestamp("ns"))
    took = pa.array([row * 1_000_000_007 for row in range(n)], pa.duration("ns"))
    pq.write_table(pa.table({"t": moments, "took": took, "x": range(n), "y": list("uv" * (n // 2))}), path)
    found = read_table(path, target="y", time="t", groups="took")
    assert found.feature_names == ("x",)
    assert found.times is not None
    assert np.allclose(found.times[1], 1.7e9 + np.arange(n) * 1.000000007, atol=1e-6)
    ids = read_table(path, target="y", id_column="t", drop=["took"]).ids
    assert ids is not None
    assert np.argsort(ids).tolist() == list(range(n))


def test_cells_of_parquet_that_are_lists_or_records(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"l": [[1], [2]], "r": [{"x": 1}, {"x": 2}], "y": ["u", "v"]}), tmp_path / "t.parquet")
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / "t.parquet", target="y")
    assert "column 'l', row 1: [1] is not a number" in str(caught.value)
    assert "column 'r', row 1: {'x': 1} is not a number" in str(caught.value)


def test_what_is_left_out_is_told_where_nothing_is_left(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "date,temp", "2010/01/01 00:00,39.4", "2010/01/01 01:00,39.2")
    with pytest.raises(
        InputError, match=r"no column is left as a feature; column 'date' holds timestamps \(2010/01/01 00:00, .*"
    ):
        read_table(path, target="temp")
