from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from pydantic import ValidationError

from edge_agent.contract.answers import Prediction
from edge_agent.contract.messages import MAX_DETAILS, MAX_SHOWN, Detail, Pong, cut_details, shown, to_json, validator
from tests.unit.strategies import json_values

PREDICTION = {
    "label": "Rock",
    "confidence": 0.75,
    "probabilities": {"Hip-Hop": 0.25, "Rock": 0.75},
    "model": "genre",
    "version": "1.0.0",
}


def test_the_validator_takes_the_contract_and_nothing_less() -> None:
    validate = validator(Prediction).validate_python
    assert validate({**PREDICTION, "id": [1], "time": None}) == {**PREDICTION, "id": [1], "time": None}
    for key in PREDICTION:
        with pytest.raises(ValidationError):
            validate({name: value for name, value in PREDICTION.items() if name != key})
    assert validator(Prediction) is validator(Prediction)
    assert validator(Pong).validate_json(b'{"pong": null, "node": "n", "time": "t"}')["pong"] is None


def test_nan_and_infinities_become_strings() -> None:
    assert to_json([float("nan"), float("inf"), -float("inf"), 0.5]) == b'["NaN","Infinity","-Infinity",0.5]'


@given(value=json_values())
def test_anything_that_came_in_can_go_out(value: Any) -> None:
    json.loads(to_json(value))
    assert len(to_json(shown(value))) <= 2 * MAX_SHOWN + len("…".encode()) + 2


@given(value=json_values())
def test_what_is_short_is_shown_whole(value: Any) -> None:
    if len(to_json(value)) <= MAX_SHOWN:
        assert to_json(shown(value)) == to_json(value)
    else:
        assert shown(value).endswith("…")
        assert to_json(value).decode().startswith(shown(value)[:-1])


def test_details_are_cut_in_number_and_length() -> None:
    one: Detail = {"type": "t", "loc": ["x"], "msg": "m", "input": "v" * 1000}
    assert len(cut_details([one] * MAX_DETAILS)) == MAX_DETAILS
    kept = cut_details([one] * (MAX_DETAILS + 5))
    assert len(kept) == MAX_DETAILS + 1
    assert kept[-1]["msg"] == "and 5 more"
    assert len(kept[0]["input"]) == MAX_SHOWN + 1
    assert one["input"] == "v" * 1000
