"""The same package on 64 and 32 bit Arm, on Debian's own onnxruntime for it, under qemu-user.

qemu computes as the processor would, so what the model answers has to be what it answers here, to the last digit. How
fast it is, and a board's hardware, it can't show. Needs root, and minutes: `scripts/test --pi`.
"""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from edge_agent import __version__
from edge_agent.model.library import locate, open_file
from tests.brokers import HOST, Mosquitto
from tests.contract.client import Client
from tests.e2e.conftest import ROOT, call
from tests.e2e.test_deb import ENTER
from tests.e2e.tracks import HIP_HOP, IMPOSSIBLE, ROCK
from tests.pi.conftest import STANDS_ON
from tests.pi.machine import make_root
from tests.requirements import lacking

pytestmark = [pytest.mark.pi, pytest.mark.timeout(5400)]

#: Seconds. Everything takes ten to twenty times as long under qemu.
DEADLINE: Final = 600.0
#: What `edge-agent check` says of the Python of each.
BITS: Final = {"arm64": "64 bit", "armhf": "32 bit"}
TRACKS: Final = 500
#: Lines with numbers that 32 bits can't hold, among others.
ODD: Final = (
    json.dumps({**ROCK, "id": 2**63, "time": 2**40}),
    json.dumps({**ROCK, "tempo": "113.747"}),
    json.dumps({**ROCK, "tempo": 2**31}),
    json.dumps({**ROCK, "tempo": 10**30}),
    json.dumps({**ROCK, "tempo": 1e300}),
    json.dumps({**ROCK, "tempo": 1e-300}),
    json.dumps({**ROCK, "tempo": float("nan")}),
    json.dumps(IMPOSSIBLE),
    json.dumps([HIP_HOP, IMPOSSIBLE, ROCK]),
    '{"tempo": ',
)


