"""The schemas of features beside the agent's own reading: what it takes, they take, and the other way round where words allow."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config.settings import Settings
from edge_agent.contract.card import Feature, ModelCard
from edge_agent.contract.messages import to_json
from edge_agent.docs import asyncapi
from edge_agent.docs.served import Served
from edge_agent.payload.features import Batch, FeatureCodec, Features
from edge_agent.testing import make_card
from tests.unit.strategies import CELLS

pytest.importorskip("jsonschema")

from tests.described import Document

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
COLUMNS = (
    Feature(name="level", minimum=0.0, maximum=1.0, quantiles=QUANTILES, example=0.5),
    Feature(name="free", quantiles=QUANTILES, example=0.5),
    Feature(name="door", kind="boolean", quantiles=QUANTILES, example=1.0),
    Feature(name="mode", kind="category", categories=("eco", "7"), quantiles=[0.0] * 8 + [1.0], example=0.0),
    Feature(name="flow", missing=True, minimum=0.0, quantiles=QUANTILES, example=0.5),
)
FIELDS: dict[str, Any] = {
    "level": {"at": "a.level", "scale": 0.01, "map": {"HIGH": 1.0}},
    "free": {"at": "a.free", "scale": -2.0, "offset": 1.0, "lenient": True},
    "door": "list.name=door.value",
}
#: What is sent for each: mostly what it is, and sometimes anything.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "level": st.floats(0, 1) | st.sampled_from(["0.5", " 1e-1 ", "HIGH", 99, "101"]),
    "free": st.floats(-1e9, 1e9) | st.sampled_from(["2,32", "20.6 °C", "+.5", "1_0"]),
    "door": st.sampled_from([True, False, 0, 1, 1.0, "ON", "Closed", " open ", 2]),
    "mode": st.sampled_from(["eco", "7", 7, "away", 0]),
    "flow": st.floats(0, 10) | st.sampled_from([None, "unavailable", "---", "5"]),
}


def card() -> ModelCard:
    plain = make_card()
    test = plain.self_test.model_copy(update={"rows": ((0.0,) * len(COLUMNS),)})
    return ModelCard.model_validate(plain.model_copy(update={"features": COLUMNS, "self_test": test}).model_dump())


def documents() -> list[tuple[Document, FeatureCodec]]:
    made = []
    for fields in ({}, FIELDS):
        chosen = Settings(route=[{"fields": fields}])
        (route,) = chosen.routes()
        document = Document(json.loads(asyncapi.write(chosen, {"genre": Served(card(), "0" * 64)})))
        made.append((document, FeatureCodec(COLUMNS, fields=route.fields)))
    return made


PLAIN, NESTED = documents()


def nested(row: dict[str, Any]) -> dict[str, Any]:
    """The same where the paths lead."""
    made: dict[str, Any] = {key: row[key] for key in ("mode", "flow") if key in row}
    made["a"] = {key: row[key] for key in ("level", "free") if key in row}
    made["list"] = [
        {"name": "other", "value": 3},
        *({"name": "door", "value": row[key]} for key in ("door",) if key in row),
    ]
    return made


def takes(document: Document, content: Any) -> bool:
    return bool(document.validator({"$ref": "#/components/messages/genre.features.json/payload"}).is_valid(content))


@settings(max_examples=200)
@given(st.fixed_dictionaries({}, optional={name: VALUES[name] | CELLS for name in VALUES}), st.booleans())
def test_what_the_agent_takes_is_valid(row: dict[str, Any], batch: bool) -> None:
    for (document, codec), made in ((PLAIN, row), (NESTED, nested(row))):
        content = [made, made] if batch else made
        found = codec.decode(to_json(content))
        if isinstance(found, Features) or (isinstance(found, Batch) and not found.rejected):
            assert takes(document, json.loads(to_json(content)))


@settings(max_examples=200)
@given(st.fixed_dictionaries({name: st.floats(-2, 2) | st.booleans() | st.none() for name in ("level", "free")}))
def test_a_valid_number_is_taken(row: dict[str, Any]) -> None:
    document, codec = PLAIN
    content = {**row, "door": True, "mode": "eco", "flow": 0.5}
    assert takes(document, content) == isinstance(codec.decode(to_json(content)), Features)
