"""The service on a machine of the tests: install it, wait for it, ask it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.contract.client import Client
from tests.e2e.tracks import ROCK
from tests.pi.machine import Machine, wait_until
from tests.requirements import lacking
from tests.traffic import Traffic

UNIT: Final = "edge-agent.service"
CONFIGURATION: Final = "/etc/edge-agent/edge-agent.toml"


class Login(NamedTuple):
    """Who asks."""

    username: str | None = None
    password: str | None = None


NOBODY: Final = Login()


def install(machine: Machine, deb: Path) -> str:
    """Install a package as a user does who has downloaded it; return what apt said."""
    machine.copy_in(deb, f"/root/{deb.name}")
    return machine.run("apt-get", "install", "--yes", "--no-install-recommends", f"/root/{deb.name}").stdout


def serve(machine: Machine, deb: Path) -> None:
    """Install a package, and have its service run with the configuration that it comes with; `pi` is a user without rights."""
    machine.run("systemctl", "start", "mosquitto")
    install(machine, deb)
    machine.run("systemctl", "enable", "--now", UNIT)
    wait_online(machine)
    machine.run("useradd", "--create-home", "pi")


def set_password(machine: Machine, user: str, password: str) -> None:
    """Let the machine's broker know a user; it has to read its file anew."""
    machine.run("touch", "/etc/mosquitto/passwd")
    machine.run("mosquitto_passwd", "-b", "/etc/mosquitto/passwd", user, password)
    machine.run("chown", "mosquitto", "/etc/mosquitto/passwd")


def wait_online(machine: Machine, login: Login = NOBODY) -> None:
    """Wait until the agent is ready, and the broker has its `online`."""
    with machine.network(), Client(1883, username=login.username, password=login.password) as client:
        client.subscribe(f"edge/{machine.name}/state")
        client.wait_for(lambda message: message.payload == b"online", 60)
    wait_until(lambda: machine.show(UNIT, "ActiveState") == "active", "the service is not active")


def require_limits(machine: Machine) -> None:
    """Skip the test where the machine's systemd can't hold the running service to its limits."""
    lacks = [name for name in ("MemoryCurrent", "TasksCurrent") if not machine.show(UNIT, name).isdigit()]
    if lacks:
        lacking(
            f"no limit of memory and tasks is in force in the container ({', '.join(lacks)} not set): its systemd was given "
            "no control groups to make its own in; the host has to have them in version 1, mounted one by one below "
            "/sys/fs/cgroup, or a systemd of its own (version 2), which delegates them to systemd-nspawn"
        )


def memory_peak(machine: Machine) -> int:
    """Return how much memory the service has taken since it was started, its separate processes and page cache included, in bytes."""
    groups = (
        "/sys/fs/cgroup/memory/system.slice",
        "memory.max_usage_in_bytes",
        "/sys/fs/cgroup/system.slice",
        "memory.peak",
    )
    return int(machine.shell("cat {0}/{4}/{1} 2>/dev/null || cat {2}/{4}/{3}".format(*groups, UNIT)))


def ask(machine: Machine, login: Login = NOBODY) -> dict[str, object]:
    """Ask one question, and return its answer."""
    with machine.network(), Client(1883, username=login.username, password=login.password) as client:
        client.subscribe("music/hall/genre")
        client.publish("music/hall/features", json.dumps(ROCK), qos=1)
        try:
            answer: dict[str, object] = client.json("music/hall/genre", 30)
        except TimeoutError as error:
            # The test fails long before the machine ends, whose journal is gone then.
            for unit in (UNIT, "mosquitto.service"):
                error.add_note(f"{unit} logged:\n{machine.journal(unit)[-3000:]}")
            # Debian's Mosquitto logs to a file, whom it disconnected and why.
            for seen in ("tail -n 60 /var/log/mosquitto/mosquitto.log", "ss -tanp"):
                error.add_note(f"{seen}:\n{machine.shell(seen, check=False)}")
            raise
        return answer


@contextmanager
def traffic(machine: Machine, rate: float) -> Iterator[Traffic]:
    """Numbered questions at a steady rate; nobody but the machine's own systemd starts the agent again."""
    with machine.network(), Traffic(1883, rate, in_vain=lambda: None) as asking:
        asking.wait_for_news()
        yield asking
