"""SenML: the examples of RFC 8428, what breaks its rules, hostile packs, and answers as packs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edge_agent.contract.messages import ErrorCode, Message
from edge_agent.payload import senml
from edge_agent.payload.checks import in_full
from edge_agent.payload.features import Batch, FeatureCodec, Features, Unusable
from edge_agent.payload.places import Place
from edge_agent.payload.senml import CONTENT_TYPE as SENML_TYPE
from edge_agent.routing.documents import Document, Need
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import ROUTE, FakeModel, make_card

DEVICE = "urn:dev:ow:10e2073a01080063"


#: RFC 8428, 5.1: section -> the pack, and its rows.
EXAMPLES: dict[str, tuple[str, Any]] = {
    "5.1.1": ('[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]', {DEVICE: 23.1}),
    "5.1.2, now": (
        '[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]',
        {"voltage": 120.1, "current": 1.2, "id": f"{DEVICE}:"},
    ),
    "5.1.2, at several times": (
        """[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
            {"n":"current","t":-5,"v":1.2}, {"n":"current","t":-4,"v":1.3}, {"n":"current","t":-3,"v":1.4},
            {"n":"current","t":-2,"v":1.5}, {"n":"current","t":-1,"v":1.6}, {"n":"current","v":1.7}]""",
        [
            {"voltage": 120.1, "current": 1.7, "id": "urn:dev:ow:10e2073a0108006:", "time": 1276020076.001},
            *(
                {"current": current, "id": "urn:dev:ow:10e2073a0108006:", "time": 1276020076.001 - before}
                for current, before in ((1.2, 5), (1.3, 4), (1.4, 3), (1.5, 2), (1.6, 1))
            ),
        ],
    ),
    "5.1.3": (
        """[{"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":20},
            {"u":"lon","v":24.30621}, {"u":"lat","v":60.07965},
            {"t":60,"v":20.3}, {"u":"lon","t":60,"v":24.30622}, {"u":"lat","t":60,"v":60.07965},
            {"t":120,"v":20.7}, {"u":"lon","t":120,"v":24.30623}, {"u":"lat","t":120,"v":60.07966},
            {"u":"%EL","t":150,"v":98},
            {"t":180,"v":21.2}, {"u":"lon","t":180,"v":24.30628}, {"u":"lat","t":180,"v":60.07967}]""",
        # One name and several values: a list, so nobody takes one for the other.
        [
            {DEVICE: [20, 24.30621, 60.07965], "id": DEVICE, "time": 1320067464},
            {DEVICE: [20.3, 24.30622, 60.07965], "id": DEVICE, "time": 1320067524},
            {DEVICE: [20.7, 24.30623, 60.07966], "id": DEVICE, "time": 1320067584},
            {DEVICE: 98, "id": DEVICE, "time": 1320067614},
            {DEVICE: [21.2, 24.30628, 60.07967], "id": DEVICE, "time": 1320067644},
        ],
    ),
    "5.1.5": (
        """[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1}, {"n":"label","vs":"Machine Room"},
            {"n":"open","vb":false}, {"n":"nfv-reader","vd":"aGkgCg"}]""",
        {
            "temp": 23.1,
            "label": "Machine Room",
            "open": {"vb": False},
            "nfv-reader": {"vd": "aGkgCg"},
            "id": f"{DEVICE}:",
        },
    ),
    "5.1.6": (
        """[{"bn":"2001:db8::2/","bt":1.320078429e+09,"n":"temperature","u":"Cel","v":25.2},
            {"n":"humidity","u":"%RH","v":30}, {"bn":"2001:db8::1/","n":"temperature","u":"Cel","v":12.3},
            {"n":"humidity","u":"%RH","v":67}]""",
        {"temperature": [25.2, 12.3], "humidity": [30, 67], "id": "2001:db8::2/", "time": 1320078429},
    ),
    "5.1.7, thermostat": (
        """[{"bn":"urn:dev:ow:10e2073a01080063:"}, {"n":"temp","u":"Cel","v":23.1}, {"n":"heat","u":"/","v":1},
            {"n":"fan","u":"/","v":0}]""",
        {"temp": 23.1, "heat": 1, "fan": 0, "id": f"{DEVICE}:"},
    ),
    "5.1.7, lights": (
        """[{"bt":1.320078429e+09,"bu":"/","n":"2001:db8::3","v":0.5}, {"n":"2001:db8::4","v":0.5},
            {"n":"2001:db8::3","t":0.1,"v":0}, {"n":"2001:db8::4","t":0.1,"v":0}]""",
        [
            {"2001:db8::3": 0.5, "2001:db8::4": 0.5, "time": 1320078429},
            {"2001:db8::3": 0, "2001:db8::4": 0, "time": 1320078429.1},
        ],
    ),
}


#: RFC 8428, 5.1.4: what 5.1.3 is when it is resolved.
RESOLVED = """[
    {"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067464e+09,"v":20},
    {"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067464e+09,"v":24.30621},
    {"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067464e+09,"v":60.07965},
    {"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067524e+09,"v":20.3},
    {"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067524e+09,"v":24.30622},
    {"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067524e+09,"v":60.07965},
    {"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067584e+09,"v":20.7},
    {"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067584e+09,"v":24.30623},
    {"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067584e+09,"v":60.07966},
    {"n":"urn:dev:ow:10e2073a01080063","u":"%EL","t":1.320067614e+09,"v":98},
    {"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067644e+09,"v":21.2},
    {"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067644e+09,"v":24.30628},
    {"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067644e+09,"v":60.07967}]"""


NAMES = ["loudness", "tempo"]


CODEC = FeatureCodec(make_card(NAMES).features)


def ask(pack: Any, **changes: Any) -> tuple[list[dict[str, Any]], str]:
    """The answer's pack, and its topic. Whatever comes out has to be SenML."""
    pipeline = Pipeline([ROUTE._replace(**changes)], {"genre": FakeModel(make_card(NAMES))})
    payload = pack if isinstance(pack, bytes) else json.dumps(pack).encode()
    ((answer,),) = pipeline.process([Message("music/a/features", payload, 1, SENML_TYPE)])
    assert answer.content_type == SENML_TYPE
    records = json.loads(answer.payload)
    check_pack(records)
    return records, answer.topic


def check_pack(records: Any) -> None:
    """Hold a pack against the rules of RFC 8428: 4.2 (one value), 4.5.1 (names), table 2 (types)."""
    kinds = {"bn": str, "n": str, "vs": str, "vb": bool, "v": (int, float), "bt": (int, float)}
    assert isinstance(records, list)
    assert records
    base = ""
    for record in records:
        assert record.keys() <= kinds.keys()
        assert all(isinstance(value, kinds[label]) for label, value in record.items())  # type: ignore[arg-type]
        assert len({"v", "vs", "vb"} & record.keys()) == 1
        base = record.get("bn", base)
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:./_-]*", base + record["n"])
        assert not base[-1:].isalnum()


def features(pack: Any, fields: Any = ()) -> Features | Unusable | Batch:
    return FeatureCodec(make_card(NAMES).features, fields=fields).decode(json.dumps(pack).encode(), SENML_TYPE)


@pytest.mark.parametrize("section", EXAMPLES)
def test_the_examples_of_the_rfc(section: str) -> None:
    pack, wanted = EXAMPLES[section]
    assert senml.rows(json.loads(pack), []) == wanted


def test_resolved_records_give_the_same_values_as_those_they_come_from() -> None:
    with_base = senml.rows(json.loads(EXAMPLES["5.1.3"][0]), [])
    assert senml.rows(json.loads(RESOLVED), []) == [
        {key: value for key, value in row.items() if key != "id"} for row in with_base
    ]


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("urn:dev:1:", "tempo"),
        ("room/", "tempo"),
        ("attic", "tempo"),
        ("dev:", "a/tempo"),
        ("x:tempo", ""),
        ("", "tempo"),
    ],
)
def test_a_feature_is_found_by_its_own_its_whole_or_its_last_name(base: str, name: str) -> None:
    decoded = features([{"bn": base}, {"n": name, "v": 0.25}, {"bn": "", "n": "loudness", "v": 0.5}])
    assert isinstance(decoded, Features)
    assert decoded.values == (0.5, 0.25)


def test_fields_take_records_by_any_of_their_names_too() -> None:
    pack = [{"bn": "a.b:", "n": "x.level", "v": 0.75}, {"n": "bpm", "v": 0.5}, {"n": "serial", "vs": "s7"}]
    fields = (("loudness", Place(("a.b:x.level",))), ("tempo", Place(("bpm",))), ("id", Place(("serial",))))
    assert features(pack, fields) == Features((0.75, 0.5), {"id": "s7"})


def test_of_two_values_under_one_name_none_is_taken() -> None:
    pack = [{"bn": "a/", "n": "loudness", "v": 0.5}, {"n": "tempo", "v": 0.25}, {"bn": "b/", "n": "tempo", "v": 0.75}]
    decoded = features(pack)
    assert isinstance(decoded, Unusable)
    assert [(one["loc"], one["input"]) for one in decoded.detail] == [(["tempo"], [0.25, 0.75])]
    # Which one it is can be said by its whole name, or by its place.
    assert features(pack, (("tempo", Place(("b/tempo",))),)) == Features((0.5, 0.75), {"id": "a/"})
    assert features(pack, (("tempo", Place(("tempo", "0"))),)) == Features((0.5, 0.25), {"id": "a/"})


@pytest.mark.parametrize(
    "value",
    [
        {"vb": True},
        {"vd": "0000"},
        {"v": None},
        {"v": True},
        {"v": "0.5"},
        {"v": [0.5]},
        {"vs": "loud"},
        {"vs": 0.5},
        {"s": 0.5},
        {"v": 1.5},
        {"v": 10**400},
    ],
)
def test_what_is_no_number_is_rejected_with_a_reason(value: dict[str, Any]) -> None:
    decoded = features([{"n": "loudness", "v": 0.5}, {"n": "tempo", **value}])
    assert isinstance(decoded, Unusable)
    assert (decoded.code, decoded.detail[0]["loc"]) == (ErrorCode.INVALID_FEATURES, ["tempo"])


def test_base_values_are_added() -> None:
    pack = [{"bv": 0.25}, {"n": "loudness", "v": 0.5}, {"n": "tempo"}, {"bv": 0, "t": 1, "n": "tempo", "vs": "0.5"}]
    assert senml.rows(pack, []) == [{"loudness": 0.75, "tempo": 0.25}, {"tempo": "0.5", "time": 1}]
    assert senml.rows([{"bv": 0.5, "n": "a", "v": 10**400}], []) == {"a": float("inf")}
    assert senml.rows([{"bs": 1}, {"n": "a"}, {"n": "b", "v": 1}], []) == {"b": 1}


def test_base_fields_hold_until_the_next_one() -> None:
    pack = [
        {"bn": "a:", "bt": 100, "n": "x", "v": 1},
        {"bt": 200},
        {"bnew": 1},
        {"bn": "b:"},
        {"n": "x", "v": 2, "t": -0.5},
    ]
    assert senml.rows(pack, []) == [{"x": 1, "id": "a:", "time": 100}, {"x": 2, "id": "b:", "time": 199.5}]


def test_a_feature_may_be_called_time() -> None:
    pack = [{"bn": "a:", "bt": 100, "n": "time", "v": 0.5}, {"n": "id", "v": 7}]
    assert senml.rows(pack, ["time"]) == {"time": 0.5, "id": "a:"}
    assert senml.rows(pack, ["time", "id"]) == {"time": 0.5, "id": 7}


def test_a_record_called_id_comes_back_where_there_is_no_base_name() -> None:
    records, _ = ask([{"n": "loudness", "v": 0.9}, {"n": "tempo", "v": 0.5}, {"n": "id", "vs": "7 b"}])
    assert {"n": "id", "vs": "7 b"} in records


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        ({}, "an array of records"),
        ([], "no record has a value"),
        ([{"bn": "a"}], "no record has a value"),
        ([{"n": "a", "s": 1}], "no record has a value"),
        ([5], "record 1: it must be an object"),
        ([{"n": "a", "v": 1}, {"n": "a"}], "record 2: it has no value"),
        ([{}], "record 1: it has no name"),
        ([{"v": 1}], "record 1: it has no name"),
        ([{"n": "a", "v": 1, "vs": "1"}], "record 1: it has several values: v, vs"),
        ([{"n": "a", "v": 1, "new_": 1}], "record 1: the field 'new_' is not supported, but must be understood"),
        ([{"n": "a", "v": 1, "bver": 11}], "record 1: bver must be an integer from 1 to 10"),
        ([{"n": "a", "v": 1, "bver": 0}], "bver"),
        ([{"n": "a", "v": 1, "bver": 9.5}], "bver"),
        ([{"n": "a", "v": 1, "bver": True}], "bver"),
        ([{"n": "a", "v": 1, "bver": "10"}], "bver"),
        ([{"n": "a", "v": 1}, {"n": "b", "v": 1, "bver": 5}], "record 2: bver must be the same in all records"),
        ([{"n": 5, "v": 1}], "record 1: n must be text"),
        ([{"bn": None, "n": "a", "v": 1}], "record 1: bn must be text"),
        ([{"bt": "0", "n": "a", "v": 1}], "record 1: bt must be a number"),
        ([{"bv": None, "n": "a", "v": 1}], "record 1: bv must be a number"),
        ([{"t": True, "n": "a", "v": 1}], "record 1: t must be a number"),
        ([{"t": 10**400, "n": "a", "v": 1}], "record 1: its time must be finite"),
        ([{"bt": 1.7e308, "t": 1.7e308, "n": "a", "v": 1}], "record 1: its time must be finite"),
        ([{"t": float("nan"), "n": "a", "v": 1}], "record 1: its time must be finite"),
        ([{"bn": "a" * 200, "n": "b" * 57, "v": 1}], "record 1: its name has more than 256 characters"),
    ],
)
def test_what_breaks_the_rules_is_malformed(pack: Any, reason: str) -> None:
    decoded = features(pack)
    assert isinstance(decoded, Unusable)
    assert (decoded.code, decoded.detail[0]["type"]) == (ErrorCode.MALFORMED_PAYLOAD, "senml_invalid")
    assert decoded.detail[0]["msg"].startswith("Invalid SenML: ")
    assert reason in decoded.detail[0]["msg"]


def test_fields_that_are_not_known_are_ignored() -> None:
    pack = [{"bver": 10, "n": "loudness", "v": 0.5, "new": {}}, {"bver": 10, "n": "tempo", "v": 0.5, "ut": 5, "b_x": 1}]
    assert features(pack) == Features((0.5, 0.5), {})


# -- a rejection shows what came


def test_a_rejection_shows_the_records_that_lack_a_feature() -> None:
    """Not the row that was made of them, with the base name as its id."""
    pack = [{"bn": "a/", "bt": 5, "n": "loudness", "v": 0.9}]
    found = CODEC.decode(json.dumps(pack).encode(), SENML_TYPE)
    assert isinstance(found, Unusable)
    assert [(one["type"], one["loc"], one["input"]) for one in found.detail] == [("missing", ["tempo"], pack)]


def test_each_row_of_a_pack_shows_its_own_records() -> None:
    pack = [
        {"bn": "a/", "bt": 5, "n": "loudness", "v": 0.9},
        {"n": "tempo", "v": 0.5},
        {"bver": 10},
        {"n": "loudness", "t": 1, "v": 0.9},
        {"n": "tempo", "t": 2, "v": 7},
    ]
    found = CODEC.decode(json.dumps(pack).encode(), SENML_TYPE)
    assert isinstance(found, Batch)
    told = {place: in_full(one) if not isinstance(one, Unusable) else one for place, one in found.rejected.items()}
    assert {place: [(one["loc"], one["input"]) for one in why.detail] for place, why in told.items()} == {
        1: [(["tempo"], [pack[3]])],
        2: [(["loudness"], [pack[4]]), (["tempo"], 7)],
    }


def test_a_number_that_a_base_value_is_added_to_is_shown_without_it() -> None:
    pack = [{"bn": "a/", "bv": 2, "n": "loudness", "v": -2}, {"n": "tempo", "v": 0.5}]
    found = CODEC.decode(json.dumps(pack).encode(), SENML_TYPE)
    assert isinstance(found, Unusable)
    (one,) = found.detail
    assert (one["loc"], one["input"]) == (["tempo"], 0.5)
    assert one["msg"] == "Input should be less than or equal to 1; it is 2.5 with its base value"


def test_a_route_that_merges_shows_the_records_too() -> None:
    features = make_card(NAMES).features
    reader = Document(features, tuple((name, Place((name,))) for name in NAMES), Need.ALL)
    pack = [{"bn": "a/", "n": "loudness", "v": 0.9}]
    (part,) = reader.read(json.dumps(pack).encode(), SENML_TYPE)  # type: ignore[misc]
    assert part.refusal is not None
    assert [one["input"] for one in part.refusal.detail] == [pack]


@pytest.mark.parametrize("value", ["x", True, None, [1]])
def test_what_is_no_number_has_no_base_value(value: Any) -> None:
    pack = [{"bn": "a/", "bv": 2, "n": "loudness", "v": value}, {"n": "tempo", "v": -1.5}]
    found = CODEC.decode(json.dumps(pack).encode(), SENML_TYPE)
    assert isinstance(found, Unusable)
    assert [one["input"] for one in found.detail] == [{"v": value}]


def test_the_rows_of_a_pack_that_are_taken_as_one_message() -> None:
    codec = FeatureCodec(make_card(NAMES).features, fields=(("tempo", Place(("7", "tempo"))),))
    pack = [{"bn": "a/", "bt": 5, "n": "loudness", "v": 0.9}, {"n": "loudness", "t": 1, "v": 0.9}]
    found = codec.decode(json.dumps(pack).encode(), SENML_TYPE)
    assert isinstance(found, Unusable)
    assert {one["type"] for one in found.detail} == {"missing"}
