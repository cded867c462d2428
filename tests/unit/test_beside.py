"""What a candidate does beside what is answered: it is compared, and nobody notices."""

from __future__ import annotations

import json
import logging
import math
import random
from typing import Any

import pytest

from edge_agent.contract.card import Quantity
from edge_agent.contract.messages import Message
from edge_agent.contract.templates import Template
from edge_agent.payload.features import MAX_BATCH_ROWS
from edge_agent.routing.routes import Route
from edge_agent.serving.beside import Allowance
from edge_agent.serving.contest import Contesting
from edge_agent.serving.evidence import ContestLimits
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeClock, FakeLink, FakeModel, make_agent, make_card
from tests.unit.rivals import ROUTE, Rival, ask_beside, compare, contested, row
from tests.unit.test_tasks import ALARM, ONE, TWO, Graph

GATHERS = Route("genre", Template("home/{s}/{feature}"), Template("out/{s}"), Template("out/{s}/error"))
AGREE = ContestLimits(min_agreement=0.98)


def draw(count: int, seed: int = 3) -> list[Message]:
    source = random.Random(seed)
    return [row(round(source.random(), 3), f"s{number % 10}") for number in range(count)]


def test_equal_answers_agree() -> None:
    pipeline, contesting = contested(Rival(), limits=AGREE)
    compare(pipeline, draw(200))
    assert contesting.describe() == {
        "rows": 200,
        "skipped": 0,
        "rejected": 0,
        "failed": 0,
        "compared": 200,
        "agreement": 1.0,
        "differing": [],
        "incomparable": 0,
        "microseconds": {"before": 0.0, "candidate": 0.0},
        "remarks": [],
    }
    assert contesting.trouble() is None
    assert contesting.trouble(last=True) is None


def test_a_candidate_that_differs_on_one_label_only() -> None:
    """Rock is Hip-Hop to it between 0.5 and 0.7; all else is the same."""
    pipeline, contesting = contested(Rival(above=0.7), limits=AGREE)
    compare(pipeline, draw(400))
    described = contesting.describe()
    ((before, candidate, times),) = described["differing"]
    assert (before, candidate) == ("Rock", "Hip-Hop")
    assert described["agreement"] == pytest.approx(1 - times / 400)
    assert str(contesting.trouble()).endswith(f"most often 'Rock' became 'Hip-Hop' ({times} times)")


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_candidate_that_raises_on_some_rows(share: float, caplog: pytest.LogCaptureFixture) -> None:
    pipeline, contesting = contested(Rival(raises=lambda one: one[0] > 0.9), share)
    messages = draw(200)
    with caplog.at_level(logging.WARNING, "edge_agent.serving.beside"):
        compare(pipeline, messages)
    failing = sum(json.loads(message.payload)["loudness"] > 0.9 for message in messages)
    described = contesting.describe()
    assert (described["rows"], described["failed"], described["agreement"]) == (200, failing, 1.0)
    assert contesting.trouble() == (
        f"it fails on {failing} of 200 rows that the model before answers ({failing / 2:.4g}%), and max_failed is 0%"
    )
    # Its own answers are rejections, in canary and soak; in shadow nobody sees it.
    assert (pipeline.tally.total.rejections["inference_failed"] == 0) == (share == 0)
    told = [one for one in caplog.records if one.name == "edge_agent.serving.beside"]
    assert [one.getMessage() for one in told] == [
        "model genre 2.0.0, asked beside, failed (counted, but logged only once): the graph failed"
    ]


def test_a_candidate_that_gives_nan() -> None:
    pipeline, contesting = contested(Rival(is_nan=lambda one: one[0] > 0.9))
    answers = pipeline.process([row(0.95)])
    ask_beside(pipeline)
    assert json.loads(answers[0][0].payload)["label"] == "Rock"
    assert contesting.describe()["failed"] == 1
    assert "it fails on 1 of 1 row" in str(contesting.trouble())


def test_what_the_model_before_fails_on_counts_against_nobody() -> None:
    pipeline, contesting = contested(
        Rival(raises=lambda one: one[0] > 0.8), before=Rival("1.0.0", raises=lambda one: one[0] > 0.7)
    )
    compare(pipeline, draw(100))
    assert contesting.describe()["failed"] == 0
    assert contesting.trouble() is None


