"""What is echoed: the quick way for ids and the others give the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.codecs import FeatureCodec
from edge_agent.engine import Engine
from edge_agent.health import Tally
from edge_agent.messages import Message
from edge_agent.testing import FakeModel
from tests.unit.strategies import json_values

MODEL = FakeModel()
ECHOED = st.one_of(
    st.builds(lambda number: {"id": number}, st.integers()),
    st.fixed_dictionaries({}, optional={"id": json_values(), "time": json_values()}),
)


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
    together, *alone = engine.outcomes(
        [Message("a", payload, 1) for payload in (b"[%b]" % b",".join(payloads), *payloads)], Tally()
    )
    assert together.json == b"[%b]" % b",".join(one.json for one in alone)
    # NaN is not equal to itself.
    assert repr(together.content) == repr([one.content for one in alone])
    assert len(json.loads(together.json)) == len(rows)
