"""Answers on their way: what may be sent, what is refused, and what the broker is known to have taken."""

from __future__ import annotations

import logging

import pytest

from edge_agent.contract.messages import Answer, Refused
from edge_agent.link.delivery import Delivery
from edge_agent.link.packets import Puback
from edge_agent.tally import Tally
from tests.unit.sessions import Wire


class Case:
    """A delivery with its wire and its tally."""

    def __init__(self, receive_maximum: int = 65_535) -> None:
        self.wire, self.tally = Wire(), Tally()
        self.delivery = Delivery(self.wire, self.tally)
        self.delivery.receive_maximum = receive_maximum

    def owe(self, packet_id: int, *answers: Answer) -> None:
        """Receive an input and answer it."""
        self.delivery.answer(self.delivery.ledger.receive(packet_id), list(answers), packet_id)

    @property
    def sent(self) -> list[str]:
        return [one.topic for one in self.wire.published]


def answer(topic: str = "out", payload: bytes = b"12345", qos: int = 1) -> Answer:
    return Answer(topic, payload, qos)


def test_answers_wait_in_order_for_the_receive_maximum() -> None:
    case = Case(receive_maximum=2)
    for number, topic in enumerate("abcd", 1):
        case.owe(number, answer(topic))
    case.delivery.pump({})
    assert (case.sent, case.delivery.waiting_bytes, case.delivery.in_flight) == (["a", "b"], 10, 8)
    case.delivery.confirmed(Puback(1))
    case.delivery.pump({})
    assert (case.sent, case.delivery.waiting_bytes) == (["a", "b", "c"], 5)
    assert case.wire.acknowledged == [1]


def test_an_answer_at_qos_0_waits_for_nobody_and_owes_nothing() -> None:
    case = Case(receive_maximum=1)
    case.owe(1, answer("a"))
    case.delivery.pump({})
    case.owe(2, answer("now", qos=0))
    assert case.sent == ["a", "now"]
    case.delivery.confirmed(Puback(1))
    assert case.wire.acknowledged == [1, 2]


def test_an_input_without_an_answer_is_acknowledged_at_once() -> None:
    case = Case()
    case.owe(7)
    assert case.wire.acknowledged == [7]
    assert case.tally.answered == 0


def test_an_input_with_several_answers_waits_for_the_last() -> None:
    case = Case()
    case.owe(7, answer("a"), answer("b"))
    case.delivery.pump({})
    case.delivery.confirmed(Puback(2))
    assert case.wire.acknowledged == []
    case.delivery.confirmed(Puback(1))
    assert case.wire.acknowledged == [7]
    assert (case.tally.answered, case.tally.acknowledged) == (2, 1)


def test_what_the_broker_refuses_is_counted_and_holds_up_nothing() -> None:
    case = Case()
    case.owe(7, answer())
    case.delivery.pump({})
    case.delivery.confirmed(Puback(1, "Quota exceeded"))
    assert case.delivery.refused == [Refused("out", "Quota exceeded")]
    assert (case.wire.acknowledged, case.tally.refused) == ([7], 1)


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (answer(payload=bytes(100)), "larger than the broker's limit of 100 bytes"),
        (answer("t" * 70_000), "the topic is too long"),
        (answer("ß" * 40_000), "the topic is too long"),
    ],
)
def test_what_can_not_be_sent_is_refused_before_the_broker_would_hang_up(refused: Answer, reason: str) -> None:
    case = Case()
    case.delivery.size_limit = 100
    case.owe(7, refused)
    case.delivery.pump({})
    assert (case.sent, case.wire.acknowledged) == ([], [7])
    assert case.delivery.refused == [Refused(refused.topic, reason)]


def test_of_a_flood_of_refusals_the_first_thousand_are_kept_and_all_counted() -> None:
    case = Case()
    case.delivery.size_limit = 1
    for _ in range(1500):
        case.delivery.send(answer(), 0)
    assert (len(case.delivery.refused), case.tally.refused) == (1000, 1500)


def test_a_confirmation_of_nothing_is_ignored() -> None:
    case = Case()
    case.delivery.confirmed(Puback(99, "Quota exceeded"))
    assert (case.delivery.refused, case.wire.acknowledged) == ([], [])


def test_packet_ids_that_subscriptions_have_are_left_to_them() -> None:
    class Picky(Wire):
        taken: object = None

        def publish(self, answer: Answer, taken: object) -> int:
            self.taken = taken
            return super().publish(answer, ())

    wire = Picky()
    delivery = Delivery(wire, Tally())
    delivery.send(answer(), 0)
    delivery.pump({5: ["in"]})
    assert wire.taken == {5}


# -- what is taken


def test_a_confirmed_answer_is_taken_once_something_sent_after_it_is_answered() -> None:
    case = Case()
    delivery = case.delivery
    delivery.send(answer("a"), 11)
    delivery.pump({})
    assert delivery.under_way == {11}
    delivery.confirmed(Puback(1))
    assert delivery.under_way == {11}  # a broker may confirm, and then hang up for it
    delivery.send(answer("b"), 22)
    delivery.pump({})
    delivery.confirmed(Puback(2))
    assert delivery.under_way == {22}


def test_settling_asks_once_and_is_over_with_the_answer() -> None:
    case = Case()
    delivery = case.delivery
    assert delivery.settle()
    assert case.wire.pings == 0
    delivery.send(answer(qos=0), 11)
    assert not delivery.settle()
    assert not delivery.settle()
    assert case.wire.pings == 1
    delivery.answered()
    assert delivery.settle()
    assert delivery.under_way == frozenset()


def test_nothing_is_asked_while_an_answer_is_unconfirmed() -> None:
    case = Case()
    case.delivery.send(answer(), 11)
    case.delivery.pump({})
    assert not case.delivery.settle()
    assert case.wire.pings == 0
    assert case.delivery.unconfirmed == {"out"}


def test_an_end_leaves_nothing() -> None:
    case = Case(receive_maximum=1)
    case.owe(1, answer("a"))
    case.owe(2, answer("b"))
    case.delivery.pump({})
    case.delivery.clear()
    assert case.delivery.idle
    assert (case.delivery.in_flight, case.delivery.waiting_bytes, case.delivery.under_way) == (0, 0, frozenset())


def test_a_confirmation_is_followed_in_the_debug_log(caplog: pytest.LogCaptureFixture) -> None:
    case = Case()
    with caplog.at_level(logging.DEBUG, "edge_agent"):
        case.delivery.send(answer("t" * 500), 1)
        case.delivery.pump({})
        case.delivery.confirmed(Puback(1))
    (line,) = [record.getMessage() for record in caplog.records if "confirmed" in record.getMessage()]
    assert line == f"{'t' * 200}: confirmed by the broker"
