"""What others do while a candidate is compared: a person puts another model into use, settings are read anew, manifests come."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.serving.phases import Phase
from edge_agent.serving.released import Served, Verdict
from tests.unit.test_updating_contest import ALL, SOAK, begun, contest, goes_on
from tests.unit.updates import MANIFEST, Node, file, served

DECIDED = "another version was put into use on the device"


def in_phase(phase: str, **said: Any) -> Node:
    node = begun(**said)
    while node.state() != phase:
        goes_on(node)
    return node


def is_free(node: Node) -> bool:
    """Whether nothing is compared, asked for or under way, and a newer manifest is followed."""
    node.run()
    if not node.updates.is_idle or node.updates.holds or node.updates.wish is not None:
        return False
    node.chosen.clear()
    node.offer(file("1.9.0"), serial=9)
    node.clock.advance(60)
    node.run()
    return node.said["genre"]["installed_version"] == "1.9.0"


@pytest.mark.parametrize("version", ["1.0.0", "1.0.5"])
def test_another_version_that_a_person_uses_in_the_soak_ends_it(version: str) -> None:
    node = in_phase("committed")
    node.choose(served(version))
    node.run()
    assert (node.state(), node.reason()) == ("rolled_back", DECIDED)
    assert node.said["genre"]["installed_version"] == version
    assert not [one for one in node.workshop.done if one.startswith(("keep", "go back"))]
    assert node.updates._plan.contests == {}
    assert is_free(node)


@pytest.mark.parametrize("phase", ["shadow", "canary"])
def test_a_third_version_that_a_person_uses_before_ends_the_comparison(phase: str) -> None:
    node = in_phase(phase)
    node.choose(served("1.0.5"))
    node.run()
    assert (node.state(), node.reason()) == ("rolled_back", DECIDED)
    assert node.said["genre"]["installed_version"] == "1.0.5"
    assert node.updates._plan.contests == {}
    assert is_free(node)


def restarted(node: Node, *models: Served) -> Node:
    """The node after a restart, with what a person has put into use, when the same manifest comes again."""
    again = Node(names=[one.card.name for one in models])
    again.workshop, again.clock = node.workshop, node.clock
    again.original = {one.card.name: one for one in models}
    again.updates = again.plan(again.original)
    node.workshop.done.clear()
    (payload,) = node.workshop.offers
    again.hear(MANIFEST, payload)
    again.run()
    return again


@pytest.mark.parametrize("phase", ["shadow", "canary", "committed"])
def test_a_third_version_that_a_person_uses_holds_after_a_restart(phase: str) -> None:
    node = in_phase(phase)
    node.choose(served("1.0.5"))
    node.run()
    again = restarted(node, served("1.0.5"))
    assert (again.state(), again.reason(), again.fetched) == ("rolled_back", DECIDED, [])
    assert again.said["genre"]["installed_version"] == "1.0.5"
    assert is_free(again)


def test_one_of_several_that_a_person_uses_before_they_serve_decides_on_all() -> None:
    node = Node(names=("genre", "mood"))
    node.offer(file(), file(name="mood"), **ALL)
    node.run()
    node.choose(served("1.0.5"))
    node.run()
    again = restarted(node, served("1.0.5"), served(name="mood"))
    for name in ("genre", "mood"):
        assert (again.state(name), again.reason(name)) == ("rolled_back", DECIDED)
    assert again.fetched == []


def test_a_candidate_of_several_that_a_person_uses_stays_and_the_others_are_not_tried_again() -> None:
    node = Node(names=("genre", "mood"))
    node.offer(file(), file(name="mood"), **ALL)
    node.run()
    node.choose(served("1.1.0"))
    node.run()
    assert (node.state("mood"), node.reason("mood")) == ("rolled_back", DECIDED)
    assert [node.said[name]["installed_version"] for name in ("genre", "mood")] == ["1.1.0", "1.0.0"]
    assert not [one for one in node.workshop.done if one.startswith("go back")]
    again = restarted(node, served("1.1.0"), served(name="mood"))
    assert (again.state("mood"), again.fetched) == ("rolled_back", [])


def test_a_version_that_a_person_uses_while_a_release_is_fetched_ends_it() -> None:
    node = Node()
    node.offer(file(pieces=3), **ALL)
    node.turn(4)
    node.choose(served("1.0.5"))
    node.run()
    assert (node.state(), node.reason(), node.fetched) == ("rolled_back", DECIDED, [])
    assert restarted(node, served("1.0.5")).state() == "rolled_back"
    assert is_free(node)


@pytest.mark.parametrize("phase", ["shadow", "canary"])
def test_a_candidate_that_a_person_uses_is_installed(phase: str) -> None:
    node = in_phase(phase)
    node.choose(served("1.1.0"))
    node.run()
    assert (node.state(), node.said["genre"]["installed_version"]) == ("idle", "1.1.0")
    assert node.workshop.done[-1] == "keep 1.1.0"
    assert is_free(node)


def test_a_person_that_takes_back_one_of_several_takes_back_all() -> None:
    node = Node(names=("genre", "mood"))
    node.offer(file(), file(name="mood"), **{**ALL, **SOAK})
    node.run()
    assert node.state("mood") == "committed"
    node.choose(served("1.0.0"))
    node.run()
    for name in ("genre", "mood"):
        assert (node.state(name), node.reason(name)) == ("rolled_back", DECIDED)
        assert node.said[name]["installed_version"] == "1.0.0"
    assert node.workshop.done[-1] == "go back from 1.1.0 1.1.0"


def test_trouble_after_a_person_has_used_a_third_version_ends_with_it() -> None:
    node = in_phase("committed")
    contest(node).figures.failed.add("music/hall/features", case=True)
    node.clock.advance(1)
    node.chosen = {"genre": served("1.0.5")}
    node.run()
    assert (node.state(), node.said["genre"]["installed_version"]) == ("rolled_back", "1.0.5")
    assert "it fails on 1 of 1 row" in node.reason()
    assert is_free(node)


def test_going_back_is_not_tried_without_pause_while_the_candidate_stays() -> None:
    node = in_phase("committed")
    contest(node).figures.failed.add("music/hall/features", case=True)
    node.chosen = {"genre": served("1.1.0")}
    for _ in range(100):
        node.clock.advance(1)
        node.turn(3)
        if node.updates.wish is not None:
            node.reload()
    assert 3 <= node.workshop.done.count("go back from 1.1.0") <= 5
    node.chosen.clear()
    node.clock.advance(1000)
    node.run()
    assert (node.state(), node.said["genre"]["installed_version"]) == ("rolled_back", "1.0.0")
    assert is_free(node)


@pytest.mark.parametrize(
    ("serial", "version", "said"),
    [
        (1, "1.1.0", {"wave": ("nobody",)}),
        (2, "1.2.0", {"for": ("pi-2",)}),
        (2, "1.1.0", {}),
        (2, "1.2.0", {"wave": ()}),
    ],
)
def test_what_is_served_is_watched_to_the_end(serial: int, version: str, said: dict[str, Any]) -> None:
    node = in_phase("committed")
    node.offer(file(version), serial=serial, **{**ALL, **said})
    node.clock.advance(1)
    node.run()
    assert (node.state(), node.said["genre"]["latest_version"]) == ("committed", "1.1.0")
    assert "keep 1.1.0" not in node.workshop.done
    contest(node).figures.failed.add("music/hall/features", case=True)
    node.clock.advance(1)
    node.updates.turn()
    assert node.workshop.done[-1] == "go back from 1.1.0"


def test_what_waited_for_the_end_is_followed_then() -> None:
    node = in_phase("committed")
    node.offer(file("1.2.0"), serial=2, **{**ALL, "for": ("pi-2",)})
    node.clock.advance(1)
    node.run()
    goes_on(node)
    assert node.workshop.done[-1] == "keep 1.1.0"
    assert (node.state(), node.said["genre"]["latest_version"], node.said["genre"]["serial"]) == ("idle", "1.2.0", 2)


def test_a_newer_manifest_for_the_same_model_does_not_wait() -> None:
    node = in_phase("committed")
    node.offer(file("1.2.0"), serial=2)
    node.clock.advance(1)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.2.0"


def test_a_newer_manifest_for_one_of_several_waits() -> None:
    node = Node(names=("genre", "mood"))
    node.offer(file(), file(name="mood"), **{**ALL, **SOAK})
    node.run()
    node.offer(file("1.2.0"), serial=2)
    node.clock.advance(1)
    node.run()
    assert node.state("mood") == "committed"
    goes_on(node)
    assert "keep 1.1.0 1.1.0" in node.workshop.done
    assert node.said["genre"]["installed_version"] == "1.2.0"


def test_a_choice_that_was_noted_stands_against_the_manifest_in_force_and_not_against_a_newer_one() -> None:
    node = Node()
    one = file()
    node.offer(one)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"
    # As edge-agent model does before it puts another version into use.
    node.workshop.verdicts[one.sha256] = (1, Verdict(Phase.ROLLED_BACK, "chosen here"))
    node.choose(served("1.0.5"))
    node.run()
    (payload,) = node.workshop.offers
    node.hear(MANIFEST, payload)  # as on the next connection
    node.clock.advance(60)
    node.run()
    assert (node.state(), node.reason()) == ("rolled_back", "chosen here")
    assert node.said["genre"]["installed_version"] == "1.0.5"
    assert node.updates.wish is None
    assert is_free(node)
