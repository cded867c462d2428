"""What the doctor makes of what it sees. What it sees is in test_device.py, and the broker in tests/contract."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config.routes import RouteSettings
from edge_agent.config.settings import Settings
from edge_agent.config.updating import Models
from edge_agent.contract import seal
from edge_agent.doctor.advice import Advice
from edge_agent.doctor.broker import check_certificate
from edge_agent.doctor.findings import Finding, fail, failed, looked_at, note, ok
from edge_agent.doctor.host import (
    RELEASED,
    check_clock,
    check_disk,
    check_memory,
    check_processor,
    check_python,
    check_runtime,
)
from edge_agent.doctor.models import check_models
from edge_agent.doctor.service import check_service, check_writing
from edge_agent.errors import ModelError, SettingsError
from edge_agent.host.device import Device, Disk
from edge_agent.model.library import Predictor, locate

KITCHEN = Advice.about(Path("/etc/edge-agent/kitchen.toml"))
NOW = RELEASED + timedelta(days=60)
ACTIVE = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "NRestarts": "0",
    "MainPID": "7",
    "MemoryMax": "infinity",
}


def machine(root: Path, **files: str) -> Device:
    """A machine with some files; their names are given with __ for /."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("soc_", "soc:")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Device(root, run=lambda _: None)


def verdicts(findings: Any) -> list[tuple[str, str]]:
    return [(finding.what, finding.verdict) for finding in findings]


def test_what_each_ends_with() -> None:
    assert [one.exit_status for one in (ok("model", ""), note("model", ""))] == [0, 0]
    assert [fail(what, "").exit_status for what in ("clock", "configuration", "fields", "model")] == [1, 2, 2, 3]


def test_an_error_gives_its_fix() -> None:
    assert failed("model", ModelError("a: b; c; do d")) == Finding("fail", "model", "a: b; c", "do d")
    assert failed("fields", SettingsError("a: b")) == Finding("fail", "fields", "a: b", None)


def test_python() -> None:
    assert check_python((3, 13, 1), is_64_bit=True, machine="aarch64") == ok("Python", "3.13.1, 64 bit, aarch64")
    old = check_python((3, 9, 2), is_64_bit=False, machine="armv7l")
    assert (old.verdict, old.message) == ("fail", "3.9.2, 32 bit, armv7l")


@pytest.mark.parametrize(
    ("bits", "verdict", "says"),
    [
        ("0", "ok", "no under-voltage"),
        ("50005", "note", "under-voltage now"),
        ("50000", "note", "under-voltage since it was switched on"),
        ("e0008", "note", "throttled now"),
        ("80000", "note", "throttled since it was switched on"),
    ],
)
def test_power(tmp_path: Path, bits: str, verdict: str, says: str) -> None:
    _, power = check_processor(machine(tmp_path, sys__devices__platform__soc__soc_firmware__get_throttled=bits))
    assert (power.what, power.verdict) == ("power", verdict)
    assert says in power.message


def test_no_power_to_look_at(tmp_path: Path) -> None:
    (processor,) = check_processor(machine(tmp_path, proc__cpuinfo="processor : 0\nmodel name : Fast\n"))
    assert processor == ok("processor", "Fast, 1 core")


@pytest.mark.parametrize(
    ("mebibytes", "active", "verdict"),
    [(63, "inactive", "fail"), (63, "active", "note"), (64, "inactive", "note"), (128, "inactive", "ok")],
)
def test_memory(tmp_path: Path, mebibytes: int, active: str, verdict: str) -> None:
    device = machine(tmp_path, proc__meminfo=f"MemAvailable: {mebibytes * 1024} kB\n")
    (finding,) = check_memory(device, {"ActiveState": active})
    assert (finding.verdict, finding.mend is None) == (verdict, verdict == "ok")