def test_a_candidate_that_is_ten_times_slower() -> None:
    """It is measured by the same rows, takes a tenth of the time, and what there is no time for is passed by."""
    clock, limits = FakeClock(), ContestLimits(max_slower=5.0)
    candidate = Rival(clock=clock, seconds=0.010)
    before = Rival("1.0.0", clock=clock, seconds=0.001)
    pipeline, contesting = contested(candidate, limits=limits, before=before, clock=clock)
    for message in draw(1000):
        pipeline.process([message])
        began = clock.time
        ask_beside(pipeline, clock)
        # One row beside at most: it takes more than may be spent at once.
        assert clock.time - began <= 0.0111
        clock.advance(0.02)
    # A tenth of the time, what may be spent at once from the beginning, and the row that went beyond it.
    assert len(candidate.asked) * 0.011 <= 0.1 * clock.time + 0.01 + 0.011
    described = contesting.describe()
    assert described["rows"] + described["skipped"] <= 1000
    assert described["rows"] > 100
    assert described["microseconds"] == {"before": 1000.0, "candidate": 10000.0}
    assert contesting.trouble() == (
        "it takes 10 ms of processor time a row where the model before takes 1 ms, and max_slower is 5 times"
    )


def test_the_allowance() -> None:
    one = Allowance()
    assert (one.wait(100.0), one.left) == (0.0, 0.01)
    one.spend(0.05)
    assert one.wait(100.3) == pytest.approx(0.15)
    assert one.left == pytest.approx(-0.01)
    assert (one.wait(160.0), one.left) == (0.0, 0.01)


def test_of_many_messages_some_are_taken_from_everywhere() -> None:
    pipeline, contesting = contested(Rival())
    messages = [row(0.5, f"s{number}") for number in range(1000)]
    for _ in range(20):
        pipeline.process(messages)
        ask_beside(pipeline)
    described = contesting.describe()
    assert described["rows"] + described["skipped"] == 20_000
    assert 20 * 128 <= described["rows"] <= 20 * 256


def test_the_rows_of_batches_and_what_is_rejected_in_them() -> None:
    """Of a batch its usable rows; what the model before rejects counts against nobody."""
    pipeline, contesting = contested(Rival(above=0.3))
    compare(pipeline, [row(0.9)])  # the first time one row only is asked: it may take long
    content: list[Any] = [{"loudness": 0.4}, {"loudness": "x"}, {"loudness": 0.9}, 7, {"loudness": 0.1, "id": 3}]
    pipeline.process([Message("in/a/x", json.dumps(content).encode()), Message("in/b/x", b"no JSON")])
    ask_beside(pipeline)
    described = contesting.describe()
    assert (described["rows"], described["rejected"], described["compared"]) == (4, 0, 4)
    assert described["differing"] == [("Hip-Hop", "Rock", 1)]


def test_large_batches_are_bounded_and_larger_ones_left_out() -> None:
    candidate = Rival()
    pipeline, contesting = contested(candidate)
    compare(pipeline, draw(20))
    before = len(candidate.asked)
    large = json.dumps([{"loudness": 0.5}] * 2000).encode()
    pipeline.process([Message("in/a/x", large)])
    ask_beside(pipeline)
    assert 100 <= len(candidate.asked) - before <= 256
    pipeline.process([Message("in/a/x", json.dumps([{"loudness": 0.5}] * MAX_BATCH_ROWS).encode())])
    ask_beside(pipeline)
    assert pipeline.contests is not None
    assert pipeline.contests.wait(0.0) == math.inf
    assert contesting.describe()["skipped"] == 1
    assert contesting.describe()["remarks"] == ["messages of more than 65536 bytes are not compared"]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_candidate_that_takes_less(share: float) -> None:
    """Its bounds are narrower: what it rejects is counted against it, whoever of them answers."""
    pipeline, contesting = contested(
        Rival(card=make_card(maximum=0.8)), share, ContestLimits(max_rejected=0.1), before=FakeModel()
    )
    messages = draw(200)
    compare(pipeline, messages)
    above = sum(json.loads(message.payload)["loudness"] > 0.8 for message in messages)
    assert (contesting.describe()["rows"], contesting.describe()["rejected"]) == (200, above)
    assert f"it rejects {above} of 200 rows that the model before takes" in str(contesting.trouble())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_candidate_with_another_feature(share: float) -> None:
    """Messages are read for each of them: it answers where they have the feature, and rejects where they don't."""
    pipeline, contesting = contested(Rival(card=make_card(("loudness", "tempo"))), share)
    pipeline.process([row(0.9, tempo=0.1), row(0.9), row(0.1, tempo=0.9)])
    ask_beside(pipeline)
    described = contesting.describe()
    assert (described["rows"], described["rejected"], described["agreement"]) == (3, 1, 1.0)


