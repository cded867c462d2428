"""Whatever lies in the directory of a store, whoever owns it, and whoever else is at work in it."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from edge_agent.contract.manifest import MAX_MODEL_BYTES
from edge_agent.errors import EdgeAgentError, FileError, ModelError, StoreError
from edge_agent.host.apart import Apart, Limits
from edge_agent.model.library import locate
from edge_agent.model.state import Refused, State
from edge_agent.model.store import Store
from tests.patience import DEADLINE
from tests.unit.store_changes import BLOBS, CONTENT, SHA256
from tests.unit.test_files import NOBODY, place, without_rights

__all__ = ["place"]

Make = Callable[[Path], object]
FILE: Final = "1.0.0-2c624232.onnx"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")


@pytest.fixture
def store(place: Path) -> Store:
    """Two versions, the second in use."""
    store = Store(place / "models")
    for number in ("1.0.0", "1.1.0"):
        store.use("genre", store.add("genre", number, number.encode()).sha256)
    return store


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


# -- what does not belong there is passed over

PASSED_OVER: list[Make] = [
    lambda genre: (genre / FILE).mkdir(),
    lambda genre: os.mkfifo(genre / FILE),
    lambda genre: (genre / FILE).symlink_to("/etc/passwd"),
    lambda genre: (genre / FILE).symlink_to(FILE),
    lambda genre: (genre / FILE).symlink_to("gone"),
    lambda genre: _sparse(genre / FILE, MAX_MODEL_BYTES + 1),
    lambda genre: (genre / "1.0.0\n-2c624232.onnx").touch(),
    lambda genre: (genre / "1.0.0-2c624232.onnx\n").touch(),
    lambda genre: (genre / "\x1b[2J-2c624232.onnx").touch(),
    lambda genre: (genre / "01.0.0-2c624232.onnx").touch(),
    lambda genre: (genre / os.fsdecode(b"\xff-2c624232.onnx")).touch(),
    lambda genre: (genre / ".hidden").touch(),
    lambda genre: (genre / "9.0.0-2c624232.onnx.minisig").touch(),
    lambda genre: (genre.parent / "a\nb").mkdir(),
    lambda genre: (genre.parent / ".secret").mkdir(),
    lambda genre: (genre.parent / "link").symlink_to(genre),
    lambda genre: os.mkfifo(genre.parent / "pipe"),
    lambda genre: (genre.parent / "empty").mkdir(),
    lambda genre: (genre.parent / ".new").write_bytes(b"of a crash"),
    lambda genre: (genre.parent / ".gone").symlink_to("/etc"),
    lambda genre: (genre / "history").write_bytes(b"\xff\n../../x\n\0\n" + (genre / "history").read_bytes()),
]


@pytest.mark.parametrize("make", PASSED_OVER)
@pytest.mark.timeout(DEADLINE)
def test_what_does_not_belong_there_is_passed_over(make: Make, store: Store) -> None:
    before = store.versions("genre")
    make(store.directory / "genre")
    assert store.names() == ["genre"]
    assert store.versions("genre") == before
    assert locate("genre", store.directory) == before[0].path
    assert store.rollback("genre").version == "1.0.0"
    store.add("genre", "1.2.0", b"new")
    assert store.use("genre", "1.2.0").version == "1.2.0"
    store.prune("genre")


# -- in the place of something that does, it is an error

IN_ITS_PLACE: list[tuple[Make, str]] = [
    (lambda genre: (genre / "current").symlink_to("../../outside.onnx"), "no version beside it"),
    (lambda genre: (genre / "current").symlink_to("/etc/passwd"), "no version beside it"),
    (lambda genre: (genre / "current").symlink_to("current"), "no version beside it"),
    (lambda genre: (genre / "current").symlink_to(FILE), "which is not there"),
    (lambda genre: (genre / "current").symlink_to("x\n\x1b[2J" * 100), "no version beside it"),
    (lambda genre: (genre / "current").write_bytes(b"x"), "is not a link; move it elsewhere"),
]


@pytest.mark.parametrize(("make", "says"), IN_ITS_PLACE)
@pytest.mark.timeout(DEADLINE)
def test_in_the_place_of_what_is_in_use(make: Make, says: str, store: Store) -> None:
    genre = store.directory / "genre"
    (genre / "current").unlink()
    make(genre)
    asked: list[Callable[[], object]] = [
        lambda: store.current("genre"),
        lambda: store.locate("genre"),
        lambda: locate("genre", store.directory),
    ]
    for ask in asked:
        with pytest.raises(EdgeAgentError, match=says) as raised:
            ask()
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 700
    assert len(store.versions("genre")) == 2
    store.use("genre", "1.1.0")
    assert locate("genre", store.directory).read_bytes() == b"1.1.0", "and `use` puts that right"


def test_a_way_back_where_nothing_is_in_use(store: Store) -> None:
    (store.directory / "genre" / "current").unlink()
    assert store.current("genre") is None
    assert store.rollback("genre").version == "1.1.0", "the last that was"


IN_THE_WAY: list[tuple[Make, str]] = [
    (lambda models: (models / "genre").symlink_to("/etc"), "is not a directory, or a link to one"),
    (lambda models: (models / "genre").symlink_to("genre"), "is not a directory, or a link to one|circular"),
    (lambda models: os.mkfifo(models / "genre"), "is not a directory"),
    (lambda models: (models / ".new").mkdir(), "Is a directory|Operation not permitted"),
]


@pytest.mark.parametrize(("make", "says"), IN_THE_WAY)
@pytest.mark.timeout(DEADLINE)
def test_in_the_way_of_a_change(make: Make, says: str, place: Path) -> None:
    store = Store(place / "models")
    store.directory.mkdir()
    make(store.directory)
    with pytest.raises(FileError, match=says) as raised:
        store.add("genre", "1.0.0", b"x")
    assert "\n" not in str(raised.value)
    assert not list(Path("/etc").glob("1.0.0-*"))


@pytest.mark.parametrize("what", ["current", "history"])
def test_directories_in_the_way_of_use(what: str, store: Store) -> None:
    path = store.directory / "genre" / what
    path.unlink()
    path.mkdir()
    (path / "full").touch()
    with pytest.raises(FileError, match="irectory"):
        store.use("genre", "1.0.0")


STATES: list[Make] = [
    lambda state: _sparse(state, 1 << 40),
    os.mkfifo,
    lambda state: state.symlink_to("/dev/zero"),
    lambda state: state.symlink_to(state),
    lambda state: state.mkdir(),
    lambda state: state.write_bytes(b'{"v":1,"refused":{' + b'"a":{' * 50_000),
]


@pytest.mark.parametrize("make", STATES)
@pytest.mark.timeout(DEADLINE)
def test_in_the_place_of_the_state(make: Make, store: Store) -> None:
    make(store.directory / "state.json")
    with pytest.raises((FileError, StoreError), match=r"state\.json: ") as raised:
        store.read()
    assert len(str(raised.value)) < 700
    assert store.rollback("genre").version == "1.0.0", "what is served does not depend on it"


@pytest.mark.timeout(DEADLINE)
def test_in_the_place_of_pieces(store: Store) -> None:
    parts = store.directory / ".parts"
    parts.symlink_to("/etc")
    with pytest.raises(FileError, match="is not a directory, or a link to one"):
        store.part(SHA256, len(CONTENT), BLOBS)
    parts.unlink()
    parts.mkdir()
    os.mkfifo(parts / SHA256)
    with pytest.raises(FileError, match="is not a regular file"):
        store.part(SHA256, len(CONTENT), BLOBS)
    (parts / SHA256).unlink()
    (parts / SHA256).symlink_to("/etc/passwd")
    with pytest.raises(FileError, match="is not a regular file"):
        store.part(SHA256, len(CONTENT), BLOBS)
    store.clear_parts()
    assert list(parts.iterdir()) == []
    _sparse(parts / SHA256, 1 << 40)
    with store.part(SHA256, len(CONTENT), BLOBS) as part:
        assert part.missing() == [0, 1, 2]
        assert part.path.stat().st_size == len(CONTENT)


def test_the_directory_itself_is_something_else(place: Path) -> None:
    (place / "file").touch()
    (place / "dangling").symlink_to(place / "nowhere")
    for name, says in (("file", "Not a directory"), ("dangling", "No such file or directory")):
        store = Store(place / name)
        for ask in (store.names, store.read, lambda store=store: store.add("genre", "1.0.0", b"x")):
            with pytest.raises(FileError, match=says):
                ask()
    with pytest.raises(ModelError, match="Not a directory"):
        locate("genre", place / "file")


def test_thousands_of_names_hide_nothing_that_is_served(store: Store) -> None:
    for number in range(5_000):
        (store.directory / f".{number}").touch()
    assert len(store.names()) <= 1
    assert locate("genre", store.directory).read_bytes() == b"1.1.0"


# -- owners


@as_root
def test_what_root_puts_there_belongs_to_the_owner_of_the_directory(place: Path) -> None:
    """As systemd makes it for DynamicUser=: /var/lib/edge-agent -> private/edge-agent, and `private` is root's alone."""
    private = place / "private"
    (private / "edge-agent").mkdir(parents=True)
    os.chown(private / "edge-agent", NOBODY, NOBODY)
    private.chmod(0o700)
    (place / "edge-agent").symlink_to("private/edge-agent")
    store = Store(place / "edge-agent" / "models")
    store.use("genre", store.add("genre", "1.0.0", b"one", b"signature").sha256)
    store.change(lambda state: state.watch({"genre": "0" * 64}, 1))
    owned = [store.directory, *store.directory.rglob("*")]
    assert len(owned) == 7
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in owned} == {(NOBODY, NOBODY)}
    assert (os.geteuid(), os.getegid(), 0 in os.getgroups() or not os.getgroups()) == (0, 0, True)
    private.chmod(0o755)
    with without_rights():
        store.use("genre", store.add("genre", "1.1.0", b"two").sha256)
        assert store.rollback("genre").version == "1.0.0"


