"""Models that do harm, tried within the service's own sandbox: its limits hold there too, and the service stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="builds models; needs the extra `convert`")

from tests import bad_models
from tests.pi.machine import Machine, wait_until
from tests.pi.service import UNIT, ask, install, require_limits, wait_online

pytestmark = [pytest.mark.pi, pytest.mark.timeout(900)]

#: The service's directory of models, as root sees it.
MODEL = "/var/lib/private/edge-agent/models/genre.onnx"


@pytest.fixture(scope="module")
def serving(machine: Machine, deb: Path) -> Machine:
    machine.run("systemctl", "restart", "mosquitto")
    install(machine, deb)
    wait_online(machine)
    machine.run("mkdir", "-p", str(Path(MODEL).parent))
    return machine


def refusals(machine: Machine) -> list[str]:
    return [line for line in machine.journal(UNIT).splitlines() if "reload rejected" in line]


def refused(machine: Machine, model: bytes, directory: Path) -> str:
    """Have the service load a model; return what it says of it, when it goes on as it was."""
    pid = machine.show(UNIT, "MainPID")
    before = len(refusals(machine))
    (directory / "bad.onnx").write_bytes(model)
    machine.copy_in(directory / "bad.onnx", MODEL)
    # Not `systemctl reload`, which looks at it first.
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGHUP", UNIT)
    assert ask(machine)["label"] == "Rock"
    wait_until(lambda: len(refusals(machine)) > before, "the reload was not refused")
    assert ask(machine)["label"] == "Rock"
    assert machine.show(UNIT, "MainPID") == pid
    assert machine.show(UNIT, "ActiveState") == "active"
    assert "oom-kill" not in machine.show(UNIT, "Result")
    return refusals(machine)[-1]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        # On a busy machine the limit on the clock comes first.
        (bad_models.endless, r"it exceeded its limit of (5 s of processor time|20 s)\b"),
        (bad_models.huge, "not enough memory"),
        (bad_models.fewer_labels, "the graph does not match its card"),
    ],
)
def test_it_is_refused_and_the_service_stays(
    serving: Machine, tmp_path: Path, make: Callable[[], bytes], why: str
) -> None:
    assert re.search(why, refused(serving, make(), tmp_path))
    assert serving.run("systemctl", "reload", UNIT, check=False).returncode != 0


def test_where_the_unit_s_memory_ends_first_the_agent_stays(serving: Machine, tmp_path: Path) -> None:
    """One that takes less than it is allowed by itself, and more than MemoryMax= leaves: the kernel ends what tries it."""
    require_limits(serving)
    serving.run("systemctl", "set-property", "--runtime", UNIT, "MemoryMax=144M")
    assert "it was killed, most likely because the system ran out of memory" in refused(
        serving, bad_models.large(), tmp_path
    )
    kills = serving.shell(
        f"cd /sys/fs/cgroup; cat memory/system.slice/{UNIT}/memory.oom_control system.slice/{UNIT}/memory.events 2>/dev/null || true"
    )
    assert int(re.findall(r"^oom_kill (\d+)$", kills, re.MULTILINE)[0]) > 0
    serving.run("systemctl", "set-property", "--runtime", UNIT, "MemoryMax=256M")
