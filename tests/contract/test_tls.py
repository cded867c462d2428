"""TLS against Mosquitto, with certificates made for each test: it works, or one line says why not, and it is tried again.

Never in plain text instead: what the agent sends to a port that does not speak TLS is looked at byte by byte.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_agent.cli.check import command as check
from edge_agent.errors import SettingsError
from tests.background import Server
from tests.brokers import HOST, Mosquitto, free_port
from tests.certificates import DAY, Authority, Pair
from tests.contract.agents import INFO, NODE, STATE, RunningAgent, wait_for_line, wait_until
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import ROCK
from tests.patience import DEADLINE, fair


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "stranger")


@dataclass
class Secured:
    """A Mosquitto with a plain listener, for the test's own client, and one with TLS."""

    broker: Mosquitto
    port: int

    def mqtt(self, **tls: Any) -> dict[str, Any]:
        """The section of the agent's settings."""
        return {"port": self.port, "connect_timeout": min(60.0, fair(5.0)), "tls": tls}


@pytest.fixture
def secured(mosquitto: MosquittoFactory) -> Callable[..., Secured]:
    def make(pair: Pair, *lines: str) -> Secured:
        port = free_port()
        tls = [f"listener {port} {HOST}", f"certfile {pair.certificate}", f"keyfile {pair.key}", *lines]
        return Secured(mosquitto(lines=tls), port)

    return make


