"""The agent on connections that end because of what it sends."""

from __future__ import annotations

import random

import pytest

from edge_agent.contract.messages import Message, Rejection, validator
from edge_agent.contract.templates import Template
from edge_agent.errors import BrokerError, FarewellError
from edge_agent.routing.routes import Route
from edge_agent.testing import FakeClock, FakeLink
from tests.unit.remembering import Session, message, to

pytestmark = pytest.mark.usefixtures("kept_awake")


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
    assert session.agent.tally.total.rejections["undeliverable"] == 1


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


@pytest.mark.parametrize("seed", [0, 22])
def test_what_ended_while_we_were_not_given_the_processor_has_no_culprit(seed: int) -> None:
    """With the second, the look that an input had asked for once served the agent's health in the same turn."""
    random.seed(seed)  # of the pauses
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


class SilentLink(FakeLink):
    """Nothing comes, so each wait lasts as long as it may."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:
        self._clock.advance(timeout)
        return super().receive(timeout, wakeup, reading=reading)


@pytest.mark.parametrize("inputs", [[], [message("hall")]], ids=["no input", "an input that waits"])
def test_an_info_that_is_not_taken_is_found_without_waiting_for_a_packet(inputs: list[Message]) -> None:
    """The broker has nothing to say between the keep-alive's pings."""
    session = Session(lambda answer: answer.topic == "edge/node/info", link=lambda: SilentLink(session.clock))
    session.send(*inputs)
    for _ in range(100):
        if session.agent.tally.poisoned == 0:
            session.run(1)
    assert session.agent.tally.poisoned == 1
    assert session.clock() < 30


def test_health_that_is_not_taken() -> None:
    session = Session(lambda answer: answer.topic == "edge/node/health")
    session.run(1000)
    links = len(session.links)
    assert links < 10
    session.run(500)
    assert len(session.links) == links
    assert session.agent.tally.poisoned == 1
