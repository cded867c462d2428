"""The terminal that the pages are followed at (tests/terminal.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import Block
from tests.terminal import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with Terminal(cwd=tmp_path) as terminal:
        yield terminal


def block(text: str, *prints: str) -> Block:
    return Block(Path("page.md"), 1, text, False, prints, None)


def test_what_a_block_leaves_behind_meets_the_next(terminal: Terminal, tmp_path: Path) -> None:
    terminal.run(block("mkdir inner && cd inner\numask 077\nname='it''s'"))
    assert terminal.run(block("touch $name; pwd", "inner")) == f"{tmp_path}/inner\n"
    assert (tmp_path / "inner" / "its").stat().st_mode & 0o777 == 0o600


def test_a_failure_in_the_middle_is_one(terminal: Terminal) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:1: cd nowhere ended with 1"):
        terminal.run(block("cd nowhere\necho well"))
    with pytest.raises(AssertionError, match=r"page\.md:1: false ended with 1"):
        terminal.run(block("(\n  false\n  echo well\n)"))
    with pytest.raises(AssertionError, match="ended with"):
        terminal.run(block("false | cat"))
    terminal.run(block("false || true; if false; then echo; fi"))


def test_commands_get_what_is_typed_for_them_only(terminal: Terminal) -> None:
    assert terminal.run(block("cat")) == ""
    assert terminal.run(block("cat <<'END'\n$HOME\nEND\nprintf 'no line end'")) == "$HOME\nno line end"


def test_what_it_should_print_is_looked_for(terminal: Terminal) -> None:
    with pytest.raises(AssertionError, match="does not print 'Rock'"):
        terminal.run(block("echo Hip-Hop", "Rock"))


def test_waiting_has_an_end(terminal: Terminal) -> None:
    with pytest.raises(EOFError, match="the shell has ended"):
        terminal.run(block("exit 3"))
