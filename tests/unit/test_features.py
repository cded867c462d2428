"""Payloads to checked features, and the reasons why not."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.contract.card import FLOAT32_MAX
from edge_agent.contract.messages import MAX_DETAILS, MAX_SHOWN, ErrorCode, to_json
from edge_agent.payload.features import Batch, FeatureCodec, Features, Unusable
from edge_agent.testing import make_card
from tests.unit.outcomes import rejected_of, rows_of
from tests.unit.strategies import payloads, rows
from tests.work import steps

FEATURES = ("tempo", "energy", "valence")
CODEC = FeatureCodec(make_card(FEATURES).features)
OPEN = FeatureCodec(make_card(("x",), minimum=None, maximum=None).features)
GOOD = {"tempo": 0.25, "energy": 0.5, "valence": 1}


def decode(value: object, codec: FeatureCodec = CODEC) -> Features | Unusable | Batch:
    return codec.decode(value if isinstance(value, bytes) else json.dumps(value).encode())


def unusable(value: object, codec: FeatureCodec = CODEC) -> Unusable:
    outcome = decode(value, codec)
    assert isinstance(outcome, Unusable), outcome
    assert outcome.detail
    return outcome


def reasons(value: object, codec: FeatureCodec = CODEC) -> list[tuple[list[str | int], str]]:
    outcome = unusable(value, codec)
    assert outcome.code == ErrorCode.INVALID_FEATURES
    return [(one["loc"], one["type"]) for one in outcome.detail]


def test_values_come_in_the_order_of_the_card() -> None:
    shuffled = {"valence": 1, "tempo": 0.25, "energy": 0.5}
    outcome = decode(shuffled)
    assert outcome == Features((0.25, 0.5, 1.0), {})
    assert isinstance(outcome, Features)
    assert all(type(value) is float for value in outcome.values)


def test_unknown_keys_are_ignored() -> None:
    assert decode({**GOOD, "loudness": "?", "": None, "Tempo": True}) == Features((0.25, 0.5, 1.0), {})


@pytest.mark.parametrize(("text", "value"), [("0.25", 0.25), ("1", 1.0), ("5e-1", 0.5), ("-0", 0.0), (" 0.5", 0.5)])
def test_numbers_in_strings_are_numbers(text: str, value: float) -> None:
    assert decode({**GOOD, "tempo": text}) == Features((value, 0.5, 1.0), {})


@pytest.mark.parametrize("value", [True, False, None, [], {}, [0.5], {"value": 0.5}, 10**400])
def test_what_is_no_number_is_refused(value: object) -> None:
    assert reasons({**GOOD, "energy": value}) == [(["energy"], "float_type")]


@pytest.mark.parametrize("value", ["", "n/a", "0,5", "0.5 V", "0x1", "true", "1e", "½"])
def test_strings_that_hold_no_number_are_refused(value: str) -> None:
    assert reasons({**GOOD, "energy": value}) == [(["energy"], "float_parsing")]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"NaN"', '"inf"', '"1e999"'])
@pytest.mark.parametrize("codec", [FeatureCodec(make_card(("x",)).features), OPEN], ids=["bounded", "open"])
def test_nan_and_infinities_are_refused(text: str, codec: FeatureCodec) -> None:
    ((place, kind),) = reasons(f'{{"x": {text}}}'.encode(), codec)
    assert place == ["x"]
    assert kind == "finite_number"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1.0000001, "less_than_equal"),
        (-1e-9, "greater_than_equal"),
        ("2", "less_than_equal"),
        (-1, "greater_than_equal"),
    ],
)
def test_bounds(value: object, kind: str) -> None:
    assert reasons({**GOOD, "energy": value}) == [(["energy"], kind)]
    assert isinstance(decode({**GOOD, "energy": 0}), Features)
    assert isinstance(decode({**GOOD, "energy": 1}), Features)


def test_an_open_bound_ends_where_float32_does() -> None:
    assert decode({"x": FLOAT32_MAX}, OPEN) == Features((FLOAT32_MAX,), {})
    assert decode({"x": -FLOAT32_MAX}, OPEN) == Features((-FLOAT32_MAX,), {})
    beyond = math.nextafter(FLOAT32_MAX, math.inf)
    assert reasons({"x": beyond}, OPEN) == [(["x"], "less_than_equal")]
    assert reasons({"x": -beyond}, OPEN) == [(["x"], "greater_than_equal")]
    assert reasons({"x": 10**300}, OPEN) == [(["x"], "less_than_equal")]


def test_every_missing_feature_is_named() -> None:
    assert reasons({"energy": 0.5, "id": 7}) == [(["tempo"], "missing"), (["valence"], "missing")]
    assert unusable({"energy": 0.5, "id": 7}).echo == {"id": 7}


def test_a_reason_has_the_shape_that_pydantic_made_familiar() -> None:
    assert unusable({**GOOD, "energy": "high"}).detail == [
        {
            "type": "float_parsing",
            "loc": ["energy"],
            "msg": "Input should be a valid number, unable to parse string as a number",
            "input": "high",
        }
    ]


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    assert decode(b'{"x": "a", "x": 0.5}', OPEN) == Features((0.5,), {})
    assert reasons(b'{"x": 0.5, "x": "a"}', OPEN) == [(["x"], "float_parsing")]


@pytest.mark.parametrize("value", [7, "a", None, 1.5, {"a": [1]}, 10**30, "ä\n\x00"])
@pytest.mark.parametrize("cell", [0.5, "0.5", "bad"], ids=["strict", "lenient", "refused"])
def test_id_and_time_are_echoed_as_they_came(value: object, cell: object) -> None:
    outcome = decode({**GOOD, "tempo": cell, "id": value, "time": value})
    assert isinstance(outcome, Features | Unusable)
    assert outcome.echo == {"id": value, "time": value}


@pytest.mark.parametrize(
    "names",
    [
        ("id",),
        ("time", "x"),
        ("1", "2"),
        ("tempö", "élan", "温度", "🎵"),
        ("_x", "__y__"),
        ("class", "a b", "a.b", "{x}"),
    ],
)
def test_features_of_any_name(names: tuple[str, ...]) -> None:
    codec = FeatureCodec(make_card(names).features)
    row = {name: position / 10 for position, name in enumerate(names)}
    expected = tuple(row.values())
    for sent in (row, {name: str(value) for name, value in row.items()}):
        outcome = decode(sent, codec)
        assert isinstance(outcome, Features)
        assert outcome.values == expected
        # Both things at once: a feature, and what is echoed.
        assert outcome.echo == {name: value for name, value in row.items() if name in {"id", "time"}}
    assert reasons({}, codec) == [([name], "missing") for name in names]


def test_a_batch_keeps_its_order_and_refuses_in_place() -> None:
    outcome = decode([GOOD, {**GOOD, "id": 2, "tempo": 2}, 5, {**GOOD, "tempo": "0.5", "id": 4}, [GOOD]])
    assert isinstance(outcome, Batch)
    first, second, third, fourth, fifth = rows_of(outcome)
    assert first == Features((0.25, 0.5, 1.0), {})
    assert isinstance(second, Unusable)
    assert second.echo == {"id": 2}
    assert second.detail[0]["loc"] == ["tempo"]
    assert isinstance(third, Unusable)
    assert third.detail[0]["type"] == "dict_type"
    assert fourth == Features((0.5, 0.5, 1.0), {"id": 4})
    assert isinstance(fifth, Unusable)
    assert fifth.code == ErrorCode.INVALID_FEATURES


def test_reasons_stand_in_the_order_of_the_features() -> None:
    codec = FeatureCodec(make_card(("a", "b", "c", "d")).features)
    decoded = codec.decode(b'{"d": true, "b": 2}')
    assert isinstance(decoded, Unusable)
    assert [(one["loc"], one["type"]) for one in decoded.detail] == [
        (["a"], "missing"),
        (["b"], "less_than_equal"),
        (["c"], "missing"),
        (["d"], "float_type"),
    ]


def test_rows_that_lack_all_of_many_features_take_little_work() -> None:
    codec = FeatureCodec(make_card(tuple(f"f{number}" for number in range(1024))).features)
    found: list[Any] = []
    taken = steps(lambda: found.append(codec.decode(b"[" + b",".join([b"{}"] * 10_000) + b"]")))
    # All reasons of all rows would be ten million, and 15 seconds.
    assert taken < 100 * 10_000
    (decoded,) = found
    assert isinstance(decoded, Batch)
    assert rejected_of(decoded)[9_999].detail == [
        {"type": "missing", "loc": ["f0"], "msg": "Field required", "input": {}},
        {"type": "more", "loc": [], "msg": "and 1023 more", "input": None},
    ]


def test_an_empty_batch_is_a_batch() -> None:
    assert decode([]) == Batch([])
    assert decode(b" \n[ ] ") == Batch([])


@pytest.mark.parametrize("sent", [5, "text", None, True, 1.5, float("nan")])
def test_neither_object_nor_array(sent: object) -> None:
    assert unusable(sent).code == ErrorCode.MALFORMED_PAYLOAD


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"{",
        b'{"tempo": 0.5',
        b"\xff\x00",
        b'{"tempo": "\xff"}',
        b'{"tempo": "\\ud800"}',
        b"{'tempo': 1}",
        b"{}\xef\xbb\xbf",
        b"{}x",
        b"[{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"tempo": 1' + b"0" * 100_000 + b"}",
        b"tempo=1&energy=2",
        b"\x00" * 1000,
    ],
)
def test_malformed_payloads(payload: bytes) -> None:
    outcome = unusable(payload)
    assert outcome.code == ErrorCode.MALFORMED_PAYLOAD
    assert outcome.echo == {}
    (detail,) = outcome.detail
    assert detail["type"] == "json_invalid"
    assert detail["msg"].startswith("Invalid JSON: ")


def test_a_payload_has_a_largest_size() -> None:
    codec = FeatureCodec(make_card(("x",)).features, max_bytes=20)
    assert decode(b'{"x": 0.5}'.ljust(20), codec) == Features((0.5,), {})
    outcome = unusable(b'{"x": 0.5}'.ljust(21), codec)
    assert outcome.code == ErrorCode.PAYLOAD_TOO_LARGE
    assert "more than 20 bytes" in outcome.detail[0]["msg"]


@pytest.mark.parametrize("row", [{"x": 0.5}, {"x": "0.5"}, {"x": 7}], ids=["strict", "lenient", "refused"])
def test_a_batch_has_a_largest_number_of_rows(row: dict[str, Any]) -> None:
    codec = FeatureCodec(make_card(("x",)).features, max_rows=3)
    assert isinstance(decode([row] * 3, codec), Batch)
    outcome = unusable([row] * 4, codec)
    assert outcome.code == ErrorCode.PAYLOAD_TOO_LARGE
    assert "4 rows; at most 3" in outcome.detail[0]["msg"]


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "application/json; charset=utf-8", "Application/JSON ;v=1", " application/json"],
)
def test_content_types_that_are_json(content_type: str | None) -> None:
    assert isinstance(CODEC.decode(json.dumps(GOOD).encode(), content_type), Features)


@pytest.mark.parametrize(
    "content_type", ["text/csv", "application/xml", "application/json2", "json", "x;", ",", "x" * 60_000]
)
def test_content_types_that_are_not(content_type: str) -> None:
    outcome = CODEC.decode(json.dumps(GOOD).encode(), content_type)
    assert isinstance(outcome, Unusable)
    assert outcome.code == ErrorCode.UNSUPPORTED_CONTENT_TYPE
    assert len(to_json(outcome.detail)) < 1000


def test_long_inputs_are_cut() -> None:
    (detail,) = unusable({**GOOD, "energy": "x" * 1000}).detail
    assert len(detail["input"]) <= MAX_SHOWN + 1
    assert detail["input"].endswith("…")
    (detail,) = unusable({**GOOD, "energy": "💥" * 1000}).detail
    assert detail["input"].endswith("💥…")
    short = unusable({**GOOD, "energy": {"v": 1}}).detail[0]["input"]
    assert short == {"v": 1}


def test_many_reasons_are_cut() -> None:
    names = tuple(f"f{number}" for number in range(1024))
    detail = unusable({}, FeatureCodec(make_card(names).features)).detail
    assert len(detail) == MAX_DETAILS + 1
    assert detail[-1]["msg"] == f"and {1024 - MAX_DETAILS} more"


#: Detail of one row: so many reasons, each with a message of pydantic's, a place and at most MAX_SHOWN bytes of input
#: as JSON, whose quotes are escaped in the string that shows them.
MOST_BYTES = (MAX_DETAILS + 1) * (2 * MAX_SHOWN + 300)


@given(payload=payloads(FEATURES))
@example(payload=json.dumps(dict.fromkeys(FEATURES, '"' * 100000)).encode())
@example(payload=json.dumps({name: {"\\" * 1000: ["\x00" * 1000]} for name in FEATURES}).encode())
@example(payload=b'"' * 100_000)
@example(payload=b"\x01" * 100_000)
@example(payload=b'{"x": ' + b"[" * 190 + b"]" * 190 + b"}")
def test_the_detail_is_bounded_whatever_came(payload: bytes) -> None:
    outcome = CODEC.decode(payload)
    for row in rows_of(outcome):
        if isinstance(row, Unusable):
            assert row.detail
            assert len(to_json(row.detail)) <= MOST_BYTES


@given(payload=payloads(FEATURES), content_type=st.none() | st.text(max_size=30))
def test_no_bytes_crash_the_decoder(payload: bytes, content_type: str | None) -> None:
    outcome = CODEC.decode(payload, content_type)
    for row in rows_of(outcome):
        if isinstance(row, Features):
            assert all(0 <= value <= 1 for value in row.values)
        to_json(row.echo)


@given(row=rows(FEATURES))
@example(row={**GOOD, "tempo": "0.5"})
@example(row={**GOOD, "tempo": True})
@example(row={**GOOD, "id": float("nan")})
def test_the_strict_and_the_lenient_way_agree(row: dict[str, Any]) -> None:
    """What the compiled way takes, the lenient way takes with the same values; it takes strings beside it, no more."""
    text = json.dumps(row).encode(errors="replace")
    quick, slow = CODEC.decode(text), CODEC.check(json.loads(text))
    assert type(quick) is type(slow)
    if isinstance(quick, Features) and isinstance(slow, Features):
        assert quick.values == slow.values
    # The same again as one row of a batch.
    batch = CODEC.decode(b"[" + text + b"]")
    if isinstance(batch, Batch):
        assert type(rows_of(batch)[0]) is type(quick)
    else:
        assert type(quick) is Unusable


@given(row=rows(FEATURES))
def test_reasons_name_features_and_only_those(row: dict[str, Any]) -> None:
    outcome = CODEC.check(row)
    if isinstance(outcome, Unusable):
        assert outcome.code == ErrorCode.INVALID_FEATURES
        assert {one["loc"][0] for one in outcome.detail} <= set(FEATURES)
    assert outcome.echo.keys() == row.keys() & {"id", "time"}
