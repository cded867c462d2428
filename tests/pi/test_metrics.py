"""Metrics of the packaged service: its directory in memory, who may read the file there, and that `check` leaves it alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pi.machine import Machine, wait_until
from tests.pi.service import CONFIGURATION, UNIT, install, wait_online

pytestmark = [pytest.mark.pi, pytest.mark.timeout(900)]

FILE = "/run/edge-agent/edge-agent.prom"


def read(machine: Machine, file: str = FILE) -> str:
    """Read the file as node_exporter would: as a user with no rights of any kind."""
    return machine.run("runuser", "-u", "nobody", "--", "cat", file, check=False).stdout


@pytest.fixture(scope="module")
def served(machine: Machine, deb: Path) -> Machine:
    machine.run("systemctl", "start", "mosquitto")
    install(machine, deb)
    machine.write(CONFIGURATION, '[metrics]\ntextfile = "edge-agent.prom"\n[health]\ninterval = 1\n')
    machine.run("systemctl", "enable", UNIT)
    machine.run("systemctl", "restart", UNIT)
    wait_online(machine)
    return machine


def test_others_read_it_and_it_is_in_memory(served: Machine) -> None:
    wait_until(lambda: 'state="online"} 1\n' in read(served), "the file says online")
    assert served.shell(f"stat --format=%a {FILE}").strip() == "644"
    assert served.shell("stat --file-system --format=%T /run/edge-agent").strip() == "tmpfs"


def test_check_says_so_and_changes_nothing(served: Machine) -> None:
    ran = served.run("edge-agent", "check", "--json", check=False)
    findings = [
        (one["verdict"], one["message"]) for one in json.loads(ran.stdout)["findings"] if one["what"] == "metrics"
    ]
    assert findings == [("ok", f"{FILE} can be written")]
    before = served.shell(f"stat --format=%i {FILE}")
    wait_until(lambda: served.shell(f"stat --format=%i {FILE}") != before, "it is written as before")
    assert served.shell("stat --format=%F /run/edge-agent").strip() == "directory", "systemd did not move it"
    assert "edge_agent_info{" in read(served)


def test_it_goes_with_the_service_however_that_ends(served: Machine) -> None:
    served.run("systemctl", "stop", UNIT)
    assert served.shell("ls -A /run/edge-agent", check=False) == ""
    served.run("systemctl", "start", UNIT)
    wait_until(lambda: "edge_agent_info{" in read(served), "it is there again")
    pid = served.show(UNIT, "MainPID")
    served.run("systemctl", "kill", "--signal=SIGKILL", UNIT)
    wait_until(lambda: served.show(UNIT, "MainPID") not in {pid, "0"}, "it was not started again")
    wait_until(lambda: "edge_agent_info{" in read(served), "it is there again")


def test_each_instance_has_its_own(served: Machine) -> None:
    served.write(
        "/etc/edge-agent/kitchen.toml",
        '[metrics]\ntextfile = "edge-agent.prom"\n[[route]]\nsubscribe = "kitchen/{sensor}/features"\npublish = "kitchen/{sensor}/genre"\n',
    )
    served.run("systemctl", "start", "edge-agent@kitchen")
    wait_until(
        lambda: "-kitchen" in read(served, "/run/edge-agent-kitchen/edge-agent.prom"), "the instance writes its own"
    )
    served.run("systemctl", "stop", "edge-agent@kitchen")
    assert read(served, "/run/edge-agent-kitchen/edge-agent.prom") == ""
    assert "edge_agent_info{" in read(served), "the other one's stays"
