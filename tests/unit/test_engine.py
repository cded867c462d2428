"""What is echoed: the quick way for ids and the others give the same."""

from __future__ import annotations

import json
import math
import struct
import tracemalloc
from collections.abc import Hashable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.contract.answers import Probabilities
from edge_agent.contract.messages import Message, to_json
from edge_agent.payload import formats, senml
from edge_agent.payload.cbor import CONTENT_TYPE as CBOR_TYPE
from edge_agent.payload.features import Batch, FeatureCodec, Features, Unusable
from edge_agent.payload.packed import CONTENT_TYPE as PACKED_TYPE
from edge_agent.payload.senml import CONTENT_TYPE as SENML_TYPE
from edge_agent.serving.engine import Engine
from edge_agent.serving.writing import Asked
from edge_agent.tally import Counts
from edge_agent.testing import FakeModel, make_card
from tests.unit.strategies import json_values

cbor2 = pytest.importorskip("cbor2", reason="cbor2 is not installed: pip install '.[cbor]'")

MODEL = FakeModel()
TIMED = FakeModel(make_card(("loudness", "time")))
ECHOED = st.one_of(
    st.builds(lambda number: {"id": number}, st.integers()),
    st.fixed_dictionaries({}, optional={"id": json_values(), "time": json_values()}),
)


class Alone:
    """Asks for itself: nothing to name, and counts that nobody reads."""

    def __init__(self) -> None:
        self.sensor, self.counts, self.publish = None, Counts(), "sensor"


def answers(engine: Engine, messages: list[Message]) -> list[bytes]:
    return [one.payload for one in engine.outcomes([(0, message, Alone()) for message in messages])]


def with_members(row: dict[str, Any]) -> dict[str, Any]:
    """Return a decoded answer as the agent has it: which of its members are named numbers is lost on the wire."""
    if "error" in row:
        return row
    return {**row, "probabilities": Probabilities(row["probabilities"])}


@given(st.lists(st.tuples(st.floats(0, 1.1), ECHOED), max_size=5))
@example([(0.9, {"id": 1}), (0.1, {"id": 2})])
@example([(0.9, {"id": 1}), (0.1, {})])
@example([(0.9, {"id": 1}), (0.1, {"time": 1})])
@example([(0.9, {"id": 1}), (0.1, {"id": True})])
@example([(0.9, {"id": 1}), (0.1, {"id": 1.5})])
@example([(0.9, {"id": 2**63}), (0.1, {"id": -(2**63)})])
@example([(0.9, {"id": 10**400})])
@example([(0.9, {"id": 1}), (1.1, {"id": 2})])
def test_the_rows_of_a_batch_are_answered_as_they_are_alone(rows: list[tuple[float, dict[str, Any]]]) -> None:
    payloads = [json.dumps({"loudness": loudness, **echo}).encode() for loudness, echo in rows]
    engine = Engine(MODEL, FeatureCodec(MODEL.card.features))
    together, *alone = answers(
        engine, [Message("a", payload, 1) for payload in (b"[%b]" % b",".join(payloads), *payloads)]
    )
    assert together == b"[%b]" % b",".join(alone)
    assert len(json.loads(together)) == len(rows)


@given(st.lists(st.tuples(st.floats(0, 1.1), ECHOED), max_size=5))
@example([(0.9, {"id": 1}), (1.1, {"time": 2})])
def test_in_cbor_too(rows: list[tuple[float, dict[str, Any]]]) -> None:
    contents = [{"loudness": loudness, **echo} for loudness, echo in rows]
    engine = Engine(MODEL, FeatureCodec(MODEL.card.features))
    together, *alone = answers(
        engine, [Message("a", cbor2.dumps(content), 1, CBOR_TYPE) for content in (contents, *contents)]
    )
    assert together == cbor2.dumps([None] * len(rows))[: -len(rows) or None] + b"".join(alone)
    assert len(cbor2.loads(together)) == len(rows)


