"""Drift over a reload: nothing that was counted is lost, and what was found is told on at once."""

from __future__ import annotations

from typing import Any

from edge_agent.contract.drift import Drift
from edge_agent.contract.messages import Message, validator
from edge_agent.serving.agent import Agent
from edge_agent.serving.drifting import Drifting
from edge_agent.serving.pipeline import Pipeline
from edge_agent.serving.plan import Plan
from edge_agent.testing import ROUTE, FakeLink, make_connection_settings, make_plan
from tests.unit.test_drifting import TOPIC, Watched


def test_a_reload_goes_on_with_the_same_file() -> None:
    former, again, other = Watched(), Watched(), Watched()
    former.day(0.5, 1.0)
    former.look()
    again.clock.time = other.clock.time = former.clock.time
    again.drift.take_over(former.drift)
    assert again.look()["state"] == "drifted"
    other.model.sha256 = "cd"
    changed = Drifting({"genre": other.model}, hours=24.0, interval=600.0, clock=other.clock, time=str)
    changed.take_over(former.drift)
    assert changed.look()["state"] == "collecting"


class Reloaded:
    """An agent that watches its model, a link, and what a reload of the same file gives it."""

    def __init__(self) -> None:
        self.first, self.second, self.link = Watched(), Watched(), FakeLink()
        self.clock = self.second.clock = self.first.clock
        self.settings = make_connection_settings(self.link, FakeLink())
        self.agent = Agent(self.settings, self.plan(self.first), clock=self.clock)
        self.turn()

    def plan(self, watched: Watched) -> Plan:
        return make_plan()._replace(pipeline=watched.pipeline, drift=watched.drift)

    def reload(self, **changes: Any) -> None:
        self.second.drift = Drifting(
            {ROUTE.model: self.second.model},
            **{
                "hours": 24.0,
                "interval": 600.0,
                "clock": self.clock,
                "time": lambda: f"at {self.clock.time:g}",
                **changes,
            },
        )
        self.second.pipeline = Pipeline(
            [ROUTE], {ROUTE.model: self.second.model}, observers=self.second.drift.observers
        )
        self.agent.take_over(self.settings, self.plan(self.second))

    def turn(self) -> None:
        for _ in range(3):
            self.agent.step()

    def said(self) -> list[Drift]:
        return [validator(Drift).validate_json(one.payload) for one in self.link.sent if one.topic == TOPIC]


def test_nothing_that_was_counted_is_lost_by_a_reload() -> None:
    """Neither before it, nor from then until it is announced: that may take long, where the broker is away."""
    reloaded = Reloaded()
    reloaded.link.ready = False
    messages = [Message("music/1/features", b'{"loudness": 0.5}')] * 600  # two of them are counted
    for _ in range(3):
        reloaded.first.pipeline.process(messages)
        reloaded.clock.advance(10.0)
    for _ in range(2):
        reloaded.reload()
        for _ in range(3):
            reloaded.second.pipeline.process(messages)
            reloaded.clock.advance(10.0)
        reloaded.turn()
    reloaded.link.ready = True
    reloaded.turn()
    observer = reloaded.second.drift.observers[ROUTE.model]
    observer.count()
    assert observer.watch.rows == 3 * 3 * 600


def test_what_was_found_is_told_after_a_reload_at_once() -> None:
    reloaded = Reloaded()
    reloaded.first.day(0.5, 1.0)
    reloaded.turn()
    (told,) = reloaded.said()
    measured = reloaded.first.drift.measured()
    assert [name for _, name, _ in measured[0][2]] == ["loudness", "label"]
    reloaded.clock.advance(5.0)
    reloaded.reload()
    assert reloaded.second.drift.measured() == measured
    assert reloaded.second.drift.told() == told
    reloaded.turn()
    assert reloaded.said() == [told, told]


def test_what_was_found_of_another_file_is_not_told_any_more_after_a_reload() -> None:
    reloaded = Reloaded()
    reloaded.first.day(0.5, 1.0)
    reloaded.turn()
    reloaded.second.model.sha256 = "cd"
    reloaded.reload()
    reloaded.turn()
    assert [one["state"] for one in reloaded.said()] == ["drifted", "collecting"]


def test_it_is_told_as_often_where_reloads_are_more_frequent() -> None:
    reloaded = Reloaded()
    for _ in range(13):
        reloaded.clock.advance(100.0)
        reloaded.reload()
        reloaded.turn()
        reloaded.first, reloaded.second = reloaded.second, Watched()
    assert {one["time"] for one in reloaded.said()} == {"at 600", "at 1200"}