@as_root
def test_a_directory_that_root_made_in_the_service_s_becomes_the_service_s(place: Path) -> None:
    """`sudo install -D` makes one."""
    os.chown(place, NOBODY, NOBODY)
    (place / "models").mkdir()
    store = Store(place / "models")
    store.use("genre", store.add("genre", "1.0.0", b"one").sha256)
    with without_rights():
        store.use("genre", store.add("genre", "1.1.0", b"two").sha256)
    assert store.directory.stat().st_uid == NOBODY


@as_root
def test_links_of_the_service_lead_root_nowhere(place: Path) -> None:
    """Who may write in the directory can't have root write, or give away, what is root's."""
    roots = place / "roots"
    roots.mkdir(mode=0o755)
    service = place / "service"
    service.mkdir()
    os.chown(service, NOBODY, NOBODY)
    models = service / "models"
    models.symlink_to(roots)
    os.lchown(models, NOBODY, NOBODY)
    with pytest.raises(FileError, match="may not write in"):
        Store(models).add("genre", "1.0.0", b"x")
    models.unlink()
    models.mkdir()
    os.chown(models, NOBODY, NOBODY)
    (models / "genre").symlink_to(roots)
    with pytest.raises(FileError, match="is not a directory, or a link to one"):
        Store(models).add("genre", "1.0.0", b"x")
    (models / "genre").unlink()
    (models / ".new").symlink_to(roots / "file")
    Store(models).add("genre", "1.0.0", b"x")
    assert list(roots.iterdir()) == []
    assert roots.stat().st_uid == 0
    assert os.geteuid() == 0


