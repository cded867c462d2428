"""What is asked of the subjects, how often and for how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Final, Literal

BATCH: Final = 100
#: HTTP has one request in flight on each kept-alive connection. More connections give no more requests a second.
CONNECTIONS: Final = 20

Transport = Literal["mqtt", "http"]


@dataclass(frozen=True)
class Scenario:
    """One way to ask: `rows` in a message, `outstanding` messages unanswered at any time."""

    transport: Transport
    rows: int
    outstanding: int
    qos: int = 0
    protocol: str = ""

    @property
    def key(self) -> str:
        """Name it in the JSON report."""
        if self.transport == "http":
            return f"http/{self.outstanding}/{self.rows}"
        return f"mqtt-{self.protocol}/qos{self.qos}/{self.outstanding}/{self.rows}"

    def __str__(self) -> str:
        what = "single rows" if self.rows == 1 else f"batches of {self.rows}"
        if self.transport == "http":
            return f"HTTP, {self.outstanding} connections, {what}"
        return f"MQTT {self.protocol}, QoS {self.qos}, {self.outstanding} outstanding, {what}"


@dataclass(frozen=True)
class Plan:
    """A whole run. `seconds` is the length of one measurement, `warm_up` of what goes before it, `idle` of the rest."""

    scenarios: tuple[Scenario, ...]
    rounds: int
    seconds: float
    warm_up: float
    idle: float

    @property
    def stages(self) -> tuple[tuple[Scenario, ...], ...]:
        """The scenarios in the order in which they are gone through: all rounds of one stage, then those of the next.

        Batches come last: the buffers that they leave behind would be in the memory shown for single rows.
        """
        sizes = sorted({scenario.rows for scenario in self.scenarios})
        return tuple(tuple(one for one in self.scenarios if one.rows == rows) for rows in sizes)

    def with_rounds(self, rounds: int | None) -> Plan:
        """Return the plan with another number of rounds; None leaves it."""
        return self if rounds is None else replace(self, rounds=rounds)


def _mqtt(rows: int, outstanding: int, qos: int, protocol: str) -> Scenario:
    return Scenario("mqtt", rows, outstanding, qos, protocol)


_HTTP: Final = (Scenario("http", 1, CONNECTIONS), Scenario("http", BATCH, CONNECTIONS))

#: Everything: under a quarter of an hour on two cores.
FULL: Final = Plan(
    scenarios=(
        *(
            _mqtt(rows, outstanding, qos, protocol)
            for rows, outstanding, qos, protocol in product((1, BATCH), (500, 20), (1, 0), ("3.1.1", "5"))
        ),
        *_HTTP,
    ),
    rounds=5,
    seconds=1.5,
    warm_up=0.25,
    # As long as it is from one health report of the agent to the next: exactly one is in it.
    idle=30.0,
)

#: What the ratios need, in about a minute.
QUICK: Final = Plan(
    scenarios=(
        _mqtt(1, 500, 1, "3.1.1"),
        _mqtt(1, 500, 1, "5"),
        _mqtt(1, 500, 0, "5"),
        _mqtt(1, 20, 1, "5"),
        _mqtt(BATCH, 500, 1, "5"),
        _HTTP[0],
    ),
    rounds=3,
    seconds=0.5,
    warm_up=0.1,
    idle=5.0,
)

#: Whether it all works; the figures say nothing.
SMOKE: Final = Plan(
    scenarios=(_mqtt(1, 500, 1, "5"), _mqtt(BATCH, 20, 0, "5"), _HTTP[0]), rounds=1, seconds=0.2, warm_up=0.05, idle=0.3
)
