"""A model on trial that ends the agent itself goes back; one that only stopped with it is watched again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.contract.manifest import ModelFile
from edge_agent.errors import EdgeAgentError, ModelError, SettingsError
from edge_agent.model.state import State
from edge_agent.model.store import Store
from edge_agent.model.watching import MOST, Watching
from edge_agent.serving.contest import Contesting
from edge_agent.testing.updates import FakeWorkshop
from tests.unit.test_store import Refusing
from tests.unit.updates import ABOUT, MANIFEST, Node, file, served, sha256_of

SOAK: dict[str, Any] = {"soak_seconds": 60}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One in which 1.1.0 is in use, on trial, and before it 1.0.0."""
    store = Store(tmp_path / "models")
    for version in ("1.0.0", "1.1.0"):
        store.use("genre", store.add("genre", version, version.encode()).sha256)
    store.change(lambda state: state.watch({"genre": in_use(store)[1]}, 7))
    return store


def in_use(store: Store) -> tuple[str, str]:
    current = store.current("genre")
    assert current is not None
    return current.version, current.sha256


def crash(store: Store, times: int = 1) -> None:
    """The agent begins, and something ends it."""
    for _ in range(times):
        Watching(store, follows=True).__enter__()


def ends(store: Store) -> int | None:
    watched = store.read().watched
    return None if watched is None else watched.ends


def test_one_that_ends_the_agent_again_and_again_goes_back_and_is_remembered(store: Store) -> None:
    bad = in_use(store)[1]
    crash(store, MOST - 1)  # after the run in which it was put into use
    assert in_use(store)[0] == "1.1.0"
    crash(store)
    assert in_use(store)[0] == "1.0.0"
    refused = store.read().refused[bad]
    assert (refused.serial, refused.rolled_back) == (7, True)
    assert refused.reason == "the agent ended 3 times while it was watched"
    assert store.read().watched is None
    before = store.read()
    crash(store, 5)
    assert (in_use(store)[0], store.read()) == ("1.0.0", before)


def test_where_nothing_was_kept_before_it_the_bundled_one_is_served_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    bad = store.add("genre", "1.1.0", b"bad")
    store.use("genre", "1.1.0")
    store.change(lambda state: state.watch({"genre": bad.sha256}, 7))
    crash(store, MOST)
    assert store.names() == []
    assert bad.sha256 in store.read().refused


def test_a_candidate_that_is_only_compared_is_refused_and_what_is_served_stays(store: Store) -> None:
    good = in_use(store)[1]
    candidate = store.add("genre", "1.2.0", b"candidate").sha256
    store.write(State().watch({"genre": candidate}, 8))
    crash(store, MOST)
    assert in_use(store)[1] == good
    assert list(store.read().refused) == [candidate]


def test_an_end_as_it_should_be_does_not_count(store: Store) -> None:
    for _ in range(3 * MOST):
        with Watching(store, follows=True):
            assert ends(store) == 2
        assert ends(store) == 1
    with pytest.raises(SystemExit), Watching(store, follows=True):
        raise SystemExit
    with pytest.raises(SettingsError), Watching(store, follows=True):
        raise SettingsError("mqtt.host")
    assert (ends(store), in_use(store)[0]) == (1, "1.1.0")


def test_a_run_that_puts_it_into_use_and_stops_as_it_should_does_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    with Watching(store, follows=True):
        store.change(lambda state: state.watch({"genre": "a" * 64}, 7))
        assert ends(store) == 1
    assert ends(store) == 0


@pytest.mark.parametrize("error", [ModelError("genre: the self-test fails"), MemoryError()])
def test_a_model_that_keeps_the_agent_from_starting_counts(store: Store, error: Exception) -> None:
    with pytest.raises(type(error)), Watching(store, follows=True):
        raise error
    assert ends(store) == 2


def test_power_failures_of_one_trial_are_forgotten_with_it(store: Store) -> None:
    crash(store, MOST - 1)
    store.change(lambda state: state.unwatch(["genre"]))
    store.change(lambda state: state.watch({"genre": "a" * 64}, 8))
    assert ends(store) == 1


def test_the_same_trial_again_counts_on_and_another_one_begins_anew(store: Store) -> None:
    crash(store)
    store.change(lambda state: state.watch({"genre": in_use(store)[1]}, 8))
    assert ends(store) == 2
    store.change(lambda state: state.watch({"mood": "b" * 64}, 8))
    watched = store.read().watched
    assert watched is not None
    assert (watched.ends, list(watched.files)) == (1, ["mood"]), "one release at a time is on trial"


def test_without_a_channel_only_what_is_in_use_is_on_trial(store: Store) -> None:
    with Watching(store, follows=False):
        assert (ends(store), in_use(store)[0]) == (2, "1.1.0")
    store.rollback("genre")
    with Watching(store, follows=False):
        assert (ends(store), in_use(store)[0]) == (None, "1.0.0")


