"""A manifest is looked at again when what it is compared with has changed, without a new connection."""

from __future__ import annotations

from edge_agent.errors import TrustError
from edge_agent.serving.phases import Phase
from edge_agent.serving.released import Verdict
from tests.unit.updates import ABOUT, MANIFEST, Node, file, served

REFUSED = b"refused"


def refusing() -> Node:
    """A node that has refused a manifest."""
    node = Node()
    node.workshop.offers[REFUSED] = TrustError("the manifest: signed by key 7, which is not trusted here")
    node.hear(MANIFEST, REFUSED)
    node.run()
    assert node.state() == "refused"
    return node


def later(node: Node) -> None:
    """Let the longest pause between two checks pass."""
    node.clock.advance(60)
    node.run()


def test_a_choice_of_a_person_is_told_at_once() -> None:
    node = Node()
    new = file("1.1.0")
    node.offer(new)
    node.run()
    node.workshop.verdicts[new.sha256] = (1, Verdict(Phase.ROLLED_BACK, "another version was chosen"))
    node.choose(served("1.0.0"))
    later(node)
    assert (node.state(), node.reason()) == ("rolled_back", "another version was chosen")
    assert (node.said["genre"]["installed_version"], node.said["genre"]["latest_version"]) == ("1.0.0", "1.1.0")
    assert node.workshop.done.count("use 1.1.0") == 1


def test_a_model_that_a_new_route_names_is_taken_from_the_manifest_that_is_there() -> None:
    node = Node()
    node.offer(file("1.1.0"), file("2.0.0", name="mood"))
    node.run()
    node.original["mood"] = served(name="mood")
    node.take_plan()
    later(node)
    assert [node.said[name]["installed_version"] for name in ("genre", "mood")] == ["1.1.0", "2.0.0"]


def test_a_manifest_that_was_refused_is_checked_again_with_other_keys() -> None:
    node = refusing()
    node.workshop.offers[REFUSED] = None  # the keys of the next plan would take it
    node.take(node.plan(node.original, ABOUT._replace(trusts="others")))
    later(node)
    assert node.workshop.done.count("accept") == 2
    node.take_plan()
    later(node)
    assert node.workshop.done.count("accept") == 2, "nothing has changed"


def test_a_manifest_that_was_too_large_is_followed_when_more_is_allowed() -> None:
    node = Node(ABOUT._replace(max_bytes=10))
    node.offer(file("1.1.0"))
    node.run()
    assert node.state() == "refused"
    node.take(node.plan(node.original, ABOUT))
    later(node)
    assert node.said["genre"]["installed_version"] == "1.1.0"


def test_a_manifest_that_was_refused_is_checked_again_on_another_connection() -> None:
    node = refusing()
    for count in (2, 3):
        node.updates.reconnected()
        node.hear(MANIFEST, REFUSED)
        later(node)
        assert node.workshop.done.count("accept") == count


def test_one_that_is_followed_is_not_checked_again_on_another_connection() -> None:
    node = Node()
    node.offer(file("1.1.0"))
    node.run()
    (followed,) = node.workshop.offers
    node.updates.reconnected()
    node.hear(MANIFEST, followed)
    later(node)
    assert node.workshop.done.count("accept") == 1


def test_one_that_was_cleared_is_not_looked_at_again() -> None:
    node = Node()
    node.offer(file("1.1.0"))
    node.run()
    node.hear(MANIFEST, b"")
    node.choose(served("1.0.0"))
    later(node)
    assert (node.state(), node.workshop.done.count("accept")) == ("idle", 1)
