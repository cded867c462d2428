"""A turn of the loop takes a bounded piece of what has arrived, whatever it is, and looks after the rest between."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Any

import pytest

from edge_agent.contract.messages import Answer, Message
from edge_agent.errors import BrokerError
from edge_agent.host.process import Signals
from edge_agent.serving.agent import Agent
from edge_agent.testing import FakeClock, FakeLink, FakeModel, make_agent, make_connection_settings, make_plan
from tests.unit.agents import FEATURES, GOOD, HeardNotifier, topics_of
from tests.unit.test_intake import HOSTILE

CBOR = "application/cbor"


class SlowModel(FakeModel):
    """Takes its time for each row."""

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        super().__init__()
        self._clock = clock
        self._seconds = seconds

    def predict(self, rows: Any) -> Any:
        self._clock.advance(len(rows) * self._seconds)
        return super().predict(rows)


class StrictLink(FakeLink):
    """Keeps whether it was asked to read, and for how long to wait, in each turn."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[float, bool]] = []

    def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:
        self.asked.append((timeout, reading))
        return super().receive(timeout, wakeup, reading=reading)


#: Costs as much as far as can be told before it is read, and is refused at once.
HEAVY = bytes(40_000)


def hostile(count: int, qos: int = 1) -> list[Message]:
    return [Message(f"music/{number}/features", HOSTILE, qos, CBOR) for number in range(count)]


def heavy(count: int, qos: int = 1) -> list[Message]:
    return [Message(f"music/{number}/features", HEAVY, qos) for number in range(count)]


def good(count: int, qos: int = 1) -> list[Message]:
    return [Message(FEATURES, GOOD, qos) for _ in range(count)]


def answers(link: FakeLink) -> list[Answer]:
    return [answer for _, found in link.answered for answer in found]


def test_hostile_batches_are_answered_one_a_turn_without_waiting() -> None:
    link = StrictLink()
    agent = make_agent(link)
    agent.step()
    link.arrive(*hostile(13))
    for turn in range(13):
        agent.step()
        assert len(link.answered) == turn + 1
    assert [message.topic for message, _ in link.answered] == [f"music/{number}/features" for number in range(13)]
    # The first waits for what is to come; those behind it for nothing. It reads again when little is left.
    assert [timeout for timeout, _ in link.asked[2:]] == [0.0] * 12
    assert [reading for _, reading in link.asked[1:]] == [True, *[False] * 9, *[True] * 3]


def test_small_messages_go_through_one_call_of_the_model() -> None:
    link, model = FakeLink(), FakeModel()
    agent = make_agent(link, model=model)
    link.arrive(*good(500))
    agent.step()
    assert model.calls == [500]


def test_a_slow_model_gets_fewer_at_a_time() -> None:
    link, clock = FakeLink(), FakeClock()
    model = SlowModel(clock, 0.002)
    agent = make_agent(link, model=model, clock=clock)
    link.arrive(*good(2_000))
    while len(link.answered) < 2_000:
        agent.step()
    assert max(model.calls[4:]) * 0.002 <= 0.2


