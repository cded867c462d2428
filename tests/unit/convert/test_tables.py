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

from edge_agent.errors import InputError
from tests.unit.convert.conftest import FIXTURES, make_table


def _csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_everything_in_one_file(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "id,a,b,note,y", "x1, 1.5 ,2e3,foo,on", "x2,-0,7,bar,off")
    table = read_table(path, target="y", id_column="id", drop=["note"])
    assert table.feature_names == ("a", "b")
    assert table.X.dtype == np.float32
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