class Device(NamedTuple):
    """Debian 13 of an architecture, in a directory. What a command mounts there ends with it."""

    architecture: str
    root: Path

    def command(self, *command: str, network: bool = False) -> list[str]:
        """What runs a command there, and becomes it, so that signals reach it. `network`: this machine's, or none."""
        spaces = ["--mount", *([] if network else ["--net"]), "--propagation", "private"]
        return ["unshare", *spaces, "bash", "-ec", ENTER, "enter", str(self.root), *command]

    def run(self, *command: str, network: bool = False, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, which has to be with `status`."""
        done = call(*self.command(*command, network=network), timeout=DEADLINE)
        assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done


@pytest.fixture(scope="module", params=sorted(BITS))
def device(request: pytest.FixtureRequest, deb: Path) -> Iterator[Device]:
    """With the package, installed without a network."""
    # Not below /tmp, which may be memory.
    with tempfile.TemporaryDirectory(prefix="edge-agent-arm-", dir="/var/tmp") as directory:
        device = Device(request.param, Path(directory, "root"))
        if reason := make_root(device.root, device.architecture, *STANDS_ON):
            lacking(reason)
        shutil.copy(deb, device.root / "root")
        device.run("dpkg", "--install", f"/root/{deb.name}")
        assert device.run("dpkg", "--print-architecture").stdout.strip() == device.architecture
        yield device


def here(*arguments: str | Path, status: int = 0) -> str:
    """What the agent of this machine prints."""
    done = call(sys.executable, "-m", "edge_agent", *arguments, cwd=ROOT)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def read(lines: str) -> list[object]:
    return [json.loads(line) for line in lines.splitlines()]


def test_try_passes_the_self_test(device: Device) -> None:
    done = device.run("edge-agent", "try")
    own, ours = done.stdout.splitlines(), here("try").splitlines()
    assert own[1] == "self-test passed on 48 rows; /usr/lib/python3/dist-packages/edge_agent/models/genre.onnx"
    assert [own[0], *own[2:]] == [ours[0], *ours[2:]]
    # Debian's onnxruntime writes hundreds of lines here.
    assert done.stderr == ""


def test_it_answers_as_this_machine_does(device: Device) -> None:
    """Labels, probabilities and rejections, to the last digit."""
    drawn = random.Random(17)
    tracks = [
        json.dumps({**{name: drawn.random() for name in ROCK}, "tempo": drawn.uniform(40, 220)}) for _ in range(TRACKS)
    ]
    file = device.root / "root" / "tracks.ndjson"
    file.write_text("\n".join([*tracks, *ODD]) + "\n")
    done = device.run("edge-agent", "try", "/root/tracks.ndjson", status=1)
    # Not the bytes: another pydantic writes 1e300 in another way.
    assert read(done.stdout) == read(here("try", file, status=1))
    assert done.stdout.count('{"label":') > TRACKS
    assert done.stderr == ""


def test_check_knows_the_machine(device: Device) -> None:
    done = device.run("edge-agent", "check", "--json", status=1)
    assert done.stderr == ""
    found = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
    print(json.dumps(found, indent=1))  # noqa: T201 - shown when the test fails
    # There is no broker; all else is as it should be.
    assert {what for what, finding in found.items() if finding["verdict"] == "fail"} == {"broker"}
    assert BITS[device.architecture] in found["Python"]["message"]
    # As far from scikit-learn's probabilities as here: finer than what goes over the wire.
    difference = open_file(locate("genre")).self_test_difference
    assert found["self-test"]["message"] == (
        f"genre: 48 rows as scikit-learn gave them, largest difference {difference:.1e} (tolerance 1e-06)"
    )


def test_messages_go_round(device: Device, broker: Mosquitto, tmp_path: Path) -> None:
    settings = (
        "EDGE_AGENT_NODE__ID=arm",
        f"EDGE_AGENT_MQTT__HOST={HOST}",
        f"EDGE_AGENT_MQTT__PORT={broker.port}",
        "EDGE_AGENT_MQTT__CONNECT_TIMEOUT=60",
    )
    log = tmp_path / "agent.log"
    with log.open("wb") as said, Client(broker.port) as client:
        client.subscribe("edge/arm/#", "music/+/genre/#")
        command = device.command("env", *settings, "edge-agent", "run", network=True)
        agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        client.in_vain = lambda: (
            None if agent.poll() is None else f"it ended with {agent.returncode}: {log.read_text()}"
        )
        try:
            client.wait_for_payload("edge/arm/state", "online", DEADLINE)
            info = client.json("edge/arm/info", DEADLINE)
            ask(client)
            told = device.run("env", *settings, "edge-agent", "status", network=True).stdout
            client.in_vain = lambda: None
            agent.terminate()
            assert agent.wait(DEADLINE) == 0
            client.wait_for_payload("edge/arm/state", "offline")
        finally:
            agent.kill()
            agent.wait()
            print(f"--- edge-agent said:\n{log.read_text()}")  # noqa: T201
    assert info["agent"] == __version__
    assert "1 invalid_features" in told
    assert "Traceback" not in log.read_text()


def ask(client: Client) -> None:
    """Send a track in each format, and one that can't be; look at the answers."""
    expected = json.loads(here("try", json.dumps(ROCK)))
    values = list(ROCK.values())
    records: list[dict[str, Any]] = [{"n": name, "v": value} for name, value in ROCK.items()]
    # Later than 32 bits of seconds can tell.
    records[0]["bt"] = 2**33
    client.publish("music/json/features", {**ROCK, "id": 7})
    client.publish("music/senml/features", records, ContentType="application/senml+json")
    client.publish("music/packed/features", struct.pack("<8f", *values), ContentType="application/octet-stream")
    client.publish("music/hall/features", IMPOSSIBLE)
    assert client.json("music/json/genre", DEADLINE) == {**expected, "id": 7}
    assert client.message("music/json/genre").qos == 1
    senml = {record["n"]: record for record in client.json("music/senml/genre", DEADLINE)}
    assert senml["label"] == {"bt": 2**33, "n": "label", "vs": "Rock"}
    assert senml["probability/Rock"]["v"] == expected["probabilities"]["Rock"]
    assert client.json("music/packed/genre", DEADLINE) == expected
    assert client.json("music/hall/genre/error", DEADLINE)["error"] == "invalid_features"
