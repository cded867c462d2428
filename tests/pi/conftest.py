"""The package on a machine that boots. Run by `scripts/test --pi`, which builds it and installs what is needed.

`TESTED_DEB` names the package; without it these tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Mosquitto, running
from tests.pi.machine import Machine, booted
from tests.requirements import lacking, require_mosquitto

#: What Debian 13 has that the package stands on, put in while the root file system is made: the machine has no network.
STANDS_ON = (
    "python3-click",
    "python3-cryptography",
    "python3-numpy",
    "python3-onnxruntime",
    "python3-paho-mqtt",
    "python3-pydantic",
    "python3-pydantic-settings",
    "python3-typing-extensions",
)
BROKER = ("mosquitto", "mosquitto-clients")


@pytest.fixture(scope="session")
def deb() -> Path:
    named = os.environ.get("TESTED_DEB")
    if not named:
        lacking("there is no package to install: scripts/test --pi builds it, and says why when it can't")
    return Path(named)


@pytest.fixture(scope="session")
def newer_deb(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package with a higher version, as the next release would have."""
    tree = tmp_path_factory.mktemp("newer") / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    lines = control.read_text().splitlines()
    control.write_text("\n".join(f"{line}+next" if line.startswith("Version:") else line for line in lines) + "\n")
    made = tree.with_name("edge-agent_next_all.deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, made], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def machine(deb: Path) -> Iterator[Machine]:
    """A machine with a broker, and without the package, as there is one to install."""
    with booted(*BROKER, *STANDS_ON) as machine:
        yield machine


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker on this side, with a port of its own."""
    require_mosquitto()
    with running(Mosquitto(tmp_path)) as broker:
        yield broker
