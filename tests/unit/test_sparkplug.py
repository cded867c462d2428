"""Sparkplug B: births, data by alias and deaths, through the whole pipeline."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config.load import load
from edge_agent.contract.messages import Message
from edge_agent.payload import sparkplug
from edge_agent.routing.routes import RouteTable, subscriptions
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeModel, make_card
from tests.sparkplug import encoded
from tests.unit.edge_nodes import (
    ANSWERED,
    DBIRTH,
    FEATURES,
    FIELDS,
    FLOAT,
    INT16,
    NBIRTH,
    NEGATIVE,
    ROUTE,
    TYPE,
    begun,
    hear,
    lacking,
    served,
)
from tests.unit.test_settings import write


def test_data_that_carry_only_an_alias_are_answered_with_what_was_known(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 55.0})) == ANSWERED
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 55.0})) == []
    assert hear(pipeline, "DDATA", encoded({"alias": 13, "string_value": b"other"})) == []
    assert hear(pipeline, "DDATA", encoded({"name": "Inputs/Rel. Humidity", "float_value": 56.0})) == ANSWERED


def test_a_signed_number_is_in_an_unsigned_field_and_its_datatype_in_the_birth(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    for sent in (65_516, (1 << 32) - 20):
        assert hear(pipeline, "DDATA", encoded({"alias": 11, "int_value": 500})) == ANSWERED
        assert hear(pipeline, "DDATA", encoded({"alias": 11, "int_value": sent})) == NEGATIVE
    assert hear(pipeline, "DDATA", encoded({"alias": 11, "int_value": 100_000})) == [
        ("comfort/plant/plc/oven/error", "float_type")
    ]


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ({"datatype": 1, "int_value": 0xFE}, -2),
        ({"datatype": 1, "int_value": 0xFFFF_FFFE}, -2),
        ({"datatype": 3, "int_value": 0xFFFF_FFFE}, -2),
        ({"datatype": 4, "long_value": (1 << 64) - 2}, -2),
        ({"datatype": 3, "long_value": (1 << 64) - 2}, -2),
        ({"datatype": 4, "long_value": 1 << 40}, 1 << 40),
        ({"datatype": 8, "long_value": (1 << 64) - 2}, (1 << 64) - 2),
        ({"datatype": 7, "long_value": 0xFFFF_FFFE}, 0xFFFF_FFFE),
        ({"datatype": 7, "int_value": 0xFFFF_FFFE}, 0xFFFF_FFFE),
        ({"int_value": 7}, 7),
        ({"int_value": 0xFFFF_FFFE}, {"int_value": 0xFFFF_FFFE, "datatype": None}),
        ({"datatype": 2, "int_value": 100_000}, {"int_value": 100_000, "datatype": "Int16"}),
        ({"datatype": 9, "float_value": 0.5}, 0.5),
        ({"datatype": 10, "double_value": math.inf}, math.inf),
        ({"datatype": 11, "boolean_value": True}, True),
        ({"datatype": 12, "string_value": b"21.5"}, "21.5"),
        ({"datatype": 12, "string_value": b"\xff"}, "\ufffd"),
        ({"datatype": 12, "string_value": b"x" * 1025}, {"string_value": True}),
        ({"datatype": 17, "bytes_value": b"x"}, {"bytes_value": True}),
        ({"datatype": 16, "dataset_value": b"\x08\x01"}, {"dataset_value": True}),
        ({"datatype": 19, "template_value": b"\xff\xff"}, {"template_value": True}),
        ({"datatype": 9, "is_null": True}, None),
        ({"datatype": 9, "is_null": True, "float_value": 3.0}, None),
        ({"datatype": 9}, None),
    ],
)
def test_values_are_plain(metric: dict[str, Any], value: Any) -> None:
    assert sparkplug.decode(encoded({"name": "a", **metric}), ["a"]) == {"a": value}


def test_a_message_of_its_own_is_read_by_names_only() -> None:
    payload = encoded(
        {"name": "a", "float_value": 1.5}, {"alias": 3, "float_value": 2.5}, {"name": "b", "int_value": 1}
    )
    assert sparkplug.decode(payload, ["a", "c"]) == {"a": 1.5}
    assert sparkplug.decode(payload, ["\udcff"]) == {}


def test_null_takes_the_value_away_without_a_rejection(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "is_null": True})) == []
    assert lacking(pipeline) == ["humidity"]
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": math.nan})) == []
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 40.5})) == ANSWERED


def test_an_infinite_value_is_rejected_and_forgotten(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": math.inf})) == [
        ("comfort/plant/plc/oven/error", "finite_number")
    ]
    assert lacking(pipeline) == ["humidity"]


def test_history_tells_nothing_of_now(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 99.0, "is_historical": True})) == []
    assert lacking(pipeline) == []


def test_a_death_takes_the_values_of_the_device(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, "DBIRTH", DBIRTH, "plc/dryer") == [("comfort/plant/plc/dryer", "Rock")]
    assert hear(pipeline, "DDEATH", encoded() + b"\x18\x01") == []
    assert lacking(pipeline) == list(FEATURES)
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 1.0})) == [
        ("comfort/plant/plc/oven/error", "birth_missing")
    ]
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 1.0}), "plc/dryer") != []
    assert hear(pipeline, "DBIRTH", DBIRTH) == ANSWERED


def test_the_death_of_a_node_takes_the_values_of_all_its_devices(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, "DBIRTH", DBIRTH, "plc/dryer") == [("comfort/plant/plc/dryer", "Rock")]
    assert hear(pipeline, "DBIRTH", DBIRTH, "other/oven") == [("comfort/plant/other/oven", "Rock")]
    assert hear(pipeline, "NDEATH", NBIRTH, "plc") == []
    assert lacking(pipeline) == list(FEATURES) * 2
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 1.0}), "other/oven") != []
    # Whoever is born again is answered, even with the same values.
    assert hear(pipeline, "NBIRTH", NBIRTH, "plc") == []
    assert hear(pipeline, "DBIRTH", DBIRTH) == ANSWERED


def test_the_will_of_an_earlier_session_takes_nothing(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, "NDEATH", encoded({"name": "bdSeq", "datatype": 8, "long_value": 3}), "plc") == []
    assert lacking(pipeline) == []
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 1.0})) == ANSWERED


def test_a_birth_of_the_node_makes_aliases_unknown_until_the_device_is_born(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, "NBIRTH", NBIRTH, "plc") == []
    swapped = encoded(
        {"name": "Inputs/Temperature", "alias": 12, "datatype": INT16, "int_value": 21},
        {"name": "Inputs/Rel. Humidity", "alias": 11, "datatype": FLOAT, "float_value": 40.5},
    )
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "int_value": 500})) == [
        ("comfort/plant/plc/oven/error", "birth_missing")
    ]
    assert hear(pipeline, "DBIRTH", swapped) == []  # nothing has changed
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "int_value": 0xFFFF_FFFF})) == NEGATIVE


def test_what_a_birth_no_longer_names_is_forgotten(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, "DBIRTH", encoded({"name": "Inputs/Temperature", "datatype": INT16, "int_value": 21})) == []
    assert lacking(pipeline) == ["humidity"]


def test_data_without_a_birth_are_rejected_once_and_then_ignored(tmp_path: Path) -> None:
    pipeline = served(tmp_path)
    data = encoded({"alias": 12, "float_value": 1.0})
    ((answer,),) = pipeline.process([Message("spBv1.0/plant/DDATA/plc/oven", data)])
    (reason,) = json.loads(answer.payload)["detail"]
    assert reason["input"] == 12
    assert "no DBIRTH has named: no DBIRTH of plant/plc/oven was received" in reason["msg"]
    assert "Node Control/Rebirth" in reason["msg"]
    assert [hear(pipeline, "DDATA", data), hear(pipeline, "DDATA", data)] == [[], []]
    assert pipeline.gathered(0, limit=1)["ignored"] == 2  # type: ignore[index]
    # What is called by its name needs no birth.
    named: list[dict[str, Any]] = [
        {"name": "Inputs/Temperature", "datatype": INT16, "int_value": 3},
        {"alias": 99, "int_value": 1},
    ]
    assert hear(pipeline, "DDATA", encoded(*named)) == []
    assert hear(pipeline, "DDATA", encoded({"name": "Inputs/Rel. Humidity", "float_value": 3.0})) == ANSWERED


def test_what_is_named_counts_beside_an_alias_without_a_birth(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, "NBIRTH", NBIRTH, "plc") == []
    unknown = {"alias": 99, "int_value": 1}
    assert hear(pipeline, "DDATA", encoded(unknown)) == [("comfort/plant/plc/oven/error", "birth_missing")]
    assert hear(pipeline, "DDATA", encoded(unknown, {"name": "Inputs/Rel. Humidity", "is_null": True})) == []
    assert lacking(pipeline) == ["humidity"]
    wrong = {"name": "Inputs/Temperature", "string_value": b"hot"}
    assert hear(pipeline, "DDATA", encoded(unknown, wrong)) == [("comfort/plant/plc/oven/error", "float_parsing")]
    assert lacking(pipeline) == list(FEATURES)


def test_metrics_of_the_node_itself(tmp_path: Path) -> None:
    pipeline = served(
        tmp_path,
        '[[route]]\nsubscribe = "spBv1.0/plant/{_}/{node}"\npublish = "comfort/{node}"\npartial = "merge"\n'
        + TYPE
        + FIELDS,
    )
    assert hear(pipeline, "NBIRTH", DBIRTH, "plc") == [("comfort/plc", "Rock")]
    assert hear(pipeline, "NDATA", encoded({"alias": 12, "float_value": 9.0}), "plc") == [("comfort/plc", "Rock")]
    assert hear(pipeline, "NDEATH", NBIRTH, "plc") == []
    assert lacking(pipeline) == list(FEATURES)


def test_without_merging_each_message_has_to_bring_all(tmp_path: Path) -> None:
    pipeline = begun(tmp_path, ROUTE.replace('partial = "merge"\n', ""))
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 1.0})) == [
        ("comfort/plant/plc/oven/error", "missing")
    ]
    both = encoded({"alias": 12, "float_value": 1.0}, {"alias": 11, "int_value": 1})
    assert [hear(pipeline, "DDATA", both), hear(pipeline, "DDATA", both)] == [ANSWERED, ANSWERED]


def test_a_birth_that_lacks_the_metrics_is_no_answer_and_no_fault(tmp_path: Path) -> None:
    rejected = [("comfort/plant/plc/lamp/error", "missing")]
    for partial, said in (("ignore", []), ("reject", rejected)):
        pipeline = served(tmp_path, ROUTE.replace('"merge"', f'"{partial}"'))
        other = encoded({"name": "Inputs/Light", "alias": 7, "datatype": INT16, "int_value": 3})
        assert hear(pipeline, "DBIRTH", other, "plc/lamp") == said
        one = encoded({"name": "Inputs/Temperature", "alias": 7, "datatype": INT16, "int_value": 3})
        assert hear(pipeline, "DBIRTH", one, "plc/lamp") == said
        assert hear(pipeline, "DBIRTH", DBIRTH) == ANSWERED


def test_what_has_neither_name_nor_alias_is_no_metric_of_ours(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    aliased = encoded({"name": "Inputs/Temperature", "alias": 0, "datatype": INT16, "int_value": 21})
    hear(pipeline, "DBIRTH", aliased)
    assert hear(pipeline, "DDATA", encoded({"int_value": 500})) == []


def test_after_a_new_connection_any_death_counts(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    pipeline.reconnected()
    assert hear(pipeline, "NDEATH", encoded({"name": "bdSeq", "datatype": 8, "long_value": 9}), "plc") == []
    assert lacking(pipeline) == list(FEATURES)


@pytest.mark.parametrize("kind", ["DCMD", "NDATA", "NDEATH", "STATE", ""])
def test_other_topics_are_ignored(tmp_path: Path, kind: str) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, kind, DBIRTH) == []
    assert lacking(pipeline) == []


def test_one_namespace_two_routes(tmp_path: Path) -> None:
    """A death reaches every route, also where the broker's filters for births and deaths of nodes overlap."""
    one = ROUTE.replace("{device}", "oven")
    other = ROUTE.replace("{device}", "dryer").replace("{group}", "plant")
    pipeline = served(tmp_path, one + other)
    assert hear(pipeline, "DBIRTH", DBIRTH, "plc/oven") == [("comfort/plant/plc/oven", "Rock")]
    assert hear(pipeline, "DBIRTH", DBIRTH, "plc/dryer") == [("comfort/plant/plc/dryer", "Rock")]
    assert hear(pipeline, "NDEATH", NBIRTH, "plc") == []
    assert lacking(pipeline) == list(FEATURES) * 2
    assert subscriptions("n", load(write(tmp_path, one + other)).routes()).keys() == {
        "edge/n/request/+",
        "spBv1.0/+/+/+/oven",
        "spBv1.0/+/+/+",
        "spBv1.0/plant/+/+/dryer",
        "spBv1.0/plant/+/+",
    }


