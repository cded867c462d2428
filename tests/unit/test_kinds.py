"""Booleans, categories and missing values: words on the wire and on the card, codes for the model."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cli.try_ import table_of_examples
from edge_agent.contract.card import QUANTILE_LEVELS, Example, Feature, ModelCard, parse
from edge_agent.contract.messages import ErrorCode, Message
from edge_agent.contract.templates import Template
from edge_agent.demo.sensors import SimulatedSensors
from edge_agent.errors import CardError
from edge_agent.payload.features import Batch, FeatureCodec, Features, Unusable
from edge_agent.payload.places import Conversion, Place
from edge_agent.routing.documents import Document, Need, Part
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import ROUTE, FakeModel, make_card
from tests.unit.outcomes import rows_of
from tests.unit.strategies import json_values

QUANTILES = tuple(map(float, (0, 0, 0, 0, 1, 1, 1, 1, 1)))
WINDOW = Feature(name="window", kind="boolean", quantiles=QUANTILES, example=1)
LEVEL = Feature(
    name="level", kind="category", categories=("L", "M", "H", "unknown", "7"), quantiles=QUANTILES, example=2
)
TEMPERATURE = Feature(name="temperature", minimum=-50, maximum=100, quantiles=QUANTILE_LEVELS, example=0.5)
HUMIDITY = Feature(name="humidity", missing=True, minimum=0, maximum=100, quantiles=QUANTILE_LEVELS, example=0.5)
FEATURES = (TEMPERATURE, WINDOW, LEVEL)
GOOD = {"temperature": 21.5, "window": "on", "level": "M"}


def card_of(*features: Feature, rows: Sequence[Sequence[float | None]] | None = None) -> ModelCard:
    card = json.loads(make_card([feature.name for feature in features]).to_json())
    card["features"] = [json.loads(feature.model_dump_json()) for feature in features]
    test, rows = card["self_test"], rows or [[feature.example for feature in features]]
    card["self_test"] |= {key: test[key] * len(rows) for key in ("labels", "probabilities")} | {"rows": rows}
    return parse(json.dumps(card), where="hand.onnx")


CARD = card_of(*FEATURES)
CODEC = FeatureCodec(FEATURES)


def decode(content: Any, features: Sequence[Feature] = FEATURES) -> Any:
    return FeatureCodec(features).decode(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("value", "code"),
    [(True, 1), (False, 0), (1, 1), (0, 0), (1.0, 1), (0.0, 0), ("1", 1), ("0", 0)]
    + [(word, 1) for word in ("on", "ON", "true", "True", "yes", "YES", "open", "Open", " on\n")]
    + [(word, 0) for word in ("off", "OFF", "false", "False", "no", "closed", "CLOSED")],
)
def test_booleans_however_they_are_sent(value: Any, code: float) -> None:
    for rows in (1, 20):
        found = decode([{**GOOD, "window": value}] * rows)
        assert found.values == [(21.5, code, 1.0)] * rows
    assert decode({**GOOD, "window": value}) == Features((21.5, code, 1.0), {})


@pytest.mark.parametrize("value", ["maybe", "", 2, -1, 0.5, None, [], {}, "o" * 5000, 10**400, "1_", "unknown", "nan"])
def test_what_is_no_boolean(value: Any) -> None:
    found = decode({**GOOD, "window": value})
    assert isinstance(found, Unusable)
    (detail,) = found.detail
    assert (found.code, detail["loc"], detail["type"]) == (ErrorCode.INVALID_FEATURES, ["window"], "bool_parsing")
    assert "on or off" in detail["msg"]


@pytest.mark.parametrize(
    ("value", "code"), [("L", 0), ("M", 1), ("H", 2), ("unknown", 3), ("7", 4), (7, 4), (" H ", 2)]
)
def test_categories(value: Any, code: float) -> None:
    assert decode({**GOOD, "level": value}) == Features((21.5, 1.0, code), {})
    assert decode([{**GOOD, "level": value, "id": 5}] * 20).values == [(21.5, 1.0, code)] * 20


@pytest.mark.parametrize("value", ["X", "l", "", 1, 1.0, 2, True, None, [], {}, "L" * 5000, 10**400, 7.0])
def test_another_category_is_rejected_with_the_list(value: Any) -> None:
    for found in (decode({**GOOD, "level": value}), *rows_of(decode([{**GOOD, "level": value}] * 20))):
        assert isinstance(found, Unusable)
        (detail,) = found.detail
        assert (detail["loc"], detail["type"]) == (["level"], "category")
        assert detail["msg"] == "Input should be one of 'L', 'M', 'H', 'unknown', '7'"


def test_a_long_list_of_categories_is_cut() -> None:
    words = tuple(f"{number:03}{'x' * 100}" for number in range(256))
    feature = Feature(name="level", kind="category", categories=words, quantiles=QUANTILES, example=2)
    assert decode({"level": words[255]}, [feature]) == Features((255.0,), {})
    (detail,) = decode({"level": "none"}, [feature]).detail
    assert detail["msg"].endswith("(256 categories)")
    assert len(detail["msg"]) < 1100


def test_all_reasons_of_a_row_together() -> None:
    found = decode({"window": "maybe", "level": "X"})
    assert [(one["loc"], one["type"]) for one in found.detail] == [
        (["temperature"], "missing"),
        (["window"], "bool_parsing"),
        (["level"], "category"),
    ]
    assert found.detail[2]["input"] == "X"


def test_a_value_that_may_be_missing() -> None:
    features = (TEMPERATURE, HUMIDITY)
    for value in (None, "unavailable", "unknown", "---", "nan", math.nan):
        found = decode({"temperature": 21.5, "humidity": value}, features)
        assert found.values[0] == 21.5
        assert math.isnan(found.values[1])
    assert math.isnan(decode({"temperature": 21.5, "id": 3}, features).values[1])
    assert [math.isnan(row[1]) for row in decode([{"temperature": 21.5}] * 20, features).values] == [True] * 20
    assert decode({"temperature": 21.5, "humidity": "48"}, features) == Features((21.5, 48.0), {})
    wrong: Any
    for wrong in ("wet", True, 101, "101", [], math.inf, "1_0"):
        (detail,) = decode({"temperature": 21.5, "humidity": wrong}, features).detail
        assert detail["loc"] == ["humidity"]
    # What has to be there still has to, and a message of nothing has nothing to be answered for.
    for nothing in ({"humidity": 48}, {}, {"id": 3}, {"temperature": None, "humidity": 48}):
        assert isinstance(decode(nothing, features), Unusable)
    assert isinstance(decode({}, (HUMIDITY,)), Unusable)


def test_a_category_that_may_be_missing() -> None:
    level = LEVEL.model_copy(update={"missing": True})
    assert decode({"level": "unknown"}, [level]) == Features((3.0,), {})
    assert math.isnan(decode({"level": "unavailable"}, [level]).values[0])
    assert isinstance(decode({"level": "X"}, [level]), Unusable)


def test_other_formats() -> None:
    for content in ({"temperature": 21.5, "window": True, "level": "H"}, {**GOOD, "level": "H"}):
        assert CODEC.decode(cbor2.dumps(content), "application/cbor") == Features((21.5, 1.0, 2.0), {})
    pack = [{"n": "temperature", "v": 21.5}, {"n": "window", "vb": True}, {"n": "level", "vs": "H"}]
    assert CODEC.decode(json.dumps(pack).encode(), "application/senml+json") == Features((21.5, 1.0, 2.0), {})
    numbers = FeatureCodec((TEMPERATURE, WINDOW, HUMIDITY))
    found = numbers.decode(struct.pack("<3f", 21.5, 1, math.nan), "application/octet-stream")
    assert isinstance(found, Features)
    assert found.values[:2] == (21.5, 1.0)
    assert math.isnan(found.values[2])
    # A category has no number on the wire.
    assert isinstance(CODEC.decode(struct.pack("<3f", 21.5, 1, 2), "application/octet-stream"), Unusable)


def test_words_may_be_mapped_to_what_the_card_has() -> None:
    window = Place(("contact",), Conversion(map=(("KIPP", 1.0), ("ZU", 0.0))))
    codec = FeatureCodec((WINDOW,), fields=(("window", window),))
    assert codec.decode(b'{"contact": "ZU"}') == Features((0.0,), {})
    found = codec.decode(b'{"contact": "KAPUTT"}')
    assert isinstance(found, Unusable)
    assert found.detail[0]["input"] == "KAPUTT"


@given(json_values())
def test_nothing_crashes_it_and_what_it_gives_are_codes(content: Any) -> None:
    features = (WINDOW, LEVEL, HUMIDITY)
    for sent in (content, [content] * 3, {"window": content, "level": "L"}, {"window": 1, "level": content}):
        found = decode(sent, features)
        rows = found.values if isinstance(found, Batch) else [found.values] if isinstance(found, Features) else []
        for window, level, humidity in rows:
            assert window in (0, 1)
            assert level in range(5)
            assert math.isnan(humidity) or 0 <= humidity <= 100


def parts(content: Any, need: Need, features: Sequence[Feature] = FEATURES) -> Part:
    places = tuple((feature.name, Place((feature.name,))) for feature in features)
    found = Document(features, places, need).read(json.dumps(content).encode())
    assert isinstance(found, list)
    return found[0]


def test_parts_of_a_message() -> None:
    assert parts({"window": "OFF", "level": "unknown"}, Need.NONE).values == [(1, 0.0), (2, 3.0)]
    part = parts({"window": "unknown", "level": "unavailable"}, Need.NONE)
    assert (part.values, part.forgotten, part.refusal) == ([], [1, 2], None)
    part = parts({"window": "OFF", "level": "X"}, Need.NONE)
    assert (part.values, part.forgotten) == ([(1, 0.0)], [2])
    assert part.refusal is not None
    part = parts({"temperature": 20, "humidity": None}, Need.NONE, (TEMPERATURE, HUMIDITY))
    assert (part.values, part.forgotten, part.refusal) == ([(0, 20.0)], [1], None)


def test_a_message_that_is_ignored_unless_it_brings_all_keeps_its_values_in_order() -> None:
    features = make_card(("a", "b", "c"), minimum=None, maximum=None).features
    assert parts({"c": 3, "b": "2", "a": 1}, Need.ALL_OR_IGNORED, features).values == [(0, 1.0), (1, 2.0), (2, 3.0)]
    part = parts({"temperature": "20"}, Need.ALL_OR_IGNORED, (HUMIDITY, TEMPERATURE))
    assert part.values[1] == (1, 20.0)
    assert math.isnan(part.values[0][1])
    assert parts({"humidity": 40}, Need.ALL_OR_IGNORED, (HUMIDITY, TEMPERATURE)).is_empty


class Rows(FakeModel):
    """Keeps what it is asked."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        self.rows: list[tuple[float, ...]] = []

    def predict(self, rows: Sequence[Sequence[float]]) -> Any:
        self.rows += map(tuple, rows)
        return super().predict(rows)


