"""The package on a Debian 13 that boots: installed, served, killed, upgraded, looked at from inside, and purged.

The tests are one story, in this order, on one machine.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.contract.client import Client
from tests.e2e.tracks import ROCK
from tests.pi.machine import Machine, wait_until
from tests.pi.service import CONFIGURATION, UNIT, Login, ask, install, traffic, wait_online

pytestmark = [pytest.mark.pi, pytest.mark.timeout(900)]

PASSWORD = "correct horse battery staple"  # noqa: S105 - of a broker that lives as long as the test
TESTER = Login("tester", PASSWORD)


def wait_for_another(machine: Machine, pid: str) -> None:
    """Wait until the service runs, in another process."""
    wait_until(lambda: machine.show(UNIT, "MainPID") not in {pid, "0"}, "it was not started again")


def files(machine: Machine) -> set[str]:
    """All files and directories, but for what runs, logs and caches."""
    listed = machine.shell(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/log "
        "-o -path /var/cache -o -path /var/tmp -o -path /root \\) -prune -o -print"
    )
    # What dpkg, Python and systemd keep for themselves of any package.
    own = re.compile(r"/var/lib/(dpkg|apt|systemd)/|/__pycache__|\.pyc$|/var/lib/mosquitto/|/var/lib/private$")
    return {line for line in listed.splitlines() if not own.search(line)}


@pytest.fixture(scope="module")
def before(machine: Machine) -> set[str]:
    # A broker that drops messages beyond a thousand while the agent is away would be lost by the broker, not by the agent.
    machine.write("/etc/mosquitto/conf.d/queue.conf", "max_queued_messages 0\n")
    machine.run("systemctl", "enable", "mosquitto")
    machine.run("systemctl", "restart", "mosquitto")
    return files(machine)


def test_installing_starts_it_because_a_broker_answers(machine: Machine, deb: Path, before: set[str]) -> None:
    assert "/usr/bin/edge-agent" not in before
    began = time.monotonic()
    install(machine, deb)
    wait_online(machine)
    took = time.monotonic() - began
    assert machine.show(UNIT, "UnitFileState") == "enabled"
    ready = (
        int(machine.show(UNIT, "ActiveEnterTimestampMonotonic"))
        - int(machine.show(UNIT, "ExecMainStartTimestampMonotonic"))
    ) / 1e6
    print(f"installed and online after {took:.1f} s; READY {ready:.2f} s after exec")  # noqa: T201
    assert "serving genre" in machine.show(UNIT, "StatusText")


def test_it_answers(machine: Machine) -> None:
    answer = ask(machine)
    assert (answer["label"], answer["model"]) == ("Rock", "genre")


def test_it_is_started_again_after_sigkill_and_no_message_is_lost(machine: Machine) -> None:
    with traffic(machine, 300) as asking:
        for _ in range(5):
            pid = machine.show(UNIT, "MainPID")
            machine.run("systemctl", "kill", "--signal=SIGKILL", UNIT)
            wait_for_another(machine, pid)
            asking.wait_for_news()
        asking.finish("systemd, SIGKILL 5 times", at_least=500)


def test_the_watchdog_starts_it_again_when_it_hangs(machine: Machine) -> None:
    machine.write(f"/etc/systemd/system/{UNIT}.d/watchdog.conf", "[Service]\nWatchdogSec=5\nRestartSec=100ms\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)
    wait_online(machine)
    pid = machine.show(UNIT, "MainPID")
    machine.run("systemctl", "kill", "--signal=SIGSTOP", UNIT)
    wait_for_another(machine, pid)
    wait_online(machine)
    assert "watchdog" in machine.run("journalctl", "--no-pager", "--unit", UNIT).stdout.lower()
    assert ask(machine)["label"] == "Rock"
    machine.run("rm", "-r", f"/etc/systemd/system/{UNIT}.d")
    machine.run("systemctl", "daemon-reload")


def test_an_upgrade_under_load_loses_nothing(machine: Machine, newer_deb: Path) -> None:
    configuration = Path(machine.directory, CONFIGURATION.lstrip("/")).read_text()
    with traffic(machine, 300) as asking:
        pid = machine.show(UNIT, "MainPID")
        install(machine, newer_deb)
        wait_for_another(machine, pid)
        asking.wait_for_news()
        asking.finish("an upgrade", at_least=300)
    assert machine.shell("dpkg-query --show --showformat='${Version}' edge-agent").endswith("+next")
    assert Path(machine.directory, CONFIGURATION.lstrip("/")).read_text() == configuration


def test_a_reload_keeps_it_running(machine: Machine) -> None:
    pid = machine.show(UNIT, "MainPID")
    with traffic(machine, 300) as asking:
        for _ in range(10):
            machine.run("systemctl", "reload", UNIT)
            asking.wait_for_news()
        asking.finish("reloaded 10 times", at_least=50)
    assert machine.show(UNIT, "MainPID") == pid
    assert machine.show(UNIT, "ActiveState") == "active"


def test_a_second_agent_is_an_instance(machine: Machine) -> None:
    machine.write(
        "/etc/edge-agent/kitchen.toml",
        '[[route]]\nsubscribe = "kitchen/{sensor}/features"\npublish = "kitchen/{sensor}/genre"\n',
    )
    machine.run("systemctl", "start", "edge-agent@kitchen")
    with machine.network(), Client(1883) as client:
        client.subscribe("edge/+/state", "kitchen/oven/genre")
        client.wait_for(lambda message: message.topic == f"edge/{machine.name}-kitchen/state", 60)
        client.publish("kitchen/oven/features", json.dumps(ROCK), qos=1)
        assert client.json("kitchen/oven/genre", 30)["label"] == "Rock"
    assert ask(machine)["label"] == "Rock"
    machine.run("systemctl", "stop", "edge-agent@kitchen")
    machine.run("rm", "/etc/edge-agent/kitchen.toml")


def test_the_password_comes_from_a_credential(machine: Machine) -> None:
    for user in ("edge-agent", "tester"):
        machine.shell(f"touch /etc/mosquitto/passwd; mosquitto_passwd -b /etc/mosquitto/passwd {user} '{PASSWORD}'")
    machine.shell("chown mosquitto /etc/mosquitto/passwd")
    machine.write(
        "/etc/mosquitto/conf.d/login.conf",
        "listener 1883 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/passwd\n",
    )
    machine.write("/etc/credstore/edge-agent.mqtt-password", PASSWORD, mode=0o600)
    text = Path(machine.directory, CONFIGURATION.lstrip("/")).read_text()
    machine.write(CONFIGURATION, text.replace('# username = "edge-agent"', 'username = "edge-agent"'))
    machine.run("systemctl", "restart", "mosquitto", UNIT)
    wait_online(machine, TESTER)
    assert ask(machine, TESTER)["label"] == "Rock"
    pid = machine.show(UNIT, "MainPID")
    told = machine.shell(f"tr '\\0' ' ' < /proc/{pid}/cmdline; tr '\\0' '\\n' < /proc/{pid}/environ")
    assert "edge-agent" in told
    assert PASSWORD not in told + machine.journal(UNIT)


def test_the_sandbox_as_seen_from_inside(machine: Machine) -> None:
    pid = machine.show(UNIT, "MainPID")
    uid = machine.shell(f"stat -c %u /proc/{pid}").strip()
    assert uid != "0"
    machine.write("/home/pi/secret", "x")

    def inside(script: str) -> bool:
        """Whether a piece of shell succeeds as the service's user, with the files that the service sees."""
        joined = [
            "nsenter",
            "--target",
            pid,
            "--mount",
            "--",
            "setpriv",
            "--reuid",
            uid,
            "--clear-groups",
            "--",
            "sh",
            "-c",
        ]
        return machine.run(*joined, script, check=False).returncode == 0

    assert inside("touch /var/lib/edge-agent/here && rm /var/lib/edge-agent/here"), "its own state is its own"
    assert inside("test -d /sys/devices/system/cpu"), "onnxruntime aborts without it"
    for place in ("/etc/here", "/usr/here", "/var/here", "/var/lib/here", "/etc/edge-agent/here", "/here", "/opt/here"):
        assert not inside(f"touch {place}"), place
    assert not inside("cat /home/pi/secret")
    assert not inside("ls /root")
    assert not inside("test -e /dev/sda -o -e /dev/mem -o -e /dev/kmsg")
    assert not inside("cat /etc/credstore/edge-agent.mqtt-password")
    status = dict(line.split(":", 1) for line in machine.shell(f"cat /proc/{pid}/status").splitlines())
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert {status[name].strip().lstrip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {""}


def test_it_is_safe_by_systemd_s_own_measure(machine: Machine) -> None:
    printed = machine.shell(f"systemd-analyze security --no-pager {UNIT} | tail -n 1")
    exposure = float(re.findall(r"\d+\.\d+", printed)[0])
    print(f"systemd-analyze security: {exposure}")  # noqa: T201
    assert exposure <= 1.5


def test_check_finds_nothing_wrong(machine: Machine) -> None:
    ran = machine.run("edge-agent", "check", check=False)
    print(ran.stdout, ran.stderr)  # noqa: T201
    assert ran.returncode == 0
    # Where the machine has no network, nothing has set the clock.
    verdicts = {line.split()[1]: line.split()[0] for line in ran.stdout.splitlines() if not line.startswith(" ")}
    assert {what for what, verdict in verdicts.items() if verdict != "ok"} <= {"clock", "memory"}
    assert verdicts["broker"] == verdicts["service"] == verdicts["writing"] == verdicts["agent"] == "ok"


def test_purge_leaves_nothing_behind(machine: Machine, before: set[str]) -> None:
    machine.run("apt-get", "purge", "--yes", "edge-agent")
    assert machine.run("systemctl", "is-active", UNIT, check=False).stdout.strip() != "active"
    mine = {
        "/etc/mosquitto/passwd",
        "/etc/mosquitto/conf.d/login.conf",
        "/etc/mosquitto/conf.d/queue.conf",
        "/etc/credstore",
        "/home/pi",
        "/home/pi/secret",
    }
    left = files(machine) - before - mine - {"/etc/credstore/edge-agent.mqtt-password"}
    assert left == set()