def test_limits_and_swap(tmp_path: Path) -> None:
    device = machine(
        tmp_path,
        proc__self__cgroup="0::/\n",
        sys__fs__cgroup__memory="",
        proc__swaps="Filename Type\n/dev/mmcblk0p3 partition\n/dev/zram0 partition\n",
    )
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(str(64 << 20))
    found = list(check_memory(device, {"MemoryMax": str(32 << 20)}))
    assert verdicts(found) == [("memory", "fail"), ("memory", "fail"), ("swap", "note")]
    assert [one.message for one in found[:2]] == [
        "the container is limited to 64 MiB",
        "the service (MemoryMax) is limited to 32 MiB",
    ]
    assert "mmcblk0p3" in found[2].message
    assert verdicts(check_memory(device, {"MemoryMax": "infinity"})) == [("memory", "fail"), ("swap", "note")]


def test_disk() -> None:
    where = Path("/var/lib/edge-agent/models")
    assert check_disk(where, Disk("mmcblk0p2", 1 << 30, read_only=False)) == ok(
        "disk", "/var/lib/edge-agent/models on mmcblk0p2 (SD card): 1.0 GiB free"
    )
    assert check_disk(where, Disk("sda1", 1 << 20, read_only=False)).verdict == "note"
    read_only = check_disk(where, Disk("sda1", 0, read_only=True))
    assert (read_only.verdict, "read-only, which is fine" in read_only.message) == ("ok", True)


@pytest.mark.parametrize(
    ("now", "synchronised", "verdict", "says"),
    [
        (NOW, True, "ok", "synchronised"),
        (NOW, None, "ok", "whether it is synchronised is not known"),
        (NOW, False, "note", "not synchronised"),
        (datetime(1970, 1, 1, tzinfo=UTC), True, "fail", "before the training of model genre"),
        # The day of training has not begun everywhere.
        (NOW - timedelta(hours=20), True, "ok", "synchronised"),
        (NOW - timedelta(days=2), True, "fail", "before the training of model genre"),
    ],
)
def test_clock(now: datetime, synchronised: bool | None, verdict: str, says: str) -> None:
    trained = {"genre": NOW.date().isoformat(), "other": "some day"}
    finding = check_clock(now, trained, synchronised=synchronised)
    assert (finding.verdict, says in finding.message) == (verdict, True), finding


def test_a_clock_before_the_release() -> None:
    assert "before this release" in check_clock(RELEASED - timedelta(days=1), {}, synchronised=None).message


@pytest.mark.parametrize(
    ("version", "disabled", "verdict"),
    [
        ("1.21.0", None, "ok"),
        ("1.21.0+dfsg", None, "ok"),
        ("1.26.0", "1", "fail"),
        ("1.26.1", "1", "ok"),
        ("1.29.0", "1", "note"),
        ("1.29.0", None, "fail"),
        ("1.29.0", "0", "fail"),
        ("2.0", "1", "note"),
    ],
)
def test_onnxruntime(version: str, disabled: str | None, verdict: str) -> None:
    environment = {} if disabled is None else {"ORT_DISABLE_TELEMETRY": disabled}
    assert check_runtime(version, environment).verdict == verdict


@pytest.mark.parametrize(("days", "verdict"), [(29, "note"), (31, "ok")])
def test_a_certificate(days: int, verdict: str) -> None:
    assert check_certificate(NOW + timedelta(days=days, hours=1), NOW).verdict == verdict


@pytest.mark.parametrize(
    ("change", "verdict", "mend"),
    [
        ({}, "ok", None),
        ({"LoadState": "not-found"}, "note", "install"),
        ({"LoadState": "masked"}, "fail", "systemctl status x"),
        ({"LoadState": ""}, "note", "systemctl status x"),
        ({"ActiveState": "failed", "Result": "watchdog"}, "fail", "sudo systemctl restart x"),
        ({"ActiveState": "inactive"}, "fail", "sudo systemctl enable --now x"),
        ({"ActiveState": "activating"}, "note", "journalctl -u x"),
        ({"UnitFileState": "disabled"}, "note", "sudo systemctl enable x"),
        ({"NRestarts": "3"}, "note", "journalctl -u x"),
        ({"StatusText": "serving genre 1.0.0"}, "ok", None),
        ({"StatusText": "waiting for the broker: no connection"}, "note", "journalctl -u x"),
        ({"StatusText": "reload rejected: no such file"}, "note", "journalctl -u x"),
    ],
)
def test_service(change: dict[str, str], verdict: str, mend: str | None) -> None:
    finding = check_service("x", {**ACTIVE, **change})
    assert finding.verdict == verdict
    assert (mend or "") in (finding.mend or "")
    assert (finding.mend is None) == (mend is None)


