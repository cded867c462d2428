"""docs/brokers.md has a column for each broker and a row for each ability, and what to set for each."""

from __future__ import annotations

import ast

import pytest

from tests.brokers_page import PAGE, ROOT, Recorder, headings, read, write
from tests.cloud import PLAYED
from tests.every_broker import KINDS, Ability

TEXT = PAGE.read_text()


def shown(file: str) -> set[str]:
    """The rows that the tests of a file stand for."""
    tree = ast.parse((ROOT / "tests" / "contract" / file).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        node.args[0].value
        for node in calls
        if ast.unparse(node.func).rpartition(".")[2] == "shown"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


@pytest.mark.parametrize(
    ("which", "names", "rows"),
    [
        pytest.param("abilities", list(KINDS), {ability.value for ability in Ability}, id="abilities"),
        pytest.param("agent", list(KINDS), shown("test_every_broker.py"), id="agent"),
        pytest.param("played", list(PLAYED), shown("test_played.py"), id="played"),
    ],
)
def test_there_is_a_cell_for_each_broker_and_row(which: str, names: list[str], rows: set[str]) -> None:
    table = read(TEXT, which)
    assert len(table) == len(names)
    for name, (head, cells) in zip(names, table.items(), strict=True):
        assert head.startswith(headings()[name])
        assert cells.keys() == rows
        assert set(cells.values()) <= {"yes", "no", "not yet"}


def test_the_abilities_of_the_page_are_those_that_the_tests_hold_brokers_to() -> None:
    for kind, cells in zip(KINDS.values(), read(TEXT, "abilities").values(), strict=True):
        assert {row for row, cell in cells.items() if cell == "yes"} == {one.value for one in kind.abilities}


def test_each_broker_has_its_settings() -> None:
    settings = TEXT.partition("| broker | settings to use |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1].strip() for line in settings.splitlines()[2:]]
    assert rows == list(dict.fromkeys(headings().values()))


def test_a_table_is_read_as_it_was_written() -> None:
    table = {"one 1.0": {"a": "yes", "b": "no"}, "two": {"a": "not yet"}}
    written = write(TEXT, "agent", table, ["a", "b"])
    assert read(written, "agent") == {"one 1.0": {"a": "yes", "b": "no"}, "two": {"a": "not yet", "b": "?"}}
    assert read(written, "abilities") == read(TEXT, "abilities")


def test_what_a_broker_lacks_hides_no_other_outcome() -> None:
    recorder = Recorder()
    recorder.shown = {"x": {"a": ["no", "yes"], "b": ["no"], "c": ["yes", "not yet"]}}
    assert recorder.cells("x") == {"a": "yes", "b": "no", "c": "not yet"}
