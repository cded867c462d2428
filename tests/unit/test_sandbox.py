"""The copy of a unit that `check` looks from. That systemd takes it, and what is seen there, is in tests/pi."""

from __future__ import annotations

import configparser
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.doctor import inside
from edge_agent.doctor.advice import Advice
from edge_agent.doctor.findings import fail, note, ok
from edge_agent.doctor.sandbox import Blind, Done, copy_of, run_inside

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "edge-agent.service"
INSTANCE = ROOT / "systemd" / "edge-agent@.service"
COMMAND = "check --as-service"


class Systemd:
    """What stands in for systemctl: shows units, and does what it is told when one is started."""

    def __init__(self, units: Path, run: Path, shown: str = "", *, starts: Callable[[Path], int] | None = None) -> None:
        self.units = units
        self.run = run
        self.calls: list[tuple[str, ...]] = []
        self.copies: dict[str, str] = {}
        self._shown = shown
        self._starts = starts

    def __call__(self, arguments: tuple[str, ...], timeout: float) -> Done:
        self.calls.append(arguments)
        assert timeout > 0
        match arguments:
            case ("cat", name):
                return Done(0, self._shown, "") if self._shown else Done(1, "", f"No files found for {name}.\n")
            case ("start", _):
                (copy,) = self.units.iterdir()
                self.copies[copy.name] = copy.read_text()
                (directory,) = self.run.iterdir()
                status = self._starts(directory) if self._starts is not None else 0
                return Done(status, "", "Job failed.\n" if status else "")
            case ("show", *_):
                return Done(0, "Result=exit-code\nExecMainCode=1\nExecMainStatus=226\n", "")
            case ("status", *_):
                return Done(3, "  Process: 7 ExecStart=/x (code=exited, status=226/NAMESPACE)\n", "")
        return Done(0, "", "")

    def inside(self, unit: str = "edge-agent") -> str | Blind:
        return run_inside(unit, COMMAND, call=self, units=self.units, run=self.run)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("units", "run"):
        (tmp_path / name).mkdir()
    return tmp_path / "units", tmp_path / "run"


def settings_of(copy: str | Blind) -> dict[str, list[str]]:
    """The [Service] settings of a unit, each with all its values, in their order."""
    assert isinstance(copy, str)
    found: dict[str, list[str]] = {}
    section = ""
    for line in copy.splitlines():
        if line.startswith("["):
            section = line
        elif line and line[0] not in "#;" and section == "[Service]":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("file", [UNIT, INSTANCE])
def test_all_that_the_unit_says_of_user_sandbox_and_credentials_is_in_the_copy(file: Path) -> None:
    copy = settings_of(copy_of(file.stem, file.read_text(), COMMAND, "/run/x"))
    theirs = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    theirs.optionxform = str  # type: ignore[assignment,method-assign]
    theirs.read_string(file.read_text())
    starting = {
        "Type",
        "ExecStart",
        "Restart",
        "WatchdogSec",
        "NotifyAccess",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "ExecReload",
        "RuntimeDirectory",
    }
    for key, value in theirs["Service"].items():
        if key not in starting:
            # Of Environment= all lines count.
            assert value in copy[key] if key == "Environment" else copy[key][-1] == value, key
    assert (copy["Type"][-1], copy["Restart"][-1], copy["WatchdogSec"][-1]) == ("oneshot", "no", "0")
    argument = "%i" if file is INSTANCE else "edge-agent"
    assert copy["ExecStart"][-2:] == ["", f"/usr/bin/edge-agent {COMMAND} --config /etc/edge-agent/{argument}.toml"]


@pytest.mark.parametrize(("file", "name"), [(UNIT, "edge-agent"), (INSTANCE, "edge-agent-%i")])
def test_the_directory_in_memory_stays_that_of_the_service(file: Path, name: str) -> None:
    """As one of the copy's own, systemd would move or remove it with the copy."""
    copy = settings_of(copy_of(file.stem, file.read_text(), COMMAND, "/run/x"))
    assert copy["RuntimeDirectory"] == [name, ""]
    assert copy["ReadWritePaths"] == [f"-%t/{name}"]
    assert copy["Environment"][-1] == f"RUNTIME_DIRECTORY=%t/{name}"


def test_nothing_else_is_started_or_waited_for() -> None:
    copy = copy_of("edge-agent", UNIT.read_text(), COMMAND, "/run/x")
    assert isinstance(copy, str)
    for line in ("Wants=", "After=", "WantedBy=", "[Install]"):
        assert line not in copy