@as_root
def test_a_link_of_root_s_is_followed(place: Path) -> None:
    (place / "card").mkdir()
    os.chown(place / "card", NOBODY, NOBODY)
    (place / "models").symlink_to("card")
    store = Store(place / "models")
    store.use("genre", store.add("genre", "1.0.0", b"one").sha256)
    assert locate("genre", store.directory).read_bytes() == b"one"


@as_root
def test_a_file_that_belongs_to_somebody_else_is_shown_as_damaged(store: Store) -> None:
    (store.directory / "genre" / FILE).touch(mode=0)
    with without_rights():
        (other,) = (one for one in store.versions("genre") if one.path.name == FILE)
        assert other.damaged
        assert store.current("genre") is not None
        with pytest.raises(FileError, match="use sudo, or name another directory"):
            store.rollback("genre")


# -- others at work


def test_commands_at_the_same_time(store: Store) -> None:
    """Each of four processes adds, uses, goes back and prunes over and over; at any moment there is one in use."""

    def work(number: int) -> Callable[[Callable[[str], None]], None]:
        def work(tell: Callable[[str], None]) -> None:
            mine = Store(store.directory, patience=DEADLINE)
            for turn in range(8):
                is_in_use = False
                while not is_in_use:
                    version = mine.add("genre", f"{number}.{turn}.0", b"%d %d" % (number, turn))
                    # Another one may prune in between, with newer versions to keep: then it has to be added again.
                    with contextlib.suppress(StoreError):
                        is_in_use = mine.use("genre", version.sha256) == version
                mine.rollback("genre")
                mine.prune("genre")
                mine.change(partial(State.refuse, files=[f"{number}{turn:063}"], why=why))
            tell("done")

        return work

    why = Refused(serial=1, reason="a test")
    limits = Limits(seconds=DEADLINE, patience=10 * DEADLINE, memory=1 << 30)
    processes = [Apart(work(number), limits) for number in (2, 3, 4, 5)]
    looked = 0
    while not all(process.ended for process in processes):
        assert locate("genre", store.directory).parent.name == "genre"
        looked += 1
    for process in processes:
        assert process.report() == ["done"]
        process.close()
    assert looked
    assert store.current("genre") is not None
    assert len(store.versions("genre")) <= 4
    expected = {f"{number}{turn:063}" for number in (2, 3, 4, 5) for turn in range(8)}
    assert set(store.read().refused) == expected, "no change took another away"


