"""The rejections of rows, put together from pieces, are what encoding each as a whole would be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.contract.messages import Message, to_json
from edge_agent.payload import formats
from edge_agent.payload.features import FeatureCodec, Unusable
from edge_agent.serving.pipeline import Pipeline
from edge_agent.serving.rejecting import Wording, rejection
from edge_agent.testing import ROUTE, FakeModel, make_card
from tests.unit.reference import rows_written
from tests.unit.strategies import json_values, rows
from tests.work import steps

cbor2 = pytest.importorskip("cbor2", reason="cbor2 is not installed: pip install '.[cbor]'")

NAMES = ("tempo", "energy", "valence")
CARD = make_card(NAMES, minimum=-1.5, maximum=1e16)
TYPES = {kind: f"application/{kind}" for kind in ("json", "cbor")}
DUMPS: dict[str, Callable[[Any], bytes]] = {
    "json": lambda value: json.dumps(value).encode(errors="replace"),
    "cbor": lambda value: bytes(cbor2.dumps(value)),
}
ENCODE: dict[str, Callable[[Any], bytes]] = {"json": to_json, "cbor": DUMPS["cbor"]}
#: Of more than a handful, so that they are checked by column.
MANY = st.lists(rows(NAMES) | rows(NAMES) | json_values(), min_size=8, max_size=24)
WIDE = FeatureCodec(make_card(tuple(f"f{number}" for number in range(12))).features)
GOOD: dict[str, Any] = {"tempo": 0.5, "energy": 1, "valence": 0.25}


def answer(pipeline: Pipeline, kind: str, payload: bytes) -> bytes:
    ((answer,),) = pipeline.process([Message("music/a/features", payload, 1, TYPES[kind])])
    return answer.payload


@pytest.mark.parametrize("kind", TYPES)
@given(some=MANY, times=st.sampled_from([1, 1, 3, 300]))
@example(some=[{**GOOD, "energy": 10**16 + 1, "id": 1}, {**GOOD, "tempo": 10**40}] * 5, times=1)
@example(some=[{**GOOD, "energy": "1e999"}, {**GOOD, "tempo": "7"}, {**GOOD, "tempo": "-2.0"}] * 5, times=1)
@example(some=[{**GOOD, "energy": " 1 ", "id": {}}, {**GOOD, "tempo": "1_0", "time": None}] * 5, times=1)
@example(some=[{**GOOD, "energy": "high"}, {"tempo": True, "valence": []}, GOOD, {}] * 5, times=300)
@example(
    some=[{**GOOD, "energy": "h" * 19}, {**GOOD, "energy": "\x00" * 19}, {**GOOD, "energy": "💥" * 20}] * 5, times=1
)
@example(some=[{**GOOD, "energy": -0.0}, {**GOOD, "energy": -2.0}, {**GOOD, "energy": float("nan")}] * 5, times=1)
@example(some=[[], 5, None, "text", {**GOOD, "energy": [[]] * 200}, {str(n): n for n in range(100)}] * 5, times=1)
def test_a_batch_is_answered_as_if_each_row_were_encoded_as_a_whole(kind: str, some: list[Any], times: int) -> None:
    payload = DUMPS[kind](some * times)
    chosen = formats.find(TYPES[kind])
    assert chosen is not None
    try:
        content = chosen.decode(payload, NAMES)
    except ValueError:  # text with a lone half of a pair, and the like: not about rejecting
        return
    pipeline = Pipeline([ROUTE], {"genre": FakeModel(CARD)})
    written = rows_written(
        CARD.features,
        content,
        ENCODE[kind],
        lambda row: answer(pipeline, kind, DUMPS[kind](row)),
        {"topic": "music/a/features", "model": "genre", "version": "1.0.0"},
    )
    found = answer(pipeline, kind, payload)
    assert found == chosen.begin(len(content)) + chosen.between.join(written) + chosen.end


@given(row=rows(tuple(f"f{number}" for number in range(12))) | json_values())
@example(row={})
@example(row={f"f{number}": "high" for number in range(12)})
@example(row={"f0": 2, "f1": "x", "f11": None, "id": "7", "time": 1.5})
def test_a_whole_rejection_is_encoded_as_a_whole(row: Any) -> None:
    chosen = formats.find(TYPES["cbor"])
    assert chosen is not None
    unusable = WIDE.decode(DUMPS["cbor"](row), TYPES["cbor"])
    wording = Wording()
    for _ in range(2):  # the second time from what is kept
        if isinstance(unusable, Unusable):
            message = {**rejection(unusable, "a", "genre", "1.0.0"), **unusable.echo, "sensor": "x"}
            assert wording.encode(message, chosen) == cbor2.dumps(message)


def test_a_whole_rejection_takes_little_work_however_many_features_are_missing() -> None:
    pipeline = Pipeline([ROUTE], {"genre": FakeModel(make_card(tuple(f"f{number}" for number in range(1024))))})
    for kind in TYPES:
        payload = DUMPS[kind]({})
        answer(pipeline, kind, payload)
        assert steps(lambda payload=payload, kind=kind: answer(pipeline, kind, payload)) < 1500  # type: ignore[misc]


#: More of a batch than has all its reasons given.
ROWS = 4000
EIGHT = make_card(tuple("abcdefgh"))
FULL = dict.fromkeys("abcdefgh", 0.25)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("row", "most"),
    [
        ({}, 90),
        (5, 70),
        ({**FULL, "d": "high"}, 70),
        ({**FULL, "d": 7.5}, 60),
        ({**FULL, "d": None}, 80),
        (dict.fromkeys("abcdefg", 0.25), 70),
        (dict.fromkeys("abcdefgh", 7.5), 130),
    ],
)
def test_a_rejected_row_takes_so_many_steps_from_its_bytes_to_those_of_its_rejection(
    kind: str, row: Any, most: int
) -> None:
    pipeline = Pipeline([ROUTE], {"genre": FakeModel(EIGHT)})
    few, many = (DUMPS[kind]([row] * count) for count in (ROWS, 2 * ROWS))
    answer(pipeline, kind, few)
    taken = steps(lambda: answer(pipeline, kind, many)) - steps(lambda: answer(pipeline, kind, few))
    assert taken / ROWS < most