def test_what_was_added_to_the_unit_counts() -> None:
    added = """\
# /etc/systemd/system/edge-agent@kitchen.service.d/override.conf
[Unit]
After=more.target
[Service]
Environment=ONE=1 \\
    TWO=2
; a remark
LoadCredential=mqtt-password:/etc/%p/%i.%N.%n%%n
ExecStart=
ExecStart=!/opt/edge/bin/edge-agent run --config "/srv/my %i.toml"
ExecStartPre=/bin/rm -rf /
"""
    copy = settings_of(copy_of("edge-agent@kitchen", INSTANCE.read_text() + added, COMMAND, "/run/x"))
    assert "ONE=1  TWO=2" in copy["Environment"]
    # What names the unit is that of the unit, in the copy too; the instance is the same.
    assert copy["LoadCredential"] == [
        "mqtt-password:/etc/edge-agent/%i.edge-agent@kitchen.edge-agent@kitchen.service%%n"
    ]
    assert copy["ExecStart"][-1] == f'!/opt/edge/bin/edge-agent {COMMAND} --config "/srv/my %i.toml"'
    assert copy["ExecStartPre"][-1] == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[Service]\nExecStart=/bin/sh -c 'edge-agent run'\n", "does not run the agent itself"),
        ("[Unit]\nExecStart=/usr/bin/edge-agent run\n", "does not run the agent itself"),
        ("", "does not run the agent itself"),
        ("[Service]\nExecStart=/usr/bin/edge-agent run\nDynamicUser=yes\n", "has DynamicUser, but no User"),
    ],
)
def test_what_can_t_be_copied(text: str, why: str) -> None:
    copy = copy_of("x", text, COMMAND, "/run/x")
    assert isinstance(copy, Blind)
    assert why in copy.reason


@pytest.mark.parametrize(("unit", "file", "at"), [("edge-agent", UNIT, ""), ("edge-agent@kitchen", INSTANCE, "@")])
def test_it_runs_under_a_name_of_its_own_and_leaves_nothing(
    places: tuple[Path, Path], unit: str, file: Path, at: str
) -> None:
    def write(directory: Path) -> int:
        (directory / "out").write_text("seen")
        return 0

    systemd = Systemd(*places, file.read_text(), starts=write)
    assert systemd.inside(unit) == "seen"
    ((name, copy),) = systemd.copies.items()
    assert name.startswith("edge-agent-check-")
    assert name.endswith(f"{at}.service")
    assert f"StandardOutput=truncate:{places[1]}/edge-agent-check-" in copy
    started = next(call[1] for call in systemd.calls if call[0] == "start")
    assert started.startswith("edge-agent-check-")
    assert started.partition("@")[2] == ("kitchen.service" if at else "")
    assert [call[0] for call in systemd.calls] == ["cat", "start", "stop", "reset-failed"]
    assert [list(place.iterdir()) for place in places] == [[], []]


def test_a_sandbox_that_systemd_can_t_set_up(places: tuple[Path, Path]) -> None:
    systemd = Systemd(*places, UNIT.read_text(), starts=lambda _: 1)
    assert systemd.inside() == Blind("systemd can't set it up: 226/NAMESPACE", broken=True)
    assert [list(place.iterdir()) for place in places] == [[], []]


@pytest.mark.parametrize(
    "error", [subprocess.TimeoutExpired("systemctl", 1), PermissionError(1, "Operation not permitted")]
)
def test_trouble_with_systemctl_is_a_reason(places: tuple[Path, Path], error: Exception) -> None:
    def start(_: Path) -> int:
        raise error

    blind = Systemd(*places, UNIT.read_text(), starts=start).inside()
    assert blind == Blind(str(error))
    assert [list(place.iterdir()) for place in places] == [[], []]


def test_no_unit_no_look(places: tuple[Path, Path]) -> None:
    assert Systemd(*places).inside() == Blind("No files found for edge-agent.service.")


def test_what_was_found_comes_through() -> None:
    found = [ok("model", "ü \udcff"), note("TLS", "x", "y"), fail("broker", "…")]
    assert inside.read(inside.report(found, {"genre": "2026-01-02"})) == (found, {"genre": "2026-01-02"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no such option: --as-service",
        "[]",
        "{}",
        '{"findings": 1, "trained": {}}',
        '{"findings": [1], "trained": {}}',
        '{"findings": [{"verdict": "fine", "what": "", "message": "", "mend": null}], "trained": {}}',
        '{"findings": [], "trained": []}',
        "[" * 100_000,
    ],
)
def test_what_is_no_report(text: str) -> None:
    assert isinstance(inside.read(text), Blind)


def test_commands_name_the_instance() -> None:
    advice = Advice.about(Path("/etc/edge-agent/kitchen.toml"))
    assert advice.restart == "sudo systemctl restart edge-agent@kitchen"
    assert advice.reload == "sudo systemctl reload edge-agent@kitchen"
    assert advice.check == "sudo edge-agent check --config /etc/edge-agent/kitchen.toml"
    assert advice.log == "journalctl -u edge-agent@kitchen -n 50"
    assert advice.credential("mqtt-key") == Path("/etc/credstore/edge-agent.kitchen.mqtt-key")
    plain = Advice.about(None)
    assert (plain.check, plain.credential("mqtt-key").name) == ("sudo edge-agent check", "edge-agent.mqtt-key")
    assert "systemctl" not in Advice.about(Path("elsewhere.toml")).restart
    assert json.dumps(advice.log)
