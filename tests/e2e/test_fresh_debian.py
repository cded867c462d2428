"""The README's two commands on a Debian 13 that has nothing but what they ask for, as root and as a user without rights.

`scripts/test --fresh` runs the short form, as CI does: the demo as both, and as the user those tests of the suite that meet the
broker of that Debian. With --long the suite runs whole, as both, which takes about half an hour.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.conftest import ROOT, call
from tests.patience import fair

pytestmark = [pytest.mark.fresh, pytest.mark.timeout(7200)]

PACKAGES: Final = ("git", "mosquitto", "mosquitto-clients", "python3", "python3-venv")
#: $1 is the root file system, $2 the user, the rest the command; the mounts and the processes end with the namespaces.
ENTER: Final = """
set -e
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/dev"
for device in null zero full random urandom; do touch "$1/dev/$device"; mount --bind "/dev/$device" "$1/dev/$device"; done
mkdir "$1/dev/shm" "$1/dev/pts"
chmod 1777 "$1/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$1/dev/pts"
ln -s pts/ptmx "$1/dev/ptmx"
ln -s /proc/self/fd "$1/dev/fd"
root="$1" user="$2"
shift 2
exec chroot "$root" su --login "$user" --shell /bin/bash --command "$*"
"""
#: What meets the broker, what sets itself up anew, and what opens a terminal.
SOME: Final = "two_agents or comes_back or mosquitto or soak or watched_on_a_terminal"


class Debian:
    """A root file system with two users, each with a clone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
        if bundle and Path(bundle).is_file():
            # Where a proxy stands before the registry, its authority is needed inside as well.
            shutil.copy(bundle, root / "etc" / "ssl" / "bundle.crt")
        shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
        self.run("root", "useradd --create-home --shell /bin/bash ann")
        for user, home in (("root", "root"), ("ann", "home/ann")):
            assert call("git", "clone", "--quiet", "--no-hardlinks", ROOT, root / home / "clone").returncode == 0
            self.run("root", f"chown -R {user}: /{home}/clone")

    def run(self, user: str, command: str) -> str:
        """Run it in a login shell of the user's, and return what it printed."""
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        given = []
        if (self.root / "etc" / "ssl" / "bundle.crt").exists():
            given += [f"{name}=/etc/ssl/bundle.crt" for name in ("NODE_EXTRA_CA_CERTS", "PIP_CERT", "SSL_CERT_FILE")]
        given += [
            f"{name}={os.environ[name]}"
            for name in ("https_proxy", "http_proxy", "PIP_INDEX_URL")
            if name in os.environ
        ]
        done = subprocess.run(
            [
                *enter,
                "bash",
                "-c",
                ENTER,
                "enter",
                str(self.root),
                user,
                f"export LC_ALL=C.UTF-8 {' '.join(given)}; {command}",
            ],
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(f"--- {user}: {command}\n{done.stdout}")  # noqa: T201
        assert done.returncode == 0, f"{command} ended with {done.returncode} as {user}"
        return done.stdout


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    if os.getuid() != 0 or not (ROOT / ".git").exists():
        pytest.skip("a Debian 13 is made as root, from a clone")
    root = tmp_path_factory.mktemp("debian")
    root.chmod(0o755)
    done = call(ROOT / "scripts" / "rootfs", root, "amd64", *PACKAGES, timeout=3600)
    if done.returncode != 0:
        pytest.skip(f"a Debian 13 can't be made here: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
    yield Debian(root)
    shutil.rmtree(root)


USERS: Final = pytest.mark.parametrize("user", ["root", "ann"])


@USERS
def test_the_demo(debian: Debian, user: str) -> None:
    said = debian.run(user, f"cd clone && ./scripts/demo --seconds {fair(5):.0f}")
    assert "Rock" in said
    assert "p99" in said


def test_what_meets_the_broker(debian: Debian) -> None:
    said = debian.run("ann", f"cd clone && ./scripts/test -k '{SOME}'")
    assert not re.search(r"\d failed", said)


@pytest.mark.long
@USERS
def test_the_suite(debian: Debian, user: str) -> None:
    said = debian.run(user, "cd clone && ./scripts/test")
    assert not re.search(r"\d failed", said)
