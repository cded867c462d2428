"""What is published on one level, turned into values."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, cast

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.card import Feature
from edge_agent.contract.messages import ErrorCode
from edge_agent.errors import SettingsError
from edge_agent.payload.features import Fields, Unusable
from edge_agent.payload.places import Place
from edge_agent.routing.documents import Document, Need, Part
from edge_agent.routing.levels import lay_out
from edge_agent.testing import make_card
from tests.unit.strategies import json_values

FEATURES = make_card(("temperature", "humidity"), minimum=-50, maximum=100).features
BARE: Fields = (("temperature", Place(())),)
INSIDE: Fields = (("humidity", Place(("dht", "h"))), ("temperature", Place(("dht", "t"))))


class Level:
    """A document of one level that `{feature}` stands for: its values at `positions`, or why there are none."""

    def __init__(self, features: Sequence[Feature], places: Fields, **options: Any) -> None:
        self._document = Document(features, places, Need.ANY, **options)
        self.positions = self._document.positions

    def decode(self, payload: bytes, content_type: str | None = None) -> tuple[float, ...] | Unusable:
        parts = self._document.read(payload, content_type)
        if isinstance(parts, Unusable):
            return parts
        assert isinstance(parts, list)
        (part,) = parts
        if part.refusal is not None:
            return part.refusal
        values = dict(part.values)
        return tuple(values[position] for position in self.positions if position in values)


def refused(decoded: object) -> tuple[ErrorCode, list[Any]]:
    assert isinstance(decoded, Unusable)
    assert decoded.echo == {}
    return decoded.code, [(detail["loc"], detail["type"], detail["input"]) for detail in decoded.detail]


@pytest.mark.parametrize(
    "payload",
    [b"21.5", b" 21.5\n", b'"21.5"', b"+21.5", b"2.15e1", b"021.5", b'" 21.5 "'],
)
def test_numbers_however_they_are_written(payload: bytes) -> None:
    assert Level(FEATURES, BARE).decode(payload) == (21.5,)


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"unavailable", "float_parsing"),
        (b"", "float_parsing"),
        (b"21.5 C", "float_parsing"),
        (b"ON", "float_parsing"),
        (b"\xff\xfe", "float_parsing"),
        (b"true", "float_type"),
        (b"null", "float_type"),
        (b"[21.5]", "float_type"),
        (b'{"temperature": 21.5}', "float_type"),
        (b"nan", "finite_number"),
        (b"NaN", "finite_number"),
        (b"Infinity", "finite_number"),
        (b"1e999", "finite_number"),
        (b"-51", "greater_than_equal"),
        (b'"100.1"', "less_than_equal"),
    ],
)
def test_what_is_no_usable_number_is_told_by_the_feature_s_name(payload: bytes, kind: str) -> None:
    code, ((loc, found, _),) = refused(Level(FEATURES, BARE).decode(payload))
    assert (code, loc, found) == (ErrorCode.INVALID_FEATURES, ["temperature"], kind)


def test_a_number_is_not_cut() -> None:
    """Not even one behind so much white space that a rejection would not show it."""
    assert Level(FEATURES, BARE).decode(b" " * 5000 + b"+55") == (55,)


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "text/json; charset=utf-8", "application/x+json"])
def test_plain_text_under_all_types_that_are_json(content_type: str | None) -> None:
    for payload in (b"+21.5", b"\xef\xbb\xbf+21.5", b"21.5\0", b"+21.5\0\0", b'"21.5"\0'):
        assert Level(FEATURES, BARE).decode(payload, content_type) == (21.5,)
    assert refused(Level(FEATURES, BARE).decode(b"2_1", content_type))[1] == [(["temperature"], "float_parsing", "2_1")]


def test_other_formats() -> None:
    level = Level(FEATURES, BARE)
    assert level.decode(struct.pack("<f", 21.5), "application/octet-stream") == (21.5,)
    assert level.decode(cbor2.dumps(21.5), "application/cbor") == (21.5,)
    assert level.decode(cbor2.dumps("21.5"), "application/cbor") == (21.5,)
    assert refused(level.decode(b"21", "text/csv"))[0] == ErrorCode.UNSUPPORTED_CONTENT_TYPE
    assert refused(level.decode(b"\xff", "application/cbor"))[0] == ErrorCode.MALFORMED_PAYLOAD
    assert refused(level.decode(b"123", "application/octet-stream"))[0] == ErrorCode.MALFORMED_PAYLOAD
    assert refused(level.decode(bytes(8), "application/octet-stream"))[0] == ErrorCode.INVALID_FEATURES
    assert refused(Level(FEATURES, BARE, max_bytes=4).decode(b"21.50"))[0] == ErrorCode.PAYLOAD_TOO_LARGE


def test_a_document_with_several_features() -> None:
    level = Level(FEATURES, INSIDE)
    assert level.positions == (1, 0)
    assert level.decode(b'{"dht": {"t": "21.5", "h": 48, "x": 1}}') == (48, 21.5)
    assert level.decode(cbor2.dumps({"dht": {"t": 21.5, "h": 48}}), "application/cbor") == (48, 21.5)
    assert level.decode(struct.pack("<2f", 48, 21.5), "application/octet-stream") == (48, 21.5)


def test_a_place_in_an_array() -> None:
    assert Level(FEATURES, (("temperature", Place(("1",))),)).decode(b"[0, 21.5]") == (21.5,)


@pytest.mark.parametrize("content", [{}, [], 5, "unavailable", {"dht": None}])
def test_a_document_without_them_is_refused_as_a_whole(content: Any) -> None:
    code, reasons = refused(Level(FEATURES, INSIDE).decode(json.dumps(content).encode()))
    assert code == ErrorCode.INVALID_FEATURES
    # What was published is shown, not what was made of it.
    assert (["humidity"], "missing", content) in reasons


def test_a_document_that_lacks_one_brings_the_others() -> None:
    (part,) = cast("list[Part]", Document(FEATURES, INSIDE, Need.ANY).read(b'{"dht": {"t": 20}}'))
    assert part == Part([(0, 20.0)], [], None, {})
    (part,) = cast("list[Part]", Document(FEATURES, INSIDE, Need.ANY).read(b'{"dht": {"t": 20, "h": null}}'))
    assert (part.values, part.forgotten) == ([(0, 20.0)], [1])
    assert part.refusal is not None


def test_what_a_rejection_shows_is_bounded() -> None:
    for payload in (b"x" * 100_000, json.dumps({"x": "y" * 100_000}).encode()):
        for places in (BARE, INSIDE):
            decoded = Level(FEATURES, places).decode(payload)
            assert isinstance(decoded, Unusable)
            assert len(json.dumps(decoded.detail)) < 1000


@given(
    payload=st.one_of(
        st.binary(),
        json_values().map(lambda value: json.dumps(value).encode(errors="replace")),
        st.floats().map(lambda value: str(value).encode()),
    ),
    content_type=st.sampled_from([None, "application/json", "application/cbor", "application/octet-stream", "x"]),
    places=st.sampled_from([BARE, INSIDE]),
)
def test_nothing_crashes_it_and_what_it_gives_is_within_bounds(
    payload: bytes, content_type: str | None, places: Fields
) -> None:
    decoded = Level(FEATURES, places).decode(payload, content_type)
    if isinstance(decoded, Unusable):
        assert decoded.detail
    else:
        assert len(decoded) == len(places)
        assert all(-50 <= value <= 100 for value in decoded)


def test_where_the_features_are() -> None:
    assert lay_out(["a", "b"], ()) == {"a": (("a", Place(())),), "b": (("b", Place(())),)}
    assert lay_out(
        ["a", "b", "c"], (("b", Place(("x",))), ("c", Place(("y", "z", "0"))), ("a", Place(("y", "q"))))
    ) == {
        "y": (("a", Place(("q",))), ("c", Place(("z", "0")))),
        "x": (("b", Place(())),),
    }


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ((("a", Place(("x/y",))),), "feature 'a': 'x/y' can't be one level"),
        ((("a", Place(("+",))),), "'\\+' can't be one level"),
        (
            (("a", Place(("x",))), ("b", Place(("x", "y")))),
            "level 'x': a is all that is published there, and b a part of it",
        ),
        ((("a", Place(("b", "y"))),), "level 'b': b is all"),
    ],
)
def test_what_can_not_be(fields: Fields, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        lay_out(["a", "b"], fields)


def test_a_name_that_is_no_level() -> None:
    with pytest.raises(SettingsError, match="say on which level it is: fields ="):
        lay_out(["km/h"], ())
    assert lay_out(["km/h"], (("km/h", Place(("speed",))),)) == {"speed": (("km/h", Place(())),)}
