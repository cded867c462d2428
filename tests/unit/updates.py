"""A node whose models are updated, with everything that takes time, files or cryptography in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from edge_agent.contract import topics
from edge_agent.contract.manifest import BLOB_BYTES, Manifest, ModelFile
from edge_agent.contract.messages import Message, Refused, validator
from edge_agent.contract.progress import ModelState
from edge_agent.errors import EdgeAgentError
from edge_agent.model.trust import Accepted, Offer
from edge_agent.serving.phases import UNDER_WAY
from edge_agent.serving.released import About, Served, Wish
from edge_agent.serving.updating import Updates
from edge_agent.testing import FakeClock, FakeModel, make_card
from edge_agent.testing.updates import FakeWorkshop

ABOUT = About("pi-1", "stable", max_bytes=10 * BLOB_BYTES)
MANIFEST = topics.manifest("stable")
KEYS = topics.keys("stable")


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def file(version: str = "1.1.0", pieces: int = 2, name: str = "genre", **said: Any) -> ModelFile:
    given = {
        "name": name,
        "version": version,
        "sha256": sha256_of(name + version),
        "size": pieces * BLOB_BYTES,
        "features": ("loudness",),
        "labels": ("Hip-Hop", "Rock"),
        "blobs": tuple(sha256_of(f"{version} {number}") for number in range(pieces)),
        **said,
    }
    return ModelFile(**given)


def served(version: str = "1.0.0", name: str = "genre", **changes: object) -> Served:
    changed = make_card().model_copy(update={"version": version, "name": name, **changes})
    return Served(changed, sha256_of(name + version), f"{name} {version}", FakeModel(changed))


class Node:
    """A node that serves `genre` 1.0.0, and what it said last of each model."""

    def __init__(self, about: About = ABOUT, names: Sequence[str] = ("genre",), **options: Any) -> None:
        self.clock = FakeClock()
        self.workshop = FakeWorkshop()
        self.refused: list[Refused] = []
        self.said: dict[str, ModelState] = {}
        self.states: list[str] = []
        self.fetched: list[str] = []
        self.options = options
        self.wishes: list[Wish] = []
        self.original = {name: served(name=name) for name in names}
        #: What a person has put into use.
        self.chosen: dict[str, Served] = {}
        self.updates = self.plan(self.original, about)
        self.turn()

    def plan(self, models: dict[str, Served], about: About = ABOUT, **more: Any) -> Updates:
        more = {"clock": self.clock, "now": lambda: f"at {self.clock():g}", **self.options, **more}
        return Updates(about, models, self.workshop, **more)

    def hear(self, topic: str, payload: bytes) -> None:
        assert self.updates.heard(Message(topic, payload, 1, retained=True))

    def offer(self, *files: ModelFile, serial: int = 1, wave: tuple[str, ...] | None = None, **said: Any) -> Manifest:
        """A manifest comes that is signed as it should be."""
        given = {"channel": "stable", "serial": serial, "issued": "2026-09-21T00:00:00Z", "models": files, **said}
        manifest = Manifest.model_validate(given)
        payload = f"{serial} {wave} {len(self.workshop.offers)}".encode()
        self.workshop.offers[payload] = Offer(manifest, wave, Accepted(serial), payload)
        for one in files:
            self.workshop.tests.setdefault(one.sha256, served(one.version, one.name))
        self.hear(MANIFEST, payload)
        return manifest

    def turn(self, times: int = 1, *, busy: bool = False) -> None:
        for _ in range(times):
            self.updates.turn(self.refused, busy=busy)
            for answer in self.updates.unsaid():
                assert (answer.retain, answer.qos) == (True, 1)
                name = answer.topic.removeprefix("edge/pi-1/model/")
                if not answer.payload:
                    del self.said[name]
                    continue
                said = validator(ModelState).validate_json(answer.payload, strict=True)
                self._never_back(said, self.said.get(name))
                self.said[name] = said
                self.states.append(said["state"])

    @staticmethod
    def _never_back(said: ModelState, before: ModelState | None) -> None:
        """How much of an update has come is told while it is under way, and only grows."""
        reached = said["update_percentage"]
        assert (reached is not None) == (said["state"] in set(UNDER_WAY)), said
        if reached is not None and before is not None and before["serial"] == said["serial"]:
            assert reached >= (before["update_percentage"] or 0), (before, said)

    def run(self, content: bytes = b"piece") -> None:
        """Go on until nothing more happens by itself; what is subscribed to comes."""
        quiet = 0
        while quiet < 5:
            before = len(self.states), len(self.fetched), len(self.workshop.done)
            self.turn()
            for topic in self.pieces:
                self.fetched.append(topic)
                self.hear(topic, content)
            if self.updates.wish is not None:
                self.reload()
            is_quiet = before == (len(self.states), len(self.fetched), len(self.workshop.done))
            quiet = quiet + 1 if is_quiet else 0

    def reload(self) -> None:
        """Take a plan with what is current in the store."""
        wish = self.updates.take_wish()
        assert wish is not None
        self.wishes.append(wish)
        self.take(self.plan(self.current(), self.updates.about, contests=wish.contests))

    def take(self, new: Updates) -> None:
        """Go on with another plan."""
        new.take_over(self.updates)
        self.updates = new

    def current(self) -> dict[str, Served]:
        """What the store says is to be served."""
        models = dict(self.original)
        for done in self.workshop.done:
            if done.startswith("go back"):
                models = dict(self.original)
            elif done.startswith("use "):
                versions = done.split()[1:]
                found = (one for one in self.workshop.tests.values() if isinstance(one, Served))
                models |= {one.card.name: one for one in found if one.card.version in versions}
        return {**models, **self.chosen}

    def choose(self, *models: Served) -> None:
        """A person puts other models into use by a command, which is noticed."""
        self.chosen |= {one.card.name: one for one in models}
        self.take_plan()

    def take_plan(self) -> None:
        """Take a plan that nobody wished for, as SIGHUP does."""
        self.take(self.plan(self.current(), self.updates.about))

    @property
    def pieces(self) -> list[str]:
        return [topic for topic in self.updates.subscriptions if "/blob/" in topic]

    def state(self, name: str = "genre") -> str:
        return str(self.said[name]["state"])

    def reason(self, name: str = "genre") -> str:
        return str(self.said[name]["reason"])


def refuse(node: Node, error: EdgeAgentError, payload: bytes = b"bad") -> None:
    """A manifest comes that is not accepted, for a reason."""
    node.workshop.offers[payload] = error
    node.hear(MANIFEST, payload)
    node.clock.advance(60)
    node.turn(3)
