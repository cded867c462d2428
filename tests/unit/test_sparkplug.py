"""Sparkplug B: births, data by alias and deaths, through the whole pipeline; and payloads as hostile as they come."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cli.conversation import Conversation, TimedMessage
from edge_agent.config.load import load
from edge_agent.contract.messages import Message
from edge_agent.contract.templates import Template
from edge_agent.payload import formats, sparkplug
from edge_agent.payload.places import Place
from edge_agent.payload.weights import MAX_WEIGHT
from edge_agent.routing.routes import Route, RouteTable, subscriptions
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeModel, make_card
from tests.sparkplug import encoded
from tests.unit.test_settings import refusal, write

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
NBIRTH = encoded({"name": "bdSeq", "datatype": 8, "long_value": 4})
DBIRTH = encoded(
    {"name": "Inputs/Temperature", "alias": 11, "datatype": INT16, "int_value": 21},
    {"name": "Inputs/Rel. Humidity", "alias": 12, "datatype": FLOAT, "float_value": 40.5},
    {"name": "Properties/Maker", "alias": 13, "datatype": STRING, "string_value": b"ACME"},
)
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
    for partial, said in (("ignore", []), ("reject", [("comfort/plant/plc/lamp/error", "missing")])):
        pipeline = served(tmp_path, ROUTE.replace('"merge"', f'"{partial}"'))
        other = encoded({"name": "Inputs/Light", "alias": 7, "datatype": INT16, "int_value": 3})
        assert hear(pipeline, "DBIRTH", other, "plc/lamp") in ([], said)
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


def test_a_birth_keeps_only_what_is_wanted_and_one_alias_of_each() -> None:
    many = [{"name": "a", "alias": number, "datatype": 9} for number in range(1000)]
    others = [{"name": f"x{number}", "alias": 5000 + number} for number in range(1000)]
    born = sparkplug.birth(sparkplug.metrics(encoded(*many, *others)), {b"a": "a"})
    assert born == sparkplug.Birth({999: "a"}, {"a": 9})


def test_two_million_empty_metrics_are_not_parsed(tmp_path: Path) -> None:
    payload = b"\x12\x00" * (2 << 20)
    assert sparkplug.weigh(payload, ()) > MAX_WEIGHT
    pipeline = begun(tmp_path)
    ((answer,),) = pipeline.process([Message("spBv1.0/plant/DDATA/plc/oven", payload)])
    assert json.loads(answer.payload)["error"] == "payload_too_large"


@pytest.mark.parametrize(
    "payload",
    [
        b"\x12",
        b"\x12\xff\xff\xff\xff\x0f",
        b"\x13" * 10_000,
        b"\xff" * 50,
        b"hello",
        b"\x22\x12SPBV1.0_COMPRESSED\x2a\x02xx",
    ],
)
def test_what_is_no_payload_is_rejected(tmp_path: Path, payload: bytes) -> None:
    pipeline = begun(tmp_path)
    assert hear(pipeline, "DDATA", payload) == [("comfort/plant/plc/oven/error", "sparkplug_invalid")]
    assert lacking(pipeline) == []
    assert hear(pipeline, "DBIRTH", payload) == [("comfort/plant/plc/oven/error", "sparkplug_invalid")]
    assert lacking(pipeline) == list(FEATURES)


def test_what_is_nested_is_not_parsed() -> None:
    nested = b""
    for _ in range(5000):
        nested = b"\x12" + _length(len(nested)) + nested
    found = sparkplug.decode(encoded({"name": "a", "template_value": nested}), ["a"])
    assert found == {"a": {"template_value": True}}


def _length(size: int) -> bytes:
    return bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_value_error(payload: bytes) -> None:
    try:
        found = sparkplug.metrics(payload)
    except ValueError:
        return
    sparkplug.row(found, {b"a": "a"}, sparkplug.birth(found, {b"a": "a"}))
    sparkplug.bd_seq(found)
    assert sparkplug.weigh(payload, ()) >= len(payload)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("{_}", "DDATA"), "with Sparkplug B, subscribe to"),
        (("spBv1.0/", "spAv1.0/"), "with Sparkplug B, subscribe to"),
        (("/{device}", "/{device...}"), "with Sparkplug B, subscribe to"),
        (
            ('{node}/{device}"\npublish = "comfort/{group}/{node}/', '{_}/{device}"\npublish = "comfort/{group}/'),
            "with Sparkplug B, subscribe to",
        ),
        (("partial =", 'share = "pool"\npartial ='), "share"),
        (("partial =", 'capture = { id = "id" }\npartial ='), "capture: not with Sparkplug B"),
    ],
)
def test_routes_that_would_take_half_a_session_are_refused(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    assert words in refusal(tmp_path, ROUTE.replace(*change))


def test_an_output_below_the_births_of_nodes_would_come_back(tmp_path: Path) -> None:
    text = ROUTE.replace("comfort/{group}/{node}/{device}", "spBv1.0/{group}/{node}/{device}")
    assert "would come back" in refusal(tmp_path, text)


def test_a_list_leads_into_the_json_in_a_text(tmp_path: Path) -> None:
    fields = 'fields = { temperature = ["Status", "t"], humidity = { at = ["Rel. Humidity"], scale = 0.1 } }\n'
    pipeline = served(tmp_path, ROUTE.replace(FIELDS, fields))
    both: list[dict[str, Any]] = [
        {"name": "Status", "string_value": b'{"t": 21}'},
        {"name": "Rel. Humidity", "datatype": 3, "int_value": 405},
    ]
    assert hear(pipeline, "DBIRTH", encoded(*both)) == ANSWERED


def test_try_says_why_there_is_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = begun(tmp_path)
    conversation = Conversation(pipeline, load(write(tmp_path, ROUTE)).routes(), lambda: 0.0)
    humid = encoded({"name": "Inputs/Rel. Humidity", "datatype": FLOAT, "float_value": 40.5})
    said = [("NDEATH/plc", NBIRTH), ("NBIRTH/plc", NBIRTH), ("DBIRTH/plc/oven", humid)]
    conversation.play([TimedMessage(Message(f"spBv1.0/plant/{kind}", payload)) for kind, payload in said])
    lines = capsys.readouterr().err.splitlines()
    assert ["a death takes values away" in line for line in lines] == [True, True, False]
    assert lines[2].endswith("no answer yet: plant/plc/oven still lacks temperature")
    assert not conversation.failed


@pytest.mark.parametrize("route", [ROUTE, ""])
def test_protobuf_is_imported_where_a_route_asks_for_it_only(tmp_path: Path, route: str) -> None:
    program = (
        "import sys; from pathlib import Path; from edge_agent.assembly import make_plan; from edge_agent.config.load import load; "
        "make_plan(load(Path(sys.argv[1]))); print('google.protobuf' in sys.modules)"
    )
    said = run_python(program, write(tmp_path, route.replace(FIELDS, "")))
    assert (said.stdout, said.stderr) == (f"{bool(route)}\n", "")


def test_without_protobuf_the_route_is_refused_with_the_name_of_the_package(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['google'] = None; from edge_agent.cli.main import main; "
        "sys.argv[1:] = ['check', '--offline', '--quiet', '--config', sys.argv[1]]; main()"
    )
    said = run_python(program, write(tmp_path, ROUTE))
    assert said.returncode == 2
    assert (
        "application/vnd.sparkplug.b needs protobuf: apt install python3-protobuf, or pip install protobuf"
        in said.stdout
    )


def run_python(program: str, file: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own, for what is imported counts."""
    return subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=False)


