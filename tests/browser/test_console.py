"""docs/console.md, word for word: Mosquitto with the settings and rules of the page, and of docs/raspberry-pi.md before it.

Only what this machine can't have differs: ports, directories, and the address, which is that of the loopback interface.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.chromium import Chromium
from tests.brokers import HOST, Mosquitto, free_port, running
from tests.browser.conftest import ROOT
from tests.browser.sliders import find_live, log_in, rock_by_slider
from tests.certificates import Authority
from tests.contract.agents import RunningAgent
from tests.requirements import require_mosquitto

#: A file that the pages write: where, and what.
_WRITTEN: Final = re.compile(
    r"^sudo (?:tee (?:-a )?(?P<tee>/\S+) >/dev/null|install .*/dev/stdin (?P<installed>/\S+)) <<'END'\n(?P<text>.*?)^END$",
    re.MULTILINE | re.DOTALL,
)
PASSWORDS: Final = {name: f"secret of {name}" for name in ("edge-agent", "sensor", "home", "page")}


def written(page: str, path: str) -> list[str]:
    """What a page of docs/ writes to a file, piece by piece."""
    found = _WRITTEN.finditer((ROOT / "docs" / page).read_text(encoding="utf-8"))
    return [one["text"] for one in found if path in (one["tee"], one["installed"])]


class Followed(Mosquitto):
    """A Mosquitto with the configuration that the pages give it. `listener` is what docs/console.md says of port 9001."""

    def __init__(self, directory: Path, listener: str) -> None:
        self.web_port = free_port()
        self._listener = listener
        super().__init__(directory)

    def configure(self, **_: object) -> None:
        (base,) = written("raspberry-pi.md", "/etc/mosquitto/conf.d/edge.conf")
        rules = [*written("raspberry-pi.md", "/etc/mosquitto/acl"), *written("console.md", "/etc/mosquitto/acl")]
        acl = self.directory / "acl"
        acl.write_text("".join(rules))
        acl.chmod(0o600)
        moved = {
            "listener 1883": f"listener {self.port} {HOST}",
            "listener 9001": f"listener {self.web_port} {HOST}",
            "/etc/mosquitto/passwords": str(self._write_passwords(PASSWORDS)),
            "/etc/mosquitto/acl": str(acl),
            "/usr/local/share/edge-agent": str(self.directory / "www"),
            "/etc/mosquitto/secure/": f"{self.directory}/",
        }
        text = base + self._listener
        for there, here in moved.items():
            text = text.replace(there, here)
        self.configuration = self.directory / "mosquitto.conf"
        # Started as root it would become another user, who can't read the directories of tests.
        self.configuration.write_text(f"user root\nlog_dest stderr\nlog_type all\n{text}")


@contextmanager
def followed(directory: Path, listener: str) -> Iterator[Followed]:
    """Follow the page: the broker, and the page of the agent where the broker serves it."""
    require_mosquitto()
    broker = Followed(directory, listener)
    (directory / "www").mkdir()
    command = "sudo edge-agent docs --out /usr/local/share/edge-agent/index.html"
    assert command in (ROOT / "docs/console.md").read_text()
    program = Path(sys.executable).with_name("edge-agent")
    subprocess.run([program, "docs", "--out", directory / "www/index.html"], check=True, cwd=directory)
    with running(broker):
        yield broker


def agent(broker: Followed) -> RunningAgent:
    """The agent of raspberry-pi.md."""
    password = broker.directory / "agent-password"
    password.write_text(PASSWORDS["edge-agent"])
    password.chmod(0o600)
    login = {"username": "edge-agent", "password_file": str(password)}
    return RunningAgent(broker.port, mqtt=login, node={"id": "pi"})


def test_the_page_of_a_pi_by_its_own_broker(chromium: Chromium, built: Path, tmp_path: Path) -> None:
    assert built.is_file()
    plain, _ = written("console.md", "/etc/mosquitto/conf.d/page.conf")
    with followed(tmp_path, plain) as broker, agent(broker):
        page = chromium.open(f"http://{HOST}:{broker.web_port}/")
        log_in(page, "page", "guessed")
        page.wait("document.querySelector('.connect').innerText.includes('the broker refused this user and password')")
        log_in(page, "page", PASSWORDS["page"])
        rock_by_slider(page, "5")
        find_live(page, "pi")
        assert page.problems == []


def test_the_page_of_a_pi_with_tls(chromium: Chromium, built: Path, tmp_path: Path) -> None:
    assert built.is_file()
    _, with_tls = written("console.md", "/etc/mosquitto/conf.d/page.conf")
    pair = Authority(tmp_path).issue("broker")
    assert {pair.certificate, pair.key} == {tmp_path / "broker.crt", tmp_path / "broker.key"}
    with followed(tmp_path, with_tls) as broker, agent(broker):
        page = chromium.open((tmp_path / "www/index.html").as_uri())
        # As if the authority had been imported.
        page.call("Security.setIgnoreCertificateErrors", {"ignore": True})
        page.fill(".connect input[type=url]", f"wss://{HOST}:{broker.web_port}/")
        log_in(page, "page", PASSWORDS["page"])
        rock_by_slider(page, "5")
        find_live(page, "pi")
        assert page.problems == []
