"""Models that do harm, tried within the service's own sandbox: its limits hold there too, and the service stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="builds models; needs the extra `convert`")

from tests import bad_models
from tests.pi.machine import Machine, wait_until
from tests.pi.service import UNIT, ask, install, wait_online

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
    pid = serving.show(UNIT, "MainPID")
    before = len(refusals(serving))
    (tmp_path / "bad.onnx").write_bytes(make())
    serving.copy_in(tmp_path / "bad.onnx", MODEL)
    # Not `systemctl reload`, which looks at it first.
    serving.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGHUP", UNIT)
    assert ask(serving)["label"] == "Rock"
    wait_until(lambda: len(refusals(serving)) > before, "the reload was not refused")
    assert re.search(why, refusals(serving)[-1])
    assert ask(serving)["label"] == "Rock"
    assert serving.show(UNIT, "MainPID") == pid
    assert serving.show(UNIT, "ActiveState") == "active"
    assert "oom-kill" not in serving.show(UNIT, "Result")
    assert serving.run("systemctl", "reload", UNIT, check=False).returncode != 0
