from __future__ import annotations

import json
from pathlib import Path

import pytest
from edge_convert.files import FMA_METADATA, read_raw

from edge_agent.errors import InputError
from tests.unit.convert.conftest import FIXTURES


def _file(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_rows_are_named_as_a_spreadsheet_shows_them(tmp_path: Path) -> None:
    raw = read_raw(_file(tmp_path, "t.csv", '\ufeffa,b\r\n1,"two\nlines"\r\n\r\n3,x\r\n'))
    assert raw.columns == {"a": ["1", "3"], "b": ["two\nlines", "x"]}
    assert list(raw.row_names) == ["row 2", "row 4"]


@pytest.mark.parametrize(
    "document",
    [
        {"a": [1, 2], "b": ["x", None]},
        {"a": {"7": 1, "9": 2}, "b": {"7": "x", "9": None}},
        [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
    ],
)
def test_json_by_column_or_by_record(tmp_path: Path, document: object) -> None:
    raw = read_raw(_file(tmp_path, "t.json", json.dumps(document)))
    assert {name: list(cells) for name, cells in raw.columns.items()} == {"a": [1, 2], "b": ["x", None]}


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra `parquet`")
    pq.write_table(pa.table({"a": [1.5, 2.5], "b": ["x", "y"]}), tmp_path / "t.parquet")
    assert read_raw(tmp_path / "t.parquet").columns == {"a": [1.5, 2.5], "b": ["x", "y"]}


def test_fma_metadata_headers_become_dotted_names() -> None:
    tracks = read_raw(FIXTURES / "fma_metadata" / "tracks.csv")
    assert tracks.layout == FMA_METADATA
    assert list(tracks.columns)[:2] == ["track_id", "album.comments"]
    assert tracks.column("track.genre_top")[0] == "Rock"
    assert tracks.row_names[0] == "row 4"
    echonest = read_raw(FIXTURES / "fma_metadata" / "echonest.csv")
    assert "echonest.audio_features.tempo" in echonest.columns
    assert echonest.row_names[0] == "row 5"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "t.csv: the file is empty"),
        ("t.csv", " \n\n", "t.csv: the file is empty"),
        ("t.csv", "a,b\n", "t.csv: there is a header but no row"),
        ("t.csv", '{"a": [1]}', "t.csv: is named .csv but its content is json"),
        ("t.csv", b"PAR1....PAR1", "t.csv: is named .csv but its content is parquet"),
        ("t.csv", b"\x89PNG\r\n\x1a\n\xff\xfe", "t.csv: is not text in UTF-8"),
        ("t.csv", 'a,b\n1,"x\n', "t.csv: row 2: is not CSV"),
        ("t.csv", "a,b\n1,2\n3\n", "t.csv: row 3 has 1 cells, the header has 2"),
        ("t.csv", "a;b\n1;2\n", "t.csv: row 1: the columns are not separated by commas"),
        ("t.csv", "a,,b\n1,2,3\n", "t.csv: row 1: column 2 has no name"),
        ("t.csv", "a,b,a\n1,2,3\n", "t.csv: row 1: column 'a' appears twice"),
        ("t.json", "a,b\n1,2\n", "t.json: is not JSON"),
        ("t.json", "[1, 2]", "t.json: is neither a list of records nor an object of columns"),
        ("t.json", "[]", "t.json: there is a header but no row"),
        ("t.json", "[" * 100_000, "t.json: is not JSON"),
        ("t.json", '[{"a": 1}, {"b": 1}]', "t.json: row 2: column"),
        (
            "t.json",
            '{"a": {"1": 0, "2": 0}, "b": {"1": 0, "3": 0}}',
            "columns 'a' and 'b' do not have the same row ids",
        ),
        ("t.json", '{"a": [1, 2], "b": [1]}', "columns 'a' and 'b' do not have the same row ids"),
        ("t.xlsx", "PK", "t.xlsx: a table is a .csv, .json or .parquet file"),
    ],
)
def test_what_is_not_a_table_is_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_raw(_file(tmp_path, name, content))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    with pytest.raises(InputError, match=r"t\.parquet: is not Parquet"):
        read_raw(_file(tmp_path, "t.parquet", b"PAR1 and then nothing PAR1"))


def test_a_missing_file_and_a_missing_column(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv: can't be read: No such file"):
        read_raw(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="no column 'c'; there are 'a', 'b'"):
        read_raw(_file(tmp_path, "t.csv", "a,b\n1,2\n")).column("c")
