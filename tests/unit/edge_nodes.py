"""A plant with an oven on an edge node of Sparkplug B, and the pipeline that listens to it. Tests that import this are skipped without protobuf."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config.load import load
from edge_agent.contract.messages import Message
from edge_agent.contract.templates import Template
from edge_agent.payload import sparkplug
from edge_agent.payload.places import Place
from edge_agent.routing.routes import Route
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeModel, make_card
from tests.sparkplug import encoded
from tests.unit.test_settings import write

pytest.importorskip("google.protobuf", reason="protobuf is not installed: pip install '.[sparkplug]'")

FEATURES = ("temperature", "humidity")
TYPE = f'content_type = "{sparkplug.CONTENT_TYPE}"\n'
FIELDS = 'fields = { temperature = "Inputs/Temperature", humidity = "Inputs/Rel. Humidity" }\n'
ROUTE = (
    f'[[route]]\nsubscribe = "spBv1.0/{{group}}/{{_}}/{{node}}/{{device}}"\npublish = "comfort/{{group}}/{{node}}/{{device}}"\n'
    f'partial = "merge"\n{TYPE}{FIELDS}'
)
INT16, FLOAT, BOOLEAN, STRING = 2, 9, 11, 12
PLANT = [
    Route(
        "genre",
        Template("spBv1.0/{group}/{_}/{node}/{device}"),
        Template("comfort/{group}/{node}/{device}"),
        Template("comfort/{group}/{node}/{device}/error"),
        (("temperature", Place(("Inputs/Temperature",))), ("humidity", Place(("Inputs/Rel. Humidity",)))),
        content_type=sparkplug.CONTENT_TYPE,
        partial="merge",
    )
]
BD_SEQ = {"name": "bdSeq", "datatype": 8, "long_value": 4}
NBIRTH = encoded(BD_SEQ)
METRICS = (
    {"name": "Inputs/Temperature", "alias": 11, "datatype": INT16, "int_value": 21},
    {"name": "Inputs/Rel. Humidity", "alias": 12, "datatype": FLOAT, "float_value": 40.5},
    {"name": "Properties/Maker", "alias": 13, "datatype": STRING, "string_value": b"ACME"},
)
DBIRTH = encoded(*METRICS)
ANSWERED = [("comfort/plant/plc/oven", "Rock")]
#: What the model of these tests makes of a first feature below zero.
NEGATIVE = [("comfort/plant/plc/oven", "Hip-Hop")]


def served(tmp_path: Path, text: str = ROUTE, **options: Any) -> Pipeline:
    routes = load(write(tmp_path, text)).routes()
    return Pipeline(routes, {"genre": FakeModel(make_card(FEATURES, minimum=-100, maximum=2000))}, **options)


def hear(pipeline: Pipeline, kind: str, payload: bytes, of: str = "plc/oven") -> list[tuple[str, Any]]:
    """Send one message; return the topic of each answer, and what it says: a label, or the type of a reason."""
    (answers,) = pipeline.process([Message(f"spBv1.0/plant/{kind}/{of}", payload)])
    said = []
    for answer in answers:
        content = json.loads(answer.payload)
        said.append((answer.topic, content["label"] if "label" in content else content["detail"][0]["type"]))
    return said


def begun(tmp_path: Path, text: str = ROUTE, **options: Any) -> Pipeline:
    pipeline = served(tmp_path, text, **options)
    assert hear(pipeline, "NBIRTH", NBIRTH, "plc") == []
    assert hear(pipeline, "DBIRTH", DBIRTH) == ANSWERED
    return pipeline


def lacking(pipeline: Pipeline) -> list[str]:
    gathered = pipeline.gathered(0, limit=10)
    assert gathered is not None
    return [name for one in gathered["waiting"] for name in one["missing"]]
