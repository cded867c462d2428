"""docs/raspberry-pi.md, followed word for word by the user `pi` on a machine that boots.

Before the page begins there is what Raspberry Pi OS Lite has: a user `pi` with sudo, and the network, for apt alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.documents import ROOT, Block, blocks
from tests.pi.machine import Machine, booted, wait_until

pytestmark = [pytest.mark.pi, pytest.mark.timeout(900)]

PAGE = ROOT / "docs" / "raspberry-pi.md"


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that README.md trains."""
    out = tmp_path_factory.mktemp("iris") / "iris.onnx"
    table = ROOT / "docs" / "examples" / "iris.csv"
    subprocess.run(
        [Path(sys.executable).with_name("edge-convert"), "train", "--data", table, "--target", "species", "--out", out],
        check=True,
    )
    return out


@pytest.fixture
def fresh(deb: Path, iris: Path) -> Iterator[Machine]:
    with booted("sudo", "openssl") as machine:
        machine.shell("useradd --create-home --groups adm --shell /bin/bash pi")
        machine.write("/etc/sudoers.d/pi", "pi ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
        machine.copy_in(iris, "/home/pi/iris.onnx")
        # To see who has subscribed.
        machine.write("/etc/mosquitto/conf.d/log.conf", "log_type all\n")
        # As the page has it, whatever the version.
        machine.copy_in(deb, "/home/pi/edge-agent_1.0.0_all.deb")
        with machine.mirror():
            yield machine


def as_pi(text: str) -> list[str]:
    # Line by line, as on a terminal.
    return ["runuser", "--login", "pi", "--command", f"exec stdbuf -oL bash -euo pipefail -c '{quoted(text)}'"]


def quoted(text: str) -> str:
    return text.replace("'", "'\\''")


def run(machine: Machine, block: Block) -> None:
    done = machine.run(*as_pi(block.text), check=False)
    said = done.stdout + done.stderr
    print(f"{block}\n{said}")  # noqa: T201 - shown when it fails
    assert done.returncode == 0, f"{block} ended with {done.returncode}"
    for text in block.prints:
        assert text in said, f"{block} does not print {text!r}"


def test_the_page_leads_to_a_label(fresh: Machine, tmp_path: Path) -> None:
    with ExitStack() as background:
        printed: dict[Block, Path] = {}
        for number, block in enumerate(blocks(PAGE)):
            assert block.not_run is None
            if block.background:
                printed[block] = tmp_path / f"{number}.log"
                background.enter_context(running(fresh, block, printed[block]))
            else:
                run(fresh, block)
        for block, file in printed.items():
            wait_until(partial(holds, file, *block.prints), f"{block} does not print all of {block.prints}")


@contextmanager
def running(machine: Machine, block: Block, output: Path) -> Iterator[None]:
    """Start a block that stays, and wait until the broker has granted it a subscription."""
    granted = subscriptions(machine)
    with output.open("wb") as file:
        process = machine.start(*as_pi(block.text), output=file)
    try:
        wait_until(lambda: subscriptions(machine) > granted, f"{block} does not subscribe")
        yield
    finally:
        process.terminate()
        process.wait(60)


def subscriptions(machine: Machine) -> int:
    """Count those that the broker has granted to others than the agent and its check."""
    log = (machine.directory / "var/log/mosquitto/mosquitto.log").read_text()
    return len(re.findall(r"Sending SUBACK to (?!edge-agent)", log))


def holds(file: Path, *texts: str) -> bool:
    content = file.read_text()
    return all(text in content for text in texts)
