"""Numbers and verdicts: models that answer no label of several, from their card to the wire."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from typing import Any, cast

import numpy as np
import pytest

from edge_agent.assembly import check_routes
from edge_agent.cli.try_ import table_of_examples
from edge_agent.contract.answers import Detection, Estimate, Estimates
from edge_agent.contract.card import ModelCard, parse
from edge_agent.contract.messages import Message, to_json, validator
from edge_agent.contract.templates import Template
from edge_agent.errors import CardError, SettingsError
from edge_agent.model.library import Predictor
from edge_agent.model.outputs import Arrays, UnfitError, output_of
from edge_agent.payload.senml import CONTENT_TYPE as SENML_TYPE
from edge_agent.routing.routes import Route
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeModel, make_card

ROUTE = Route("model", Template("in"), Template("out"), Template("error"))
TRY = Route("model", Template("try"), Template("out"), Template("error"))


def card(**fields: Any) -> ModelCard:
    """A card of another task, read as from a file; `fields` replace those of a classification."""
    content = json.loads(make_card().to_json())
    content.pop("labels")
    content["training"].pop("class_counts")
    return parse(json.dumps(content | fields), where="m.onnx")


ONE = card(
    task="regression",
    outputs=[{"name": "indoor", "unit": "°C"}],
    examples=[{"name": "noon", "features": [0.75], "values": [21.7]}],
    self_test={"rows": [[0.0], [1.0]], "values": [[-20.0], [5.0]], "tolerance": 1e-10},
)
TWO = card(
    task="regression",
    outputs=[{"name": "indoor", "unit": "°C"}, {"name": "power/kitchen"}],
    self_test={"rows": [[0.0], [1.0]], "values": [[0.0, 0.0], [0.0, 1000.0]]},
)
ALARM = card(
    task="anomaly",
    threshold=0.5,
    examples=[{"name": "noon", "features": [0.75], "label": "anomaly", "values": [0.61]}],
    self_test={"rows": [[0.0], [1.0]], "labels": ["normal", "anomaly"], "values": [[0.4], [0.7]]},
)


class Graph(FakeModel):
    """Answers what a graph with one number for each row would give."""

    def predict(self, rows: Sequence[Sequence[float]]) -> Sequence[Hashable]:
        numbers = np.array([row[0] for row in rows])
        if self.card.task == "anomaly":
            return self.output.pack([numbers[:, np.newaxis], numbers[:, np.newaxis] > 0.5])
        return self.output.pack([np.stack([numbers / 3] * len(self.card.outputs), axis=1)])

    def read(self, output: Any) -> Any:
        return self.output.read(output)


def ask(model_card: ModelCard, payload: object, content_type: str | None = None) -> tuple[str, Any]:
    pipeline = Pipeline([ROUTE], {"model": Graph(model_card)})
    (((topic, answer, *_),),) = pipeline.process([Message("in", to_json(payload), 0, content_type)])
    return topic, json.loads(answer)


MODEL = {"model": "genre", "version": "1.0.0"}


def test_a_number_goes_out_with_its_unit_and_without_the_noise_of_its_last_bits() -> None:
    topic, answer = ask(ONE, {"loudness": 0.1, "id": 3})
    assert (topic, answer) == ("out", {"value": 0.0333333333333, "unit": "°C", **MODEL, "id": 3})
    validator(Estimate).validate_python(answer)
    without = ONE.model_copy(update={"outputs": TWO.outputs[1:]})
    assert ask(without, {"loudness": 0.3})[1] == {"value": 0.1, **MODEL}


def test_several_numbers_go_out_by_name() -> None:
    _, answers = ask(TWO, [{"loudness": 0.3}, {"loudness": 0.3}, {"loudness": 0.6}])
    assert answers[0] == answers[1] == {"values": {"indoor": 0.1, "power/kitchen": 0.1}, **MODEL}
    assert answers[2]["values"] == {"indoor": 0.2, "power/kitchen": 0.2}
    validator(Estimates).validate_python(answers[0])


def test_a_verdict_goes_out_with_its_score() -> None:
    assert ask(ALARM, {"loudness": 0.61})[1] == {"label": "anomaly", "score": 0.61, **MODEL}
    _, answer = ask(ALARM, {"loudness": 0.5})
    assert answer == {"label": "normal", "score": 0.5, **MODEL}
    validator(Detection).validate_python(answer)


def test_in_senml() -> None:
    pack = [{"n": "loudness", "v": 0.75}]
    told = [{"n": "model", "vs": "genre"}, {"n": "version", "vs": "1.0.0"}]
    assert ask(ONE, pack, SENML_TYPE)[1] == [{"n": "value", "v": 0.25}, {"n": "unit", "vs": "°C"}, *told]
    assert ask(TWO, pack, SENML_TYPE)[1] == [
        {"n": "value/indoor", "v": 0.25},
        {"n": "value/power_2Fkitchen", "v": 0.25},
        *told,
    ]
    assert ask(ALARM, pack, SENML_TYPE)[1] == [{"n": "label", "vs": "anomaly"}, {"n": "score", "v": 0.75}, *told]


@pytest.mark.parametrize(
    ("model_card", "row"),
    [
        (ONE, ["value", "0.25 °C"]),
        (TWO, ["indoor", "0.166667 °C"]),
        (ALARM, ["label", "anomaly"]),
    ],
    ids=["one", "two", "alarm"],
)
def test_in_the_table_of_try(model_card: ModelCard, row: list[str]) -> None:
    model = Graph(model_card)
    lines = list(table_of_examples(Pipeline([TRY], {"model": model}), model))
    assert row in [line.split(maxsplit=1) for line in lines]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("model_card", [ONE, TWO, ALARM], ids=["one", "two", "alarm"])
def test_what_is_no_number_is_not_published(model_card: ModelCard, value: float) -> None:
    output = output_of(model_card)
    with pytest.raises(ValueError, match="not finite"):
        output.fields((value, True) if model_card is ALARM else [0.0, value][-len(model_card.outputs) :])


def test_what_the_info_and_people_are_told() -> None:
    assert output_of(ONE).described == {"outputs": [{"name": "indoor", "unit": "°C"}]}
    assert output_of(TWO).summary == "indoor in °C, power/kitchen"
    assert output_of(ALARM).described == {"labels": ["normal", "anomaly"], "threshold": 0.5}


def values(*rows: list[float]) -> Arrays:
    return [np.array(rows, float)]


def test_values_are_compared_as_shares_of_the_largest_of_their_output() -> None:
    assert output_of(ONE).differences(values([-20.0], [6.0])).tolist() == [0.0, 0.05]
    assert output_of(TWO).differences(values([0.5, 0.0], [0.0, 900.0])).tolist() == [0.5, 0.1]
    assert np.isnan(output_of(ONE).differences(values([math.nan], [5.0]))).tolist() == [True, False]
    with pytest.raises(UnfitError, match=r"values \(2, 1\); it returns \(2, 2\)"):
        output_of(ONE).differences(values([0.0, 0.0], [0.0, 0.0]))


def test_verdicts_are_compared_one_by_one() -> None:
    scores = np.array([[0.4], [0.7]])
    assert output_of(ALARM).differences([scores, np.array([[False], [True]])]).tolist() == [0.0, 0.0]
    assert output_of(ALARM).differences([scores + 0.1, np.array([[True], [True]])]).tolist()[0] == math.inf
    with pytest.raises(UnfitError, match="it must return values"):
        output_of(ALARM).differences([scores[:, 0], np.array([False, True])])


@pytest.mark.parametrize("model_card", [ONE, ALARM], ids=["one", "alarm"])
def test_a_confidence_is_not_asked_of_what_has_none(model_card: ModelCard) -> None:
    models = {"model": cast("Predictor", Graph(model_card))}
    check_routes([ROUTE], models)
    with pytest.raises(
        SettingsError, match=rf"^route 1: min_confidence: .* \({model_card.task}\) have no confidence; remove"
    ):
        check_routes([Route("model", Template("in"), Template("out"), Template("error"), min_confidence=0.5)], models)


@pytest.mark.parametrize("model_card", [ONE, TWO, ALARM], ids=["one", "two", "alarm"])
def test_a_card_says_the_same_after_a_round_trip(model_card: ModelCard) -> None:
    assert parse(model_card.to_json(), where="m.onnx") == model_card
    assert not {"labels", "probabilities"} & set(json.loads(ONE.to_json())["self_test"])


@pytest.mark.parametrize(
    ("start", "change", "reason"),
    [
        (ONE, {"outputs": []}, "a model for regression needs outputs"),
        (ONE, {"threshold": 1}, "a model for regression has no threshold"),
        (ONE, {"outputs": [{"name": "a"}, {"name": "a"}]}, "outputs are not unique: a"),
        (ONE, {"self_test": {"rows": [[0]], "values": [[1, 2]]}}, "row 0 has the wrong width: values"),
        (ONE, {"self_test": {"rows": [[0]], "values": []}}, "as many values as it has rows"),
        (ONE, {"self_test": {"rows": [[0]], "values": [[1]], "labels": ["a"]}}, "has no labels"),
        (ONE, {"examples": [{"name": "e", "features": [0.5], "label": "Rock"}]}, "its answer does not fit"),
        (ONE, {"examples": [{"name": "e", "features": [0.5]}]}, "its answer does not fit"),
        (ALARM, {"threshold": None}, "a model for anomaly needs threshold"),
        (ALARM, {"self_test": {"rows": [[0]], "values": [[1]], "labels": ["odd"]}}, "'odd' is not among the labels"),
    ],
)
def test_a_broken_card_is_refused(start: ModelCard, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(CardError, match=reason):
        parse(json.dumps(json.loads(start.to_json()) | change), where="m.onnx")
