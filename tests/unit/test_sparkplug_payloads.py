"""Sparkplug B: payloads as hostile as they come, what a route may say, and protobuf only where it is asked for."""

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
from edge_agent.payload import formats, sparkplug
from edge_agent.payload.weights import MAX_WEIGHT
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeModel, make_card
from tests.sparkplug import encoded
from tests.unit.edge_nodes import (
    ANSWERED,
    FEATURES,
    FIELDS,
    FLOAT,
    NBIRTH,
    PLANT,
    ROUTE,
    begun,
    hear,
    lacking,
    served,
)
from tests.unit.test_settings import refusal, write


def test_a_birth_keeps_only_what_is_wanted_and_one_alias_of_each() -> None:
    many = [{"name": "a", "alias": number, "datatype": 9} for number in range(1000)]
    others = [{"name": f"x{number}", "alias": 5000 + number} for number in range(1000)]
    born = sparkplug.birth(sparkplug.read(encoded(*many, *others)).metrics, {b"a": "a"})
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
        found = sparkplug.read(payload).metrics
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
