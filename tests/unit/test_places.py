"""Values as sensors send them: found by a path, a selector or in a string of JSON, and converted."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.load import load
from edge_agent.contract.card import Feature
from edge_agent.contract.messages import ErrorCode
from edge_agent.errors import SettingsError
from edge_agent.payload.features import Batch, FeatureCodec, Features, Unusable
from edge_agent.payload.places import MAX_ELEMENTS, MAX_TEXT, Conversion, Fields, Place
from edge_agent.routing.documents import Document, Need, Part
from edge_agent.testing import make_card
from tests.unit.outcomes import rows_of
from tests.unit.strategies import json_values

FEATURES = make_card(("temperature", "humidity"), minimum=-50, maximum=100).features
TENTH = Conversion(scale=0.1)


def fields_of(text: str, tmp_path: Path) -> Fields:
    file = tmp_path / "edge-agent.toml"
    file.write_text(f"[[route]]\nfields = {{ {text} }}\n")
    return load(file).routes()[0].fields


def decoded(content: Any, fields: Fields, features: Sequence[Feature] = FEATURES) -> Features | Unusable | Batch:
    return FeatureCodec(features, fields=fields).decode(json.dumps(content).encode())


def test_a_field_as_a_table(tmp_path: Path) -> None:
    found = fields_of(
        'temperature = "AM2301.Temperature", humidity = { at = "AM2301.Humidity", scale = 0.1, offset = 2 }, '
        "valve = { map = { OPEN = 1, CLOSED = 0 } }, level = { at = ['a', '0'], lenient = true }, same = {}",
        tmp_path,
    )
    assert dict(found) == {
        "temperature": Place(("AM2301", "Temperature")),
        "humidity": Place(("AM2301", "Humidity"), Conversion(scale=0.1, offset=2.0)),
        "valve": Place(("valve",), Conversion(map=(("OPEN", 1.0), ("CLOSED", 0.0)))),
        "level": Place(("a", "0"), Conversion(lenient=True)),
        "same": Place(("same",)),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = { scle = 1 }", "route.1.fields.x.scle is not a setting; did you mean 'scale'"),
        ("x = { scale = 0 }", "route.1.fields.x: scale: with 0 each value would be the same"),
        ("x = { scale = nan }", "route.1.fields.x.scale"),
        ("x = { offset = inf }", "route.1.fields.x.offset"),
        ("x = { map = { ON = 'on' } }", "route.1.fields.x.map.ON"),
        ("x = { at = '' }", "leads nowhere"),
        ("x = true", 'not a path, such as "audio.bpm", nor a table'),
        ("time = { scale = 2 }", "time goes back with the answer as it came; write only its path"),
    ],
)
def test_tables_that_are_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        fields_of(text, tmp_path)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("how", "came", "made"),
    [
        (TENTH, 215, 21.5),
        (TENTH, "215", 21.5),
        (TENTH, " 2.15e2\n", 21.5),
        (Conversion(offset=-40), 61.5, 21.5),
        (Conversion(scale=-2, offset=1), -3, 7.0),
        (TENTH, True, True),
        (TENTH, None, None),
        (TENTH, "n/a", "n/a"),
        (TENTH, "2_15", "2_15"),
        (TENTH, "nan", "nan"),
        (TENTH, 10**400, 10**400),
        (Conversion(map=(("OPEN", 1.0), ("true", 5.0), ("3", 30.0))), "OPEN", 1.0),
        (Conversion(map=(("OPEN", 1.0), ("true", 5.0), ("3", 30.0))), " OPEN\n", 1.0),
        (Conversion(map=(("OPEN", 1.0), ("true", 5.0), ("3", 30.0))), True, 5.0),
        (Conversion(map=(("OPEN", 1.0), ("true", 5.0), ("3", 30.0))), 3, 30.0),
        (Conversion(map=(("OPEN", 1.0),)), "AJAR", "AJAR"),
        (Conversion(map=(("OPEN", 1.0),)), 10**400, 10**400),
        (Conversion(map=(("OPEN", 1.0),)), None, None),
        # What a word stands for is final.
        (Conversion(scale=0.1, map=(("LOW", 3.0),)), "LOW", 3.0),
        (Conversion(scale=0.1, map=(("LOW", 3.0),)), 300, 30.0),
    ],
)
def test_what_is_made_of_a_value(how: Conversion, came: Any, made: Any) -> None:
    assert how.of(came) == made
    assert type(how.of(came)) is type(made)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2,32", 2.32),
        ("20.6 °C", 20.6),
        ("20,6°C", 20.6),
        ("-7 %", -7.0),
        ("+5.5 kWh", 5.5),
        ("12 m3/h", 12.0),
        ("1,5 m³", 1.5),
        ("1013 hPa ", 1013.0),
        ("0.5 µg/m³", 0.5),
        ("1e3 lx", 1000.0),
        ("21.5", 21.5),
        (".5", 0.5),
    ],
)
def test_text_that_people_read(text: str, number: float) -> None:
    assert Conversion(lenient=True).of(text) == pytest.approx(number)
    assert Conversion(lenient=True, scale=2).of(text) == pytest.approx(2 * number)
    assert Conversion(lenient=True).of(number) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "°C",
        "10:30",
        "2026-01-05",
        "1.234,5",
        "1,2,3",
        "1_0",
        "1_000 W",
        "3V3",
        "21.5 C 3",
        "unavailable",
        "12 " + "x" * 70,
    ],
)
def test_text_that_is_no_number_however_lenient(text: str) -> None:
    assert Conversion(lenient=True).of(text) == text


def test_hostile_text_is_looked_at_in_no_time() -> None:
    began = time.process_time()
    for text in ("1" * 1_000_000, "1" * 1_000_000 + "x", " " * 1_000_000 + "x", "1," * 500_000, "." * 1_000_000):
        for how in (TENTH, Conversion(lenient=True), Conversion(map=(("x", 1.0),))):
            how.of(text)
    # A third of a second, on a Pi some; what reads it again for each character takes hours.
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("at", "found"),
    [
        (("metrics", "name=temperature", "value"), 21.5),
        (("metrics", "id=7", "value"), 48),
        (("text", "t"), 19),
        (("text", "list", "1"), 5),
        (("twice", "inner", "x"), 1),
        (("metrics", "0", "name"), "temperature"),
    ],
)
def test_selectors_and_json_in_a_string(at: tuple[str, ...], found: Any) -> None:
    content = {
        "metrics": [{"name": "temperature", "value": 21.5}, 3, {"id": 7, "value": 48}, {"id": True, "value": 0}],
        "text": '{"t": 19, "list": [4, 5]}',
        "twice": json.dumps({"inner": json.dumps({"x": 1})}),
    }
    assert Place(at).find(content) == found


DEEP = "[" * 10_000


@pytest.mark.parametrize(
    "content",
    [
        {"a": "no JSON"},
        {"a": DEEP},
        {"a": '{"b":' * 5000},
        {"a": '{"b": ' + "1" * 5000 + "x}"},
        {"a": '{"b": 1}' + " " * MAX_TEXT},
        {"a": "{}"},
        {"a": "5"},
        {"a": '"b"'},
        {"a": '\ud800{"b": 1}'},
        {"a": [{"b": 1}]},
        {"a": None},
        [],
        "x",
        5,
    ],
)
def test_what_leads_nowhere(content: Any) -> None:
    with pytest.raises(LookupError):
        Place(("a", "b")).find(content)


@pytest.mark.parametrize("step", ["9" * 5000, "99", "name=" + "9" * 5000, "=", "id=1"])
def test_steps_that_no_array_has(step: str) -> None:
    with pytest.raises(LookupError):
        Place((step,)).find([{"name": 10**30, "id": True}, {"id": 1.0}])


def test_a_selector_looks_through_so_many_elements_and_no_more() -> None:
    content: list[Any] = [{"name": "x"}] * (MAX_ELEMENTS - 1) + [{"name": "y", "v": 1}]
    assert Place(("name=y", "v")).find(content) == 1
    with pytest.raises(LookupError):
        Place(("name=y", "v")).find([{"name": "x"}, *content])


@given(
    content=json_values(),
    at=st.lists(st.sampled_from(["a", "0", "id=1", "=", "٣"]), max_size=4).map(tuple),
    how=st.sampled_from([None, TENTH, Conversion(lenient=True, map=(("a", 1.0), ("1", 2.0)), offset=1)]),
)
def test_nothing_but_lookup_error_comes_out(content: Any, at: tuple[str, ...], how: Conversion | None) -> None:
    for sent in (content, json.dumps(content), {"a": json.dumps(content)}):
        try:
            Place(at, how).find(sent)
        except LookupError:
            continue


PAIRS: Fields = (
    ("temperature", Place(("name=temperature", "value"))),
    ("humidity", Place(("name=humidity", "value"), TENTH)),
)
SENT = [{"name": "humidity", "value": 481}, {"name": "temperature", "value": 21.5}, {"name": "battery", "value": 3}]


def test_an_array_of_pairs_is_one_message() -> None:
    assert decoded(SENT, PAIRS) == Features((21.5, 481 * 0.1), {})
    (part,) = parts(SENT, PAIRS, Need.NONE)
    assert dict(part.values) == {0: 21.5, 1: pytest.approx(48.1)}
    found = decoded(SENT[:1], PAIRS)
    assert isinstance(found, Unusable)
    assert [(one["loc"], one["type"], one["input"]) for one in found.detail] == [(["temperature"], "missing", SENT[:1])]
    assert "name=temperature.value" in found.detail[0]["msg"]


def test_an_array_behind_a_key_leaves_a_batch_a_batch() -> None:
    inside: Fields = tuple((name, Place(("metrics", *place.at), place.how)) for name, place in PAIRS)
    found = decoded([{"metrics": SENT}, {"metrics": []}], inside)
    assert isinstance(found, Batch)
    assert [type(row) for row in rows_of(found)] == [Features, Unusable]


def parts(content: Any, fields: Fields, need: Need) -> list[Part]:
    found = Document(FEATURES, fields, need).read(json.dumps(content).encode())
    assert isinstance(found, list)
    return found


SCALED: Fields = (("temperature", Place(("t",), TENTH)), ("humidity", Place(("h",), Conversion(map=(("DRY", 200.0),)))))
WRONG = {"t": 3150, "h": "DRY"}


@pytest.mark.parametrize("rows", [0, 1, 20])
def test_a_rejection_shows_what_came(rows: int) -> None:
    found = decoded([WRONG] * rows if rows else WRONG, SCALED)
    for row in rows_of(found) if isinstance(found, Batch) else [found]:
        assert isinstance(row, Unusable)
        assert row.code == ErrorCode.INVALID_FEATURES
        assert [(one["loc"], one["input"]) for one in row.detail] == [(["temperature"], 3150), (["humidity"], "DRY")]
        assert row.detail[0]["msg"].endswith("less than or equal to 100; it is 315 after scale, offset and map")


def test_a_rejection_of_a_part_shows_what_came() -> None:
    for need in (Need.ALL, Need.NONE):
        (part,) = parts(WRONG, SCALED, need)
        assert part.refusal is not None
        assert [one["input"] for one in part.refusal.detail] == [3150, "DRY"]
    (part,) = parts({"t": 215, "h": "AJAR"}, SCALED, Need.NONE)
    assert part.values == [(0, 21.5)]
    assert part.refusal is not None
    assert [(one["loc"], one["input"]) for one in part.refusal.detail] == [(["humidity"], "AJAR")]


def test_the_whole_payload_may_be_converted() -> None:
    document = Document(FEATURES, (("temperature", Place((), Conversion(lenient=True, scale=10))),), Need.NONE)
    for payload in (b"2,15", b"2,15 \xc2\xb0C", b'"2.15"', b"2.15"):
        (part,) = document.read(payload)  # type: ignore[misc]
        assert part.values == [(0, pytest.approx(21.5))], payload
