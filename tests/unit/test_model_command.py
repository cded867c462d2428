"""`edge-agent model …`: on an empty directory, on the bundled model, and on a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.model.library import locate
from edge_agent.model.store import Store
from edge_agent.model.trust import Accepted, Kept
from tests.unit.test_cli import bare, call, refused
from tests.unit.test_files import place, without_rights
from tests.versions import version, write_version

__all__ = ["bare", "place"]

Run = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def config(store: Store, tmp_path: Path) -> Path:
    path = tmp_path / "edge-agent.toml"
    path.write_text(f'[models]\ndirectory = "{store.directory}"\n')
    return path


@pytest.fixture
def run(config: Path) -> Run:
    """Call `edge-agent model` with words, and return what it prints."""
    return lambda *words: call("model", *words, "--config", str(config)).stdout


@pytest.fixture
def fails(config: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call it, and return the line with which it fails."""

    def fails(*words: str, status: int = 3) -> str:
        return refused(capsys, "model", *words, "--config", str(config), status=status)

    return fails


def listed(run: Run) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = json.loads(run("list", "--json"))["models"]
    return models


def in_use(run: Run) -> str:
    (model,) = listed(run)
    assert [one["version"] for one in model["versions"] if one["in_use"]] == [model["version"]]
    return str(model["version"])


def test_without_a_store_the_bundled_model_is_served(run: Run, store: Store) -> None:
    assert run("list") == f"genre 1.0.0, bundled, for music/{{sensor}}/features: {locate('genre')}\n"
    (model,) = listed(run)
    assert (model["from"], model["versions"], model["error"]) == ("bundled", [], None)
    assert not store.directory.exists(), "reading writes nothing"


def test_a_model_is_installed_and_taken_back(run: Run, store: Store, tmp_path: Path) -> None:
    said = run("install", str(write_version(tmp_path, "1.1.0")))
    assert said == "genre 1.1.0 is in use, before it 1.0.0; a running agent takes it over by itself\n"
    assert locate("genre", store.directory).read_bytes() == version("1.1.0")
    assert in_use(run) == "1.1.0"
    said = run("list")
    assert said.startswith("genre 1.1.0, from the store, for music/{sensor}/features: ")
    assert [line.split()[0] for line in said.splitlines()[1:]] == ["1.1.0", "1.0.0"]
    assert said.splitlines()[1].endswith("in use")
    assert said.splitlines()[2].endswith("in use before")
    assert run("install", str(write_version(tmp_path, "1.1.0"))) == "genre 1.1.0 is in use already\n"
    assert run("rollback") == "genre 1.0.0 is in use; a running agent takes it over by itself\n"
    assert locate("genre", store.directory).read_bytes() == locate("genre").read_bytes(), "what was bundled is kept"
    run("use", "1.1.0")
    assert in_use(run) == "1.1.0"
    run("use", "genre", "1.0.0")
    assert in_use(run) == "1.0.0"
    assert run("remove", "genre", "1.1.0") == "removed genre 1.1.0\n"
    assert run("remove", "genre", "--all") == (
        f"removed 1 version of genre; from now on it is 1.0.0, bundled: {locate('genre')}\n"
    )
    assert locate("genre", store.directory) == locate("genre")


def test_a_file_by_hand_is_kept_and_passed_over(run: Run, store: Store, tmp_path: Path) -> None:
    store.directory.mkdir()
    by_hand = store.directory / "genre.onnx"
    by_hand.write_bytes(version("1.0.5"))
    assert run("list").startswith("genre 1.0.5, put there by hand, for ")
    said = run("install", str(write_version(tmp_path, "1.1.0")))
    assert said == (
        "genre 1.1.0 is in use, before it 1.0.5; a running agent takes it over by itself\n"
        f"{by_hand} is not used any more; remove it: sudo rm {by_hand}\n"
    )
    by_hand.unlink()
    assert run("rollback").startswith("genre 1.0.5 is in use")


def test_a_signature_is_kept_with_its_file(run: Run, store: Store, tmp_path: Path) -> None:
    file = write_version(tmp_path, "1.1.0")
    file.with_name(file.name + ".minisig").write_bytes(b"signed")
    run("install", str(file))
    path = locate("genre", store.directory)
    assert path.with_name(path.name + ".minisig").read_bytes() == b"signed"


def test_a_file_that_fails_its_test_changes_nothing(run: Run, fails: Run, store: Store, tmp_path: Path) -> None:
    run("install", str(write_version(tmp_path, "1.1.0")))
    bad = tmp_path / "bad.onnx"
    for content, says in (
        (b"", "onnxruntime can't open this as a model"),
        (version("1.2.0")[:-1], "damaged"),
        (version("1.2.0").replace(b'"1.2.0"', b'"1.2.1"'), "damaged"),
    ):
        bad.write_bytes(content)
        assert says in fails("install", str(bad))
    assert "no such file" in fails("install", str(tmp_path / "missing.onnx"))
    assert "a model file ends in .onnx" in fails("install", str(tmp_path), status=2)
    assert [one.version for one in store.versions("genre")] == ["1.1.0", "1.0.0"]
    assert in_use(run) == "1.1.0"


