"""`python -m benchmarks.extras`, small: that it measures what it says. What it found is in docs/performance.md."""

from __future__ import annotations

import pytest

from benchmarks import extras
from benchmarks.extras import Turn
from tests.requirements import require_mosquitto


def test_a_ratio_is_that_of_one_round() -> None:
    """The machine slows down by half; the extra costs a tenth all the while."""
    without = [Turn(1e-6, 2e-6), Turn(2e-6, 4e-6), Turn(2e-6, 4e-6)]
    turns = [Turn(1.1e-6, 2e-6), Turn(2.2e-6, 4e-6), Turn(2.2e-6, 4e-6)]
    found = extras.cost(turns, without, 7)
    assert found.many_ratio == pytest.approx(1.1)
    assert found.one_ratio == pytest.approx(1.0)
    assert found.many == pytest.approx(2.2)
    assert found.one == pytest.approx(4.0)
    assert found.rss == 7


def test_agents_with_and_without_are_measured() -> None:
    require_mosquitto()
    found = extras.measure(20, 2, {"textfile"})
    assert list(found) == ["none", "textfile"]
    for cost in found.values():
        assert cost.many > 0
        assert cost.one > 0
        assert cost.rss > 1 << 24
    assert found["none"].many_ratio == found["none"].one_ratio == 1.0
