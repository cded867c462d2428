"""The pages that are about a device, from docs/raspberry-pi.md on, followed word for word by the user `pi` on a machine that boots.

Before the pages begin there is what Raspberry Pi OS Lite has: a user `pi` with sudo, and the network, for apt alone; and a
workstation with a clone, which is this side.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from benchmarks.chromium import Chromium, find
from tests.browser.sliders import find_live, log_in, rock_by_slider
from tests.documents import DEVICE_PAGES, ROOT, Block, blocks
from tests.pi.machine import ENVIRONMENT, Machine, booted, wait_until
from tests.pi.service import UNIT
from tests.requirements import lacking
from tests.terminal import Terminal

pytestmark = [pytest.mark.pi, pytest.mark.timeout(1800)]


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
        machine.copy_in(deb, f"/home/pi/{deb.name}")
        with machine.mirror():
            yield machine


#: In place of scp, for which there is no network.
SCP = """#!/bin/sh -e
for name; do
    set -- "$@" "$(printf %s "$name" | sed 's,^pi@pi[.]local:,{home}/,')"
    shift
done
cp -- "$@"
chown -R --reference={home} {home}
"""


def on_workstation(machine: Machine, directory: Path, iris: Path) -> list[str | Path]:
    """What starts a shell in a clone (of which there are the examples) that was used before, on the same network as the machine."""
    (directory / "docs").mkdir(parents=True)
    (directory / "docs/examples").symlink_to(ROOT / "docs/examples")
    (directory / "iris.onnx").write_bytes(iris.read_bytes())
    (directory / "bin").mkdir()
    (directory / "bin/scp").write_text(SCP.format(home=machine.directory / "home/pi"))
    (directory / "bin/scp").chmod(0o755)
    (directory / "hosts").write_text("127.0.0.1 localhost pi.local\n")
    path = f"{directory}/bin:{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}"
    shell = f"mount --bind {directory}/hosts /etc/hosts; cd {directory}; exec env PATH={path} HOME={directory} stdbuf -oL bash"
    return ["nsenter", "--target", str(machine.leader), "--net", "--", "unshare", "--mount", "sh", "-ec", shell]


def as_pi(machine: Machine, *command: str) -> list[str | Path]:
    """What starts a program in the machine, as a login of pi does."""
    return machine.inside("runuser", "--login", "pi", "--command", shlex.join(command))


def test_the_pages_can_be_followed(fresh: Machine, iris: Path, tmp_path: Path) -> None:
    """One after the other, by one user at one terminal; what stays in the background has a terminal of its own."""
    # Line by line, as on a terminal.
    shell = ("stdbuf", "-oL", "bash")
    workstation = on_workstation(fresh, tmp_path / "clone", iris)
    with (
        ExitStack() as background,
        Terminal(as_pi(fresh, *shell), env=ENVIRONMENT) as device,
        Terminal(workstation, env=ENVIRONMENT) as clone,
    ):
        for page in DEVICE_PAGES:
            printed: dict[Block, Path] = {}
            for block in blocks(page):
                if block.background:
                    printed[block] = tmp_path / f"{block}.log"
                    background.enter_context(running(fresh, block, printed[block]))
                elif block.not_run is None:
                    said = (clone if block.workstation else device).run(block)
                    print(f"--- {block}\n{said}")  # noqa: T201 - shown when a test fails
                    assert "Warning" not in said, f"{block} warns:\n{said}"
            for block, file in printed.items():
                wait_until(partial(holds, file, *block.prints), f"{block} does not print all of {block.prints}")
            if page.name == "console.md":
                shows_the_page(fresh, tmp_path / "page.png")
    log = (fresh.directory / "var/log/mosquitto/mosquitto.log").read_text()
    # mosquitto_passwd and the broker warn of files that others can read, or that belong to somebody else.
    assert "Future versions will refuse" not in log
    keeps_its_secrets(fresh)
    takes_little_memory(fresh)
    lets_in_whom_it_should(fresh)


def shows_the_page(machine: Machine, picture: Path) -> None:
    """To a browser, which this side has: from the address on the page to a label by slider."""
    if find() is None:
        lacking("there is no Chromium: sudo apt install chromium")
    password = machine.shell("cat /home/pi/passwords/page").strip()
    with machine.network(), Chromium.start() as chromium:
        page = chromium.open("http://localhost:9001/")
        log_in(page, "page", password)
        rock_by_slider(page, "5")
        find_live(page, machine.name)
        page.screenshot(picture, whole=True)
        assert page.problems == []


def keeps_its_secrets(machine: Machine) -> None:
    places = (
        "/home/pi/passwords /home/pi/secure /etc/mosquitto/passwords /etc/mosquitto/secure /etc/credstore.encrypted"
    )
    assert machine.shell(f"runuser -u nobody -- find {places} -type f -readable 2>/dev/null || true") == ""
    # Nor by their own bits alone, were they moved elsewhere.
    assert machine.shell("find /home/pi/passwords /etc/mosquitto/passwords -type f -perm /077") == ""


def takes_little_memory(machine: Machine) -> None:
    """With what apt installs besides, which is more than what we stand on: what docs/performance.md says of it."""
    machine.run("systemctl", "restart", UNIT)
    wait_until(lambda: "serving" in machine.show(UNIT, "StatusText"), "it does not serve")
    status = machine.shell(f"cat /proc/{machine.show(UNIT, 'MainPID')}/status")
    resident = int(re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[0])
    print(f"resident: {resident / 1024:.1f} MiB")  # noqa: T201
    assert resident < 85 << 10


def lets_in_whom_it_should(machine: Machine) -> None:
    """The user of security.md's second device, as its own node only; and nobody without a name."""

    def check(node: str, mqtt: str) -> tuple[int, str]:
        machine.write("/root/second.toml", f'[node]\nid = "{node}"\n[mqtt]\n{mqtt}\n', mode=0o600)
        done = machine.run("edge-agent", "check", "--config", "/root/second.toml", check=False)
        return done.returncode, done.stdout

    kitchen = 'username = "kitchen"\npassword_file = "/home/pi/passwords/kitchen"'
    status, said = check("kitchen", kitchen)
    assert (status, "logged in over MQTT 5 as 'kitchen'" in said) == (0, True), said
    status, said = check("cellar", kitchen)
    assert (status, "FAIL  publish        edge/cellar/response/+: Not authorized" in said) == (1, True), said
    status, said = check("kitchen", "")
    assert (status, "FAIL  broker" in said) == (1, True), said


@contextmanager
def running(machine: Machine, block: Block, output: Path) -> Iterator[None]:
    """Start a block that stays, and wait until the broker has granted it a subscription."""
    granted = subscriptions(machine)
    with output.open("wb") as file:
        command = as_pi(machine, "stdbuf", "-oL", "bash", "-euo", "pipefail", "-c", block.text)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=ENVIRONMENT)
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
