"""The store of models: versions, which one is in use, and the way back."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edge_agent.errors import FileError, StoreBusyError, StoreError
from edge_agent.host.folder import Disk, changing
from edge_agent.model.library import locate, passed_over
from edge_agent.model.state import MAX_CHANNELS, MAX_REFUSED, Refused, State, Watched
from edge_agent.model.store import Store
from edge_agent.model.trust import Accepted, Kept


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def in_use(store: Store, name: str = "genre") -> str | None:
    version = store.current(name)
    return None if version is None else version.version


def there(store: Store, name: str = "genre") -> list[str]:
    return [version.version for version in store.versions(name)]


def files(store: Store) -> list[str]:
    return sorted(str(path.relative_to(store.directory)) for path in store.directory.rglob("*"))


def test_there_need_be_nothing(store: Store) -> None:
    assert (store.names(), store.versions("genre")) == ([], [])
    assert (store.current("genre"), store.before("genre"), store.locate("genre")) == (None, None, None)
    assert store.read() == State()
    store.clear_parts()
    for change in (store.rollback, store.remove, store.prune):
        with pytest.raises(StoreError, match=r"no version of it in .*; install one with edge-agent model install"):
            change("genre")
    with pytest.raises(StoreError, match="install one"):
        store.use("genre", "1.0.0")
    assert not store.directory.exists()


def test_a_version_is_added_and_put_into_use(store: Store) -> None:
    added = store.add("genre", "1.0.0", b"one", b"signature")
    sha256 = hashlib.sha256(b"one").hexdigest()
    assert added == ("genre", "1.0.0", sha256, store.directory / f"genre/1.0.0-{sha256[:8]}.onnx", 3, added.modified)
    assert added.path.read_bytes() == b"one"
    assert added.path.with_name(added.path.name + ".minisig").read_bytes() == b"signature"
    assert not added.damaged
    assert (store.current("genre"), there(store), store.names()) == (None, ["1.0.0"], ["genre"])
    assert store.use("genre", "1.0.0") == added == store.current("genre")
    assert store.locate("genre") == added.path
    assert (store.directory / "genre/current").readlink() == Path(added.path.name)
    assert added.path.stat().st_mode & 0o777 == 0o644


def test_the_way_back(store: Store) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        store.add("genre", version, version.encode())
        store.use("genre", version)
    assert store.rollback("genre").version == in_use(store) == "1.1.0"
    assert store.rollback("genre").version == in_use(store) == "1.0.0"
    with pytest.raises(StoreError, match="no version was in use before; choose one with edge-agent model use"):
        store.rollback("genre")
    assert in_use(store) == "1.0.0"
    store.use("genre", "1.2.0")
    assert store.before("genre") == store.rollback("genre")
    assert in_use(store) == "1.0.0", "what was in use before, not the next number"


def test_the_way_back_leads_past_what_was_removed(store: Store) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        store.add("genre", version, version.encode())
        store.use("genre", version)
    store.remove("genre", "1.1.0")
    assert store.rollback("genre").version == "1.0.0"


def test_versions_are_chosen_by_sha256_too(store: Store) -> None:
    one, other = store.add("genre", "1.0.0", b"one"), store.add("genre", "1.0.0", b"other")
    with pytest.raises(StoreError, match=f"ambiguous: {other.sha256[:8]}, {one.sha256[:8]}; name one by"):
        store.use("genre", "1.0.0")
    assert store.use("genre", one.sha256) == one
    assert store.use("genre", other.sha256[:4]) == other
    with pytest.raises(StoreError, match=r"no version 2\.0\.0 in the store; there are: 1\.0\.0 .*; name one of them"):
        store.use("genre", "2.0.0")


def test_what_is_in_use_is_not_removed(store: Store) -> None:
    for version in ("1.0.0", "1.1.0"):
        store.add("genre", version, version.encode(), b"signature")
        store.use("genre", version)
    with pytest.raises(StoreError, match=r"1\.1\.0 is in use; use another version first, or remove all of genre"):
        store.remove("genre", "1.1.0")
    store.remove("genre", "1.0.0")
    assert there(store) == ["1.1.0"]
    store.remove("genre")
    assert files(store) == []


def test_as_many_are_kept(store: Store) -> None:
    for number in range(6):
        store.add("genre", f"1.{number}.0", b"%d" % number, b"signature")
    store.use("genre", "1.0.0")
    store.use("genre", "1.1.0")
    store.prune("genre")
    assert there(store) == ["1.5.0", "1.1.0", "1.0.0"]
    Store(store.directory, keep=1).prune("genre")
    assert there(store) == ["1.5.0", "1.1.0", "1.0.0"], "the newest, the one in use, the one before"
    Store(store.directory, keep=2).prune("genre")
    assert len([name for name in files(store) if name.endswith(".minisig")]) == 3


def written(store: Store) -> list[tuple[str, int, int, int]]:
    """What differs once anything was written; reading changes only the time of access."""
    found = ((name, (store.directory / name).lstat()) for name in files(store))
    return [(name, one.st_ino, one.st_mtime_ns, one.st_ctime_ns) for name, one in found]


def test_again_does_nothing(store: Store) -> None:
    first = store.add("genre", "1.0.0", b"one", b"signature")
    store.use("genre", "1.0.0")
    before = written(store)
    again = Store(store.directory, disk=Refusing())
    assert again.add("genre", "1.0.0", b"one", b"signature") == first == again.use("genre", "1.0.0")
    again.write(State())
    again.clear_parts()
    again.prune("genre")
    assert written(store) == before


class Refusing(Disk):
    """Nothing may be written."""

    def create(self, name: str, *_: object) -> int:
        raise AssertionError(name)

    rename = link = mkdir = unlink = create  # type: ignore[assignment]


def test_versions_are_in_the_order_of_adding_whatever_the_clock_says(store: Store) -> None:
    for number in range(3):
        version = store.add("genre", f"1.{number}.0", b"%d" % number)
        if number == 0:
            os.utime(version.path, (4e9, 4e9))  # the clock was ahead
    assert there(store) == ["1.2.0", "1.1.0", "1.0.0"]


def test_a_damaged_file_is_not_put_into_use(store: Store) -> None:
    version = store.add("genre", "1.0.0", b"one")
    version.path.write_bytes(b"two")
    assert store.versions("genre")[0].damaged
    with pytest.raises(StoreError, match=r"is damaged: its sha256 is .*; install it again"):
        store.use("genre", "1.0.0")
    assert not store.add("genre", "1.0.0", b"one").damaged
    assert store.use("genre", "1.0.0").path.read_bytes() == b"one"


def test_a_file_is_copied(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x" * 3_000_000)
    version = store.add("genre", "1.0.0", file)
    assert version.path.read_bytes() == file.read_bytes()
    with pytest.raises(FileError, match="No such file"):
        store.add("genre", "1.0.0", tmp_path / "missing.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(FileError, match="is a pipe"):
        store.add("genre", "1.0.0", tmp_path / "pipe.onnx")


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\n", "a\0b", "x" * 65, "ü"])
def test_names_that_no_model_has(store: Store, name: str) -> None:
    for ask in (store.current, store.versions, store.rollback, lambda name: store.add(name, "1.0.0", b"x")):
        with pytest.raises(StoreError, match="no name of a model") as raised:
            ask(name)
        assert "\n" not in str(raised.value)
    assert store.locate(name) is None


@pytest.mark.parametrize("version", ["", "1", "1.0.0\n", "../1.0.0", "1.0.0/x", "1.0.0-" + "x" * 64])
def test_versions_that_are_none(store: Store, version: str) -> None:
    with pytest.raises(StoreError, match=r"is no version; write one such as 1\.0\.0"):
        store.add("genre", version, b"x")


# -- what updates remember


def test_what_updates_remember(store: Store) -> None:
    state = State(
        channels={"stable": Kept(accepted=Accepted(5, ("ab",)))},
        refused={"0" * 64: Refused(serial=5, reason="no")},
        watched=Watched(serial=5, files={"genre": "1" * 64}),
    )
    store.write(state)
    assert store.read() == state
    assert (store.directory / "state.json").stat().st_mode & 0o777 == 0o600
    assert store.change(lambda state: state.unwatch(["genre"])).watched is None
    assert store.read().channels == state.channels


def test_a_state_with_what_is_no_longer_noted_is_read_and_loses_it(store: Store) -> None:
    """The last version of each model that stood its trial."""
    store.directory.mkdir()
    (store.directory / "state.json").write_text('{"v":1,"channels":{},"refused":{},"good":{"genre":"%s"}}' % ("1" * 64))
    watching = store.change(lambda state: state.watch({"genre": "2" * 64}, 5))
    assert b"good" not in (store.directory / "state.json").read_bytes()
    assert store.read().watched == watching.watched


def test_what_was_refused_is_bounded(store: Store) -> None:
    refused = {f"{serial:064x}": Refused(serial=serial, reason="no") for serial in range(MAX_REFUSED + 5)}
    store.write(State(refused=refused))
    assert min(one.serial for one in store.read().refused.values()) == 5


def test_channels_are_bounded_and_the_last_ones_kept(store: Store) -> None:
    channels = {f"c{number}": Kept(accepted=Accepted(1000 - number)) for number in range(MAX_CHANNELS + 5)}
    store.write(State().model_copy(update={"channels": channels}))
    assert list(store.read().channels) == [f"c{number}" for number in range(5, MAX_CHANNELS + 5)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"v": 2}', b'{"more": 1}', b"\xff", b'{"good": {"a/b": "x"}}'])
def test_a_damaged_state_is_an_error_and_not_an_empty_one(store: Store, content: bytes) -> None:
    store.write(State().watch({"genre": "1" * 64}, 1))
    (store.directory / "state.json").write_bytes(content)
    for ask in (store.read, lambda: store.write(State())):
        with pytest.raises(StoreError, match="restore it, or remove it: then old manifests are accepted again"):
            ask()
    assert (store.directory / "state.json").read_bytes() == content


# -- others


def test_two_at_the_same_time(store: Store) -> None:
    store.add("genre", "1.0.0", b"one")
    with changing(store.directory, Disk(), 0), pytest.raises(StoreBusyError, match="another process is changing it"):
        store.use("genre", "1.0.0")
    assert in_use(store) is None
    store.use("genre", "1.0.0")


def test_a_change_changes_the_stamp(store: Store) -> None:
    def aged() -> object:
        """The stamp of a store that was not changed for long."""
        os.utime(store.directory, (1e9, 1e9))
        return store.stamp()

    assert store.stamp() == store.stamp()
    before = store.stamp()
    store.add("genre", "1.0.0", b"one")
    assert store.stamp() != before
    changes = (
        lambda: store.add("genre", "1.1.0", b"two"),
        lambda: store.use("genre", "1.0.0"),
        lambda: store.use("genre", "1.1.0"),
        lambda: store.rollback("genre"),
        lambda: store.remove("genre", "1.1.0"),
        lambda: store.write(State().watch({"genre": "1" * 64}, 1)),
        lambda: store.remove("genre"),
    )
    for change in changes:
        before = aged()
        assert store.stamp() == before
        change()
        assert store.stamp() != before


# -- where models are looked for


def test_the_store_comes_before_a_file_by_hand(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    version = store.add("genre", "1.0.0", b"one")
    by_hand = store.directory / "genre.onnx"
    by_hand.write_bytes(b"two")
    assert locate("genre", store.directory) == by_hand, "no version is in use"
    assert passed_over("genre", store.directory) is None
    assert caplog.messages == []
    store.use("genre", "1.0.0")
    assert locate("genre", store.directory) == version.path
    assert caplog.messages == [f"model genre: using {version.path}, not {by_hand}; remove one of them"]
    assert passed_over("genre", store.directory) == by_hand
    by_hand.unlink()
    caplog.clear()
    assert locate("genre", store.directory) == version.path
    assert caplog.messages == []
    assert passed_over("genre", store.directory) is None
