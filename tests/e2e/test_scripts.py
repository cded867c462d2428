"""The scripts that set up an environment, where something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, call, uv

#: A network namespace of its own has no network but a loopback interface that is down; a user needs one of users, too.
ALONE = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What setting up looks at, in a directory of its own."""
    directory = tmp_path / "clone"
    directory.mkdir()
    shutil.copy(ROOT / "pyproject.toml", directory)
    shutil.copytree(ROOT / "scripts", directory / "scripts")
    return directory


def without_network(clone: Path, script: str = "demo", **environment: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("unshare") is None or call(*ALONE, "true").returncode != 0:
        pytest.skip("a network namespace can't be made here (unshare)")
    # Nothing from a cache or a directory of packages: what it needs, it needs from the network.
    bare = {
        "PATH": os.environ["PATH"],
        "HOME": str(clone.parent),
        "PYTHON": sys.executable,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "1",
        "UV_NO_CONFIG": "1",
        "UV_HTTP_RETRIES": "0",
    }
    return call(*ALONE, clone / "scripts" / script, env={**bare, **environment}, cwd=clone.parent)


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_without_a_network_it_says_so_and_goes_on_later(clone: Path, installer: str) -> None:
    if installer == "uv" and not uv():
        pytest.skip("there is no uv")
    chosen = {"WITHOUT_UV": "1"} if installer == "pip" else {}
    for _ in range(2):
        done = without_network(clone, **chosen)
        assert done.returncode != 0
        assert "error: The network is missing." in done.stderr
        assert "Traceback" not in done.stderr
        assert not list((clone / ".venv").glob(".stamp*"))


def test_an_environment_that_was_left_half_made_is_made_anew(clone: Path) -> None:
    half = clone / ".venv"
    assert call(sys.executable, "-m", "venv", "--without-pip", half).returncode == 0
    done = without_network(clone, WITHOUT_UV="1")
    assert ".venv was left half-made: making it anew" in done.stdout
    assert "error: The network is missing." in done.stderr
    assert not half.exists() or (half / ".made").exists()


def test_what_uv_made_is_made_anew_without_it(clone: Path) -> None:
    assert call(sys.executable, "-m", "venv", "--without-pip", clone / ".venv").returncode == 0
    (clone / ".venv" / ".made").touch()
    done = without_network(clone, WITHOUT_UV="1")
    assert ".venv was made by uv, which is not here: making it anew" in done.stdout


@pytest.mark.parametrize("has_node", [True, False])
def test_the_page_takes_a_network_the_first_time(clone: Path, tmp_path: Path, *, has_node: bool) -> None:
    if has_node and not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("there is no Node.js")
    (clone / "console").mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "console" / name, clone / "console")
    path = os.environ["PATH"]
    if not has_node:
        programs = tmp_path / "programs"
        programs.mkdir()
        (programs / "node").write_text("#!/bin/sh\nexit 1\n")
        (programs / "node").chmod(0o755)
        path = f"{programs}:{path}"
    done = without_network(clone, "console", PATH=path, npm_config_cache=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "error: The network is missing." in done.stderr
    assert "error: the page can't be built" in done.stderr
    assert ("sudo apt install nodejs npm" in done.stderr) != has_node
