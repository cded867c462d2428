"""The agent on connections that end because of what it sends, or because of what it does itself."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from edge_agent.contract.messages import Answer, Health, Message, Rejection, validator
from edge_agent.contract.templates import Template
from edge_agent.errors import BrokerError, FarewellError
from edge_agent.routing.routes import Route
from edge_agent.serving.agent import Agent
from edge_agent.serving.pipeline import Pipeline
from edge_agent.serving.plan import Plan
from edge_agent.testing import ROUTE, FakeClock, FakeLink, FakeModel, make_agent, make_connection_settings, make_plan

GOOD = b'{"loudness": 0.9}'


def message(room: str, number: int = 0, **options: Any) -> Message:
    return Message(f"music/{room}/features", b'{"loudness": 0.9, "id": %d}' % number, 1, **options)


def to(room: str) -> Callable[[Answer], bool]:
    return lambda answer: answer.topic == f"music/{room}/genre"


class Session:
    """A broker with a session: what was not taken comes again on the next connection."""

    def __init__(
        self,
        hangs_up: Callable[[Answer], bool],
        *,
        plan: Plan | None = None,
        routes: Sequence[Route] = (ROUTE,),
        link: Callable[[], FakeLink] = FakeLink,
    ) -> None:
        self.make = link
        self.links: list[FakeLink] = []
        self.queue: list[Message] = []
        self.hangs_up = hangs_up
        self.clock = FakeClock()
        line = make_connection_settings()
        self.agent = Agent(
            line._replace(dial=lambda *_: self._dial()), plan or make_plan(routes=routes), clock=self.clock
        )

    def _dial(self) -> FakeLink:
        link = self.make()
        link.hangs_up = self.hangs_up
        link.arrive(*self.queue)
        self.links.append(link)
        return link

    def send(self, *messages: Message) -> None:
        self.queue += messages
        if self.links:
            self.links[-1].arrive(*messages)

    def connect(self) -> FakeLink:
        """Have the agent connect anew; what waits has not come yet."""
        queue, self.queue = self.queue, []
        before = len(self.links)
        while len(self.links) == before:
            self.run(1)
        self.queue = queue
        self.links[-1].arrive(*queue)
        return self.links[-1]

    def run(self, turns: int = 100) -> None:
        for _ in range(turns):
            link = self.links[-1] if self.links else None
            self.agent.step(wakeup=AWAKE[0])
            self.clock.advance(0.3)
            if link is not None and not link.under_way:
                taken = [id(one) for one, _ in link.answered]
                self.queue = [one for one in self.queue if id(one) not in taken]

    @property
    def sent(self) -> list[Answer]:
        return [answer for link in self.links for answer in link.sent if answer.topic.startswith("music/")]

    def topics(self) -> list[str]:
        return [answer.topic for answer in self.sent]


AWAKE: list[int] = []


@pytest.fixture(autouse=True)
def awake() -> Iterator[None]:
    """A descriptor that is readable, so that no wait in the loop lasts."""
    reader, writer = os.pipe()
    os.write(writer, b"x")
    AWAKE[:] = [reader]
    yield
    os.close(reader)
    os.close(writer)


def test_one_that_ends_the_connection_is_answered_briefly_and_the_others_as_ever() -> None:
    session = Session(to("poison"))
    session.send(message("hall", 1), message("poison", 2), message("attic", 3))
    session.run()
    assert session.agent.tally.poisoned == 1
    assert session.queue == []
    assert len(session.links) == 6, "two ends, three alone, and the one that stays"
    (rejection,) = [answer for answer in session.sent if answer.topic == "music/poison/genre/error"]
    said = validator(Rejection).validate_json(rejection.payload)
    assert (said["error"], said["topic"], said["model"]) == ("undeliverable", "music/poison/features", "genre")
    assert "id" not in said
    assert len(rejection.payload) < 300
    assert "music/attic/genre" in session.topics()
    assert session.agent.tally.rejections["undeliverable"] == 1


def test_the_short_rejection_carries_nothing_over() -> None:
    session = Session(to("poison"))
    session.send(message("poison"))
    session.run()
    assert [one.topic for one in session.links[-1].bare] == ["music/poison/features"]


def test_one_whose_short_rejection_ends_the_connection_too_is_not_answered() -> None:
    session = Session(lambda answer: "poison" in answer.topic)
    session.send(message("poison"), message("hall"))
    session.run()
    assert session.agent.tally.poisoned == 1
    assert session.queue == []
    assert session.topics()[-1] == "music/hall/genre"
    assert session.links[-1].answered[0] == (message("poison"), [])


def test_it_is_remembered_on_later_connections() -> None:
    session = Session(to("poison"))
    session.send(message("poison"))
    session.run()
    before = len(session.links)
    session.links[-1].lose(BrokerError("restarted"))
    session.run(10)
    session.send(message("poison"))
    session.run(10)
    assert len(session.links) == before + 1
    assert session.topics()[-1] == "music/poison/genre/error"
    assert session.agent.tally.poisoned == 1


def test_nothing_is_sent_behind_a_suspect_before_it_is_taken() -> None:
    session = Session(lambda _: False)
    session.send(message("hall", 1), message("attic", 2))
    for _ in range(2):
        link = session.connect()
        link.takes = False
        session.run(1)
        link.lose(BrokerError("gone"))
    link = session.connect()
    link.takes = False
    for room in ("hall", "attic"):
        session.run(5)
        assert link.answered[-1][0].topic == f"music/{room}/features"
        link.take()
    session.run(5)
    assert [one.topic for one, _ in link.answered] == ["music/hall/features", "music/attic/features"]
    assert session.agent.tally.poisoned == 0


@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.9, 5.0])
def test_a_broker_that_is_soon_gone_again_makes_no_culprit(seconds: float) -> None:
    """However long it stands each time, and whatever is under way then, which is all there is."""
    session = Session(lambda _: False)
    session.send(message("hall"))
    for number in range(50):
        link = session.connect()
        link.takes = False
        session.run(round(seconds / 0.3))
        if seconds > 1 and number % 2:
            # It stood for long enough: what tells it from a culprit is that it ends without it just as well.
            link.under_way = set()
            link.answered.clear()
        link.lose(BrokerError("gone"))
        session.run(1)
    assert session.agent.tally.poisoned == 0
    session.connect()


class EndedLink(FakeLink):
    """Its end shows only once all has been read that came before it."""

    ending = False

    def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:
        messages = super().receive(timeout, wakeup, reading=reading)
        if self.ending:
            self.lose(BrokerError("gone"))
        return messages


def test_what_ended_while_we_were_not_given_the_processor_has_no_culprit() -> None:
    session = Session(lambda _: False, link=EndedLink)
    session.send(message("hall"))
    for _ in range(50):
        link = session.connect()
        assert isinstance(link, EndedLink)
        link.takes = False
        session.run(1)
        session.clock.advance(10)
        link.ending = True
        session.run(2)
    assert session.agent.tally.poisoned == 0


def test_ends_with_a_reason_of_the_brokers_own_make_no_suspects() -> None:
    session = Session(lambda _: False)
    session.send(message("hall"))
    for _ in range(20):
        session.run(2)
        link = session.links[-1]
        link.under_way = {hash("x")}
        link.lose(FarewellError("shutting down"))
        session.run(5)
    assert not session.agent._answering._poison.watching


def test_a_thousand_of_one_kind_take_little_longer_than_one() -> None:
    session = Session(to("poison"))
    session.send(*(message("poison", number) for number in range(1000)), message("hall"))
    session.run(1500)
    assert session.agent.tally.poisoned == 1000
    assert session.queue == []
    assert len(session.links) < 12
    assert session.topics()[-1] == "music/hall/genre"


def test_at_qos_0_what_comes_from_there_is_tried_at_qos_1() -> None:
    session = Session(to("poison"))
    for number in range(8):
        session.run(3)
        session.links[-1].arrive(message("poison", number)._replace(qos=0))
        session.run(4)
    assert session.agent.tally.poisoned == 1
    assert [answer.qos for answer in session.sent[:5]] == [0, 0, 1, 1, 1]
    assert session.topics()[-1] == "music/poison/genre/error"


def test_an_answer_that_was_put_off() -> None:
    route = Route(
        "genre",
        Template("home/{sensor}/{feature}"),
        Template("music/{sensor}/genre"),
        Template("music/{sensor}/genre/error"),
        debounce=0.1,
    )
    session = Session(to("poison"), routes=[route])
    for number in range(10):
        session.run(3)
        for room in ("poison", "hall"):
            session.links[-1].arrive(Message(f"home/{room}/loudness", b"0.%d" % (number + 1), 1))
        session.run(10)
    assert session.agent.tally.poisoned >= 1
    links = len(session.links)
    for number in range(5):
        for room in ("poison", "hall"):
            session.links[-1].arrive(Message(f"home/{room}/loudness", b"0.%d" % (number + 1), 1))
        session.run(3)
    assert len(session.links) == links
    assert session.topics()[-1] == "music/hall/genre"


@pytest.mark.parametrize("topic", ["edge/node/info", "edge/node/state"])
def test_what_the_agent_says_of_itself(topic: str) -> None:
    """An info larger than the broker's limit, say: the sensors are served all the same."""
    session = Session(lambda answer: answer.topic == topic)
    session.send(message("hall"))
    session.run()
    assert session.queue == []
    assert session.topics()[-1] == "music/hall/genre"
    link = session.links[-1]
    session.run(20)
    assert session.links[-1] is link, "it stays"
    assert {"edge/node/info", "edge/node/state"} - {topic} <= {answer.topic for answer in link.sent}


def test_health_that_is_not_taken() -> None:
    session = Session(lambda answer: answer.topic == "edge/node/health")
    session.run(1000)
    links = len(session.links)
    assert links < 10
    session.run(500)
    assert len(session.links) == links
    assert session.agent.tally.poisoned == 1


# -- errors of our own


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
    assert "test_hung_up.py" in caplog.text


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
