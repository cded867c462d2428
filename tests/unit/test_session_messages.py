"""What a connection makes of messages, and of those that are more than was agreed on: without a socket."""

from __future__ import annotations

import pytest

from edge_agent.contract.messages import Answer, Carried, Message, Refused
from edge_agent.errors import SurplusError
from edge_agent.link.granted import Granted
from edge_agent.link.packets import Pong, Puback, Publish
from edge_agent.link.session import State
from tests.unit.sessions import Connection, in_subscribing, ready, surplus

# -- messages


def test_what_is_granted_holds_for_what_is_sent() -> None:
    made = ready(granted=Granted(receive_maximum=1, maximum_packet_size=100))
    for topic in ("a", "b"):
        made.session.publish(Answer(topic, b"", qos=1))
    made.session.publish(Answer("c", bytes(100), qos=1))
    made.session.pump()
    assert [one.topic for one in made.wire.published] == ["a"]
    assert made.session.delivery.refused == [Refused("c", "larger than the broker's limit of 100 bytes")]
    made.session.take([Puback(1)])
    made.session.pump()
    assert [one.topic for one in made.wire.published] == ["a", "b"]


def test_an_input_is_acknowledged_after_its_answer_is_confirmed() -> None:
    made = ready()
    made.session.take([Publish("in", b"1", 1, 7, duplicate=True, content_type="text/plain", retained=True)])
    (message,) = made.session.hand_over(unwritten=False)
    assert message[:4] == ("in", b"1", 1, "text/plain")
    assert (message.duplicate, message.retained) == (True, True)
    made.session.answer(message, [Answer("out", b"", qos=1)], bare=False)
    made.session.pump()
    assert made.wire.acknowledged == []
    made.session.take([Puback(1)])
    assert made.wire.acknowledged == [7]
    counted = made.tally
    assert (counted.received, counted.redelivered, counted.answered, counted.acknowledged) == (1, 1, 1, 1)
    assert made.session.hand_over(unwritten=False) == []


@pytest.mark.parametrize("bare", [False, True])
def test_an_answer_carries_over_what_is_left_of_its_question(bare: bool) -> None:
    made = ready()
    made.session.take([Publish("in", b"", carried=Carried(b"42", (("a", "b"),), 30))])
    (message,) = made.session.hand_over(unwritten=False)
    made.clock.advance(10.0)
    made.session.answer(message, [Answer("out", b"")], bare=bare)
    (sent,) = made.wire.published
    assert sent.carried == (None if bare else Carried(b"42", (("a", "b"),), 20))


def test_a_message_says_how_its_answer_is_to_be_explained() -> None:
    made = ready()
    made.session.take([Publish("in", b"", carried=Carried(user_properties=(("explain", "path"),))), Publish("in", b"")])
    assert [message.explain for message in made.session.hand_over(unwritten=False)] == ["path", None]


def test_a_message_that_nobody_sent_us_can_be_answered() -> None:
    made = ready()
    made.session.answer(Message("in", b""), [Answer("out", b"")], bare=False)
    assert [one.topic for one in made.wire.published] == ["out"]


def test_what_is_not_carried_over_is_noted() -> None:
    made = ready()
    made.session.take([Publish("in", b"", left="User Properties of more than 4096 bytes")])
    assert "not copied to the answer: User Properties of more than 4096 bytes" in str(vars(made.tally))


def test_a_topic_alias_stands_for_the_topic_it_was_given_last() -> None:
    made = ready()
    made.session.take([Publish("a", b"", alias=1), Publish("", b"", alias=1), Publish("b", b"", alias=1)])
    made.session.take([Publish("", b"", alias=1)])
    assert [one.topic for one in made.session.hand_over(unwritten=False)] == ["a", "a", "b", "b"]


@pytest.mark.parametrize("event", [Publish("", b"", alias=1), Publish("a", b"", alias=0), Publish("a", b"", alias=101)])
def test_an_alias_that_was_not_agreed_on_is_an_error(event: Publish) -> None:
    with pytest.raises(ValueError, match=f"the topic alias {event.alias}"):
        ready().session.take([event])


@pytest.mark.parametrize("event", [Publish("a", b""), Puback(1), Pong()])
def test_nothing_comes_before_connack(event: Publish | Puback | Pong) -> None:
    with pytest.raises(ValueError, match=f"{type(event).__name__} before CONNACK"):
        Connection().session.take([event])


def test_all_is_taken_when_the_ping_behind_it_is_answered() -> None:
    made = ready()
    made.session.publish(Answer("state", b"online"))
    assert not made.session.delivery.settle()
    assert made.wire.pings == 1
    made.session.take([Pong()])
    assert made.session.delivery.settle()


# -- more than was agreed on


def test_inputs_past_the_limit_are_left_and_end_the_connection_once_the_others_are_settled() -> None:
    made = ready()
    session = made.session
    session.take(surplus())
    session.take([Publish("late", b"", 1, 12), Publish("never owed", b"", 0)])
    messages = session.hand_over(unwritten=False)
    assert [one.topic for one in messages] == ["a"] * 10 + ["never owed"]
    assert session.ready
    for message in messages[:10]:
        assert session.hand_over(unwritten=False) == []
        session.answer(message, [], bare=False)
    assert made.wire.acknowledged == list(range(1, 11))
    assert session.hand_over(unwritten=True) == []  # the acknowledgements are not written yet
    with pytest.raises(SurplusError, match=r"more than 5 times mqtt.receive_maximum \(2\) at once"):
        session.hand_over(unwritten=False)
    assert session.end is None


def test_a_surplus_before_the_grant_is_ready_when_that_comes() -> None:
    made = in_subscribing()
    made.session.take(surplus())
    assert not made.session.ready
    made.session.subscribed(101, [None])
    assert (made.session.ready, made.session.state) == (True, State.EMPTYING)


def test_what_was_confirmed_before_the_end_still_counts() -> None:
    """Together in one read: otherwise a message that was taken would be suspected of having ended the connection."""
    made = ready()
    made.session.publish(Answer("a", b"", qos=1))
    made.session.pump()
    made.session.ended("Server busy")
    made.session.take([Puback(1)])
    assert made.session.delivery.unconfirmed == frozenset()


def test_nothing_is_kept_of_a_connection_that_is_over() -> None:
    made = ready()
    made.session.take([Publish("in", b"", 1, 7)])
    made.session.publish(Answer("a", b"", qos=1))
    made.session.clear()
    assert made.session.delivery.in_flight == 0
    assert made.session.hand_over(unwritten=False) == []
