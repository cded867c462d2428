"""Formats besides JSON: CBOR and packed float32, hostile bytes included."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.contract.messages import ErrorCode, Message
from edge_agent.payload import cbor, formats, sparkplug, weights
from edge_agent.payload.cbor import CONTENT_TYPE as CBOR_TYPE
from edge_agent.payload.features import Batch, FeatureCodec, Features, Unusable
from edge_agent.payload.packed import CONTENT_TYPE as PACKED_TYPE
from edge_agent.payload.places import Place
from edge_agent.payload.senml import CONTENT_TYPE as SENML_TYPE
from edge_agent.payload.sparkplug import CONTENT_TYPE as SPARKPLUG_TYPE
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import ROUTE, FakeModel, make_card
from tests.unit.outcomes import rows_of

cbor2 = pytest.importorskip("cbor2", reason="cbor2 is not installed: pip install '.[cbor]'")

NAMES = ["loudness", "tempo"]
CODEC = FeatureCodec(make_card(NAMES).features)


def ask(payload: bytes, content_type: str) -> tuple[Any, str | None, str]:
    pipeline = Pipeline([ROUTE], {"genre": FakeModel(make_card(NAMES))})
    ((answer,),) = pipeline.process([Message("music/a/features", payload, 1, content_type)])
    read = cbor2.loads if answer.content_type == CBOR_TYPE else json.loads
    return read(answer.payload), answer.content_type, answer.topic


def test_cbor_is_answered_in_cbor() -> None:
    payload, content_type, topic = ask(cbor2.dumps({"loudness": 0.9, "tempo": 0.5, "id": 7}), CBOR_TYPE)
    assert (payload["label"], payload["id"]) == ("Rock", 7)
    assert (content_type, topic) == (CBOR_TYPE, "music/a/genre")


def test_a_rejection_of_cbor_is_cbor_too() -> None:
    payload, content_type, topic = ask(cbor2.dumps([{"loudness": 0.9, "tempo": 0.5}, {"loudness": True}]), CBOR_TYPE)
    assert [("label" in row, row.get("error")) for row in payload] == [(True, None), (False, "invalid_features")]
    payload, content_type, topic = ask(b"\xff", CBOR_TYPE)
    assert (payload["error"], content_type, topic) == ("malformed_payload", CBOR_TYPE, "music/a/genre/error")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        " ",
        "text/json",
        "Text/JSON; charset=utf-8",
        "text/plain",
        "application/vnd.sensor+json",
        "application/ld+json;v=1",
    ],
)
def test_what_else_is_json(content_type: str) -> None:
    payload, answered, _ = ask(b'{"loudness": 0.9, "tempo": 0.5}', content_type)
    assert (payload["label"], answered) == ("Rock", "application/json")


@pytest.mark.parametrize("content_type", ["text/csv", "text/jsonx", "json", "+jso", "application/senml+cbor"])
def test_what_else_is_not(content_type: str) -> None:
    assert ask(b'{"loudness": 0.9, "tempo": 0.5}', content_type)[0]["error"] == "unsupported_content_type"


def test_senml_keeps_its_own_type() -> None:
    pack = b'[{"n": "loudness", "v": 0.9}, {"n": "tempo", "v": 0.5}]\0'
    payload, content_type, _ = ask(pack, "application/senml+json")
    assert (payload[0]["vs"], content_type) == ("Rock", "application/senml+json")


def test_an_empty_content_type_leaves_it_to_the_route() -> None:
    pipeline = Pipeline([ROUTE._replace(content_type=CBOR_TYPE)], {"genre": FakeModel(make_card(NAMES))})
    ((answer,),) = pipeline.process([Message("music/a/features", cbor2.dumps({"loudness": 0.9, "tempo": 0.5}), 1, "")])
    assert cbor2.loads(answer.payload)["label"] == "Rock"


@pytest.mark.parametrize("end", [b"", b"\0", b"\0\0\0"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_and_nuls_at_the_end_are_dropped(mark: bytes, end: bytes) -> None:
    one = b'{"loudness": 0.9, "tempo": 0.5}'
    assert CODEC.decode(mark + one + end) == Features((0.9, 0.5), {})
    assert [*rows_of(CODEC.decode(mark + b"[" + one + b"]" + end))] == [Features((0.9, 0.5), {})]
    for inside in (b"\0" + one, one.replace(b":", b"\0:"), end + mark):
        assert isinstance(CODEC.decode(inside), Unusable)


@pytest.mark.parametrize("text", ["1_0", "0_1", "0_000", "1_000", "_1", "1_", "0.5_0"])
@pytest.mark.parametrize("rows", [0, 1, 20])
def test_digits_with_underscores_are_no_number(text: str, rows: int) -> None:
    row = {"loudness": text, "tempo": 0.5}
    decoded = CODEC.decode(json.dumps([row] * rows if rows else row).encode())
    for one in rows_of(decoded) if rows else [decoded]:
        assert isinstance(one, Unusable)
        assert [(d["loc"], d["type"], d["input"]) for d in one.detail] == [(["loudness"], "float_parsing", text)]


def test_packed_is_answered_in_json() -> None:
    payload, content_type, _ = ask(struct.pack("<2f", 0.9, 0.5), PACKED_TYPE)
    assert (payload["label"], content_type) == ("Rock", "application/json")
    payload, _, _ = ask(struct.pack("<4f", 0.9, 0.5, 0.1, 7.0), PACKED_TYPE)
    assert [row.get("label", row.get("error")) for row in payload] == ["Rock", "invalid_features"]


@pytest.mark.parametrize("size", [0, 1, 4, 7, 9, 12])
def test_packed_of_another_length_is_malformed(size: int) -> None:
    decoded = CODEC.decode(bytes(size), PACKED_TYPE)
    assert isinstance(decoded, Unusable)
    assert (decoded.code, decoded.detail[0]["type"]) == (ErrorCode.MALFORMED_PAYLOAD, "packed_invalid")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.5])
def test_packed_values_are_checked_like_others(value: float) -> None:
    decoded = CODEC.decode(struct.pack("<2f", 0.5, value), PACKED_TYPE)
    assert isinstance(decoded, Unusable)
    assert decoded.detail[0]["loc"] == ["tempo"]


@given(st.lists(st.tuples(*[st.one_of(st.floats(0, 1, width=32), st.floats(width=32))] * 2), min_size=1, max_size=9))
def test_packed_rows_are_checked_one_like_the_other(rows: list[tuple[float, float]]) -> None:
    decoded = CODEC.decode(b"".join(struct.pack("<2f", *row) for row in rows), PACKED_TYPE)
    alone = [CODEC.check(dict(zip(NAMES, row, strict=True))) for row in rows]
    # NaN is not equal to itself.
    assert repr(rows_of(decoded)) == repr(alone)


def test_fields_are_not_for_packed_rows() -> None:
    codec = FeatureCodec(make_card(NAMES).features, fields=(("tempo", Place(("a", "b"))),))
    assert codec.decode(struct.pack("<2f", 0.5, 0.25), PACKED_TYPE) == Features((0.5, 0.25), {})
    assert codec.decode(cbor2.dumps({"loudness": 0.5, "a": {"b": 0.25}}), CBOR_TYPE) == Features((0.5, 0.25), {})


@pytest.mark.parametrize(
    ("value", "echoed"),
    [
        (b"\x00\xff", "00ff"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (Decimal("1.5"), 1.5),
        ({"a": [1, None]}, {"a": [1, None]}),
        (2**2000, float("inf")),
    ],
)
def test_what_json_has_not_becomes_plain(value: Any, echoed: Any) -> None:
    decoded = CODEC.decode(cbor2.dumps({"loudness": 0.5, "tempo": 0.5, "id": value}), CBOR_TYPE)
    assert decoded == Features((0.5, 0.5), {"id": echoed})


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xa1",
        b"\xa1\x01\x02",  # a key that is a number
        b"\xd8\x1c\x81\xd8\x1d\x00",  # an array that contains itself
        b"\x81" * 100 + b"\x00",  # deeper than is taken
        b"\xa1\x61a\xd8\x23\x61(",  # tag 35: a regular expression, and a broken one
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # an array of 2**64 - 1
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",  # bytes, as many
        b"\xd9\x01\x00\x83\x63abc\xd8\x19\x00\xd8\x19\x00",  # tags 256 and 25: references to a text
        b"\xa1\x61a\xd8\x23\x61a",  # tag 35 again: compiled ones are kept
        b"\xa1\x61a\xda\x00\x00\x00\x23\x61a",  # the same, in more bytes
        b"\xa1\x61a\xd8\x1e\x82\x01\x02",  # tag 30: a fraction is reduced, in the square of its bytes
        b"\xa1\x61a\xc4\x82\x00\xc2\x59\x04\x01" + b"\xff" * 1025,  # tag 4: a decimal, the same
        b"\xa1\x61a\xc2\x5f\x41\x01\xff",  # a whole number in pieces
    ],
)
def test_hostile_cbor_is_malformed(payload: bytes) -> None:
    decoded = CODEC.decode(payload, CBOR_TYPE)
    assert isinstance(decoded, Unusable)
    assert decoded.code is ErrorCode.MALFORMED_PAYLOAD


def test_a_small_message_has_no_huge_answer() -> None:
    text, copies = b"x" * 4096, 1000
    row = b"\xa3\x68loudness\xf9\x38\x00\x65tempo\xf9\x38\x00\x62id"
    payload = b"\xd9\x01\x00" + row + b"\x9f\x79\x10\x00" + text + b"\xd8\x19\x02" * copies + b"\xff"
    pipeline = Pipeline([ROUTE], {"genre": FakeModel(make_card(NAMES))})
    ((answer,),) = pipeline.process([Message("music/a/features", payload, 1, CBOR_TYPE)])
    assert len(answer.payload) < len(payload)


@pytest.mark.parametrize(("tagged", "value"), [(b"\xc4\x82\x20\x05", 0.5), (b"\xc5\x82\x20\x01", 0.5)])
def test_cbor_decimals_are_numbers(tagged: bytes, value: float) -> None:
    payload = b"\xd9\xd9\xf7\xa2\x68loudness" + tagged + b"\x65tempo\xf9\x38\x00"  # with "this is CBOR" before it
    assert CODEC.decode(payload, CBOR_TYPE) == Features((value, 0.5), {})


@given(st.binary(max_size=200), st.sampled_from([CBOR_TYPE, PACKED_TYPE]))
@example(b"\xd8\x1c\x82\x01\xd8\x1d\x00", CBOR_TYPE)
def test_no_bytes_crash_it(payload: bytes, content_type: str) -> None:
    decoded = CODEC.decode(payload, content_type)
    assert isinstance(decoded, Features | Unusable | Batch)
    if payload:
        ask(payload, content_type)


def test_content_types_are_known_by_name() -> None:
    assert formats.find("Application/CBOR; x=1") is formats.find(CBOR_TYPE)
    assert formats.find("text/csv") is None
    there = [SPARKPLUG_TYPE] if sparkplug.is_there() else []
    assert formats.known() == ["application/json", SENML_TYPE, CBOR_TYPE, PACKED_TYPE, *there]


def test_a_route_says_what_messages_are_that_do_not_say() -> None:
    route = ROUTE._replace(content_type=PACKED_TYPE)
    pipeline = Pipeline([route], {"genre": FakeModel(make_card(NAMES))})
    packed, own = pipeline.process(
        [
            Message("music/a/features", struct.pack("<2f", 0.9, 0.5)),
            Message("music/a/features", b'{"loudness": 0.1, "tempo": 0.5}', 0, "application/json"),
        ]
    )
    assert [json.loads(one.payload)["label"] for (one,) in (packed, own)] == ["Rock", "Hip-Hop"]


@pytest.mark.parametrize("size", [80_000, 700_000])
@pytest.mark.parametrize(
    "pieces",
    [
        [b"\x00"],
        [b"\x80"],
        [b"\xa1\x61a", b"\xfb" + b"\xa5" * 8],  # its values look like many objects
        [b"\x61a\xfb" + b"\xa5" * 8],
        [b"\x00" * 5000, b"\xc1", b"\x78\x18" + b"x" * 24],
        [b"\xa0" * 3000, b"\x40" * 3000, b"\x81" * 9000, b"\xc1"],
        [b"\x9f", b"\xff", b"\x19\xa0\xa0"],
    ],
)
def test_what_is_weighed_roughly_leads_to_the_same(pieces: list[bytes], size: int) -> None:
    unit = b"".join(pieces)
    payload = (unit * (size // len(unit) + 1))[:size]
    exact, place = 0, 0
    while place < len(payload):
        kind, _, place = cbor._head(payload, place)
        exact += 2 * {4: weights.ARRAY, 5: weights.OBJECT}.get(kind, weights.VALUE)
    scale = cbor._Scale(payload)
    is_heavy = False
    try:
        cbor._examine(payload, scale)
    except weights.HeavyError:
        is_heavy = True
    assert is_heavy == (exact > weights.MAX_WEIGHT)
