"""Drift: effect and evidence, what ties of quantiles leave open, one odd sensor among many, and the window."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from pydantic import ValidationError

from edge_agent.contract.card import QUANTILE_LEVELS, parse
from edge_agent.contract.expected import Expected
from edge_agent.model.drift import PARTS, Watch, at_levels, chance_of, compared
from edge_agent.model.reference import Column, answers_of
from edge_agent.model.unlike import how
from edge_agent.testing import make_card
from tests import drifting
from tests.drifting import FEATURES, HOUR, QUANTILES

SOURCE = np.random.default_rng(7)


def watched(column: Column, values: object, *, sensors: int = 1, hours: float = 24.0) -> Watch:
    """A day of one column's values, spread over its hours."""
    rows = np.asarray(values, np.float64).reshape(-1, 1)
    watch = Watch([column], hours=hours)
    for hour, part in enumerate(np.array_split(rows, PARTS)):
        watch.add(part, [f"s{one % sensors}" for one in range(len(part))], hour * HOUR)
    return watch


def test_a_week_without_drift_has_no_alarm() -> None:
    """The long form is below, and `python -m tests.drifting` prints the rates."""
    for seconds in (600.0, 60.0):
        seen = drifting.watch(100, 7 * 24, seconds=seconds, rho=0.95, seed=11)
        assert not np.isfinite(seen.alarms).any()


@pytest.mark.long
@pytest.mark.parametrize("seconds", [600.0, 60.0, 10.0])
def test_a_thousand_weeks_without_drift_have_no_alarm(seconds: float) -> None:
    seen = drifting.watch(1000, 7 * 24, seconds=seconds, rho=0.95, seed=1)
    assert np.isfinite(seen.alarms).sum() == 0


def test_half_a_deviation_is_told_within_a_day() -> None:
    seen = drifting.watch(20, 49, seconds=1.0, rho=0.9, seed=12, shift=0.5, since=24)
    assert (seen.alarms - 24 <= 24).mean() >= 0.95
    assert (seen.alarms > 24).all()  # none before


def test_effect_without_evidence_is_no_alarm() -> None:
    watch = watched(Column("x", quantiles=QUANTILES), [2.5] * 60 + [0.1] * 60)
    (found,) = watch.findings()
    assert found.psi is not None
    assert found.psi > 1.0
    assert not found.alarms(1)


def test_evidence_without_effect_is_no_alarm() -> None:
    watch = watched(Column("x", quantiles=QUANTILES), SOURCE.standard_normal(200_000) + 0.1)
    (found,) = watch.findings()
    assert found.chance < 1e-30
    assert not found.alarms(1)


def test_what_sensors_have_in_common_is_no_evidence() -> None:
    """A hundred sensors that see the same weather say as much as one."""
    weather = np.repeat([one[0] for one in islice(drifting.process(1, 0.95, 3), 288)], 100)
    values = weather + 0.01 * SOURCE.standard_normal(len(weather))
    watch = watched(Column("x", quantiles=QUANTILES), values, sensors=100)
    assert watch.findings()[0].independent < 60


@pytest.mark.parametrize(
    ("quantiles", "values"),
    [
        ((0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 3.0, 7.0, 9.0), [0] * 600 + [1] * 200 + [2, 3] * 80 + [5] * 32 + [8] * 8),
        ((0.0,) * 5 + (1.0,) * 4, [0] * 700 + [1] * 300),
        ((0.0,) * 9, [0] * 1000),
        ((0.0, 0.0, 0.0, 2.0, 5.0, 8.0, 10.0, 10.0, 10.0), list(range(11)) * 90),
    ],
    ids=["mostly zero", "boolean", "constant", "whole numbers"],
)
def test_equal_quantiles_are_no_drift(quantiles: tuple[float, ...], values: list[int]) -> None:
    (found,) = watched(Column("x", quantiles=quantiles), SOURCE.permutation(values)).findings()
    assert found.psi is not None
    assert found.psi < 0.05


def test_a_constant_that_changed_is_drift() -> None:
    (found,) = watched(Column("x", quantiles=(0.0,) * 9), SOURCE.integers(1, 3, 1000)).findings()
    assert found.alarms(FEATURES)
    assert how(found).startswith("higher than in training: 100 % above its")


def test_it_says_how() -> None:
    column = Column("temperature", unit="°C", quantiles=tuple(20 + 3 * one for one in QUANTILES))
    normal = 20 + 3 * SOURCE.standard_normal(20_000)
    told = {
        shift: how(watched(column, moved).findings()[0])
        for shift, moved in {
            "higher": normal + 5,
            "lower": normal - 5,
            "wider": 20 + 2.5 * (normal - 20),
            "closer": 20 + 0.3 * (normal - 20),
            "same": normal,
        }.items()
    }
    assert told["higher"].startswith("higher than in training: ")
    assert told["higher"].endswith("above its 75 % quantile (22.02 °C), there 25 %")
    assert told["lower"].startswith("lower than in training: ")
    assert told["wider"].startswith("more spread out than in training: ")
    assert told["closer"].startswith("closer together than in training: ")
    assert told["same"] == "as in training"


def test_labels_are_compared_with_their_shares() -> None:
    column = Column("label", "label", words=("Hip-Hop", "Rock"), shares=(0.2, 0.8))
    (found,) = watched(column, SOURCE.integers(0, 2, 5000)).findings()
    assert found.alarms(FEATURES)
    assert how(found) == "'Rock' less often than in training: 50 %, there 80 %" or how(found).startswith(
        "'Hip-Hop' more"
    )
    (same,) = watched(column, SOURCE.random(5000) < 0.8).findings()
    assert not same.alarms(FEATURES)