def test_a_file_that_does_not_fit_the_routes_changes_nothing(
    run: Run, fails: Run, store: Store, config: Path, tmp_path: Path
) -> None:
    with config.open("a") as file:
        file.write(
            '[[route]]\nsubscribe = "a/{sensor}"\npublish = "b/{sensor}"\nmodel = "genre"\nfields = { bpm = "x" }\n'
        )
    said = fails("install", str(write_version(tmp_path, "1.1.0")), status=2)
    assert "route 1: fields.bpm: model 'genre' has no such feature" in said
    assert store.names() == []
    assert run("list")


def test_what_there_is_none_of(run: Run, fails: Run, config: Path, tmp_path: Path) -> None:
    assert "no model is in the store; install one" in fails("rollback")
    assert "no model is in the store; install one" in fails("use", "1.0.0")
    assert "no version of it in" in fails("use", "genre", "1.0.0")
    assert "no version of it in" in fails("remove", "genre", "1.0.0")
    assert "MODEL VERSION, or MODEL --all" in call("model", "remove", "genre", "--config", str(config), status=2).output
    run("install", str(write_version(tmp_path, "1.1.0")))
    assert "no version 9.9.9 in the store; there are: 1.1.0 (" in fails("use", "9.9.9")
    assert "1.1.0 is in use; use another version first" in fails("remove", "genre", "1.1.0")
    run("rollback")
    assert "no version was in use before" in fails("rollback")
    assert "no name of a model" in fails("use", "../x", "1.0.0")


def test_a_route_is_not_left_without_a_model(run: Run, fails: Run, store: Store, config: Path) -> None:
    store.add("tunes", "1.1.0", version("1.1.0"))
    store.use("tunes", "1.1.0")
    with config.open("a") as file:
        file.write('[[route]]\nsubscribe = "a/{sensor}"\npublish = "b/{sensor}"\nmodel = "tunes"\n')
    assert "a route names it, and there is no other file of it" in fails("remove", "tunes", "--all")
    assert [one.version for one in store.versions("tunes")] == ["1.1.0"]
    assert run("list").startswith("tunes 1.1.0, from the store, for a/{sensor}: ")


def test_what_can_t_be_served_is_listed_too(run: Run, config: Path, store: Store) -> None:
    store.add("other", "1.0.0", version("1.0.0"))
    with config.open("a") as file:
        file.write('[[route]]\nsubscribe = "a/{sensor}"\npublish = "b/{sensor}"\nmodel = "missing"\n')
    first, second, *_ = run("list").splitlines()
    assert first.startswith("missing: can't be served: model 'missing': no such file")
    assert second.startswith("other: can't be served: ")


def test_a_damaged_version_is_said_and_not_used(run: Run, fails: Run, store: Store, tmp_path: Path) -> None:
    run("install", str(write_version(tmp_path, "1.1.0")))
    before = store.before("genre")
    assert before is not None
    before.path.write_bytes(b"x")
    assert "in use before, damaged" in run("list")
    assert fails("rollback")
    assert in_use(run) == "1.1.0"


def test_show(run: Run, store: Store, tmp_path: Path) -> None:
    shown = run("show")
    for words in (
        "genre 1.0.0: Genre of a track",
        "tempo             BPM   0 to 1000  101.993",
        "Hip-Hop (910 rows of the training data)",
        "accuracy 0.9015",
        "CC BY 4.0",
        "no signature beside it",
        "passed on 48 rows here",
    ):
        assert words in shown
    file = write_version(tmp_path, "1.1.0")
    told = json.loads(run("show", "--json", str(file)))
    assert (told["card"]["version"], told["from"], told["path"]) == ("1.1.0", "named by its path", str(file))
    run("install", str(file))
    assert json.loads(run("show", "genre", "--json"))["from"] == "from the store"
    assert run("show", "genre").startswith("genre 1.1.0: ")
    assert run("show", "genre", "1.0.0").startswith("genre 1.0.0: ")
    assert store.locate("genre") is not None


def test_one_model_need_not_be_named(fails: Run, store: Store, config: Path) -> None:
    for name in ("one", "two"):
        store.add(name, "1.0.0", version("1.0.0"))
    assert "there are several models: one, two; name one: edge-agent model use one" in fails("use", "1.0.0", status=2)
    assert "edge-agent model rollback one" in fails("rollback", status=2)
    assert "too many words" in call("model", "use", "a", "b", "c", "--config", str(config), status=2).output


