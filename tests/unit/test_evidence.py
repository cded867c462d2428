"""When a share of rows is reason enough: not after a few, nor after many that say the same."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.messages import to_json, validator
from edge_agent.contract.progress import Compared
from edge_agent.serving.evidence import FEW, ContestLimits, Figures, Share


def share_of(*cases: tuple[str, bool]) -> Share:
    share = Share()
    for sensor, case in cases:
        share.add(sensor, case)
    return share


def figures(differing: int = 0, same: int = 0, *, failed: int = 0, rejected: int = 0) -> Figures:
    """Rows of as many sensors: independent of one another."""
    found = Figures()
    number = itertools.count()
    for case, rows in ((True, differing), (False, same)):
        for _ in range(rows):
            sensor = f"s{next(number)}"
            found.rejected.add(sensor, False)
            found.failed.add(sensor, False)
            found.differing.add(sensor, case)
            if case:
                found.differ("Rock", "Hip-Hop")
    for share, rows in ((found.failed, failed), (found.rejected, rejected)):
        for _ in range(rows):
            share.add(f"s{next(number)}", True)
    return found


STRICT = ContestLimits(min_agreement=0.98, max_failed=0.0, max_rejected=0.05)


def test_no_verdict_on_a_few_rows() -> None:
    assert figures(FEW - 1).trouble(STRICT) is None
    assert figures(FEW - 1).trouble(STRICT, last=True) is None
    assert figures(FEW).trouble(STRICT) == (
        "it agrees with the model before on 0 of 30 rows (0%), and min_agreement is 98%; "
        "most often 'Rock' became 'Hip-Hop' (30 times)"
    )
    assert figures(0, 10_000).trouble(STRICT, last=True) is None


def test_a_share_near_its_limit_is_no_reason_before_the_end() -> None:
    near = figures(5, 195)  # 97.5%
    assert near.trouble(STRICT) is None
    assert "195 of 200 rows (97.5%)" in str(near.trouble(STRICT, last=True))
    assert "min_agreement is 98%" in str(figures(100, 1900).trouble(STRICT))


def test_a_limit_of_zero_takes_one_case() -> None:
    assert figures(same=2, failed=1).trouble(STRICT) == (
        "it fails on 1 of 3 rows that the model before answers (33.33%), and max_failed is 0%"
    )
    assert figures(same=2, failed=1).trouble(ContestLimits(max_failed=0.1)) is None
    assert "max_failed is 10%" in str(figures(same=50, failed=50).trouble(ContestLimits(max_failed=0.1)))


def test_rejections_have_no_limit_unless_told() -> None:
    found = figures(same=50, rejected=50)
    assert found.trouble(ContestLimits()) is None
    assert found.trouble(STRICT) == (
        "it rejects 50 of 100 rows that the model before takes (50%), and max_rejected is 5%"
    )


def test_latency_takes_many_calls_and_a_time_that_somebody_notices() -> None:
    limits = ContestLimits(max_slower=5.0)
    found = Figures()
    for _ in range(FEW):
        found.took(0.001, 0.010, 1)
    assert found.trouble(limits) is None  # the first call warms up
    found.took(0.001, 0.010, 1)
    found.took(0.001, 0.010, 1)
    assert found.trouble(limits) == (
        "it takes 10 ms of processor time a row where the model before takes 1 ms, and max_slower is 5 times"
    )
    assert found.trouble(ContestLimits()) is None
    quick = Figures()
    for _ in range(100):
        quick.took(0.00001, 0.0005, 1)
    assert quick.trouble(limits) is None
    assert quick.describe()["microseconds"] == {"before": 10.0, "candidate": 500.0}


def test_rows_of_a_sensor_that_stays_as_it_is_count_little() -> None:
    """One sensor of twenty differs all the time: that is one of twenty, not one in twenty of 20,000 rows."""
    stuck = [(f"s{sensor}", sensor == 0) for _ in range(1000) for sensor in range(20)]
    assert share_of(*stuck).evidence < 40
    assert not share_of(*stuck).exceeds(0.02, last=False)
    assert share_of(*stuck).exceeds(0.02, last=True)
    mixed = random.Random(1)
    spread = [(f"s{sensor}", mixed.random() < 0.05) for _ in range(1000) for sensor in range(20)]
    assert share_of(*spread).evidence > 15_000
    assert share_of(*spread).exceeds(0.02, last=False)


def test_one_sensor_that_always_differs_is_enough() -> None:
    assert not share_of(*[("s", True)] * (FEW - 1)).exceeds(0.02, last=False)
    assert share_of(*[("s", True)] * FEW).exceeds(0.02, last=False)


def _false_alarms(draw: random.Random, stays: float, runs: int) -> int:
    """Of so many runs with exactly the share at the limit, looked at after every tenth row: those in which that is exceeded. A sensor's next row
    is as its last one with the probability `stays`, else drawn anew.
    """
    found = 0
    for _ in range(runs):
        share, state = Share(), [draw.random() < 0.05 for _ in range(8)]
        for number in range(1500):
            sensor = number % len(state)
            if draw.random() >= stays:
                state[sensor] = draw.random() < 0.05
            share.add(f"s{sensor}", state[sensor])
            if number % 10 == 9 and share.exceeds(0.05, last=False):
                found += 1
                break
    return found


@pytest.mark.parametrize("stays", [0.0, 0.8, 0.95])
def test_false_alarms_are_rare(stays: float) -> None:
    """At the limit itself: whoever is above it is not rolled back for bad luck. 150 looks in each run."""
    assert _false_alarms(random.Random(7), stays, runs=200) <= 10


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_bounds(cases: list[tuple[str, bool]]) -> None:
    share = share_of(*cases)
    assert 0 <= share.evidence <= share.rows or not share.rows
    assert 0 <= share.least <= share.value + 1e-12 <= 1 + 1e-12
    assert (share.least > 0) == bool(share.cases)
    assert share.exceeds(0.0, last=False) == bool(share.cases)


def test_sizes_are_bounded() -> None:
    found = Figures()
    for number in range(5000):
        found.differing.add(f"s{number}", True)
        found.differ(f"label {number}", "x" * 128)
        found.remark(f"remark {number}")
    described = found.describe()
    assert len(described["differing"]) == len(described["remarks"]) == 8
    assert len(to_json(described)) < 4096
    assert len(found._pairs) == 256
    assert len(found.differing._before) == 1000


def test_the_figures_are_what_the_contract_says() -> None:
    found = figures(2, 8, failed=1, rejected=3)
    found.took(1.0, 1.0, 1)
    found.took(0.001, 0.002, 10)
    described = found.describe()
    validator(Compared).validate_json(to_json(described), strict=True)
    assert described == {
        "rows": 13,
        "skipped": 0,
        "rejected": 3,
        "failed": 1,
        "compared": 10,
        "agreement": 0.8,
        "differing": [("Rock", "Hip-Hop", 2)],
        "incomparable": 0,
        "microseconds": {"before": 100.0, "candidate": 200.0},
        "remarks": [],
    }
    assert Figures().describe()["agreement"] is None