def test_a_route_for_nodes_and_one_for_devices(tmp_path: Path) -> None:
    nodes = '[[route]]\nsubscribe = "spBv1.0/{g}/{_}/{n}"\npublish = "node/{n}"\npartial = "merge"\n' + TYPE + FIELDS
    for text in (ROUTE + nodes, nodes + ROUTE):
        routes = load(write(tmp_path, text)).routes()
        assert len(RouteTable(routes).of("spBv1.0/a/NDEATH/b")) == 2
        assert len(RouteTable(routes).of("spBv1.0/a/DDATA/b/c")) == 1


def test_values_outlive_a_reload(tmp_path: Path) -> None:
    former = begun(tmp_path)
    pipeline = served(tmp_path)
    assert pipeline.take_over(former) == set()
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 1.0})) == ANSWERED
    assert hear(pipeline, "NDEATH", NBIRTH, "plc") == []
    assert lacking(pipeline) == list(FEATURES)


def test_births_outlive_a_reload_of_a_model_with_other_bounds(tmp_path: Path) -> None:
    former = begun(tmp_path)
    routes = load(write(tmp_path, ROUTE)).routes()
    pipeline = Pipeline(routes, {"genre": FakeModel(make_card(FEATURES, minimum=-90, maximum=2000))})
    pipeline.take_over(former)
    both = encoded({"alias": 12, "float_value": 1.0}, {"alias": 11, "int_value": 1})
    assert hear(pipeline, "DDATA", both) == ANSWERED