# -- a disk of its own

ON_A_SMALL_DISK = """
import json, os, subprocess, sys
from pathlib import Path
from edge_agent.errors import FileError
from edge_agent.model.store import Store

store = Store(Path(sys.argv[1]) / "models")
store.use("genre", store.add("genre", "1.0.0", b"one").sha256)
said = []
for change in (
    lambda: store.add("genre", "1.1.0", b"x" * (1 << 20)),
    lambda: store.part("0" * 64, 1 << 20, ["0" * 64] * 9),
):
    try:
        change()
    except FileError as error:
        said.append(str(error))
added = store.add("genre", "1.2.0", b"small")
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
for change in (lambda: store.use("genre", "1.2.0"), lambda: store.add("genre", "1.3.0", b"new")):
    try:
        change()
    except FileError as error:
        said.append(str(error))
now = store.current("genre")
print(json.dumps([said, now.version, now.path.read_text(), [one.version for one in store.versions("genre")]]))
"""


def test_a_real_disk_that_is_full_and_then_read_only(tmp_path: Path) -> None:
    """A small one in memory, which nobody else sees."""
    mount = f'mount -t tmpfs -o size=256k none {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}'
    apart = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow namespaces")
    done = subprocess.run([*apart, "sh", "-c", mount, ON_A_SMALL_DISK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, version, content, versions = json.loads(done.stdout)
    full, no_room, *read_only = said
    assert "No space left on device; free some space there, or name another directory" in full
    assert "free for 1 MiB; free some space there" in no_room
    assert len(read_only) == 2
    assert all("Read-only file system; name a directory that can be written to" in one for one in read_only)
    assert (version, content, versions) == ("1.0.0", "one", ["1.2.0", "1.0.0"])


def test_a_directory_that_others_may_not_look_into(store: Store) -> None:
    store.write(store.read().watch({"genre": "0" * 64}, 1))
    assert stat.S_IMODE((store.directory / "state.json").stat().st_mode) == 0o600
    with without_rights():
        if os.geteuid() == NOBODY:
            with pytest.raises(FileError, match="may not read it"):
                store.read()
        assert store.current("genre") is not None
