"""A fleet in memory, and somebody who rolls out to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_deploy import waves
from edge_deploy.channel import Channel
from edge_deploy.events import Event
from edge_deploy.release import Bundle
from edge_deploy.rollout import Outcome, Rollout
from edge_deploy.standing import Limits
from edge_deploy.testing import Room, RoomWire, ScriptedNode

from edge_agent.contract import topics
from edge_agent.contract.manifest import Envelope, read

NAMES = tuple(f"pi-{number}" for number in range(8))
LIMITS = Limits(pause=30.0, within=60.0, grace=10.0)


class Fleet:
    """Nodes, a broker in memory, and somebody who rolls out."""

    def __init__(self, folder: Path) -> None:
        self.room = Room()
        self.folder = folder
        self.nodes: dict[str, ScriptedNode] = {}
        self.events: list[Event] = []
        self.wires: list[RoomWire] = []

    def add(self, *names: str, **behaviour: Any) -> None:
        for name in names:
            self.nodes[name] = ScriptedNode(self.room, name, **behaviour)

    def run(self, plan: str = "1,50%,100%", limits: Limits = LIMITS, release: Path | None = None) -> Outcome:
        return self._rollout(limits, release).run(waves.parse(plan))

    def take_back(self, limits: Limits = LIMITS) -> Outcome:
        return self._rollout(limits, None).take_back()

    def _rollout(self, limits: Limits, release: Path | None) -> Rollout:
        bundle = Bundle.open(release or self.folder / "genre-1.1.0.onnx")
        wire = self.room.wire()
        self.wires.append(wire)
        channel = Channel("stable", wire, self.room.clock)
        channel.push(bundle)
        return Rollout(bundle, channel, wire, self.events.append, limits=limits, clock=self.room.clock)

    def published(self) -> list[tuple[int, tuple[str, ...] | None]]:
        """The serial and the wave of each manifest that was published."""
        found = []
        for topic, payload in self.room.published:
            if topic == topics.manifest("stable"):
                envelope = read(Envelope, payload, "")
                found.append((json.loads(envelope.manifest)["serial"], envelope.wave))
        return found

    def versions(self) -> dict[str, str]:
        return {name: node.version for name, node in self.nodes.items()}

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if event.kind != "progress"]

    def event(self, kind: str) -> Event:
        return next(event for event in self.events if event.kind == kind)

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something once, when it is time."""
        done: list[bool] = []

        def turn(now: float) -> None:
            if now >= seconds and not done:
                done.append(True)
                act()

        self.room.turns.append(turn)
