"""A release of two models after a kill, or a power loss, at each system call of putting it in place and of taking it back: at the start
after it, all of it is served or nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_agent.model.state import Refused
from edge_agent.model.store import Store
from edge_agent.model.watching import Watching, place, take_back
from tests.unit.interrupted import Change, Interrupted, Stop, Stopped, power_losses, quick, stop_at_each_call

NAMES = ("genre", "mood")
OLD, NEW = ("1.0.0", "1.0.0"), ("1.1.0", "1.1.0")
WORSE = Refused(serial=7, reason="genre, committed: it fails on 1 of 1 row", rolled_back=True)


def files(store: Store) -> dict[str, str]:
    return {name: store.find(name, "1.1.0").sha256 for name in NAMES}


def ready(store: Store) -> None:
    """The release has passed its tests; it is only compared as yet, or about to be put in place."""
    for name in NAMES:
        for version in ("1.0.0", "1.1.0"):
            store.add(name, version, f"{name} {version}".encode())
        store.use(name, "1.0.0")
    store.change(lambda state: state.watch(files(store), 7))


def placed(store: Store) -> None:
    ready(store)
    place(store, files(store))


def half(store: Store) -> None:
    ready(store)
    store.use("mood", "1.1.0")


def unwatched(store: Store) -> None:
    placed(store)
    store.change(lambda state: state.unwatch(NAMES))


def start(store: Store) -> None:
    """The agent begins, and serves."""
    Watching(store, follows=True).__enter__()


#: What is there before, what is changed, and what may be served after an interruption.
CASES: dict[str, tuple[Change, Change, set[tuple[str, str]]]] = {
    "place": (ready, lambda store: place(store, files(store)), {OLD, NEW}),
    "take back": (placed, lambda store: take_back(store, files(store), WORSE), {OLD, NEW}),
    "put back": (placed, lambda store: take_back(store, files(store), None), {OLD, NEW}),
    "start": (half, start, {OLD}),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(tmp_path, *CASES[request.param])


class Case(Interrupted):
    """A change of a release in the middle of which the agent ends."""

    def __init__(self, place: Path, prepare: Change, change: Change, allowed: set[tuple[str, str]]) -> None:
        super().__init__(place, prepare, change)
        self._allowed = allowed

    def expect(self, directory: Path, where: object) -> None:
        """Start the agent there, which may be interrupted as well; look at what it serves."""
        for number in (3, 9, 15):
            again = self.copy(directory)
            try:
                start(Store(again, disk=Stopped(number)))
            except Stop:
                start(quick(again))
            self.look(again, (where, number))
        start(quick(directory))
        self.look(directory, where)

    def look(self, directory: Path, where: object) -> None:
        store = quick(directory)
        seen = served(store)
        assert seen in self._allowed, where
        state = store.read()
        if state.refused:
            assert seen == OLD, where
            assert (set(state.refused), state.watched) == (set(files(store).values()), None), where
        else:
            assert state.watched is not None, where
        shutil.rmtree(directory)


def served(store: Store) -> tuple[str, str]:
    first, second = (store.current(name) for name in NAMES)
    assert first is not None
    assert second is not None
    return first.version, second.version


def test_a_stop_at_each_system_call(case: Case) -> None:
    stop_at_each_call(case)


def test_a_power_loss_at_each_system_call(case: Case) -> None:
    assert power_losses(case) >= 2


@pytest.mark.parametrize(("prepare", "expected"), [(ready, OLD), (placed, NEW), (unwatched, NEW)])
def test_what_is_whole_stays(prepare: Change, expected: tuple[str, str], tmp_path: Path) -> None:
    store = quick(tmp_path)
    prepare(store)
    before = store.read().watched
    start(store)
    assert served(store) == expected
    after = store.read().watched
    assert (after is None) == (before is None)


def test_half_a_release_is_told_and_its_models_may_be_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = quick(tmp_path)
    half(store)
    start(store)
    assert served(store) == OLD
    assert store.read().refused == {}
    assert "the agent ended while a release of genre, mood was put in place or taken back" in caplog.text


def test_half_a_release_goes_back_without_a_channel_too(tmp_path: Path) -> None:
    store = quick(tmp_path)
    half(store)
    Watching(store, follows=False).__enter__()
    assert (served(store), store.read().watched) == (OLD, None)