def test_without_rights_one_sentence_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, store = place / "edge-agent.toml", Store(place / "models")
    config.write_text(f'[models]\ndirectory = "{store.directory}"\n')
    for number in ("1.0.0", "1.1.0"):
        store.use("genre", store.add("genre", number, version(number)).sha256)
    for directory in (store.directory / "genre", store.directory):
        directory.chmod(0o555)
    calls = (["rollback"], ["use", "1.0.0"], ["remove", "genre", "1.0.0"], ["install", str(locate("genre"))])
    with without_rights():
        assert call("model", "list", "--config", str(config)).stdout.startswith("genre 1.1.0, from the store")
        for words in calls:
            said = refused(capsys, "model", *words, "--config", str(config), status=2)
            assert f"may not write in {store.directory}; use sudo, or name another directory" in said
    for directory in (store.directory, store.directory / "genre"):
        directory.chmod(0o755)
    assert in_use(lambda *words: call("model", *words, "--config", str(config)).stdout) == "1.1.0"


def test_on_a_channel_a_choice_is_remembered_against_the_manifest_in_force(
    run: Run, store: Store, config: Path, tmp_path: Path
) -> None:
    config.write_text(config.read_text() + '[update]\nchannel = "stable"\nrequire_signature = false\n')
    run("install", str(write_version(tmp_path, "1.0.1")))
    assert store.read().refused == {}, "nothing came over MQTT yet"
    accepted = {"stable": Kept(accepted=Accepted(7))}
    store.change(lambda state: state.model_copy(update={"channels": accepted}))
    run("install", str(write_version(tmp_path, "1.1.0")))
    older, newer = (one.sha256 for one in reversed(store.versions("genre")) if one.version != "1.0.0")
    assert {sha256: (why.serial, why.rolled_back) for sha256, why in store.read().refused.items()} == {older: (7, True)}
    run("rollback")
    assert list(store.read().refused) == [newer], "what is in use is not put aside"
    run("use", "1.0.1")
    assert list(store.read().refused) == [newer], "it was in use already"
    run("remove", "genre", "--all")
    assert set(store.read().refused) == {older, newer}


@pytest.fixture
def on_trial(run: Run, store: Store, config: Path, tmp_path: Path) -> Callable[..., None]:
    """Return what puts versions of genre and mood on trial together; 1.0.1 of both is in use."""
    config.write_text(config.read_text() + '[update]\nchannel = "stable"\nrequire_signature = false\n')
    for number in ("1.0.0", "1.0.1", "1.1.0"):
        store.add("genre", number, write_version(tmp_path, number))
        store.add("mood", number, number.encode())
    for name in ("genre", "mood"):
        store.use(name, "1.0.1")

    def begin(**versions: str) -> None:
        files = {name: store.find(name, version).sha256 for name, version in versions.items()}
        accepted = {"stable": Kept(accepted=Accepted(7))}
        store.change(lambda state: state.model_copy(update={"channels": accepted}).watch(files, 7))

    return begin


def digests(store: Store, *versions: str) -> set[str]:
    return {store.find(*one.split()).sha256 for one in versions}


@pytest.mark.parametrize("words", [["use", "genre", "1.0.0"], ["remove", "genre", "--all"]])
def test_a_choice_decides_on_the_candidates_that_are_only_compared(
    on_trial: Callable[..., None], run: Run, store: Store, words: list[str]
) -> None:
    on_trial(genre="1.1.0", mood="1.1.0")
    expected = digests(store, "genre 1.0.1", "genre 1.1.0", "mood 1.1.0")
    said = run(*words)
    assert "mood" not in said
    assert set(store.read().refused) == expected
    assert store.read().watched is None


def test_a_choice_takes_back_what_came_with_the_same_release(
    on_trial: Callable[..., None], run: Run, store: Store
) -> None:
    on_trial(genre="1.1.0", mood="1.1.0")
    for name in ("genre", "mood"):
        store.use(name, "1.1.0")
    assert "mood is what it was before, too: it came with that release\n" in run("use", "genre", "1.0.0")
    assert set(store.read().refused) == digests(store, "genre 1.1.0", "mood 1.1.0")
    mood = store.current("mood")
    assert mood is not None
    assert (mood.version, store.read().watched) == ("1.0.1", None)


def test_the_choice_of_the_candidate_itself_ends_its_trial_alone(
    on_trial: Callable[..., None], run: Run, store: Store
) -> None:
    on_trial(genre="1.1.0", mood="1.1.0")
    run("use", "genre", "1.1.0")
    assert set(store.read().refused) == digests(store, "genre 1.0.1")
    watched = store.read().watched
    assert watched is not None
    assert list(watched.files) == ["mood"]


def test_a_way_back_that_is_not_there_decides_nothing(
    on_trial: Callable[..., None], run: Run, fails: Run, store: Store
) -> None:
    run("remove", "genre", "1.0.0")
    on_trial(genre="1.1.0")
    assert "no version was in use before" in fails("rollback", "genre")
    assert store.read().refused == {}
