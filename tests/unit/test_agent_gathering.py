"""The loop with routes that gather: what is put off goes out when it is due."""

from __future__ import annotations

import json

import pytest

from edge_agent.contract.messages import Message
from edge_agent.errors import BrokerError
from edge_agent.testing import FakeLink
from tests.unit.agents import gathering, run, topics_of, value

pytestmark = pytest.mark.usefixtures("everything_is_logged")


class PatientLink(FakeLink):
    """Keeps how long it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:
        self.waits.append(timeout)
        return super().receive(timeout, wakeup, reading=reading)


def test_a_value_that_is_taken_and_answered_with_nothing_is_routed_all_the_same() -> None:
    link = FakeLink()
    agent, _ = gathering(link)
    link.arrive(value(), Message("home/kitchen/other", b"", 1))
    agent.step()
    assert [answers for _, answers in link.answered] == [[], []]
    assert agent.tally.unrouted == 0


def test_a_debounced_answer_goes_out_when_it_is_due_and_the_loop_wakes_for_it() -> None:
    link = PatientLink()
    agent, clock = gathering(link)
    link.arrive(value(b"0.1"))
    agent.step()
    for later in (0.5, 0.5, 0.5):
        clock.advance(later)
        link.arrive(value())
        agent.step()
    assert topics_of(link.sent) == ["edge/node/state", "edge/node/info"]
    # Not at all before it has said what it serves.
    assert link.waits == pytest.approx([0.0, 1.0, 1.0, 0.5], abs=0.01)
    clock.advance(0.4)
    agent.step()
    assert link.waits[-1] == pytest.approx(0.1, abs=0.01)
    assert link.sent[2:] == []
    clock.advance(0.1)
    agent.step()
    (answer,) = link.sent[2:]
    assert (answer.topic, answer.qos, json.loads(answer.payload)["label"]) == ("comfort/kitchen", 1, "Rock")
    assert agent.tally.answered == 1
    clock.advance(10)
    agent.step()
    assert (link.waits[-1], link.sent[3:]) == (1.0, [])


def test_what_is_too_old_is_not_answered_for() -> None:
    link = FakeLink()
    agent, clock = gathering(link)
    link.arrive(value())
    agent.step()
    clock.advance(61)
    agent.step()
    assert topics_of(link.sent)[2:] == ["edge/node/health"]


def test_answers_that_were_put_off_wait_while_too_much_is_in_flight() -> None:
    link = PatientLink()
    agent, clock = gathering(link)
    link.arrive(*[value(room=str(number)) for number in range(30)])
    link.in_flight = 1000
    agent.step()
    clock.advance(2)
    agent.step()
    agent.step()
    # Nothing is sent, and the loop does not spin.
    assert (link.sent[2:], link.waits[-1]) == ([], 1.0)
    link.in_flight = 990
    agent.step()
    assert topics_of(link.sent[2:]) == [f"comfort/{number}" for number in range(10)]
    link.in_flight = 0
    agent.step()
    assert len(link.sent[2:]) == 30


def test_a_debounced_answer_waits_for_a_connection(awake: int) -> None:
    first, second = FakeLink(), FakeLink()
    second.ready = False
    agent, clock = gathering(first, second)
    first.arrive(value())
    agent.step(awake)
    first.lose(BrokerError("gone"))
    agent.step(awake)
    clock.advance(5)
    agent.step(awake)
    assert second.sent == []
    second.ready = True
    agent.step(awake)
    assert topics_of(second.sent) == ["edge/node/state", "edge/node/info", "comfort/kitchen"]


def test_each_sensor_is_answered_once_more_on_a_new_connection(awake: int) -> None:
    first, second = FakeLink(), FakeLink()
    agent, clock = gathering(first, second, debounce=0.0)
    first.arrive(value(), value())
    agent.step(awake)
    assert topics_of(first.sent)[2:] == ["comfort/kitchen"]
    first.lose(BrokerError("gone"))
    agent.step(awake)
    clock.advance(1)
    agent.step(awake)
    second.arrive(value(), value())
    agent.step(awake)
    assert topics_of(second.sent)[2:] == ["comfort/kitchen"]


def test_what_was_put_off_is_answered_before_the_last_word() -> None:
    link = FakeLink()
    agent, _ = gathering(link)
    link.arrive(value())
    run(agent, 1)
    assert topics_of(link.sent)[2:] == ["comfort/kitchen", "edge/node/state"]
    # Drained with the answer in it.
    assert link.drained[0] == 3


def test_all_that_was_put_off_is_answered_at_the_end_however_much_it_is() -> None:
    link = FakeLink()
    agent, _ = gathering(link)
    link.arrive(*[value(room=str(number)) for number in range(1500)])
    link.in_flight = 990
    agent.step()
    agent.leave()
    assert topics_of(link.sent)[2:] == [*(f"comfort/{number}" for number in range(1500)), "edge/node/state"]


def test_what_comes_before_the_subscriptions_are_granted_belongs_to_the_new_connection() -> None:
    """The backlog of the session does; so does what an edge node says when the broker has just come back."""
    first, second = FakeLink(), FakeLink()
    agent, clock = gathering(first, second, debounce=0.0)
    first.arrive(value(b"0.1"))
    agent.step()
    assert len(first.answered[0][1]) == 1
    first.lose(BrokerError("gone"))
    agent.step()
    clock.advance(60)
    second.ready = False
    second.arrive(value(b"0.1"), value(b"0.1"))
    agent.step()
    assert [len(answers) for _, answers in second.answered] == [1, 0], "the answer may have been lost with the old one"
    second.ready = True
    agent.step()
    second.arrive(value(b"0.1"))
    agent.step()
    assert [len(answers) for _, answers in second.answered] == [1, 0, 0]
