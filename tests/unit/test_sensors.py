"""The demo's sensors: readings that the model takes, and now and then one that it can't."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.card import QUANTILE_LEVELS, Feature, ModelCard
from edge_agent.demo.sensors import NAMES, Reading, SimulatedSensors
from edge_agent.payload.features import FeatureCodec, Features, Unusable
from edge_agent.testing import make_card

CARD = make_card(("tempo", "energy", "valence"))


def readings(card: ModelCard, count: int, seed: int = 1) -> list[Reading]:
    sensors = SimulatedSensors(card, seed)
    return [sensors.read() for _ in range(count)]


def test_the_same_seed_gives_the_same_readings() -> None:
    assert readings(CARD, 100) == readings(CARD, 100)
    assert readings(CARD, 100) != readings(CARD, 100, seed=2)


def test_sensors_take_turns_and_number_their_readings() -> None:
    given_ = readings(CARD, 30)
    assert [one.id for one in given_] == list(range(1, 31))
    assert [one.sensor for one in given_] == list(NAMES) * 10


def test_one_in_ten_is_broken_in_each_of_the_ways() -> None:
    given_ = readings(CARD, 200)
    codec = FeatureCodec(CARD.features)
    outcomes = [codec.decode(one.payload) for one in given_]
    broken = [(one, outcome) for one, outcome in zip(given_, outcomes, strict=True) if isinstance(outcome, Unusable)]
    assert [one.id for one, _ in broken] == list(range(10, 201, 10))
    kinds = [outcome.detail[0]["type"] for _, outcome in broken]
    assert kinds == ["missing", "float_parsing", "float_type", "greater_than_equal", "json_invalid"] * 4
    assert {one.summary.partition(" in ")[0] for one, _ in broken} == {
        "missing",
        "text",
        "boolean",
        "bounds",
        "not JSON",
    }


def test_readings_are_spread_as_the_quantiles_say() -> None:
    values = [json.loads(one.payload)["tempo"] for one in readings(CARD, 2000) if one.id % 10]
    assert min(values) >= 0.1
    assert max(values) <= 0.9
    middle = sum(value < 0.5 for value in values) / len(values)
    assert 0.45 < middle < 0.55


@pytest.mark.parametrize(
    ("minimum", "maximum"), [(None, None), (0.0, None), (None, 1.0), (-1e30, 1e30), (-3.4e38, 3.4e38)]
)
def test_a_reading_out_of_bounds_is_out_of_any_bounds(minimum: float | None, maximum: float | None) -> None:
    card = make_card(("x",), minimum=minimum, maximum=maximum)
    codec = FeatureCodec(card.features)
    outcome = codec.decode(readings(card, 40)[39].payload)
    assert isinstance(outcome, Unusable)
    assert outcome.detail[0]["type"] in {"greater_than_equal", "less_than_equal"}


FLOATS = st.floats(-1e30, 1e30)


@given(
    values=st.lists(FLOATS, min_size=len(QUANTILE_LEVELS), max_size=len(QUANTILE_LEVELS)).map(sorted),
    seed=st.integers(),
)
def test_plausible_readings_are_within_the_bounds(values: list[float], seed: int) -> None:
    feature = Feature(name="x", minimum=values[0], maximum=values[-1], quantiles=tuple(values), example=values[0])
    card = make_card().model_copy(update={"features": (feature,)})
    codec = FeatureCodec(card.features)
    for one in readings(card, 9, seed):
        assert isinstance(codec.decode(one.payload), Features)
