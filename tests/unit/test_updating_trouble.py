"""What goes wrong in an update of models: nothing changes in what is served, and the reason is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_agent.contract import topics
from edge_agent.contract.manifest import Manifest
from edge_agent.contract.messages import Refused
from edge_agent.errors import CutShortError, FileError, ModelError, SettingsError, TrustError
from edge_agent.model.trust import Accepted, Offer
from edge_agent.testing import make_card
from tests.unit.updates import KEYS, Node, file, refuse, served, sha256_of


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
    assert node.said["genre"]["update_percentage"] == 50
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


def test_a_reason_is_told_as_one_line() -> None:
    node = Node()
    one = file()
    node.workshop.tests[one.sha256] = ModelError("genre: two\nlines\x1b" + "x" * 5000)
    node.offer(one)
    node.run()
    assert node.state() == "refused"
    assert node.reason().startswith("genre: two\\nlines\\x1bxxx")
    assert len(node.reason()) == 500


KILLED = "it was killed, most likely because the system ran out of memory"


def test_a_test_that_the_system_ends_is_tried_again_and_held_against_the_model_the_third_time() -> None:
    node = Node()
    node.workshop.outcomes["test"] = CutShortError(KILLED)
    node.offer(file())
    for pause in (10, 20):
        node.run()
        assert (node.state(), node.reason()) == ("fetching", KILLED)
        assert node.workshop.verdicts == {}
        node.clock.advance(pause)
    node.run()
    assert (node.state(), node.reason()) == ("refused", KILLED)
    assert node.workshop.verdicts
    assert node.workshop.done.count("test") == 3


def test_a_test_that_the_system_ended_once() -> None:
    node = Node()
    node.workshop.outcomes["test"] = CutShortError(KILLED)
    node.offer(file())
    node.run()
    del node.workshop.outcomes["test"]
    node.clock.advance(10)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_a_check_of_a_manifest_that_the_system_ends_is_made_again_twice() -> None:
    node = Node()
    node.workshop.outcomes["accept"] = CutShortError(KILLED)
    node.offer(file())
    for _ in range(9):
        node.clock.advance(60)
        node.turn(2)
    assert node.workshop.done == ["accept"] * 3
    assert (node.state(), node.reason()) == ("refused", KILLED)
    # Once more, when the keys are others: and not at once for good.
    del node.workshop.outcomes["accept"]
    node.hear(KEYS, b"keys")
    for _ in range(3):
        node.clock.advance(60)
        node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_of_two_models_none_is_served_where_one_can_not_be_placed() -> None:
    node = Node(names=("genre", "mood"))
    use, back = "use 1.1.0 1.1.0", "go back from 1.1.0 1.1.0"
    node.workshop.outcomes |= {use: FileError("/var/lib: No space left on device"), back: FileError("/var/lib: busy")}
    node.workshop.waits |= {use, back}
    node.offer(file(), file(name="mood"), soak_seconds=60)
    while use not in node.workshop.done:
        node.turn()
        for topic in node.pieces:
            node.hear(topic, b"piece")
    # Meanwhile, the store may say that one of them is to be served: nothing else is loaded from it.
    node.take(node.plan(node.original))
    assert (node.updates.holds, node.updates.wish) == (True, None)
    for backs in (1, 2):
        node.workshop.jobs[-1].ended = True
        node.turn(3)
        node.clock.advance(60)
        node.turn(3)
        assert node.workshop.done.count(back) == backs
        assert (node.updates.holds, node.updates.wish) == (True, None)
        node.workshop.outcomes.clear()
    node.workshop.waits.clear()
    node.workshop.jobs[-1].ended = True
    node.turn(3)
    assert not node.updates.holds
    for name in ("genre", "mood"):
        assert (node.state(name), node.said[name]["installed_version"]) == ("fetching", "1.0.0")
        assert node.reason(name) == "/var/lib: No space left on device"
    assert node.workshop.verdicts == {}, "nothing is held against the models"
    node.clock.advance(60)
    node.run()
    assert (node.state("genre"), node.state("mood")) == ("committed", "committed")
    assert set(node.wishes[-1].before) == {"genre", "mood"}


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


def test_a_plan_that_can_not_be_made_is_taken_back() -> None:
    node = Node()
    node.offer(file())
    while node.updates.wish is None:
        node.turn()
        for topic in node.pieces:
            node.hear(topic, b"piece")
    assert node.updates.holds
    node.updates.take_wish()
    node.workshop.outcomes["go back from 1.1.0"] = FileError("/var/lib: No space left on device")
    node.updates.plan_refused("route 1: no")
    node.run()
    assert node.updates.holds, "the store says still that it is to be served"
    del node.workshop.outcomes["go back from 1.1.0"]
    node.clock.advance(10)
    node.run()
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


def test_reasons_are_bounded() -> None:
    node = Node()
    refuse(node, TrustError("x" * 5000))
    assert len(json.dumps(node.said["genre"])) < 1000


def test_a_broker_that_keeps_nothing_is_told_of() -> None:
    node = Node()
    node.updates.reconnected()
    node.updates.turn(retains=False)
    node.turn()
    assert (node.state(), node.said["genre"]["installed_version"]) == ("idle", "1.0.0")
    assert "the broker keeps no retained messages" in node.reason()


def test_of_a_broker_that_keeps_nothing_no_retained_piece_is_expected() -> None:
    node = Node()
    node.offer(file(pieces=1))
    node.turn(4)
    node.clock.advance(30)
    node.updates.turn(retains=False)
    node.turn()
    assert "does not come on edge/fleet/stable/blob/" in node.reason()
    assert "use edge-agent model install" in node.reason()
    assert "again, retained" not in node.reason()
