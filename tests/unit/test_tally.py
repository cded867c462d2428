from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.tally import BOUNDS, Counts, Tally, bucket


def counted() -> tuple[Tally, Counts]:
    """A tally that serves one route, and what counts that."""
    tally = Tally()
    return tally, tally.serve(["route"])["route"]


def test_nothing_happened() -> None:
    tally = Tally()
    assert tally.latency() is None
    assert tally.take_reasons() is None


def test_latencies_are_those_since_they_were_forgotten() -> None:
    tally = Tally()
    for millisecond in range(1, 101):
        tally.took(millisecond / 1000, 1)
    assert tally.latency() == tally.latency() == (0.051, 0.1)
    tally.forget_latency()
    assert tally.latency() is None
    tally.took(0.5, 1)
    assert tally.latency() == (0.5, 0.5)


def test_a_batch_counts_for_each_of_its_messages() -> None:
    tally = Tally()
    tally.took(0.001, 98)
    tally.took(0.2, 2)
    assert tally.latency() == (0.001, 0.2)


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5000)), max_size=5))
def test_percentiles_are_latencies_that_were(batches: list[tuple[float, int]]) -> None:
    tally = Tally()
    for seconds, messages in batches:
        tally.took(seconds, messages)
    taken = tally.latency()
    tally.forget_latency()
    if taken is None:
        assert sum(messages for _, messages in batches) == 0
    else:
        assert set(taken) <= {seconds for seconds, _ in batches}
        assert taken[0] <= taken[1]
    assert len(tally._latencies) == 0


def test_reasons_are_summed_up_the_most_frequent_first() -> None:
    tally, counts = counted()
    for reason in ["a", "b", "b", "c", "c", "c"]:
        counts.rejected("invalid_features", reason)
    assert tally.take_reasons() == "6 rejected: 3 x c, 2 x b, 1 x a"
    assert tally.take_reasons() is None
    # The totals stay.
    assert tally.total.rejections == {"invalid_features": 6}


def test_more_reasons_than_fit_are_counted_all_the_same() -> None:
    tally, counts = counted()
    for number in range(1000):
        counts.rejected("code", f"reason {number}")
    for _ in range(9):
        counts.rejected("code", "reason 0")
    summary = tally.take_reasons()
    assert summary is not None
    assert summary.startswith("1009 rejected: 10 x reason 0, 1 x reason ")
    assert summary.endswith(f", {1009 - 10 - 4} x other reasons")
    assert "\n" not in summary
    counts.rejected("code", "reason 500")
    assert tally.take_reasons() == "1 rejected: 1 x reason 500"


@given(st.lists(st.integers(0, 40).map(str)))
def test_no_rejection_is_lost_in_the_summary(reasons: list[str]) -> None:
    tally, counts = counted()
    for reason in reasons:
        counts.rejected("code", reason)
    summary = tally.take_reasons()
    if summary is None:
        assert not reasons
    else:
        told, _, parts = summary.partition(" rejected: ")
        assert int(told) == len(reasons) == sum(int(part.split(" x ")[0]) for part in parts.split(", "))
    assert tally.total.rejections == Counter({"code": len(reasons)} if reasons else {})


def test_notes_are_counted_with_the_first_topic_and_bounded() -> None:
    tally = Tally()
    for number in range(100):
        tally.note("left", f"topic {number}")
        tally.note(f"kind {number}", "t")
    first, *others = tally.take_notes()
    assert first == ("left", 100, "topic 0")
    assert len(others) < 20
    assert tally.take_notes() == []


def test_the_totals_are_the_sums_of_the_routes() -> None:
    tally = Tally()
    counts = tally.serve("ab")
    counts["a"].predictions += 2
    counts["b"].predictions += 3
    counts["b"].outside += 1
    counts["a"].uncertain += 1
    counts["a"].ignored += 4
    counts["a"].rejected("x", "r", 5)
    counts["b"].rejected("x", "r")
    counts["b"].rejected("y", "r")
    assert (tally.total.predictions, tally.total.outside, tally.total.uncertain, tally.total.ignored) == (5, 1, 1, 4)
    assert tally.total.rejections == {"x": 6, "y": 1}


def test_totals_stay_when_routes_go_and_routes_that_stay_go_on() -> None:
    tally = Tally()
    before = tally.serve("ab")
    before["a"].predictions, before["b"].predictions = 1, 2
    before["a"].rejected("x", "r")
    for _ in range(100):
        after = tally.serve("bc")
    assert after["b"] is before["b"]
    assert (after["c"].predictions, after["c"].rejections) == (0, {})
    after["c"].predictions += 4
    assert (tally.total.predictions, tally.total.rejections) == (7, {"x": 1})
    # One that comes back begins anew, as a counter does after a restart.
    assert tally.serve("abc")["a"].predictions == 0
    assert (tally.total.predictions, tally.total.rejections) == (7, {"x": 1})


def test_a_bucket_has_all_up_to_its_bound() -> None:
    for place, bound in enumerate(BOUNDS):
        assert bucket(bound) == place
        assert bucket(bound * 1.0001) == place + 1
    assert (bucket(0.0), bucket(1e9)) == (0, len(BOUNDS))
