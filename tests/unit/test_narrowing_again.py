"""Filters over which the broker ends the connection are tried again: when, in which order, and what becomes of it."""

from __future__ import annotations

from edge_agent.contract.messages import Answer, Refused
from edge_agent.errors import NarrowedError
from edge_agent.link.granted import ENDS
from tests.unit.test_narrowing import Broker, again, forbids, refused


def test_what_ends_no_connection_is_asked_for_again_without_what_does() -> None:
    broker = Broker(forbids("b"))
    made = broker.settle("a", "b")
    made.session.subscribe(dict.fromkeys(("a", "b", "c"), False))
    broker.serve(made)
    assert made.session.ready
    assert made.asker.sent[-1] == ("subscribe", ["c"])
    assert refused(made) == [Refused("b", ENDS)]


def test_what_was_convicted_last_is_tried_first_and_what_is_convicted_again_last() -> None:
    broker = Broker(forbids("b", "c"))
    broker.settle("a", "b", "c")
    broker.ends_over = forbids("b", "c", "d")
    made = broker.settle("a", "b", "c", "d")
    broker.ends_over = forbids("b")
    again(made, "a", "b", "c", "d")
    broker.serve(made)
    assert [filters for _, filters in made.asker.sent[-3:]] == [["d"], ["c"], ["b"]]
    assert made.session.end is not None
    made = broker.connect("a", "b", "c", "d")
    assert refused(made) == [Refused("b", ENDS)]


def test_a_convicted_one_is_tried_again_last_and_alone_and_one_end_is_enough() -> None:
    broker = Broker(forbids("b", "c"))
    made = broker.settle("a", "b", "c")
    again(made, "a", "b", "c", "d")
    broker.serve(made)
    assert made.asker.sent[-2:] == [("subscribe", ["d"]), ("subscribe", ["c"])]
    assert isinstance(made.session.end, NarrowedError)
    made = broker.connect("a", "b", "c", "d")
    assert made.session.ready
    assert {one.topic for one in refused(made)} == {"b", "c"}
    again(made, "a", "b", "c", "d")
    broker.serve(made)
    assert made.asker.sent[-1] == ("subscribe", ["b"]), "the one that has waited longest"


def test_a_convicted_one_that_is_allowed_by_now_is_granted() -> None:
    broker = Broker(forbids("b", "c"))
    made = broker.settle("a", "b", "c")
    broker.ends_over = forbids()
    again(made, "a", "b", "c")
    broker.serve(made)
    assert made.session.ready
    assert refused(made) == []
    assert {*broker.granted} == {"a", "b", "c"}
    assert refused(broker.connect("a", "b", "c")) == []


def test_the_connection_after_one_that_granted_it_is_as_ever() -> None:
    broker = Broker(forbids("b"))
    made = broker.settle("a", "b")
    broker.ends_over = forbids()
    again(made, "a", "b")
    broker.serve(made)
    made.session.gone()
    made = broker.connect("a", "b")
    assert made.session.ready
    assert made.asker.sent == [("subscribe", ["a", "b"])]


def test_one_that_is_given_up_and_wanted_again_during_its_trial_is_asked_for() -> None:
    broker = Broker(forbids("b"))
    made = broker.settle("a", "b")
    again(made, "a", "b")
    again(made, "a")
    again(made, "a", "b")
    made.session.pump()
    assert made.asker.sent[-1] == ("subscribe", ["b"])


def test_a_trial_that_we_end_ourselves_is_over() -> None:
    broker = Broker(forbids("b"))
    made = broker.settle("a", "b")
    again(made, "a", "b")
    made.session.pump()
    made.session.gone()
    made = broker.connect("a", "b")
    assert made.session.ready
    assert made.asker.sent == [("subscribe", ["a"])]


def test_one_that_is_refused_with_a_reason_by_now_is_refused() -> None:
    broker = Broker(forbids("b"))
    made = broker.settle("a", "b")
    again(made, "a", "b")
    made.session.pump()
    made.session.subscribed(100 + len(made.asker.sent), ["Not authorized"])
    made.session.pump()
    assert made.session.ready
    assert refused(made) == [Refused("b", "Not authorized")]
    assert broker.terms.narrowing.refusal("b") is None


def test_messages_wait_while_one_is_tried_again() -> None:
    broker = Broker(forbids("b"))
    made = broker.settle("a", "b")
    again(made, "a", "b")
    made.session.pump()
    made.session.publish(Answer("edge/pi/state", b"online", qos=1))
    made.session.pump()
    assert made.wire.published == []


def test_what_is_not_wanted_any_more_is_forgotten() -> None:
    broker = Broker(forbids("b"))
    broker.settle("a", "b")
    assert refused(broker.connect("a")) == []
    assert broker.terms.narrowing.refusal("b") is None
