"""Manifests and lists of keys that are not accepted: told, and at a cost that is bounded."""

from __future__ import annotations

from edge_agent.errors import TrustError
from tests.unit.updates import KEYS, MANIFEST, Node, file, refuse


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


def test_lists_of_keys_that_are_refused_keep_no_manifest_waiting() -> None:
    """However fast they come."""
    node = Node()
    node.offer(file())
    for number in range(4):
        payload = b"keys %d" % number
        node.workshop.offers[payload] = TrustError("the list of keys: not signed")
        node.hear(KEYS, payload)
        node.turn(3)
        node.clock.advance(60)
    assert node.workshop.done == ["trust", "accept", "lacking", "trust", "trust"]
    assert node.state() == "fetching"


def test_a_message_that_is_too_large_is_not_kept_whole() -> None:
    node = Node()
    node.hear(MANIFEST, b"x" * 4_000_000)
    kept = node.updates._course.checking._waiting[MANIFEST]
    assert len(kept) == 128 * 1024 + 1
