"""Two versions of a model in one pipeline: each answer is that of one of them, and a sensor never goes back."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.card import ModelCard
from edge_agent.contract.messages import Answer, Message
from edge_agent.contract.templates import Template
from edge_agent.payload import formats
from edge_agent.payload.cbor import CONTENT_TYPE as CBOR_TYPE
from edge_agent.payload.senml import CONTENT_TYPE as SENML_TYPE
from edge_agent.routing.routes import Route
from edge_agent.serving.contest import Contesting, place_of
from edge_agent.serving.pipeline import Pipeline
from edge_agent.serving.writing import Settled
from edge_agent.testing import FakeModel, make_card
from tests.unit.rivals import ROUTE, Rival, ask_beside, compare, contested, row
from tests.unit.test_tasks import ALARM, ONE, Graph

pytest.importorskip("cbor2", reason="cbor2 is not installed: pip install '.[cbor]'")

SENSORS = [f"s{number}" for number in range(12)]
SHARES = (0.0, 0.2, 0.6, 1.0)
CARD = make_card(("loudness", "tempo"))
GATHERS = Route("genre", Template("home/{s}/{feature}"), Template("out/{s}"), Template("out/{s}/error"))


def make(model: FakeModel, route: Route) -> Pipeline:
    return Pipeline([route], {"genre": model})


def version_of(answer: Answer) -> str:
    content = json.loads(answer.payload)
    version: str = (content[0] if isinstance(content, list) else content)["version"]
    return version


def encoded(content: Any, content_type: str | None) -> bytes:
    if content_type == SENML_TYPE:
        rows = content if isinstance(content, list) else [content]
        return json.dumps([{"n": name, "v": value} for one in rows[:1] for name, value in one.items()]).encode()
    answering = formats.find(content_type)
    return json.dumps(content).encode() if content_type is None or answering is None else answering.encode(content)


VALUES = st.floats(-0.2, 1.2).map(lambda value: round(value, 2))
ROWS = st.fixed_dictionaries({"loudness": VALUES}, optional={"tempo": VALUES, "id": st.integers(0, 9)})
CONTENTS = st.one_of(ROWS, st.lists(ROWS, max_size=4))
MESSAGES = st.lists(
    st.tuples(st.sampled_from(SENSORS), CONTENTS, st.sampled_from([None, CBOR_TYPE, SENML_TYPE])), max_size=12
)


@pytest.mark.parametrize(
    "options", [{}, {"outside": "reject"}, {"min_confidence": 0.7}, {"name_sensor": True}], ids=str
)
@given(MESSAGES, st.sampled_from(SHARES))
def test_each_answer_is_that_of_one_of_them(
    options: dict[str, Any], sent: list[tuple[str, Any, str | None]], share: float
) -> None:
    route = ROUTE._replace(**options)
    messages = [Message(f"in/{sensor}/x", encoded(content, kind), 1, kind) for sensor, content, kind in sent]
    old, new = FakeModel(CARD), Rival(above=0.3, card=CARD)
    pipeline, _ = contested(new, share, before=old, routes=[route])
    alone = {version: make(model, route).process(messages) for version, model in (("old", old), ("new", new))}
    answers = pipeline.process(messages)
    for message, mine, olds, news in zip(messages, answers, alone["old"], alone["new"], strict=True):
        assert mine == (news if place_of(message.topic) < share else olds)
    counted = pipeline.tally.total
    ask_beside(pipeline)
    assert (counted.predictions, counted.rejections) == (
        pipeline.tally.total.predictions,
        pipeline.tally.total.rejections,
    )


@given(
    st.lists(st.tuples(st.sampled_from(SENSORS), st.sampled_from(["loudness", "tempo"]), VALUES), max_size=30),
    st.sampled_from(SHARES),
)
def test_gathered_sensors_too(sent: list[tuple[str, str, float]], share: float) -> None:
    messages = [Message(f"home/{sensor}/{feature}", json.dumps(value).encode(), 1) for sensor, feature, value in sent]
    old, new = FakeModel(CARD), Rival(above=0.3, card=CARD)
    pipeline, _ = contested(new, share, before=old, routes=[GATHERS])
    alone = [make(model, GATHERS).process(messages) for model in (old, new)]
    for mine, olds, news in zip(pipeline.process(messages), *alone, strict=True):
        assert mine == [
            later if place_of(before.topic.removesuffix("/error")) < share else before
            for before, later in zip(olds, news, strict=True)
        ]


def test_delayed_answers_are_of_the_same_version() -> None:
    route = GATHERS._replace(debounce=2.0)
    pipeline, _ = contested(Rival(card=CARD), 0.5, before=FakeModel(CARD), routes=[route])
    messages = [Message(f"home/{one}/{what}", b"0.9", 1) for one in SENSORS for what in ("loudness", "tempo")]
    assert not any(pipeline.process(messages, 0.0))
    answers = pipeline.due(3.0, limit=100)
    assert {answer.topic: version_of(answer) for answer in answers} == {
        f"out/{one}": "2.0.0" if place_of(f"out/{one}") < 0.5 else "1.0.0" for one in SENSORS
    }


@pytest.mark.parametrize("card", [ONE, ALARM], ids=["regression", "anomaly"])
@pytest.mark.parametrize("share", SHARES)
def test_numbers_and_verdicts(card: ModelCard, share: float) -> None:
    new = Graph(card.model_copy(update={"version": "2.0.0"}))
    pipeline, contesting = contested(new, share, before=Graph(card))
    messages = [row(number / 10, sensor) for number, sensor in enumerate(SENSORS[:10])]
    alone = make(new, ROUTE).process(messages), make(Graph(card), ROUTE).process(messages)
    for message, mine, news, olds in zip(messages, pipeline.process(messages), *alone, strict=True):
        assert mine == (news if place_of(message.topic) < share else olds)
    for _ in range(10):
        ask_beside(pipeline)
    assert contesting.describe()["agreement"] == 1.0


def test_what_is_outside_is_told_by_the_model_that_answers() -> None:
    """The gathering marks a row by the card of the model before; the candidate was trained on other values."""
    wide = CARD.features[0].model_copy(update={"maximum": 9.0})
    narrow = wide.model_copy(update={"quantiles": (*wide.quantiles[:-1], 5.0)})
    old, new = (CARD.model_copy(update={"features": (one, CARD.features[1])}) for one in (wide, narrow))
    for route in (GATHERS, GATHERS._replace(partial="merge", subscribe=Template("home/{s}/x"))):
        pipeline, _ = contested(Rival(card=new), 0.5, before=FakeModel(old), routes=[route])
        for sensor in SENSORS:
            if route is GATHERS:
                pipeline.process([Message(f"home/{sensor}/tempo", b"0.5", 1)])
                last = Message(f"home/{sensor}/loudness", b"3", 1)
            else:
                last = Message(f"home/{sensor}/x", b'{"loudness": 3, "tempo": 0.5}', 1)
            ((answer,),) = pipeline.process([last])
            content = json.loads(answer.payload)
            is_new = place_of(f"out/{sensor}") < 0.5
            assert (content["version"], "outside" in content) == (("2.0.0", False) if is_new else ("1.0.0", True))


def test_a_growing_share_takes_no_sensor_back() -> None:
    topics = [f"music/{number}/features" for number in range(2000)]
    within = [{topic for topic in topics if place_of(topic) < share} for share in (0.0, 0.01, 0.1, 0.5, 1.0)]
    assert all(less < more for less, more in itertools.pairwise(within))
    assert len(within[-1]) == len(topics)
    assert 150 < len(within[2]) < 250
    # The same on each node and after each start: it is written here for whoever counts on it.
    assert round(place_of("music/kitchen/features"), 6) == 0.340716


@given(st.lists(st.sampled_from(SENSORS), min_size=1, max_size=40), st.lists(st.sampled_from(SHARES), max_size=4))
def test_a_sensor_changes_over_once(sensors: list[str], shares: list[float]) -> None:
    """From the plan with the old model over any that grow to the plan with the new one, as reloads do it."""
    old, new = FakeModel(), Rival()
    plans = [make(old, ROUTE), *(contested(new, share, before=old)[0] for share in sorted(shares)), make(new, ROUTE)]
    versions: dict[str, list[str]] = {}
    for former, plan in zip([None, *plans], plans, strict=False):
        if former is not None:
            plan.take_over(former)
        for sensor, (answer,) in zip(sensors, plan.process([row(0.9, sensor) for sensor in sensors]), strict=True):
            versions.setdefault(sensor, []).append(version_of(answer))
    assert all(told == sorted(told) for told in versions.values())
    assert all({told[0], told[-1]} == {"1.0.0", "2.0.0"} for told in versions.values())


def test_routes_that_ask_otherwise_and_models_without_a_candidate() -> None:
    """Each way of asking has its own engines; what they find is counted together. Another model is left alone."""
    routes = [
        ROUTE,
        ROUTE._replace(subscribe=Template("b/{s}/x"), min_confidence=0.9),
        ROUTE._replace(subscribe=Template("c/{s}/x"), model="other"),
        ROUTE._replace(subscribe=Template("d/{s}/x"), model="absent"),
    ]
    contesting = Contesting(Rival(), 1.0)
    models = {"genre": FakeModel(), "other": FakeModel()}
    pipeline = Pipeline(routes, models, contests={"genre": contesting, "absent": Contesting(Rival(), 1.0)})
    messages = [Message(f"{which}/a/x", b'{"loudness": 0.9}', 1) for which in ("in", "b", "c", "d")]
    answers = [answer for per in pipeline.process(messages) for answer in per]
    assert [json.loads(answer.payload).get("version") for answer in answers] == ["2.0.0", "2.0.0", "1.0.0", None]
    assert json.loads(answers[3].payload)["error"] == "model_unavailable"
    ask_beside(pipeline)
    assert contesting.describe()["rows"] == 2


class Seen:
    """An observer that keeps which versions answered, and how many rows."""

    def __init__(self) -> None:
        self.versions: list[str] = []

    def note(self, sensors: Sequence[str], rows: Sequence[Any], answers: Sequence[Settled | None]) -> None:
        assert len(sensors) == len(rows) == len(answers)
        self.versions += [str(one.bare["version"]) for one in answers if one is not None]


@pytest.mark.parametrize("share", SHARES)
def test_an_observer_sees_the_model_that_answers_most_and_nothing_that_is_asked_beside(share: float) -> None:
    seen = Seen()
    pipeline, contesting = contested(Rival(), share, observers={"genre": seen})
    pipeline.process([row(0.9, sensor) for sensor in SENSORS])
    expected = len(SENSORS) - sum(place_of(f"in/{sensor}/x") < share for sensor in SENSORS)
    assert seen.versions == (["2.0.0"] * len(SENSORS) if share == 1 else ["1.0.0"] * expected)
    for _ in range(5):
        ask_beside(pipeline)
    assert contesting.describe()["rows"] == len(SENSORS)
    assert len(seen.versions) == (len(SENSORS) if share == 1 else expected)


def test_latencies_are_counted_for_either_version() -> None:
    pipeline, _ = contested(Rival(), 0.5)
    pipeline.tally.detailed = True
    pipeline.process([row(0.9, sensor) for sensor in SENSORS])
    pipeline.took(0.002)
    assert sum(pipeline.counts[ROUTE].latencies) == len(SENSORS)


def test_an_undeliverable_answer_names_the_version_that_made_it() -> None:
    pipeline, _ = contested(Rival(), 0.5)
    told = {sensor: version_of(pipeline.undeliverable(row(0.9, sensor))[0]) for sensor in SENSORS}
    assert told == {sensor: "2.0.0" if place_of(f"in/{sensor}/x") < 0.5 else "1.0.0" for sensor in SENSORS}


def test_features_that_a_gathering_does_not_have_change_over_at_the_end() -> None:
    more = make_card(("loudness", "tempo", "energy"))

    def answers(share: float, features: Sequence[str]) -> set[str]:
        pipeline, _ = contested(Rival(card=more), share, before=FakeModel(CARD), routes=[GATHERS])
        messages = [Message(f"home/{one}/{what}", b"0.9", 1) for one in SENSORS for what in features]
        return {version_of(answer) for per in pipeline.process(messages) for answer in per}

    assert answers(0.9, CARD.feature_names) == {"1.0.0"}
    assert answers(1.0, CARD.feature_names) == set()
    assert answers(1.0, more.feature_names) == {"2.0.0"}


def test_compare_after_all() -> None:
    """The helper of these tests asks what the agent asks."""
    pipeline, contesting = contested(Rival(above=0.3))
    compare(pipeline, [row(0.4)] * 3)
    assert contesting.describe()["agreement"] == 0.0
