"""Whether drift is told when there is one, and not when there is none: simulated sensors, many at once, with the agent's own code.

    python -m tests.drifting [--weeks 1000]

Each simulated sensor is a model with one feature: an autoregressive process AR(1), as temperatures and levels are, drawn from what it
was trained on. The models are the columns of one `Watch`, so that hundreds of weeks take seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

from edge_agent.contract.card import QUANTILE_LEVELS
from edge_agent.model.drift import PARTS, Watch
from edge_agent.model.reference import Column, Floats

HOUR: Final = 3600.0
#: Those of a normal distribution; 5 standard deviations stand for the least and the largest value.
QUANTILES: Final = (-5.0, *(NormalDist().inv_cdf(one) for one in QUANTILE_LEVELS[1:-1]), 5.0)
#: How many features a model has, over which the probability of an alarm by chance is shared.
FEATURES: Final = 8
_BLOCK: Final = 1 << 20


class Seen(NamedTuple):
    """When each simulated sensor was first alarmed about, in hours (inf for never), and how many looks there were at each."""

    alarms: Floats
    looks: int


def process(count: int, rho: float, seed: int) -> Iterator[Floats]:
    """Yield one value each of `count` independent AR(1) processes with mean 0 and deviation 1, for ever."""
    source = np.random.default_rng(seed)
    now, noise = source.standard_normal(count), np.sqrt(1.0 - rho * rho)
    while True:
        for fresh in source.standard_normal((max(1, _BLOCK // count), count)):
            now = rho * now + noise * fresh
            yield now


def watch(
    weeks: int, hours: int, *, seconds: float, rho: float, seed: int, shift: float = 0.0, since: float = 0.0
) -> Seen:
    """Watch `weeks` sensors for so many hours, with a message every so many seconds; from hour `since` on all are shifted."""
    watched = Watch([Column(f"x{one}", quantiles=QUANTILES) for one in range(weeks)])
    values, alarms, looks = process(weeks, rho, seed), np.full(weeks, np.inf), 0
    each = max(1, _BLOCK // weeks)
    for hour in range(hours):
        left, now = round(HOUR / seconds), hour * HOUR
        moved = shift if hour >= since else 0.0
        while left:
            size = min(left, each)
            rows = np.stack([next(values) for _ in range(size)]) + moved
            watched.add(rows, ["sensor"] * size, now)
            left -= size
        if hour + 1 >= PARTS:
            looks += 1
            for place, found in enumerate(watched.findings()):
                if alarms[place] == np.inf and found.alarms(FEATURES):
                    alarms[place] = hour + 1
    return Seen(alarms, looks)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> int:
    """Print the rates."""
    parser = argparse.ArgumentParser(description="Simulate sensors with and without drift.")
    parser.add_argument("--weeks", type=int, default=1000, help="how many of each kind (default: 1000)")
    weeks = parser.parse_args().weeks
    _say("no drift, a week each, AR(1) 0.95, looked at every hour:")
    for seconds, many in ((600.0, weeks), (60.0, weeks), (10.0, weeks), (1.0, -(-weeks // 10)), (0.1, -(-weeks // 50))):
        began = time.process_time()
        seen = watch(many, 7 * 24, seconds=seconds, rho=0.95, seed=1)
        _say(
            f"  a message every {seconds:g} s: {np.isfinite(seen.alarms).sum()} of {many} weeks with an alarm"
            f" ({seen.looks * many:,} looks, {time.process_time() - began:.0f} s of CPU)"
        )
    _say("half a standard deviation more from the second day on, AR(1) 0.95:")
    for seconds, many in ((60.0, weeks), (10.0, weeks), (1.0, -(-weeks // 10)), (0.1, -(-weeks // 50))):
        seen = watch(many, 72, seconds=seconds, rho=0.95, seed=2, shift=0.5, since=24)
        after = seen.alarms - 24
        _say(
            f"  a message every {seconds:g} s: alarm within a day {np.mean(after <= 24):.1%}, within two {np.mean(after <= 48):.1%};"
            f" median {np.median(after):g} h"
        )
    _say("values of one day that say as much as so many independent ones, AR(1) 0.95:")
    for shift, independent in ((0.5, 250), (1.0, 75), (2.0, 40)):
        each = 24 * HOUR / independent * (1 - 0.95) / (1 + 0.95)
        found = np.isfinite(watch(weeks, 24, seconds=each, rho=0.95, seed=3, shift=shift).alarms)
        _say(f"  {shift:g} standard deviations more, {independent} independent values: alarm {np.mean(found):.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
