"""The service on what a small Pi has to give: 128 MiB of memory, and a quarter of one core.

The limits are control groups of the host's kernel (version 1 of them, as containers on a workstation have them), for in a
container that is itself in a container systemd has none to give.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.pi.machine import Machine, wait_until
from tests.pi.service import UNIT, install, wait_online
from tests.requirements import lacking
from tests.traffic import Traffic

pytestmark = [pytest.mark.pi, pytest.mark.timeout(1200)]

CONTROLLERS: Final = Path("/sys/fs/cgroup")
MEMORY: Final = 128 << 20
#: Microseconds in 100,000: CPUQuota=25%.
QUOTA: Final = 25_000
MOST: Final = 100 << 20
RATE: Final = 200.0


@pytest.fixture(scope="module")
def budget() -> Iterator[tuple[Path, Path]]:
    """Control groups with the limits: memory, processor."""
    memory, processor = (CONTROLLERS / name / f"edge-agent-{os.getpid()}" for name in ("memory", "cpu"))
    try:
        memory.mkdir()
        processor.mkdir()
        (memory / "memory.limit_in_bytes").write_text(str(MEMORY))
        (processor / "cpu.cfs_period_us").write_text("100000")
        (processor / "cpu.cfs_quota_us").write_text(str(QUOTA))
    except OSError as error:
        lacking(f"no control groups to limit memory and processor with: {error}")
    yield memory, processor
    for group in (memory, processor):
        for process in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(process)
        group.rmdir()


@pytest.fixture(scope="module")
def running(machine: Machine, deb: Path, budget: tuple[Path, Path]) -> Machine:
    """The service, started within the limits."""
    machine.write("/etc/mosquitto/conf.d/queue.conf", "max_queued_messages 0\n")
    machine.run("systemctl", "restart", "mosquitto")
    install(machine, deb)
    wait_online(machine)
    machine.run("systemctl", "stop", UNIT)
    # What systemd starts is in the groups that systemd itself is in. What it needs is on the SD card, not in memory.
    Path("/proc/sys/vm/drop_caches").write_text("1")
    for group in budget:
        (group / "cgroup.procs").write_text(str(machine.leader))
    try:
        machine.run("systemctl", "start", UNIT)
    finally:
        for group in budget:
            (group.parent / "cgroup.procs").write_text(str(machine.leader))
    return machine


def status_of(pid: int) -> dict[str, int]:
    """What /proc says of the memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text()
    return {name: int(size) << 10 for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", lines, re.MULTILINE)}


def agent(machine: Machine) -> int:
    return machine.host_pid(int(machine.show(UNIT, "MainPID")))


def test_it_starts(running: Machine, budget: tuple[Path, Path]) -> None:
    began, ready = (
        int(running.show(UNIT, name)) / 1e6
        for name in ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    )
    assert str(agent(running)) in (budget[0] / "cgroup.procs").read_text().split()
    assert str(agent(running)) in (budget[1] / "cgroup.procs").read_text().split()
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
def test_importing(running: Machine, budget: tuple[Path, Path], what: str, code: str) -> None:
    times = []
    for _ in range(3):
        began = time.monotonic()
        running.run("python3", "-c", code, groups=budget)
        times.append(time.monotonic() - began)
    print(f"{what}: {sorted(times)[1]:.2f} s")  # noqa: T201


@pytest.mark.parametrize(
    "seconds", [pytest.param(30, id="short"), pytest.param(600, marks=pytest.mark.long, id="full")]
)
def test_it_serves(running: Machine, budget: tuple[Path, Path], seconds: int) -> None:
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
        f"{int((budget[0] / 'memory.max_usage_in_bytes').read_text()) / 2**20:.1f}; {100 * used / seconds:.1f} % of a core"
    )
    assert sizes["VmHWM"] < MOST


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