def test_a_route_that_merges_does_not_wait_for_what_may_be_missing() -> None:
    model = Rows(card_of(TEMPERATURE, HUMIDITY, WINDOW))
    route = ROUTE._replace(partial="merge", subscribe=Template("music/{sensor}/features"))
    pipeline = Pipeline([route], {"genre": model})
    answers = []
    for payload in (
        b'{"humidity": 40}',
        b'{"window": "open"}',
        b'{"temperature": 20}',
        b'{"temperature": 20}',  # nothing new
        b'{"humidity": null}',
        b'{"humidity": null}',  # nothing new
        b'{"window": "closed"}',
        b'{"window": null}',  # has to be there
        b'{"temperature": 21}',
        b'{"window": "off", "humidity": "41"}',
    ):
        (found,) = pipeline.process([Message("music/a/features", payload)])
        answers.append(len(found))
    assert answers == [0, 0, 1, 0, 1, 0, 1, 0, 0, 1]
    assert repr(model.rows) == repr(
        [(20.0, 40.0, 1.0), (20.0, math.nan, 1.0), (20.0, math.nan, 0.0), (21.0, 41.0, 0.0)]
    )


def test_the_card_has_words_for_people_and_codes_for_the_model() -> None:
    assert [WINDOW.word(1), WINDOW.word(0), LEVEL.word(2), HUMIDITY.word(math.nan), TEMPERATURE.word(21.5)] == [
        True,
        False,
        "H",
        None,
        21.5,
    ]
    example = Example(name="a window", features=(21.5, 1, 2), label="Rock")
    card = CARD.model_copy(update={"examples": (example,)})
    route = ROUTE._replace(subscribe=Template("try"), publish=Template("answer"), errors=Template("error"))
    pipeline = Pipeline([route], {"genre": FakeModel(card)})
    table = "\n".join(table_of_examples(pipeline, FakeModel(card)))
    assert "window       true" in table
    assert "level        H" in table
    assert "Rock" in table