@given(st.lists(st.tuples(st.floats(0, 1.1), ECHOED), max_size=5))
def test_in_senml_as_one_pack(rows: list[tuple[float, dict[str, Any]]]) -> None:
    engine = Engine(MODEL, FeatureCodec(MODEL.card.features))
    as_cbor, answering = formats.find(CBOR_TYPE), formats.find(SENML_TYPE)
    assert as_cbor is not None
    assert answering is not None
    questions: list[Asked] = [
        ("a", engine.check({"loudness": loudness, **echo}), as_cbor, None, Counts()) for loudness, echo in rows
    ]
    alone = [cbor2.loads(one.payload) for one in engine.settle(questions)]
    batch = Batch([], rejected={})
    for number, question in enumerate(questions):
        if isinstance(question[1], Features):
            batch.values.append(question[1].values)
        elif isinstance(question[1], Unusable):
            batch = batch._replace(rejected={**batch.rejected, number: question[1]})
    echoes = [one[1].echo for one in questions if isinstance(one[1], Features)]
    (together,) = engine.settle([("a", batch._replace(echoes=echoes), answering, None, Counts())])
    assert together.payload == to_json(senml.pack([with_members(row) for row in alone]))


def test_a_feature_called_time_is_echoed_in_a_batch_as_it_is_alone() -> None:
    engine = Engine(TIMED, FeatureCodec(TIMED.card.features))
    row, packed = b'{"loudness": 0.9, "time": 0.5}', struct.pack("<2f", 0.9, 0.5)
    alone, together, packed_alone, packed_together = answers(
        engine,
        [
            Message("a", row),
            Message("a", b"[%b,%b]" % (row, row)),
            Message("a", packed, 0, PACKED_TYPE),
            Message("a", packed * 2, 0, PACKED_TYPE),
        ],
    )
    assert json.loads(alone)["time"] == 0.5
    assert alone == packed_alone
    assert together == packed_together == b"[%b,%b]" % (alone, alone)


class Varied(FakeModel):
    """Has a thousand labels, and other probabilities for each row."""

    def __init__(self) -> None:
        super().__init__(make_card().model_copy(update={"labels": tuple(f"label {number}" for number in range(1000))}))

    def predict(self, rows: Sequence[Sequence[float]]) -> Sequence[Hashable]:
        return [row[0] for row in rows]

    def read(self, output: Any) -> tuple[str, list[float]]:
        return "label 0", [output, *[(1 - output) / 999] * 999]


def test_the_predictions_that_are_kept_take_bounded_memory() -> None:
    engine = Engine(Varied(), FeatureCodec(MODEL.card.features))
    tracemalloc.start()
    for number in range(500):
        (outcome,) = engine.outcomes([(0, Message("a", b'{"loudness": %f}' % (number / 1000)), Alone())])
        assert not outcome.rejected
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20_000_000


@pytest.mark.parametrize(
    ("probabilities", "good"),
    [
        ([0.25, 0.75], True),
        ([0.0, 1.0], True),
        ([0.333333, 0.666666], True),
        ([0.6, 0.6], False),
        ([0.2, 0.2], False),
        ([-0.5, 1.5], False),
        ([1.0, -0.01], False),
        ([math.nan, 1.0], False),
        ([math.inf, -math.inf], False),
        ([0.0, 0.0], False),
    ],
)
def test_what_are_no_probabilities_is_no_prediction(probabilities: list[float], *, good: bool) -> None:
    class Odd(FakeModel):
        def read(self, output: Any) -> tuple[str, list[float]]:
            return output, probabilities

    engine = Engine(Odd(), FeatureCodec(MODEL.card.features))
    (outcome,) = engine.outcomes([(0, Message("a", b'{"loudness": 0.9}'), Alone())])
    assert outcome.rejected is not good
    assert ("error" in json.loads(outcome.payload)) is not good
