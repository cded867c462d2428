"""The report on the terminal: ratios first, then every figure behind them. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.contenders import SUBJECTS
from benchmarks.results import Results, Spread
from benchmarks.scenarios import Scenario
from benchmarks.targets import IMPORT, Verdict

#: Share of a core from which the generator may have been what was measured.
GENERATOR_LIMIT: Final = 0.9

_TITLES: Final = {subject.name: subject.title for subject in SUBJECTS}
_WIDTH: Final = 118
_MIB: Final = 1024 * 1024

Row = Sequence[str]


def render(results: Results, verdicts: Sequence[Verdict], machine: dict[str, Any], warning: str | None) -> str:
    """Return the whole report."""
    parts = [_heading(results, machine)]
    if warning:
        parts.append(f"WARNING: {warning}")
    if verdicts:
        parts.append(_ratios(verdicts))
    parts += [_scenario(results, scenario) for scenario in results.plan.scenarios if results.subjects(scenario)]
    if any(one.generator > GENERATOR_LIMIT for one in results.measurements):
        parts.append("* the load generator took more than 0.9 of a core: the subject itself may be faster than this")
    parts.append(_once(results))
    return "\n\n".join(parts)


def _heading(results: Results, machine: dict[str, Any]) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    versions = f"Python {machine['python']}, Mosquitto {machine['mosquitto']}, {libraries}"
    plan = results.plan
    return "\n".join(
        (
            f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Linux {machine['kernel']}",
            *textwrap.wrap(versions, _WIDTH),
            f"median of {plan.rounds} alternating rounds of {plan.seconds:g} s, smallest and largest beside it",
        )
    )


def _ratios(verdicts: Sequence[Verdict]) -> str:
    rows = [("ratio to the others", "measured", "", "target", "")]
    for one in verdicts:
        asked = "" if one.asked is None else f"{'>=' if one.at == 'least' else '<='} {number(one.asked)} {one.unit}"
        said = {None: "", True: "ok", False: "missed"}[one.ok]
        rows.append((one.name, f"{number(one.measured.median)} {one.unit}", _range(one.measured), asked, said))
    return _table(rows, left={0, 2, 3, 4})


def _scenario(results: Results, scenario: Scenario) -> str:
    unit = "msg/s" if scenario.transport == "mqtt" else "requests/s"
    header = [str(scenario), unit, "", "p50 ms", "p99 ms", "CPU s/1000", "RSS MiB", "PSS MiB"]
    if scenario.rows > 1:
        header.insert(3, "rows/s")
    rows: list[Row] = [header]
    for name in results.subjects(scenario):
        rate = results.spread(name, scenario, lambda one: one.rate)
        star = "*" if any(one.generator > GENERATOR_LIMIT for one in results.rounds(name, scenario)) else ""
        row = [f"{_TITLES[name]}{star}", number(rate.median), _range(rate)]
        if scenario.rows > 1:
            row.append(number(results.spread(name, scenario, lambda one: one.rows_rate).median))
        row += [
            number(1000 * results.spread(name, scenario, lambda one: one.p50).median),
            number(1000 * results.spread(name, scenario, lambda one: one.p99).median),
            number(results.spread(name, scenario, lambda one: one.cpu_per_1000).median),
            number(results.spread(name, scenario, lambda one: one.rss / _MIB).median),
            number(results.spread(name, scenario, lambda one: one.pss / _MIB).median),
        ]
        rows.append(row)
    return _table(rows, left={0, 2})


def _once(results: Results) -> str:
    """What has nothing to do with a scenario: starts, rest, agreement."""
    rows: list[Row] = [("from exec to the first answer", "s", "")]
    for name, seconds in results.starts.items():
        spread = Spread.of(seconds)
        title = "(importing the agent's libraries, no more)" if name == IMPORT else _TITLES[name]
        rows.append((title, number(spread.median), _range(spread)))
    parts = [_table(rows, left={0, 2})]
    rest = [("no messages", "% of a core")]
    rest += [(_title(name), f"{100 * share:.2f}") for name, share in results.idle.items()]
    parts.append(_table(rest, left={0}))
    alike = [("same label as the model itself", "% of rows")]
    alike += [(_title(name), number(100 * share)) for name, share in results.agreement.items()]
    parts.append(_table(alike, left={0}))
    return "\n\n".join(parts)


def _title(name: str) -> str:
    """Return the title of a contender: a subject, or a subject on one protocol."""
    subject, _, protocol = name.partition("-")
    return f"{_TITLES[subject]}, MQTT {protocol}" if protocol else _TITLES[subject]


def number(value: float) -> str:
    """Return three figures, or whole numbers with commas where there are more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _range(spread: Spread) -> str:
    return f"{number(spread.low)} - {number(spread.high)}"


def _table(rows: Sequence[Row], left: set[int]) -> str:
    """Return the rows in columns, the first of them underlined; the columns in `left` are flush left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
