"""The machine, according to /proc, /sys and systemd. Read-only, and mostly without root.

Values that a machine does not provide (another kernel, a container, no systemd) are None, never an error. Sizes are in
bytes, times in seconds. Tests use `root` and `run` to simulate a machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

#: Most bytes read of a file: the kernel's files are shorter, except the mounts of a busy host.
_MAX_BYTES: Final = 1 << 18
_TIMEOUT: Final = 5.0
#: A cgroup without a limit has a number larger than any memory (version 1), or "max" (version 2).
_UNLIMITED: Final = 1 << 60
#: What the kernel calls the thermal zone of a processor: "cpu-thermal" on a Raspberry Pi, "soc-thermal", "x86_pkg_temp".
_OF_PROCESSOR: Final = re.compile(r"cpu|soc|pkg", re.IGNORECASE)
_BETWEEN: Final = re.compile(r"[ \t]+")
#: How the kernel writes blanks, line ends and backslashes in the names that it lists (proc(5)): \040 and the like.
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")

#: Runs a command; returns its stdout, or None when it does not exist, fails or takes too long.
Run = Callable[[tuple[str, ...]], str | None]


class Disk(NamedTuple):
    """The device of a directory: the kernel's name ("mmcblk0p2"), free space for users, and whether it is read-only."""

    device: str
    free: int
    read_only: bool

    @property
    def is_card(self) -> bool:
        """Whether it is an SD card or eMMC, which writing wears out."""
        return is_card(self.device)


class Written(NamedTuple):
    """Bytes that a process has written to disk, and for how long it has been running."""

    bytes: int
    seconds: float


def is_card(device: str) -> bool:
    """Whether a device, by its name, is an SD card or eMMC."""
    return device.rpartition("/")[2].startswith("mmcblk")


