"""What follows what in an update of models: with everything that takes time, files or cryptography in memory."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.contract import topics
from edge_agent.contract.messages import Message, validator
from edge_agent.contract.progress import UpdateProgress
from edge_agent.errors import ModelError
from tests.unit.updates import ABOUT, MANIFEST, Node, file, served, sha256_of


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
    node.take(node.plan({"genre": served()}))
    node.run()
    assert node.said["genre"]["installed_version"] == "1.1.0"
    assert len(node.fetched) == 2


def test_a_reload_without_the_model_takes_back_what_was_said_of_it() -> None:
    node = Node(names=("genre", "mood"))
    node.offer(file(pieces=3))
    node.turn(4)
    node.take(node.plan({"mood": served(name="mood")}))
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
