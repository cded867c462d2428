"""Answers as packs of SenML (RFC 8428), and any pack at all."""

from __future__ import annotations

import json
import re
import sys
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.messages import to_json
from edge_agent.payload import senml
from edge_agent.payload.features import Unusable
from edge_agent.payload.places import Place
from edge_agent.payload.senml import CONTENT_TYPE as SENML_TYPE
from tests.unit.strategies import json_values
from tests.unit.test_senml import CODEC, DEVICE, NAMES, ask


def test_a_prediction_is_a_pack() -> None:
    records, topic = ask([{"bn": DEVICE, "bt": 1.3e9, "n": ":loudness", "v": 0.9}, {"n": ":tempo", "vs": "0.5"}])
    assert topic == "music/a/genre"
    assert records == [
        {"bn": f"{DEVICE}:", "bt": 1.3e9, "n": "label", "vs": "Rock"},
        {"n": "confidence", "v": 1.0},
        {"n": "probability/Hip-Hop", "v": 0.0},
        {"n": "probability/Rock", "v": 1.0},
        {"n": "model", "vs": "genre"},
        {"n": "version", "vs": "1.0.0"},
    ]


def test_a_rejection_is_a_pack() -> None:
    records, topic = ask([{"bn": "a/", "n": "loudness", "v": 0.9}])
    assert topic == "music/a/genre/error"
    values = {record["n"]: record["vs"] for record in records}
    assert records[0] == {"bn": "a/", "n": "error", "vs": "invalid_features"}
    assert [one["loc"] for one in json.loads(values.pop("detail"))] == [["tempo"]]
    assert values == {"error": "invalid_features", "topic": "music/a/features", "model": "genre", "version": "1.0.0"}


def test_a_batch_is_answered_by_one_pack_in_order() -> None:
    records, topic = ask(
        [
            {"bn": "a:", "bt": 100, "n": "loudness", "v": 0.9},
            {"n": "tempo", "v": 0.5},
            {"n": "loudness", "t": 1, "v": 0.9},
            {"bn": "", "n": "loudness", "t": 2, "v": 0.1},
            {"n": "tempo", "t": 2, "v": 0.5},
            {"bt": 0, "n": "loudness", "v": 0.1},
        ]
    )
    assert topic == "music/a/genre"
    assert [record for record in records if record["n"] in {"label", "error"}] == [
        {"bn": "a:", "bt": 100, "n": "label", "vs": "Rock"},
        {"bt": 101, "n": "error", "vs": "invalid_features"},
        {"bn": "", "bt": 102, "n": "label", "vs": "Hip-Hop"},
        {"bt": 0, "n": "error", "vs": "invalid_features"},
    ]


@pytest.mark.parametrize(
    ("identity", "record"),
    [
        ("/3303/0", {"vs": "/3303/0"}),
        ("ä", {"vs": "ä"}),
        (7, {"v": 7}),
        (True, {"vb": True}),
        ([1, None], {"vs": "[1,null]"}),
        (10**400, {"vs": str(10**400)}),
        (float("nan"), {"vs": '"NaN"'}),
    ],
)
def test_what_is_no_base_name_or_time_is_a_record(identity: Any, record: dict[str, Any]) -> None:
    assert senml.pack({"label": "x", "id": identity, "time": "now"}) == [
        {"n": "label", "vs": "x"},
        {"n": "id", **record},
        {"n": "time", "vs": "now"},
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_label_has_a_name_of_its_own(label: str) -> None:
    name = senml.escape(label)
    assert re.fullmatch(r"[A-Za-z0-9._-]*", name)
    assert unquote(name.replace("_", "%")) == label


NUMBERS = st.one_of(st.floats(), st.integers(-3, 3), st.sampled_from([10**400, sys.float_info.max]), json_values())


RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "bn": st.sampled_from(["", "a:", "urn:dev:1", "/x", "ä:", "a" * 256]) | json_values(),
        "n": st.sampled_from([*NAMES, "id", "time", ":tempo", "x/loudness"]) | json_values(),
        "bt": NUMBERS,
        "t": NUMBERS,
        "bv": NUMBERS,
        "bs": NUMBERS,
        "bver": st.sampled_from([5, 10, 11]) | json_values(),
        "v": st.floats(0, 1) | NUMBERS,
        "vs": st.floats(0, 1).map(str) | json_values(),
        "vb": json_values(),
        "x_": json_values(),
        "x": json_values(),
    },
)


