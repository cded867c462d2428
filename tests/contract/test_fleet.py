"""`edge-deploy rollout` to five real agents on Mosquitto, from `edge-convert sign` to the answers of the new version, and back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")
pytest.importorskip("onnx", reason="needs the extra `convert`")

from tests.brokers import HOST, Mosquitto
from tests.contract.agents import wait_until
from tests.contract.client import Client
from tests.contract.updating import UpdatingAgent
from tests.e2e.tracks import ROCK
from tests.patience import DEADLINE
from tests.trusted import ANN, BEN, CHANNEL
from tests.versions import version

NODES = tuple(f"pi-{number}" for number in range(5))


class Fleet:
    """Five agents, each with a store and sensors of its own, and who deploys to them."""

    def __init__(self, broker: Mosquitto, folder: Path, client: Client) -> None:
        self.broker, self.folder, self.client = broker, folder, client

    def start(self, stack: ExitStack, name: str, **update: Any) -> UpdatingAgent:
        route = {
            "model": "genre",
            "subscribe": f"{name}/{{sensor}}/features",
            "publish": f"{name}/{{sensor}}/genre",
        }
        made = UpdatingAgent(self.broker.port, self.folder / name, node={"id": name}, route=[route], update=update)
        return stack.enter_context(made)

    def sign(self, number: str, serial: int, *, back: str = "1.0.0") -> Path:
        """Write a version of the bundled model with its release."""
        from click.testing import CliRunner
        from edge_convert.cli import main

        for one in (number, back):
            (self.folder / f"genre-{one}.onnx").write_bytes(version(one))
        key = self.folder / "ann.key"
        key.write_text(ANN.text(None))
        model = self.folder / f"genre-{number}.onnx"
        options = ["--key", str(key), "--channel", CHANNEL, "--serial", str(serial)]
        options += ["--back", str(self.folder / f"genre-{back}.onnx")]
        done = CliRunner().invoke(main, ["sign", str(model), *options])
        assert done.exit_code == 0, done.output
        return model

    def deploy(self, *words: object) -> subprocess.Popen[str]:
        command = [str(Path(sys.executable).with_name("edge-deploy")), *map(str, words)]
        command += ["--host", HOST, "--port", str(self.broker.port)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def done(self, *words: object) -> tuple[int, str]:
        """Run it to its end; return its status, and what it said."""
        process = self.deploy(*words)
        said, wrong = process.communicate(timeout=DEADLINE)
        return process.returncode, said + wrong

    def answers(self) -> dict[str, str]:
        """Which version answers, by node."""
        self.client.forget()
        for name in NODES:
            self.client.publish(f"{name}/hall/features", json.dumps(ROCK))
        found = self.client.messages(len(NODES), "+/hall/genre")
        return {message.topic.partition("/")[0]: json.loads(message.payload)["version"] for message in found}


@pytest.fixture
def fleet(server: Mosquitto, tmp_path: Path) -> Iterator[Fleet]:
    with Client(server.port) as client:
        client.subscribe("+/hall/genre", "edge/+/state", "edge/+/model/+")
        yield Fleet(server, tmp_path, client)


def test_a_fleet_goes_to_the_new_version_and_back(fleet: Fleet, stack: ExitStack) -> None:
    for name in NODES:
        fleet.start(stack, name)
    for name in NODES:
        fleet.client.wait_for_payload(f"edge/{name}/state", "online")
    model = fleet.sign("1.1.0", 1_790_000_100)
    status, said = fleet.done("rollout", model, "--waves", "1,60%,100%", "--pause", "0")
    assert status == 0, said
    assert "wave 1 of 3 (1): genre 1.1.0 for 1 node: pi-" in said
    assert "done: genre 1.1.0: 5 committed" in said
    assert fleet.answers() == dict.fromkeys(NODES, "1.1.0")
    status, said = fleet.done("status", "--channel", CHANNEL)
    assert (status, said.count("yes     genre  1.1.0    idle")) == (0, 5), said
    assert "5 nodes, 5 online, 5 of 5 that are meant on serial 1790000100" in said
    status, said = fleet.done("take-back", model)
    assert (status, "taken back: 5 nodes on genre 1.0.0" in said) == (0, True), said
    assert fleet.answers() == dict.fromkeys(NODES, "1.0.0")


@pytest.mark.long
def test_trouble_an_interruption_and_a_newer_release(fleet: Fleet, stack: ExitStack) -> None:
    """One that trusts another key stops it; interrupted, it goes on where it was; and the next release is not hindered."""
    for name in NODES[:4]:
        fleet.start(stack, name)
    with ExitStack() as other:
        fleet.start(other, NODES[4], trusted_keys=[BEN.public_key.text])
        for name in NODES:
            fleet.client.wait_for_payload(f"edge/{name}/state", "online")
        model = fleet.sign("1.1.0", 1_790_000_100)
        status, said = fleet.done("rollout", model, "--waves", "pi-0,100%", "--pause", "0")
        assert (status, "pi-4: genre: refused" in said) == (1, True), said
        assert "taken back: 4 nodes on genre 1.0.0" in said
        assert fleet.answers() == dict.fromkeys(NODES, "1.0.0")
    fleet.start(stack, NODES[4])
    model = fleet.sign("1.2.0", 1_790_000_200)
    process = fleet.deploy("rollout", model, "--waves", "pi-1,100%", "--pause", "1h")
    said = ""
    assert process.stdout is not None
    while "watching them for 3600 s" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=DEADLINE)
    assert (process.returncode, "interrupted: the release stays published for pi-1" in said) == (130, True), said
    status, said = fleet.done("rollout", model, "--waves", "pi-1,100%", "--pause", "0")
    assert (status, "going on from there" in said) == (0, True), said
    wait_until(lambda: fleet.answers() == dict.fromkeys(NODES, "1.2.0"), "the version of the second release")
    status, said = fleet.done("push", fleet.sign("1.3.0", 1_790_000_300, back="1.2.0"))
    assert status == 0, said
    wait_until(lambda: fleet.answers() == dict.fromkeys(NODES, "1.3.0"), "the version of the third release")
    status, said = fleet.done("rollout", model, "--waves", "100%")
    assert (status, "so nodes would refuse it" in said) == (2, True), said
