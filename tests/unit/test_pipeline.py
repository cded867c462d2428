"""Messages in, answers out: exactly one a message and route, in order, and nothing raises."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.answers import Prediction
from edge_agent.contract.messages import MAX_SHOWN, Answer, ErrorCode, Message, Rejection, validator
from edge_agent.contract.templates import Template
from edge_agent.payload.features import MAX_BATCH_ROWS
from edge_agent.payload.places import Place
from edge_agent.routing.routes import Route, told_overlaps
from edge_agent.serving.pipeline import Pipeline
from edge_agent.tally import Tally
from edge_agent.testing import ROUTE, FakeModel, make_card
from tests.unit.strategies import ANY_LEVEL, payloads

SECOND = Route(
    "second",
    Template("music/{sensor}/features"),
    Template("other/{sensor}"),
    Template("other/{sensor}/bad"),
)


def ask(pipeline: Pipeline, payload: object, topic: str = "music/kitchen/features", qos: int = 1) -> Answer:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    ((answer,),) = pipeline.process([Message(topic, data, qos)])
    return answer


def read(answer: Answer) -> Any:
    """The content of an answer, held against the wire contract."""
    content = json.loads(answer.payload)
    for row in content if isinstance(content, list) else [content]:
        kind = Rejection if "error" in row else Prediction
        validator(kind).validate_json(json.dumps(row), strict=True)
        # A typed dictionary lets more keys through than it has.
        assert row.keys() <= kind.__annotations__.keys()
        if kind is Prediction:
            assert row["confidence"] == row["probabilities"][row["label"]]
    return content


def make(model: FakeModel | None = None, **options: Any) -> Pipeline:
    return Pipeline([ROUTE], {"genre": model or FakeModel()}, **options)


def test_a_prediction() -> None:
    answer = ask(make(), {"loudness": 0.75, "id": 7, "time": "now"})
    assert answer.topic == "music/kitchen/genre"
    assert answer.content_type == "application/json"
    assert not answer.retain
    assert read(answer) == {
        "label": "Rock",
        "confidence": 1.0,
        "probabilities": {"Hip-Hop": 0.0, "Rock": 1.0},
        "model": "genre",
        "version": "1.0.0",
        "id": 7,
        "time": "now",
    }


def test_a_rejection() -> None:
    answer = ask(make(), {"loudness": "loud", "id": 7})
    assert answer.topic == "music/kitchen/genre/error"
    assert read(answer) == {
        "error": "invalid_features",
        "detail": [
            {
                "type": "float_parsing",
                "loc": ["loudness"],
                "msg": "Input should be a valid number, unable to parse string as a number",
                "input": "loud",
            }
        ],
        "topic": "music/kitchen/features",
        "model": "genre",
        "version": "1.0.0",
        "id": 7,
    }


@pytest.mark.parametrize("level", ["x" * 200, "ä" * 60_000, "\U0001f3b5" * 40])
def test_a_long_topic_is_cut(level: str) -> None:
    topic = read(ask(make(), {}, topic=f"music/{level}/features"))["topic"]
    assert topic.startswith(f"music/{level[:10]}")
    assert topic.endswith(f"{level[0]}…")
    assert len(topic.encode()) <= MAX_SHOWN + 3


@pytest.mark.parametrize(
    ("payload", "content_type", "code"),
    [
        (b"{}", None, ErrorCode.INVALID_FEATURES),
        (b"?", None, ErrorCode.MALFORMED_PAYLOAD),
        (b'{"loudness": 0.5}'.ljust(101), None, ErrorCode.PAYLOAD_TOO_LARGE),
        (b"[{},{},{},{}]", None, ErrorCode.PAYLOAD_TOO_LARGE),
        (b'{"loudness": 0.5}', "text/csv", ErrorCode.UNSUPPORTED_CONTENT_TYPE),
    ],
)
def test_each_reason_has_its_code(payload: bytes, content_type: str | None, code: ErrorCode) -> None:
    pipeline = make(max_bytes=100, max_rows=3)
    ((answer,),) = pipeline.process([Message("music/a/features", payload, 1, content_type)])
    assert answer.topic == "music/a/genre/error"
    assert read(answer)["error"] == code
    assert pipeline.tally.total.rejections == {code: 1}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_answer_goes_out_at_the_qos_its_question_came_with(qos: int) -> None:
    questions: list[object] = [{"loudness": 1}, {}, [], b"?"]
    for payload in questions:
        assert ask(make(), payload, qos=qos).qos == qos


def test_a_batch_answers_in_order_with_rejections_in_place() -> None:
    answer = ask(make(), [{"loudness": 1, "id": "a"}, {"id": "b"}, {"loudness": "0", "id": "c"}, None])
    assert answer.topic == "music/kitchen/genre"
    rows = read(answer)
    assert [row.get("id") for row in rows] == ["a", "b", "c", None]
    assert [row.get("label") for row in rows] == ["Rock", None, "Hip-Hop", None]
    assert rows[1]["error"] == rows[3]["error"] == "invalid_features"
    assert rows[1]["topic"] == "music/kitchen/features"


@pytest.mark.parametrize(("batch", "expected"), [([], []), ([{}], ["invalid_features"])])
def test_a_batch_is_answered_by_a_batch(batch: list[Any], expected: list[str]) -> None:
    answer = ask(make(), batch)
    assert answer.topic == "music/kitchen/genre"
    assert [row["error"] for row in read(answer)] == expected


def test_all_rows_of_all_messages_go_through_one_call() -> None:
    model = FakeModel()
    messages = [Message("music/a/features", b'{"loudness": 0.9}')] * 5
    messages += [
        Message("music/b/features", b'[{"loudness": 0.1}, {}, {"loudness": 0.2}]'),
        Message("music/c/features", b"?"),
    ]
    answers = make(model).process(messages)
    assert model.calls == [7]
    assert [len(one) for one in answers] == [1] * 7
    assert [read(one[0])["label"] for one in answers[:5]] == ["Rock"] * 5


def test_the_model_is_not_asked_about_nothing() -> None:
    model = FakeModel()
    pipeline = make(model)
    assert pipeline.process([]) == []
    pipeline.process([Message("music/a/features", b"?"), Message("elsewhere", b"{}")])
    assert model.calls == []


def test_answers_come_in_the_order_of_the_messages() -> None:
    messages = [
        Message(f"music/{number}/features", json.dumps({"loudness": 0.9 if number % 3 else "?", "id": number}).encode())
        for number in range(20)
    ]
    answers = make().process(messages)
    assert [read(one)["id"] for (one,) in answers] == list(range(20))
    assert [one.topic.split("/")[1] for (one,) in answers] == [str(number) for number in range(20)]


def test_every_route_answers_in_the_order_of_the_routes_of_each_model() -> None:
    other = FakeModel(make_card(("loudness", "tempo")))
    pipeline = Pipeline([ROUTE, SECOND], {"genre": FakeModel(), "second": other})
    ((first, second),) = pipeline.process([Message("music/k/features", b'{"loudness": 0.9}', 1)])
    assert (first.topic, second.topic) == ("music/k/genre", "other/k/bad")
    assert "label" in read(first)
    assert read(second)["detail"][0]["loc"] == ["tempo"]


def test_two_routes_to_one_model_answer_both() -> None:
    model = FakeModel()
    pipeline = Pipeline([ROUTE, SECOND._replace(model="genre")], {"genre": model})
    ((first, second),) = pipeline.process([Message("music/k/features", b'{"loudness": 0.9}')])
    assert (first.topic, second.topic) == ("music/k/genre", "other/k")
    assert first.payload == second.payload
    assert model.calls == [2]


@pytest.mark.parametrize("topic", ["", "music", "music/a/b/features", "$SYS/features", "edge/node/request/ping"])
def test_a_topic_of_no_route_has_no_answer(topic: str) -> None:
    assert make().process([Message(topic, b"{}", 1)]) == [[]]


def test_of_routes_that_share_a_topic_the_first_has_it() -> None:
    tasmota = ROUTE._replace(
        subscribe=Template("tele/{device}/SENSOR"), publish=Template("a/{device}"), errors=Template("e")
    )
    shelly = ROUTE._replace(
        subscribe=Template("{device}/status/{part}"), publish=Template("b/{device}"), errors=Template("e")
    )
    topics = ("tele/x/SENSOR", "x/status/y", "tele/status/SENSOR")
    for routes, expected in (
        ((tasmota, shelly), ["a/x", "b/x", "a/status"]),
        ((shelly, tasmota), ["a/x", "b/x", "b/tele"]),
    ):
        pipeline = Pipeline(routes, {"genre": FakeModel()})
        found = pipeline.process([Message(topic, b'{"loudness": 0.9}') for topic in topics])
        assert [answer.topic for (answer,) in found] == expected
        assert told_overlaps(routes) == [
            "routes 1 and 2 both take 'tele/status/SENSOR': route 1, which comes first, gets it"
        ]
    # Those with the same filter have it together.
    pipeline = Pipeline([tasmota, shelly, tasmota._replace(publish=Template("c/{device}"))], {"genre": FakeModel()})
    (answers,) = pipeline.process([Message("tele/status/SENSOR", b'{"loudness": 0.9}')])
    assert [answer.topic for answer in answers] == ["a/status", "c/status"]


@pytest.mark.parametrize("topic", ["music/+/features", "music/#/features", "music/\0/features"])
def test_a_topic_that_no_message_may_have_is_of_no_route(topic: str) -> None:
    assert make().process([Message(topic, b"{}", 1)]) == [[]]


def test_a_route_without_its_model_says_so() -> None:
    pipeline = Pipeline([ROUTE, SECOND], {"genre": FakeModel()})
    ((served, unserved),) = pipeline.process([Message("music/k/features", b'{"loudness": 0.9}', 1)])
    assert "label" in read(served)
    assert unserved.topic == "other/k/bad"
    content = read(unserved)
    assert (content["error"], content["model"], content["version"]) == ("model_unavailable", "second", None)
    assert pipeline.tally.total.rejections == {"model_unavailable": 1}


def test_a_model_that_raises_fails_its_messages_and_no_others(caplog: pytest.LogCaptureFixture) -> None:
    broken = FakeModel()
    broken.broken = RuntimeError("out of luck")
    pipeline = Pipeline([ROUTE, SECOND], {"genre": broken, "second": FakeModel()})
    with caplog.at_level(logging.ERROR):
        answers = pipeline.process([Message("music/k/features", b'{"loudness": 0.9, "id": 3}', 1)] * 2)
    for first, second in answers:
        content = read(first)
        assert (content["error"], content["id"]) == ("inference_failed", 3)
        assert first.topic == "music/k/genre/error"
        assert "label" in read(second)
    # Once for the batch, not once a message; the reason is for the log, not for whoever sent the message.
    assert len(caplog.records) == 1
    assert "out of luck" not in answers[0][0].payload.decode()
    broken.broken = None
    assert "label" in read(ask(make(broken), {"loudness": 0.9}))


class Liar(FakeModel):
    """A model whose answers have the wrong shape."""

    def __init__(self, *outputs: tuple[str, tuple[float, ...]]) -> None:
        super().__init__()
        self.outputs = outputs

    def predict(self, rows: Sequence[Sequence[float]]) -> Sequence[Hashable]:  # noqa: ARG002
        return self.outputs

    def read(self, output: Any) -> tuple[str, list[float]]:
        label, probabilities = output
        return label, list(probabilities)


@pytest.mark.parametrize(
    "outputs",
    [
        (),
        (("Rock", ()),),
        (("Rock", (0.0, 1.0)), ("Rock", (0.0, 1.0))),
        (("Jazz", (0.0, 1.0)),),
        (("Rock", (1.0,)),),
        (("Rock", (0.0, 0.5, 0.5)),),
        (("Rock", (0.0, float("nan"))),),
    ],
)
def test_a_model_that_answers_nonsense_fails_the_message(outputs: tuple[tuple[str, tuple[float, ...]], ...]) -> None:
    pipeline = make(Liar(*outputs))
    content = read(ask(pipeline, {"loudness": 0.9, "id": 1}))
    assert (content["error"], content["id"]) == ("inference_failed", 1)
    assert pipeline.tally.total.predictions == 0


def test_what_happened_is_counted() -> None:
    tally = Tally()
    pipeline = make(tally=tally)
    assert pipeline.tally is tally
    ask(pipeline, [{"loudness": 0.5}, {}, {"loudness": True}])
    ask(pipeline, b"?")
    assert tally.total.predictions == 1
    assert tally.total.rejections == {"invalid_features": 2, "malformed_payload": 1}
    assert tally.take_reasons() == (
        "3 rejected: 1 x invalid_features (loudness: missing), 1 x invalid_features (loudness: float_type), "
        "1 x malformed_payload"
    )


def test_the_log_says_where_something_was_looked_for_in_vain() -> None:
    nested = ROUTE._replace(fields=(("loudness", Place(("AM2301", "Loudness"))),))
    pipeline = Pipeline([nested], {"genre": FakeModel()})
    assert read(ask(pipeline, {}))["detail"][0]["msg"] == "Field required at AM2301.Loudness"
    assert pipeline.tally.take_reasons() == ("1 rejected: 1 x invalid_features (loudness: missing at AM2301.Loudness)")


def test_the_topics_that_are_remembered_are_bounded() -> None:
    pipeline = make()
    for number in range(0, 25_000, 500):
        pipeline.process([Message(f"music/{one}/features", b"x") for one in range(number, number + 500)])
    assert len(pipeline._targets) <= 10_000
    long = [f"music/{'x' * 60_000}{one}/features" for one in range(20)]
    assert [len(one) for one in pipeline.process([Message(topic, b"x") for topic in long])] == [1] * 20
    assert pipeline._targets.keys().isdisjoint(long)


class Watching:
    """Wants to know each topic once, until it forgets them."""

    def __init__(self) -> None:
        self.known: dict[str, None] = {}
        self.edition = 1
        self.met: list[str] = []

    def meet(self, route: Route, topic: str, content_type: str) -> None:
        assert (route, content_type) == (ROUTE, "application/json")
        self.known[topic] = None
        self.met.append(topic)


def test_a_watcher_is_told_of_topics_that_it_does_not_know() -> None:
    watching = Watching()
    pipeline, good = make(watcher=watching), b'{"loudness": 0.9}'

    def told_of(*payloads: bytes) -> list[str]:
        watching.met.clear()
        pipeline.process([Message("music/hall/features", payload, 1) for payload in payloads])
        return watching.met

    assert told_of(b"{}") == []  # a rejection is no prediction
    assert told_of(good, good) == ["music/hall/genre"]
    assert told_of(good, b"{}", good) == []
    watching.known.clear()
    watching.edition += 1
    assert told_of(good, good) == ["music/hall/genre"]


def test_a_batch_of_the_most_rows() -> None:
    content = read(ask(make(), [{"loudness": 0.9}] * MAX_BATCH_ROWS))
    assert len(content) == MAX_BATCH_ROWS


@given(
    messages=st.lists(
        st.tuples(
            st.one_of(
                ANY_LEVEL.map(lambda level: f"music/{level}/features"),
                st.lists(ANY_LEVEL, max_size=4).map("/".join),
            ),
            payloads(("loudness", "tempo")),
            st.integers(0, 2),
            st.one_of(st.none(), st.just("application/json"), st.text(max_size=20)),
        ).map(lambda parts: Message(*parts)),
        max_size=4,
    )
)
def test_no_message_crashes_it_and_each_is_answered_once_a_route(messages: list[Message]) -> None:
    models = {"genre": FakeModel(), "second": FakeModel(make_card(("loudness", "tempo"), minimum=None, maximum=None))}
    pipeline = Pipeline([ROUTE, SECOND], models)
    answers = pipeline.process(messages)
    assert len(answers) == len(messages)
    for message, given_ in zip(messages, answers, strict=True):
        captured = ROUTE.subscribe.match(message.topic)
        if captured is None or not message.payload:
            assert given_ == []
            continue
        for answer, route in zip(given_, (ROUTE, SECOND), strict=True):
            content = read(answer)
            rejected = isinstance(content, dict) and "error" in content
            assert answer.topic == (route.errors if rejected else route.publish).render(captured)
            assert answer.qos == message.qos
            if rejected:
                assert content["topic"] == message.topic
            # No answer is much larger than its question: what it repeats is what was echoed, and bounded pieces.
            rows = max(1, len(content)) if isinstance(content, list) else 1
            assert len(answer.payload) <= rows * 2000 + 10 * (len(message.payload) + len(message.topic))
