"""The service on what a small Pi has to give: 128 MiB of memory, and a quarter of one core, which its systemd holds it to."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final

import pytest

from tests.pi.machine import Machine, wait_until
from tests.pi.service import UNIT, install, memory_peak, require_limits, wait_online
from tests.traffic import Traffic

pytestmark = [pytest.mark.pi, pytest.mark.timeout(1200)]

BUDGET: Final = ("MemoryMax=128M", "CPUQuota=25%")
MOST: Final = 100 << 20
RATE: Final = 200.0


@pytest.fixture(scope="module")
def running(machine: Machine, deb: Path) -> Machine:
    """The service, started within the limits."""
    machine.write("/etc/mosquitto/conf.d/queue.conf", "max_queued_messages 0\n")
    machine.run("systemctl", "restart", "mosquitto")
    machine.write(f"/etc/systemd/system/{UNIT}.d/budget.conf", "\n".join(("[Service]", *BUDGET, "")))
    install(machine, deb)
    wait_online(machine)
    require_limits(machine)
    machine.run("systemctl", "stop", UNIT)
    # What it needs is on the SD card, not in memory.
    Path("/proc/sys/vm/drop_caches").write_text("1")
    machine.run("systemctl", "start", UNIT)
    return machine


def status_of(pid: int) -> dict[str, int]:
    """What /proc says of the memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text()
    return {name: int(size) << 10 for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", lines, re.MULTILINE)}


def agent(machine: Machine) -> int:
    return machine.host_pid(int(machine.show(UNIT, "MainPID")))


def test_it_starts(running: Machine) -> None:
    began, ready = (
        int(running.show(UNIT, name)) / 1e6
        for name in ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    )
    assert (running.show(UNIT, "MemoryMax"), running.show(UNIT, "CPUQuotaPerSecUSec")) == (str(128 << 20), "250ms")
    print(f"READY {ready - began:.1f} s after exec")  # noqa: T201
    # systemd waits for 90.
    assert ready - began < 60


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("Python alone", "pass"),
        ("the libraries", "import onnxruntime, paho.mqtt.client, pydantic"),
        ("the agent", "import edge_agent.cli.run, onnxruntime"),
        (
            "the agent and what it imports only when it is needed",
            "import edge_agent.cli.run, onnxruntime, pydantic_settings",
        ),
    ],
)
def test_importing(running: Machine, what: str, code: str) -> None:
    times = []
    limits = [f"--property={limit}" for limit in BUDGET]
    for _ in range(3):
        began = time.monotonic()
        running.run("systemd-run", "--quiet", "--wait", "--pipe", *limits, "python3", "-c", code)
        times.append(time.monotonic() - began)
    print(f"{what}: {sorted(times)[1]:.2f} s")  # noqa: T201


@pytest.mark.parametrize(
    "seconds", [pytest.param(30, id="short"), pytest.param(600, marks=pytest.mark.long, id="full")]
)
def test_it_serves(running: Machine, seconds: int) -> None:
    pid = agent(running)
    used = processor_time(pid)
    ends = time.monotonic() + seconds
    with running.network(), Traffic(1883, RATE, in_vain=lambda: None) as asking:
        wait_until(lambda: time.monotonic() > ends, "", seconds + 60.0)
        asking.finish(f"{seconds} s at {RATE:g} a second", at_least=int(seconds * RATE * 0.98))
    used = processor_time(pid) - used
    assert agent(running) == pid, "it was started again"
    sizes = status_of(pid)
    print(  # noqa: T201
        f"RSS {sizes['VmRSS'] / 2**20:.1f} MiB, at most {sizes['VmHWM'] / 2**20:.1f}; with its cache, at most "
        f"{memory_peak(running) / 2**20:.1f}; {100 * used / seconds:.1f} % of a core"
    )
    assert sizes["VmHWM"] < MOST


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
