"""The image: built as deploy/container/Containerfile says, run as docs/container.md says, by an engine of our own.

Needs root, and minutes the first time: `scripts/test --pi`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.brokers import HOST, Mosquitto, free_port
from tests.containerfile import CONTAINERFILE, Config, Health, stages
from tests.contract.agents import wait_until
from tests.contract.client import Client
from tests.documents import ROOT, blocks
from tests.e2e.conftest import call
from tests.e2e.tracks import IMPOSSIBLE, ROCK
from tests.pi.engine import Container, Image, Mount, bare_root, build, make_context
from tests.requirements import require_mosquitto

pytestmark = [pytest.mark.pi, pytest.mark.timeout(1800)]

#: Where an image may have files that no package of Debian brought.
OURS = re.compile(
    r"/usr/local/bin/edge-agent|/usr/local/lib/python3\.13(/dist-packages(/edge_(label_)?agent\b.*)?)?|/var/lib/edge-agent(/models)?"
)
#: What packages make when they are installed, and the books of dpkg.
MADE = re.compile(
    r".*/__pycache__(/.*)?|/etc/(alternatives/.*|hosts|inputrc|networks|python3(/debian_config)?|resolv\.conf)"
    r"|/usr/lib/[^/]+/lib(blas|lapack)\.so\.3|/var/(cache|log|lib/(apt|dpkg|python))(/.*)?"
)
#: What may be left of a build: nothing of it.
LEFTOVERS = ("**/pip", "**/hatchling", "**/convert", "usr/bin/*gcc*", "var/lib/apt/lists/*", "var/cache/apt/*.bin")
NODE = "kitchen"
STATE = f"edge/{NODE}/state"
INFO = f"edge/{NODE}/info"
#: A container is told to stop with SIGTERM, and killed ten seconds later.
STOPS_WITHIN = 10.0
#: An emulated processor takes ten to twenty times as long.
QEMU = 600.0


class Built(NamedTuple):
    image: Image
    #: All paths in the image as it was built, and in what it was built on.
    files: set[str]
    base: set[str]


def files(root: Path) -> set[str]:
    return {f"/{path.relative_to(root)}" for path in root.rglob("*")}


def size(root: Path) -> int:
    """Bytes of the files in it."""
    return sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.fixture(scope="module")
def workplace() -> Iterator[Path]:
    """Not below /tmp, which may be memory; gone when the tests are, for it is a gigabyte."""
    directory = Path(tempfile.mkdtemp(prefix="edge-agent-container-", dir="/var/tmp"))
    yield directory
    call("rm", "-rf", "--one-file-system", directory)


@pytest.fixture(scope="module")
def built(workplace: Path) -> Built:
    base = bare_root(workplace / "base")
    image = build(stages(CONTAINERFILE.read_text()), make_context(workplace / "context"), workplace)
    print(f"the layers on the base: {(size(image.root) - size(base)) / 1e6:.0f} MB")  # noqa: T201 - for docs/container.md
    return Built(image, files(image.root), files(base))


@pytest.fixture(scope="module")
def image(built: Built) -> Image:
    return built.image


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[Client]:
    with Client(broker.port) as client:
        client.subscribe(STATE, INFO, "music/kitchen/genre/#")
        yield client


@pytest.fixture
def agent(image: Image, broker: Mosquitto, client: Client, tmp_path: Path) -> Iterator[Container]:
    """`docker run --read-only --cap-drop all --security-opt no-new-privileges --network host --hostname kitchen`."""
    environment = {"EDGE_AGENT_MQTT__HOST": HOST, "EDGE_AGENT_MQTT__PORT": str(broker.port)}
    with Container(image, tmp_path, name=NODE, environment=environment) as agent:
        client.in_vain = agent.ended
        client.wait_for_payload(STATE, "online")
        yield agent


def health(config: Config) -> Health:
    assert config.health is not None
    return config.health


def test_there_is_nothing_in_it_but_debian_s_packages_and_the_agent(built: Built) -> None:
    root = built.image.root
    listed = call("chroot", root, "sh", "-c", "cat /var/lib/dpkg/info/*.list").stdout.split("\n")
    # /bin and the like are links to /usr/bin, and some packages list their files there.
    packaged = {re.sub(r"^/(bin|sbin|lib|lib64)/", r"/usr/\1/", path) for path in listed}
    extra = built.files - built.base - packaged
    ours = {path for path in extra if OURS.fullmatch(path)}
    assert "/usr/local/lib/python3.13/dist-packages/edge_agent/models/genre.onnx" in ours
    assert [path for path in sorted(extra - ours) if not MADE.fullmatch(path)] == []
    assert [str(path) for pattern in LEFTOVERS for path in root.glob(pattern)] == []
    assert list(root.rglob("*.deb")) == []


def test_everybody_may_read_it_and_only_the_models_may_be_written(image: Image) -> None:
    """Whatever user it is given: OpenShift, for one, makes one up."""
    writable = call("find", image.root / "usr/local", image.root / "var/lib/edge-agent", "-not", "-user", "0").stdout
    assert writable.split() == [str(image.root / "var/lib/edge-agent/models")]
    unreadable = call("find", image.root / "usr/local", "-not", "-perm", "-o=r").stdout
    assert unreadable == ""


@pytest.mark.parametrize("user", [None, "1000650000:0"])
def test_it_answers_without_a_broker(image: Image, user: str | None, tmp_path: Path) -> None:
    with Container(image, tmp_path, "try", user=user) as container:
        assert container.wait() == 0, container.log()
    assert "Hip-Hop" in container.log()
    # Debian's onnxruntime writes hundreds of lines to stderr, which is in the same log here.
    assert container.log().count("\n") < 30


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_it_is_there_for_32_bit_arm(workplace: Path, tmp_path: Path) -> None:
    """Under qemu, which takes minutes to install the packages."""
    work = workplace / "armhf"
    image = build(stages(CONTAINERFILE.read_text()), make_context(work / "context"), work, architecture="armhf")
    with Container(image, tmp_path, "try") as container:
        assert container.wait(QEMU) == 0, container.log()
    assert "Hip-Hop" in container.log()


def test_it_serves_without_any_right(agent: Container, client: Client) -> None:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{agent.first()}/status").read_text().splitlines())
    assert status["NSpid"].split()[-1] == "1"
    assert {status[name].split()[0] for name in ("Uid", "Gid")} == {"65532"}
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    look = ("find", "/", "-path", "/proc", "-prune", "-o", "-writable", "-not", "-type", "l", "-print")
    devices = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")}
    assert set(agent.exec(*look).stdout.split()) == devices
    client.publish("music/kitchen/features", ROCK)
    assert client.json("music/kitchen/genre")["label"] == "Rock"
    client.publish("music/kitchen/features", IMPOSSIBLE)
    assert client.json("music/kitchen/genre/error")["error"] == "invalid_features"


def test_its_health_is_checked(agent: Container, broker: Mosquitto) -> None:
    command = health(agent.image.config).command
    done = agent.exec(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"node {NODE} answers" in done.stdout
    # It is there, and does nothing.
    agent.send(signal.SIGSTOP)
    assert agent.exec(*command).returncode == 1
    agent.send(signal.SIGCONT)
    broker.stop()
    assert agent.exec(*command).returncode == 1


def test_the_whole_check_is_content(agent: Container) -> None:
    done = agent.exec("edge-agent", "check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_takes_new_settings_up(agent: Container, client: Client) -> None:
    client.message(INFO)
    client.forget()
    agent.send(signal.SIGHUP)
    client.message(INFO)
    assert agent.ended() is None


def test_it_stops_when_told_to(agent: Container, client: Client) -> None:
    agent.send(signal.Signals[agent.image.config.stop_signal])
    client.wait_for_payload(STATE, "offline")
    assert agent.wait(STOPS_WITHIN) == 0, agent.log()


def test_it_says_what_is_wrong_with_its_configuration(image: Image, tmp_path: Path) -> None:
    with Container(image, tmp_path, environment={"EDGE_AGENT_MQTT__HOTS": "broker.lan"}) as container:
        assert container.wait() == 2
    assert "hots" in container.log()


def test_a_configuration_file_and_models_are_mounted(
    image: Image, broker: Mosquitto, client: Client, tmp_path: Path
) -> None:
    configuration = tmp_path / "edge-agent.toml"
    configuration.write_text(
        f'[node]\nid = "{NODE}"\n[mqtt]\nhost = "{HOST}"\nport = {broker.port}\n[[route]]\nmodel = "mine"\n'
    )
    models = tmp_path / "models"
    models.mkdir()
    bundled = image.root / "usr/local/lib/python3.13/dist-packages/edge_agent/models/genre.onnx"
    shutil.copy(bundled, models / "mine.onnx")
    mounts = [Mount(configuration, "/etc/edge-agent/edge-agent.toml"), Mount(models, "/var/lib/edge-agent/models")]
    with Container(image, tmp_path, mounts=mounts) as agent:
        client.in_vain = agent.ended
        client.wait_for_payload(STATE, "online")
        client.publish("music/kitchen/features", ROCK)
        assert client.json("music/kitchen/genre")["label"] == "Rock"


def mounts_of(compose: Any, name: str, directory: Path, volumes: Path) -> list[Mount]:
    """The volumes and secrets of a service; what the file calls ./ is `directory`."""
    service = compose["services"][name]
    found = []
    for volume in service.get("volumes", ()):
        source, target, *mode = volume.split(":")
        if source.startswith("./"):
            assert mode == ["ro"]
            found.append(Mount(directory / source, target))
        else:
            assert source in compose["volumes"]
            found.append(Mount(volumes, target, writable=True))
    secrets = compose["secrets"]
    return found + [Mount(directory / secrets[one]["file"], f"/run/secrets/{one}") for one in service["secrets"]]


def takes_connections(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


def make_secrets(directory: Path) -> None:
    """As docs/container.md says, for whom root needs no sudo."""
    (block,) = [one for one in blocks(ROOT / "docs" / "container.md") if "mosquitto_passwd -U" in one.text]
    path = f"{os.environ['PATH']}:/usr/sbin"
    script = block.text.replace("sudo ", "")
    done = call("bash", "-euo", "pipefail", "-c", script, cwd=directory, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_works(image: Image, workplace: Path, tmp_path: Path) -> None:
    """With Debian's Mosquitto in place of its authors' image, and a free port in place of 1883."""
    require_mosquitto()
    port = free_port()
    project = tmp_path / "deploy" / "container"
    shutil.copytree(CONTAINERFILE.parent, project, ignore=shutil.ignore_patterns("secrets"))
    make_secrets(tmp_path)
    configuration = project / "mosquitto.conf"
    assert configuration.read_text().startswith("listener 1883\n")
    configuration.write_text(configuration.read_text().replace("listener 1883", f"listener {port} {HOST}", 1))
    compose = yaml.safe_load((project / "compose.yaml").read_text())
    of_broker, of_agent = (compose["services"][name] for name in ("mosquitto", "agent"))
    # A new volume has the owner that its directory has in the image.
    kept = tmp_path / "volume"
    kept.mkdir()
    shutil.chown(kept, *map(int, of_broker["user"].split(":")))
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{HOST} localhost mosquitto\n")
    names = Mount(hosts, "/etc/hosts")
    broker = Container(
        Image(bare_root(workplace / "mosquitto", "mosquitto"), image.config._replace(entrypoint=[])),
        tmp_path,
        *of_broker["command"],
        name="mosquitto",
        user=of_broker["user"],
        mounts=[*mounts_of(compose, "mosquitto", project, kept), names],
    )
    agent = Container(
        image,
        tmp_path,
        name=of_agent["hostname"],
        environment={**of_agent["environment"], "EDGE_AGENT_MQTT__PORT": str(port)},
        mounts=[*mounts_of(compose, "agent", project, kept), names],
    )
    password = (project / "secrets" / "sensor-password").read_text().strip()
    with agent, broker:
        wait_until(lambda: broker.ended() is not None or takes_connections(port), "the broker takes no connections")
        assert broker.ended() is None
        with Client(port, username="sensor", password=password) as client:
            client.in_vain = agent.ended
            client.subscribe(STATE, "music/kitchen/genre")
            client.wait_for_payload(STATE, "online")
            client.publish("music/kitchen/features", ROCK)
            assert client.json("music/kitchen/genre")["label"] == "Rock"
            kind, *command = of_agent["healthcheck"]["test"]
            assert kind == "CMD"
            assert agent.exec(*command).returncode == 0
        agent.send(signal.SIGTERM)
        assert agent.wait(STOPS_WITHIN) == 0
        broker.send(signal.SIGTERM)
        assert broker.wait(STOPS_WITHIN) == 0
    # What it keeps for the agent outlives it.
    assert (kept / "mosquitto.db").stat().st_size > 0
