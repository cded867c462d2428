"""What is served is watched to the end of its soak, by the rules of its own release, whatever becomes of connection, channel and routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent.assembly import make_plan
from edge_agent.config.settings import Settings
from edge_agent.errors import ModelError
from edge_agent.model.library import load, locate
from edge_agent.model.store import Store
from edge_agent.model.trust import Accepted, Kept
from edge_agent.serving.announcements import TakenBack
from edge_agent.serving.contest import Contesting
from edge_agent.serving.released import Wish
from tests.unit.test_on_trial import restarted
from tests.unit.updates import ABOUT, Node, file, served

pytestmark = pytest.mark.usefixtures("everything_is_logged")

SOAK: dict[str, Any] = {"soak_seconds": 60}
OTHERS = [ABOUT._replace(channel="beta"), ABOUT._replace(channel="")]


def in_soak(*names: str) -> Node:
    node = Node(names=names or ("genre",))
    node.offer(*(file(name=name) for name in node.original), **SOAK)
    node.run()
    assert node.state() == "committed"
    return node


def contest(node: Node, name: str = "genre") -> Contesting:
    return node.wishes[-1].contests[name]


def gets_worse(node: Node, name: str = "genre") -> None:
    contest(node, name).figures.failed.add("music/hall/features", case=True)
    node.clock.advance(1)
    node.run()


# -- the connection


def test_the_time_without_a_connection_does_not_count() -> None:
    node = in_soak()
    node.clock.advance(30)
    node.run()
    node.clock.advance(1000)
    for _ in range(2):  # the second attempt succeeds
        node.updates.reconnected()
        node.clock.advance(10)
    node.run()
    assert node.state() == "committed"
    node.clock.advance(29)
    node.run()
    assert node.state() == "committed"
    node.clock.advance(1)
    node.run()
    assert node.workshop.done[-1] == "keep 1.1.0"


@pytest.mark.parametrize("about", OTHERS)
def test_nor_does_it_where_another_broker_is_named_meanwhile(about: Any) -> None:
    node = in_soak()
    node.clock.advance(30)
    node.run()
    node.clock.advance(1000)
    node.take(node.plan(node.current(), about))
    node.updates.reconnected()
    node.run()
    node.clock.advance(29)
    node.run()
    assert node.state() == "committed"


def test_a_new_connection_in_other_phases_changes_nothing() -> None:
    node = Node()
    node.updates.reconnected()
    node.offer(file(), **SOAK)
    node.turn(4)
    node.clock.advance(1000)
    node.updates.reconnected()
    node.run()
    assert node.state() == "committed"
    node.clock.advance(60)
    node.run()
    assert node.state() == "idle"


# -- the channel


@pytest.mark.parametrize("about", OTHERS)
def test_another_channel_or_none_does_not_end_it(about: Any, caplog: pytest.LogCaptureFixture) -> None:
    node = in_soak()
    one = contest(node)
    node.clock.advance(30)
    node.take(node.plan(node.current(), about))
    node.run()
    assert "genre 1.1.0: watched to the end, although the channel is another one now" in caplog.text
    assert (node.state(), node.said["genre"]["channel"]) == ("committed", about.channel)
    assert contest(node) is one, "with the same figures"
    assert len(node.updates.subscriptions) == (2 if about.channel else 0)
    node.clock.advance(29)
    node.run()
    assert node.state() == "committed"
    node.clock.advance(1)
    node.run()
    assert (node.state(), node.workshop.done[-1]) == ("idle", "keep 1.1.0")
    assert node.updates.is_idle


@pytest.mark.parametrize("about", OTHERS)
def test_it_goes_back_on_another_channel_too(about: Any) -> None:
    node = in_soak()
    node.take(node.plan(node.current(), about))
    node.run()
    gets_worse(node)
    assert (node.state(), node.said["genre"]["installed_version"]) == ("rolled_back", "1.0.0")
    assert "it fails on 1 of 1 row" in node.reason()


@pytest.mark.parametrize("about", OTHERS)
def test_after_a_restart_too(about: Any) -> None:
    node = restarted(comes=False)
    node.updates = node.plan(node.original, about)
    node.run()
    assert node.state() == "committed"
    node.clock.advance(60)
    node.run()
    assert node.workshop.done[-1] == "keep 1.1.0"


def test_a_manifest_that_waited_on_the_former_channel_is_not_followed() -> None:
    node = in_soak()
    node.offer(file("1.2.0"), serial=2, **{"for": ("pi-2",)})
    node.clock.advance(1)
    node.run()
    node.take(node.plan(node.current(), OTHERS[0]))
    node.clock.advance(60)
    node.run()
    assert (node.state(), node.said["genre"]["latest_version"]) == ("idle", "1.1.0")


def test_another_node_id_begins_it_again() -> None:
    node = in_soak()
    node.take(node.plan(node.current(), ABOUT._replace(node="pi-9")))
    node.updates.turn()
    assert node.workshop.done[-1] == "former"


# -- routes


def test_where_a_model_loses_its_route_the_others_are_watched_on(caplog: pytest.LogCaptureFixture) -> None:
    node = in_soak("genre", "mood")
    node.workshop.formers |= {one.sha256: served(name=one.name) for one in (file(), file(name="mood"))}
    both = node.current()
    node.take(node.plan({"mood": both["mood"]}))
    assert "serial 1: genre 1.1.0 is not watched any more: no route names it" in caplog.text
    node.original = {"mood": both["mood"]}
    node.workshop.done.clear()
    node.run()
    assert (list(node.said), node.state("mood")) == (["mood"], "committed")
    assert list(node.wishes[-1].contests) == ["mood"]
    node.clock.advance(60)
    node.run()
    assert node.state("mood") == "idle"
    # The route comes back before the agent has ended: it was not watched to the end.
    node.original = both
    node.take_plan()
    node.run()
    assert (node.state("genre"), list(node.wishes[-1].contests)) == ("committed", ["genre"])


# -- a newer release that does not come to serve


def superseded(phase: str) -> Node:
    """A node whose 1.1.0 is in its soak when 1.2.0 comes, which is refused or goes back in a phase."""
    node, newer = restarted(), file("1.2.0")
    phases: dict[str, Any] = {"shadow": {"min_agreement": 0.9}, "canary": {"canary": 0.1}}
    said = phases.get(phase, {})
    if not said:
        node.workshop.tests[newer.sha256] = ModelError("genre: the self-test fails in row 3")
    node.clock.advance(30)
    node.offer(newer, serial=2, **SOAK, **said)
    node.run()
    if said:
        assert node.state() == phase
        gets_worse(node)
    return node


@pytest.mark.parametrize(
    ("phase", "state"), [("test", "refused"), ("shadow", "rolled_back"), ("canary", "rolled_back")]
)
def test_what_is_served_is_watched_on_where_the_release_that_superseded_it_does_not_come_to_serve(
    phase: str, state: str
) -> None:
    node = superseded(phase)
    before = dict(node.said["genre"])
    assert (before["state"], before["serial"], before["installed_version"]) == (state, 2, "1.1.0")
    assert (contest(node).share, list(node.wishes[-1].before)) == (1.0, ["genre"])
    assert node.workshop.trial[1] == {("genre", file().sha256)}, "also after a restart"
    node.clock.advance(59)
    node.run()
    assert node.workshop.done[-1] != "keep 1.1.0"
    node.clock.advance(1)
    node.run()
    assert node.workshop.done[-1] == "keep 1.1.0"
    assert node.said["genre"] == before, "what became of the newer one is what counts"
    assert node.updates.is_idle


def test_it_goes_back_then_and_says_so() -> None:
    node = superseded("test")
    node.original = {"genre": served("1.0.0")}
    gets_worse(node)
    assert (node.state(), node.said["genre"]["serial"]) == ("rolled_back", 1)
    assert "genre, committed: it fails" in node.reason()
    assert node.said["genre"]["installed_version"] == "1.0.0"


def test_it_is_watched_on_where_a_manifest_asks_for_it_again() -> None:
    node = restarted()
    node.offer(file("1.2.0", pieces=3), serial=2)
    node.clock.advance(1)
    node.turn(5)
    assert node.state() == "fetching"
    node.offer(file(), serial=3, **SOAK)
    node.clock.advance(1)
    node.run()
    assert (node.state(), contest(node).share) == ("idle", 1.0)
    assert node.updates.health is not None
    node.clock.advance(60)
    node.run()
    assert node.workshop.done[-1] == "keep 1.1.0"


def test_it_is_not_where_a_newer_one_has_come_to_serve_or_a_person_has_decided() -> None:
    node = restarted()
    node.offer(file("1.2.0"), serial=2)
    node.clock.advance(1)
    node.run()
    assert node.said["genre"]["installed_version"] == "1.2.0"
    assert node.updates.is_idle
    node = restarted()
    node.offer(file("1.2.0"), serial=2, min_agreement=0.9, **SOAK)
    node.clock.advance(1)
    node.run()
    node.choose(served("1.0.5"))
    node.run()
    assert node.state() == "rolled_back"
    assert node.updates.is_idle


# -- the agent as a whole


def settings(directory: Path, **sections: Any) -> Settings:
    return Settings(models={"directory": directory}, node={"id": "node"}, **sections)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One whose version in use is on trial, of a channel that is not followed any more."""
    store = Store(tmp_path)
    added = store.add("genre", "1.0.0", locate("genre"))
    store.use("genre", "1.0.0")
    kept = {"stable": Kept(accepted=Accepted(7))}
    store.change(lambda state: state.model_copy(update={"channels": kept}).watch({"genre": added.sha256}, 7))
    return store


def test_without_a_channel_what_is_served_is_watched_and_told(store: Store) -> None:
    plan = make_plan(settings(store.directory, home_assistant={"enabled": True}))
    assert plan.updates is not None
    assert not any(isinstance(one, TakenBack) for one in plan.later)
    assert plan.discovery is not None
    assert not plan.discovery.about.tells_models, "one of them tells it"
    assert not [topic for topic in plan.wanted if topic.startswith("edge/fleet")]
    store.change(lambda state: state.unwatch(["genre"]))
    assert make_plan(settings(store.directory)).updates is None
    # The plan that it wished for at the end: what came of it is yet to be said.
    plan = make_plan(settings(store.directory), wish=Wish())
    assert plan.updates is not None
    assert not any(isinstance(one, TakenBack) for one in plan.later)


def test_without_a_channel_what_is_not_served_is_not(store: Store) -> None:
    store.change(lambda state: state.watch({"genre": "0" * 64}, 8))
    assert make_plan(settings(store.directory)).updates is None
    (store.directory / "state.json").write_text("{")
    assert make_plan(settings(store.directory)).updates is None
    assert load(locate("genre")).card.name == "genre"
