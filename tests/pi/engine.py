"""A small container engine, where there is none: it builds what tests/containerfile.py reads, and runs it.

As root, with namespaces, chroot(1) and setpriv(1). A container has its own mounts, processes, host name and IPC, and this
machine's network. Its processes have no capabilities and get none (no_new_privs); its root file system is read-only,
/dev has the usual few devices, /sys is read-only, and nothing else is writable but what the test mounts.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from tests.containerfile import IGNORE, ROOT, Config, Instruction, Stage, config, is_ignored
from tests.e2e.conftest import call
from tests.requirements import lacking

#: apt, within a stage.
_BUILD: Final = 1500.0
_DEADLINE: Final = 60.0
#: $1 root, $2 directory: a command of the build, as root. What it mounts ends with it.
_STEP: Final = """
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
[ -e "$1/etc/resolv.conf" ] || touch "$1/etc/resolv.conf"
mount --bind /etc/resolv.conf "$1/etc/resolv.conf"
exec chroot "$1" /bin/sh -c 'cd "$0" && exec /bin/sh -c "$1"' "${@:2}"
"""
#: $1 root, $2 host name, $3 a list of mounts, then a command.
_CONTAINER: Final = """
root=$1 list=$3
hostname "$2"
mount --bind "$root" "$root"
while IFS=: read -r source target mode; do
    mount --bind "$source" "$root$target"
    mount -o "remount,bind,nosuid,nodev,$mode" "$root$target"
done <"$list"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -o remount,bind,ro "$root/sys"
mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
for device in null zero full random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,ro "$root/dev"
mount -o remount,bind,ro "$root"
shift 3
exec chroot "$root" "$@"
"""
_NAMESPACES: Final = ("--mount", "--pid", "--uts", "--ipc")


class Mount(NamedTuple):
    """`source` outside, `target` inside."""

    source: Path
    target: str
    writable: bool = False


class Image(NamedTuple):
    """A root file system, and how it is run."""

    root: Path
    config: Config


def bare_root(directory: Path, *packages: str, architecture: str = "amd64") -> Path:
    """Debian 13; a machine that can't make it skips the test."""
    made = call(ROOT / "scripts" / "rootfs", directory, architecture, *packages, timeout=_BUILD)
    if made.returncode == 3:
        lacking(made.stderr.strip().splitlines()[-1])
    assert made.returncode == 0, made.stdout + made.stderr
    return directory


def build(stages: Sequence[Stage], context: Path, directory: Path, *, architecture: str = "amd64") -> Image:
    """Build all stages, each on a bare Debian 13, in `directory`; the last one is the image. Raises `ValueError`."""
    done: dict[str, Path] = {}
    for number, stage in enumerate(stages):
        if stage.base in done:
            raise ValueError(f"FROM {stage.base}: an earlier stage as a base is not known here")
        root = bare_root(directory / f"stage{number}", architecture=architecture)
        where = Path("/")
        for position, one in enumerate(stage.steps):
            before = config(stage.steps[:position])
            if one.name in {"RUN", "COPY"} and before.user != config([]).user:
                raise one.error("after USER is not known here")
            match one.name:
                case "RUN":
                    _run(one, root, where, before.environment)
                case "COPY":
                    _copy(one, done[one.flags["from"]] if "from" in one.flags else context, root, where)
                case "WORKDIR":
                    where /= one.expand(one.rest, before.environment)
                    (root / where.relative_to("/")).mkdir(parents=True, exist_ok=True)
        if stage.name is not None:
            done[stage.name] = root
    return Image(root, config(stages[-1].steps))


def _run(one: Instruction, root: Path, where: Path, environment: Mapping[str, str]) -> None:
    enter = ("unshare", "--mount", "--propagation", "private", "bash", "-ec", _STEP, "step")
    ran = call(
        *enter, root, where, one.rest, env={**environment, "HOME": "/root"}, timeout=_BUILD, stdin=subprocess.DEVNULL
    )
    if ran.returncode:
        raise one.error(f"ended with {ran.returncode}:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")


def _copy(one: Instruction, source: Path, root: Path, where: Path) -> None:
    *names, last = one.words({})
    target = root / (where / last).relative_to("/")
    for name in names:
        found = source / name.lstrip("/")
        if found.is_dir():
            # What is in it, and not the directory.
            shutil.copytree(found, target, symlinks=True, dirs_exist_ok=True)
        elif last.endswith("/") or len(names) > 1:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, target)
        else:
            shutil.copy2(found, target)


def make_context(directory: Path) -> Path:
    """What the build may see: the clone's files (those of git, as they are now), less what the ignore file keeps out.

    Only their owner may read them, as where umask is 077: the image must not mind.
    """
    listed = call("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.split("\0")
    patterns = IGNORE.read_text()
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not is_ignored(name, patterns):
            target = directory / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
            target.chmod(0o600)
    return directory


class Container:
    """A container of `image`: `with Container(...) as it:` runs from here to the end of the block."""

    def __init__(
        self,
        image: Image,
        directory: Path,
        *arguments: str,
        name: str = "box",
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        mounts: Sequence[Mount] = (),
    ) -> None:
        self.image = image
        self._command = [*image.config.entrypoint, *(arguments or image.config.command)]
        self._name = name
        self._user = user or image.config.user
        self._environment = {**image.config.environment, "HOME": "/", "HOSTNAME": name, **(environment or {})}
        self._log = directory / f"{name}.log"
        self._list = directory / f"{name}.mounts"
        self._list.write_text("".join(f"{m.source}:{m.target}:{'rw' if m.writable else 'ro'}\n" for m in mounts))
        for mount in mounts:
            # As engines do: a place for it is made.
            place = image.root / mount.target.lstrip("/")
            if mount.source.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
        self._outer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._outer = subprocess.Popen(
                [
                    *("unshare", *_NAMESPACES, "--fork", "--kill-child", "--propagation", "private"),
                    *("bash", "-ec", _CONTAINER, "container", str(self.image.root), self._name, str(self._list)),
                    *self._unprivileged(),
                    *self._command,
                ],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer is not None and self._outer.poll() is None:
            self._outer.kill()
        if self._outer is not None:
            self._outer.wait(_DEADLINE)
        print(f"--- {self._name} said:\n{self.log()}")  # noqa: T201 - shown when a test fails

    def _unprivileged(self) -> tuple[str, ...]:
        user, _, group = self._user.partition(":")
        none = ("--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs")
        return ("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *none)

    def first(self) -> int:
        """The process id of the first process, on this machine. There is one, once the container has said something."""
        assert self._outer is not None
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        assert len(children) == 1, self.log()
        return int(children[0])

    def send(self, what: signal.Signals) -> None:
        """Send its first process a signal, as engines do."""
        os.kill(self.first(), what)

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one more command in it, as `docker exec` and health checks do."""
        into = ("--target", str(self.first()), *_NAMESPACES, "--root", "--wd")
        return call("nsenter", *into, *self._unprivileged(), *command, env=self._environment, timeout=_DEADLINE)

    def ended(self) -> str | None:
        """That it has ended, and what it said; None while it runs."""
        if self._outer is None or self._outer.poll() is None:
            return None
        return f"{self._name} ended with {self._outer.returncode}:\n{self.log()}"

    def wait(self, deadline: float = _DEADLINE) -> int:
        """Wait for its end, and return the exit status."""
        assert self._outer is not None
        return self._outer.wait(deadline)

    def log(self) -> str:
        return self._log.read_text(errors="replace")
