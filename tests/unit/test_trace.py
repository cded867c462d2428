"""`log.level = "debug"` follows a message from its arrival to its answer, in lines that stay short."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from edge_agent.contract.messages import Answer, Message
from edge_agent.link.delivery import Delivery
from edge_agent.link.packets import Puback
from edge_agent.payload.features import Features
from edge_agent.payload.formats import JSON
from edge_agent.serving import trace
from edge_agent.tally import Counts, Tally
from edge_agent.testing import FakeLink, make_agent
from tests.unit.agents import GOOD
from tests.unit.sessions import Wire


@pytest.fixture(autouse=True)
def debug(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, "edge_agent"):
        yield


def traced(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]


def serve(message: Message) -> None:
    link = FakeLink()
    agent = make_agent(link)
    agent.step()
    link.arrive(message)
    agent.step()


def test_a_message_and_its_answer_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    serve(Message("music/hall/features", GOOD, 1))
    question, route, features, answer = traced(caplog)
    assert question.startswith(f"music/hall/features: received, {len(GOOD)} bytes at QoS 1: ")
    assert route == "music/hall/features: route to music/{sensor}/genre, model genre"
    assert features == "music/hall/features: for genre: loudness=0.9"
    assert answer.startswith("music/hall/genre: answers music/hall/features, ")
    assert '"label"' in answer


def test_a_topic_without_a_route_is_said(caplog: pytest.LogCaptureFixture) -> None:
    serve(Message("elsewhere", b"x", duplicate=True))
    assert traced(caplog) == [
        "elsewhere: received, redelivered, 1 bytes at QoS 0: 'x'",
        "elsewhere: no route takes it",
        "elsewhere: nothing to answer now",
    ]


def test_no_line_grows_with_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    payload = json.dumps({"tempo": "\x1b]0;pwned" * 10_000}).encode()
    serve(Message(f"music/{'x' * 60_000}/features", payload, 1, retained=True))
    assert len(traced(caplog)) == 4
    assert all(len(line) < 1000 for line in traced(caplog))
    assert "received, retained" in traced(caplog)[0]


def test_the_reason_of_a_rejection_and_the_rows_of_a_batch_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    serve(Message("music/hall/features", b'{"loudness": 7}', 1))
    assert "music/hall/features: for genre: rejected, invalid_features (loudness: less_than_equal)" in traced(caplog)
    caplog.clear()
    serve(Message("music/hall/features", b'[{"loudness": 0.7}, {"loudness": 7}, {"loudness": 0.1}]', 1))
    assert "music/hall/features: for genre: 2 rows, 1 rejected" in traced(caplog)


def test_a_request_has_no_route_and_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    serve(Message("edge/node/request/ping", b"x", 1))
    (question, answer) = traced(caplog)
    assert question.startswith("edge/node/request/ping: received")
    assert answer.startswith("edge/node/response/ping: answers edge/node/request/ping")


def test_the_features_of_a_large_model_stay_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{'f' * 90}{number}" for number in range(2000)]
    trace.asked("m" * 1000, names, [("t" * 60_000, Features((0.123456789,) * 2000, {}), JSON, None, Counts())])
    (line,) = traced(caplog)
    assert len(line) < 1300


def test_an_input_is_known_by_its_packet_until_it_is_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    delivery = Delivery(Wire(), Tally())
    debt = delivery.ledger.receive(17)
    trace.received([Message("music/hall/features", b"x", 1, token=(debt, None))], lambda _: [])
    delivery.answer(debt, [Answer("music/hall/genre", b"{}", 1)], 0)
    delivery.pump({})
    delivery.confirmed(Puback(1, None))
    received, _, *confirmed = traced(caplog)
    assert "received as packet 17, " in received
    assert confirmed == ["music/hall/genre: confirmed by the broker", "packet 17: acknowledged"]


def test_nothing_is_shown_at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edge_agent")
    serve(Message("music/hall/features", GOOD, 1))
    assert traced(caplog) == []


@pytest.mark.parametrize(("refused", "said"), [(None, "confirmed by the broker"), ("Not authorized", "Not authorized")])
def test_what_the_broker_says_is_shown(refused: str | None, said: str, caplog: pytest.LogCaptureFixture) -> None:
    delivery = Delivery(Wire(), Tally())
    delivery.send(Answer("music/hall/genre", b"{}", 1), 0)
    delivery.pump({})
    delivery.confirmed(Puback(1, refused))
    assert traced(caplog) == [f"music/hall/genre: {said}"]