def test_a_card_says_the_same_after_a_round_trip() -> None:
    card = card_of(*FEATURES, HUMIDITY, rows=[[21.5, 1, 2, None], [21.5, 0, 0, 40]])
    assert math.isnan(card.self_test.rows[0][3])
    again = parse(card.to_json(), where="hand.onnx")
    assert again == card
    stored = json.loads(card.to_json())
    assert stored["self_test"]["rows"][0][3] is None
    assert [sorted(one.keys() & {"kind", "categories", "missing"}) for one in stored["features"]] == [
        [],
        ["kind"],
        ["categories", "kind"],
        ["missing"],
    ]


@pytest.mark.parametrize(
    ("feature", "says"),
    [
        ({"kind": "colour"}, "'number', 'boolean' or 'category'"),
        ({"kind": "category"}, "needs two categories or more"),
        ({"kind": "category", "categories": ["a"]}, "needs two categories or more"),
        ({"kind": "category", "categories": ["a", "b", "a"]}, "the categories are not unique: a"),
        ({"kind": "category", "categories": [f"c{number}" for number in range(257)]}, "at most 256"),
        ({"kind": "category", "categories": ["a", "\x1b"]}, "cannot be printed"),
        ({"kind": "category", "categories": ["a", "b"], "example": 2}, "the example 2 is no category"),
        ({"kind": "boolean", "example": 0.5}, "the example 0.5 is no boolean"),
        ({"kind": "boolean", "categories": ["a", "b"]}, "a boolean has no categories"),
        ({"categories": ["a", "b"]}, "a number has no categories"),
        ({"kind": "boolean", "minimum": 0}, "a boolean has no bounds"),
    ],
)
def test_cards_that_are_refused(feature: dict[str, Any], says: str) -> None:
    card = json.loads(make_card().to_json())
    card["features"][0] |= {"minimum": None, "maximum": None, "example": 1} | feature
    with pytest.raises(CardError) as raised:
        parse(json.dumps(card), where="hand.onnx")
    assert says in str(raised.value)


def test_a_self_test_has_missing_values_only_where_they_are_taken() -> None:
    with pytest.raises(CardError, match="self-test row 0: temperature is missing, which the model does not take"):
        card_of(TEMPERATURE, rows=[[None]])


def test_simulated_sensors_send_words() -> None:
    sensors = SimulatedSensors(card_of(*FEATURES, HUMIDITY), seed=1)
    codec = FeatureCodec((*FEATURES, HUMIDITY))
    found = [(codec.decode(reading.payload), reading) for reading in (sensors.read() for _ in range(200))]
    wrong = [reading.summary for outcome, reading in found if not isinstance(outcome, Features)]
    assert len(wrong) == 20, wrong
    assert b'"window":true' in found[0][1].payload.replace(b" ", b"") or b"false" in found[0][1].payload


@given(st.sampled_from(FEATURES), st.integers(0, 4))
def test_words_and_codes_are_each_other_s(feature: Feature, code: int) -> None:
    if feature.takes(code):
        assert decode({feature.name: feature.word(float(code))}, [feature]).values == (code,)
