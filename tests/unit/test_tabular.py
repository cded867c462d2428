"""The text of tables, as `edge-agent try` and `edge-convert` read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli.main import cli
from edge_agent.contract.tabular import Dialect, decode, find_separator, records
from edge_agent.model.library import Library


def test_rows_begin_after_blank_lines_and_lack_what_is_marked_as_missing() -> None:
    assert list(records("\n\na,b,c\n1,NA,2\n3,?,\n", Dialect())) == [{"a": "1", "c": "2"}, {"a": "3"}]
    assert list(records("n\n1,5\n2,5\n", Dialect(decimal=","))) == [{"n": "1.5"}, {"n": "2.5"}]
    assert list(records("", Dialect())) == []


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2,5\n", ";"),
        ("a, in m;b, in s;c\n1,5;2,5;3\n", ";"),
        ("a\tb\n1\tx y\n", "\t"),
        ("a b\n1   2\n", " "),
        ('"a" "b"\n"1" 1 2\n"2" 3 4\n', " "),
        ("time,b\n2015-02-04 17:51:00,2\n", ","),
        ("a\n1\n", ","),
        ("a,b\n1,2\n3\n", ","),
        ("", ","),
    ],
)
def test_what_separates_columns(text: str, separator: str) -> None:
    assert find_separator(text) == separator


def test_rows_of_tables() -> None:
    for text in ("a,b\n1,x\n,y\n\n", "a;b;\r\n1;x;\r\n;y;\r\n", ",a,b\n0,1,x\n1,,y\n", 'a b\nr1 1 x\nr2 "" y\n'):
        assert list(records(text, Dialect())) == [{"a": "1", "b": "x"}, {"b": "y"}]
    assert list(records("a;b\n1,5;x,y\n", Dialect(decimal=","))) == [{"a": "1.5", "b": "x,y"}]
    assert list(records("a,b\n1,2\n3\n4,5,6\n", Dialect())) == [{"a": "1", "b": "2"}, {"a": "3"}, {"a": "4", "b": "5"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(encoding: str) -> None:
    assert decode("größe,b\n".encode(encoding)) == "größe,b\n"


def test_try_reads_the_tables_of_spreadsheets(tmp_path: Path) -> None:
    def labels(*arguments: str) -> list[str]:
        done = CliRunner().invoke(cli, ["try", *arguments])
        assert done.exit_code == 0, done.output
        return [json.loads(line)["label"] for line in done.stdout.splitlines()]

    card = Library().load("genre").card
    names, row = card.feature_names, [f"{feature.example:.10f}" for feature in card.features]
    table = tmp_path / "t.csv"
    table.write_text(f"{','.join(names)}\n{','.join(row)}\n")
    expected = labels(str(table))
    table.write_text(f"{';'.join(names)}\n{';'.join(row).replace('.', ',')}\n", encoding="utf-16")
    assert labels(str(table), "--decimal", ",") == expected
    (tmp_path / "t.tsv").write_text("\t".join(names) + "\n" + "\t".join(row) + "\n")
    assert labels(str(tmp_path / "t.tsv")) == expected
    done = CliRunner().invoke(cli, ["try", str(table), "--sep", "::"])
    assert done.exit_code == 2
    assert "--sep '::': a separator is one character" in done.output
