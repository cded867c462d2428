"""Features found in what real devices send, by `fields`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_agent.contract.messages import ErrorCode, Message
from edge_agent.payload.features import Batch, FeatureCodec, Features, Fields, Unusable
from edge_agent.payload.places import Place
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import ROUTE, FakeModel, make_card
from tests.unit.outcomes import rows_of

#: device -> what it publishes (shortened to what matters), where the features are, and what they are
SHAPES: dict[str, tuple[Any, dict[str, str], dict[str, float]]] = {
    "Tasmota, tele/+/SENSOR": (
        {
            "Time": "2026-01-05T10:00:00",
            "BME280": {"Temperature": 21.4, "Humidity": 48.1, "Pressure": 1002.5},
            "TempUnit": "C",
        },
        {"temperature": "BME280.Temperature", "humidity": "BME280.Humidity"},
        {"temperature": 21.4, "humidity": 48.1},
    ),
    "zigbee2mqtt": (
        {"battery": 97, "humidity": 41.32, "linkquality": 120, "temperature": 22.65, "voltage": 3000},
        {},
        {"temperature": 22.65, "humidity": 41.32},
    ),
    "Shelly Gen2, status/+": (
        {"id": 0, "apower": 63.2, "voltage": 231.5, "temperature": {"tC": 43.1, "tF": 109.6}},
        {"temperature": "temperature.tC", "power": "apower"},
        {"temperature": 43.1, "power": 63.2},
    ),
    "The Things Stack, uplink": (
        {
            "end_device_ids": {"device_id": "attic"},
            "uplink_message": {"f_port": 1, "decoded_payload": {"temperature": "19.5", "values": [3, 0.25]}},
        },
        {
            "temperature": "uplink_message.decoded_payload.temperature",
            "second": "uplink_message.decoded_payload.values.1",
        },
        {"temperature": 19.5, "second": 0.25},
    ),
}


def codec(fields: dict[str, str], names: list[str]) -> FeatureCodec:
    ways: Fields = tuple((name, Place(tuple(way.split(".")))) for name, way in fields.items())
    return FeatureCodec(make_card(names, minimum=None, maximum=None).features, fields=ways)


@pytest.mark.parametrize("device", SHAPES)
def test_a_device_s_own_json_will_do(device: str) -> None:
    content, fields, wanted = SHAPES[device]
    decoded = codec(fields, list(wanted)).decode(json.dumps(content).encode())
    assert isinstance(decoded, Features)
    assert decoded.values == tuple(wanted.values())


def test_a_batch_of_them() -> None:
    content, fields, wanted = SHAPES["Shelly Gen2, status/+"]
    decoded = codec(fields, list(wanted)).decode(json.dumps([content, {}, 5]).encode())
    assert isinstance(decoded, Batch)
    assert [type(row) for row in rows_of(decoded)] == [Features, Unusable, Unusable]


@pytest.mark.parametrize(
    "content", [{}, {"a": 1}, {"a": {"b": None}}, {"a": [1]}, {"a": {"b": {"c": 1}}}, {"a": {"b": True}}, {"x": 0.5}]
)
def test_what_is_not_there_is_told_by_the_feature_s_name(content: Any) -> None:
    decoded = codec({"x": "a.b"}, ["x"]).decode(json.dumps(content).encode())
    assert isinstance(decoded, Unusable)
    assert (decoded.code, decoded.detail[0]["loc"]) == (ErrorCode.INVALID_FEATURES, ["x"])


def test_id_and_time_are_echoed_from_where_they_are() -> None:
    decoded = codec({"x": "v", "time": "Time", "id": "meta.id"}, ["x"]).decode(
        b'{"v": 1, "Time": "now", "meta": {"id": 7}}'
    )
    assert decoded == Features((1.0,), {"id": 7, "time": "now"})


def test_two_routes_of_one_model_may_find_its_features_in_different_places() -> None:
    plain, nested = ROUTE, ROUTE._replace(fields=(("loudness", Place(("audio", "level"))),))
    pipeline = Pipeline([plain, nested], {"genre": FakeModel()})
    ((first, second),) = pipeline.process([Message("music/a/features", b'{"loudness": 0.1, "audio": {"level": 0.9}}')])
    assert [json.loads(answer.payload)["label"] for answer in (first, second)] == ["Hip-Hop", "Rock"]
