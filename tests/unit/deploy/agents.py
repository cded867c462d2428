"""Agents in a room: the loop, the plan and the updates of `edge-agent run`, on the in-memory link; only what takes processes and
cryptography is a fake, which believes every manifest but what it is told to refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from edge_deploy.testing import Room

from edge_agent.contract.manifest import Envelope, Manifest, ModelFile, read
from edge_agent.contract.messages import Message
from edge_agent.errors import ModelError, TrustError
from edge_agent.model.trust import Accepted, Offer
from edge_agent.serving.agent import Agent
from edge_agent.serving.plan import Plan
from edge_agent.serving.released import About, Served
from edge_agent.serving.updating import Updates
from edge_agent.testing import (
    FakeClock,
    FakeLink,
    FakeModel,
    make_card,
    make_connection_settings,
    make_plan,
)
from edge_agent.testing.updates import FakeJob, FakePart, FakeWorkshop


class Part(FakePart):
    """A file of which the pieces have to be those that the manifest names."""

    def __init__(self, blobs: Sequence[str]) -> None:
        super().__init__(len(blobs))
        self._blobs = blobs

    def write(self, number: int, content: bytes) -> bool:
        if hashlib.sha256(content).hexdigest() != self._blobs[number]:
            return False
        return super().write(number, content)


class Workshop(FakeWorkshop):
    """Accepts each manifest with a higher serial, unless `distrusts`; each file passes its test, unless it is in `fails`."""

    def __init__(self) -> None:
        super().__init__()
        self.serial = 0
        self.distrusts = False
        self.fails: set[str] = set()

    def accept(self, envelope: bytes) -> FakeJob:
        said = read(Envelope, envelope, "manifest")
        manifest = read(Manifest, said.manifest, "manifest")
        outcome: Any = Offer(manifest, said.wave, Accepted(manifest.serial))
        if self.distrusts:
            outcome = TrustError("no signature of a trusted key")
        elif manifest.serial < self.serial:
            outcome = TrustError(f"serial {manifest.serial} is below {self.serial}")
        else:
            self.serial = manifest.serial
        self.offers[envelope] = outcome
        return super().accept(envelope)

    def part(self, file: ModelFile) -> FakePart:
        return self.parts.setdefault(file.sha256, Part(file.blobs))

    def test(self, files: Sequence[ModelFile], evidence: bytes | None, manifest: Manifest) -> FakeJob:
        for file in files:
            card = make_card().model_copy(
                update={"version": file.version, "features": make_card(file.features).features, "labels": file.labels}
            )
            failed = ModelError(f"{file.name} {file.version}: the self-test fails in row 3")
            self.tests[file.sha256] = (
                failed if file.version in self.fails else Served(card, file.sha256, FakeModel(card))
            )
        return super().test(files, evidence, manifest)


class RoomAgent:
    """One agent of a fleet, which serves `before` of the model genre."""

    def __init__(self, room: Room, name: str, before: ModelFile, *, by_hand: bool = False) -> None:
        self._room = room
        self.workshop = Workshop()
        self.link = FakeLink()
        self._clock = FakeClock()
        self._about = About(name, "stable", by_hand)
        self._settings = make_connection_settings(self.link, node=name)
        self._asked: dict[str, bool] = {}
        self._changes = self._sent = 0
        self.updates = self._serve(
            Served(make_card(before.features).model_copy(update={"version": before.version}), before.sha256)
        )
        self.agent = Agent(self._settings, self.plan, clock=self._clock)
        room.listen(lambda: self._asked, self.link.arrive)
        room.turns.append(self.turn)
        self.turn(room.time)

    @property
    def version(self) -> str:
        """What it serves."""
        return self.served.card.version

    def _serve(self, served: Served) -> Updates:
        self.served = served
        updates = Updates(
            self._about, {"genre": served}, self.workshop, clock=self._clock, now=lambda: f"{self._clock():g}"
        )
        model = served.loaded if isinstance(served.loaded, FakeModel) else FakeModel(served.card)
        plan: Plan = make_plan(model=model, node=self._about.node)
        self.plan = plan._replace(updates=updates)
        return updates

    def turn(self, now: float) -> None:
        """Let it run until it has nothing to say."""
        self._clock.time = now
        for _ in range(40):
            said = self._sent
            self.agent.step()
            self._exchange()
            wish = self.updates.take_wish()
            if wish is not None:
                (model,) = wish.known
                assert isinstance(model, FakeModel)
                found = next(one for one in self.workshop.tests.values() if getattr(one, "loaded", None) is model)
                self.updates = self._serve(found)
                self.agent.take_over(self._settings, self.plan)
            elif said == self._sent and self.updates.is_idle:
                return

    def _exchange(self) -> None:
        """Publish what it has sent, and let it have what is retained of what it has subscribed to."""
        for wanted, anew in self.link.subscribed[self._changes :]:
            new = [one for one in wanted if one not in self._asked or one in anew]
            self._asked = wanted
            for one in new:
                self.link.arrive(*(self._room.kept(one) if "edge/fleet" in one else ()))
        self._changes = len(self.link.subscribed)
        for answer in self.link.sent[self._sent :]:
            self._sent += 1
            self._room.publish(answer.topic, answer.payload, retain=answer.retain)

    def ask(self) -> bytes:
        """Return its answer to a message of a sensor."""
        self.link.arrive(Message("music/hall/features", b'{"tempo": 0.9}', qos=1))
        self.agent.step()
        return self.link.sent[-1].payload
