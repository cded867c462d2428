"""`edge-deploy` on real brokers: what it publishes is kept, and what a broker does not take is said in one line."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from edge_deploy.broker import Login, connect
from edge_deploy.channel import Channel
from edge_deploy.cli import main
from edge_deploy.release import Bundle

from edge_agent.contract import topics
from edge_agent.errors import BrokerError
from tests.background import Server
from tests.brokers import HOST, BrokerProcess, free_port
from tests.certificates import Authority
from tests.contract.agents import PROTOCOLS, Relay, wait_until
from tests.contract.conftest import Connect, MosquittoFactory
from tests.unit.deploy.releases import SERIAL, write_release

OTHERS, WRONG = "another", "not it"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_release(tmp_path, size=300_000)


def deploy(broker: BrokerProcess | Server, *words: object, password: str | None = None) -> Result:
    """`edge-deploy WORDS` at a broker."""
    where: list[object] = ["--host", HOST, "--port", broker.port]
    environment = {} if password is None else {"EDGE_DEPLOY_PASSWORD": password}
    return CliRunner().invoke(main, [*map(str, words), *map(str, where)], env=environment)


def test_push_publishes_what_is_kept_and_only_once(server: BrokerProcess, model: Path, connect: Connect) -> None:
    done = deploy(server, "push", model, "--channel", "stable")
    assert done.exit_code == 0, done.output
    assert "2 model files: 6 pieces published (600000 bytes), 0 there already; the broker keeps them" in done.output
    assert f"published genre 1.1.0 on edge/fleet/stable/manifest, serial {SERIAL}, for all nodes" in done.output
    again = deploy(server, "push", model)
    assert "0 pieces published (0 bytes), 6 there already" in again.output
    bundle = Bundle.open(model)
    client = connect(server)
    client.subscribe("edge/fleet/stable/#")
    found = {message.topic: message.payload for message in client.messages(7)}
    for one in bundle.models:
        joined = b"".join(found[topics.blob("stable", one.sha256, number)] for number in range(3))
        assert joined == bundle.contents[one.sha256]
    assert json.loads(found["edge/fleet/stable/manifest"])["manifest"] == bundle.forward.envelope.manifest


def test_prune_clears_what_no_manifest_names(
    server: BrokerProcess, model: Path, tmp_path: Path, connect: Connect
) -> None:
    assert deploy(server, "push", model).exit_code == 0
    (tmp_path / "newer").mkdir()
    newer = write_release(tmp_path / "newer", "1.2.0", before="1.1.0", serial=SERIAL + 10, size=300_000)
    assert deploy(server, "push", newer).exit_code == 0
    assert "would clear 3 pieces of 1 file" in deploy(server, "prune", newer, "--channel", "stable", "--dry-run").output
    assert "cleared 3 pieces of 1 file" in deploy(server, "prune", newer, "--channel", "stable").output
    assert "cleared 3 pieces of 1 file" in deploy(server, "prune", "--channel", "stable").output
    client = connect(server)
    client.subscribe("edge/fleet/#")
    assert len({message.topic for message in client.messages(4)}) == 4


def test_status_shows_the_nodes_and_nothing_that_a_terminal_obeys(server: BrokerProcess, connect: Connect) -> None:
    client = connect(server)
    word = {"installed_version": "1.0.0", "latest_version": "1.1.0", "state": "refused", "serial": 7}
    client.publish("edge/pi-1/state", "online", retain=True)
    client.publish("edge/pi-1/model/genre", {**word, "reason": "no \x1b[2Jkey"}, retain=True)
    client.publish("edge/pi-2/state", "offline", retain=True)
    client.publish("edge/100%/state", "online", retain=True)
    done = deploy(server, "status", "--channel", "stable")
    assert done.exit_code == 0, done.output
    assert "channel stable: no manifest" in done.output
    assert "pi-1  yes     genre  1.0.0 -> 1.1.0  refused  7       -      no \\x1b[2Jkey" in done.output
    assert "2 nodes, 1 online, 1 message dropped that no agent sends" in done.output
    lines = [json.loads(line) for line in deploy(server, "status", "--json").output.splitlines()]
    assert {line["node"]: line["online"] for line in lines} == {"pi-1": True, "pi-2": False}


def told(done: Result, *words: str) -> None:
    """It ended with the status of a broker's refusal, and says why in one line."""
    assert done.exit_code == 4, done
    line = done.output.splitlines()[-1]
    assert line.startswith("edge-deploy: ")
    assert all(word in line for word in words), line


