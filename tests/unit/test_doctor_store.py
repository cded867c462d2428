"""What `edge-agent check` says of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.config.routes import RouteSettings
from edge_agent.config.settings import Settings
from edge_agent.config.updating import Models, Update
from edge_agent.doctor import examine_offline
from edge_agent.doctor.findings import Finding
from edge_agent.doctor.kept import check_store
from edge_agent.doctor.models import check_models, explain_closed
from edge_agent.model.library import Predictor
from edge_agent.model.store import Store
from tests.unit.test_files import place, without_rights
from tests.versions import version

__all__ = ["place"]


@pytest.fixture
def store(place: Path) -> Store:
    return Store(place / "models")


def settings(store: Store, channel: str = "") -> Settings:
    return Settings(
        models=Models(directory=store.directory),
        route=(RouteSettings(model="genre"),),
        update=Update(channel=channel, require_signature=False),
    )


def found(store: Store) -> Iterator[Finding]:
    loaded, models = settings(store), dict[str, Predictor]()
    yield from (one for one in check_models(loaded, loaded.routes(), models) if one.what == "model")
    yield from check_store(loaded, models, as_service=False)


def put(store: Store, *numbers: str) -> None:
    for number in numbers:
        store.use("genre", store.add("genre", number, version(number)).sha256)


def test_without_a_store_nothing_is_said_of_it(store: Store) -> None:
    assert [one.what for one in found(store)] == ["model"]


def test_what_is_in_use_and_what_was_before(store: Store) -> None:
    put(store, "1.0.1", "1.1.0")
    model, kept = found(store)
    assert model.message.startswith("genre 1.1.0, classification, ")
    assert (kept.verdict, kept.message) == ("ok", "genre: 1.1.0 is in use, before it 1.0.1; 2 kept")


def test_the_first_version_has_none_before_it(store: Store) -> None:
    put(store, "1.1.0")
    assert [one.message for one in found(store)][1:] == ["genre: 1.1.0 is in use; 1 kept"]


def test_a_file_by_hand_that_is_passed_over(store: Store) -> None:
    put(store, "1.1.0")
    by_hand = store.directory / "genre.onnx"
    by_hand.write_bytes(version("1.0.5"))
    *_, note = found(store)
    assert note.verdict == "note"
    assert note.message == f"genre: {by_hand}, which somebody put there, is not used: the store has 1.1.0"
    assert note.mend == f"sudo rm {by_hand}, or use it: edge-agent model remove genre --all"


def test_a_damaged_version(store: Store) -> None:
    put(store, "1.0.1", "1.1.0")
    before = store.before("genre")
    assert before is not None
    before.path.write_bytes(b"x")
    *_, note = found(store)
    assert (note.verdict, note.mend) == (
        "note",
        "edge-agent model remove genre 1.0.1, and install it again if it is needed",
    )
    assert before.path.name in note.message


def test_in_use_is_what_is_not_there(store: Store) -> None:
    put(store, "1.1.0")
    path = store.locate("genre")
    assert path is not None
    path.unlink()
    (failed,) = found(store)
    assert (failed.verdict, failed.exit_status) == ("fail", 3)
    assert f"leads to {path.name}, which is not there" in failed.message
    assert failed.mend == "choose a version with edge-agent model use"


def test_a_store_that_the_service_can_t_read_or_write(store: Store) -> None:
    put(store, "1.1.0")
    directory = store.directory / "genre"
    loaded = settings(store, channel="stable")
    closed = explain_closed("genre", loaded, may=lambda path, _: path != store.locate("genre"))
    assert closed is not None
    assert closed.mend == f"sudo chown -R --reference={store.directory} {directory}"
    directory.chmod(0o555)
    with without_rights():
        assert list(check_store(settings(store), [], as_service=True)) == []
        assert list(check_store(loaded, [], as_service=False)) == []
        found = list(check_store(loaded, [], as_service=True))
    directory.chmod(0o755)
    (failed,) = found
    assert failed.verdict == "fail"
    assert failed.message.endswith("the service's user may not write there, so no update can be installed")
    assert failed.mend in {
        f"sudo chown -R --reference={store.directory} {directory}",
        f"sudo chown -R --reference={store.directory.parent} {store.directory}",
    }


def test_a_reload_looks_at_what_is_in_use_only(store: Store) -> None:
    put(store, "1.0.1", "1.1.0")
    assert [one.what for one in examine_offline(settings(store))] == ["trust", "model", "digest", "self-test"]


def test_what_only_the_service_may_see_is_no_failure_of_another_user(store: Store, place: Path) -> None:
    """As in /var/lib/private: the bundled model is found without it."""
    put(store, "1.1.0")
    place.chmod(0o700)
    with without_rights():
        said = list(check_store(settings(store), ["genre"], as_service=False))
        service = list(check_store(settings(store), ["genre"], as_service=True))
    assert [one.verdict for one in said] == ["note"]
    assert "Permission denied" in said[0].message
    assert [one.verdict for one in service] == ["fail"]
