"""Models over MQTT, taken by the real unit: its sandbox, limits and user hold where they are verified and tried, too.

The tests are one story, in this order, on one machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.channel import Channel, untrue
from tests.contract.client import Client, Message
from tests.pi.machine import Machine, wait_until
from tests.pi.service import CONFIGURATION, UNIT, ask, install, memory_peak, require_limits, traffic, wait_online
from tests.trusted import ANN, CHANNEL, EVE
from tests.versions import version

pytestmark = [pytest.mark.pi, pytest.mark.timeout(900)]

#: The separate process begins with importing cryptography, on a machine that may be busy.
DEADLINE = 240.0
#: The unit's own.
MEMORY_MAX = 256 << 20
MODELS = "/var/lib/edge-agent/models"


@pytest.fixture(scope="module")
def served(machine: Machine, deb: Path) -> Machine:
    """The service on a channel; what is on the disk has to be signed, too."""
    machine.write("/etc/mosquitto/conf.d/queue.conf", "max_queued_messages 0\n")
    machine.run("systemctl", "enable", "mosquitto")
    machine.run("systemctl", "restart", "mosquitto")
    machine.write(
        CONFIGURATION,
        f'[update]\nchannel = "{CHANNEL}"\ntrusted_keys = ["{ANN.public_key.text}"]\n'
        "[models]\nrequire_signature = true\n",
    )
    install(machine, deb)
    wait_online(machine)
    return machine


@contextmanager
def channel(machine: Machine) -> Iterator[Channel]:
    """A connection that publishes models, and hears what the machine says of them."""
    with machine.network(), Client(1883) as client:
        client.subscribe(f"edge/{machine.name}/model/genre")
        yield Channel(client)


def wait_for(machine: Machine, client: Client, **wanted: str) -> None:
    """Wait until the machine says that of its model; of a reason, a part."""

    def is_it(message: Message) -> bool:
        said = json.loads(message.payload) if message.payload else {}
        return bool(said) and all(value in (said[name] or "") for name, value in wanted.items())

    try:
        client.wait_for(is_it, DEADLINE)
    except TimeoutError as error:
        error.add_note(f"{UNIT} logged:\n{machine.journal(UNIT)[-3000:]}")
        raise


def test_a_signed_model_is_taken_while_it_serves(served: Machine) -> None:
    pid = served.show(UNIT, "MainPID")
    with traffic(served, 200) as asking, channel(served) as pushing:
        pushing.push(version("6.6.6"), keys=[EVE])
        wait_for(served, pushing.client, state="refused", reason="which is not trusted here")
        pushing.push(version("1.1.0"))
        wait_for(served, pushing.client, state="idle", installed_version="1.1.0")
        pushing.push(untrue("1.2.0"))
        wait_for(served, pushing.client, state="refused", reason="self-test")
        asking.wait_for_news()
        asking.finish("a stranger's model, a signed one, and one that lies", at_least=100)
    assert ask(served)["version"] == "1.1.0"
    assert served.show(UNIT, "MainPID") == pid
    maps = served.shell(f"cat /proc/{pid}/maps")
    assert "onnxruntime" in maps
    assert "cryptography" not in maps


def test_the_unit_s_own_limits_are_enough(served: Machine) -> None:
    """What the updates above took, with the process that verified and tried each."""
    require_limits(served)
    assert (served.show(UNIT, "MemoryMax"), served.show(UNIT, "TasksMax")) == (str(MEMORY_MAX), "16")
    print(f"peak of the unit: {memory_peak(served) / 2**20:.1f} MiB; tasks: {served.show(UNIT, 'TasksCurrent')}")  # noqa: T201
    assert memory_peak(served) < MEMORY_MAX * 3 // 4


def test_what_tries_a_model_may_come_after_the_messages(served: Machine) -> None:
    """Of systemd's @resources nothing else is allowed: no real-time scheduling, no pinning, no wider limits."""
    allowed = set(served.show(UNIT, "SystemCallFilter").split())
    assert allowed & {"setpriority", "setrlimit", "sched_setscheduler", "sched_setaffinity", "ioprio_set", "mbind"} == {
        "setpriority"
    }


def test_what_came_is_the_service_s_and_nobody_else_s(served: Machine) -> None:
    owner = served.shell("stat -L -c %u:%g /var/lib/edge-agent").strip()
    assert not owner.startswith("0:")
    found = [line.split() for line in served.shell(f"find {MODELS}/ -type f -printf '%U:%G %m %f\\n'").splitlines()]
    assert {one for one, _, _ in found} == {owner}
    # The directory around all of it, /var/lib/private, is root's alone.
    assert not any(int(mode, 8) & 0o022 for _, mode, _ in found)
    assert {name: mode for _, mode, name in found}["state.json"] == "600"


def test_an_upgrade_of_the_package_keeps_it(served: Machine, newer_deb: Path) -> None:
    before = served.shell(f"cd {MODELS}/ && find . -type f -exec sha256sum '{{}}' + | sort")
    pid = served.show(UNIT, "MainPID")
    install(served, newer_deb)
    wait_until(lambda: served.show(UNIT, "MainPID") not in {pid, "0"}, "it was not started again")
    wait_online(served)
    assert ask(served)["version"] == "1.1.0"
    assert served.shell(f"cd {MODELS}/ && find . -type f -exec sha256sum '{{}}' + | sort") == before


def test_purging_takes_the_models_along(served: Machine) -> None:
    served.run("apt-get", "purge", "--yes", "edge-agent")
    assert not list((served.directory / "var/lib").glob("**/edge-agent"))
