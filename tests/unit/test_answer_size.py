"""Answers are no larger than they may be, and what would be larger is never built."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Hashable, Sequence
from typing import Any

import pytest

from edge_agent.contract.messages import Answer, Message
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import ROUTE, FakeModel, make_card

cbor2 = pytest.importorskip("cbor2", reason="cbor2 is not installed: pip install '.[cbor]'")

TYPES = {kind: f"application/{kind}" for kind in ("json", "cbor", "senml+json")}
ROWS = 10_000


class Varied(FakeModel):
    """Has a thousand labels, and other probabilities for each row; counts the rows that it is asked about."""

    def __init__(self) -> None:
        super().__init__(make_card().model_copy(update={"labels": tuple(f"label {number}" for number in range(1000))}))

    def predict(self, rows: Sequence[Sequence[float]]) -> Sequence[Hashable]:
        self.calls.append(len(rows))
        return [row[0] for row in rows]

    def read(self, output: Any) -> tuple[str, list[float]]:
        return "label 0", [output, *[(1 - output) / 999] * 999]


def batch(kind: str, row: Any) -> bytes:
    """`ROWS` rows; of SenML, each has a time of its own."""
    if kind == "senml+json":
        name, value = next(iter(row.items())) if isinstance(row, dict) else ("x", row)
        return json.dumps([{"n": name, "v": value, "t": number + 1} for number in range(ROWS)]).encode()
    rows = [{**row, "loudness": number / ROWS} if isinstance(row, dict) else row for number in range(ROWS)]
    return json.dumps(rows).encode() if kind == "json" else cbor2.dumps(rows)


def peak_of(pipeline: Pipeline, message: Message) -> tuple[Answer, int]:
    """The answer, and the most memory in bytes that it took to make it."""
    pipeline.process([message._replace(payload=b"{}"), message._replace(payload=b"\xa0")])  # what is loaded once
    tracemalloc.start()
    try:
        ((answer,),) = pipeline.process([message])
        return answer, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("level", [20_000, 60_000])
def test_zeros_on_a_long_topic_take_little_memory(kind: str, level: int) -> None:
    pipeline = Pipeline([ROUTE], {"genre": FakeModel(make_card(tuple("abcdefgh")))})
    message = Message(f"music/{'x' * level}/features", batch(kind, 0), 1, TYPES[kind])
    answer, peak = peak_of(pipeline, message)
    # It was 600 and 1,800 MB. Each row says why, in some 300 bytes.
    assert peak < 40_000_000
    assert len(answer.payload) < 6_000_000


@pytest.mark.parametrize("kind", TYPES)
def test_a_thousand_labels_for_each_of_many_rows_are_not_built(kind: str) -> None:
    model = Varied()
    pipeline = Pipeline([ROUTE], {"genre": model})
    answer, peak = peak_of(pipeline, Message("music/a/features", batch(kind, {"loudness": 0.5}), 1, TYPES[kind]))
    assert peak < 40_000_000  # it was one gigabyte, and four in SenML
    assert answer.topic == "music/a/genre/error"
    assert len(answer.payload) < 1000
    read = cbor2.loads if kind == "cbor" else json.loads
    content = read(answer.payload)
    told = content if isinstance(content, dict) else {one["n"]: one["vs"] for one in content}
    assert told["error"] == "payload_too_large"
    assert "more than 8388608 bytes (limits.answer_bytes)" in str(told["detail"])
    # It is given up as soon as it is too large.
    assert sum(model.calls) < 1000
    assert pipeline.tally.total.predictions == 0
    assert pipeline.tally.total.rejections["payload_too_large"] == 1


@pytest.mark.parametrize("kind", ["json", "cbor"])
@pytest.mark.parametrize("most", [4096, 100_000])
def test_an_answer_is_as_large_as_it_may_be_and_no_larger(kind: str, most: int) -> None:
    pipeline = Pipeline([ROUTE], {"genre": FakeModel()}, max_answer=most)
    sizes = []
    for count in range(1, most // 50, max(1, most // 5000)):
        rows: list[dict[str, Any]] = [{"loudness": 0.9, "id": number} if number % 3 else {} for number in range(count)]
        payload = json.dumps(rows).encode() if kind == "json" else cbor2.dumps(rows)
        ((answer,),) = pipeline.process([Message("music/a/features", payload, 1, TYPES[kind])])
        rejected = answer.topic.endswith("error")
        assert len(answer.payload) <= most
        sizes.append((rejected, len(answer.payload)))
    # First come all those that fit.
    assert sizes == sorted(sizes)
    assert {rejected for rejected, _ in sizes} == {False, True}
    assert max(size for rejected, size in sizes if not rejected) > 0.9 * most


@pytest.mark.parametrize("row", [b'{"loudness": 0.9, "id": "%b"}', b'{"id": "%b"}'])
def test_what_is_echoed_counts(row: bytes) -> None:
    pipeline = Pipeline([ROUTE], {"genre": FakeModel()}, max_answer=5000)
    ((answer,),) = pipeline.process([Message("music/a/features", row % (b"x" * 6000), 1)])
    assert json.loads(answer.payload)["error"] == "payload_too_large"
    assert len(answer.payload) < 1000


def test_what_comes_after_a_batch_that_is_too_large_has_its_own_predictions() -> None:
    model = Varied()
    pipeline = Pipeline([ROUTE], {"genre": model})
    rows = [{"loudness": number / 1000} for number in range(1000)]
    answers = pipeline.process(
        [Message("music/a/features", json.dumps(one).encode()) for one in (rows, rows[7], rows[:5], rows, rows[9])]
    )
    first, second, third, fourth, fifth = (json.loads(answer.payload) for (answer,) in answers)
    assert first["error"] == fourth["error"] == "payload_too_large"
    assert (second["confidence"], fifth["confidence"]) == (0.007, 0.009)
    assert [row["confidence"] for row in third] == [0.0, 0.001, 0.002, 0.003, 0.004]
    assert pipeline.tally.total.predictions == 7


@pytest.mark.parametrize("kind", ["json", "cbor"])
@pytest.mark.parametrize(
    "payload", [{"loudness": 0.9}, {"id": 3}, [{"loudness": 0.9}, {"id": 4}, {"loudness": 0.1, "id": 5}]]
)
def test_an_answer_names_its_sensor_where_the_route_says_so(kind: str, payload: Any) -> None:
    plain, naming = (Pipeline([ROUTE._replace(name_sensor=name)], {"genre": FakeModel()}) for name in (False, True))
    data = json.dumps(payload).encode() if kind == "json" else cbor2.dumps(payload)
    read = json.loads if kind == "json" else cbor2.loads
    without, with_name = (
        read(one.process([Message("music/attic/features", data, 1, TYPES[kind])])[0][0].payload)
        for one in (plain, naming)
    )
    for before, after in zip(*([one] if isinstance(one, dict) else one for one in (without, with_name)), strict=True):
        assert after == {**before, "sensor": "attic"}
