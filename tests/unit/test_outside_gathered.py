"""Values beyond all that the model was trained on, on routes that gather or merge: through the whole pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config.load import load
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeModel
from tests.unit.test_outside import (
    GOOD,
    SENML,
    card,
    say,
    served,
)
from tests.unit.test_settings import write


@pytest.mark.parametrize("outside", ["flag", "reject", "pass"])
def test_gathered_and_merged_rows_tell_it_too(tmp_path: Path, outside: str) -> None:
    (tmp_path / "merged").mkdir()
    merged = served(tmp_path / "merged", 'partial = "merge"', f'outside = "{outside}"')
    text = f'[[route]]\nsubscribe = "in/{{dev}}/{{feature}}"\npublish = "out/{{dev}}"\noutside = "{outside}"\n'
    gathered = Pipeline(load(write(tmp_path, text)).routes(), {"genre": FakeModel(card())})
    assert say(merged, {"humidity": 50}) is None
    assert say(gathered, 50, topic="in/a/humidity") is None
    answers = [say(merged, {"temperature": 85}), say(gathered, 85, topic="in/a/temperature")]
    for pipeline, answer in zip((merged, gathered), answers, strict=True):
        if outside == "reject":
            assert answer["detail"][0]["loc"] == ["temperature"]
        else:
            assert answer["label"] == "Rock"
            assert answer.get("outside") == (["temperature"] if outside == "flag" else None)
        assert pipeline.tally.total.outside == (outside == "flag")
    assert say(gathered, 20, topic="in/a/temperature")["label"] == "Rock"


MERGE = ('partial = "merge"', 'outside = "reject"')
SCALED = 'fields = { temperature = { at = "t", scale = 0.1, lenient = true, map = { UNPLUGGED = -127 } } }'


def reasons(answer: Any) -> list[tuple[str, Any]]:
    """What a rejection says of each feature: the value that it shows."""
    assert {one["type"] for one in answer["detail"]} == {"outside_training_range"}
    return [(one["loc"][0], one["input"]) for one in answer["detail"]]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (850, "; it is 85 after scale, offset and map"),
        ("850", "; it is 85 after scale, offset and map"),
        ("850,0 °C", "; it is 85 after scale, offset and map"),
        ("UNPLUGGED", "; it is -127 after scale, offset and map"),
    ],
)
def test_a_merged_value_that_is_rejected_is_shown_as_it_came(tmp_path: Path, sent: Any, words: str) -> None:
    """With the message that brought it, and with each later one that it is part of."""
    pipeline = served(tmp_path, *MERGE, SCALED)
    assert say(pipeline, {"humidity": 50}) is None
    answer = say(pipeline, {"t": sent, "id": 7})
    assert (reasons(answer), answer["id"]) == ([("temperature", sent)], 7)
    assert answer["detail"][0]["msg"] == f"The model was trained on values from 15 to 30{words}"
    answer = say(pipeline, {"humidity": 150})
    assert reasons(answer) == [("temperature", sent), ("humidity", 150)]
    assert reasons(say(pipeline, {"t": 200})) == [("humidity", 150)]
    assert say(pipeline, {"humidity": 50})["label"] == "Rock"
    assert reasons(say(pipeline, {"t": sent, "humidity": "111"})) == [("temperature", sent), ("humidity", "111")]


def test_what_has_no_conversion_is_shown_as_it_came_too(tmp_path: Path) -> None:
    pipeline = served(tmp_path, *MERGE)
    assert reasons(say(pipeline, {"temperature": "-127", "humidity": 111})) == [
        ("temperature", "-127"),
        ("humidity", 111),
    ]
    assert reasons(say(pipeline, {"temperature": 85.0, "humidity": 50.0})) == [("temperature", 85.0)]
    assert say(pipeline, GOOD)["label"] == "Rock"
    answer = say(pipeline, [{"bv": 100, "n": "temperature", "v": 7}], SENML)
    assert reasons(answer) == [("temperature", 7)]
    assert answer["detail"][0]["msg"].endswith("; it is 107 with its base value")


@pytest.mark.parametrize("form", ["plain", "document"])
def test_a_gathered_value_that_is_rejected_is_shown_as_it_came(tmp_path: Path, form: str) -> None:
    value = "" if form == "plain" else ".v"
    fields = f'fields = {{ temperature = {{ at = "t{value}", scale = 0.1 }}, humidity = "h{value}" }}'
    text = f'[[route]]\nsubscribe = "in/{{dev}}/{{feature}}"\npublish = "out/{{dev}}"\noutside = "reject"\n{fields}\n'
    pipeline = Pipeline(load(write(tmp_path, text)).routes(), {"genre": FakeModel(card())})

    def tell(feature: str, value: Any) -> Any:
        return say(pipeline, value if form == "plain" else {"v": value}, topic=f"in/a/{feature}")

    assert tell("h", 50) is None
    assert reasons(tell("t", 850)) == [("temperature", 850)]
    assert reasons(tell("h", 51)) == [("temperature", 850)]
    assert tell("t", 200)["label"] == "Rock"


def test_a_delayed_rejection_shows_the_latest_value_as_it_came(tmp_path: Path) -> None:
    pipeline = served(tmp_path, *MERGE, SCALED, "debounce = 1")
    assert say(pipeline, {"t": 850, "humidity": 50}) is None
    assert say(pipeline, {"t": "-1270"}) is None
    (answer,) = pipeline.due(1.0, limit=9)
    assert reasons(json.loads(answer.payload)) == [("temperature", "-1270")]
    assert say(pipeline, {"t": 200}) is None
    (answer,) = pipeline.due(2.0, limit=9)
    assert json.loads(answer.payload)["label"] == "Rock"


def test_what_is_rejected_for_it_is_bounded_and_survives_a_reload(tmp_path: Path) -> None:
    def serve() -> Pipeline:
        text = '[[route]]\nsubscribe = "in/{dev}"\npublish = "out/{dev}"\n' + "\n".join((*MERGE, SCALED))
        return Pipeline(load(write(tmp_path, text)).routes(), {"genre": FakeModel(card())}, max_sensors=10)

    former, latter = serve(), serve()
    for number in range(100):
        assert reasons(say(former, {"t": 850, "humidity": 50}, topic=f"in/{number}")) == [("temperature", 850)]
    (gathering,) = former._gatherings.values()
    assert len(gathering._outside) == 10
    latter.take_over(former)
    assert reasons(say(latter, {"humidity": 51}, topic="in/99")) == [("temperature", 850)]


@pytest.mark.parametrize("times", [1, 2])
def test_after_a_reload_values_are_judged_by_what_the_new_model_was_trained_on(tmp_path: Path, times: int) -> None:
    def reloaded(former: Pipeline | None, low: float, high: float) -> Pipeline:
        pipeline = served(tmp_path, *MERGE, SCALED, model=FakeModel(card(low, high)))
        if former is not None:
            assert pipeline.take_over(former) == set()
        return pipeline

    def said(pipeline: Pipeline) -> tuple[Any, Any]:
        humidity = {"humidity": 60}
        return say(pipeline, humidity, topic="in/hot"), say(pipeline, humidity, topic="in/mild")

    first = reloaded(None, 15, 30)
    assert reasons(say(first, {"t": "450", "humidity": 50}, topic="in/hot")) == [("temperature", "450")]
    assert say(first, {"t": 200, "humidity": 50}, topic="in/mild")["label"] == "Rock"
    wide = reloaded(first, 15, 60)
    assert [one["label"] for one in said(wide)] == ["Rock", "Rock"]
    narrow = first
    for number in range(times):
        narrow = reloaded(narrow, -5, number)
    hot, mild = said(narrow)
    seen = f"The model was trained on values from -5 to {times - 1}"
    assert [(one["input"], one["msg"]) for one in hot["detail"]] == [
        ("450", f"{seen}; it is 45 after scale, offset and map")
    ]
    assert [(one["input"], one["msg"]) for one in mild["detail"]] == [(20, seen)]
    assert say(narrow, {"t": 0}, topic="in/hot")["label"] == "Hip-Hop"


def test_a_value_that_was_taken_away_is_no_reason(tmp_path: Path) -> None:
    """One that may be missing is not waited for."""
    made = card()
    first, second = made.features
    model = FakeModel(made.model_copy(update={"features": (first.model_copy(update={"missing": True}), second)}))
    pipeline = served(tmp_path, *MERGE, SCALED, model=model)
    assert reasons(say(pipeline, {"t": 850, "humidity": 50})) == [("temperature", 850)]
    assert say(pipeline, {"t": None})["label"] == "Hip-Hop"
