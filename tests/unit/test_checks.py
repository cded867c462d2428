"""What is wrong with a row, found by plain code: the same, in the same words, as pydantic finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from edge_agent.contract.messages import shown
from edge_agent.payload import checks
from edge_agent.payload.checks import Checker, Known
from edge_agent.payload.features import Batch, FeatureCodec, Features, Unusable
from edge_agent.testing import make_card
from tests.unit.strategies import json_values, rows
from tests.work import steps

NAMES = ("tempo", "energy", "valence")
BOUNDS = [(0.0, 1.0), (-1e-3, 1e16), (None, None)]
FEATURES = [
    make_card((name,), minimum=low, maximum=high).features[0] for name, (low, high) in zip(NAMES, BOUNDS, strict=True)
]
CHECKER = Checker(FEATURES)


def reference() -> TypeAdapter[Any]:
    """All of it as pydantic says it."""
    fields = {
        feature.name: Annotated[
            float,
            Field(allow_inf_nan=False, ge=checks.bounds(feature)[0], le=checks.bounds(feature)[1]),
            BeforeValidator(checks._no_boolean),
        ]
        for feature in FEATURES
    }
    row = TypedDict("row", fields)  # type: ignore[misc]
    row.__pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[attr-defined]
    return TypeAdapter(row)


REFERENCE = reference()


def expected(row: Any) -> list[Any]:
    try:
        REFERENCE.validate_python(row)
    except ValidationError as error:
        return [
            {"type": one["type"], "loc": list(one["loc"]), "msg": one["msg"], "input": shown(one["input"])}
            for one in error.errors(include_url=False, include_context=False)
        ]
    return []


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
    # The first reason alone, as a row of a large batch has it, and the same from what is known.
    known: Known = {}
    first, again = (CHECKER.check(row, reasons=1, known=known) for _ in range(2))
    assert isinstance(first, Unusable)
    assert isinstance(again, Unusable)
    assert text(first) == text(again)
    assert text(first.detail[:1]) == text(wanted[:1])
    assert len(first.detail) == min(2, len(wanted))
    if len(wanted) > 1:
        assert first.detail[1]["msg"] == f"and {len(wanted) - 1} more"


@given(cells=st.lists(json_values(), min_size=1, max_size=6))
def test_what_is_known_of_other_rows_of_a_batch_changes_nothing(cells: list[Any]) -> None:
    known: Known = {}
    for cell in [*cells, *cells]:
        row = {"tempo": cell, "energy": 0.5, "valence": 0.5}
        assert text(CHECKER.check(row, known=known)) == text(CHECKER.check(row))


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
    codec = FeatureCodec(make_card(("temperature",)).features, fields=(("temperature", way),))
    sent = {"AM2301": {"Humidity": 40}, "id": 7}
    for outcome in (codec.decode(json.dumps(sent).encode()), codec.decode(json.dumps([sent]).encode())):
        found = outcome.unusable[0] if isinstance(outcome, Batch) else outcome
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


@pytest.mark.parametrize("name", HOSTILE)
def test_a_row_that_is_rejected_takes_about_as_much_work_as_one_that_is_taken(name: str) -> None:
    answered = per_row(EIGHT, lambda _: GOOD)
    assert per_row(EIGHT, lambda _: HOSTILE[name]) < 3 * answered


def test_so_do_rows_that_all_differ() -> None:
    answered = per_row(EIGHT, lambda _: GOOD)
    assert per_row(EIGHT, lambda number: {**GOOD, "d": 2.0 + number}) < 3 * answered
    assert per_row(EIGHT, lambda number: {**GOOD, "d": f"no {number}"}) < 3 * answered


def test_the_work_for_an_empty_row_does_not_grow_with_the_model() -> None:
    assert per_row(WIDE, lambda _: {}) < 2 * per_row(EIGHT, lambda _: {})


def test_equal_rejections_of_a_batch_are_made_once() -> None:
    decoded = EIGHT.decode(json.dumps([{}] * 5000).encode())
    assert isinstance(decoded, Batch)
    assert len({id(one.detail) for one in decoded.unusable.values()}) < 200
