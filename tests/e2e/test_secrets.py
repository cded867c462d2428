"""Password and key stay where they are: in no output, no message and no command line, whatever goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from edge_agent.config.connection import Mqtt
from edge_agent.config.settings import Settings
from tests.brokers import HOST, Mosquitto, free_port
from tests.certificates import DAY, Authority
from tests.contract.agents import wait_until
from tests.contract.client import Client
from tests.e2e.conftest import Agent, call
from tests.requirements import require_mosquitto

PASSWORD: Final = "hunter2-open-sesame"  # noqa: S105 - nobody's
PASSPHRASE: Final = "swordfish-and-more"  # noqa: S105


class Home:
    """A broker that wants TLS, a client certificate and a password, and the settings that get in."""

    def __init__(self, directory: Path) -> None:
        require_mosquitto()
        self.directory = directory
        self.authority = Authority(directory)
        self.stranger = Authority(directory, "stranger")
        self.own = self.authority.issue("agent")
        pair = self.authority.issue("server")
        self.port = free_port()
        lines = [f"listener {self.port} {HOST}", f"certfile {pair.certificate}", f"keyfile {pair.key}"]
        lines += [f"cafile {self.authority.file}", "require_certificate true"]
        self.broker = Mosquitto(directory / "home", lines=lines, users={"agent": PASSWORD})
        self.password = directory / "password"
        self.password.write_text(PASSWORD + "\n")
        self.environment = {
            "EDGE_AGENT_LOG__LEVEL": "debug",
            "EDGE_AGENT_MQTT__PORT": str(self.port),
            "EDGE_AGENT_MQTT__USERNAME": "agent",
            "EDGE_AGENT_MQTT__PASSWORD_FILE": str(self.password),
            "EDGE_AGENT_MQTT__CONNECT_TIMEOUT": "10",
            "EDGE_AGENT_HEALTH__INTERVAL": "1",
            **self.tls("CA", self.authority.file),
            **self.tls("CERTIFICATE", self.own.certificate),
            **self.tls("KEY", self.own.key),
        }

    @staticmethod
    def tls(key: str, path: Path) -> dict[str, str]:
        return {f"EDGE_AGENT_MQTT__TLS__{key}": str(path)}

    @property
    def secrets(self) -> list[str]:
        """The password, and each line of each key."""
        keys = [line for file in self.directory.glob("*.key") for line in file.read_text().splitlines()]
        return [PASSWORD, PASSPHRASE, *(line for line in keys if not line.startswith("-----"))]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def plain_broker(home: Home) -> dict[str, str]:
    return {"EDGE_AGENT_MQTT__PORT": str(home.broker.port)}


def wrong_authority(home: Home) -> dict[str, str]:
    return home.tls("CA", home.stranger.file)


def wrong_password(home: Home) -> dict[str, str]:
    other = home.directory / "other"
    other.write_text(PASSWORD + "-but-older")
    return {"EDGE_AGENT_MQTT__PASSWORD_FILE": str(other)}


def certificate_of_a_stranger(home: Home) -> dict[str, str]:
    pair = home.stranger.issue("unknown")
    return home.tls("CERTIFICATE", pair.certificate) | home.tls("KEY", pair.key)


def expired_certificate(home: Home) -> dict[str, str]:
    pair = home.authority.issue("late", starts=-2 * DAY, ends=-DAY)
    return home.tls("CERTIFICATE", pair.certificate) | home.tls("KEY", pair.key)


def websockets(home: Home) -> dict[str, str]:
    return {"EDGE_AGENT_MQTT__TRANSPORT": "websockets"}


def encrypted_key(home: Home) -> dict[str, str]:
    pair = home.authority.issue("locked", passphrase=PASSPHRASE)
    return home.tls("CERTIFICATE", pair.certificate) | home.tls("KEY", pair.key)


def key_of_another(home: Home) -> dict[str, str]:
    return home.tls("KEY", home.authority.issue("another").key)


def key_as_password_and_the_other_way_round(home: Home) -> dict[str, str]:
    return {"EDGE_AGENT_MQTT__PASSWORD_FILE": str(home.own.key), **home.tls("KEY", home.password)}


def url_as_host(home: Home) -> dict[str, str]:
    return {"EDGE_AGENT_MQTT__HOST": f"mqtts://agent:{PASSWORD}@{HOST}"}


def password_in_the_wrong_place(home: Home) -> dict[str, str]:
    return {"EDGE_AGENT_MQTT__PASSWORD": PASSWORD}


def hidden(home: Home, said: str) -> str:
    for secret in home.secrets:
        assert secret not in said
    return said


@pytest.mark.parametrize(
    "trouble",
    [plain_broker, wrong_authority, wrong_password, certificate_of_a_stranger, expired_certificate, websockets],
)
def test_what_is_tried_again_tells_no_secret(
    home: Home, edge_agent: Path, elsewhere: Path, tmp_path: Path, trouble: Callable[[Home], dict[str, str]]
) -> None:
    environment = home.environment | trouble(home)
    home.broker.start()
    agent = Agent(edge_agent, tmp_path, home.broker)
    agent.start(**environment)
    try:
        wait_until(lambda: "trying again in" in agent.log(), f"a failure in {agent.log()}")
        assert agent.process is not None
        hidden(home, Path(f"/proc/{agent.process.pid}/cmdline").read_text())
        assert agent.stop() == 0
        hidden(home, agent.log())
        checked = call(edge_agent, "check", env={**os.environ, "EDGE_AGENT_MQTT__HOST": HOST, **environment})
        assert checked.returncode == 1
        assert "FAIL  broker" in hidden(home, checked.stdout + checked.stderr)
    finally:
        agent.end()
        home.broker.stop()


@pytest.mark.parametrize(
    "trouble",
    [
        encrypted_key,
        key_of_another,
        key_as_password_and_the_other_way_round,
        url_as_host,
        password_in_the_wrong_place,
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_what_ends_the_start_tells_no_secret(
    home: Home, edge_agent: Path, elsewhere: Path, command: str, trouble: Callable[[Home], dict[str, str]]
) -> None:
    environment = {**os.environ, "EDGE_AGENT_MQTT__HOST": HOST, **home.environment, **trouble(home)}
    # A terminal to ask for a passphrase on would be standard input at best; a start that waits for one hangs.
    done = call(edge_agent, command, env=environment)
    assert done.returncode == 2
    assert "mqtt" in hidden(home, done.stdout + done.stderr)
    assert "Traceback" not in done.stderr


def test_what_works_tells_no_secret(home: Home, edge_agent: Path, elsewhere: Path, tmp_path: Path) -> None:
    home.broker.start()
    agent = Agent(edge_agent, tmp_path, home.broker)
    try:
        with Client(home.broker.port, username="agent", password=PASSWORD) as client:
            client.subscribe("#")
            agent.start(**home.environment)
            client.in_vain = agent.in_vain
            client.wait_for_payload("edge/node/state", "online")
            client.publish("music/hall/features", {"tempo": "?"})
            client.message("music/hall/genre/error")
            client.message("edge/node/health")
            assert agent.stop() == 0
            client.wait_for_payload("edge/node/state", "offline")
            for message in client.seen():
                hidden(home, message.topic + message.payload.decode())
        hidden(home, agent.log())
    finally:
        agent.end()
        home.broker.stop()


def test_settings_and_address_show_no_password(home: Home) -> None:
    from edge_agent.assembly import address

    settings = Settings(mqtt=Mqtt(username="agent", password_file=home.password, tls={"ca": home.authority.file}))
    where = address(settings)
    assert where.password == PASSWORD
    assert PASSWORD not in f"{where!r} {where} {settings!r} {settings.model_dump()} {settings.mqtt.tls!r}"


def test_no_option_takes_a_secret(edge_agent: Path) -> None:
    for command in ("run", "check"):
        said = call(edge_agent, command, "--help").stdout.lower()
        assert "--password" not in said
        assert "--key" not in said
