"""A file that is replaced as a whole, and the setting that names one."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.config.load import load
from edge_agent.errors import FileError, SettingsError
from edge_agent.host import files


def failing(number: int) -> Iterator[bytes]:
    """Content during which the file system gives up."""
    yield b"half of it"
    raise OSError(number, os.strerror(number))


def test_the_new_one_has_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.replace(path, [b"one", b"two"], 0o600)
    files.replace(path, [b"three"], 0o644)
    assert path.read_bytes() == b"three"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    files.remove(path)
    files.remove(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device; free some space there, or name another directory"),
        (errno.EDQUOT, "exceeded; free some space there, or name another directory"),
        (errno.EROFS, "Read-only file system; name a directory that can be written to"),
        (errno.EACCES, "may not write in {}; allow it with chmod or chown, or name another directory"),
        (errno.EIO, "the disk or SD card may be failing; copy its data and replace it"),
    ],
)
def test_when_it_fails_the_old_one_stays_and_nothing_else(tmp_path: Path, number: int, advice: str) -> None:
    path = tmp_path / "file"
    files.replace(path, [b"old"], 0o644)
    with pytest.raises(FileError) as caught:
        files.replace(path, failing(number), 0o644)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith(advice.format(tmp_path))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_remainder_of_a_crash_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.with_name(".file.new").write_bytes(b"half of it")
    files.replace(path, [b"new"], 0o644)
    assert list(tmp_path.iterdir()) == [path]


# -- the setting


def chosen(directory: Path, textfile: str) -> Path | None:
    config = directory / "edge-agent.toml"
    config.write_text(f"[metrics]\ntextfile = {textfile!r}\n")
    return load(config).metrics.path


def test_nothing_is_the_default(tmp_path: Path) -> None:
    assert chosen(tmp_path, "") is None


def test_a_name_alone_is_in_the_service_s_directory_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert chosen(tmp_path, "edge-agent.prom") == Path("/run/edge-agent/edge-agent.prom")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/edge-agent-kitchen:/run/more")
    assert chosen(tmp_path, "edge-agent.prom") == Path("/run/edge-agent-kitchen/edge-agent.prom")


def test_any_other_path_is_one_as_everywhere(tmp_path: Path) -> None:
    assert chosen(tmp_path, "/srv/x.prom") == Path("/srv/x.prom")
    assert chosen(tmp_path, "./x.prom") == tmp_path / "x.prom"
    assert chosen(tmp_path, "below/x.prom") == tmp_path / "below" / "x.prom"


def test_a_configuration_that_is_named_by_a_relative_path_is_no_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    (tmp_path / "conf").mkdir()
    for directory in (Path(), Path("conf")):
        assert chosen(directory, "run/three.prom") == tmp_path / directory / "run/three.prom"
        assert chosen(directory, "./three.prom") == tmp_path / directory / "three.prom"
        assert chosen(directory, "three.prom") == Path("/run/edge-agent/three.prom")


def test_only_a_name_alone_is_in_the_service_s_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/edge-agent")
    for given, meant in (("run/x.prom", tmp_path / "run/x.prom"), ("./x.prom", tmp_path / "x.prom")):
        monkeypatch.setenv("EDGE_AGENT_METRICS__TEXTFILE", given)
        assert chosen(tmp_path, "y.prom") == meant, "the environment has no file that a path could be relative to"


@pytest.mark.parametrize("textfile", ["/run/edge-agent/", "/", ".", "..", "/run/.."])
def test_a_directory_is_refused(tmp_path: Path, textfile: str) -> None:
    with pytest.raises(SettingsError, match=r"metrics\.textfile: .*name a file in it, such as edge-agent\.prom"):
        chosen(tmp_path, textfile)
