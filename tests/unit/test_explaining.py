"""Explanations on the way of a message: by the route, by the message's own wish, in batches, formats and gathered answers."""

from __future__ import annotations

import json
import random
from typing import Any, cast

import cbor2
import pytest

from edge_agent.assembly import check_routes
from edge_agent.contract.answers import Prediction
from edge_agent.contract.card import ModelCard
from edge_agent.contract.messages import Carried, Message, validator
from edge_agent.contract.templates import Template
from edge_agent.contract.trees import LEAF, Trees
from edge_agent.errors import SettingsError
from edge_agent.model.explain import Explainer
from edge_agent.model.library import Predictor
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import ROUTE, FakeModel, make_card

#: What `FakeModel` answers.
TREES = Trees(
    sizes=(3,), features=(0, LEAF, LEAF), thresholds=(0.5, 0, 0), left=(1, 0, 0), right=(2, 0, 0), covers=(4, 1, 3),
    values=((1, 0), (0, 1)), scores=2, mean=True,
)  # fmt: skip
CARD = make_card().model_copy(update={"trees": TREES})
LOUD = b'{"loudness": 0.9, "id": 7}'
PATH = {
    "method": "path",
    "conditions": ["loudness > 0.5"],
    "nearest": {"feature": "loudness", "condition": "loudness <= 0.5", "change": -0.4, "label": "Hip-Hop"},
}
SHAP = {
    "method": "shap",
    "of": "Rock",
    "scale": "probability",
    "base": 0.75,
    "output": 1.0,
    "values": {"loudness": 0.25},
}


def pipeline(card: ModelCard = CARD, model: FakeModel | None = None, *, most: int = 100, **route: Any) -> Pipeline:
    return Pipeline([ROUTE._replace(**route)], {"genre": model or FakeModel(card)}, max_explained=most)


def ask(asked: Pipeline, payload: bytes = LOUD, **message: Any) -> Any:
    ((answer,),) = asked.process([Message("music/hall/features", payload, **message)])
    return json.loads(answer.payload)


@pytest.mark.parametrize(("method", "expected"), [("path", PATH), ("shap", SHAP), ("none", None)])
def test_a_route_or_a_message_asks_for_an_explanation(method: Any, expected: Any) -> None:
    for answer in (ask(pipeline(explain=method)), ask(pipeline(), explain=method)):
        assert answer.get("explanation") == expected
        assert answer["id"] == 7
        validator(Prediction).validate_python(answer, strict=True)
    assert "explanation" not in ask(pipeline(explain=method), explain="none")
    assert ask(pipeline(explain=method), explain="").get("explanation") == expected


def test_each_row_has_its_own() -> None:
    """Predictions are remembered by what the model answers; what led to it differs from row to row."""
    asked = pipeline(explain="path")
    changes = [
        ask(asked, b'{"loudness": %.2f}' % value)["explanation"]["nearest"]["change"] for value in (0.9, 0.8, 0.9)
    ]
    assert changes == [-0.4, -0.3, -0.4]
    assert "explanation" not in ask(asked, explain="none")


@pytest.mark.parametrize("wish", ["PATH", "x" * 60_000, "\ufffd", "shap,path"])
def test_a_wish_that_is_none_is_answered_with_the_ones_there_are(wish: str) -> None:
    answer = ask(pipeline(), explain=wish)
    assert answer["label"] == "Rock"
    assert answer["explanation"]["method"] == "none"
    assert answer["explanation"]["reason"].endswith("is none of path, shap, none")
    assert len(answer["explanation"]["reason"]) < 100
    validator(Prediction).validate_python(answer, strict=True)


def test_a_route_may_take_no_wishes() -> None:
    answer = ask(pipeline(explain_requests=False), explain="shap")
    assert answer["explanation"] == {
        "method": "none",
        "reason": "this route explains no answer on request (explain_requests)",
    }
    assert ask(pipeline(explain="path", explain_requests=False))["explanation"] == PATH


def test_a_model_without_trees_says_so_to_those_who_ask_and_at_the_start() -> None:
    answer = ask(pipeline(make_card()), explain="path")
    assert answer["label"] == "Rock"
    assert "can't explain its answers: its card has no trees" in answer["explanation"]["reason"]
    assert "its card has no trees" in ask(pipeline(make_card(), explain="path"))["explanation"]["reason"]
    with pytest.raises(SettingsError, match=r"route 1: explain: .* its card has no trees"):
        check_routes([ROUTE._replace(explain="path")], {"genre": cast("Predictor", FakeModel())})
    check_routes([ROUTE._replace(explain="path")], {"genre": cast("Predictor", FakeModel(CARD))})