def test_the_watchdog_is_fed_between_slices() -> None:
    link, clock = FakeLink(), FakeClock()
    notifier = HeardNotifier({"WATCHDOG_USEC": "2000000"})
    agent = make_agent(link, model=SlowModel(clock, 0.01), clock=clock, notifier=notifier)
    link.arrive(*good(5_000))
    rounds = 0
    while len(link.answered) < 5_000:
        agent.step()
        rounds += 1
    # Once a slice where one takes longer than the second that it is fed after.
    assert min(rounds, clock() // 2) <= notifier.said.count("WATCHDOG=1") <= rounds
    assert rounds > 20


@pytest.mark.parametrize("qos", [0, 1])
def test_the_signal_to_stop_is_seen_between_slices_and_what_waits_is_answered(qos: int) -> None:
    class Ending(FakeLink):
        def answer(self, message: Message, found: Iterable[Answer], *, bare: bool = False) -> None:
            super().answer(message, found, bare=bare)
            os.kill(os.getpid(), signal.SIGTERM)

    class Notifier(HeardNotifier):
        def stopping(self) -> None:
            self.said.append(f"{len(link.answered)} answered")

    link, notifier = Ending(), Notifier()
    agent = make_agent(link, notifier=notifier)
    agent.step()
    link.arrive(*heavy(5, qos))
    with Signals() as signals:
        assert not agent.run(signals)
    assert notifier.said[-1] == "1 answered"
    assert len(link.answered) == 5
    assert topics_of(link.sent)[-1] == "edge/node/state"


def test_what_takes_too_long_at_the_end_is_left_to_the_broker() -> None:
    link, clock = FakeLink(), FakeClock()
    agent = make_agent(link, model=SlowModel(clock, 1.0), clock=clock)
    agent.step()
    # More than one slice.
    link.arrive(*[Message(FEATURES, b"[" + b",".join([GOOD] * 2) + b"," + b" " * 3_000_000 + b"{}]", 1)] * 10)
    agent.step()
    assert len(link.answered) == 1
    agent.leave()
    assert len(link.answered) == 2
    assert topics_of(link.sent)[-1] == "edge/node/state"
    assert link.closed


def test_nothing_more_is_answered_while_much_waits_for_the_broker() -> None:
    link = StrictLink()
    agent = make_agent(link)
    agent.step()
    link.arrive(*heavy(13))
    link.held_bytes = 5 << 20
    agent.step()
    agent.step()
    # It waits, and reads on: what makes room may be among it.
    assert (link.answered, link.asked[-1]) == ([], (1.0, True))
    link.held_bytes = 0
    agent.step()
    assert len(link.answered) == 1


def test_what_waits_ends_with_its_connection() -> None:
    first, second, clock = FakeLink(), FakeLink(), FakeClock()
    agent = make_agent(first, second, clock=clock)
    first.arrive(*heavy(3))
    agent.step()
    first.lose(BrokerError("gone"))
    agent.step()
    clock.advance(60)
    agent.step()
    agent.step()
    assert (len(first.answered), second.answered) == (1, [])


def test_a_message_is_answered_with_the_settings_it_was_read_with() -> None:
    link = StrictLink()
    line = make_connection_settings(link)
    agent = Agent(line, make_plan(), clock=FakeClock())
    agent.step()
    link.arrive(*heavy(3), *good(1))
    agent.step()
    link.arrive(Message("elsewhere", b"", 1))
    agent.take_over(line, make_plan(routes=()))
    assert len(link.answered) == 4
    assert all(found for _, found in link.answered)
    agent.step()
    assert link.answered[-1][1] == []


def test_a_reload_does_not_wait_for_ever_for_a_broker_that_takes_nothing() -> None:
    class Stuck(FakeLink):
        def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:
            clock.advance(timeout)
            return super().receive(timeout, wakeup, reading=reading)

    link, clock = Stuck(), FakeClock()
    line = make_connection_settings(link)
    agent = Agent(line, make_plan(), clock=clock)
    agent.step()
    link.arrive(*heavy(3))
    link.held_bytes = 5 << 20
    agent.step()
    began = clock()
    agent.take_over(line, make_plan())
    assert clock() - began <= 6
    assert link.answered == []
    link.held_bytes = 0
    for _ in range(3):
        agent.step()
    assert len(link.answered) == 3


def test_a_flood_at_qos_0_is_bounded_and_told_while_the_broker_takes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    link = FakeLink()
    agent = make_agent(link)
    agent.step()
    link.held_bytes = 5 << 20
    for _ in range(10):
        link.arrive(*heavy(10, qos=0))
        agent.step()
    assert "lost at QoS 0" in caplog.text
    link.held_bytes = 0
    for _ in range(50):
        agent.step()
    assert 30 <= len(link.answered) <= 40


def test_the_latency_counts_what_waited() -> None:
    link, clock = FakeLink(), FakeClock()
    agent = make_agent(link, model=SlowModel(clock, 0.001), clock=clock)
    agent.step()
    batch = b"[" + b",".join([GOOD] * 9_000) + b"]"
    link.arrive(Message(FEATURES, batch, 1), Message(FEATURES, batch, 1))
    agent.step()
    assert agent.tally.latency() == (9.0, 9.0)
    agent.step()
    assert agent.tally.latency() == (18.0, 18.0)