@pytest.mark.parametrize("change", [lambda store: store.change(lambda state: state.unwatch(["genre"])), lambda _: None])
def test_nothing_is_written_without_a_trial_and_a_disk_that_can_t_be_written_to_keeps_nobody_from_serving(
    store: Store, change: Callable[[Store], object], caplog: pytest.LogCaptureFixture
) -> None:
    class Full(Refusing):
        def create(self, *_: object) -> int:
            raise OSError(28, "No space left on device")

    change(store)
    on_trial = ends(store) is not None
    before = store.read()
    with Watching(Store(store.directory, disk=Full()), follows=True):
        pass
    assert store.read() == before
    assert on_trial == ("can't be noted" in caplog.text)


# -- after a restart


def restarted(*, former: bool = True, comes: bool = True, **said: Any) -> Node:
    """A node that serves 1.1.0, which was watched when the agent ended; then its manifest `comes` again."""
    node = Node()
    node.original = {"genre": served("1.1.0")}
    node.workshop.formers[sha256_of("genre1.1.0")] = served("1.0.0") if former else None
    manifest = node.offer(file(), **{**SOAK, **said})
    node.workshop.trial = manifest, {("genre", sha256_of("genre1.1.0"))}
    node.updates = node.plan(node.original, ABOUT)
    if comes:
        (payload,) = node.workshop.offers
        node.hear(MANIFEST, payload)
    node.run()
    return node


def contest(node: Node) -> Contesting:
    return node.wishes[-1].contests["genre"]


def test_the_soak_begins_again_with_the_model_before() -> None:
    node = restarted(min_agreement=0.98, canary=0.1)
    assert (node.state(), node.said["genre"]["installed_version"]) == ("committed", "1.1.0")
    assert (contest(node).share, list(node.wishes[-1].before)) == (1.0, ["genre"])
    node.clock.advance(59)
    node.run()
    assert node.state() == "committed"
    node.clock.advance(1)
    node.run()
    assert node.state() == "idle"
    assert sorted(node.workshop.done) == ["accept", "former", "keep 1.1.0"]
    assert node.wishes[-1].contests == {}
    assert node.updates.is_idle


def test_it_still_goes_back_when_it_is_worse() -> None:
    node = restarted()
    contest(node).figures.failed.add("music/hall/features", case=True)
    node.original = {"genre": served("1.0.0")}
    node.clock.advance(1)
    node.run()
    assert (node.state(), node.said["genre"]["installed_version"]) == ("rolled_back", "1.0.0")
    assert "go back from 1.1.0" in node.workshop.done


def test_without_the_model_before_it_is_watched_without_comparing() -> None:
    node = restarted(former=False)
    assert (node.state(), node.wishes[-1].contests) == ("committed", {})
    assert node.reason() == "watched without comparing: what was served before can't be opened: genre"
    node.clock.advance(60)
    node.run()
    assert (node.state(), node.workshop.done[-1]) == ("idle", "keep 1.1.0")


def test_without_a_soak_it_has_stood_its_trial() -> None:
    node = restarted(soak_seconds=0)
    assert (node.state(), node.workshop.done[-1], node.wishes) == ("idle", "keep 1.1.0", [])


def test_a_newer_manifest_that_keeps_it_waits_for_the_end_of_its_soak() -> None:
    node = restarted()
    node.clock.advance(30)
    node.offer(file(), serial=2, soak_seconds=100)
    node.run()
    assert (node.state(), node.said["genre"]["serial"]) == ("committed", 1)
    node.clock.advance(60)
    node.run()
    assert node.said["genre"]["serial"] == 2


def test_one_that_is_not_on_trial_is_left_alone() -> None:
    node = Node()
    node.offer(file("1.0.0"), **SOAK)
    node.run()
    assert (node.state(), node.workshop.done) == ("idle", ["accept"])


def test_that_it_can_t_be_known_what_is_on_trial_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Unreadable(FakeWorkshop):
        def watched(self, served: object) -> None:  # noqa: ARG002 - the interface
            raise EdgeAgentError("state.json: Input/output error")

    node = Node()
    node.workshop = Unreadable()
    node.updates = node.plan(node.original, ABOUT)
    node.offer(file("1.0.0"), **SOAK)
    node.run()
    assert node.state() == "idle"
    assert "what is on trial can't be known: state.json: Input/output error" in caplog.text


def test_the_soak_begins_again_before_any_manifest_comes() -> None:
    node = restarted(comes=False)
    assert (node.state(), node.said["genre"]["serial"]) == ("committed", 1)
    contest(node).figures.failed.add("music/hall/features", case=True)
    node.original = {"genre": served("1.0.0")}
    node.clock.advance(1)
    node.run()
    assert (node.state(), node.workshop.done[-1]) == ("rolled_back", "go back from 1.1.0")


@pytest.mark.parametrize("more", [(), (file(),)])
def test_a_manifest_that_changes_only_other_models_waits_for_the_end_of_the_soak(more: tuple[ModelFile, ...]) -> None:
    node = restarted(comes=False)
    node.original["mood"] = served(name="mood")
    node.take(node.plan(node.current(), ABOUT))
    node.clock.advance(30)
    node.offer(file(name="mood"), *more, serial=2, soak_seconds=100)
    node.run()
    assert (node.state(), node.said["mood"]["installed_version"]) == ("committed", "1.0.0")
    node.clock.advance(60)
    node.run()
    assert "keep 1.1.0" in node.workshop.done
    assert (node.state(), node.said["mood"]["installed_version"]) == ("idle", "1.1.0")
