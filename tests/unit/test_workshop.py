"""The work of an update in real processes, on a real store: what comes of bad manifests, bad files and bad disks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="builds models; needs the extra `convert`")

from edge_agent.contract.manifest import ModelFile, model_file, pieces
from edge_agent.errors import EdgeAgentError, FileError, ModelError, StoreError, TrustError
from edge_agent.host.apart import Limits
from edge_agent.host.process import Signals
from edge_agent.model.library import limits
from edge_agent.model.state import State
from edge_agent.model.store import Store
from edge_agent.model.trust import Accepted, Kept
from edge_agent.serving.phases import Phase
from edge_agent.serving.released import Served, Verdict
from edge_agent.serving.workshop import Steps, Workshop
from edge_agent.testing import make_card
from tests import bad_models
from tests.patience import DEADLINE
from tests.trusted import ANN, BEN, CHANNEL, ISSUED, envelope, instant, key_envelope, key_list, manifest, signers

SANE = float(ISSUED + 60)
UNREADABLE = "onnxruntime can't open this as a model"


def short(size: int) -> Limits:
    """Little time, so that nobody has to wait for it."""
    return limits(size)._replace(seconds=1.0, patience=DEADLINE)


class Room:
    """A workshop with its store, and the time of day."""

    def __init__(self, directory: Path) -> None:
        self.now = SANE
        self.directory = directory
        self.workshop = Workshop(
            lambda patience: Store(directory, patience=patience),
            CHANNEL,
            signers(),
            allowed=short,
            clock=lambda: self.now,
        )

    @property
    def store(self) -> Store:
        return Store(self.directory)

    def put(self, content: bytes) -> ModelFile:
        """All pieces of a file are there."""
        file = model_file(make_card(), content)
        with self.workshop.part(file) as part:
            for number, piece in enumerate(pieces(content)):
                assert part.write(number, piece)
        return file


def done(steps: Steps[Any]) -> Any:
    """Wait for the end of work, and return what came of it."""
    with Signals(children=True) as signals:
        while not steps.ended:
            signals.wait(DEADLINE)
    try:
        return steps.result()
    finally:
        steps.close()


def on_trial(room: Room, file: ModelFile) -> list[ModelFile]:
    """What is on trial, where this file is served."""
    found = room.workshop.watched({file.name: Served(make_card(), file.sha256)})
    return [] if found is None else found[1]


def refusal(steps: Steps[Any], kind: type[EdgeAgentError]) -> str:
    with pytest.raises(kind) as raised:
        done(steps)
    return str(raised.value)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "models")


def test_a_good_file_is_put_into_the_store_and_opened_but_not_in_use(room: Room) -> None:
    file = room.put(bad_models.honest())
    assert done(room.workshop.lacking([file])) == {file.sha256}
    found = done(room.workshop.test([file], None, manifest(file, serial=7)))["genre"]
    assert (found.sha256, found.card.version) == (file.sha256, "1.0.0")
    assert found.model.predict([(0.9,)]) == found.loaded.predictor.predict([(0.9,)])
    assert done(room.workshop.lacking([file])) == frozenset()
    assert room.store.current("genre") is None
    done(room.workshop.use([file]))
    current = room.store.current("genre")
    assert current is not None
    assert current.sha256 == file.sha256
    assert on_trial(room, file) == [file]
    done(room.workshop.keep([file]))
    assert room.store.read().watched is None


@pytest.mark.parametrize(
    ("make", "why"),
    [
        *bad_models.REFUSED,
        pytest.param(lambda: b"\x0a\xff\xff\xff\xff\x07" + bytes(2000), UNREADABLE, id="bomb"),
        pytest.param(lambda: b"\x3a" + b"\x0a" * 20_000, UNREADABLE, id="nested"),
        pytest.param(bad_models.external, UNREADABLE, id="external data"),
        pytest.param(bad_models.crashing, "it crashed (SIGSEGV)", id="crashes"),
    ],
)
def test_a_file_that_does_harm_does_none_here(room: Room, make: Callable[[], bytes], why: str) -> None:
    file = room.put(make())
    said = refusal(room.workshop.test([file], None, manifest(file, serial=7)), ModelError)
    assert why in said
    done(room.workshop.go_back([file], 7, Verdict(Phase.REFUSED, said)))
    assert room.store.versions("genre") == []
    assert room.workshop.verdict(file, 7) == (Phase.REFUSED, said)
    assert room.workshop.verdict(file, 8) is None


@pytest.mark.parametrize("phase", [Phase.REFUSED, Phase.ROLLED_BACK])
@pytest.mark.parametrize("reason", ["two\nlines", "a\ttab", "\x1b[31m", "\udc80", "x" * 50_000, "\u202e" * 50_000])
def test_whatever_the_reason_says_it_is_noted_as_one_line(room: Room, phase: Phase, reason: str) -> None:
    file = room.put(bad_models.honest())
    done(room.workshop.go_back([file], 7, Verdict(phase, reason)))
    noted = room.workshop.verdict(file, 7)
    assert noted is not None
    assert noted.phase is phase
    assert noted.reason.isprintable()
    assert 0 < len(noted.reason) <= 500


def test_an_error_of_a_library_is_one_line_without_what_it_was_given(room: Room) -> None:
    file = room.put(bad_models.honest())
    said = refusal(room.workshop.go_back([file], -1, Verdict(Phase.REFUSED, "no")), StoreError)
    assert said == "putting models in place failed: ValidationError: 1 validation error for Refused"


def test_a_manifest_is_accepted_and_its_serial_remembered(room: Room) -> None:
    offer = done(room.workshop.accept(envelope(manifest(serial=5))))
    assert offer.manifest.serial == 5
    assert room.store.read().channels[CHANNEL].accepted.serial == 5
    before = (room.directory / "state.json").stat()
    done(room.workshop.accept(envelope(manifest(serial=5))))
    after = (room.directory / "state.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns), "nothing is written without news"
    said = refusal(room.workshop.accept(envelope(manifest(serial=4))), TrustError)
    assert "serial 4 is below 5" in said


def test_pieces_that_a_newer_manifest_does_not_name_are_removed(room: Room) -> None:
    old, new = (room.put(bad_models.honest(version)) for version in ("1.1.0", "1.2.0"))
    assert room.store.arriving() == {old.sha256, new.sha256}
    done(room.workshop.accept(envelope(manifest(new, serial=6))))
    assert room.store.arriving() == {new.sha256}


def test_the_channel_in_use_is_remembered_after_many_others(room: Room) -> None:
    kept = {name: Kept(accepted=Accepted(ISSUED)) for name in (CHANNEL, *(f"c{number}" for number in range(63)))}
    room.store.write(State(channels=kept))
    done(room.workshop.accept(envelope(manifest(serial=ISSUED + 1))))
    room.store.change(lambda state: state.model_copy(update={"channels": {**state.channels, "another": Kept()}}))
    channels = room.store.read().channels
    assert (len(channels), channels[CHANNEL].accepted.serial) == (64, ISSUED + 1)


def test_a_clock_of_1970_lets_nothing_expire(room: Room) -> None:
    message = envelope(manifest(serial=5, expires=instant(ISSUED + 3600)))
    room.now = SANE + 7200
    assert "expired" in refusal(room.workshop.accept(message), TrustError)
    room.now = 3600.0
    assert done(room.workshop.accept(message)).manifest.serial == 5


def test_keys_are_replaced(room: Room) -> None:
    done(room.workshop.trust(key_envelope(key_list(BEN), ANN)))
    assert "is not trusted" in refusal(room.workshop.accept(envelope(manifest(), ANN)), TrustError)
    assert done(room.workshop.accept(envelope(manifest(), BEN))).manifest.serial == ISSUED


def test_what_was_served_before_is_current_again(room: Room) -> None:
    old, new = bad_models.honest(), bad_models.honest() + b"\x7a\x00"  # an empty field that nobody knows
    kept = room.store
    kept.add("genre", "0.9.0", old)
    kept.use("genre", "0.9.0")
    file = room.put(new)
    room.store.add("genre", "1.0.0", new)
    done(room.workshop.use([file]))
    done(room.workshop.go_back([file], 7, Verdict(Phase.ROLLED_BACK, "worse")))
    current = room.store.current("genre")
    assert current is not None
    assert current.version == "0.9.0"
    assert room.workshop.verdict(file, 7) == (Phase.ROLLED_BACK, "worse")


def test_what_is_refused_for_a_choice_stays_where_it_is(room: Room) -> None:
    file = room.put(bad_models.honest())
    done(room.workshop.test([file], None, manifest(file, serial=7)))
    done(room.workshop.use([file]))
    done(room.workshop.refuse([file], 7, Verdict(Phase.ROLLED_BACK, "another one was chosen")))
    current = room.store.current("genre")
    assert current is not None
    assert current.sha256 == file.sha256
    assert room.workshop.verdict(file, 7) == (Phase.ROLLED_BACK, "another one was chosen")
    assert room.store.read().watched is None


def test_a_release_that_was_placed_in_part_is_put_back_and_nothing_held_against_it(room: Room) -> None:
    new = bad_models.honest() + b"\x7a\x00"
    for name in ("genre", "mood"):
        room.store.add(name, "0.9.0", bad_models.honest())
        room.store.use(name, "0.9.0")
        room.store.add(name, "1.0.0", new)
    (room.directory / "mood" / "history").unlink()
    (room.directory / "mood" / "history").mkdir()
    (room.directory / "mood" / "history" / "x").touch()
    file = room.put(new)
    files = [file, file.model_copy(update={"name": "mood"})]
    assert "history" in refusal(room.workshop.use(files), FileError)
    done(room.workshop.go_back(files, 7, None))
    assert [one.version for name in ("genre", "mood") if (one := room.store.current(name))] == ["0.9.0", "0.9.0"]
    assert room.workshop.verdict(file, 7) is None
    assert done(room.workshop.lacking(files)) == frozenset(), "nothing has to be fetched again"


def test_a_place_that_can_not_be_written_to_is_an_error_of_the_device(room: Room) -> None:
    room.directory.write_bytes(b"a file in its place")
    with pytest.raises((FileError, StoreError)):
        done(room.workshop.accept(envelope(manifest())))
    with pytest.raises((FileError, StoreError)):
        room.workshop.part(model_file(make_card(), bad_models.honest()))


def test_what_passes_its_test_is_on_trial_until_it_is_kept_or_goes_back(room: Room) -> None:
    file = room.put(bad_models.honest())
    done(room.workshop.test([file], None, manifest(file, serial=7)))
    watched = room.store.read().watched
    assert watched is not None
    assert (watched.serial, watched.files, watched.ends) == (7, {"genre": file.sha256}, 1)
    assert on_trial(room, file) == [file]
    done(room.workshop.use([file]))
    done(room.workshop.keep([file]))
    assert room.store.read().watched is None
    done(room.workshop.test([file], None, manifest(file, serial=8)))
    done(room.workshop.go_back([file], 8, Verdict(Phase.REFUSED, "why")))
    assert (room.store.read().watched, on_trial(room, file)) == (None, [])


def test_what_was_served_before_is_opened_from_the_store_or_from_elsewhere(room: Room, tmp_path: Path) -> None:
    (by_hand := tmp_path / "genre.onnx").write_bytes(bad_models.honest("0.9.0"))
    for version in ("1.0.0", "1.1.0"):
        content = bad_models.honest(version)
        file = model_file(make_card().model_copy(update={"version": version}), content)
        room.store.add("genre", version, content)
        done(room.workshop.use([file]))
        workshop = Workshop(
            lambda patience: Store(room.directory, patience=patience),
            CHANNEL,
            signers(),
            elsewhere=lambda _: by_hand,
            allowed=short,
        )
        found = done(workshop.former([file]))
        assert found["genre"].card.version == ("0.9.0" if version == "1.0.0" else "1.0.0")
    by_hand.write_bytes(b"nothing")
    room.store.remove("genre")
    assert done(workshop.former([file])) == {}


def test_a_candidate_that_was_superseded_before_it_served_is_not_on_trial_any_more(room: Room) -> None:
    old, new = room.put(bad_models.honest()), room.put(bad_models.honest("1.1.0"))
    done(room.workshop.test([old], None, manifest(old, serial=ISSUED)))
    done(room.workshop.accept(envelope(manifest(new, serial=ISSUED + 1), ANN)))
    assert room.store.read().watched is None
    done(room.workshop.test([old], None, manifest(old, serial=ISSUED)))
    done(room.workshop.use([old]))
    done(room.workshop.accept(envelope(manifest(new, serial=ISSUED + 2), ANN)))
    assert room.store.read().watched is not None  # it serves until the new one does


def test_a_release_of_several_is_superseded_as_a_whole_and_may_be_noted_again(room: Room) -> None:
    old, new = room.put(bad_models.honest()), room.put(bad_models.honest("1.1.0"))
    mood = old.model_copy(update={"name": "mood"})
    done(room.workshop.watch([old, mood], manifest(old, mood, serial=ISSUED)))
    assert on_trial(room, old) == [old]
    assert on_trial(room, mood) == [mood]
    done(room.workshop.accept(envelope(manifest(new, serial=ISSUED + 1), ANN)))
    assert room.store.read().watched is None


def test_what_would_overflow_a_stack_half_as_large_is_refused(room: Room) -> None:
    """It would not overflow ours: where it is tested there is less, so that there is no doubt."""
    fits, does_not = bad_models.deep(100), bad_models.deep(8_000)
    assert done(room.workshop.test([one := room.put(fits)], None, manifest(one, serial=7)))["genre"].model is not None
    assert "it crashed (SIGSEGV)" in refusal(
        room.workshop.test([one := room.put(does_not)], None, manifest(one, serial=8)), ModelError
    )
