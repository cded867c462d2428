"""The Debian package: built twice, installed on Debian 13's own packages in a root file system, used, purged.

Needs root, and minutes the first time: `scripts/test --pi`. That lintian is content is held by deploy/deb/build itself.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_agent import __version__
from tests.documents import broken_links
from tests.e2e.conftest import ROOT, call, must
from tests.pi.conftest import STANDS_ON

pytestmark = [pytest.mark.pi, pytest.mark.timeout(1800)]

#: What the package stands on and recommends, and what looks at it: there is no network to get it from.
PACKAGES = (*STANDS_ON, "man-db", "python3-cbor2", "python3-rich", "systemd")
#: That of the package: what comes before a release sorts before it.
DEBIAN_VERSION = __version__.replace(".dev", "~dev")
#: Ours, and where: nothing else may be in the package.
PLACES = (
    "usr/bin/edge-agent",
    "usr/lib/python3/dist-packages/edge_agent/",
    f"usr/lib/python3/dist-packages/edge_label_agent-{__version__}.dist-info/",
    "usr/lib/systemd/system/edge-agent.service",
    "usr/lib/systemd/system/edge-agent@.service",
    "usr/share/bash-completion/completions/edge-agent",
    "usr/share/doc/edge-agent/",
    "usr/share/edge-agent/edge-agent.toml",
    "usr/share/edge-agent/grafana/",
    "usr/share/edge-agent/prometheus/",
    "usr/share/fish/vendor_completions.d/edge-agent.fish",
    "usr/share/lintian/overrides/edge-agent",
    "usr/share/man/man1/edge-agent.1.gz",
    "usr/share/man/man5/edge-agent.toml.5.gz",
    "usr/share/zsh/vendor-completions/_edge-agent",
)
#: What changes with any package: caches, logs, dpkg's and apt's own books; /run, which ends with the boot.
BOOKS = re.compile(r"^/(root|run|tmp|var/(cache|log|lib/(apt|dpkg|systemd/deb-systemd-helper-\w+$)))(/|$)")
#: Ends with the shell, together with what it has mounted; no network, so that nobody's broker is found.
ENTER = """
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root "${@:2}"
"""


def made(*command: str | Path) -> str:
    """Run one of our scripts; a machine that can't do it (status 3) skips the test."""
    done = call(*command, timeout=1500)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Device:
    """Debian 13 in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = call(
            "unshare",
            "--mount",
            "--net",
            "--propagation",
            "private",
            "bash",
            "-ec",
            ENTER,
            "enter",
            self.root,
            *command,
        )
        assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    def apt(self, *arguments: str) -> str:
        done = self.run("apt-get", "-q", "-y", "-o", "DPkg::Use-Pty=0", *arguments)
        return done.stdout + done.stderr

    def files(self) -> set[str]:
        found = self.run("find", "/", "-xdev", "-not", "-type", "s").stdout.splitlines()
        return {path for path in found if not BOOKS.match(path)}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("deb")
    first, second = (
        Path(made(ROOT / "deploy" / "deb" / "build", "--out", directory / name).splitlines()[-1])
        for name in ("first", "second")
    )
    return first, second


@pytest.fixture(scope="module")
def package(packages: tuple[Path, Path]) -> Path:
    return packages[0]


@pytest.fixture(scope="module")
def bare(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Device:
    """Without the package, which lies in /root."""
    root = tmp_path_factory.mktemp("device") / "root"
    made(ROOT / "scripts" / "rootfs", root, "amd64", *PACKAGES)
    (root / "root" / package.name).write_bytes(package.read_bytes())
    return Device(root)


@pytest.fixture(scope="module")
def before(bare: Device) -> set[str]:
    return bare.files()


@pytest.fixture(scope="module")
def said(bare: Device, package: Path, before: set[str]) -> str:
    """What the installation said."""
    assert not any("edge-agent" in path for path in before)
    return bare.apt("install", f"/root/{package.name}")


@pytest.fixture(scope="module")
def device(bare: Device, said: str) -> Device:
    """With the package."""
    return bare


def test_two_builds_are_the_same_bytes(packages: tuple[Path, Path]) -> None:
    first, second = packages
    assert first.name == second.name == f"edge-agent_{DEBIAN_VERSION}_all.deb"
    assert first.read_bytes() == second.read_bytes()


def test_what_it_needs_of_debian_is_listed(packages: tuple[Path, Path]) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    first, second = (package.with_name(package.name + ".cdx.json").read_text() for package in packages)
    assert first == second
    assert validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(first) is None
    versions = {one["name"]: one["version"] for one in json.loads(first)["components"]}
    assert versions["python3-onnxruntime"].startswith("1.21")
    assert {"libc6", "python3", "python3-pydantic-core"} <= versions.keys()


def test_it_holds_the_device_s_part_only(package: Path) -> None:
    listed = [line.split(maxsplit=5) for line in call("dpkg-deb", "-c", package).stdout.splitlines()]
    names = {line[5].removeprefix("./") for line in listed if not line[0].startswith("d")}
    assert not [name for name in names if not name.startswith(PLACES)]
    assert not [place for place in PLACES if not any(name.startswith(place) for name in names)]
    assert {line[1] for line in listed} == {"root/root"}
    assert not [name for name in names if "test_" in name or "convert" in name]
    entries = call("sh", "-c", f"dpkg-deb --fsys-tarfile {package} | tar -xO --wildcards '*/entry_points.txt'").stdout
    assert "edge-agent = edge_agent.cli.main:main" in entries
    assert "edge-convert" not in entries
    assert "edge-deploy" not in entries
    assert package.stat().st_size < 1024 * 1024


def test_the_pages_lead_somewhere(package: Path, tmp_path: Path) -> None:
    """As they lie on a device: to one another, to pictures, and to what the package installs elsewhere."""
    must("dpkg-deb", "--extract", package, tmp_path)
    pages = sorted((tmp_path / "usr/share/doc/edge-agent").rglob("*.md"))
    assert {"README.md", "index.md", "messages.md", "architecture.md"} <= {page.name for page in pages}
    assert [line for page in pages for line in broken_links(page, tmp_path)] == []


def test_nothing_is_a_conffile(package: Path) -> None:
    """dpkg would ask about it at upgrades, and everybody edits the configuration."""
    assert call("dpkg-deb", "--info", package, "conffiles").returncode != 0


def test_the_installation_says_what_to_do(device: Device, said: str) -> None:
    assert "sudo systemctl reload edge-agent" in said
    assert "sudo edge-agent check" in said
    assert "sudo nano /etc/edge-agent/edge-agent.toml" in said
    assert (device.root / "etc/systemd/system/multi-user.target.wants/edge-agent.service").is_symlink()
    configuration = device.root / "etc/edge-agent/edge-agent.toml"
    assert configuration.read_text() == (ROOT / "deploy" / "edge-agent.toml").read_text()
    assert "edge-agent" not in (device.root / "etc/passwd").read_text()


def test_it_runs_on_what_debian_has(device: Device) -> None:
    assert device.run("edge-agent", "--version").stdout.split()[-1] == __version__
    done = device.run("edge-agent", "try")
    assert "self-test passed" in done.stdout
    assert "Rock" in done.stdout
    # Debian's onnxruntime writes hundreds of lines here.
    assert done.stderr == ""
    message = device.run("edge-agent", "try", '{"tempo": -1}', status=1).stdout
    assert '"error":"invalid_features"' in message


def test_systemd_accepts_the_units(device: Device) -> None:
    for unit in ("edge-agent.service", "edge-agent@kitchen.service"):
        done = device.run("systemd-analyze", "verify", "--recursive-errors=no", unit)
        assert "edge-agent" not in done.stdout + done.stderr


def test_the_sandbox_is_as_tight_as_it_says(device: Device) -> None:
    for unit in ("edge-agent.service", "edge-agent@.service"):
        path = f"/usr/lib/systemd/system/{unit}"
        table = device.run("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", path).stdout
        (figure,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", table)
        text = (ROOT / "systemd" / unit).read_text()
        assert f"`systemd-analyze security edge-agent` gives {figure}." in text
        missed = set(re.findall(r"^✗ (\w+=)", table, flags=re.MULTILINE))
        assert missed <= set(re.findall(r"^#   (\w+=)", text, flags=re.MULTILINE))


def test_the_narrower_network_is_accepted(device: Device) -> None:
    example = device.root / "usr/share/doc/edge-agent/examples/network.conf"
    dropins = device.root / "etc/systemd/system/edge-agent.service.d"
    dropins.mkdir()
    (dropins / "network.conf").write_text(example.read_text())
    try:
        done = device.run("systemd-analyze", "verify", "--recursive-errors=no", "edge-agent.service")
        assert "network.conf" not in done.stdout + done.stderr
    finally:
        (dropins / "network.conf").unlink()
        dropins.rmdir()


@pytest.mark.parametrize(("page", "holds"), [("edge-agent", "edge-agent status"), ("edge-agent.toml", "[mqtt]")])
def test_the_manual_can_be_read(device: Device, page: str, holds: str) -> None:
    done = device.run("man", "--warnings=w", page)
    assert holds in done.stdout
    assert done.stderr == ""


def test_the_shell_completes_commands(device: Device) -> None:
    script = (
        "source /usr/share/bash-completion/completions/edge-agent; "
        "COMP_WORDS=(edge-agent st); COMP_CWORD=1; _edge_agent_completion edge-agent; echo ${COMPREPLY[*]}"
    )
    assert device.run("bash", "-c", script).stdout.split() == ["status"]


@pytest.fixture(scope="module")
def older(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it once was: the configuration a conffile, with other comments."""
    tree = tmp_path_factory.mktemp("older") / "tree"
    must("dpkg-deb", "--raw-extract", package, tree)
    conffile = tree / "etc/edge-agent/edge-agent.toml"
    conffile.parent.mkdir(parents=True)
    conffile.write_text("# As it was.\n[mqtt]\n")
    (tree / "DEBIAN/conffiles").write_text("/etc/edge-agent/edge-agent.toml\n")
    shutil.rmtree(tree / "usr/share/edge-agent")
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)$", r"\1~before", control.read_text(), flags=re.MULTILINE))
    made = tree.with_name("edge-agent_before_all.deb")
    must("dpkg-deb", "--root-owner-group", "--build", tree, made)
    return made


