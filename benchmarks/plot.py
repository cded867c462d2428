"""The picture of a run: rates and memory as bars from zero, latencies as points, whiskers from the smallest to the largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")  # a file, and no display

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.contenders import SUBJECTS
from benchmarks.report import number
from benchmarks.results import Results, Spread
from benchmarks.scenarios import CONNECTIONS, Scenario
from benchmarks.targets import Figure

_COLOURS: Final = {
    "agent": "#0b6e4f",
    "afternoon": "#c8553d",
    "echo": "#8d99ae",
    "fastapi": "#588b8b",
    "flask": "#b08ea2",
}
_TITLES: Final = {
    "agent": "edge-agent",
    "afternoon": "afternoon version",
    "echo": "stock paho echo\n(no model)",
    "fastapi": "FastAPI, uvicorn\n(HTTP)",
    "flask": "Flask, gunicorn\n(HTTP)",
}
_WHISKER: Final = {"elinewidth": 1, "capsize": 3, "ecolor": "#333333"}
_MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class _Panel:
    """One diagram: a figure of everybody, in the scenario of the MQTT ones and that of the HTTP ones."""

    title: str
    unit: str
    mqtt: Scenario
    figure: Figure
    #: A second figure, in a panel of points on a logarithmic axis.
    tail: Figure | None = None


def draw(results: Results, machine: dict[str, Any], warning: str | None, out: Path) -> None:
    """Write a PNG; `warning` stands in its title, so that it is not shown without."""
    panels = [panel for panel in _panels(results) if any(results.subjects(panel.mqtt))]
    rows = max(1, -(-len(panels) // 2))
    figure, grid = plt.subplots(rows, 2, figsize=(12, 0.9 + 3.1 * rows), squeeze=False)
    axes: list[Axes] = list(grid.flat)
    for panel, axis in zip(panels, axes, strict=False):
        _draw_panel(results, panel, axis)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    plan = results.plan
    figure.suptitle(
        f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, Mosquitto {machine['mosquitto']}\n"
        f"median of {plan.rounds} alternating rounds of {plan.seconds:g} s, whiskers from the smallest to the largest; "
        f"HTTP: {CONNECTIONS} kept-alive connections" + (f"\nWARNING: {warning}" if warning else ""),
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(out, dpi=130)
    plt.close(figure)


def _panels(results: Results) -> Sequence[_Panel]:
    """Return the diagrams for which there are figures, on MQTT 5 where both protocols were measured."""
    panels = []
    for qos in (1, 0):
        fast = _best(results, qos, 500)
        if fast is not None:
            title = f"Single rows, QoS {qos}, 500 outstanding, MQTT {fast.protocol}"
            panels.append(_Panel(title, "messages a second", fast, lambda one: one.rate))
    calm = _best(results, 1, 20) or _best(results, 0, 20)
    if calm is not None:
        title = f"Latency, p50 (dot) and p99 (ring), QoS {calm.qos}, 20 outstanding, MQTT {calm.protocol}"
        unit = "milliseconds (logarithmic), less is better"
        panels.append(_Panel(title, unit, calm, lambda one: 1000 * one.p50, lambda one: 1000 * one.p99))
    loaded = _best(results, 1, 500)
    if loaded is not None:
        title = f"Memory (RSS) after QoS 1, 500 outstanding, MQTT {loaded.protocol}"
        panels.append(_Panel(title, "MiB, less is better", loaded, lambda one: one.rss / _MIB))
    return panels


def _best(results: Results, qos: int, outstanding: int) -> Scenario | None:
    """Return the measured scenario with single rows, on the newest protocol."""
    found = [
        scenario
        for scenario in results.plan.scenarios
        if (scenario.transport, scenario.rows, scenario.qos, scenario.outstanding) == ("mqtt", 1, qos, outstanding)
    ]
    return max(found, key=lambda scenario: scenario.protocol, default=None)


def _draw_panel(results: Results, panel: _Panel, axis: Axes) -> None:
    http = Scenario("http", 1, CONNECTIONS)
    measured = {
        subject.name: rounds
        for subject in SUBJECTS
        if (rounds := results.rounds(subject.name, panel.mqtt if subject.transport == "mqtt" else http))
    }
    names = list(measured)
    spreads = [Spread.of(map(panel.figure, rounds)) for rounds in measured.values()]
    if panel.tail is None:
        _draw_bars(axis, names, spreads)
    else:
        _draw_points(axis, names, spreads, [Spread.of(map(panel.tail, rounds)) for rounds in measured.values()])
    axis.set_yticks(range(len(names)), [_TITLES[name] for name in names], fontsize=9)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_title(panel.title, fontsize=10, loc="left")
    axis.set_xlabel(panel.unit, fontsize=9)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", color="#dddddd")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_bars(axis: Axes, names: Sequence[str], spreads: Sequence[Spread]) -> None:
    colours = [_COLOURS[name] for name in names]
    medians = [spread.median for spread in spreads]
    axis.barh(range(len(names)), medians, xerr=_whiskers(spreads), height=0.62, color=colours, error_kw=_WHISKER)
    axis.set_xlim(0, max(spread.high for spread in spreads) * 1.18)
    for place, spread in enumerate(spreads):
        _write(axis, number(spread.median), spread.high, place)


def _draw_points(axis: Axes, names: Sequence[str], spreads: Sequence[Spread], tails: Sequence[Spread]) -> None:
    axis.set_xscale("log")
    # A median and a tail that lie upon one another would hide one another's whiskers.
    for spread_of, shift, filled in ((spreads, -0.13, True), (tails, 0.13, False)):
        for place, (name, spread) in enumerate(zip(names, spread_of, strict=True)):
            axis.errorbar(
                spread.median,
                place + shift,
                xerr=_whiskers([spread]),
                fmt="o",
                color=_COLOURS[name],
                markerfacecolor=_COLOURS[name] if filled else "white",
                markersize=8,
                elinewidth=1,
                capsize=3,
                ecolor="#333333",
            )
            _write(axis, number(spread.median), spread.high, place + shift)
    axis.set_xlim(min(spread.low for spread in spreads) / 2, max(spread.high for spread in tails) * 2.5)


def _whiskers(spreads: Sequence[Spread]) -> list[list[float]]:
    below = [spread.median - spread.low for spread in spreads]
    return [below, [spread.high - spread.median for spread in spreads]]


def _write(axis: Axes, text: str, x: float, y: float) -> None:
    axis.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
