"""What was measured, its medians, and the JSON that it is written as. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.scenarios import Plan, Scenario


@dataclass(frozen=True)
class Spread:
    """The median of several rounds, with the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return that of at least one value."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))


@dataclass(frozen=True)
class Measurement:
    """One subject in one scenario in one round.

    Latencies `p50` and `p99` in seconds; `cpu_per_1000` in CPU seconds of the subject per 1,000 messages; `rss` and
    `pss` in bytes, taken after it; `generator` and `broker` in CPU seconds a second.
    """

    subject: str
    scenario: Scenario
    round: int
    messages: int
    seconds: float
    p50: float
    p99: float
    cpu_per_1000: float
    rss: int
    pss: int
    generator: float
    broker: float

    @property
    def rate(self) -> float:
        """Messages (or requests) answered a second."""
        return self.messages / self.seconds

    @property
    def rows_rate(self) -> float:
        """Rows answered a second."""
        return self.rate * self.scenario.rows


@dataclass
class Results:
    """A whole run. `starts` in seconds, a list a program; `idle` in shares of one core, `agreement` in shares of rows."""

    plan: Plan
    measurements: list[Measurement] = field(default_factory=list)
    starts: dict[str, list[float]] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)

    def subjects(self, scenario: Scenario) -> list[str]:
        """Return who was measured in a scenario, in the order of the first round."""
        return list(dict.fromkeys(one.subject for one in self.measurements if one.scenario == scenario))

    def rounds(self, subject: str, scenario: Scenario) -> list[Measurement]:
        """Return what was measured of a subject in a scenario, round by round; empty when it was not."""
        return [one for one in self.measurements if one.subject == subject and one.scenario == scenario]

    def spread(self, subject: str, scenario: Scenario, of: Callable[[Measurement], float]) -> Spread:
        """Return the median of a figure over the rounds."""
        return Spread.of(of(one) for one in self.rounds(subject, scenario))

    def to_json(self) -> dict[str, Any]:
        """Return plain data: every single measurement, and nothing rounded."""
        return {
            "plan": {
                "rounds": self.plan.rounds,
                "seconds": self.plan.seconds,
                "warm_up": self.plan.warm_up,
                "idle": self.plan.idle,
            },
            "measurements": [
                {**asdict(one), "scenario": one.scenario.key, "rate": one.rate, "rows_rate": one.rows_rate}
                for one in self.measurements
            ],
            "start_seconds": self.starts,
            "idle_cores": self.idle,
            "agreement": self.agreement,
        }