def test_a_reload_with_fewer_sensors_forgets_nodes(tmp_path: Path) -> None:
    former = begun(tmp_path, max_sensors=100)
    for number in range(100):
        hear(former, "NBIRTH", NBIRTH, f"n{number}")
    pipeline = served(tmp_path, max_sensors=10)
    pipeline.take_over(former)
    hear(pipeline, "DBIRTH", DBIRTH, "plc/dryer")
    (nodes,) = [one.nodes for one in pipeline._gatherings.values()]  # type: ignore[attr-defined]
    assert nodes._size <= 20


def test_nodes_are_bounded_and_take_their_values_with_them(tmp_path: Path) -> None:
    pipeline = begun(tmp_path, max_sensors=10)
    for number in range(100):
        hear(pipeline, "NBIRTH", NBIRTH, f"n{number}")
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 1.0})) == [
        ("comfort/plant/plc/oven/error", "birth_missing")
    ]
    for number in range(100):
        hear(pipeline, "DBIRTH", DBIRTH, f"plc/d{number}")
    assert len(lacking(pipeline)) <= 20
    (nodes,) = [one.nodes for one in pipeline._gatherings.values()]  # type: ignore[attr-defined]
    assert nodes._size <= 20
    assert nodes._size == sum(1 + len(node.devices) for node in nodes._nodes.values())


