"""What a candidate costs a message while it contends for the place of a model, and how often a good one would be sent back by chance.

    python -m benchmarks.contest

The pipeline alone, without broker and connection, as in `benchmarks.pipeline`: without a candidate (twice, which shows how far a ratio can be
trusted), in shadow, as a canary and in soak. CPU time of this process; all ways take turns; a figure is the median of the rounds,
a ratio that of the rounds' own ratios. The candidate is the same model, and messages come as fast as they are answered, which
is when there is least time for comparing; that time is processor time here, as if it had a machine of its own. The last way has no limit of time, so it compares as many as are noted.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from typing import Final, NamedTuple

from benchmarks import payloads
from edge_agent.contract.messages import Message
from edge_agent.contract.templates import Template
from edge_agent.model.library import Library
from edge_agent.routing.routes import Route
from edge_agent.serving.contest import Contesting
from edge_agent.serving.engine import Model
from edge_agent.serving.evidence import Share
from edge_agent.serving.pipeline import Pipeline

_TOGETHER: Final = (1, 20)
_ROUNDS: Final = 11
_MESSAGES: Final = 20_000
_SENSORS: Final = 50
_ROUTE: Final = Route("genre", Template("in/{s}/x"), Template("out/{s}"), Template("out/{s}/error"))
#: Simulated candidates that are exactly as bad as the limit allows, rows of each, and after how many it is looked at.
_RUNS: Final = 500
_ROWS: Final = 1_500
_LOOK: Final = 10
_LIMIT: Final = 0.05


class Way(NamedTuple):
    """A pipeline, its candidate, and whether there is no limit of time."""

    pipeline: Pipeline
    contesting: Contesting | None = None
    unlimited: bool = False


def main() -> int:
    """Print the tables."""
    model = Library().load("genre")
    rows = payloads.draw_rows(model.card, payloads.COUNT)
    texts = [json.dumps(row).encode() for row in rows]
    messages = [Message(f"in/{one % _SENSORS}/x", texts[one % len(texts)], 1) for one in range(_MESSAGES)]
    ways = {
        "no candidate": Way(Pipeline([_ROUTE], {"genre": model})),
        "no candidate, again": Way(Pipeline([_ROUTE], {"genre": model})),
        "shadow": _contested(model, 0.0),
        "canary of 10%": _contested(model, 0.1),
        "soak": _contested(model, 1.0),
        "shadow, unlimited": _contested(model, 0.0, unlimited=True),
    }
    print(f"{'us of CPU a message':22}" + "".join(f"{f'{count} together':>20}" for count in _TOGETHER) + "   compared")
    found = [_measure(ways, messages, together) for together in _TOGETHER]
    for name, way in ways.items():
        told = "" if way.contesting is None else _told(way.contesting)
        print(f"{name:22}" + "".join(f"{one[name][0]:11.1f} ({one[name][1]:.2f} x)" for one in found) + told)
    print("\nrolled back by chance, of candidates that differ exactly as often as they may:")
    for stays in (0.0, 0.8, 0.95):
        alarms = [_alarms(random.Random(seed), stays) for seed in range(_RUNS)]
        deflated, plain = (statistics.fmean(column) for column in zip(*alarms, strict=True))
        print(
            f"  rows as the sensor's last one {stays:4.0%}: {deflated:6.1%}, {plain:6.1%} if all rows were independent"
        )
    return 0


def _contested(model: Model, share: float, *, unlimited: bool = False) -> Way:
    contesting = Contesting(model, share)
    return Way(Pipeline([_ROUTE], {"genre": model}, contests={"genre": contesting}), contesting, unlimited)


def _told(contesting: Contesting) -> str:
    described = contesting.describe()
    if described["agreement"] != 1.0:
        raise SystemExit(f"benchmarks.contest: a model does not agree with itself: {described}")
    return f"   {described['compared'] / (described['compared'] + described['skipped']):.0%}"


def _endless() -> float:
    """A clock by which nothing takes any time, so that there is always enough."""
    return 0.0


def _measure(ways: dict[str, Way], messages: list[Message], together: int) -> dict[str, tuple[float, float]]:
    """Return by the name of the way the CPU time of a message in us, and its ratio to that without a candidate."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    slices = [messages[start : start + together] for start in range(0, len(messages), together)]
    for way in ways.values():
        way.pipeline.process(messages)
    for _ in range(_ROUNDS):
        for name, (pipeline, _, unlimited) in ways.items():
            before = time.process_time()
            for one in slices:
                pipeline.process(one)
                if pipeline.contests is not None:
                    pipeline.contests.catch_up(_endless if unlimited else time.process_time)
            found[name].append((time.process_time() - before) / len(messages) * 1e6)
    first = found["no candidate"]
    return {
        name: (statistics.median(times), statistics.median(map(float.__truediv__, times, first)))
        for name, times in found.items()
    }


class _Independent(Share):
    """The share, if no row said anything of the sensor's next one."""

    @property
    def evidence(self) -> float:
        """All rows."""
        return float(self.rows)


def _alarms(draw: random.Random, stays: float) -> list[bool]:
    """Return whether a candidate is sent back in one run, and whether it would be if all rows were independent."""
    shares, alarms = (Share(), _Independent()), [False, False]
    state = [draw.random() < _LIMIT for _ in range(8)]
    for number in range(_ROWS):
        sensor = number % len(state)
        if draw.random() >= stays:
            state[sensor] = draw.random() < _LIMIT
        for which, share in enumerate(shares):
            share.add(f"s{sensor}", state[sensor])
            if number % _LOOK == _LOOK - 1:
                alarms[which] = alarms[which] or share.exceeds(_LIMIT, last=False)
    return alarms


if __name__ == "__main__":
    sys.exit(main())