def test_no_systemd() -> None:
    assert check_service("x", None).verdict == "note"


@pytest.mark.parametrize(("size", "verdict"), [(0, "ok"), (1 << 20, "ok"), (4 << 20, "note")])
def test_writing(tmp_path: Path, size: int, verdict: str) -> None:
    device = machine(
        tmp_path,
        proc__7__io=f"write_bytes: {size}\n",
        proc__7__stat=f"7 (x) {' '.join(['0'] * 22)}",
        proc__uptime="172800.0 1.0",
    )
    (finding,) = check_writing(device, ACTIVE, Advice())
    assert (finding.what, finding.verdict) == ("writing", verdict)
    assert "in 2 d 0 h" in finding.message


def test_writing_that_only_root_may_see(tmp_path: Path) -> None:
    (finding,) = check_writing(machine(tmp_path), ACTIVE, KITCHEN)
    assert finding.mend == "sudo edge-agent check --config /etc/edge-agent/kitchen.toml"
    assert list(check_writing(machine(tmp_path), {**ACTIVE, "MainPID": "0"}, KITCHEN)) == []


def test_a_journal_on_the_card(tmp_path: Path) -> None:
    mounts = "25 1 0:9 / / rw - ext4 /dev/mmcblk0p2 rw\n"
    device = machine(tmp_path, proc__self__mountinfo=mounts, var__log__journal__abc__x="")
    (tmp_path / "var/log/journal/abc/system.journal").touch()
    (finding,) = check_writing(device, {}, Advice())
    assert (finding.what, finding.verdict) == ("journal", "note")


def test_the_self_test_is_said_to_be_of_the_library_that_the_card_names(tmp_path: Path) -> None:
    content = locate("genre").read_bytes()[: -seal.LENGTH]
    (tmp_path / "mine.onnx").write_bytes(content)
    (tmp_path / "theirs.onnx").write_bytes(content.replace(b'"skl2onnx":', b'"LightGBM":'))
    for name, library in (("mine", "scikit-learn"), ("theirs", "LightGBM 1.")):
        loaded = Settings(models=Models(directory=tmp_path), route=(RouteSettings(model=name),))
        *_, finding = check_models(loaded, loaded.routes(), {})
        assert f"48 rows as {library}" in finding.message


@pytest.mark.parametrize("sealed", [True, False])
def test_a_model_file_without_its_digest_is_noted(tmp_path: Path, sealed: bool) -> None:
    content = locate("genre").read_bytes()
    (tmp_path / "mine.onnx").write_bytes(content if sealed else content[: -seal.LENGTH])
    loaded = Settings(models=Models(directory=tmp_path), route=(RouteSettings(model="mine"),))
    models: dict[str, Predictor] = {}
    found = list(check_models(loaded, loaded.routes(), models))
    assert verdicts(found) == [
        ("trust", "ok"),
        ("model", "ok"),
        ("digest", "ok" if sealed else "note"),
        ("self-test", "ok"),
    ]
    assert models["mine"].sha256[:12] in found[1].message


def test_where_looking_fails_the_rest_goes_on() -> None:
    def look() -> Iterator[Finding]:
        yield ok("disk", "there")
        raise PermissionError(errno.EACCES, "Permission denied", "/var/lib/private")

    assert list(looked_at("disk", look(), "sudo edge-agent check")) == [
        ok("disk", "there"),
        note("disk", "/var/lib/private: can't be checked: Permission denied", "sudo edge-agent check"),
    ]
