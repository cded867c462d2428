from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from edge_convert.files import FMA_METADATA, RawTable, read_raw

from edge_agent.contract.tabular import Dialect
from edge_agent.errors import InputError
from tests.unit.convert.conftest import FIXTURES


def _file(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def cells(raw: RawTable) -> dict[str, list[object]]:
    return {name: list(column) for name, column in raw.columns.items()}


def test_csv_rows_are_named_as_a_spreadsheet_shows_them(tmp_path: Path) -> None:
    raw = read_raw(_file(tmp_path, "t.csv", '\ufeffa,b\r\n1,"two\nlines"\r\n\r\n3,x\r\n'))
    assert cells(raw) == {"a": ["1", "3"], "b": ["two\nlines", "x"]}
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
    assert cells(raw) == {"a": [1, 2], "b": ["x", None]}


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra `parquet`")
    pq.write_table(pa.table({"a": [1.5, 2.5], "b": ["x", "y"]}), tmp_path / "t.parquet")
    assert cells(read_raw(tmp_path / "t.parquet")) == {"a": [1.5, 2.5], "b": ["x", "y"]}


def test_parquet_of_pandas_has_row_names(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": [1.5, 2.5], "__index_level_0__": [7, 9]}), tmp_path / "t.parquet")
    raw = read_raw(tmp_path / "t.parquet")
    assert cells(raw) == {"a": [1.5, 2.5]}
    assert raw.notes == ("column '__index_level_0__' holds pandas' row names: left out",)


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
        ("t.csv", b"\xef\xbb\xbf", "t.csv: the file is empty"),
        ("t.csv", b"\xff\xfe\n\0", "t.csv: the file is empty"),
        ("t.json", b"\xef\xbb\xbf", "t.json: the file is empty"),
        ("t.csv", f"a,b\n1,{'x' * 200_000}\n", "t.csv: row 2: is not CSV: field larger than field limit"),
        ("t.csv", f"a,{'x' * 200_000}\n1,2\n", "t.csv: row 1: is not CSV: field larger than field limit"),
        ("t.json", f'[{{"a": {"9" * 5_000}}}]', "t.json: has a whole number with too many digits"),
        ("t.ndjson", f'{{"a": 1}}\n{{"a": {"9" * 5_000}}}\n', "t.ndjson: row 2: has a whole number with too many"),
        ("t.csv", "a,b\n", "t.csv: there is a header but no row"),
        ("t.csv", '{"a": [1]}', "t.csv: is named .csv but its content is json"),
        ("t.csv", b"PAR1....PAR1", "t.csv: is named .csv but its content is parquet"),
        ("t.csv", b"\x89PNG\r\n\x1a\n\xff\xfe", "t.csv: is not text in UTF-8"),
        ("t.csv", 'a,b\n1,"x\n', "t.csv: row 2: is not CSV"),
        ("t.csv", "a,b\n1,2\n3\n", "t.csv: row 3 has 1 cells, the header has 2"),
        ("t.csv", "a,,b\n1,2,3\n", "t.csv: row 1: column 2 has no name"),
        ("t.csv", "a,b,a\n1,2,3\n", "t.csv: row 1: column 'a' appears twice"),
        ("t.json", "a,b\n1,2\n", "t.json: is not JSON"),
        ("t.json", "[1, 2]", "t.json: is neither a list of records nor an object of columns"),
        ("t.json", "[]", "t.json: there is a header but no row"),
        ("t.json", "[" * 100_000, "t.json: is not JSON"),
        (
            "t.json",
            '{"a": {"1": 0, "2": 0}, "b": {"1": 0, "3": 0}}',
            "columns 'a' and 'b' do not have the same row ids",
        ),
        ("t.json", '{"a": [1, 2], "b": [1]}', "columns 'a' and 'b' do not have the same row ids"),
        ("t.xlsx", "PK", "t.xlsx: a table is a .csv, .tsv, .txt, .json, .ndjson, .jsonl or .parquet file"),
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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "a,b\n1.5,x\n2.5,y z\n"),
        ("t.csv", "a;b\r\n1.5;x\r\n2.5;y z\r\n"),
        ("t.tsv", "a\tb\n1.5\tx\n2.5\ty z\n"),
        ("t.txt", 'a b\n1.5   x\n  2.5 "y z"\n'),
        ("t.csv", 'a,b,,\n1.5,x,,\n2.5,"y z",,\n,,,\n'),
        ("t.csv", "a,b\n1.5,x,\n2.5,y z,\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_byte_order_marks_are_found_out(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    for path, content in (
        (tmp_path / name, text.encode(encoding)),
        (tmp_path / f"{name}.gz", gzip.compress(text.encode(encoding))),
    ):
        path.write_bytes(content)
        assert cells(read_raw(path)) == {"a": ["1.5", "2.5"], "b": ["x", "y z"]}


def test_other_encodings_and_separators_are_named(tmp_path: Path) -> None:
    path = _file(tmp_path, "t.csv", "größe|°C\n1|2\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"not text in UTF-8 \(byte 2\); name its encoding, such as --encoding cp1252"):
        read_raw(path)
    assert cells(read_raw(path, Dialect("|", encoding="cp1252"))) == {"größe": ["1"], "°C": ["2"]}
    with pytest.raises(InputError, match="'latin-15' is not an encoding"):
        read_raw(path, Dialect(encoding="latin-15"))
    with pytest.raises(InputError, match=r"zero byte at character 1\); if it is UTF-16, say --encoding utf-16"):
        read_raw(_file(tmp_path, "u.csv", "a,b\n".encode("utf-16-le")))
    with pytest.raises(ValueError, match="--sep '::': a separator is one character"):
        Dialect("::")
    with pytest.raises(ValueError, match="--decimal ';'"):
        Dialect(decimal=";")


def test_lines_of_json(tmp_path: Path) -> None:
    for name in ("t.ndjson", "t.jsonl"):
        raw = read_raw(_file(tmp_path, name, '{"a": 1, "b": "x"}\n\n{"a": 0.1, "b": null}\n'))
        assert cells(raw) == {"a": [1, 0.1], "b": ["x", None]}
        assert list(raw.row_names) == ["row 1", "row 3"]
    assert cells(read_raw(_file(tmp_path, "t.ndjson", '{"a": "\u2028"}\r\n'))) == {"a": ["\u2028"]}
    with pytest.raises(InputError, match="row 2: is not JSON"):
        read_raw(_file(tmp_path, "t.ndjson", '{"a": 1}\n{"a": \n'))
    with pytest.raises(InputError, match="row 1: is not a JSON object"):
        read_raw(_file(tmp_path, "t.ndjson", "[1]\n"))


def test_row_names_of_pandas_and_of_r(tmp_path: Path) -> None:
    for text in (",a,b\n0,1,x\n1,2,y\n", '"a" "b"\n"1" 1 "x"\n"2" 2 "y"\n'):
        raw = read_raw(_file(tmp_path, "t.txt", text))
        assert list(raw.columns) == ["", "a", "b"]
        assert list(raw.column("a")) == ["1", "2"]


@pytest.mark.parametrize(
    "text",
    [
        'a, b, y\n1, 2, "x, 1"\n3, 4, "z, 2"\n',  # a quote after a blank quotes nothing
        "temp,hum,label\n20,5,40,on\n20,6,41,off\n21,5,42,on\n",  # decimal commas
    ],
)
def test_a_cell_in_two_is_no_row_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        InputError, match=r"t\.csv: the rows have a cell more than the header, which has 3: a quote after a blank"
    ):
        read_raw(_file(tmp_path, "t.csv", text))


def test_blank_lines_are_no_row_names(tmp_path: Path) -> None:
    raw = read_raw(_file(tmp_path, "t.csv", "a,b\n1,5,x\n\n2,6,y\n\n"))
    assert cells(raw) == {"": ["1", "2"], "a": ["5", "6"], "b": ["x", "y"]}


def test_a_first_row_of_values_is_no_header(tmp_path: Path) -> None:
    for text in ("5.1,3.5,Iris-setosa\n4.9,3.0,Iris-setosa\n", "150,4,setosa\n5,3,0\n", "1;1\n2;3\n"):
        with pytest.raises(
            InputError, match=r"row 1 has no column names but values .*: add a first row with a name for each"
        ):
            read_raw(_file(tmp_path, "t.csv", text))
    # As pandas writes an array of numbers.
    assert list(read_raw(_file(tmp_path, "t.csv", "0,1,2,y\n5,6,7,a\n")).columns) == ["0", "1", "2", "y"]


def test_all_rows_of_another_length_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_raw(_file(tmp_path, "t.csv", "a,b\n1,2\n3\n\n4,5,6\n7,8\n9\n"))
    assert str(caught.value).endswith(
        "row 3 has 1 cells, the header has 2; so have 2 more rows another number of cells (5, 7)"
    )


def test_damaged_gzip(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t\.csv\.gz: can't be decompressed"):
        read_raw(_file(tmp_path, "t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 50)[:-12]))


@pytest.mark.parametrize("name", ["breast_cancer.csv", "iris.csv", "wine_data.csv", "diabetes_data_raw.csv.gz"])
def test_the_tables_that_scikit_learn_ships_have_no_names(name: str) -> None:
    from sklearn.datasets import __file__ as here

    path = Path(here).parent / "data" / name
    if not path.exists():
        pytest.skip(f"this scikit-learn has no {name}")
    with pytest.raises(InputError, match="row 1 has no column names but values"):
        read_raw(path)


def test_a_key_that_a_record_omits_is_a_missing_value(tmp_path: Path) -> None:
    raw = read_raw(_file(tmp_path, "t.ndjson", '{"a": 1, "y": "u"}\n{"y": "v", "b": 2}\n'))
    assert cells(raw) == {"a": [1, None], "y": ["u", "v"], "b": [None, 2]}
    raw = read_raw(_file(tmp_path, "t.json", '[{"a": 1}, {"b": 2}]'))
    assert cells(raw) == {"a": [1, None], "b": [None, 2]}


def test_json_with_a_record_a_line_is_told_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t\.json: has a record a line, which is NDJSON; name it \.ndjson"):
        read_raw(_file(tmp_path, "t.json", '{"a": 1}\n{"a": 2}\n'))
    with pytest.raises(InputError, match=r"t\.json: is not JSON"):
        read_raw(_file(tmp_path, "t.json", '{"a": 1}\n{"a": 2\n'))


def test_numbers_may_be_names_of_columns(tmp_path: Path) -> None:
    for text, names in (
        ("1100.5,1102.5,1104.5,y\n.1,.2,.3,u\n", ["1100.5", "1102.5", "1104.5", "y"]),
        ("inf,y\n1,u\n", ["inf", "y"]),
        (",".join(f"{n * n}.5" for n in range(8)) + "\n" + "1," * 7 + "1\n", [f"{n * n}.5" for n in range(8)]),
    ):
        assert list(read_raw(_file(tmp_path, "t.csv", text)).columns) == names


def test_a_decimal_comma_is_no_row_name(tmp_path: Path) -> None:
    text = "temperature,state\n20,5,u\n21,4,v\n23,1,u\n"
    with pytest.raises(InputError, match="a decimal comma"):
        read_raw(_file(tmp_path, "t.csv", text))
    assert list(read_raw(_file(tmp_path, "t.csv", "a,y\n1,5,u\n2,4,v\n")).columns) == ["", "a", "y"]
