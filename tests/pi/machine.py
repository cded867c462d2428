"""A Debian 13 that really boots, systemd and all, in a container of its own: where the package has to prove itself.

`with booted("mosquitto") as machine:` boots a root file system with systemd-nspawn, with a network of its own that has
nothing but a loopback interface, and shuts it down at the end. `run` runs a command in it; inside
`with machine.network():` the sockets of the test's own thread, and of threads that it starts, are the machine's.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from tests.pi.door import Door
from tests.requirements import lacking

BOOT: Final = 120.0
DEADLINE: Final = 60.0
_CLONE_NEWNET: Final = 0x40000000
#: systemd's own control groups, where there is no systemd to make them, and those with which units are limited (version 1).
_LIMITING: Final = ("cpu", "cpuacct", "memory", "pids")
_HIERARCHIES: Final = tuple(Path("/sys/fs/cgroup", name) for name in ("systemd", "unified", *_LIMITING))
#: systemd-nspawn mounts the latter read-only, and systemd looks only when it begins which of them it may use.
_LET_IT_LIMIT: Final = f"""
for name in {" ".join(_LIMITING)}; do
    if [ -d "/sys/fs/cgroup/$name" ]; then
        mount -o remount,bind,rw "/sys/fs/cgroup/$name"
    fi
done
systemctl daemon-reexec
"""
#: Two machines at the same time would share theirs otherwise.
_IN_ITS_OWN_GROUP: Final = """
while [ "$1" != -- ]; do
    if [ -d "${1%/*}" ]; then
        mkdir -p "$1"
        echo $$ >"$1/cgroup.procs"
    fi
    shift
