"""What is wrong with a row, found by plain code: the same, in the same words, as pydantic finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.payload.checks import Checker
from edge_agent.payload.features import Batch, FeatureCodec, Features, Fields, Unusable, _pick
from edge_agent.payload.places import Place
from edge_agent.testing import make_card
from tests.unit.outcomes import rejected_of, rows_of
from tests.unit.reference import reasons, row_type
from tests.unit.strategies import CELLS, json_values, rows
from tests.work import steps

NAMES = ("tempo", "energy", "valence")
BOUNDS = [(0.0, 1.0), (-1e-3, 1e16), (None, None)]
FEATURES = [
    make_card((name,), minimum=low, maximum=high).features[0] for name, (low, high) in zip(NAMES, BOUNDS, strict=True)
]
CHECKER = Checker(FEATURES)


REFERENCE = row_type(FEATURES)


def expected(row: Any) -> list[Any]:
    return reasons(REFERENCE, row)


def text(value: object) -> str:
    """NaN is not equal to itself, and 1 is to True."""
    return repr(value)


@given(row=rows(NAMES) | json_values())
@example(row={"tempo": 1, "energy": 10**16 + 1, "valence": 10**40})
@example(row={"tempo": 10**400, "energy": -(10**400), "valence": 10**16})
@example(row={"tempo": float("nan"), "energy": float("-inf"), "valence": -0.0})
@example(row={"tempo": "1e", "energy": "", "valence": "\u0661"})
@example(row={"tempo": " 1 ", "energy": "nan", "valence": "1_0"})
@example(row={"tempo": "high", "energy": "0.5", "valence": "inf"})
@example(row={"valence": True, "energy": []})
@example(row={"tempo": 1.5, "valence": "low"})
@example(row={})
@example(row=[])
def test_reasons_are_pydantic_s_in_kind_place_words_and_order(row: Any) -> None:
    wanted = expected(row)
    found = CHECKER.check(row)
    if isinstance(found, Features):
        assert wanted == []
        assert found.values == tuple(REFERENCE.validate_python(row)[name] for name in NAMES)
        assert {type(value) for value in found.values} == {float}
        return
    assert text(found.detail) == text(wanted)
    # The first reason alone, as a row of a large batch has it.
    first = CHECKER.check(row, reasons=1)
    assert isinstance(first, Unusable)
    assert text(first.detail[:1]) == text(wanted[:1])
    assert len(first.detail) == min(2, len(wanted))
    if len(wanted) > 1:
        assert first.detail[1]["msg"] == f"and {len(wanted) - 1} more"


NESTED: Fields = (("tempo", Place(("AM2301", "t"))), ("energy", Place(("e",))), ("id", Place(("ID",))))
SENSORS = st.fixed_dictionaries(
    {},
    optional={
        "AM2301": st.fixed_dictionaries({}, optional={"t": CELLS}) | json_values(),
        "e": CELLS,
        "valence": CELLS,
        "ID": json_values(),
        "tempo": CELLS,
        "time": json_values(),
    },
)


@pytest.mark.parametrize("fields", [(), NESTED])
@given(sent=st.lists(SENSORS | rows(NAMES) | json_values(), min_size=8, max_size=20))
def test_rows_of_a_batch_are_checked_as_they_are_alone(fields: Fields, sent: list[Any]) -> None:
    codec = FeatureCodec(FEATURES, fields=fields)
    batch = codec._check_rows(sent, fields)
    alone = [codec._checker.check(_pick(row, fields), sent=row) for row in sent]
    assert text(rows_of(batch)) == text(alone)


@given(text=st.text(max_size=12) | st.from_regex(r"[\s\d_.+\-einfatyNFATY]{1,8}", fullmatch=True))
def test_no_text_that_pydantic_takes_is_refused_unasked(text: str) -> None:
    assert isinstance(CHECKER.check({"tempo": 0.5, "energy": 0.5, "valence": text}), Features) == (
        not expected({"tempo": 0.5, "energy": 0.5, "valence": text})
    )


@pytest.mark.parametrize(
    ("way", "words"),
    [
        (("AM2301", "Temperature"), "Field required at AM2301.Temperature"),
        (("t",), "Field required at t"),
        (("values", "0", "v"), "Field required at values.0.v"),
        (("urn:dev:1.5:t",), 'Field required at ["urn:dev:1.5:t"]'),
        (("temperature",), "Field required"),
        (("x" * 200,), f"Field required at {'x' * 120}…"),
    ],
)
def test_what_is_missing_is_named_by_where_it_was_looked_for(way: tuple[str, ...], words: str) -> None:
    codec = FeatureCodec(make_card(("temperature",)).features, fields=(("temperature", Place(way)),))
    sent = {"AM2301": {"Humidity": 40}, "id": 7}
    for outcome in (codec.decode(json.dumps(sent).encode()), codec.decode(json.dumps([sent]).encode())):
        found = rejected_of(outcome)[0] if isinstance(outcome, Batch) else outcome
        assert isinstance(found, Unusable)
        assert found.detail == [{"type": "missing", "loc": ["temperature"], "msg": words, "input": sent}]


#: What each of many rows holds that can't be used, for a model of eight features.
GOOD = dict.fromkeys("abcdefgh", 0.25)
HOSTILE: dict[str, Any] = {
    "empty": {},
    "no object": 5,
    "one missing": dict.fromkeys("abcdefg", 0.25),
    "a wrong value": {**GOOD, "d": "high"},
    "a boolean": {**GOOD, "h": True},
    "out of bounds": {**GOOD, "d": 7.5},
    "all out of bounds": dict.fromkeys(GOOD, 7.5),
}
EIGHT = FeatureCodec(make_card(tuple(GOOD)).features)
WIDE = FeatureCodec(make_card(tuple(f"f{number}" for number in range(1024))).features)


def per_row(codec: FeatureCodec, row: Callable[[int], Any]) -> float:
    """Steps of Python for one more row of a large batch, parsed as CBOR has it."""
    few, many = ([row(number) for number in range(count)] for count in (2000, 4000))
    return (steps(lambda: codec._check_rows(many, ())) - steps(lambda: codec._check_rows(few, ()))) / 2000


#: Steps of what looks at each row for itself, value by value.
MOST_STEPS = 88.0


def test_a_row_that_is_taken_is_not_looked_at_for_itself() -> None:
    assert per_row(EIGHT, lambda _: GOOD) < MOST_STEPS / 8


@pytest.mark.parametrize("name", HOSTILE)
def test_a_row_that_is_rejected_takes_less_work_than_to_look_at_each_of_its_values(name: str) -> None:
    # With one mistake in it, half as much; each further mistake is a few steps.
    most = MOST_STEPS * (1.2 if name == "all out of bounds" else 0.75 if name == "empty" else 0.6)
    assert per_row(EIGHT, lambda _: HOSTILE[name]) < most


def test_so_do_rows_that_all_differ() -> None:
    assert per_row(EIGHT, lambda number: {**GOOD, "d": 2.0 + number}) < MOST_STEPS * 0.6
    assert per_row(EIGHT, lambda number: {**GOOD, "d": f"no {number}"}) < MOST_STEPS * 0.6
    assert per_row(EIGHT, lambda number: {**GOOD, "d": f"{number + 2}.5"}) < MOST_STEPS * 0.6


def test_the_work_for_an_empty_row_does_not_grow_with_the_model() -> None:
    assert per_row(WIDE, lambda _: {}) < 2 * per_row(EIGHT, lambda _: {})


def test_equal_rejections_of_a_batch_are_made_once() -> None:
    decoded = EIGHT.decode(json.dumps([{}] * 5000).encode())
    assert isinstance(decoded, Batch)
    shared = {one[0] for one in decoded.rejected.values() if not isinstance(one, Unusable)}
    assert len(shared) == 1
    assert sum(isinstance(one, Unusable) for one in decoded.rejected.values()) < 200
