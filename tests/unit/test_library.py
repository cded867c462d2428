"""Model files through the one door: none can end, hang or fill the process that asks for it."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="builds models; needs the extra `convert`")

from edge_agent.contract.manifest import MAX_MODEL_BYTES
from edge_agent.contract.seal import seal
from edge_agent.errors import CardError, CutShortError, ModelError
from edge_agent.host.apart import Limits
from edge_agent.host.process import Signals
from edge_agent.model.library import Loaded, Trial, limits, load, locate, open_file
from tests import bad_models
from tests.patience import DEADLINE

BUNDLED = locate("genre")


def short(size: int) -> Limits:
    """Little time, so that nobody has to wait for it."""
    return limits(size)._replace(seconds=1.0, patience=DEADLINE)


def refused(content: bytes, directory: Path) -> str:
    path = directory / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as raised:
        load(path, short)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_a_model_is_opened_as_it_would_be_without_a_trial() -> None:
    apart, here = load(BUNDLED), open_file(BUNDLED)
    assert (apart.card, apart.sha256, apart.sealed, apart.where) == (here.card, here.sha256, here.sealed, here.where)
    assert apart.self_test_difference == here.self_test_difference
    row = here.card.examples[0].features
    assert apart.predict([row]) == here.predict([row])


def test_the_honest_one(tmp_path: Path) -> None:
    path = tmp_path / "honest.onnx"
    path.write_bytes(bad_models.honest())
    model = load(path)
    assert [model.read(output) for output in model.predict([[0.9], [0.1]])] == [
        ("Rock", [0.0, 1.0]),
        ("Hip-Hop", [1.0, 0.0]),
    ]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (bad_models.endless, "it exceeded its limit of 1 s of processor time; convert the model again"),
        (bad_models.huge, "the self-test could not run: not enough memory"),
        (
            bad_models.fewer_labels,
            "for 2 rows it must return as many labels, and probabilities (2, 2); it returns (1,)",
        ),
        (bad_models.no_probabilities, "the self-test failed on 2 of 2 rows"),
    ],
)
def test_a_model_that_does_harm_is_refused_in_one_sentence(
    make: Callable[[], bytes], says: str, tmp_path: Path
) -> None:
    assert says in refused(make(), tmp_path)


def test_what_is_no_model(tmp_path: Path) -> None:
    assert "onnxruntime can't open this as a model" in refused(b"nothing", tmp_path)
    assert "without a model card" in refused(
        seal(BUNDLED.read_bytes().replace(b"\nedge_agent\x12", b"\nedge_aGent\x12")), tmp_path
    )
    with pytest.raises(CardError):
        load(tmp_path / "bad.onnx")
    assert "the file is damaged" in refused(BUNDLED.read_bytes().replace(b"Rock", b"Jazz"), tmp_path)


@pytest.mark.timeout(DEADLINE)
def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("gone")
    for name, says in (
        ("directory", "Is a directory, not a file"),
        ("pipe", "is a pipe, not a file"),
        ("link", "it is a link to gone"),
        ("nothing", "No such file or directory"),
    ):
        with pytest.raises(ModelError, match=says):
            load(tmp_path / name)
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(ModelError, match=f"is too large: at most {MAX_MODEL_BYTES} bytes are read"):
        load(tmp_path / "huge.onnx")


class Crashing(Trial):
    """As with a file that crashes the library that opens it: the second one does."""

    def _work(self, tell: Callable[[str], None]) -> None:
        tell(json.dumps({"sha256": "0", "difference": 0.0}))
        tell('{"sha25')
        os.kill(os.getpid(), signal.SIGSEGV)


def test_a_crash_names_the_file(tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(BUNDLED.read_bytes())
    trial = Crashing([BUNDLED, other])
    trial.wait()
    with pytest.raises(ModelError) as raised:
        trial.open()
    trial.close()
    assert str(raised.value) == (
        f"{other}: failed while being tested in a separate process: it crashed (SIGSEGV); "
        "convert the model again with edge-convert, or use a smaller one"
    )


class Killed(Trial):
    """As where memory is short: the kernel kills it first."""

    def _work(self, tell: Callable[[str], None]) -> None:
        tell('{"sha25')
        os.kill(os.getpid(), signal.SIGKILL)


def test_an_end_by_the_system_is_not_the_fault_of_the_file() -> None:
    trial = Killed([BUNDLED])
    trial.wait()
    with pytest.raises(CutShortError, match="it was killed, most likely because the system ran out of memory"):
        trial.open()
    trial.close()


def test_a_file_that_is_as_it_was_is_not_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "genre.onnx"
    path.write_bytes(BUNDLED.read_bytes())
    first = Trial([path, BUNDLED])
    first.wait()
    known = first.open()
    first.close()
    again = Trial([BUNDLED, path], known=known)
    assert again.ended
    assert again.open() == [known[1], known[0]]
    # Replaced by the same bytes: another file.
    path.with_suffix(".new").write_bytes(BUNDLED.read_bytes())
    path.with_suffix(".new").rename(path)
    third = Trial([path, BUNDLED], known=known)
    third.wait()
    mine, bundled = third.open()
    third.close()
    assert bundled is known[1]
    assert mine.predictor is not known[0].predictor


def test_a_file_that_changes_meanwhile_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "genre.onnx"
    path.write_bytes(BUNDLED.read_bytes())
    trial = Trial([path])
    trial.wait()
    path.write_bytes(bad_models.endless())
    with pytest.raises(ModelError, match="the file was changed while it was being opened; try again"):
        trial.open()
    trial.close()


def test_who_serves_meanwhile_is_not_held_up_by_opening(tmp_path: Path) -> None:
    """A file that passed is opened in a thread, whose end is told as that of the process is."""
    path = tmp_path / "genre.onnx"
    path.write_bytes(BUNDLED.read_bytes())
    threads: list[str] = []

    class Noting(Trial):
        small = 0

        def _open_all(self, passed: Mapping[Path, Any]) -> list[Loaded]:
            threads.append(threading.current_thread().name)
            return super()._open_all(passed)

    with Signals(children=True) as signals, closing(Noting([path])) as trial:
        while not trial.ended:
            signals.wait(DEADLINE)
        (one,) = trial.open()
    assert threads == ["aside"]
    assert one.predictor.card == open_file(path).card


def test_what_is_wrong_is_said_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "genre.onnx"
    path.write_bytes(BUNDLED.read_bytes())
    with Signals(children=True) as signals, closing(Trial([path])) as trial:
        trial.wait()
        path.write_bytes(bad_models.endless())
        while not trial.ended:
            signals.wait(DEADLINE)
        with pytest.raises(ModelError, match="the file was changed while it was being opened; try again"):
            trial.open()


def test_a_trial_can_be_given_up(tmp_path: Path) -> None:
    path = tmp_path / "endless.onnx"
    path.write_bytes(bad_models.endless())
    trial = Trial([path])
    assert not trial.ended
    trial.close()
    assert trial.ended


def test_what_a_trial_takes_is_not_taken_here(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(bad_models.huge(), tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10  # KiB