done
shift
exec "$@"
"""
BOOTS: Final = ("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "ca-certificates")
ENVIRONMENT: Final = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "TERM": "dumb",
    "DEBIAN_FRONTEND": "noninteractive",
}
ROOT: Final = Path(__file__).parents[2]


def make_root(directory: Path, architecture: str, *packages: str) -> str | None:
    """Lay out a root file system; return why this machine can't, if it can't."""
    made = subprocess.run(
        [ROOT / "scripts" / "rootfs", directory, architecture, *packages], capture_output=True, text=True, check=False
    )
    if made.returncode == 3:
        return made.stderr.strip().splitlines()[-1]
    if made.returncode:
        raise RuntimeError(made.stderr[-2000:])
    return None


@contextmanager
def booted(*packages: str) -> Iterator[Machine]:
    """Boot a Debian 13 with these packages, or skip the test, with the reason."""
    if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
        lacking("booting a container needs root and systemd-nspawn (apt install systemd-container)")
    # Not below /tmp, which may be memory.
    with tempfile.TemporaryDirectory(prefix="edge-agent-pi-", dir="/var/tmp") as directory:
        root = Path(directory, "root")
        if reason := make_root(root, "amd64", *BOOTS, *packages):
            lacking(reason)
        with Machine(root) as machine:
            yield machine
            print(machine.console()[-3000:])  # noqa: T201 - shown when a test fails


def wait_until(ready: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    """Look again and again: what happens in the machine tells nobody outside."""
    ends = time.monotonic() + deadline
    while not ready():
        if time.monotonic() > ends:
            raise TimeoutError(f"after {deadline:g} s: {what}")
        time.sleep(0.1)


class Machine:
    """One container. `name` is its host name, too."""

    def __init__(self, directory: Path, *, name: str = "pi") -> None:
        self.directory = directory
        self.name = name
        self.leader = 0
        self._group = directory.parent.name
        self._console = directory.with_name(f"{directory.name}.console")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        (self.directory / "etc/hostname").write_text(f"{self.name}\n")
        (self.directory / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        (self.directory / "etc/machine-id").unlink(missing_ok=True)
        # There is no network to wait for but the loopback interface; systemd-networkd would wait for two minutes.
        for unit in ("systemd-networkd.service", "systemd-networkd-wait-online.service"):
            (self.directory / "etc/systemd/system" / unit).symlink_to("/dev/null")
        self.boot()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut_down()

    def shut_down(self) -> None:
        """Power it off, and wait until it is; its files stay, so that it can be booted again."""
        if self._process is None:
            return
        if self.leader:
            # systemd(1): this asks it to power off.
            os.kill(self.leader, signal.SIGRTMIN + 4)
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            # All others in the machine end with its first process.
            os.kill(self.leader or self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process, self.leader = None, 0
        for hierarchy in _HIERARCHIES:
            # From the leaves: a control group can go when it has none below it.
            for group, _, _ in os.walk(hierarchy / self._group, topdown=False):
                Path(group).rmdir()

    def boot(self) -> None:
        """Start it, and wait until systemd says that all is running."""
        command: list[str | Path] = ["systemd-nspawn", "--quiet", "--boot", "--private-network", "--console=pipe"]
        command += ["--directory", self.directory, "--machine", self.name, "--resolv-conf=off"]
        if not Path("/run/systemd/system").exists():
            # Without a systemd on this side there is nobody to register with, and nobody to make control groups.
            command += ["--register=no", "--keep-unit"]
            command = [
                "sh",
                "-ec",
                _IN_ITS_OWN_GROUP,
                "sh",
                *(hierarchy / self._group for hierarchy in _HIERARCHIES),
                "--",
                *command,
            ]
        with self._console.open("ab") as console:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        try:
            wait_until(self._find_leader, "systemd-nspawn has not started anything")
            wait_until(self._is_up, "the machine has not booted", BOOT)
            self.run("ip", "link", "set", "lo", "up")
            self.shell(_LET_IT_LIMIT)
        except BaseException:
            self.shut_down()
            raise

    def _find_leader(self) -> bool:
        """Look for the first process in the machine, as this side numbers it."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"systemd-nspawn ended with {self._process.returncode}: {self.console()[-2000:]}")
        for child in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
            # There is another one for a moment, which prepares it.
            if _ids(int(child))[1:] == [1]:
                self.leader = int(child)
        return self.leader > 0

    def _is_up(self) -> bool:
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in {"running", "degraded"}

    def run(self, *command: str | Path, check: bool = True, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run a command as root in the machine."""
        ran = subprocess.run(
            self.inside(*command),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            env=ENVIRONMENT,
            check=False,
        )
        if check and ran.returncode:
            raise RuntimeError(
                f"{' '.join(map(str, command))} ended with {ran.returncode}:\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}"
            )
        return ran

    def start(self, *command: str | Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a command as root in the machine, which ends with it at the latest."""
        return subprocess.Popen(
            self.inside(*command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=ENVIRONMENT
        )

    def inside(self, *command: str | Path) -> list[str | Path]:
        """Return what runs a command as root in the machine, for a process of one's own; `ENVIRONMENT` is meant for it."""
        return ["nsenter", "--target", str(self.leader), "--all", "--", *command]

    def shell(self, script: str, *, check: bool = True, timeout: float = 300.0) -> str:
        """Run a piece of shell in the machine; return what it printed."""
        return self.run("sh", "-euc", script, check=check, timeout=timeout).stdout

    def copy_in(self, source: Path, target: str) -> None:
        """Copy a file into the machine, readable for everybody, as a download of a user's is."""
        place = self.directory / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
        place.chmod(0o644)

    def write(self, target: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file in the machine."""
        place = self.directory / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def show(self, unit: str, name: str) -> str:
        """Return one property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    def journal(self, unit: str) -> str:
        """Return what a unit has logged."""
        return self.run("journalctl", "--unit", unit, "--no-pager", "--output=cat").stdout

    def host_pid(self, pid: int) -> int:
        """Return the process id, as this side has it, of a process in the machine (proc(5): NSpid)."""
        for process in (int(path.name) for path in Path("/proc").glob("[0-9]*")):
            if _ids(process)[1:] == [pid] and self._is_ours(process):
                return process
        raise LookupError(f"no process {pid} in {self.name}")

    def _is_ours(self, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/ns/pid").samefile(f"/proc/{self.leader}/ns/pid")
        except OSError:
            return False

    @contextmanager
    def mirror(self) -> Iterator[None]:
        """Let apt in the machine reach the mirror that its packages came from, and nothing else (sources.list: http)."""
        source = (self.directory / "etc/apt/sources.list").read_text()
        host, port = re.findall(r"http://([^/:\s]+)(?::(\d+))?/", source)[0]
        with self.network():
            # A socket stays in the network in which it was made.
            listener = socket.create_server(("127.0.0.1", 0))
        # An origin server takes the requests that are meant for a proxy (RFC 9112, 3.2.2): bytes are all there is to it.
        self.write(
            "/etc/apt/apt.conf.d/mirror", f'Acquire::http::Proxy "http://127.0.0.1:{listener.getsockname()[1]}";\n'
        )
        with Door(listener, (host, int(port or 80))):
            yield

    @contextmanager
    def network(self) -> Iterator[None]:
        """Let this thread's sockets be the machine's (setns(2)); threads started meanwhile stay there."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as before,
            Path(f"/proc/{self.leader}/ns/net").open("rb") as its,
        ):
            _enter(its.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def console(self) -> str:
        """Return what the machine said while it booted."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""


def _ids(process: int) -> list[int]:
    """Return the ids of a process, that of the outermost namespace first (proc(5), NSpid); none when it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return []
    return next(
        ([int(one) for one in line.split()[1:]] for line in status.splitlines() if line.startswith("NSpid:")), []
    )


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
