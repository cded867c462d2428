"""The machine under the agent: Python, processor, memory, disk, clock and onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge_agent.doctor.findings import Finding, fail, note, ok
from edge_agent.host.device import Device, Disk, is_card
from edge_agent.wording import count, mebibytes

_OLDEST_PYTHON: Final = (3, 11)
#: Available memory. The agent needs about 80 MiB resident with a small model.
_TOO_LITTLE_MEMORY: Final = 64 << 20
_LITTLE_MEMORY: Final = 128 << 20
#: Limit on the memory of a container or of the service.
_TOO_LOW_LIMIT: Final = 96 << 20
#: Free space for a new model. The agent itself writes nothing.
_LITTLE_DISK: Final = 64 << 20
#: A clock before this date is wrong: this release did not exist yet. It need not be the exact day.
RELEASED: Final = datetime(2026, 11, 1, tzinfo=UTC)
#: It mispredicts binary tree ensembles (microsoft/onnxruntime#28557).
_BROKEN_RUNTIME: Final = (1, 26, 0)
#: From this version on onnxruntime sends telemetry on Linux by default.
_TELLING_RUNTIME: Final = (1, 29)
#: Bits of get_throttled: the current ones, and from bit 16 on those since boot.
_UNDER_VOLTAGE, _THROTTLED, _EVER = 0x1, 0xE, 16


def check_python(version: tuple[int, ...], *, is_64_bit: bool, machine: str) -> Finding:
    """Check the interpreter. `machine` is the processor's architecture."""
    said = f"{'.'.join(map(str, version))}, {64 if is_64_bit else 32} bit, {machine}"
    if version < _OLDEST_PYTHON:
        return fail("Python", said, "install Python 3.11 or later: Debian 12 and Raspberry Pi OS bookworm have it")
    return ok("Python", said)


def check_processor(device: Device) -> Iterator[Finding]:
    """Check the board, and what its firmware reports about the power supply."""
    cores = device.cores()
    yield ok("processor", (device.board() or "unknown") + (f", {count(cores, 'core')}" if cores else ""))
    bits = device.throttled()
    if bits is None:
        return
    ever = bits >> _EVER
    if (bits | ever) & _UNDER_VOLTAGE:
        when = "now" if bits & _UNDER_VOLTAGE else "since it was switched on"
        yield note(
            "power",
            f"under-voltage {when}: a Raspberry Pi slows down, and its SD card may be damaged",
            "use the power supply made for it, with a short cable",
        )
    elif (bits | ever) & _THROTTLED:
        when = "now" if bits & _THROTTLED else "since it was switched on"
        yield note("power", f"throttled {when}: too hot, or too little power", "cool it with a heat sink or a fan")
    else:
        yield ok("power", "no under-voltage and no throttling since it was switched on")


def check_memory(device: Device, service: Mapping[str, str]) -> Iterator[Finding]:
    """Check the available memory and the limits; a `service` that already runs has what it needs."""
    runs = service.get("ActiveState") == "active"
    available = device.available_memory()
    if available is not None:
        said = f"{mebibytes(available)} available; the agent needs about 80 MiB"
        mend = "stop processes that are not needed (see: ps aux --sort=-rss | head)"
        if available < _TOO_LITTLE_MEMORY and not runs:
            yield fail("memory", said, mend)
        elif available < _LITTLE_MEMORY:
            yield note("memory", said, mend)
        else:
            yield ok("memory", said)
    given = service.get("MemoryMax", "")
    limits = [(device.memory_limit(), "the container")] if device.memory_limit() is not None else []
    limits += [(int(given), "the service (MemoryMax)")] if given.isdecimal() and int(given) < 1 << 60 else []
    for limit, where in limits:
        if limit is not None and limit < _TOO_LOW_LIMIT:
            yield fail("memory", f"{where} is limited to {mebibytes(limit)}", "allow it 128 MiB or more")
    for swap in device.swaps():
        if is_card(swap):
            yield note(
                "swap",
                f"on the SD card ({swap}): swapping wears it out",
                "swap to compressed memory: sudo apt install zram-tools; then stop swapping to the card: sudo swapoff -a",
            )


def check_disk(directory: Path, disk: Disk) -> Finding:
    """Check the free space in the model directory."""
    where = f"{directory} on {disk.device or 'an unknown device'}{' (SD card)' if disk.is_card else ''}"
    if disk.read_only:
        return ok("disk", f"{where}: read-only, which is fine: the agent writes nothing while it runs")
    said = f"{where}: {mebibytes(disk.free)} free"
    if disk.free < _LITTLE_DISK:
        return note("disk", f"{said}; a new model may not fit", "free some space: sudo apt clean")
    return ok("disk", said)


def check_clock(now: datetime, trained: Mapping[str, str], *, synchronised: bool | None) -> Finding:
    """Check the clock; `trained` has the ISO date of each model's training."""
    said = now.strftime("%Y-%m-%d %H:%M:%S UTC")
    mend = "sudo timedatectl set-ntp true; then wait for the network, and see: timedatectl status"
    too_early = [("this release", RELEASED)] if now < RELEASED else []
    for name, date in trained.items():
        try:
            when = datetime.fromisoformat(date)
        except ValueError:
            continue
        when = when.replace(tzinfo=when.tzinfo or UTC)
        # One day of tolerance: a date has no time zone.
        if (when - now).days >= 1:
            too_early.append((f"the training of model {name}", when))
    if too_early:
        what, when = max(too_early, key=lambda one: one[1])
        return fail("clock", f"{said}: before {what} ({when:%Y-%m-%d}); TLS will fail, timestamps will be wrong", mend)
    if synchronised is None:
        return ok("clock", f"{said}; whether it is synchronised is not known")
    if not synchronised:
        return note("clock", f"{said}, not synchronised: a Raspberry Pi loses the time when it is switched off", mend)
    return ok("clock", f"{said}, synchronised")


def check_runtime(version: str, environment: Mapping[str, str]) -> Finding:
    """Check the version of onnxruntime, and whether `environment` turns its telemetry off."""
    numbers = tuple(int(part) for part in version.split("+", maxsplit=1)[0].split(".")[:3] if part.isdecimal())
    if numbers == _BROKEN_RUNTIME:
        return fail(
            "onnxruntime",
            f"{version} gives wrong answers for tree models with two classes (microsoft/onnxruntime#28557)",
            "install another version: pip install 'onnxruntime!=1.26.0'",
        )
    if numbers < _TELLING_RUNTIME:
        return ok("onnxruntime", version)
    if environment.get("ORT_DISABLE_TELEMETRY") != "1":
        return fail("onnxruntime", f"{version} sends telemetry", "set ORT_DISABLE_TELEMETRY=1 in the environment")
    return note("onnxruntime", f"{version} sends telemetry by default; the agent has turned that off")