@pytest.mark.parametrize("was", ["left as it was", "edited", "removed"])
def test_an_upgrade_from_when_it_was_a_conffile_asks_nothing(
    device: Device, package: Path, older: Path, was: str
) -> None:
    """What the user did to it stays: nothing is asked, replaced, renamed or put there again."""
    configuration = device.root / "etc/edge-agent/edge-agent.toml"
    device.apt("purge", "edge-agent")
    (device.root / "root" / older.name).write_bytes(older.read_bytes())
    device.apt("install", f"/root/{older.name}")
    if was == "edited":
        configuration.write_text('[mqtt]\nhost = "broker.lan"\n')
    elif was == "removed":
        configuration.unlink()
    before = configuration.read_text() if configuration.exists() else None
    # Without a terminal, dpkg would end at the question.
    said = device.run("dpkg", "--install", f"/root/{package.name}")
    assert "onfiguration file" not in said.stdout + said.stderr
    assert (configuration.read_text() if configuration.exists() else None) == before
    assert [path.name for path in configuration.parent.glob("edge-agent.toml*")] == [configuration.name] * (
        before is not None
    )
    # Nor does the next one, or the same once more.
    device.apt("install", "--reinstall", f"/root/{package.name}")
    assert (configuration.read_text() if configuration.exists() else None) == before
    (device.root / "root" / older.name).unlink()


