"""Whether a broker may hold up the machine: boot, start, restart and reload while it is away, silent, refuses, or comes later.

A start that waited would wait for ever: `systemctl` is given a minute, and the boot what `Machine.boot` gives it.
The tests are one story, in this order, on one machine.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pi.machine import Machine, wait_until
from tests.pi.service import CONFIGURATION, UNIT, Login, ask, install, set_password, wait_online

pytestmark = [pytest.mark.pi, pytest.mark.timeout(900)]

PASSWORD = "correct horse battery staple"  # noqa: S105 - of a broker that lives as long as the test
TESTER = Login("tester", PASSWORD)
#: What `systemctl` may take, with all that a busy machine adds.
AT_ONCE = 60.0
AS_USER = '[mqtt]\nusername = "edge-agent"\n'
LOGIN = "listener 1883 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/passwd\n"


@pytest.fixture(scope="module")
def installed(machine: Machine, deb: Path) -> Machine:
    """With the service, and no broker, neither now nor after a boot."""
    machine.run("systemctl", "disable", "--now", "mosquitto")
    install(machine, deb)
    return machine


def status(machine: Machine) -> str:
    return machine.show(UNIT, "StatusText")


def wait_for_status(machine: Machine, text: str) -> None:
    wait_until(lambda: text in status(machine), f"the status is not {text!r}")


def systemctl(machine: Machine, action: str, *, ends: int = 0) -> str:
    done = machine.run("systemctl", action, UNIT, check=False, timeout=AT_ONCE)
    assert done.returncode == ends, done.stdout + done.stderr
    return done.stderr


def all_at_once(machine: Machine, waiting: str) -> None:
    """Start, restart and reload: each ends, and the status says what is waited for."""
    for action in ("stop", "start", "restart", "reload"):
        systemctl(machine, action)
        if action != "stop":
            assert machine.show(UNIT, "ActiveState") == "active"
            wait_for_status(machine, f"waiting for the broker: {waiting}")


def reboot(machine: Machine) -> None:
    """Boot, and wait for all that is to be started; there is nothing left that waits then."""
    machine.shut_down()
    machine.boot()
    assert machine.show("multi-user.target", "ActiveState") == "active"
    # One that ends at once, as with a wrong setting, is started again and again, each time by a job of a second.
    wait_until(lambda: machine.shell("systemctl list-jobs --no-legend").strip() == "", "a job is still waiting")


def test_installing_starts_it_without_a_broker(installed: Machine) -> None:
    assert machine_is_served(installed) is False
    assert (installed.show(UNIT, "ActiveState"), installed.show(UNIT, "UnitFileState")) == ("active", "enabled")
    wait_for_status(installed, "waiting for the broker: localhost:1883")
    all_at_once(installed, "localhost:1883: no connection: Connection refused")


def machine_is_served(machine: Machine) -> bool:
    with machine.network(), socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", 1883)) == 0


def test_the_machine_boots_without_a_broker(installed: Machine) -> None:
    reboot(installed)
    assert installed.show(UNIT, "ActiveState") == "active"
    wait_for_status(installed, "waiting for the broker: localhost:1883")


def test_a_broker_that_comes_later_is_served(installed: Machine) -> None:
    pid = installed.show(UNIT, "MainPID")
    installed.run("systemctl", "start", "mosquitto")
    wait_online(installed)
    wait_for_status(installed, "serving genre")
    assert ask(installed)["label"] == "Rock"
    assert installed.show(UNIT, "MainPID") == pid


def test_it_comes_up_after_a_broker_of_the_same_machine(installed: Machine) -> None:
    """With it enabled: the broker first, so that the first attempt already is the one."""
    installed.run("systemctl", "enable", "mosquitto")
    reboot(installed)
    wait_for_status(installed, "serving genre")
    broker, agent = (int(installed.show(unit, "ActiveEnterTimestampMonotonic")) for unit in ("mosquitto.service", UNIT))
    assert broker < agent
    assert "trying again" not in installed.shell(f"journalctl --boot --unit {UNIT} --no-pager --output=cat")


def test_a_refused_login_is_said_and_holds_up_nothing(installed: Machine) -> None:
    set_password(installed, "edge-agent", PASSWORD)
    set_password(installed, "tester", PASSWORD)
    installed.write("/etc/mosquitto/conf.d/login.conf", LOGIN)
    installed.run("systemctl", "restart", "mosquitto")
    installed.write("/etc/credstore/edge-agent.mqtt-password", "wrong", mode=0o600)
    installed.write(CONFIGURATION, AS_USER)
    systemctl(installed, "restart")
    wait_for_status(installed, "Not authorized")
    all_at_once(installed, "localhost:1883")
    wait_for_status(installed, "Not authorized")
    reboot(installed)
    wait_for_status(installed, "Not authorized")
    assert "Not authorized" in installed.journal(UNIT)
    # Mended at the broker's side: the agent comes by itself. No reload: the broker holds the agent's session, and Mosquitto
    # before 2.1 then ends other connections again and again (docs/brokers.md).
    set_password(installed, "edge-agent", "wrong")
    installed.run("systemctl", "restart", "mosquitto")
    wait_online(installed, TESTER)
    wait_for_status(installed, "serving genre")


@contextmanager
def silent(machine: Machine) -> Iterator[None]:
    """A port of the machine that takes connections and says nothing."""
    with machine.network():
        listener = socket.create_server(("127.0.0.1", 1884))
    with listener:
        yield


def test_a_broker_that_says_nothing_holds_up_nothing(installed: Machine) -> None:
    installed.write(CONFIGURATION, AS_USER + "port = 1884\n")
    with silent(installed):
        for action in ("restart", "reload", "restart"):
            systemctl(installed, action)
            assert installed.show(UNIT, "ActiveState") == "active"
            assert status(installed).startswith("waiting for the broker")
    installed.write(CONFIGURATION, AS_USER)


BROKEN = [
    pytest.param("[mqqt]\n", "did you mean 'mqtt'?", id="setting"),
    pytest.param('[[route]]\nmodel = "nowhere"\n', "model 'nowhere': no such file", id="model"),
]


@pytest.mark.parametrize(("broken", "reason"), BROKEN)
def test_a_reload_of_what_only_an_edit_can_mend_fails(installed: Machine, broken: str, reason: str) -> None:
    installed.write(CONFIGURATION, AS_USER)
    systemctl(installed, "restart")
    wait_online(installed, TESTER)
    wait_for_status(installed, "serving genre")
    pid = installed.show(UNIT, "MainPID")
    installed.write(CONFIGURATION, AS_USER + broken)
    said = systemctl(installed, "reload", ends=1)
    assert f"systemctl status {UNIT}" in said
    # The agent goes on as it was; where the terminal points to is the reason.
    shown = installed.run("systemctl", "status", "--no-pager", "--full", UNIT, check=False).stdout
    assert reason in shown
    assert (installed.show(UNIT, "ActiveState"), installed.show(UNIT, "MainPID")) == ("active", pid)
    assert ask(installed, TESTER)["label"] == "Rock"
    installed.write(CONFIGURATION, AS_USER)
    systemctl(installed, "reload")
    wait_for_status(installed, "serving genre")


@pytest.mark.parametrize(("broken", "reason"), BROKEN)
def test_a_start_with_what_only_an_edit_can_mend_fails_at_once(installed: Machine, broken: str, reason: str) -> None:
    systemctl(installed, "stop")
    installed.write(CONFIGURATION, AS_USER + broken)
    said = systemctl(installed, "start", ends=1)
    assert f"systemctl status {UNIT}" in said
    wait_for_status(installed, "can't start: ")
    assert reason in installed.run("systemctl", "status", "--no-pager", "--full", UNIT, check=False).stdout
    # An edit is all it takes: it is tried again and again.
    installed.write(CONFIGURATION, AS_USER)
    wait_for_status(installed, "serving genre")


def test_the_machine_boots_with_a_broken_configuration(installed: Machine) -> None:
    installed.write(CONFIGURATION, AS_USER + "[mqqt]\n")
    reboot(installed)
    wait_for_status(installed, "can't start: ")
    installed.write(CONFIGURATION, AS_USER)
    wait_for_status(installed, "serving genre")
