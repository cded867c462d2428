"""The demo's sensors: readings that the model takes, and now and then one that it can't."""

from __future__ import annotations

import json
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.routes import RouteSettings
from edge_agent.contract.card import QUANTILE_LEVELS, Feature, ModelCard
from edge_agent.contract.messages import Message
from edge_agent.demo.sensors import (
    CHANGES,
    HALVES,
    METER,
    NAMES,
    PHONE,
    PUBLISH,
    Reading,
    SimulatedSensors,
    all_sensors,
    routes_of,
)
from edge_agent.payload.features import FeatureCodec, Features, Unusable
from edge_agent.routing.routes import refuse_loops, refuse_overlaps
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeModel, make_card

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
    inner = tuple(0.1 + 0.8 * level for level in QUANTILE_LEVELS)
    card = CARD.model_copy(
        update={"features": tuple(one.model_copy(update={"quantiles": inner}) for one in CARD.features)}
    )
    values = [json.loads(one.payload)["tempo"] for one in readings(card, 2000) if one.id % 10]
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


@pytest.mark.parametrize("names", [("tempo",), ("tempo", "energy"), ("tempo", "energy", "valence"), ("a.b", "id", "c")])
def test_every_message_that_is_to_be_answered_is_and_no_other(names: tuple[str, ...]) -> None:
    """The demo's routes, with its sensors: whole rows, what has changed, and rows in two halves."""
    card = make_card(names)
    routes = [RouteSettings.model_validate(one).route() for one in routes_of(card, "fake")]
    refuse_loops(routes, "demo")
    refuse_overlaps(routes)
    pipeline = Pipeline(routes, {"fake": FakeModel(card)})
    given_ = list(islice(all_sensors(card, seed=3), 300))
    for reading in given_:
        (answers,) = pipeline.process([Message(reading.topic, reading.payload)])
        assert len(answers) == reading.answered, reading
        topic = PUBLISH.replace("{sensor}", reading.sensor)
        assert {answer.topic for answer in answers} <= {topic, f"{topic}/error"}
    assert [one.id for one in given_] == list(range(1, 301))
    assert {one.sensor for one in given_} == {*NAMES, PHONE} | ({METER} if len(names) > 1 else set())
    assert sum(not one.answered for one in given_) == (2 if len(names) > 1 else 0)


def test_the_phone_sends_what_has_changed_and_the_meter_halves() -> None:
    card = make_card(("a", "b", "c", "d", "e", "f", "g", "h"))
    given_ = list(islice(all_sensors(card, seed=1), 100))
    phone = [set(json.loads(one.payload)) - {"id"} for one in given_ if one.level == CHANGES]
    assert phone[0] | phone[1] == set(card.feature_names)
    assert {len(names) for names in phone[2:]} == {1, 2, 3}
    meter = [one for one in given_ if one.sensor == METER]
    assert [one.level for one in meter[:4]] == list(HALVES) * 2
    assert set(json.loads(meter[0].payload)) == {"id", "a", "b", "c", "d"}
    assert set(json.loads(meter[1].payload)) == {"id", "e", "f", "g", "h"}
