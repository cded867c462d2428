"""What follows what in an update of models: with everything that takes time, files or cryptography in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest

from edge_agent.contract import topics
from edge_agent.contract.manifest import BLOB_BYTES, Manifest, ModelFile
from edge_agent.contract.messages import Message, Refused, validator
from edge_agent.contract.progress import ModelState, UpdateProgress
from edge_agent.errors import EdgeAgentError, FileError, ModelError, SettingsError, TrustError
from edge_agent.model.trust import Accepted, Offer
from edge_agent.serving.released import About, Served
from edge_agent.serving.updating import Updates
from edge_agent.testing import FakeClock, FakeWorkshop, make_card

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
    return Served(changed, sha256_of(name + version), f"{name} {version}")


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
        self.updates = self.plan({name: served(name=name) for name in names}, about)
        self.turn()

    def plan(self, models: dict[str, Served], about: About = ABOUT) -> Updates:
        return Updates(
            about, models, self.workshop, clock=self.clock, now=lambda: f"at {self.clock():g}", **self.options
        )

    def hear(self, topic: str, payload: bytes) -> None:
        assert self.updates.heard(Message(topic, payload, 1, retained=True))

    def offer(self, *files: ModelFile, serial: int = 1, wave: tuple[str, ...] | None = None, **said: Any) -> Manifest:
        """A manifest comes that is signed as it should be."""
        given = {"channel": "stable", "serial": serial, "issued": "2026-09-21T00:00:00Z", "models": files, **said}
        manifest = Manifest.model_validate(given)
        payload = f"{serial} {wave} {len(self.workshop.offers)}".encode()
        self.workshop.offers[payload] = Offer(manifest, wave, Accepted(serial))
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
                self.said[name] = said
                self.states.append(said["state"])

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
        changed = {one.card.name: one for one in self.candidates()}
        new = self.plan({**self.updates._served, **changed}, self.updates.about)
        self.updates.wish = None
        new.take_over(self.updates)
        self.updates = new

    def candidates(self) -> list[Served]:
        versions = [one.removeprefix("use ") for one in self.workshop.done if one.startswith("use ")][-1].split()
        return [one for one in self.workshop.tests.values() if isinstance(one, Served) and one.card.version in versions]

    @property
    def pieces(self) -> list[str]:
        return [topic for topic in self.updates.subscriptions if topic not in {MANIFEST, KEYS}]

    def state(self, name: str = "genre") -> str:
        return str(self.said[name]["state"])

    def reason(self, name: str = "genre") -> str:
        return str(self.said[name]["reason"])


def test_a_manifest_is_followed_all_the_way() -> None:
    node = Node()
    assert node.said["genre"]["installed_version"] == "1.0.0"
    node.offer(file(title="Genres", summary="better"), serial=7)
    node.run()
    changes = [one for place, one in enumerate(node.states) if node.states[place - 1 : place] != [one]]
    assert changes == ["idle", "fetching", "verified", "testing", "idle"]
    said = node.said["genre"]
    assert (said["installed_version"], said["latest_version"], said["serial"]) == ("1.1.0", "1.1.0", 7)
    assert (said["title"], said["release_summary"], said["reason"]) == ("Genres", "better", None)
    assert said["sha256"] == sha256_of("genre1.1.0")
    assert node.workshop.done == ["accept", "lacking", "test", "use 1.1.0", "keep 1.1.0"]
    node.turn(3)
    assert node.updates.is_idle


def test_one_piece_at_a_time_is_subscribed_to_and_none_while_messages_wait() -> None:
    node = Node()
    node.offer(file(pieces=3))
    node.turn(4, busy=True)
    assert node.pieces == []
    for number in range(3):
        node.turn()
        assert node.pieces == [topics.blob("stable", sha256_of("genre1.1.0"), number)]
        assert node.updates.subscriptions[node.pieces[0]]
        assert node.updates.has_changed()
        node.hear(node.pieces[0], b"piece")
    node.turn()
    assert node.pieces == []
    assert node.updates.has_changed()
    assert not node.updates.has_changed()


def test_how_far_it_is_stands_in_health_and_on_the_topic() -> None:
    node = Node()
    assert node.updates.health is None
    node.offer(file(pieces=4))
    node.turn(4)
    node.hear(node.pieces[0], b"piece")
    node.turn()
    assert node.said["genre"]["update_percentage"] == 25
    assert node.said["genre"]["in_progress"]
    health = validator(UpdateProgress).validate_python(node.updates.health)
    assert health == {
        "serial": 1,
        "state": "fetching",
        "models": ["genre"],
        "fetched": 1,
        "pieces": 4,
        "damaged": 0,
        "absent": 0,
    }


def test_a_piece_that_is_not_what_was_signed_is_fetched_again_after_pauses_that_grow() -> None:
    node = Node()
    node.offer(file(pieces=1))
    waited = []
    node.turn(4)
    for _ in range(4):
        node.hear(node.pieces[0], b"damaged")
        node.turn()
        began = node.clock()
        while not node.pieces:
            node.clock.advance(0.5)
            node.turn()
        waited.append(node.clock() - began)
    assert waited == [1, 2, 4, 8]
    assert "piece 1 of 1 is not what was signed" in node.reason()
    assert node.updates.health is not None
    assert node.updates.health["damaged"] == 4
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_pieces_that_never_come_are_told_and_asked_for_again_and_the_others_are_fetched_meanwhile() -> None:
    node = Node()
    node.offer(file(pieces=2))
    node.turn(4)
    first = node.pieces
    node.clock.advance(30)
    node.turn()
    assert node.pieces != first
    assert node.state() == "fetching"
    assert "piece 1 of 2 does not come on edge/fleet/stable/blob/" in node.reason()
    node.hear(node.pieces[0], b"piece")
    node.turn()
    assert node.pieces == []
    node.clock.advance(1)
    node.turn()
    assert node.pieces == first
    assert node.updates.health is not None
    assert node.updates.health["absent"] == 1
    # What comes by then, late or by chance, is for this all the same.
    node.hear(topics.blob("stable", sha256_of("other"), 0), b"piece")
    node.hear(first[0], b"")
    assert node.state() == "fetching"


def test_pieces_that_the_broker_refuses_are_told() -> None:
    node = Node()
    node.offer(file(pieces=1))
    node.turn(4)
    node.refused = [Refused(node.pieces[0], "Not authorized")]
    node.turn()
    assert node.pieces == []
    assert "the broker refuses the subscription" in node.reason()


def refuse(node: Node, error: EdgeAgentError, payload: bytes = b"bad") -> None:
    node.workshop.offers[payload] = error
    node.hear(MANIFEST, payload)
    node.clock.advance(60)
    node.turn(3)


def test_a_manifest_that_is_not_accepted_is_told_and_changes_nothing() -> None:
    node = Node(names=("genre", "mood"))
    refuse(node, TrustError("the manifest: not signed"))
    for name in ("genre", "mood"):
        assert (node.state(name), node.reason(name)) == ("refused", "the manifest: not signed")
        assert node.said[name]["installed_version"] == "1.0.0"
        assert not node.said[name]["in_progress"]
    assert node.workshop.done == ["accept"]
    # The same again is nothing new.
    node.hear(MANIFEST, b"bad")
    node.turn(3)
    assert node.workshop.done == ["accept"]


def test_it_does_not_disturb_an_update_that_is_under_way() -> None:
    node = Node()
    node.offer(file())
    node.turn(4)
    refuse(node, TrustError("the manifest: not signed"))
    assert node.state() == "fetching"
    node.clock.advance(2)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_a_hundred_manifests_a_second_cost_a_check_a_second_and_then_less() -> None:
    node = Node()
    for second in range(60):
        for number in range(100):
            payload = b"bad %d %d" % (second, number)
            node.workshop.offers[payload] = TrustError("the manifest: not signed")
            node.hear(MANIFEST, payload)
            node.turn()
        node.clock.advance(1)
    assert len(node.workshop.done) <= 7
    # The newest counts, so that one that is right is taken in the end.
    node.offer(file())
    node.clock.advance(60)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_a_message_that_is_too_large_is_not_kept_whole() -> None:
    node = Node()
    node.hear(MANIFEST, b"x" * 4_000_000)
    kept = node.updates._course.checking._waiting[MANIFEST]
    assert len(kept) == 128 * 1024 + 1


def test_a_newer_manifest_supersedes_and_of_two_at_once_the_newer_counts() -> None:
    node = Node()
    node.offer(file("1.1.0"), serial=1)
    node.turn(4)
    node.offer(file("1.2.0"), serial=2)
    node.offer(file("1.3.0"), serial=3)
    node.clock.advance(1)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.3.0"
    assert node.said["genre"]["serial"] == 3
    assert "use 1.3.0" in node.workshop.done
    assert not any("1.1.0" in one or "1.2.0" in one for one in node.workshop.done)


def test_what_is_just_being_put_in_place_is_not_superseded_but_followed() -> None:
    node = Node()
    node.workshop.waits = {"use 1.1.0"}
    node.offer(file("1.1.0"), serial=1)
    node.run()
    node.offer(file("1.2.0"), serial=2)
    node.clock.advance(1)
    node.run()
    assert node.workshop.done[-1] == "accept"
    node.workshop.jobs[-2].ended = True
    node.run()
    assert node.said["genre"]["installed_version"] == "1.2.0"


def test_the_same_manifest_for_another_wave_goes_on_where_it_is() -> None:
    node = Node()
    node.offer(file(), wave=("pi-1",))
    node.turn(4)
    asked = node.pieces
    node.offer(file(), wave=("10%", "pi-1"))
    node.clock.advance(1)
    node.turn(3)
    assert node.pieces == asked


@pytest.mark.parametrize("said", [{"wave": ("pi-2",)}, {"for": ("pi-2",)}])
def test_a_node_that_is_not_meant_says_what_there_is_and_does_nothing(said: dict[str, Any]) -> None:
    node = Node()
    node.offer(file(), **said)
    node.run()
    assert (node.state(), node.said["genre"]["latest_version"]) == ("idle", "1.1.0")
    assert node.said["genre"]["installed_version"] == "1.0.0"
    assert node.fetched == []


def test_a_model_that_is_not_served_is_none_of_its_business() -> None:
    node = Node()
    node.offer(file(name="mood"))
    node.run()
    assert (list(node.said), node.state(), node.fetched) == (["genre"], "idle", [])


def test_all_models_of_a_manifest_change_together_or_none() -> None:
    node = Node(names=("genre", "mood"))
    bad = file("2.0.0", name="mood")
    node.workshop.tests[bad.sha256] = ModelError("mood: the self-test failed on 2 of 2 rows")
    node.offer(file("1.1.0"), bad)
    node.run()
    for name in ("genre", "mood"):
        assert (node.state(name), node.reason(name)) == ("refused", "mood: the self-test failed on 2 of 2 rows")
        assert node.said[name]["installed_version"] == "1.0.0"
    assert "use" not in " ".join(node.workshop.done)
    node.offer(file("1.1.0"), file("2.0.1", name="mood"), serial=2)
    node.clock.advance(1)
    node.run()
    assert [node.said[name]["installed_version"] for name in ("genre", "mood")] == ["1.1.0", "2.0.1"]


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (served("1.1.0", "mood"), "the manifest says name 'genre', the model card 'mood'"),
        (served("1.2.0"), "the manifest says version '1.1.0', the model card '1.2.0'"),
        (served("1.1.0", labels=("Hip-Hop", "Jazz")), "the manifest says labels 'Hip-Hop, Rock', the model card"),
        (ModelError("genre: it exceeded its memory limit of 4096 MiB"), "it exceeded its memory limit"),
    ],
)
def test_a_candidate_that_is_not_what_it_should_be(candidate: Any, why: str) -> None:
    node = Node()
    one = file()
    node.workshop.tests[one.sha256] = candidate
    node.offer(one)
    node.run()
    assert node.state() == "refused"
    assert why in node.reason()
    assert node.workshop.done[-1] == "go back from 1.1.0"
    assert "use" not in " ".join(node.workshop.done)
    # Nor is it tried again, after a restart say, before a manifest with a higher serial.
    again = Node()
    again.workshop = node.workshop
    again.updates = again.plan({"genre": served()})
    again.offer(one)
    again.run()
    assert again.state() == "refused"
    assert again.fetched == []
    again.workshop.tests[one.sha256] = served("1.1.0")
    again.offer(one, serial=2)
    again.clock.advance(1)
    again.run()
    assert again.said["genre"]["installed_version"] == "1.1.0"


OTHER: dict[str, Any] = {"features": make_card(("tempo",)).features}


def test_another_contract_is_refused_unless_that_is_meant() -> None:
    node = Node()
    one = file(features=("tempo",))
    node.workshop.tests[one.sha256] = served("1.1.0", **OTHER)
    node.offer(one)
    node.run()
    assert node.state() == "refused"
    assert "it changes the features of genre 1.0.0: tempo instead of loudness" in node.reason()
    node.workshop.verdicts.clear()
    node.offer(one, serial=2, new_contract=True)
    node.clock.advance(1)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_a_route_that_can_not_use_it_refuses_it_in_any_case() -> None:
    def fits(models: Any) -> None:
        if models["genre"].card.feature_names != ("loudness",):
            raise SettingsError("route 1: fields.loudness: model 'genre' has no such feature")

    node = Node(fits=fits)
    one = file(features=("tempo",))
    node.workshop.tests[one.sha256] = served("1.1.0", **OTHER)
    node.offer(one, new_contract=True)
    node.run()
    assert (node.state(), node.reason()) == (
        "refused",
        "route 1: fields.loudness: model 'genre' has no such feature",
    )


def test_a_file_that_is_too_large_is_not_even_fetched() -> None:
    node = Node()
    node.offer(file(pieces=11))
    node.run()
    assert node.state() == "refused"
    assert "more than update.max_bytes" in node.reason()
    assert node.fetched == []


@pytest.mark.parametrize("what", ["lacking", "test", "use 1.1.0"])
def test_a_full_disk_is_tried_again_and_nothing_is_held_against_the_model(what: str) -> None:
    node = Node()
    node.workshop.outcomes[what] = FileError("/var/lib: No space left on device")
    node.offer(file())
    node.run()
    assert (node.state(), node.reason()) == ("fetching", "/var/lib: No space left on device")
    assert node.said["genre"]["installed_version"] == "1.0.0"
    assert node.workshop.verdicts == {}
    del node.workshop.outcomes[what]
    node.run()
    assert node.state() == "fetching"
    node.clock.advance(10)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_a_disk_that_fills_up_in_the_middle() -> None:
    node = Node()
    node.offer(file())
    node.turn(4)
    node.workshop.parts[sha256_of("genre1.1.0")].full = FileError("/var/lib: No space left on device")
    node.run()
    assert (node.state(), node.reason()) == ("fetching", "/var/lib: No space left on device")
    assert node.pieces == []
    node.workshop.parts[sha256_of("genre1.1.0")].full = None
    node.clock.advance(10)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_a_serial_that_can_not_be_noted_is_checked_again() -> None:
    node = Node()
    node.workshop.outcomes["accept"] = FileError("/var/lib: No space left on device")
    node.offer(file())
    node.turn(2)
    assert (node.state(), node.reason()) == ("refused", "/var/lib: No space left on device")
    del node.workshop.outcomes["accept"]
    node.clock.advance(60)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_what_there_is_of_a_file_is_not_fetched_again() -> None:
    node = Node()
    one = file(pieces=3)
    node.workshop.part(one).lacking = {2}
    node.offer(one)
    node.run()
    assert node.fetched == [topics.blob("stable", one.sha256, 2)]
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_a_file_that_the_store_has_needs_no_piece() -> None:
    node = Node()
    one = file()
    node.workshop.there = {one.sha256}
    node.offer(one)
    node.run()
    assert node.fetched == []
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_by_hand_it_waits_for_the_request() -> None:
    node = Node(ABOUT._replace(by_hand=True))
    assert node.updates.install("") == ([], "no update waits to be installed")
    node.offer(file())
    node.run()
    assert (node.state(), node.said["genre"]["in_progress"]) == ("verified", False)
    assert node.said["genre"]["latest_version"] == "1.1.0"
    assert node.updates.install("mood") == ([], "no update of 'mood' waits to be installed; of genre there is one")
    assert node.updates.install("genre") == (["genre"], None)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_a_plan_that_can_not_be_made_is_taken_back() -> None:
    node = Node()
    node.offer(file())
    while node.updates.wish is None:
        node.turn()
        for topic in node.pieces:
            node.hear(topic, b"piece")
    assert node.updates.holds
    node.updates.wish = None
    node.updates.plan_refused("route 1: no")
    node.turn(3)
    assert (node.state(), node.reason()) == ("refused", "route 1: no")
    assert node.workshop.done[-1] == "go back from 1.1.0"
    assert not node.updates.holds


def test_other_keys_are_taken_and_what_they_signed_is_checked_again() -> None:
    node = Node()
    refuse(node, TrustError("signed by key 12, which is not trusted here"), b"by the new key")
    node.hear(KEYS, b"keys")
    node.clock.advance(60)
    one = file()
    node.workshop.tests[one.sha256] = served("1.1.0")
    manifest = Manifest.model_validate(
        {"channel": "stable", "serial": 1, "issued": "2026-09-21T00:00:00Z", "models": (one,)}
    )
    node.workshop.offers[b"by the new key"] = Offer(manifest, None, Accepted(1))
    for _ in range(3):
        node.run()
        node.clock.advance(60)
    assert "trust" in node.workshop.done
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_a_new_connection_says_everything_again_and_asks_for_the_piece_again() -> None:
    node = Node()
    node.offer(file())
    node.turn(4)
    asked = node.pieces
    node.states.clear()
    node.updates.reconnected()
    node.turn()
    assert node.states == ["fetching"]
    assert node.pieces == asked


def test_a_reload_goes_on_with_what_is_under_way() -> None:
    node = Node()
    node.offer(file(pieces=3))
    node.turn(4)
    node.hear(node.pieces[0], b"piece")
    new = node.plan({"genre": served()})
    new.take_over(node.updates)
    node.updates = new
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"
    assert len(node.fetched) == 2


def test_a_reload_without_the_model_takes_back_what_was_said_of_it() -> None:
    node = Node(names=("genre", "mood"))
    node.offer(file(pieces=3))
    node.turn(4)
    new = node.plan({"mood": served(name="mood")})
    new.take_over(node.updates)
    node.updates = new
    node.turn(2)
    assert list(node.said) == ["mood"]
    assert node.pieces == []


def test_another_channel_begins_anew() -> None:
    node = Node()
    node.offer(file(pieces=3))
    node.workshop.waits = {"test"}
    node.run()
    new = node.plan({"genre": served()}, ABOUT._replace(channel="beta"))
    new.take_over(node.updates)
    assert node.workshop.jobs[-1].closed
    assert list(new.subscriptions) == ["edge/fleet/beta/keys", "edge/fleet/beta/manifest"]


def test_what_is_not_for_it_is_left_to_others() -> None:
    node = Node()
    assert not node.updates.heard(Message("edge/fleet/beta/manifest", b"{}"))
    assert not node.updates.heard(Message("music/hall/features", b"{}"))
    node.hear(MANIFEST, b"")
    assert node.updates.is_idle


def test_reasons_are_bounded() -> None:
    node = Node()
    refuse(node, TrustError("x" * 5000))
    assert len(json.dumps(node.said["genre"])) < 1000
