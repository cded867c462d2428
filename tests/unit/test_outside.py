"""Values beyond all that the model was trained on, and answers that are not sure: through the whole pipeline."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config.load import load
from edge_agent.contract.answers import Prediction
from edge_agent.contract.card import QUANTILE_LEVELS, ModelCard
from edge_agent.contract.messages import Message, Rejection, to_json, validator
from edge_agent.errors import SettingsError
from edge_agent.payload import formats
from edge_agent.payload.features import Batch, FeatureCodec, Features
from edge_agent.payload.ranges import Ranges
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeModel, make_card
from tests.unit.test_settings import write

NAMES = ("temperature", "humidity")
SENML, CBOR, PACKED = "application/senml+json", "application/cbor", "application/octet-stream"
GOOD = {"temperature": 20.0, "humidity": 50.0}
UNPLUGGED = {"temperature": -127.0, "humidity": 50.0}


def card(low: float = 15.0, high: float = 30.0) -> ModelCard:
    """Temperatures were seen from 15 to 30, humidity from 0 to 100."""
    made = make_card(NAMES, minimum=-200, maximum=200)
    seen = {"temperature": (low, high), "humidity": (0.0, 100.0)}
    features = []
    for feature in made.features:
        least, most = seen[feature.name]
        quantiles = tuple(least + (most - least) * level for level in QUANTILE_LEVELS)
        features.append(feature.model_copy(update={"quantiles": quantiles}))
    return made.model_copy(update={"features": tuple(features)})


class Unsure(FakeModel):
    """Not sure of Rock."""

    def read(self, output: Any) -> Any:
        """Return the label and its probabilities."""
        return output, [0.45, 0.55] if output == "Rock" else [1.0, 0.0]


def served(tmp_path: Path, *settings: str, model: FakeModel | None = None) -> Pipeline:
    text = '[[route]]\nsubscribe = "in/{dev}"\npublish = "out/{dev}"\n' + "\n".join(settings)
    return Pipeline(load(write(tmp_path, text)).routes(), {"genre": model or FakeModel(card())})


def say(pipeline: Pipeline, payload: Any, content_type: str | None = None, topic: str = "in/a") -> Any:
    """Send one message; return what its only answer says, None without one."""
    data = payload if isinstance(payload, bytes) else to_json(payload)
    (answers,) = pipeline.process([Message(topic, data, 1, content_type)], 0.0)
    if not answers:
        return None
    (answer,) = answers
    content = formats.ALL[answer.content_type or ""].decode(answer.payload, NAMES) if content_type == CBOR else None
    told = json.loads(answer.payload) if content is None else content
    if content_type != SENML:
        for row in as_list(told):
            validator(Rejection if "error" in row else Prediction).validate_json(to_json(row), strict=True)
    return told


def as_list(told: Any) -> list[Any]:
    return told if isinstance(told, list) else [told]


def test_an_answer_says_which_values_training_never_saw(tmp_path: Path) -> None:
    pipeline = served(tmp_path)
    answer = say(pipeline, {**UNPLUGGED, "id": 7})
    assert (answer["label"], answer["outside"], answer["id"]) == ("Hip-Hop", ["temperature"], 7)
    assert say(pipeline, {"temperature": 85, "humidity": "150"})["outside"] == ["temperature", "humidity"]
    assert "outside" not in say(pipeline, GOOD)
    assert (pipeline.tally.total.outside, pipeline.tally.total.predictions) == (2, 3)
    assert not pipeline.tally.total.rejections


@pytest.mark.parametrize(
    ("value", "is_outside"),
    [(30.0, False), (30.01, False), (31.5, False), (31.6, True), (13.5, False), (13.4, True), (85.0, True)],
)
def test_a_tenth_of_the_span_is_allowed_on_each_side(tmp_path: Path, value: float, *, is_outside: bool) -> None:
    answer = say(served(tmp_path), {**GOOD, "temperature": value})
    assert ("outside" in answer) is is_outside


def test_of_a_feature_that_never_changed_only_the_rounding_is_allowed() -> None:
    ranges = Ranges(card(0.1, 0.1).features, "flag")
    rounded = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert ranges.judge(Features((rounded, 1.0), {})) == Features((rounded, 1.0), {})
    assert ranges.judge(Features((0.11, 1.0), {})) == Features((0.11, 1.0), {}, ("temperature",))


def test_a_missing_value_is_not_outside_and_hides_no_other() -> None:
    ranges, nan = Ranges(card().features, "flag"), float("nan")
    assert ranges.told([(nan, 1.0), (85.0, 1.0), (20.0, nan), (20.0, 300.0)]) == {1: [0], 3: [1]}


def test_a_rejection_has_a_reason_for_each_value(tmp_path: Path) -> None:
    pipeline = served(tmp_path, 'outside = "reject"')
    answer = say(pipeline, {"temperature": "-127", "humidity": 111, "id": 7})
    assert answer["error"] == "invalid_features"
    assert answer["id"] == 7
    assert answer["detail"] == [
        {
            "type": "outside_training_range",
            "loc": ["temperature"],
            "msg": "The model was trained on values from 15 to 30",
            "input": "-127",
        },
        {
            "type": "outside_training_range",
            "loc": ["humidity"],
            "msg": "The model was trained on values from 0 to 100",
            "input": 111,
        },
    ]
    assert say(pipeline, GOOD)["label"] == "Rock"
    assert dict(pipeline.tally.total.rejections) == {"invalid_features": 1}
    assert pipeline.tally.total.outside == 0


@pytest.mark.parametrize("payload", [UNPLUGGED, [UNPLUGGED, GOOD]])
def test_with_pass_nothing_is_looked_at(tmp_path: Path, payload: Any) -> None:
    pipeline = served(tmp_path, 'outside = "pass"')
    answer = say(pipeline, payload)
    assert all("outside" not in row for row in as_list(answer))
    assert pipeline.tally.total.outside == 0


@pytest.mark.parametrize("extra", ["", "name_sensor = true", 'fields = { temperature = "t", humidity = "h" }'])
@pytest.mark.parametrize("content_type", [None, CBOR, PACKED])
@pytest.mark.parametrize("count", [3, 30])
def test_a_batch_tells_it_row_by_row(tmp_path: Path, count: int, content_type: str | None, extra: str) -> None:
    keys = ("t", "h") if "fields" in extra and content_type != PACKED else NAMES
    rows = [{keys[0]: 85.0 if place % 3 == 1 else 20.0, keys[1]: 50.0} for place in range(count)]
    if content_type == PACKED:
        payload: Any = b"".join(struct.pack("<2f", *row.values()) for row in rows)
    else:
        rows = [{**row, "id": place} for place, row in enumerate(rows)]
        payload = formats.ALL[CBOR].encode(rows) if content_type == CBOR else rows
    for outside in ("flag", "reject"):
        pipeline = served(tmp_path, f'outside = "{outside}"', extra)
        answers = say(pipeline, payload, content_type)
        assert len(answers) == count
        for place, answer in enumerate(answers):
            if place % 3 != 1:
                assert (answer["label"], "outside" in answer) == ("Rock", False)
            elif outside == "flag":
                assert (answer["label"], answer["outside"]) == ("Rock", ["temperature"])
            else:
                assert answer["detail"][0]["type"] == "outside_training_range"
                assert answer["detail"][0]["input"] == 85
            if content_type != PACKED:
                assert answer["id"] == place
            assert ("sensor" in answer) is ("name_sensor" in extra)
        marked = count // 3
        assert pipeline.tally.total.outside == (marked if outside == "flag" else 0)
        assert pipeline.tally.total.rejections["invalid_features"] == (marked if outside == "reject" else 0)


def test_a_rejected_row_stands_among_those_rejected_for_other_reasons(tmp_path: Path) -> None:
    pipeline = served(tmp_path, 'outside = "reject"')
    answers = say(pipeline, [{}, UNPLUGGED, GOOD, None, UNPLUGGED, {"temperature": "-127", "humidity": -127}])
    kinds = [answer.get("label") or answer["detail"][0]["type"] for answer in answers]
    told = "outside_training_range"
    assert kinds == ["missing", told, "Rock", "dict_type", told, told]
    assert answers[-1]["detail"][0]["input"] == "-127"  # as it came
    assert answers[-1]["detail"][1]["msg"] == "and 1 more"


FIELDS = 'fields = { temperature = { at = "dht.t", scale = 0.1, lenient = true }, humidity = "dht.h" }'


def test_a_rejection_shows_the_value_as_it_came(tmp_path: Path) -> None:
    pipeline = served(tmp_path, 'outside = "reject"', FIELDS)
    wrong = {"dht": {"t": "-1270 °C", "h": 50}}
    for answer in (say(pipeline, wrong), *say(pipeline, [wrong, wrong])):
        (detail,) = answer["detail"]
        assert (detail["type"], detail["input"]) == ("outside_training_range", "-1270 °C")


@pytest.mark.parametrize("extra", ["", 'capture = { who = "who" }'])
def test_a_rejection_shows_the_message_as_it_came(tmp_path: Path, extra: str) -> None:
    pipeline = served(tmp_path, FIELDS, extra)
    lacking = {"who": "me", "dht": {"t": 200}, "temperature": 9}
    told = {"type": "missing", "loc": ["humidity"], "msg": "Field required at dht.h", "input": lacking}
    (answers,) = pipeline.process(
        [
            Message("in/a", to_json([lacking, lacking])),
        ]
    )
    rows = [row for answer in answers for row in as_list(json.loads(answer.payload))]
    assert [row["detail"] for row in rows] == [[told], [told]]


def test_senml_has_it_as_text(tmp_path: Path) -> None:
    pack = [{"bn": "urn:x:", "n": "temperature", "v": -127}, {"n": "humidity", "v": 50}]
    records = say(served(tmp_path), pack, SENML)
    assert {"n": "outside", "vs": '["temperature"]'} in records
    assert records[0] == {"bn": "urn:x:", "n": "label", "vs": "Hip-Hop"}


def test_a_row_that_the_model_failed_on_does_not_say_it(tmp_path: Path) -> None:
    model = FakeModel(card())
    model.broken = RuntimeError("no")
    pipeline = served(tmp_path, model=model)
    assert "outside" not in say(pipeline, UNPLUGGED)
    assert all("outside" not in row for row in say(pipeline, [UNPLUGGED, GOOD]))
    assert pipeline.tally.total.outside == 0


def test_a_row_inside_goes_the_strict_way() -> None:
    codec = FeatureCodec(card().features, outside="flag")
    rows = codec.decode(to_json([{**GOOD, "id": place} for place in range(20)]))
    assert isinstance(rows, Batch)
    assert rows.ids == list(range(20))  # which only the strict way has
    assert rows.outside == {}


def test_below_min_confidence_there_is_no_label(tmp_path: Path) -> None:
    pipeline = served(tmp_path, "min_confidence = 0.6", model=Unsure(card()))
    assert say(pipeline, {**GOOD, "id": 1}) == {
        "label": None,
        "uncertain": True,
        "confidence": 0.55,
        "probabilities": {"Hip-Hop": 0.45, "Rock": 0.55},
        "model": "genre",
        "version": "1.0.0",
        "id": 1,
    }
    sure = say(pipeline, UNPLUGGED)
    assert (sure["label"], "uncertain" in sure) == ("Hip-Hop", False)
    assert (pipeline.tally.total.uncertain, pipeline.tally.total.predictions) == (1, 2)


@pytest.mark.parametrize("least", [0, 0.55])
def test_what_is_as_sure_as_it_has_to_be_keeps_its_label(tmp_path: Path, least: float) -> None:
    pipeline = served(tmp_path, f"min_confidence = {least}", model=Unsure(card()))
    assert say(pipeline, GOOD)["label"] == "Rock"
    assert pipeline.tally.total.uncertain == 0


@pytest.mark.parametrize("extra", ["", "name_sensor = true"])
@pytest.mark.parametrize("content_type", [None, CBOR])
def test_a_batch_counts_those_that_are_not_sure(tmp_path: Path, extra: str, content_type: str | None) -> None:
    pipeline = served(tmp_path, "min_confidence = 0.6", extra, model=Unsure(card()))
    rows = [GOOD, {"temperature": 0.2, "humidity": 3}, GOOD]
    answers = say(pipeline, formats.ALL[CBOR].encode(rows) if content_type else rows, content_type)
    assert [answer["label"] for answer in answers] == [None, "Hip-Hop", None]
    assert pipeline.tally.total.uncertain == 2


def test_senml_begins_with_what_says_that_it_is_not_sure(tmp_path: Path) -> None:
    pipeline = served(tmp_path, "min_confidence = 0.6", model=Unsure(card()))
    pack = [{"n": "temperature", "v": 20}, {"n": "humidity", "v": 50}]
    records = say(pipeline, pack, SENML)
    assert records[:2] == [{"n": "uncertain", "vb": True}, {"n": "confidence", "v": 0.55}]
    assert "label" not in {record["n"] for record in records}


def test_routes_that_ask_unlike_things_have_answers_of_their_own(tmp_path: Path) -> None:
    other = '[[route]]\nsubscribe = "in/{dev}"\npublish = "sure/{dev}"\nmin_confidence = 0.9\noutside = "reject"\n'
    pipeline = served(tmp_path, other, model=Unsure(card()))
    (answers,) = pipeline.process([Message("in/a", to_json(GOOD))])
    assert {one.topic: json.loads(one.payload)["label"] for one in answers} == {"out/a": "Rock", "sure/a": None}
    (answers,) = pipeline.process([Message("in/a", to_json(UNPLUGGED))])
    assert [one.topic for one in answers] == ["out/a", "sure/a/error"]


@pytest.mark.parametrize("setting", ['outside = "ignore"', "min_confidence = 1.1", "min_confidence = -0.1"])
def test_what_is_no_such_setting_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(SettingsError):
        served(tmp_path, setting)


def test_predictions_are_retained_where_the_route_says_so(tmp_path: Path) -> None:
    pipeline = served(tmp_path, "retain = true")
    asked = [
        Message("in/a", to_json(GOOD)),
        Message("in/a", b"{}"),
        Message("in/a", to_json(GOOD), response_topic="try/1"),
        Message("in/a", to_json([GOOD, {}])),
    ]
    answers = [answer for (answer,) in pipeline.process(asked)]
    assert [(one.topic, one.retain) for one in answers] == [
        ("out/a", True),
        ("out/a/error", False),
        ("try/1", False),
        ("out/a", True),
    ]
    (answer,) = pipeline.undeliverable(asked[0])
    assert not answer.retain


def test_gathered_answers_are_retained_too(tmp_path: Path) -> None:
    pipeline = served(tmp_path, "retain = true", 'partial = "merge"', 'outside = "reject"', "debounce = 1")
    pipeline.process([Message("in/a", to_json(GOOD))], 0.0)
    assert [(one.topic, one.retain) for one in pipeline.due(5.0, limit=9)] == [("out/a", True)]
    pipeline.process([Message("in/a", to_json(UNPLUGGED))], 6.0)
    assert [(one.topic, one.retain) for one in pipeline.due(9.0, limit=9)] == [("out/a/error", False)]


def test_nothing_is_retained_unless_asked_for(tmp_path: Path) -> None:
    ((answer,),) = served(tmp_path).process([Message("in/a", to_json(GOOD))])
    assert not answer.retain
