"""The agent's targets, as ratios to the other programs where possible, and whether they are met. Pure.

A ratio is taken in each round, between measurements that were seconds apart, and its median is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from benchmarks.results import Measurement, Results, Spread
from benchmarks.scenarios import BATCH, CONNECTIONS, Scenario

#: Name, in `Results.starts`, of a Python that imports the agent's libraries and ends.
IMPORT: Final = "import"
_MIB: Final = 1024 * 1024

Figure = Callable[[Measurement], float]


@dataclass(frozen=True)
class Verdict:
    """One line of the report. `asked` is the target, None where a ratio is only shown."""

    name: str
    measured: Spread
    unit: str
    asked: float | None = None
    at: Literal["least", "most"] = "least"

    @property
    def ok(self) -> bool | None:
        """Whether the median meets the target; None without a target."""
        if self.asked is None:
            return None
        return self.measured.median >= self.asked if self.at == "least" else self.measured.median <= self.asked

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "median": self.measured.median,
            "min": self.measured.low,
            "max": self.measured.high,
            "unit": self.unit,
            "asked": self.asked,
            "at": self.at,
            "ok": self.ok,
        }


def judge(results: Results) -> list[Verdict]:
    """Return every ratio that the results allow, in the order of the report."""
    return [*_rates(results), *_latencies(results), *_protocols(results), *_batches(results), *_footprint(results)]


def _rate(one: Measurement) -> float:
    return one.rate


def _where(scenario: Scenario) -> str:
    return f"MQTT {scenario.protocol}, QoS {scenario.qos}, {scenario.outstanding} outstanding"


def _ratio(results: Results, above: tuple[str, Scenario], below: tuple[str, Scenario], figure: Figure) -> Spread | None:
    """Return the ratio of a figure, round by round; None when one of the two was not measured."""
    pairs = list(zip(results.rounds(*above), results.rounds(*below), strict=False))
    return Spread.of(figure(one) / figure(other) for one, other in pairs) if pairs else None


def _mqtt(results: Results, *, rows: int = 1, outstanding: int = 500) -> Iterator[Scenario]:
    """Yield the scenarios of that kind that were measured, QoS 1 first."""
    kind = [
        one
        for one in results.plan.scenarios
        if (one.transport, one.rows, one.outstanding) == ("mqtt", rows, outstanding)
    ]
    yield from sorted(kind, key=lambda one: (-one.qos, one.protocol))


def _rates(results: Results) -> Iterator[Verdict]:
    asked = {("afternoon", 1): 10.0, ("echo", 1): 4.0, ("afternoon", 0): 2.0, ("echo", 0): 1.2}
    titles = {"afternoon": "afternoon version", "echo": "stock echo"}
    for scenario in _mqtt(results):
        where = _where(scenario)
        for other, title in titles.items():
            ratio = _ratio(results, ("agent", scenario), (other, scenario), _rate)
            if ratio is not None:
                yield Verdict(f"{where}: rate / {title}", ratio, "x", asked[other, scenario.qos])
        for other, title, least in (("fastapi", "FastAPI's requests", 3.5), ("flask", "Flask's requests", None)):
            http = Scenario("http", 1, CONNECTIONS)
            ratio = _ratio(results, ("agent", scenario), (other, http), _rate) if scenario.qos else None
            if ratio is not None:
                yield Verdict(f"{where}: rate / {title}", ratio, "x", least)


def _latencies(results: Results) -> Iterator[Verdict]:
    for scenario in _mqtt(results, outstanding=20):
        ratio = _ratio(results, ("agent", scenario), ("afternoon", scenario), lambda one: one.p50)
        if ratio is not None:
            yield Verdict(f"{_where(scenario)}: p50 / afternoon version", ratio, "x", 0.1, "most")


def _protocols(results: Results) -> Iterator[Verdict]:
    for scenario in _mqtt(results):
        older = replace(scenario, protocol="3.1.1")
        ratio = _ratio(results, ("agent", scenario), ("agent", older), _rate) if scenario.protocol == "5" else None
        if ratio is not None:
            yield Verdict(f"{_where(scenario)}: rate / MQTT 3.1.1", ratio, "x", 0.75)


def _batches(results: Results) -> Iterator[Verdict]:
    for scenario in _mqtt(results, rows=BATCH):
        if results.rounds("agent", scenario):
            rate = results.spread("agent", scenario, lambda one: one.rows_rate)
            yield Verdict(f"{_where(scenario)}: rows in batches of {BATCH}", rate, "rows/s", 300_000)


def _footprint(results: Results) -> Iterator[Verdict]:
    for scenario in _mqtt(results):
        if scenario.qos == 0 or not results.rounds("agent", scenario):
            continue
        where = f"MQTT {scenario.protocol}, after QoS 1, 500 outstanding"
        memory = results.spread("agent", scenario, lambda one: one.rss / _MIB)
        yield Verdict(f"{where}: RSS", memory, "MiB", 85, "most")
        ratio = _ratio(results, ("agent", scenario), ("afternoon", scenario), lambda one: one.rss)
        if ratio is not None:
            yield Verdict(f"{where}: RSS / afternoon version", ratio, "x", 1.15, "most")
    if "agent" in results.starts:
        pairs = zip(results.starts["agent"], results.starts[IMPORT], strict=True)
        name = "exec to first label / importing its libraries"
        yield Verdict(name, Spread.of(agent / alone for agent, alone in pairs), "x", 1.5, "most")
    for name, share in results.idle.items():
        if name.startswith("agent-"):
            protocol = name.removeprefix("agent-")
            yield Verdict(f"MQTT {protocol}, no messages: CPU, of a core", Spread.of([100 * share]), "%", 0.5, "most")