def _name(escaped: str) -> str:
    """Decode a name from the kernel's listing."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), escaped)


def _run(command: tuple[str, ...]) -> str | None:
    import subprocess  # the agent reads the temperature only, and runs nothing

    try:
        done = subprocess.run(  # noqa: S603 - fixed commands, no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout[:_MAX_BYTES].decode(errors="replace")


class Device:
    """One machine."""

    def __init__(self, root: Path = Path("/"), run: Run = _run) -> None:
        self._root = root
        self._run = run

    # -- processor

    def board(self) -> str | None:
        """Return the name of the board ("Raspberry Pi 4 Model B Rev 1.4") or, where there is none, of the processor."""
        if board := self._text("proc/device-tree/model"):
            return board.rstrip("\0\n")
        pairs = dict(self._pairs("proc/cpuinfo"))
        return pairs.get("Model") or pairs.get("model name") or pairs.get("Hardware")

    def cores(self) -> int:
        """Return the number of processors online; 0 when unknown."""
        return sum(key == "processor" for key, _ in self._pairs("proc/cpuinfo"))

    def throttled(self) -> int | None:
        """Return the bits of the Raspberry Pi firmware's `get_throttled`; None on other machines."""
        text = self._text("sys/devices/platform/soc/soc:firmware/get_throttled")
        try:
            return None if text is None else int(text, 16)
        except ValueError:
            return None

    def temperature(self) -> float | None:
        """Return the temperature of the processor in °C, as the first of its sensors tells; None on machines that do not say."""
        for found in sorted((self._root / "sys/class/thermal").glob("thermal_zone*")):
            zone = found.relative_to(self._root)
            if _OF_PROCESSOR.search(self._text(f"{zone}/type") or ""):
                try:
                    return round(int(self._text(f"{zone}/temp") or "") / 1000, 1)
                except ValueError:
                    continue
        return None

    # -- memory

    def available_memory(self) -> int | None:
        """Return the memory that is available to a new process without swapping."""
        for key, value in self._pairs("proc/meminfo"):
            if key == "MemAvailable" and value.endswith(" kB"):
                return int(value[:-3]) * 1024
        return None

    def memory_limit(self) -> int | None:
        """Return the smallest memory limit of this process's cgroups (a container's); None without one."""
        limits = []
        for line in (self._text("proc/self/cgroup") or "").splitlines():
            _, controllers, path = [*line.split(":", 2), "", ""][:3]
            if controllers in ("", "memory"):  # version 2, version 1
                base, name = ("sys/fs/cgroup", "memory.max")
                if controllers:
                    base, name = ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
                groups = [path.strip("/"), *map(str, Path(path.strip("/")).parents)]
                limits += [self._text(f"{base}/{group}/{name}") for group in groups]
        sizes = [int(limit) for limit in limits if limit is not None and limit.isdecimal()]
        return min((size for size in sizes if size < _UNLIMITED), default=None)

    def swaps(self) -> list[str]:
        """Return the devices used for swap; a file counts as its device."""
        # Split only at the kernel's separators: names may contain other whitespace characters.
        rows = [_BETWEEN.split(line) for line in (self._text("proc/swaps") or "").split("\n")[1:]]
        return [self._device_of(Path(_name(row[0]))) if row[1] == "file" else row[0] for row in rows if len(row) > 1]

    # -- disks

    def disk(self, directory: Path) -> Disk:
        """Return the device of `directory`, or of its nearest parent that exists and that we may enter. Raises `OSError`."""
        while True:
            try:
                found = os.statvfs(self._at(directory))
            except OSError:
                if directory == directory.parent:
                    raise
                directory = directory.parent
            else:
                break
        return Disk(self._device_of(directory), found.f_bavail * found.f_frsize, bool(found.f_flag & os.ST_RDONLY))

    def journal(self) -> str | None:
        """Return the device of journald's log; None when it is in memory, or without journald."""
        if self._has_journal("run/log/journal"):
            return None
        return self._device_of(Path("/var/log/journal")) if self._has_journal("var/log/journal") else None

    def written(self, pid: int) -> Written | None:
        """Return how much a process has written since its start; None when we may not know (another user's process)."""
        fields = dict(self._pairs(f"proc/{pid}/io"))
        stat, uptime = self._text(f"proc/{pid}/stat"), self._text("proc/uptime")
        try:
            # proc(5): the 22nd field is the start time, in ticks since boot; the second, in brackets, may contain anything.
            began = int((stat or "").rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
            return Written(int(fields["write_bytes"]), float((uptime or "").split()[0]) - began)
        except (KeyError, IndexError, ValueError):
            return None

    # -- systemd

    def has_systemd(self) -> bool:
        """Tell whether systemd runs this machine (sd_booted(3))."""
        return self._is_there("run/systemd/system")

    def unit(self, name: str) -> Mapping[str, str] | None:
        """Return systemd's properties of a service: LoadState, ActiveState, ...; empty when systemctl fails.

        None where there is no systemd.
        """
        if not self.has_systemd():
            return None
        names = "LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,MemoryMax,Result,StatusText"
        told = self._run(("systemctl", "show", "--property", names, f"{name}.service"))
        return {key: value for key, _, value in (line.partition("=") for line in (told or "").splitlines())}

    def clock_is_synchronised(self) -> bool | None:
        """Tell whether the clock is synchronised with the network; None when unknown."""
        if self._is_there("run/systemd/timesync/synchronized"):
            return True
        if not self.has_systemd():
            return None
        # This covers chrony and ntpd, too, because they set the kernel's flag.
        told = self._run(("timedatectl", "show", "--property", "NTPSynchronized", "--value"))
        return None if told is None else told.strip() == "yes"

    # -- reading

    def _at(self, path: Path) -> Path:
        return self._root / str(path).lstrip("/")

    def _is_there(self, path: str) -> bool:
        """Tell whether the path exists; False when we may not know (before Python 3.14, Path.exists raises then)."""
        return os.access(self._root / path, os.F_OK)

    def _has_journal(self, path: str) -> bool:
        try:
            return any((self._root / path).glob("*/system.journal"))
        except OSError:
            return False

    def _text(self, path: str) -> str | None:
        try:
            with (self._root / path).open("rb") as file:
                # Decoded like file names, so that any bytes give the same path again.
                return os.fsdecode(file.read(_MAX_BYTES)).strip()
        except OSError:
            return None

    def _pairs(self, path: str) -> Iterator[tuple[str, str]]:
        for line in (self._text(path) or "").splitlines():
            key, _, value = line.partition(":")
            yield key.strip(), value.strip()

    def _device_of(self, path: Path) -> str:
        """Return the device of a path, from mountinfo (proc(5)): the mount with the longest common prefix."""
        best, device = -1, ""
        real = Path(os.path.realpath(self._at(path)))
        for line in (self._text("proc/self/mountinfo") or "").split("\n"):
            left, _, right = line.partition(" - ")
            fields, source = left.split(" "), right.split(" ")
            if len(fields) < 5 or len(source) < 2:
                continue
            where = self._at(Path(_name(fields[4])))
            # Of two mounts on one directory the later one is on top.
            if real.is_relative_to(where) and len(where.parts) >= best:
                best, device = len(where.parts), self._device_name(fields[2]) or source[1]
        return device.removeprefix("/dev/")

    def _device_name(self, number: str) -> str | None:
        """Return the kernel's name of a device "major:minor": mountinfo may just say "/dev/root"."""
        try:
            return (self._root / "sys/dev/block" / number).readlink().name
        except OSError:
            return None