def test_one_odd_sensor_among_a_thousand_is_named() -> None:
    watch = Watch([Column("x", quantiles=QUANTILES)])
    for hour in range(PARTS):
        for _ in range(6):
            rows = SOURCE.standard_normal((1000, 1))
            rows[17] += 9.0
            watch.add(rows, [f"room/{one}" for one in range(1000)], hour * HOUR)
    assert not watch.findings()[0].alarms(FEATURES)
    odd = watch.odd_sensors(10)
    assert [(one.topic, one.is_above) for one in odd] == [("room/17", True)]
    assert odd[0].share > 0.99


def test_old_values_go_with_the_window() -> None:
    watch = Watch([Column("x", quantiles=QUANTILES)])
    for hour in range(3 * PARTS):
        shift = 3.0 if hour < 2 * PARTS else 0.0
        watch.add(SOURCE.standard_normal((500, 1)) + shift, ["s"] * 500, hour * HOUR)
    assert not watch.findings()[0].alarms(FEATURES)
    assert watch.rows == PARTS * 500
    watch.turn(9 * PARTS * HOUR)
    assert (watch.rows, watch.since) == (0, None)


def test_memory_is_bounded_whatever_the_sensors() -> None:
    watch = Watch([Column(f"x{one}", quantiles=QUANTILES) for one in range(8)])
    rows = SOURCE.standard_normal((5000, 8))
    for turn in range(4):
        watch.add(rows, [f"{turn}/{one}" for one in range(5000)], 0.0)
    assert len(watch.streams.known) == 1000
    assert watch.memory < 256 << 10
    assert watch.rows == 20_000


def test_missing_values_are_counted_apart() -> None:
    values = SOURCE.standard_normal(4000)
    values[::4] = np.nan
    (found,) = watched(Column("x", quantiles=QUANTILES, missing=True), values).findings()
    assert found.missing == pytest.approx(0.25)
    assert found.psi is not None
    assert found.psi < 0.05


def test_wild_values_are_no_trouble() -> None:
    values = SOURCE.standard_normal(1000)
    values[::100] = 3e38
    (found,) = watched(Column("x", quantiles=QUANTILES), values).findings()
    assert found.above == pytest.approx(0.01)
    assert not found.alarms(FEATURES)


def test_chances_are_those_of_chi_square() -> None:
    """Against tables: 5 % and 0.1 % points."""
    for degrees, five, tenth in ((1, 3.841, 10.828), (3, 7.815, 16.266), (7, 14.067, 24.322), (100, 124.342, 149.449)):
        assert chance_of(five, degrees) == pytest.approx(0.05, rel=0.06)
        assert chance_of(tenth, degrees) == pytest.approx(0.001, rel=0.2)


def test_psi_is_the_customary_one() -> None:
    levels = np.array(QUANTILE_LEVELS[1:-1])
    training = np.diff(np.concatenate(([0.0], levels, [1.0])))
    psi, _, chance = compared(training, training, 1e6)
    assert psi == pytest.approx(0.0)
    assert chance == pytest.approx(1.0)
    # By hand: -0.3 ln 0.4 + 0.3 ln 1.6, and 100 (0.09 / 0.5 + 0.09 / 0.5).
    psi, chi_square, chance = compared(np.array([0.2, 0.8]), np.array([0.5, 0.5]), 100.0)
    assert psi == pytest.approx(0.41589, abs=1e-5)
    assert chi_square == pytest.approx(36.0)
    assert chance < 1e-6
    assert at_levels(np.full(19, 1 / 19), QUANTILES).shape == (7,)


def test_words_and_missing_values_are_compared_with_their_shares() -> None:
    window = Column("window", "boolean", words=("false", "true"), shares=(0.7, 0.3), missing=True, lacking=0.02)
    values = (SOURCE.random(5000) < 0.3).astype(float)
    values[::50] = np.nan
    (found,) = watched(window, values).findings()
    assert not found.alarms(FEATURES)
    assert how(found) == "as in training"
    values[::3] = np.nan
    (found,) = watched(window, values).findings()
    assert found.alarms(FEATURES)
    assert how(found) == "missing more often than in training: 35 %, there 2 %"
    (found,) = watched(window, np.ones(5000)).findings()
    assert found.psi is not None
    assert found.psi > 1
    assert how(found).startswith("'false' less often than in training: 0 %, there 70 %")


def test_what_the_card_expects_of_answers_comes_before_the_labels_of_training() -> None:
    expected = Expected(rows=100, held_out=True, labels={"Hip-Hop": 10, "Rock": 90}, means={"confidence": 0.9})
    card = make_card().model_copy(update={"expected": expected})
    assert parse(card.to_json(), where="x").expected == expected
    label, confidence = answers_of(card)
    assert label.shares == (0.1, 0.9)
    assert confidence.mean == 0.9
    assert answers_of(make_card())[0].shares == (0.5, 0.5)
    with pytest.raises(ValidationError, match="rising"):
        Expected(rows=1, held_out=True, quantiles={"score": QUANTILE_LEVELS[::-1]})


def test_confidence_is_compared_by_its_mean() -> None:
    column = Column("confidence", mean=0.9)
    (found,) = watched(column, SOURCE.uniform(0.5, 0.9, 5000)).findings()
    assert found.alarms(FEATURES)
    assert how(found) == "lower than expected: 0.70 on average, 0.90 where the model was evaluated"
    (found,) = watched(column, SOURCE.uniform(0.8, 1.0, 5000)).findings()
    assert not found.alarms(FEATURES)
    assert how(found) == "as in training"
