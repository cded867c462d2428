"""A candidate is compared with the model before it, in phases, and goes back by itself when it is worse."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.contract.messages import validator
from edge_agent.contract.progress import UpdateProgress
from edge_agent.errors import FileError
from edge_agent.serving.contest import Contesting
from tests.unit.updates import Node, file, served, sha256_of

ALL: dict[str, Any] = {"soak_seconds": 60, "min_agreement": 0.98, "canary": 0.1}
SOAK: dict[str, Any] = {"min_agreement": None, "canary": 0.0}


def begun(**said: Any) -> Node:
    """A node whose candidate has passed its tests."""
    node = Node()
    node.offer(file(), **{**ALL, **said})
    node.run()
    return node


def contest(node: Node) -> Contesting:
    return node.wishes[-1].contests["genre"]


def goes_on(node: Node) -> None:
    node.clock.advance(60)
    node.run()


def test_all_phases_in_their_order() -> None:
    node = begun()
    seen = []
    while node.state() != "idle":
        one = contest(node)
        seen.append((node.state(), one.share, node.said["genre"]["installed_version"], list(node.wishes[-1].before)))
        goes_on(node)
    assert seen == [
        ("shadow", 0.0, "1.0.0", []),
        ("canary", 0.1, "1.0.0", []),
        ("committed", 1.0, "1.1.0", ["genre"]),
    ]
    # In the end the model before is not kept open.
    assert (node.wishes[-1].contests, node.wishes[-1].before) == ({}, {})
    assert node.workshop.done == ["accept", "lacking", "test", "use 1.1.0", "keep 1.1.0"]
    assert node.updates.is_idle


@pytest.mark.parametrize(
    ("said", "phases"),
    [
        ({"min_agreement": None}, ["canary", "committed"]),
        ({"canary": 0.0}, ["shadow", "committed"]),
        ({"canary": 1.0, "min_agreement": None}, ["committed"]),
    ],
)
def test_a_phase_that_nobody_asked_for_is_left_out(said: dict[str, Any], phases: list[str]) -> None:
    node = begun(**said)
    seen = []
    while node.state() != "idle":
        seen.append(node.state())
        goes_on(node)
    assert seen == phases


@pytest.mark.parametrize("phase", ["shadow", "canary", "committed"])
def test_a_candidate_that_is_worse_goes_back_and_is_not_tried_again(phase: str) -> None:
    node = begun()
    while node.state() != phase:
        goes_on(node)
    contest(node).figures.failed.add("music/hall/features", case=True)
    node.clock.advance(1)
    node.run()
    assert node.state() == "rolled_back"
    assert f"genre, {phase}: it fails on 1 of 1 row" in node.reason()
    assert node.said["genre"]["compared"]["failed"] == 1
    assert node.said["genre"]["installed_version"] == "1.0.0"
    assert (node.wishes[-1].contests, node.wishes[-1].before) == ({}, {})
    assert node.workshop.done[-1] == "go back from 1.1.0"
    assert node.updates.is_idle
    again = Node()
    again.workshop = node.workshop
    again.updates = again.plan({"genre": served()})
    again.offer(file(), **ALL)
    again.run()
    assert (again.state(), again.reason()) == ("rolled_back", node.reason())
    assert again.fetched == []


def test_going_back_is_tried_again_while_the_disk_is_full() -> None:
    node = begun(**SOAK)
    assert node.state() == "committed"
    node.workshop.outcomes["go back from 1.1.0"] = FileError("/var/lib: Read-only file system")
    contest(node).figures.failed.add("music/hall/features", case=True)
    node.clock.advance(1)
    node.run()
    assert (node.state(), node.updates.holds) == ("committed", True)
    del node.workshop.outcomes["go back from 1.1.0"]
    node.clock.advance(10)
    node.run()
    assert node.state() == "rolled_back"


def test_a_candidate_that_can_not_be_placed_answers_no_share_until_it_is_tried_again() -> None:
    node = begun(min_agreement=None)
    assert node.state() == "canary"
    node.workshop.outcomes["use 1.1.0"] = FileError("/var/lib: No space left on device")
    goes_on(node)
    assert (node.state(), node.wishes[-1].contests) == ("fetching", {})
    del node.workshop.outcomes["use 1.1.0"]
    goes_on(node)
    assert node.state() == "canary"
    goes_on(node)
    assert (node.state(), list(node.wishes[-1].before)) == ("committed", ["genre"])


def test_what_another_version_took_the_place_of_is_placed_again() -> None:
    node = begun(**SOAK, soak_seconds=0)
    assert node.state() == "idle"
    node.offer(file("1.2.0"), serial=2, soak_seconds=0)
    node.clock.advance(1)
    while node.updates.wish is None:
        node.turn()
        for topic in node.pieces:
            node.hear(topic, b"piece")
    wish = node.updates.take_wish()
    assert wish is not None
    node.take(node.plan(node.original, contests=wish.contests))
    node.turn(5)
    assert (node.state(), node.updates.holds) == ("fetching", False)
    assert node.reason() == "another version was put into use meanwhile"
    goes_on(node)
    assert (node.state(), node.said["genre"]["installed_version"]) == ("idle", "1.2.0")


def test_a_reload_in_between_goes_on_with_the_same_figures() -> None:
    node = begun()
    one = contest(node)
    node.take(node.plan(node.current()))
    node.run()
    assert contest(node) is one
    assert node.state() == "shadow"


def test_a_newer_manifest_ends_the_contest() -> None:
    node = begun()
    node.offer(file("1.2.0"), serial=2)
    node.clock.advance(1)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.2.0"
    assert node.wishes[-1].contests == {}


def test_the_same_manifest_for_another_wave_does_not_end_it() -> None:
    node = begun(**SOAK)
    assert node.state() == "committed"
    node.offer(file(), wave=("pi-1", "100%"), **{**ALL, **SOAK})
    node.clock.advance(1)
    node.run()
    assert node.state() == "committed"
    assert node.said["genre"]["sha256"] == sha256_of("genre1.1.0")


def test_health_has_the_figures() -> None:
    node = begun()
    contest(node).figures.differing.add("music/hall/features", case=False)
    health = validator(UpdateProgress).validate_python(node.updates.health)
    assert health["compared"]["genre"]["agreement"] == 1.0