def test_a_configuration_that_is_there_before_the_package_stays(device: Device, package: Path) -> None:
    """As a tool for many devices puts it there; and after all of this, as fresh from the first installation."""
    configuration = device.root / "etc/edge-agent/edge-agent.toml"
    device.apt("purge", "edge-agent")
    configuration.parent.mkdir()
    configuration.write_text('[mqtt]\nhost = "broker.lan"\n')
    device.apt("install", f"/root/{package.name}")
    assert configuration.read_text() == '[mqtt]\nhost = "broker.lan"\n'
    device.apt("purge", "edge-agent")
    assert not configuration.parent.exists()
    device.apt("install", f"/root/{package.name}")
    assert configuration.read_text() == (device.root / "usr/share/edge-agent/edge-agent.toml").read_text()


def test_purge_leaves_nothing(device: Device, package: Path, before: set[str]) -> None:
    """An upgrade keeps what the user wrote, removing keeps it too, and purging takes that and no more."""
    configuration = device.root / "etc/edge-agent/edge-agent.toml"
    changed = configuration.read_text() + '[node]\nid = "mine"\n'
    changed = changed.replace("[node]\n# Who", "# Who", 1)
    model = device.root / "var/lib/private/edge-agent/models/mine.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"")
    (device.root / "var/lib/edge-agent").symlink_to("private/edge-agent")
    (device.root / "etc/edge-agent/kitchen.toml").write_text("")
    credential = device.root / "etc/credstore/edge-agent.mqtt-password"
    credential.parent.mkdir(exist_ok=True)
    credential.write_text("secret")
    configuration.write_text(changed)
    said = device.apt("install", "--reinstall", f"/root/{package.name}")
    assert "sudo edge-agent check" not in said
    assert configuration.read_text() == changed
    device.apt("remove", "edge-agent")
    assert not (device.root / "usr/lib/python3/dist-packages/edge_agent").exists()
    assert configuration.read_text() == changed
    assert model.exists()
    assert "/etc/credstore/edge-agent.mqtt-password is left" in device.apt("purge", "edge-agent")
    credential.unlink()
    after = device.files()
    private = {"/var/lib/private"}  # systemd's, for all services without an account
    assert after - before <= private | {"/etc/credstore"}
    assert before - after == set()
