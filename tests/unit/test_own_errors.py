"""The agent when something in it raises what it should not: the loop goes on, and what brought it about is found."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

import pytest

from edge_agent.contract.messages import Answer, Health, Message, validator
from edge_agent.serving.agent import Agent
from edge_agent.serving.pipeline import Pipeline
from edge_agent.serving.plan import Plan
from edge_agent.testing import ROUTE, FakeClock, FakeLink, FakeModel, make_agent, make_connection_settings, make_plan
from tests.unit.remembering import AWAKE, Session, message, to

pytestmark = pytest.mark.usefixtures("kept_awake")


class BrokenPipeline(Pipeline):
    """Raises `error` when a message from the room `poison` is among those to be answered."""

    error: BaseException = MemoryError("no more")

    def process(self, messages: Sequence[Message], now: float = 0.0) -> list[list[Answer]]:
        if any("poison" in one.topic for one in messages):
            raise self.error
        return super().process(messages, now)


def broken(error: BaseException) -> Plan:
    pipeline = BrokenPipeline((ROUTE,), {"genre": FakeModel()})
    pipeline.error = error
    return make_plan()._replace(pipeline=pipeline)


class PanicException(BaseException):
    """As libraries written in Rust raise it."""


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), PanicException(), OverflowError("too large")])
def test_an_input_that_breaks_us_is_found_like_one_that_breaks_the_broker(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(lambda _: False, plan=broken(error))
    session.send(message("hall", 1), message("poison", 2), message("attic", 3))
    session.run()
    tally = session.agent.tally
    assert (tally.poisoned, tally.faults) == (1, 5)
    assert session.queue == []
    assert sorted(set(session.topics())) == ["music/attic/genre", "music/hall/genre", "music/poison/genre/error"]
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == 1, "the traceback once a minute"
    assert "test_own_errors.py" in caplog.text


def test_signals_get_through() -> None:
    for error in (KeyboardInterrupt(), SystemExit(1)):
        session = Session(lambda _: False, plan=broken(error))
        session.send(message("poison"))
        with pytest.raises(type(error)):
            session.run()


class BrokenLink(FakeLink):
    """Raises something that no connection should, whatever is done with it."""

    def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:  # noqa: ARG002
        raise ValueError("what nobody thought of")


def test_a_connection_that_breaks_us_is_given_up_after_the_usual_pause(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock, bad, good = FakeClock(), BrokenLink(), FakeLink()
    agent = make_agent(bad, good, clock=clock)
    agent.step(AWAKE[0])
    assert bad.abandoned
    agent.step(AWAKE[0])
    assert good.sent == [], "not yet"
    clock.advance(1)
    good.arrive(message("hall"))
    agent.step(AWAKE[0])
    assert [answer.topic for answer in good.sent][-1] == "music/hall/genre"
    assert agent.tally.faults == 1
    assert "trying again in" in caplog.text


def test_a_line_that_breaks_us_is_tried_again() -> None:
    clock = FakeClock()

    def dial(*_: object) -> FakeLink:
        raise ValueError("what nobody thought of")

    agent = Agent(make_connection_settings()._replace(dial=dial), make_plan(), clock=clock)
    for _ in range(3):
        agent.step(AWAKE[0])
        clock.advance(60)
    assert agent.tally.faults == 3


def test_the_end_and_a_reload_survive_it() -> None:
    for end in ("leave", "take_over"):
        session = Session(lambda _: False, plan=broken(MemoryError()))
        session.run(2)
        session.links[-1].arrive(message("poison"))
        session.agent._answering._intake.add([message("poison")], 0.0)
        if end == "leave":
            session.agent.leave()
        else:
            session.agent.take_over(session.agent._settings, make_plan())
        assert session.agent.tally.faults == 1
        assert session.links[-1].abandoned


def test_health_says_how_many() -> None:
    session = Session(to("poison"))
    session.send(message("poison"))
    session.run()
    session.clock.advance(30)
    session.run(1)
    (health,) = [answer for answer in session.links[-1].sent if answer.topic == "edge/node/health"][-1:]
    assert validator(Health).validate_json(health.payload)["poisoned"] == 1
    assert json.loads(health.payload)["faults"] == 0
