"""The model card is input from outside: everything in it is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.card import MAX_CARD_BYTES, QUANTILE_LEVELS, Example, ModelCard, parse
from edge_agent.errors import CardError
from edge_agent.testing import make_card
from tests.unit.strategies import json_values

WHERE = "tree.onnx"
#: No message is longer, whatever stands in the card.
LONGEST_MESSAGE = 1000


def content() -> dict[str, Any]:
    """A good card with two features, three labels and an example, to break."""
    card: dict[str, Any] = json.loads(make_card(("tempo", "energy")).to_json())
    card["labels"] = ["Hip-Hop", "Rock", "Folk"]
    card["examples"] = [{"name": "a track", "features": [0.25, 0.5], "label": "Folk"}]
    card["self_test"] = {"rows": [[0.0, 1.0]], "labels": ["Rock"], "probabilities": [[0.25, 0.5, 0.25]]}
    card["training"]["datasets"] = [{"name": "tracks.csv", "sha256": "0" * 64, "licence": "CC BY 4.0"}]
    return card


def stump(feature: int = 0, left: int = 1) -> dict[str, Any]:
    """A tree of three nodes, as a card has it."""
    nodes = {"sizes": [3], "features": [feature, -1, -1], "thresholds": [0.5, 0, 0], "covers": [3, 2, 1]}
    return {**nodes, "left": [left, 0, 0], "right": [2, 0, 0], "values": [[1, 0, 0], [0, 1, 0]], "scores": 3}


def test_a_card_may_have_its_trees() -> None:
    card = parse(json.dumps(content() | {"trees": stump()}), where=WHERE)
    assert card.trees is not None
    assert parse(card.to_json(), where=WHERE) == card


@pytest.mark.parametrize(
    ("libraries", "judge"),
    [
        (
            {"python": "3.13.0", "numpy": "2.2.0", "onnx": "1.18.0", "scikit-learn": "1.7.0", "skl2onnx": "1.19.0"},
            "scikit-learn",
        ),
        ({"python": "3.13.0", "scikit-learn": "1.7.0", "LightGBM": "4.6.0"}, "LightGBM 4.6.0"),
        ({"onnxruntime": "1.21.0", "scikit-learn": "1.7.0"}, "onnxruntime 1.21.0"),
        ({}, "scikit-learn"),
    ],
)
def test_a_card_tells_whose_answers_it_has(libraries: dict[str, str], judge: str) -> None:
    found = content()
    found["training"]["libraries"] = libraries
    assert parse(json.dumps(found), where=WHERE).training.judge == judge


def refusal(card: object) -> str:
    """The message of a card that has to be refused: one line that names the file."""
    with pytest.raises(CardError) as raised:
        parse(card if isinstance(card, str | bytes) else json.dumps(card), where=WHERE)
    message = str(raised.value)
    assert message.startswith(f"{WHERE}: ")
    assert len(message) <= LONGEST_MESSAGE
    assert message.isprintable()
    return message


def test_a_good_card_says_the_same_after_a_round_trip() -> None:
    card = parse(json.dumps(content()), where=WHERE)
    assert parse(card.to_json(), where=WHERE) == card
    assert parse(card.to_json().encode(), where=WHERE) == card
    assert card.feature_names == ("tempo", "energy")
    assert card.labels == ("Hip-Hop", "Rock", "Folk")
    assert card.examples == (Example(name="a track", features=(0.25, 0.5), label="Folk"),)


def test_the_card_is_stored_with_the_keys_in_order() -> None:
    stored = json.loads(make_card().to_json())
    assert list(stored) == [
        name for name in ModelCard.model_fields if name not in {"outputs", "threshold", "trees", "expected"}
    ]


Breaking = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("place", "says", "break_"),
    [
        ("format", "Input should be 1", lambda card: card.update(format=2)),
        ("format", "Field required", lambda card: card.pop("format")),
        ("name", "pattern", lambda card: card.update(name="a b")),
        ("name", "pattern", lambda card: card.update(name="../etc/passwd")),
        ("name", "pattern", lambda card: card.update(name="genre\n")),
        ("name", "pattern", lambda card: card.update(name="x" * 65)),
        ("name", "valid string", lambda card: card.update(name=5)),
        ("version", "pattern", lambda card: card.update(version="1.0")),
        ("version", "pattern", lambda card: card.update(version="1.0.0\n")),
        ("version", "pattern", lambda card: card.update(version="01.0.0")),
        ("task", "classification", lambda card: card.update(task="ranking")),
        ("the card", "trees ask about feature 2 of 2", lambda card: card.update(trees=stump(feature=2))),
        ("the card", "trees of 2 scores", lambda card: card.update(trees=stump() | {"scores": 2, "values": [[1, 0], [0, 1]]})),
        ("the card", "(logistic)", lambda card: card.update(trees=stump() | {"link": "logistic"})),
        ("trees", "a leaf asks nothing", lambda card: card.update(trees=stump() | {"left": [1, 7, 0]})),
        ("trees", "a leaf asks nothing", lambda card: card.update(trees=stump() | {"thresholds": [0.5, 9, 0]})),
        ("trees", "a child comes before its parent", lambda card: card.update(trees=stump(left=0))),
        ("the card", "a model for regression has no labels", lambda card: card.update(task="regression")),
        ("the card", "a model for anomaly has no labels", lambda card: card.update(task="anomaly")),
        ("the card", "a model for classification has no threshold", lambda card: card.update(threshold=0.5)),
        ("the card", "a model for classification needs labels", lambda card: card.update(labels=[])),
        ("the card", "its answer does not fit", lambda card: card["examples"][0].update(values=[1])),
        ("the card", "self-test of a model for classification has no values", lambda card: card["self_test"].update(values=[[1]])),
        ("description", "4096", lambda card: card.update(description="x" * 4097)),
        ("description", "cannot be printed", lambda card: card.update(description="\x1b[2J")),
        ("description", "cannot be printed", lambda card: card.update(description="two\nlines")),
        ("extra", "not permitted", lambda card: card.update(extra=1)),
        ("features", "at least 1", lambda card: card.update(features=[])),
        ("features.1", "not a mapping|dictionary|object", lambda card: card["features"].__setitem__(1, 3)),
        ("features.0.name", "at least 1", lambda card: card["features"][0].update(name="")),
        ("features.0.name", "128", lambda card: card["features"][0].update(name="x" * 129)),
        ("features.0.name", "cannot be printed", lambda card: card["features"][0].update(name="a\x00")),
        ("features.0.colour", "not permitted", lambda card: card["features"][0].update(colour="red")),
        ("features.0", "minimum 2 is above maximum 1", lambda card: card["features"][0].update(minimum=2)),
        ("features.0", "example 2 is outside", lambda card: card["features"][0].update(example=2)),
        ("features.0", "example -1 is outside", lambda card: card["features"][0].update(example=-1)),
        ("features.0.quantiles", "at least 9", lambda card: card["features"][0]["quantiles"].pop()),
        ("features.0.quantiles", "at most 9", lambda card: card["features"][0]["quantiles"].append(1)),
        ("features.0", "rising order", lambda card: card["features"][0]["quantiles"].reverse()),
        ("features.0.quantiles.3", "finite|less|greater", lambda card: card["features"][0]["quantiles"].__setitem__(3, float("nan"))),
        ("features.0.minimum", "finite|less|greater", lambda card: card["features"][0].update(minimum=float("-inf"))),
        ("features.0.maximum", "finite|less|greater", lambda card: card["features"][0].update(maximum=1e39)),
        ("features.0.example", "finite|less|greater", lambda card: card["features"][0].update(example=float("nan"))),
        ("the card", "feature names are not unique: tempo", lambda card: card["features"][1].update(name="tempo")),
        ("the card", "labels are not unique: Rock", lambda card: card.update(labels=["Rock", "Rock", "Folk"])),
        ("the card", "two labels or more", lambda card: card.update(labels=["Rock"])),
        ("labels.0", "at least 1", lambda card: card.update(labels=["", "Rock"])),
        ("the card", "'a track' has 1 values for 2 features", lambda card: card["examples"][0]["features"].pop()),
        ("the card", "'Jazz' is not among the labels", lambda card: card["examples"][0].update(label="Jazz")),
        ("the card", "tempo = 1.5 is outside", lambda card: card["examples"][0].update(features=[1.5, 0])),
        ("the card", "energy = -0.5 is outside", lambda card: card["examples"][0].update(features=[1, -0.5])),
        ("examples.0.features.0", "finite|less|greater", lambda card: card["examples"][0].update(features=[float("inf"), 0])),
        ("examples", "at most 64", lambda card: card.update(examples=card["examples"] * 65)),
        ("self_test", "Field required", lambda card: card.pop("self_test")),
        ("self_test.rows", "at least 1", lambda card: card["self_test"].update(rows=[])),
        ("self_test.rows.0.1", "finite|less|greater", lambda card: card["self_test"].update(rows=[[0, float("nan")]])),
        ("the card", "as many labels", lambda card: card["self_test"].update(labels=["Rock", "Rock"])),
        (
            "the card",
            "as many probabilities",
            lambda card: card["self_test"].update(probabilities=2 * card["self_test"]["probabilities"]),
        ),
        ("the card", "row 0 has the wrong width", lambda card: card["self_test"].update(rows=[[0.0]])),
        ("the card", "row 0 has the wrong width", lambda card: card["self_test"].update(probabilities=[[0.5, 0.5]])),
        ("the card", "self-test row 0: 'Jazz'", lambda card: card["self_test"].update(labels=["Jazz"])),
        ("self_test.probabilities.0.0", "less than", lambda card: card["self_test"].update(probabilities=[[1.1, 0, 0]])),
        ("self_test.probabilities.0.0", "greater|less|finite", lambda card: card["self_test"].update(probabilities=[[float("nan"), 0, 0]])),
        ("self_test.tolerance", "less than or equal to 0.001", lambda card: card["self_test"].update(tolerance=0.5)),
        ("self_test.tolerance", "greater than 0", lambda card: card["self_test"].update(tolerance=0)),
        ("training.rows", "greater than or equal to 0", lambda card: card["training"].update(rows=-1)),
        ("training.date", "pattern", lambda card: card["training"].update(date="yesterday")),
        ("training.datasets.0.sha256", "pattern", lambda card: card["training"]["datasets"][0].update(sha256="0")),
        ("metrics.values.accuracy", "finite|less|greater", lambda card: card["metrics"].update(values={"accuracy": float("inf")})),
    ],
)  # fmt: skip
def test_a_broken_card_is_refused_with_file_place_and_reason(place: str, says: str, break_: Breaking) -> None:
    card = content()
    break_(card)
    message = refusal(card)
    assert f": {place}: " in message
    assert re.search(says, message)


def test_open_bounds_and_bounds_that_meet_are_fine() -> None:
    card = content()
    card["features"][0].update(minimum=None, maximum=None, example=1e30)
    card["features"][1].update(minimum=0.5, maximum=0.5, example=0.5)
    card["examples"] = []
    features = parse(json.dumps(card), where=WHERE).features
    assert [(feature.minimum, feature.maximum) for feature in features] == [(None, None), (0.5, 0.5)]
    assert len(features[0].quantiles) == len(QUANTILE_LEVELS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "[]",
        "null",
        "5",
        '"card"',
        "{}",
        b"\xff\xfe",
        "\ud800",
        '{"format": 1, "format": 2}',
        "[" * 100_000,
        '{"format": ' + "9" * 100_000 + "}",
        '{"name": "\\ud800"}',
    ],
)
def test_hostile_text_is_refused(text: str | bytes) -> None:
    refusal(text)


def test_a_card_has_a_largest_size() -> None:
    assert "bytes" in refusal(" " * (MAX_CARD_BYTES + 1))
    assert "bytes" in refusal(b"\xff" * (MAX_CARD_BYTES + 1))
    assert "bytes" in refusal("ä" * (MAX_CARD_BYTES // 2 + 1))
    parse(json.dumps(content()).ljust(MAX_CARD_BYTES), where=WHERE)


def test_what_is_wrong_is_shown_in_one_short_line() -> None:
    card = content()
    card["a\nlong\x1bkey" * 1000] = 1
    refusal(card)
    card = content()
    card["training"]["class_counts"] = {"k" * 5000: -1}
    refusal(card)
    card = content()
    card["training"]["libraries"] = {"\n<0>fake": 5}
    refusal(card)


def test_more_than_one_fault_is_counted() -> None:
    card = content()
    card.update(name="a b", version="1")
    assert "(and 1 more)" in refusal(card)


@given(value=json_values())
def test_no_json_crashes_the_reader(value: object) -> None:
    refusal(value)


@given(data=st.data(), value=json_values())
def test_no_value_at_any_place_crashes_the_reader(data: st.DataObject, value: object) -> None:
    card: Any = content()
    at = card
    while isinstance(at, dict | list) and at:
        parent, key = at, data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        at = parent[key]
        if data.draw(st.booleans()):
            break
    parent[key] = value
    text = json.dumps(card)
    try:
        found = parse(text, where=WHERE)
    except CardError:
        refusal(text)
    else:
        parse(found.to_json(), where=WHERE)