def check_says(mqtt: dict[str, Any], status: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `edge-agent check` says with the same settings."""
    flat = {key: value for key, value in mqtt.items() if key != "tls"} | {"host": HOST}
    with monkeypatch.context() as patch:
        for key, value in flat.items():
            patch.setenv(f"EDGE_AGENT_MQTT__{key.upper()}", str(value))
        for key, value in (mqtt["tls"] or {"enabled": True}).items():
            patch.setenv(f"EDGE_AGENT_MQTT__TLS__{key.upper()}", str(value))
        result = CliRunner().invoke(check)
    assert result.exit_code == status, result.output
    # What to do stands on a line of its own there.
    return re.sub(r"\n +-> ", "; ", result.output)


def files(pair: Pair, ca: Authority) -> dict[str, str]:
    return {"ca": str(ca.file), "certificate": str(pair.certificate), "key": str(pair.key)}


@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_the_agent_works_over_tls(
    secured: Callable[..., Secured], authority: Authority, connect: Connect, host: str
) -> None:
    secure = secured(authority.issue("broker"))
    client = connect(secure.broker)
    client.subscribe(STATE, "music/+/genre")
    with RunningAgent(secure.port, mqtt={**secure.mqtt(ca=str(authority.file)), "host": host}):
        client.wait_for_payload(STATE, "online")
        for number in range(500):
            client.publish("music/hall/features", {**ROCK, "id": number}, wait=False)
        client.publish("music/hall/features", [ROCK] * 5000)
        answers = client.messages(501, "music/hall/genre")
        assert len(answers[-1].payload) > 500_000
    client.wait_for_payload(STATE, "offline")


def test_a_client_certificate_is_the_log_in(
    secured: Callable[..., Secured], authority: Authority, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure = secured(
        authority.issue("broker"),
        f"cafile {authority.file}",
        "require_certificate true",
        "use_identity_as_username true",
    )
    mqtt = secure.mqtt(**files(authority.issue("agent"), authority))
    client = connect(secure.broker)
    client.subscribe(STATE, INFO)
    with RunningAgent(secure.port, mqtt=mqtt):
        client.wait_for_payload(STATE, "online")
    assert "u'agent'" in secure.broker.log()
    assert "logged in over MQTT 5" in check_says(mqtt, 0, monkeypatch)


def told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, mqtt: dict[str, Any], *expected: str
) -> None:
    """The agent says so in one line, tries again, and says so again; `check` says the same."""
    with RunningAgent(mqtt["port"], mqtt=mqtt) as agent:
        line = wait_for_line(caplog, *expected, "trying again in", count=2)
        assert "\n" not in line
        assert agent.agent.tally.connections == 0
    said = check_says(mqtt, 1, monkeypatch)
    assert [part for part in expected if part not in said] == [], said
    assert "no connection: " not in said


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda _, other: other.issue("b"), "issuer is not trusted"),
        (lambda ours, _: ours.issue("b", starts=-2 * DAY, ends=-DAY), "its certificate has expired; renew it, or"),
        (lambda ours, _: ours.issue("b", starts=DAY, ends=2 * DAY), "is not valid yet; renew it, or set the clock"),
        (lambda ours, _: ours.issue("b", hosts=["elsewhere.example"]), "its certificate is for another host"),
    ],
    ids=["authority", "expired", "future", "host"],
)
def test_a_certificate_of_the_broker_that_is_not_right(
    secured: Callable[..., Secured],
    authority: Authority,
    stranger: Authority,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Authority, Authority], Pair],
    expected: str,
) -> None:
    wrong = make(authority, stranger)
    secure = secured(wrong)
    mqtt = secure.mqtt(ca=str(authority.file))
    told(caplog, monkeypatch, mqtt, expected)
    # The agent need not be told when the broker has got a better one.
    client = connect(secure.broker)
    client.subscribe(STATE)
    with RunningAgent(secure.port, mqtt=mqtt):
        wait_for_line(caplog, expected, count=3)
        client.close()
        better = authority.issue("better")
        shutil.copy(better.certificate, wrong.certificate)
        shutil.copy(better.key, wrong.key)
        secure.broker.restart()
        client = connect(secure.broker)
        client.subscribe(STATE)
        client.wait_for_payload(STATE, "online")


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_no_client_certificate_and_a_wrong_one(
    secured: Callable[..., Secured],
    authority: Authority,
    stranger: Authority,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
) -> None:
    secure = secured(authority.issue("broker"), f"cafile {authority.file}", "require_certificate true")
    none = {**secure.mqtt(ca=str(authority.file)), "protocol": protocol}
    told(caplog, monkeypatch, none, "client certificate", "tls.certificate and tls.key")
    wrong = {**secure.mqtt(**files(stranger.issue("agent"), authority)), "protocol": protocol}
    told(caplog, monkeypatch, wrong, "our client certificate")


def test_tls_on_a_plain_port(
    secured: Callable[..., Secured],
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secure = secured(authority.issue("broker"))
    mqtt = {**secure.mqtt(ca=str(authority.file)), "port": secure.broker.port}
    told(caplog, monkeypatch, mqtt, "mqtt.port")
    assert "TLS" in caplog.text


def test_plain_on_a_port_for_tls(
    secured: Callable[..., Secured],
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secure = secured(authority.issue("broker"))
    told(caplog, monkeypatch, secure.mqtt(enabled=False), "is it a port for TLS ([mqtt.tls])")


def test_files_that_vanish_are_told_and_read_again(
    secured: Callable[..., Secured],
    authority: Authority,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    secure = secured(authority.issue("broker"))
    ca = tmp_path / "moving.crt"
    with pytest.raises(SettingsError, match=r"mqtt\.tls\.ca: .*moving\.crt: No such file or directory; check path"):
        RunningAgent(secure.port, mqtt=secure.mqtt(ca=str(ca)))
    shutil.copy(authority.file, ca)
    client = connect(secure.broker)
    client.subscribe(STATE)
    with RunningAgent(secure.port, mqtt=secure.mqtt(ca=str(ca))):
        client.wait_for_payload(STATE, "online")
        client.close()
        ca.unlink()
        secure.broker.restart()
        wait_for_line(caplog, f"mqtt.tls.ca: {ca}: No such file", "trying again in")
        shutil.copy(authority.file, ca)
        again = connect(secure.broker)
        again.subscribe(STATE)
        again.wait_for_payload(STATE, "online")


class Listener(Server):
    """Takes connections and keeps the first bytes of each; answers with `answer`, or speaks TLS with `context`."""

    def __init__(self, answer: bytes = b"", context: ssl.SSLContext | None = None) -> None:
        super().__init__("listener")
        self._answer = answer
        self._context = context
        self.first: list[bytes] = []
        self.alpn: list[str | None] = []

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(DEADLINE)
        try:
            if self._context is not None:
                with self._context.wrap_socket(sock, server_side=True) as secured:
                    self.alpn.append(secured.selected_alpn_protocol())
                    self.first.append(secured.recv(100))
                return
            self.first.append(sock.recv(100))
            sock.sendall(self._answer)
        except OSError:
            self.first.append(b"")


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Listener(**options))


@pytest.mark.parametrize(
    ("transport", "answer"),
    [
        ("tcp", b""),
        ("tcp", b"\x20\x02\x00\x00"),
        ("tcp", b"\x15\x03\x01\x00\x02\x02\x28"),
        ("websockets", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ],
    ids=["closes", "CONNACK", "alert", "HTTP"],
)
def test_nothing_is_ever_sent_in_plain_text(
    listen: Callable[..., Listener], caplog: pytest.LogCaptureFixture, tmp_path: Path, transport: str, answer: bytes
) -> None:
    password = tmp_path / "password"
    password.write_text("open-sesame")
    listener = listen(answer=answer)
    mqtt = {"transport": transport, "tls": {}, "username": "ann", "password_file": str(password)}
    with RunningAgent(listener.port, mqtt=mqtt):
        wait_until(lambda: len(listener.first) >= 3, "three attempts")
    # Each begins with a TLS handshake record (RFC 8446, 5.1), never with CONNECT or GET.
    assert {first[:2] for first in listener.first} == {b"\x16\x03"}
    assert not any(b"ann" in first or b"sesame" in first for first in listener.first)
    assert "open-sesame" not in caplog.text


def test_alpn_is_offered(listen: Callable[..., Listener], authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("broker"))
    context.set_alpn_protocols(["x-amzn-mqtt-ca"])
    listener = listen(context=context)
    with RunningAgent(listener.port, mqtt={"tls": {"ca": str(authority.file), "alpn": ["x-amzn-mqtt-ca", "mqtt"]}}):
        wait_until(lambda: bool(listener.first), "a connection")
    assert listener.alpn[0] == "x-amzn-mqtt-ca"
    assert listener.first[0][0] == 0x10, "CONNECT, inside TLS"


def test_credentials_of_systemd_are_the_files(
    secured: Callable[..., Secured],
    authority: Authority,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pair = authority.issue("agent")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, file in {"ca": authority.file, "certificate": pair.certificate, "key": pair.key}.items():
        shutil.copy(file, credentials / f"mqtt-{name}")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", os.fspath(credentials))
    secure = secured(authority.issue("broker"), f"cafile {authority.file}", "require_certificate true")
    client = connect(secure.broker)
    client.subscribe(STATE)
    with RunningAgent(secure.port, mqtt=secure.mqtt()):
        client.wait_for_payload(STATE, "online")
    assert f"edge-agent-{NODE}" in secure.broker.log()