def test_so_many_rows_of_a_batch_are_explained() -> None:
    rows = [{"loudness": 0.9}, {"loudness": 2}, {"loudness": 0.1, "id": 3}, {"loudness": 0.8}, {"loudness": 0.7}]
    for asked in (pipeline(most=3, explain="shap"), pipeline(most=3, explain="shap", name_sensor=True)):
        answers = ask(asked, json.dumps(rows).encode())
        assert ["explanation" in one for one in answers] == [True, False, True, True, False]
        assert answers[1]["error"] == "invalid_features"
        assert answers[2]["id"] == 3
        assert answers[2]["explanation"] == {
            "method": "shap", "of": "Hip-Hop", "scale": "probability", "base": 0.25, "output": 1.0, "values": {"loudness": 0.75},
        }  # fmt: skip


def test_an_answer_with_its_explanations_may_be_too_large() -> None:
    payload = json.dumps([{"loudness": 0.9}] * 50).encode()
    limited = Pipeline([ROUTE], {"genre": FakeModel(CARD)}, max_answer=8192)
    assert len(ask(limited, payload)) == 50
    assert ask(limited, payload, explain="shap")["error"] == "payload_too_large"


def test_messages_of_all_kinds_that_come_together() -> None:
    asked = pipeline()
    wishes = [None, "path", "shap", "none", "?", "path"]
    batch = b'[{"loudness": 0.9}, {"loudness": 0.1}]'
    messages = [
        Message("music/hall/features", payload, explain=wish)
        for payload in (LOUD, batch, b'{"loudness": "no"}')
        for wish in wishes
    ]
    answers = [json.loads(answer.payload) for (answer,) in asked.process(messages)]
    of = {None: None, "path": "path", "shap": "shap", "none": None, "?": "none"}
    for number, wish in enumerate(wishes):
        assert answers[number].get("explanation", {}).get("method") == of[wish]
        assert [row.get("explanation", {}).get("method") for row in answers[6 + number]] == [of[wish]] * 2
        assert answers[12 + number]["error"] == "invalid_features"


def test_every_format_has_it() -> None:
    asked = pipeline()
    ((answer,),) = asked.process(
        [Message("music/hall/features", cbor2.dumps({"loudness": 0.9}), 0, "application/cbor", explain="shap")]
    )
    assert cbor2.loads(answer.payload)["explanation"] == SHAP
    records = ask(asked, b'[{"n":"loudness","v":0.9}]', content_type="application/senml+json", explain="path")
    (record,) = (one for one in records if one["n"] == "explanation")
    assert json.loads(record["vs"]) == PATH


def test_an_answer_that_is_not_sure_is_explained_by_what_it_would_be() -> None:
    class Unsure(FakeModel):
        def read(self, output: Any) -> Any:  # noqa: ARG002
            return "Rock", [0.4, 0.6]

    answer = ask(pipeline(model=Unsure(CARD), min_confidence=0.9, explain="shap"))
    assert answer["label"] is None
    assert answer["explanation"]["of"] == "Rock"


def test_gathered_answers_are_explained_as_the_route_says() -> None:
    asked = pipeline(subscribe=Template("music/{sensor}/{feature}"), explain="path")
    ((answer,),) = asked.process([Message("music/hall/loudness", b"0.9", explain="shap")])
    assert json.loads(answer.payload)["explanation"] == PATH


def test_a_model_that_fails_on_a_row_has_nothing_to_explain(caplog: pytest.LogCaptureFixture) -> None:
    model = FakeModel(CARD)
    asked = pipeline(model=model, explain="path")
    model.broken = RuntimeError("no")
    assert ask(asked)["error"] == "inference_failed"
    assert "could not be explained" not in caplog.text


def test_an_error_in_an_explanation_costs_nobody_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def explain(self, *_: Any) -> Any:
            raise ZeroDivisionError

    class Wrong(FakeModel):
        def explainer(self, *_: Any) -> Explainer:
            return Broken()

    answer = ask(pipeline(model=Wrong(CARD)), explain="path")
    assert answer["label"] == "Rock"
    assert "explanation" not in answer
    assert "1 answers could not be explained" in caplog.text


def test_the_first_property_of_that_name_counts() -> None:
    pairs = (("a", "1"), ("explain", "path"), ("explain", "shap"))
    assert Carried(user_properties=pairs).asked("explain") == "path"
    assert Carried().asked("explain") is None


def test_many_rows_at_random_have_answers_that_are_right() -> None:
    source = random.Random(1)
    asked = pipeline(most=10_000, explain="shap")
    rows = [{"loudness": round(source.random(), 3)} for _ in range(3000)]
    for row, answer in zip(rows, ask(asked, json.dumps(rows).encode()), strict=True):
        assert answer["label"] == ("Rock" if row["loudness"] > 0.5 else "Hip-Hop")
        assert answer["explanation"]["of"] == answer["label"]
