"""The agent as a service: its state according to systemd, and how much it writes to disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from edge_agent.doctor.advice import Advice
from edge_agent.doctor.findings import Finding, fail, note, ok
from edge_agent.host.device import Device, Written, is_card
from edge_agent.wording import count, duration, mebibytes

#: Bytes a day that are fine: models are replaced now and then, and a megabyte a day does not wear out a card.
_A_DAY: Final = 1 << 20
_SECONDS_A_DAY: Final = 86_400
#: How the status begins when the agent works; otherwise it says what the agent waits for or could not load.
_AS_IT_SHOULD: Final = "serving "
#: States of a unit file with which the service starts with the machine.
_COMES_BACK: Final = frozenset({"enabled", "enabled-runtime", "static", "generated"})


def check_service(name: str, unit: Mapping[str, str] | None) -> Finding:
    """Check what systemd knows about the service `name`; `unit` is None where there is no systemd."""
    if unit is None:
        return note("service", "no systemd here: something else must start and restart the agent")
    load = unit.get("LoadState", "")
    if not load:
        return note("service", f"{name}: systemd does not report its state", f"systemctl status {name}")
    if load == "not-found":
        return note("service", f"{name} is not installed as a service", "install the package or the unit in systemd/")
    if load != "loaded":
        return fail("service", f"{name}: systemd can't load the unit: {load}", f"systemctl status {name}")
    return _check_state(name, unit)


def _check_state(name: str, unit: Mapping[str, str]) -> Finding:
    active, enabled, counted = unit.get("ActiveState"), unit.get("UnitFileState"), unit.get("NRestarts", "0")
    restarts = int(counted) if counted.isdecimal() else 0
    said = f"{name}: {active} ({unit.get('SubState')}), {enabled}, {count(restarts, 'restart')}"
    log = f"journalctl -u {name} -n 50"
    if active == "failed":
        return fail("service", f"{said}: {unit.get('Result')}", f"{log}; then: sudo systemctl restart {name}")
    if active == "activating":
        return note("service", f"{said}: it is starting, or waiting to be restarted", log)
    if active not in {"active", "reloading"}:
        return fail("service", said, f"sudo systemctl enable --now {name}")
    return _check_running(name, said, enabled, unit.get("StatusText", ""), restarts)


def _check_running(name: str, said: str, enabled: str | None, text: str, restarts: int) -> Finding:
    if text and not text.startswith(_AS_IT_SHOULD):
        return note("service", f"{said}; it says: {text}", f"journalctl -u {name} -n 50")
    if enabled not in _COMES_BACK:
        return note("service", f"{said}: it will not start at boot", f"sudo systemctl enable {name}")
    if restarts:
        return note("service", said, f"to see why: journalctl -u {name} -g 'watchdog|Failed|exited'")
    return ok("service", said)


def check_writing(device: Device, unit: Mapping[str, str], advice: Advice) -> Iterator[Finding]:
    """Check how much the service has written: writing wears out an SD card."""
    pid = unit.get("MainPID", "0")
    if pid.isdecimal() and int(pid):
        yield _writing(device.written(int(pid)), int(pid), advice)
    journal = device.journal()
    if journal is not None and is_card(journal):
        yield note(
            "journal",
            f"journald keeps the log on the SD card ({journal}); the agent logs a few lines a day",
            "to keep it in memory: Storage=volatile below [Journal] in /etc/systemd/journald.conf.d/volatile.conf",
        )


def _writing(written: Written | None, pid: int, advice: Advice) -> Finding:
    if written is None:
        return note("writing", "only root can see what the agent writes", advice.check)
    said = f"{_size(written.bytes)} written to disk in {duration(written.seconds)}"
    if written.bytes > _A_DAY * (1 + written.seconds / _SECONDS_A_DAY):
        return note(
            "writing",
            f"{said}; in steady state the agent writes nothing",
            f"to see what it writes: sudo strace -f -y -e trace=write,pwrite64,openat -p {pid}",
        )
    return ok("writing", f"{said}: nothing in steady state")


def _size(size: int) -> str:
    if size < 1 << 10:
        return f"{size} bytes"
    return f"{size >> 10} KiB" if size < 1 << 20 else mebibytes(size)