def test_gathered_rows_are_compared() -> None:
    """As they are for one that has the same features, by name for one that has fewer or narrower ones, and not at all for more."""
    card = make_card(("loudness", "tempo"))

    def found(candidate: Rival, share: float) -> tuple[int, int, float | None, list[str]]:
        pipeline, contesting = contested(candidate, share, before=FakeModel(card), routes=[GATHERS])
        for sensor, value in (("a", b"0.9"), ("b", b"0.4")):
            pipeline.process([Message(f"home/{sensor}/{name}", value, 1) for name in ("tempo", "loudness")])
        for _ in range(5):
            ask_beside(pipeline)
        told = contesting.describe()
        return told["rows"], told["rejected"], told["agreement"], told["remarks"]

    assert found(Rival(card=card), 0.0) == (2, 0, 1.0, [])
    assert found(Rival(card=card, above=0.3), 1.0) == (2, 0, 0.5, [])
    turned = make_card(("tempo", "loudness"))
    assert found(Rival(card=turned), 0.0) == (2, 0, 1.0, [])
    assert found(Rival(card=turned), 1.0) == (2, 0, 1.0, [])
    assert found(Rival(card=make_card(("loudness",), maximum=0.8)), 0.0) == (2, 1, 1.0, [])
    more = make_card(("loudness", "tempo", "energy"))
    why = "sensors that are gathered are not compared: 'energy' is not gathered"
    assert found(Rival(card=more), 0.0) == (0, 0, None, [why])


def test_labels_that_only_one_of_them_has() -> None:
    old = make_card().model_copy(update={"labels": ("Hip-Hop", "Rock")})
    new = make_card().model_copy(update={"labels": ("Rock", "Rap")})

    class Raps(Rival):
        def read(self, output: Any) -> Any:
            return ("Rock", [1.0, 0.0]) if output == "Rock" else ("Rap", [0.0, 1.0])

    pipeline, contesting = contested(Raps(card=new, above=0.3), before=FakeModel(old))
    compare(pipeline, [row(0.9), row(0.4), row(0.1)])
    for _ in range(5):
        ask_beside(pipeline)
    described = contesting.describe()
    # 0.9 is Rock to both. 0.4 is Hip-Hop, and 0.1 Rap: words that one of them does not have.
    assert (described["compared"], described["incomparable"], described["agreement"]) == (1, 2, 1.0)
    assert described["remarks"] == [
        "labels that only the model before has are not compared: Hip-Hop",
        "labels that only the candidate has are not compared: Rap",
    ]


def test_answers_without_a_label_are_compared_as_they_are_published() -> None:
    class Doubts(Rival):
        def read(self, output: Any) -> Any:
            return output, [0.4, 0.6] if output == "Rock" else [1.0, 0.0]

    pipeline, contesting = contested(Doubts(), routes=[ROUTE._replace(min_confidence=0.8)])
    compare(pipeline, [row(0.9), row(0.1)])
    assert contesting.describe()["differing"] == [("Rock", "(uncertain)", 1)]


class Shifted(Graph):
    """Estimates more than the model before, by some amount."""

    def __init__(self, card: Any, by: float) -> None:
        super().__init__(card)
        self._by = by

    def predict(self, rows: Any) -> Any:
        return super().predict([(one[0] + 3 * self._by,) for one in rows])


@pytest.mark.parametrize(("by", "agreement"), [(1.2, 1.0), (1.3, 0.0)])
def test_numbers_agree_within_a_share_of_their_span(by: float, agreement: float) -> None:
    """The self-test of the model before goes from -20 to 5: a twentieth of that is 1.25."""
    pipeline, contesting = contested(Shifted(ONE, by), before=Graph(ONE))
    compare(pipeline, draw(20))
    assert contesting.describe()["agreement"] == agreement
    assert contesting.describe()["differing"] == []


