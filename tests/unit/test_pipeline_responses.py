"""Where the pipeline sends the answers to messages with a Response Topic."""

from __future__ import annotations

import pytest

from edge_agent.contract.messages import Message
from tests.unit.test_pipeline import make


@pytest.mark.parametrize("payload", [b'{"loudness": 0.9}', b"{}"])
@pytest.mark.parametrize("topic", ["client7/response", "client7/response/1/2", "try/x"])
def test_the_answer_goes_where_its_sender_wants_it(payload: bytes, topic: str) -> None:
    pipeline = make()
    ((answer,),) = pipeline.process([Message("music/a/features", payload, response_topic=topic)])
    assert answer.topic == topic
    assert pipeline.tally.take_notes() == []


@pytest.mark.parametrize(
    "topic", ["", "a/+", "$SYS/x", "edge/x/request/info", "music/b/features", "music/b/genre", "answers/1"]
)
def test_elsewhere_it_goes_as_without_a_response_topic_and_that_is_noted(topic: str) -> None:
    pipeline = make()
    ((answer,),) = pipeline.process([Message("music/a/features", b'{"loudness": 0.9}', response_topic=topic)])
    assert answer.topic == "music/a/genre"
    ((what, count, example),) = pipeline.tally.take_notes()
    assert what.startswith("Response Topic not followed")
    assert (count, example) == (1, topic)


def test_the_setting_that_would_allow_it_is_named() -> None:
    pipeline = make(response_topics=["answers/+"])
    first, second = pipeline.process(
        [Message("music/a/features", b"{}", response_topic=topic) for topic in ("answers/1", "try/1")]
    )
    assert (first[0].topic, second[0].topic) == ("answers/1", "music/a/genre/error")
    assert "mqtt.response_topics" in pipeline.tally.take_notes()[0][0]
