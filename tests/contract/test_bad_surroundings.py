"""Updates of models where the surroundings are bad: a disk that fills in the middle, a broker that keeps nothing; honest messages flow meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from edge_agent.contract import topics
from edge_agent.contract.manifest import BLOB_BYTES, pieces
from tests.brokers import HOST, Mosquitto, running
from tests.channel import MANIFEST, Channel, following, release
from tests.contract.agents import NODE, STATE
from tests.contract.client import Client
from tests.contract.honest import PACE, Honest, said, scene
from tests.contract.updating import MODEL, Clocks
from tests.patience import DEADLINE
from tests.requirements import require_mosquitto
from tests.trusted import CHANNEL, envelope
from tests.versions import version

#: A directory of its own with so many KiB, in memory, for one process and those that it starts.
SMALL: Final = 512
MOUNT: Final = f'mount -t tmpfs -o size={SMALL}k none "$0" && exec "$@"'
APART: Final = ("unshare", "--user", "--map-root-user", "--mount")


@contextmanager
def agent_on_a_small_disk(port: int, models: Path, log: Path) -> Iterator[Path]:
    """`edge-agent run`, with its store on a disk of its own; the directory as it sees it."""
    models.mkdir()
    if subprocess.run([*APART, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow namespaces")
    command = [*APART, "sh", "-c", MOUNT, str(models), sys.executable, "-m", "edge_agent", "run"]
    broker = {"EDGE_AGENT_NODE__ID": NODE, "EDGE_AGENT_MQTT__HOST": HOST, "EDGE_AGENT_MQTT__PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **broker, **following(models)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield Path(f"/proc/{process.pid}/root{models}")
    finally:
        process.terminate()
        process.wait(DEADLINE)
        print(log.read_text())  # noqa: T201


def fill(path: Path) -> None:
    """Leave no room on its disk."""
    free = os.statvfs(path.parent)
    path.write_bytes(bytes(free.f_bavail * free.f_frsize))
    assert os.statvfs(path.parent).f_bavail == 0


def test_a_disk_that_fills_in_the_middle(tmp_path: Path) -> None:
    require_mosquitto()
    content = version("1.1.0", larger=2 * BLOB_BYTES)
    sha256 = release(content).models[0].sha256
    right = pieces(content)
    with running(Mosquitto(tmp_path / "broker")) as broker, Client(broker.port) as client:
        client.subscribe(STATE, MODEL)
        with agent_on_a_small_disk(broker.port, tmp_path / "models", tmp_path / "log") as disk:
            client.wait_for_payload(STATE, "online")
            channel = Channel(client)
            with Honest(broker.port) as traffic:
                client.publish(topics.blob(CHANNEL, sha256, 0), right[0], retain=True)
                channel.announce(content)
                said(client, "fetching", update_percentage=33)
                fill(disk / "filler")
                for place in (1, 2):
                    client.publish(topics.blob(CHANNEL, sha256, place), right[place], retain=True)
                told = said(client, "fetching", "No space left on device")
                assert "free some space there" in told["reason"]
                assert told["installed_version"] == "1.0.0"
                traffic.judge("1.0.0")
                # A smaller one is taken although the disk is still full: what nobody wants any more makes room for it.
                channel.push(version("1.2.0"))
                said(client, "idle", installed_version="1.2.0")
                traffic.judge("1.0.0", "1.2.0")
                (disk / "filler").unlink()
                channel.announce(content)
                said(client, "idle", installed_version="1.1.0")
                traffic.judge("1.2.0", "1.1.0")
                traffic.finish("a full disk", at_least=1)


def test_a_broker_that_keeps_nothing(tmp_path: Path) -> None:
    """The node says so, and what helps. Who repeats the pieces while it asks for them gets through."""
    require_mosquitto()
    with scene(tmp_path, Clocks(PACE), lines=["retain_available false"]) as made:
        client = made.client
        assert "the broker keeps no retained messages" in made.said("idle")["reason"]
        content = version("1.1.0", larger=2 * BLOB_BYTES)
        sha256 = release(content).models[0].sha256
        client.publish(MANIFEST, envelope(release(content, serial=made.serial())))
        made.refuses("does not come on", "use edge-agent model install", "fetching")
        made.traffic.judge("1.0.0")
        while not [one for one in client.seen(MODEL) if json.loads(one.payload)["installed_version"] == "1.1.0"]:
            for place, piece in enumerate(pieces(content)):
                client.publish(topics.blob(CHANNEL, sha256, place), piece)
        made.said("idle", installed_version="1.1.0")
        made.traffic.judge("1.0.0", "1.1.0")
