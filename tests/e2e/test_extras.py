"""`python -m benchmarks.extras`, small: that it measures what it says. What it found is in docs/performance.md."""

from __future__ import annotations

from random import Random

import pytest

from benchmarks import extras
from benchmarks.extras import Turn
from tests.requirements import require_mosquitto


def test_what_disturbs_a_round_does_not_count() -> None:
    """In some rounds the machine is slow for all agents, in some for one; the extra costs a tenth."""
    without = [Turn(1e-6, 2e-6), Turn(2e-6, 4e-6), Turn(3e-6, 7e-6), Turn(1e-6, 2e-6), Turn(1e-6, 3e-6)]
    turns = [Turn(1.1e-6, 2e-6), Turn(2.2e-6, 4e-6), Turn(3.3e-6, 7e-6), Turn(3.3e-6, 6e-6), Turn(1.1e-6, 1e-6)]
    found = extras.cost(1000, (turns, 0.0), (without, 0.0), 7)
    assert found.many_ratio.median == pytest.approx(1.1)
    assert found.one_ratio.median == pytest.approx(1.0)
    assert found.many == pytest.approx(2.2)
    assert found.one == pytest.approx(4.0)
    assert (found.rss, found.rounds) == (7, 5)


def test_a_report_counts_once_for_each_message_of_all_sensors() -> None:
    found = extras.cost(1000, ([Turn(1e-6, 4e-6)], 3e-3), ([Turn(1e-6, 4e-6)], 1e-3), 7)
    assert found.many_ratio.median == pytest.approx(4 / 2)
    assert found.one_ratio.median == pytest.approx(7 / 5)
    assert found.many == pytest.approx(1.0)
    assert found.report == pytest.approx(3000)


def test_the_interval_holds_the_median_in_nearly_all_cases() -> None:
    source = Random(3)
    found = [extras.ratio([source.lognormvariate(0.0, 0.2) for _ in range(101)]) for _ in range(400)]
    assert 0.92 < sum(one.low <= 1.0 <= one.high for one in found) / len(found) < 0.99
    assert str(extras.ratio([1.0, 1.02])) == "1.010 x [1.000, 1.020]"


def test_agents_with_and_without_are_measured() -> None:
    require_mosquitto()
    found = extras.measure(20, 0.0, {"textfile, discovery"}, copies=1, reporting=2.0)
    assert list(found) == ["none", "textfile, discovery"]
    for cost in found.values():
        assert cost.many > 0
        assert cost.one > 0
        assert cost.report > 0
        assert cost.rss > 1 << 24
    assert found["none"].many_ratio == found["none"].one_ratio == (1.0, 1.0, 1.0)
