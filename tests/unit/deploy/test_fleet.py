"""A roll-out to two hundred agents, and back: their own loops on the in-memory link, in one room (tests/unit/deploy/agents.py)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from edge_deploy import waves
from edge_deploy.channel import Channel
from edge_deploy.events import Event
from edge_deploy.release import Bundle
from edge_deploy.rollout import Outcome, Rollout
from edge_deploy.standing import Limits
from edge_deploy.testing import Room

from edge_agent.contract import topics
from edge_agent.contract.manifest import Envelope, place_of, read
from tests.unit.deploy.agents import RoomAgent
from tests.unit.deploy.releases import write_release

NODES = 200


class Fleet:
    def __init__(self, folder: Path, nodes: int = NODES) -> None:
        self.bundle = Bundle.open(write_release(folder, size=200_000))
        assert self.bundle.back is not None
        self.room = Room()
        before = self.bundle.back.manifest.models[0]
        self.agents = {f"pi-{number}": RoomAgent(self.room, f"pi-{number}", before) for number in range(nodes)}
        self.events: list[Event] = []

    def roll_out(self, *, max_refused: int = 0) -> Outcome:
        wire = self.room.wire()
        channel = Channel("stable", wire, self.room.clock)
        channel.push(self.bundle)
        limits = Limits(pause=30.0, within=300.0, max_refused=max_refused)
        rollout = Rollout(self.bundle, channel, wire, self.events.append, limits=limits, clock=self.room.clock)
        return rollout.run(waves.parse("1,10%,100%"))

    def versions(self) -> list[str]:
        return [agent.version for agent in self.agents.values()]

    def reached(self) -> list[int]:
        """How many nodes each wave was for."""
        return [len(event.data["nodes"]) for event in self.events if event.kind == "wave"]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_all_of_two_hundred_reach_the_new_version(fleet: Fleet) -> None:
    began, simulated = time.process_time(), fleet.room.time
    assert fleet.roll_out() is Outcome.DONE
    spent = time.process_time() - began
    assert fleet.versions() == ["1.1.0"] * NODES
    one, some, all_ = fleet.reached()
    assert (one, all_) == (1, NODES)
    assert NODES * 0.05 < some < NODES * 0.15
    assert {json.loads(agent.ask())["version"] for agent in fleet.agents.values()} == {"1.1.0"}
    print(f"{NODES} nodes, waves of {one}, {some}, {all_}: {fleet.room.time - simulated:.0f} s with two pauses of 30 s; computed in {spent:.1f} s")  # fmt: skip  # noqa: T201


def test_a_model_that_fails_on_one_kind_of_device_goes_back_everywhere(fleet: Fleet) -> None:
    """It passes on the first node; in the second wave some do not open it."""
    for name in fleet.agents:
        if int(name.removeprefix("pi-")) % 3 == 0:
            fleet.agents[name].workshop.fails = {"1.1.0"}
    # The node that is picked first is a good one: one that fails would end it there.
    picked = min(fleet.agents, key=lambda name: place_of(name, "stable"))
    fleet.agents[picked].workshop.fails = set()
    assert fleet.roll_out() is Outcome.TAKEN_BACK
    assert fleet.versions() == ["1.0.0"] * NODES
    assert len(fleet.reached()) == 2
    trouble = [event.text for event in fleet.events if event.kind == "trouble"]
    assert trouble
    assert all("the self-test fails in row 3" in text for text in trouble)
    envelope = read(Envelope, fleet.room.retained[topics.manifest("stable")], "")
    assert fleet.bundle.back is not None
    assert fleet.bundle.back.is_in(envelope)


def test_nodes_with_another_key_refuse_it_and_the_rest_goes_on(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, 50)
    others = {"pi-3", "pi-17", "pi-40"}
    for name in others:
        fleet.agents[name].workshop.distrusts = True
    assert fleet.roll_out(max_refused=3) is Outcome.DONE
    assert {name for name, agent in fleet.agents.items() if agent.version == "1.0.0"} == others


def test_who_comes_late_catches_up(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, 20)
    assert fleet.roll_out() is Outcome.DONE
    assert fleet.bundle.back is not None
    late = RoomAgent(fleet.room, "late", fleet.bundle.back.manifest.models[0])
    fleet.room.wait(5)
    assert late.version == "1.1.0"
