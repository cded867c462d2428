"""What is said of drift fits into a message, however many models, features and labels there are: what has drifted comes first."""

from __future__ import annotations

import json

import pytest

from edge_agent.contract.drift import Drift, DriftedColumn, DriftedModel, State
from edge_agent.contract.messages import validator
from edge_agent.serving.drifting import Drifting
from edge_agent.testing import FakeClock

LIMIT = 64 << 10
LONG = "é" * 100  # as long as names may be, and two bytes each


def column(name: str, psi: float = 0.01, *, drifted: bool = False, how: str = "as in training") -> DriftedColumn:
    return DriftedColumn(name=name, drifted=drifted, psi=psi, independent=220, how=how, below=0.0, above=0.1, mean=0.5)


def model(number: int, state: State = "steady", features: int = 4, labels: int = 2) -> DriftedModel:
    """A model of which everything has drifted, or nothing."""
    drifted = state == "drifted"
    label = column("label", float(drifted), drifted=drifted)
    label["shares"] = {f"label {one} {LONG}": 1 / labels for one in range(labels)}
    return DriftedModel(
        name=f"model-{number}",
        version="1.0.0",
        state=state,
        since="2026-11-27T06:10:00.000Z" if drifted else None,
        hours=24.0,
        rows=86211,
        against="4802 rows of training, 2026-11-23",
        outside=0.0,
        features=[column(f"feature {one} {LONG}", one + 0.5, drifted=drifted) for one in range(features)],
        answers=[label, column("confidence")],
        sensors=[{"topic": f"s/{LONG}", "feature": LONG, "how": "far out", "share": 1.0}],
    )


def said(*models: DriftedModel) -> list[DriftedModel]:
    """Return what is published of models, which is also what those are told who ask."""
    drift = Drifting({}, hours=24.0, interval=1.0, clock=FakeClock(), time=lambda: "now")
    state: State = "drifted" if any(one["state"] == "drifted" for one in models) else "steady"
    drift.look()
    drift.last = {"time": "now", "state": state, "window_hours": 24.0, "models": list(models)}
    drift.say_again()
    message = drift.message("node")
    assert message is not None
    assert len(message.payload) <= LIMIT
    assert drift.told() == json.loads(message.payload)
    told: Drift = validator(Drift).validate_json(message.payload)
    assert told["state"] == state
    return told["models"]


def test_what_fits_is_said_as_a_whole() -> None:
    models = [model(0), model(1, "drifted"), model(2, "collecting")]
    assert said(*models) == models


def test_of_many_models_only_what_has_drifted_is_said() -> None:
    models = [model(number) for number in range(60)]
    models[41] = model(41, "drifted")
    told = said(*models)
    assert [one["name"] for one in told] == [one["name"] for one in models], "all of them, in their order"
    drifted = told.pop(41)
    assert all((one["features"], one["answers"], one["sensors"]) == ([], [], []) for one in told)
    assert len(drifted["features"]) == 4
    assert [one["name"] for one in drifted["answers"]] == ["label"], "or nobody could see in what it has"


@pytest.mark.parametrize(
    ("count", "features", "labels", "least"),
    [(60, 8, 2, 40), (300, 1, 2, 40), (120, 16, 2, 40), (100, 3, 16, 12), (500, 16, 16, 12)],
)
def test_of_many_that_have_drifted_the_worst_are_said(count: int, features: int, labels: int, least: int) -> None:
    told = said(*(model(number, "drifted", features, labels) for number in range(count)))
    assert least <= len(told) <= count
    for one in told:
        assert [each["name"] for each in one["features"]] == [f"feature {features - 1} {LONG}"], "the worst of its own"
        assert len(one["answers"]) == 1


def test_the_few_that_have_drifted_are_there_among_very_many() -> None:
    models = [model(number, "drifted" if number >= 1497 else "steady") for number in range(1500)]
    told = said(*models)
    assert [one["name"] for one in told[:3]] == ["model-1497", "model-1498", "model-1499"]
    assert 3 < len(told) < 1500


def test_of_one_model_what_has_drifted_most_is_said() -> None:
    one = model(0, "drifted")
    one["features"] = [
        column(f"{number}", float(number), drifted=True, how="x" * 10_000) for number in (1, 16, 2, 3, 4, 5, 6)
    ]
    (told,) = said(one)
    assert [each["name"] for each in told["features"]] == ["16"]


def test_what_can_not_be_made_short_is_left_out() -> None:
    one = model(0, "drifted")
    one["features"] = [column("endless", 1.0, drifted=True, how="x" * LIMIT)]
    assert said(one) == []
