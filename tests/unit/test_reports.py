"""What the agent tells of itself: health, status, and what it logs of its traffic."""

from __future__ import annotations

import pytest

from edge_agent.contract.messages import Message, Refused, Status, validator
from edge_agent.serving.reports import now
from edge_agent.testing import FakeLink, FakeModel, make_agent, make_card
from tests.unit.agents import FEATURES, GATHERING, GOOD, ask, ended, healths, status_of, value, warnings

pytestmark = pytest.mark.usefixtures("everything_is_logged")


def test_health_is_reported_at_its_interval() -> None:
    link = FakeLink()
    agent, clock = ended(link, health_interval=30)
    agent.step()
    for _ in range(10):
        clock.advance(10)
        agent.step()
    found = healths(link)
    assert [health["uptime"] for health in found] == [30, 60, 90]
    assert [health["interval"] for health in found] == [30, 30, 30]


def test_health_counts() -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    link.arrive(Message(FEATURES, GOOD, 1), Message(FEATURES, GOOD, 1), Message(FEATURES, b"?", 1))
    link.in_flight = 7
    clock.advance(20)
    agent.step()
    clock.advance(20)
    agent.step()
    (health,) = healths(link)
    assert health["predictions"] == 2
    assert health["rejections"] == {"malformed_payload": 1}
    assert health["connections"] == 1
    assert health["in_flight"] == 7
    assert health["predictions_per_second"] == pytest.approx(2 / 40, abs=0.01)
    assert health["latency_ms"] == {"p50": 0.0, "p99": 0.0}
    assert health["rss_bytes"] > 0
    # Rates are those since the last report, totals since the start.
    clock.advance(30)
    agent.step()
    last = healths(link)[-1]
    assert (last["predictions"], last["predictions_per_second"], last["latency_ms"]) == (2, 0, None)


def test_health_is_not_retained() -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    clock.advance(30)
    agent.step()
    health = link.sent[-1]
    assert (health.topic, health.qos, health.retain) == ("edge/node/health", 0, False)


def test_rejections_are_logged_at_once_and_then_in_summaries(caplog: pytest.LogCaptureFixture) -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    for _ in range(600):
        link.arrive(Message(FEATURES, b"{}", 1))
        clock.advance(0.25)
        agent.step()
    lines = warnings(caplog)
    assert lines[0] == "1 rejected: 1 x invalid_features (loudness: missing)"
    assert lines[1:] == ["240 rejected: 240 x invalid_features (loudness: missing)"] * 2


def test_good_messages_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    caplog.clear()
    for _ in range(100):
        link.arrive(Message(FEATURES, GOOD, 1))
        clock.advance(1)
        agent.step()
    assert caplog.records == []


def test_answers_that_the_broker_refuses_are_logged_at_once_and_then_in_summaries(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    for _ in range(600):
        link.refused_answers += [Refused("music/k/genre", "Not authorized")] * 2
        clock.advance(0.25)
        agent.step()
        assert link.refused_answers == []
    lines = warnings(caplog)
    assert (
        lines[0]
        == "broker: refused 2 of our messages (the first on 'music/k/genre': Not authorized); check the broker's access rules and limits"
    )
    assert [line.split("(")[0] for line in lines[1:]] == ["broker: refused 480 of our messages "] * 2


def test_lines_are_short_whatever_came(caplog: pytest.LogCaptureFixture) -> None:
    link = FakeLink()
    link.arrive(*(Message(f"music/{'x' * 60_000}/features", b'{"loudness": "' + b"y" * 10_000 + b'"}', 1),) * 3)
    link.refused_answers = [Refused("t" * 60_000, "r")]
    make_agent(link).step()
    assert len(warnings(caplog)) == 2
    assert max(map(len, warnings(caplog))) < 1000


def test_the_time_of_day() -> None:
    assert len(now()) == len("2026-01-01T00:00:00.000Z")
    assert now().endswith("Z")


def test_health_and_status_tell_of_gathering() -> None:
    link = FakeLink()
    card = make_card(("loudness", "tempo"))
    agent, clock = ended(link, routes=[GATHERING], model=FakeModel(card), health_interval=30)
    link.arrive(*[value(room=str(number)) for number in range(150)])
    agent.step()
    link.arrive(Message("edge/node/request/status", b"", 1))
    clock.advance(10)
    agent.step()
    status = validator(Status).validate_json(link.sent[-1].payload, strict=True)
    assert (status["node"], status["mqtt"], status["uptime"], status["received"]) == ("node", "5", 10, 150)
    assert (status["gathering"]["sensors"], len(status["gathering"]["waiting"])) == (150, 100)
    clock.advance(20)
    agent.step()
    (health,) = healths(link)
    assert [one["sensor"] for one in health["gathering"]["waiting"]] == [str(number) for number in range(10)]
    assert health["gathering"]["waiting"][0]["missing"] == ["tempo"]


def test_status_does_not_disturb_health() -> None:
    told = []
    for asks in (0, 3):
        link = FakeLink()
        agent, clock = ended(link, health_interval=30)
        agent.step()
        link.arrive(Message(FEATURES, GOOD, 1))
        for _ in range(asks):
            link.arrive(Message("edge/node/request/status", b"", 1))
            agent.step()
        clock.advance(30)
        agent.step()
        (health,) = healths(link)
        assert "gathering" not in health
        told.append((health["predictions_per_second"], health["interval"], health["latency_ms"] is not None))
    assert told == [(0.03, 30, True)] * 2


def test_status_in_the_first_moment() -> None:
    """No time has passed that a rate could be of."""
    status = validator(Status).validate_json(ask("status").payload, strict=True)
    assert (status["uptime"], status["messages_per_second"]) == (0, 0)
    assert (status["state"], status["reason"]) == ("online", None)


def test_a_status_does_not_count_its_own_request() -> None:
    link = FakeLink()
    agent, clock = ended(link)
    agent.step()
    clock.advance(10)
    link.in_flight = 1
    status = status_of(agent, link)
    assert [status[key] for key in ("received", "answered", "acknowledged", "in_flight", "messages_per_second")] == [
        0
    ] * 5
    assert status["latency_ms"] is None
    link.in_flight = 3
    link.arrive(Message(FEATURES, GOOD, 1))
    agent.step()
    status = status_of(agent, link)
    assert (status["received"], status["in_flight"]) == (2, 2)
