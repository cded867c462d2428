"""An agent on connections in memory, and what tests of its loop share."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from edge_agent.contract.messages import Answer, Health, Message, Status, validator
from edge_agent.contract.templates import Template
from edge_agent.errors import BrokerError
from edge_agent.host.process import Signals
from edge_agent.host.systemd import Notifier
from edge_agent.routing.routes import Route
from edge_agent.serving.agent import Agent
from edge_agent.testing import FakeClock, FakeLink, make_agent

GOOD = b'{"loudness": 0.9}'


FEATURES = "music/kitchen/features"


def topics_of(answers: list[Answer]) -> list[str]:
    return [answer.topic for answer in answers]


def ended(*links: FakeLink | BrokerError, **options: Any) -> tuple[Agent, FakeClock]:
    clock = FakeClock()
    return make_agent(*links, clock=clock, **options), clock


class HeardNotifier(Notifier):
    """Keeps what systemd would have been told."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        super().__init__(environment or {})
        self.said: list[str] = []

    def _send(self, state: str) -> None:
        self.said.append(state)


def pauses(caplog: pytest.LogCaptureFixture) -> list[float]:
    return [
        float(str(record.args[1]))
        for record in caplog.records
        if isinstance(record.args, tuple) and "again in" in record.msg
    ]


def ask(verb: str, payload: bytes = b"", qos: int = 1) -> Answer:
    link = FakeLink()
    link.arrive(Message(f"edge/node/request/{verb}", payload, qos))
    make_agent(link).step()
    ((_, (answer,)),) = link.answered
    assert answer.topic == f"edge/node/response/{verb}"
    assert answer.qos == qos
    return answer


def healths(link: FakeLink) -> list[dict[str, Any]]:
    return [validator(Health).validate_json(one.payload) for one in link.sent if one.topic == "edge/node/health"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class Stop(Signals):
    """Says stop after so many looks at it; a look is a round of the loop."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds

    @property
    def received(self) -> bool:
        self.rounds -= 1
        return self.rounds < 0

    @received.setter
    def received(self, value: bool) -> None:
        pass


def run(agent: Agent, rounds: int) -> None:
    with Stop(rounds) as stop:
        agent.run(stop)


GATHERING = Route(
    "genre",
    Template("home/{room}/{feature}"),
    Template("comfort/{room}"),
    Template("comfort/{room}/error"),
    debounce=2.0,
    max_age=60.0,
)


def gathering(*links: FakeLink | BrokerError, **options: Any) -> tuple[Agent, FakeClock]:
    return ended(*links, routes=[GATHERING._replace(**options)])


def value(payload: bytes = b"0.9", room: str = "kitchen", qos: int = 1) -> Message:
    return Message(f"home/{room}/loudness", payload, qos)


def status_of(agent: Agent, link: FakeLink) -> Status:
    link.arrive(Message("edge/node/request/status", b"", 1))
    agent.step()
    status: Status = validator(Status).validate_json(link.sent[-1].payload, strict=True)
    return status
