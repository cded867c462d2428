"""`python -m tests.brokers_page [BROKER...]`: runs the tests of the brokers, by default of all, and writes their outcome into
docs/brokers.md.

A column is a broker, a row an ability of brokers (`tests.every_broker.Ability`) or what a test shows (its marker `shown`).
The column of a broker that is not named, or not installed here, stays as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.cloud import PLAYED
from tests.every_broker import KINDS, Ability

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "brokers.md"
_TESTS: Final = ("tests/contract/test_every_broker.py", "tests/contract/test_played.py")
#: What stands around each table in the page.
_BEGIN, _END = "<!-- written by python -m tests.brokers_page: {} -->", "<!-- end of {} -->"
_ABILITIES, _AGENT, _PLAYED = "abilities", "agent", "played"

Table = dict[str, dict[str, str]]


class Recorder:
    """A pytest plugin: what each test showed, by broker and row."""

    def __init__(self) -> None:
        #: By name of the broker, by row: the outcomes of its tests.
        self.shown: dict[str, dict[str, list[str]]] = {}
        self.missing: set[str] = set()
        self.broken: list[str] = []
        self._rows: dict[str, tuple[str, str]] = {}

    @pytest.hookimpl(tryfirst=True)  # before any is left out
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            given = getattr(item, "callspec", None)
            name = None if given is None else given.params.get("started") or given.params.get("played")
            marker = item.get_closest_marker("shown")
            row = marker.args[0] if marker else None
            if given is not None and isinstance(ability := given.params.get("ability"), Ability):
                row = ability.value
            if name is not None and row is not None:
                self._rows[item.nodeid] = (name, row)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.broken.append(report.nodeid)
        if report.nodeid not in self._rows or (report.when != "call" and not report.skipped):
            return
        name, row = self._rows[report.nodeid]
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
        if "is not installed" in reason:
            self.missing.add(name)
        elif hasattr(report, "wasxfail"):
            self._note(name, row, "not yet")
        elif report.skipped:
            self._note(name, row, "no")
        elif row in {ability.value for ability in Ability}:
            # The test holds the broker against the table of abilities, in both directions.
            self._note(name, row, "yes" if Ability(row) in KINDS[name].abilities else "no")
        else:
            self._note(name, row, "yes")

    def _note(self, name: str, row: str, outcome: str) -> None:
        self.shown.setdefault(name, {}).setdefault(row, []).append(outcome)

    def cells(self, name: str) -> dict[str, str]:
        """The outcome of each row: of both protocols, what the broker has not is left aside."""
        return {row: _sum(found) for row, found in self.shown.get(name, {}).items()}


def _sum(found: Iterable[str]) -> str:
    counted = [one for one in found if one != "no"]
    if not counted:
        return "no"
    return "not yet" if "not yet" in counted else "yes"


def headings() -> dict[str, str]:
    """What heads the column of each broker, by name."""
    real = {name: kind.title for name, kind in KINDS.items()}
    return {**real, **{name: limits.title for name, limits in PLAYED.items()}}


def read(text: str, which: str) -> Table:
    """A table of the page: by heading of its columns, by row, the cell."""
    begin, end = _BEGIN.format(which), _END.format(which)
    lines = text.partition(begin)[2].partition(end)[0].strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    if not rows:
        return {}
    return {head: {row[0]: row[place] for row in rows[2:]} for place, head in enumerate(rows[0]) if place}


def write(text: str, which: str, table: Mapping[str, Mapping[str, str]], rows: Iterable[str]) -> str:
    begin, end = _BEGIN.format(which), _END.format(which)
    before, found, rest = text.partition(begin)
    if not found:
        raise ValueError(f"{PAGE} has no line {begin}")
    heads = list(table)
    lines = ["| | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(table[head].get(row, "?") for head in heads) + " |" for row in rows]
    return f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{rest.partition(end)[2]}"


def rows_of(recorder: Recorder, names: Iterable[str]) -> list[str]:
    """The rows that tests of these brokers show, in the order of the tests."""
    abilities = {ability.value for ability in Ability}
    return list(dict.fromkeys(row for name, row in recorder._rows.values() if name in names and row not in abilities))


def main() -> int:
    recorder, asked = Recorder(), sys.argv[1:] or [*KINDS, *PLAYED]
    if unknown := set(asked) - {*KINDS, *PLAYED}:
        print(f"{', '.join(unknown)}? There are {', '.join([*KINDS, *PLAYED])}", file=sys.stderr)  # noqa: T201
        return 2
    recorder.missing = {*KINDS, *PLAYED} - set(asked)
    # A name is a part of the id of each of its tests; "mosquitto" is one of "other-mosquitto", too.
    chosen = " or ".join(asked) + (" and not other" if "mosquitto" in asked and "other-mosquitto" not in asked else "")
    arguments = ["-q", "-p", "no:cacheprovider", "-k", chosen, *(str(ROOT / one) for one in _TESTS)]
    status = pytest.main(arguments, plugins=[recorder])
    if status != pytest.ExitCode.OK:
        print(f"failed or interrupted, so nothing is written: {recorder.broken}", file=sys.stderr)  # noqa: T201
        return 1
    text = PAGE.read_text(encoding="utf-8")
    abilities = [ability.value for ability in Ability]
    for which, names, rows in (
        (_ABILITIES, KINDS, abilities),
        (_AGENT, KINDS, rows_of(recorder, KINDS)),
        (_PLAYED, PLAYED, rows_of(recorder, PLAYED)),
    ):
        old, table = read(text, which), Table()
        for name in names:
            if name not in recorder.missing:
                version = KINDS[name].version() if name in KINDS else ""
                table[f"{headings()[name]} {version}".strip()] = recorder.cells(name)
                continue
            known = [head for head in old if head.startswith(headings()[name]) and head not in table]
            # Of two columns of one product the first is that of the first kind.
            known = known[-1:] if name == "other-mosquitto" else known[:1]
            table |= {head: old[head] for head in known}
        text = write(text, which, table, rows)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