def test_outputs_by_name_and_unit() -> None:
    fahrenheit = ONE.model_copy(update={"outputs": (Quantity(name="indoor", unit="°F"),)})
    pipeline, contesting = contested(Graph(fahrenheit), before=Graph(ONE))
    compare(pipeline, draw(2))
    assert contesting.describe()["remarks"] == ["the output 'indoor' is not compared: it was in °C, and is in °F"]
    assert contesting.describe()["compared"] == 0
    pipeline, contesting = contested(Graph(TWO), before=Graph(ONE))
    compare(pipeline, draw(20))
    told = contesting.describe()
    assert told["remarks"] == ["outputs that only the candidate has are not compared: power/kitchen"]
    assert told["agreement"] == 1.0


def test_models_of_different_tasks_are_not_compared() -> None:
    pipeline, contesting = contested(Graph(ALARM), before=Graph(ONE))
    compare(pipeline, draw(20))
    told = contesting.describe()
    assert (told["rows"], told["compared"], told["agreement"]) == (20, 0, None)
    assert told["remarks"] == ["a model for anomaly is not compared with one for regression"]


def test_an_error_of_ours_disturbs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(FakeModel):
        def read(self, output: Any) -> Any:
            return output, [0.0, 1.0] if output == "Rock" else [1.0, 0.0]

    pipeline, contesting = contested(Odd())

    def broken(*_: object) -> None:
        raise KeyError("label")

    contesting.figures.differing.add = broken  # type: ignore[method-assign, assignment]
    with caplog.at_level(logging.WARNING):
        compare(pipeline, draw(5))
    assert contesting.describe()["remarks"] == [
        "some messages could not be compared: an error of the agent, see its log"
    ]
    assert len(caplog.records) == 1


def test_the_figures_outlive_a_plan() -> None:
    contesting = Contesting(Rival(above=0.3), 0.0, clock=FakeClock())
    for _ in range(2):
        pipeline = Pipeline([ROUTE], {"genre": FakeModel()}, contests={"genre": contesting})
        compare(pipeline, [row(0.4)])
    assert contesting.describe()["rows"] == 2


def test_without_a_contest_nothing_waits() -> None:
    pipeline = Pipeline([ROUTE], {"genre": FakeModel()})
    pipeline.process(draw(3))
    assert pipeline.contests is None


def test_nothing_is_asked_and_nobody_wakes_while_there_is_no_time_for_it() -> None:
    """A candidate that takes a second a row is asked every ten seconds. Until then the loop may sleep."""
    clock = FakeClock()
    candidate = Rival(clock=clock, seconds=1.0)
    pipeline, _ = contested(candidate, clock=clock)
    assert pipeline.contests is not None
    pipeline.process(draw(5))
    assert pipeline.contests.wait(0.0) == 0.0
    ask_beside(pipeline, clock)
    assert len(candidate.asked) == 1
    # A tenth of the second in which it was asked counts as time that passed.
    assert pipeline.contests.wait(clock()) == pytest.approx(8.95)
    clock.advance(8.9)
    ask_beside(pipeline, clock)
    assert len(candidate.asked) == 1
    clock.advance(0.1)
    ask_beside(pipeline, clock)
    assert len(candidate.asked) == 2


def test_the_agent_compares_once_the_answers_are_on_their_way() -> None:
    """The answers of a slice are sent, the connection is used once more, without waiting, and then both models are asked."""
    link, candidate = FakeLink(), Rival()
    agent = make_agent(link, routes=[ROUTE])
    agent.step()
    contesting = Contesting(candidate, 0.0)
    pipeline = Pipeline([ROUTE], {"genre": FakeModel()}, contests={"genre": contesting})
    agent.take_over(agent._settings, agent._plan._replace(pipeline=pipeline))
    link.arrive(row(0.9))
    agent.step()
    assert [answer.topic for _, answers in link.answered for answer in answers] == ["out/kitchen"]
    assert candidate.asked == []
    agent.step()
    assert candidate.asked == [(0.9,)]
    assert contesting.describe()["agreement"] == 1.0