@pytest.mark.parametrize("of", ["plc", "plc/oven", ""])
def test_without_its_model_only_data_are_answered(tmp_path: Path, of: str) -> None:
    """Births, deaths and commands ask for nothing; nor do the data of a node that is only overheard."""
    pipeline = Pipeline(load(write(tmp_path, ROUTE)).routes(), {})
    ignored = 0
    for kind in ("NBIRTH", "NDATA", "NDEATH", "NCMD", "DBIRTH", "DDEATH", "DCMD", "STATE", "DDATA"):
        message = Message(f"spBv1.0/plant/{kind}/{of}", NBIRTH, 1)
        (answers,) = pipeline.process([message])
        if (kind, of) == ("DDATA", "plc/oven"):
            (answer,) = answers
            assert (answer.topic, json.loads(answer.payload)["error"]) == (
                "comfort/plant/plc/oven/error",
                "model_unavailable",
            )
            assert len(pipeline.undeliverable(message)) == 1
            continue
        assert answers == [], kind
        assert pipeline.undeliverable(message) == []
        ignored += pipeline.takes(message.topic)
    assert pipeline.tally.total.ignored == ignored


def test_a_route_for_nodes_without_its_model_answers_their_data(tmp_path: Path) -> None:
    text = '[[route]]\nsubscribe = "spBv1.0/{g}/{_}/{n}"\npublish = "node/{n}"\npartial = "merge"\n' + TYPE + FIELDS
    pipeline = Pipeline(load(write(tmp_path, text)).routes(), {})
    found = {
        kind: len(pipeline.process([Message(f"spBv1.0/a/{kind}/b", NBIRTH)])[0])
        for kind in ("NBIRTH", "NDATA", "NDEATH")
    }
    assert found == {"NBIRTH": 0, "NDATA": 1, "NDEATH": 0}
