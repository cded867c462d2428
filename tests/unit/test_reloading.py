"""A reload while the agent serves: bad models under test do not affect it, and no message is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="builds models; needs the extra `convert`")

from edge_agent import assembly
from edge_agent.config.models import loading
from edge_agent.config.settings import Settings
from edge_agent.errors import FileError
from edge_agent.host.process import Signals
from edge_agent.model.library import Limits, Loaded, limits, locate
from edge_agent.serving.released import About
from edge_agent.serving.reloading import Reloads, load_models
from edge_agent.testing import FakeClock, FakeLink, make_plan
from tests import bad_models
from tests.patience import DEADLINE
from tests.unit.agents import FEATURES
from tests.unit.test_reload import Running, answer
from tests.unit.updates import Node, file

pytestmark = pytest.mark.usefixtures("logger")


def short(size: int) -> Limits:
    """Little time, so that nobody has to wait for it."""
    return limits(size)._replace(seconds=1.0, patience=DEADLINE)


class Scene:
    """An agent that serves, and a file of a model that its reloads take up."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.path = directory / "mine.onnx"
        self.path.write_bytes(bad_models.honest())
        self.clock = FakeClock()
        self.signals = stack.enter_context(Signals(children=True, clock=self.clock))
        self.link = FakeLink()
        self.running = Running(self.link)
        models = load_models(loading(self.settings()), self.signals)
        assert models is not None
        self.models: dict[str, Loaded] = models
        self.fails: Exception | None = None
        self.reloads = stack.enter_context(Reloads(self.running.agent, self.prepare, models))

    def prepare(self, known: Collection[Loaded]) -> assembly.Preparation:
        return assembly.Preparation(self.settings(), known, short)

    def settings(self) -> Settings:
        if getattr(self, "fails", None):
            raise self.fails  # type: ignore[misc]
        return Settings(node={"id": "node"}, log={"level": "error"}, route=[{"model": str(self.path)}])

    def put(self, content: bytes) -> None:
        self.path.with_suffix(".new").write_bytes(content)
        self.path.with_suffix(".new").rename(self.path)

    def ask(self) -> bool:
        """Ask for a reload, and let it begin; return whether it is over and has brought something new."""
        self.clock.advance(1)
        signal.raise_signal(signal.SIGHUP)
        assert self.signals.take_news()
        return self.reloads.see_to(self.signals)

    def end(self) -> bool:
        """Wait for the end of what is under way."""
        begun = len(self.running.notifier.said)
        taken = False
        while self.reloads.busy and len(self.running.notifier.said) == begun and not taken:
            while not self.signals.take_news():
                self.signals.wait(DEADLINE)
            taken = self.reloads.see_to(self.signals)
        return taken

    def serves(self) -> bool:
        return len(answer(self.link, self.running.agent, FEATURES)) == 1

    def said(self) -> str:
        return self.running.notifier.said[-1].replace("\n", " ")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(tmp_path, stack)


def test_a_new_model_is_tried_beside_the_agent_and_then_taken(scene: Scene) -> None:
    scene.put(locate("genre").read_bytes())
    assert not scene.ask()
    assert scene.reloads.busy
    assert scene.said().startswith("RELOADING=1")
    assert scene.serves()
    assert scene.end()
    assert not scene.reloads.busy
    assert scene.link.closed  # what a FakeLink is the line of is not that of the settings


@pytest.mark.parametrize(
    ("make", "why"),
    [*bad_models.REFUSED, pytest.param(lambda: b"", "onnxruntime can't open this as a model", id="empty")],
)
def test_a_model_that_does_harm_changes_nothing(
    scene: Scene, make: Callable[[], bytes], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene.put(make())
    assert not scene.ask()
    assert scene.serves()
    assert not scene.end()
    assert scene.said().startswith(f"READY=1 STATUS=reload rejected: {scene.path}: ")
    assert f"reload rejected, going on with the old settings and models: {scene.path}: " in caplog.text
    assert why in caplog.text
    assert "Traceback" not in caplog.text
    assert scene.serves()
    assert not scene.link.closed
    # The next one is as good as the first.
    scene.put(bad_models.honest())
    assert not scene.ask()
    assert scene.end()


@pytest.mark.timeout(DEADLINE)
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "is a pipe, not a file"),
        (os.mkdir, "Is a directory, not a file"),
        (lambda path: path.symlink_to("gone"), "it is a link to gone"),
        (lambda path: path.symlink_to(path), "a circular link"),
        (lambda _: None, "no such file"),
    ],
)
def test_what_is_no_file_changes_nothing(scene: Scene, make: Callable[[Path], Any], why: str) -> None:
    scene.path.unlink()
    make(scene.path)
    assert not scene.ask()
    assert not scene.reloads.busy
    assert why in scene.said()
    assert scene.serves()


def test_a_model_whose_file_is_as_it_was_is_not_tried_again(scene: Scene) -> None:
    assert scene.ask()
    assert not scene.reloads.busy
    assert scene.reloads.models == scene.models


def test_those_that_are_asked_for_meanwhile_are_one_more(scene: Scene) -> None:
    scene.put(bad_models.endless())
    assert not scene.ask()
    for _ in range(10):
        assert not scene.ask()
    scene.put(bad_models.honest())
    taken = [scene.end()]
    while scene.reloads.busy:
        taken.append(scene.end())
    assert taken[-1]
    told = [said.partition("\n")[0] for said in scene.running.notifier.said]
    assert told.count("RELOADING=1") == 2


def test_what_is_asked_for_waits_while_an_update_changes_the_store(scene: Scene) -> None:
    node = Node(About("node", "stable"))
    node.workshop.waits.add("use 1.1.0")
    node.workshop.outcomes["use 1.1.0"] = FileError("/var/lib: No space left on device")
    scene.running.agent.take_over(scene.running.line, make_plan()._replace(updates=node.updates))
    node.offer(file())
    node.run()
    assert node.updates.holds
    assert not scene.ask()
    assert not scene.reloads.busy
    assert not scene.reloads.asks()
    node.workshop.jobs[-1].ended = True
    node.turn()
    assert not scene.reloads.see_to(scene.signals), "what it has placed is not put back yet"
    node.turn(3)
    assert not node.updates.holds
    assert scene.reloads.asks()
    assert scene.reloads.see_to(scene.signals)
    assert not scene.reloads.asks()


def test_a_stop_is_obeyed_while_a_model_is_tried(scene: Scene) -> None:
    scene.put(bad_models.endless())
    assert not scene.ask()
    signal.raise_signal(signal.SIGTERM)
    assert not scene.running.agent.run(scene.signals)
    assert scene.link.closed
    assert scene.reloads.busy


def test_a_stop_is_obeyed_while_the_first_models_are_tried(scene: Scene) -> None:
    scene.put(bad_models.endless())
    signal.raise_signal(signal.SIGTERM)
    assert load_models(loading(scene.settings()), scene.signals) is None


def test_a_fault_of_ours_changes_nothing_either(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.fails = RecursionError("of all things")
    assert not scene.ask()
    assert "reload failed: RecursionError: of all things" in scene.said()
    assert "Traceback" in caplog.text
    assert scene.serves()