#: Mostly what a sensor sends, so that the deeper ways are gone too.
GOOD = st.fixed_dictionaries(
    {"n": st.sampled_from([*NAMES, "x:tempo", "id"]), "v": st.floats(0, 1) | st.sampled_from([None, 2])},
    optional={"bn": st.sampled_from(["a:", "b", "", "/c"]), "bt": st.integers(0, 3), "t": st.integers(0, 3)},
)


PACKS = st.one_of(st.lists(GOOD, max_size=8), st.lists(GOOD | RECORDS, max_size=5), json_values())


@given(PACKS)
def test_anything_gives_rows_or_a_value_error(pack: Any) -> None:
    try:
        found = senml.rows(pack, NAMES)
    except ValueError:
        return
    for row in found if isinstance(found, list) else [found]:
        assert isinstance(row, dict)
        assert all(isinstance(name, str) for name in row)
    to_json(found)


@given(
    PACKS, st.sampled_from([(), (("id", Place(("tempo",))), ("time", Place(("x:tempo",))), ("tempo", Place(("id",))))])
)
def test_anything_is_answered_by_a_pack(pack: Any, fields: Any) -> None:
    ask(to_json(pack), fields=fields)


@given(PACKS)
def test_a_plain_record_is_read_like_one_with_a_field_that_nobody_knows(pack: Any) -> None:
    """Plain records are read in a quick way of their own, others are not."""
    if not isinstance(pack, list):
        return
    assert outcome(pack) == outcome([{**one, "x": 0} if isinstance(one, dict) else one for one in pack])


def outcome(pack: Any) -> Any:
    """The rows of a pack, or why it is none; as text, for NaN is not equal to itself."""
    try:
        return repr(senml.rows(pack, NAMES))
    except ValueError as error:
        return str(error)


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_answered_by_a_pack(payload: bytes) -> None:
    ask(payload)


@pytest.mark.parametrize(
    "records",
    [
        [{"bn": "x:", "n": "tempo", "v": 1}, {"n": "tempo", "v": 2}, {"n": "a/tempo", "v": 3.5, "u": "m"}],
        [{"bn": "x:", "bt": 5, "bv": 1, "n": "tempo", "v": 1}, {"n": "loudness", "v": 2}],
        [{"bn": "x", "n": "tempo", "v": 1}, {"n": "", "v": 2}, {"n": "loudness", "v": True}],
        [{"n": "tempo", "v": 1, "t": 3}, {"n": "loudness", "v": 2}, {"n": "tempo", "v": 7}],
        [{"bn": "a" * 200, "n": "tempo", "v": 1}, {"n": "b" * 57, "v": 2}],
        [{"bn": "tem", "n": "po", "v": 1}, {"n": "po", "v": 10**400}],
    ],
)
def test_plain_records_beside_others(records: list[dict[str, Any]]) -> None:
    assert outcome(records) == outcome([{**one, "x": 0} for one in records])


def test_a_pack_does_not_grow_with_its_square() -> None:
    """One long base name and many records: at most `MAX_NAME` characters a record are made of it."""
    records = b",".join(b'{"n":"%x","v":1}' % number for number in range(20_000))
    decoded = CODEC.decode(b'[{"bn":"' + b"a" * 1_000_000 + b'"},' + records + b"]", SENML_TYPE)
    assert isinstance(decoded, Unusable)
    assert "more than 256 characters" in decoded.detail[0]["msg"]
    kept = senml.rows([{"bn": "a" * 200}, *({"n": str(number), "v": 1} for number in range(1000))], NAMES)
    # The base name stands once; names made with it are kept only where they are looked for.
    assert not [name for name in kept if len(name) > 200]
    assert len(kept) == 1001