kinds = st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH", "DCMD"])
metrics = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["Inputs/Temperature", "Inputs/Rel. Humidity", "bdSeq", "x"]),
        "alias": st.integers(0, 3),
        "datatype": st.integers(0, 20),
        "is_null": st.booleans(),
        "is_historical": st.booleans(),
        "long_value": st.integers(0, (1 << 64) - 1),
    },
)


@given(st.lists(st.tuples(kinds, st.integers(0, 4), st.integers(0, 4), st.lists(metrics, max_size=3)), max_size=30))
def test_any_order_of_messages_keeps_the_bounds_and_the_dead_have_no_values(
    said: list[tuple[str, int, int, list[dict[str, Any]]]],
) -> None:
    pipeline = Pipeline(PLANT, {"genre": FakeModel(make_card(FEATURES, minimum=-100, maximum=2000))}, max_sensors=3)
    ((gathering,),) = [[*pipeline._gatherings.values()]]
    nodes = gathering.nodes  # type: ignore[attr-defined]
    for kind, node, device, sent in said:
        of = f"n{node}" if kind.startswith("N") else f"n{node}/d{device}"
        hear(pipeline, kind, encoded(*sent) or b"\x18\x01", of)
        assert nodes._size == sum(1 + len(one.devices) for one in nodes._nodes.values()) <= 6
        known = {one.sensor for each in nodes._nodes.values() for one in each.devices.values()}
        alive = {
            sensor for sensor, values in gathering.sensors._known.items() if not all(map(math.isnan, values.values))
        }
        assert alive <= known
        if kind == "DDEATH":
            assert ("plant", f"n{node}", f"d{device}") not in alive


def test_the_registry_knows_it() -> None:
    assert formats.find(sparkplug.CONTENT_TYPE) is sparkplug.FORMAT
    assert sparkplug.CONTENT_TYPE in formats.known()
