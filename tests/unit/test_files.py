"""Whatever lies where a file should be: one sentence, at once."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.config.precautions import as_root, by_path, neglected, open_secrets
from edge_agent.config.routes import RouteSettings
from edge_agent.config.settings import Settings
from edge_agent.config.updating import Update
from edge_agent.errors import FileError
from edge_agent.host import files
from tests.patience import DEADLINE

NOBODY = 65_534


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """As a user to whom permissions apply, also where the suite runs as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        yield place
        if (closed := place / "closed").is_dir():
            closed.chmod(0o700)  # so that it can be removed


def _missing(place: Path) -> Path:
    return place / "file"


def _dangling(place: Path) -> Path:
    (place / "file").symlink_to(place / "gone")
    return place / "file"


def _circle(place: Path) -> Path:
    (place / "file").symlink_to(place / "other")
    (place / "other").symlink_to(place / "file")
    return place / "file"


def _directory(place: Path) -> Path:
    (place / "file").mkdir()
    return place / "file"


def _pipe(place: Path) -> Path:
    os.mkfifo(place / "file")
    return place / "file"


def _socket(place: Path) -> Path:
    # Made without binding, which unit tests may not do.
    os.mknod(place / "file", 0o140600)
    return place / "file"


def _below_a_file(place: Path) -> Path:
    (place / "no-directory").touch()
    return place / "no-directory" / "file"


def _closed(place: Path) -> Path:
    (place / "file").touch(mode=0)
    return place / "file"


def _in_a_closed_directory(place: Path) -> Path:
    closed = place / "closed"
    closed.mkdir()
    (closed / "file").write_text("x")
    closed.chmod(0)
    return closed / "file"


def _behind_a_link_to_a_closed_directory(place: Path) -> Path:
    (place / "link").symlink_to(_in_a_closed_directory(place).parent)
    return place / "link" / "file"


#: What may be there -> the cause, the fix, and whether `exists` reports it, too.
KINDS: list[tuple[Callable[[Path], Path], str, str]] = [
    (_missing, "No such file or directory", "check path and permissions"),
    (_dangling, "No such file or directory: it is a link to {place}/gone", "fix the link, or put the file there"),
    (_circle, "it is a circular link", "fix the link"),
    (_directory, "Is a directory, not a file", "name the file itself"),
    (_pipe, "is a pipe, not a file", "name the file itself"),
    (_socket, "is a socket, not a file", "name the file itself"),
    (_below_a_file, "Not a directory", "check path"),
    (_in_a_closed_directory, "may not enter {place}/closed", "allow it with chmod or chown"),
    (_behind_a_link_to_a_closed_directory, "may not enter {place}/closed", "allow it with chmod or chown"),
    (lambda place: place / ("x" * 300), "File name too long", "check path"),
    (lambda place: place / "a\0b", "contains a character that paths can't have", "correct the path"),
    (lambda place: place / "a\ud800b", "contains a character that paths can't have", "correct the path"),
    (lambda _: Path("/dev/null"), "is a device, not a file", "name the file itself"),
    (_closed, "may not read it", "chmod or chown"),
]


@pytest.mark.parametrize(("make", "says", "mends"), KINDS)
@pytest.mark.timeout(DEADLINE)
def test_what_is_no_file_or_can_t_be_read(make: Callable[[Path], Path], says: str, mends: str, place: Path) -> None:
    path = make(place)
    with without_rights(), pytest.raises(FileError) as raised:
        files.read(path, limit=10)
    message = str(raised.value)
    assert says.format(place=place) in message
    assert mends in message
    assert message.startswith(f"{path}: ")
    with without_rights():
        if make in {_missing, _closed}:  # absence is an answer, and so is a file, whoever may read it
            assert files.exists(path) is (make is _closed)
            return
        with pytest.raises(FileError) as raised:
            files.exists(path)
    assert str(raised.value) == message


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert files.read(path, limit=10) == b"0123456789"
    assert files.exists(path)
    with pytest.raises(FileError, match="is too large: at most 9 bytes are read"):
        files.read(path, limit=9)
    (tmp_path / "link").symlink_to(path)
    assert files.read(tmp_path / "link", limit=10) == b"0123456789"


def test_listings(place: Path) -> None:
    for name in ("b.toml", "a.toml", ".hidden.toml", "c.toml~", "10.toml", "9.toml"):
        (place / name).touch()
    assert [path.name for path in files.listing(place, ".toml")] == ["10.toml", "9.toml", "a.toml", "b.toml"]
    assert files.listing(place / "nowhere", ".toml") == []
    for make, says in ((_dangling, "it is a link to"), (_below_a_file, "Not a directory")):
        with pytest.raises(FileError, match=says):
            files.listing(make(place), ".toml")
    closed = _in_a_closed_directory(place).parent
    with without_rights(), pytest.raises(FileError, match="may not read it"):
        files.listing(closed, ".toml")


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (0o644, "is open to everybody on this machine (mode 644); chmod 600"),
        (0o602, "is open to everybody on this machine (mode 602); chmod 600"),
        (0o640, "is open to everybody in group "),
        (0o600, None),
        (0o400, None),
    ],
)
def test_secrets_that_others_may_read(mode: int, says: str | None, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    secret.chmod(mode)
    found = files.exposed(secret)
    assert (found is None) is (says is None)
    settings = Settings(
        mqtt={"username": "ann", "password_file": secret, "tls": {"certificate": secret, "key": secret}}
    )
    assert open_secrets(settings) == ([f"mqtt.password_file: {found}", f"mqtt.tls.key: {found}"] if found else [])
    if found and says:
        assert found.startswith(f"{secret}: {says}")


def test_an_open_secret_of_root_is_not_advised_to_be_closed_to_the_service(place: Path) -> None:
    secret = place / "secret"
    secret.touch()
    secret.chmod(0o644)
    if os.geteuid() == 0:
        with without_rights():
            found = files.exposed(secret)
        assert found is not None
        assert "chmod 600" not in found
        assert "credential of systemd" in found


def test_secrets_of_somebody_else(place: Path) -> None:
    secret = place / "secret"
    secret.touch(mode=0o600)
    with without_rights():
        assert files.exposed(secret) is None  # of root, or our own
    if os.geteuid() == 0:
        os.chown(secret, 1234, 1234)
        assert "belongs to user 1234, and the agent runs as user root; chown root" in (files.exposed(secret) or "")


def test_secrets_that_are_systemd_s_or_can_t_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "mqtt-password"
    secret.touch(mode=0o644)
    assert files.exposed(secret)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert files.exposed(secret) is None
    assert files.exposed(tmp_path.parent / "nowhere") is None


def test_running_as_root() -> None:
    assert as_root(1000) is None
    assert "running as root, which the agent never needs" in (as_root(0) or "")
    assert neglected(Settings()) == [line for line in [as_root()] if line]


def test_models_that_a_channel_can_not_change() -> None:
    routes = (RouteSettings(model="/srv/genre.onnx"), RouteSettings(subscribe="b/{x}", publish="c/{x}"))
    update = Update(channel="stable", require_signature=False)
    warning = by_path(Settings(route=routes, update=update)) or ""
    assert warning.startswith("update.channel: /srv/genre.onnx: named by a path, so no update over MQTT changes")
    assert by_path(Settings(route=routes)) is None
    assert by_path(Settings(update=update)) is None
