"""The machine as `Device` reads it, from a tree of files that look like a Raspberry Pi's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.host.device import Device, Written

MOUNTS = """\
25 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw
26 25 0:22 / /proc rw,nosuid shared:2 - proc proc rw
27 25 179:1 / /boot/firmware rw,relatime shared:3 - vfat /dev/mmcblk0p1 rw
28 25 0:23 / /run rw,nosuid shared:4 - tmpfs tmpfs rw
29 25 8:1 / /var/lib/my\\040data rw shared:5 - ext4 /dev/sda1 rw
30 25 0:50 / /srv ro - overlay overlay rw
31 30 8:2 / /srv rw - ext4 /dev/sdb1 rw
"""

Show = Callable[..., Device]


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """Make a machine of files; a command answers what it is given, or fails."""

    def make(files: dict[str, str] | None = None, **commands: str) -> Device:
        for name, text in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Device(tmp_path, run=lambda command: commands.get(command[0]))

    return make


def test_a_machine_that_says_nothing(show: Show, tmp_path: Path) -> None:
    device = show()
    assert (device.board(), device.cores(), device.throttled()) == (None, 0, None)
    assert device.temperature() is None
    assert (device.available_memory(), device.memory_limit(), device.swaps()) == (None, None, [])
    assert (device.journal(), device.written(1), device.unit("edge-agent")) == (None, None, None)
    assert (device.has_systemd(), device.clock_is_synchronised()) == (False, None)
    assert device.disk(Path("/var/lib/models")).device == ""


@pytest.mark.parametrize("text", ["", "\0", "nonsense\n" * 3, ":::\n: \n", "1 2 3\n", "MemAvailable: much\nNaN"])
def test_files_that_make_no_sense(show: Show, text: str) -> None:
    names = [
        "cpuinfo",
        "meminfo",
        "self/cgroup",
        "self/mountinfo",
        "swaps",
        "7/io",
        "7/stat",
        "uptime",
        "device-tree/model",
    ]
    device = show({f"proc/{name}": text for name in names})
    device.board()
    assert (device.cores(), device.available_memory(), device.memory_limit(), device.written(7)) == (
        0,
        None,
        None,
        None,
    )
    device.swaps()
    device.disk(Path("/"))


def test_the_board(show: Show) -> None:
    cpuinfo = "processor\t: 0\nBogoMIPS\t: 108.00\n\nprocessor\t: 1\n\nHardware\t: BCM2835\nModel\t: Raspberry Pi 3\n"
    device = show({"proc/cpuinfo": cpuinfo})
    assert (device.board(), device.cores()) == ("Raspberry Pi 3", 2)
    assert (
        show({"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"}).board() == "Raspberry Pi 4 Model B Rev 1.4"
    )


@pytest.mark.parametrize(("text", "bits"), [("0\n", 0), ("50005\n", 0x50005), ("0x50000\n", 0x50000), ("what", None)])
def test_the_power_supply(show: Show, text: str, bits: int | None) -> None:
    assert show({"sys/devices/platform/soc/soc:firmware/get_throttled": text}).throttled() == bits


@pytest.mark.parametrize(
    ("zones", "degrees"),
    [
        ([("cpu-thermal", "48312\n")], 48.3),
        ([("acpitz", "27800\n"), ("x86_pkg_temp", "61000\n")], 61.0),
        ([("gpu-thermal", "50000\n"), ("soc-thermal", "")], None),
        ([("cpu0-thermal", "nonsense"), ("cpu1-thermal", "-5500")], -5.5),
        ([], None),
    ],
)
def test_the_temperature_is_that_of_the_processor(
    show: Show, zones: list[tuple[str, str]], degrees: float | None
) -> None:
    files: dict[str, str] = {}
    for number, (kind, told) in enumerate(zones):
        files |= {
            f"sys/class/thermal/thermal_zone{number}/{name}": text for name, text in (("type", kind), ("temp", told))
        }
    assert show(files).temperature() == degrees


def test_memory(show: Show) -> None:
    device = show({"proc/meminfo": "MemTotal:  948280 kB\nMemAvailable:   512000 kB\n"})
    assert device.available_memory() == 512_000 * 1024


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "67108864\n"}, 64 << 20),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        # The group above is narrower.
        (
            {
                "proc/self/cgroup": "0::/pod/box\n",
                "sys/fs/cgroup/pod/box/memory.max": "268435456\n",
                "sys/fs/cgroup/pod/memory.max": "134217728\n",
            },
            128 << 20,
        ),
        (
            {
                "proc/self/cgroup": "9:cpu:/x\n4:memory:/box\n0::/\n",
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "100000000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            100_000_000,
        ),
    ],
    ids=["v2", "v2, none", "v2, nested", "v1"],
)
def test_the_limit_of_a_container(show: Show, files: dict[str, str], limit: int | None) -> None:
    assert show(files).memory_limit() == limit


def test_disks_and_swap(show: Show, tmp_path: Path) -> None:
    swaps = "Filename Type Size Used Priority\n/var/swap file 1 0 -2\n/dev/zram0 partition 1 0 100\n"
    device = show({"proc/self/mountinfo": MOUNTS, "proc/swaps": swaps, "var/swap": "", "srv/x": ""})
    (tmp_path / "sys/dev/block").mkdir(parents=True)
    (tmp_path / "sys/dev/block/179:2").symlink_to("../../devices/mmc0/block/mmcblk0/mmcblk0p2")
    (tmp_path / "var/lib/my data").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "var/lib/my data")
    assert device.swaps() == ["mmcblk0p2", "/dev/zram0"]
    found = device.disk(Path("/var/lib/edge-agent/models"))  # is not there yet: its parent is looked at
    assert (found.device, found.is_card, found.read_only) == ("mmcblk0p2", True, False)
    space = os.statvfs(tmp_path)
    assert found.free == pytest.approx(space.f_bavail * space.f_frsize, rel=0.1)
    assert device.disk(Path("/var/lib/my data")).device == "sda1"
    assert device.disk(Path("/link")).device == "sda1"
    assert not device.disk(Path("/srv")).is_card
    assert device.disk(Path("/srv")).device == "sdb1"  # on top of the other one


@pytest.mark.parametrize(
    "name",
    ["Müller", "Müllers Stick", "日本", "two\\here", "a\u2028b", "a\xa0b", "a\tb", os.fsdecode(b"old\xe9")],
)
def test_what_a_mount_point_may_be_called(show: Show, tmp_path: Path, name: str) -> None:
    """The kernel escapes blanks, line ends and backslashes only; the rest are the bytes of the name."""
    escaped = "".join(f"\\{ord(mark):03o}" if mark in " \t\n\\" else mark for mark in name)
    lines = f"{MOUNTS}32 25 8:17 / /media/{escaped} rw - vfat /dev/sdb1 rw\n"
    swaps = f"Filename\t\t\tType Size Used Priority\n/media/{escaped}/swap\tfile 1 0 -2\n"
    device = show()
    place = tmp_path / "media" / name
    place.mkdir(parents=True)
    (place / "swap").touch()
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_bytes(os.fsencode(lines))
    (tmp_path / "proc/swaps").write_bytes(os.fsencode(swaps))
    found = device.disk(Path("/media", name))
    assert (found.device, found.is_card) == ("sdb1", False)
    assert device.swaps() == ["sdb1"]


def test_the_journal(show: Show) -> None:
    device = show({"proc/self/mountinfo": MOUNTS, "var/log/journal/abc/system.journal": ""})
    assert device.journal() == "root"
    assert show({"run/log/journal/abc/system.journal": ""}).journal() is None


def test_what_a_process_has_written(show: Show) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    stat = f"7 (edge) agent) S {' '.join(['0'] * 18)} {100 * ticks} 0 0\n"
    device = show({"proc/7/io": "wchar: 9\nwrite_bytes: 4096\n", "proc/7/stat": stat, "proc/uptime": "160.5 300.0\n"})
    assert device.written(7) == Written(4096, 60.5)


def test_what_the_running_process_has_written() -> None:
    """The real files of this very process, so that the fake ones above are like them."""
    written = Device().written(os.getpid())
    assert written is not None
    assert written.bytes >= 0
    assert 0 <= written.seconds < 86_400


def test_systemd(show: Show) -> None:
    told = "LoadState=loaded\nActiveState=active\nMainPID=12\nResult=exit=code\n"
    device = show({"run/systemd/system/x": ""}, systemctl=told, timedatectl="no\n")
    assert device.unit("edge-agent") == {
        "LoadState": "loaded", "ActiveState": "active", "MainPID": "12", "Result": "exit=code",
    }  # fmt: skip
    assert device.clock_is_synchronised() is False
    silent = show()
    assert silent.unit("edge-agent") == {}
    assert silent.clock_is_synchronised() is None
    assert show({"run/systemd/timesync/synchronized": ""}).clock_is_synchronised() is True


def test_a_command_that_is_not_there_or_fails(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    real = Device(tmp_path)._run
    assert real(("no-such-program-here",)) is None
    assert real(("false",)) is None
    assert real(("echo", "yes")) == "yes\n"