@PROTOCOLS
def test_a_broker_that_does_not_keep_it(
    mosquitto: MosquittoFactory, model: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_deploy.channel.PATIENT", 0.5)
    forgetful = mosquitto(lines=["retain_available false"])
    done = deploy(forgetful, "push", model, "--protocol", protocol)
    told(done, "retained messages" if protocol == "5" else "", "broker")


@PROTOCOLS
def test_a_broker_with_a_limit(
    mosquitto: MosquittoFactory, model: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_deploy.channel.PATIENT", 0.5)
    narrow = mosquitto(lines=["message_size_limit 65536"])
    told(deploy(narrow, "push", model, "--protocol", protocol), "broker")


def test_a_broker_that_tells_its_limit(mosquitto: MosquittoFactory, model: Path) -> None:
    told(deploy(mosquitto(lines=["max_packet_size 65536"]), "push", model), "takes packets of 65536 bytes at most")


@PROTOCOLS
def test_access_rules_and_passwords(
    mosquitto: MosquittoFactory, model: Path, tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_deploy.channel.PATIENT", 0.5)
    rules = "user ann\ntopic readwrite edge/fleet/#\nuser bob\ntopic read edge/#\n"
    guarded = mosquitto(users={"ann": "a secret", "bob": "another"}, acl=rules)
    version = ("--protocol", protocol)
    password = tmp_path / "password"
    password.write_text("a secret\n")
    done = deploy(guarded, "push", model, "--username", "ann", "--password-file", password, *version)
    assert done.exit_code == 0, done.output
    wrong = deploy(guarded, "push", model, "--username", "ann", *version, password=WRONG)
    told(wrong, "login refused")
    newer = tmp_path / "newer"
    newer.mkdir()
    other = write_release(newer, "1.2.0", serial=SERIAL + 1)
    done = deploy(guarded, "push", other, "--username", "bob", *version, password=OTHERS)
    told(done, "edge/fleet/stable/blob/", "access rules")


def test_no_broker(server: BrokerProcess, model: Path) -> None:
    server.stop()
    told(
        deploy(server, "push", model),
        f"broker {HOST}:{server.port}: no connection: Connection refused; check --host, --port",
    )


def test_tls_and_websockets(mosquitto: MosquittoFactory, tmp_path: Path) -> None:
    # Mosquitto 2.0 sends what is large over WebSockets at 40 KB a second.
    model = write_release(tmp_path, size=1000)
    authority = Authority(tmp_path)
    pair = authority.issue("broker")
    tls, web = free_port(), free_port()
    mosquitto(
        lines=[
            f"listener {tls} {HOST}",
            f"certfile {pair.certificate}",
            f"keyfile {pair.key}",
            f"listener {web} {HOST}",
            "protocol websockets",
        ]
    )
    configuration = tmp_path / "edge-agent.toml"
    configuration.write_text(f'[mqtt]\nhost = "{HOST}"\nport = {tls}\n[mqtt.tls]\nca = "{authority.file}"\n')
    for options in (
        ["--config", configuration],
        ["--host", HOST, "--port", str(web), "--transport", "websockets"],
    ):
        done = CliRunner().invoke(main, ["push", str(model), *map(str, options)])
        assert done.exit_code == 0, done.output


@PROTOCOLS
def test_a_connection_that_ends_is_made_again(relay: Relay, model: Path, protocol: Any) -> None:
    wire = connect(Login(HOST, relay.port, protocol=protocol))
    channel = Channel("stable", wire)
    bundle = Bundle.open(model)
    wire.subscribe([channel.topic])
    relay.cut()
    channel.announce(bundle.forward, None)
    got: list[bytes] = []

    def look() -> bool:
        got.extend(message.payload for message in wire.receive(0.05) if message.topic == channel.topic)
        return bool(got)

    wait_until(look, "the manifest, over a new connection")
    assert wire.connected
    wire.close()


class Rubbish(Server):
    """Answers whatever it is sent with the same bytes, and hangs up."""

    def __init__(self, content: bytes) -> None:
        super().__init__("rubbish")
        self._content = content

    def _serve(self, sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(self._content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff" * 100,
        b"\x20\x00",
        b"\x20\x03\x00\x00\xff",
        b"\x20\x03\x00\x7b\x00",  # a reason that no standard has
        b"\x20\x02\x00\x00" + b"\x30\x02\xff\xff",  # a message without a topic
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_what_is_no_broker_is_told(content: bytes, model: Path) -> None:
    with Rubbish(content) as rubbish:
        told(deploy(rubbish, "push", model), f"broker {HOST}:{rubbish.port}: ")


def test_a_broker_that_says_no_more_is_told(relay: Relay, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_deploy.broker._PATIENCE", 0.5)
    wire = connect(Login(HOST, relay.port))
    relay.hold(lambda packet: not packet.up)
    with pytest.raises(BrokerError, match=r"no confirmation of .* in 0\.5 s"):
        wire.subscribe(["edge/#"])
    relay.release()
    wire.close()
