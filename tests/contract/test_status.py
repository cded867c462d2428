"""`edge-agent status` asks a running agent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli.main import cli
from edge_agent.contract.messages import Status, validator
from tests.brokers import HOST
from tests.contract.agents import NODE, STATE, RunningAgent
from tests.contract.conftest import Connect, MosquittoFactory
from tests.patience import fair

Ask = Callable[..., Result]
ROUTE = {"subscribe": "home/{room}/{feature}", "publish": "genre/{room}", "max_age": 3600}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Call the command with a configuration of a port, and of what else it is given."""

    def call(port: int, *arguments: str, node: str = NODE, login: str = "", status: int = 0) -> Result:
        file = tmp_path / "agent.toml"
        file.write_text(f'[node]\nid = "{node}"\n[mqtt]\nhost = "{HOST}"\nport = {port}\n{login}\n')
        result = CliRunner().invoke(cli, ["status", "--config", str(file), *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return call


def online(stack: ExitStack, mosquitto: MosquittoFactory, connect: Connect, **options: Any) -> tuple[int, Any]:
    broker = mosquitto()
    stack.enter_context(RunningAgent(broker.port, **options))
    client = connect(broker)
    client.subscribe(STATE)
    client.wait_for_payload(STATE, "online")
    return broker.port, client


def test_what_the_agent_answers(mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, ask: Ask) -> None:
    port, client = online(stack, mosquitto, connect)
    client.publish("music/hall/features", "{}")
    text = ask(port).output
    assert text.startswith(f"node        {NODE}: edge-agent ")
    assert "rejections  1 invalid_features\n" in text
    assert "sensors" not in text
    (line,) = ask(port, "--json").output.splitlines()
    status = validator(Status).validate_json(line, strict=True)
    assert (status["node"], status["mqtt"], status["rejections"]) == (NODE, "5", {"invalid_features": 1})


def test_what_is_waited_for(mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, ask: Ask) -> None:
    port, client = online(stack, mosquitto, connect, route=[ROUTE])
    client.publish("home/hall/tempo", "100")
    client.publish("home/hall/battery", "97")
    client.publish("home/\u202egniklat/tempo", "100")
    lines = ask(port).output.splitlines()
    assert "sensors     2, 0 complete, 0 forgotten" in lines
    assert "ignored     1 message on topics that map to no feature" in lines
    (hall,) = [line for line in lines if line.startswith("home/hall/+")]
    assert "acousticness, danceability" in hall
    assert "tempo" not in hall
    # What comes from outside does not reach the terminal as it is.
    assert any(line.startswith("home/\\u202egniklat/+") for line in lines)
    found = json.loads(ask(port, "--json").output)["gathering"]
    assert found["waiting"][0]["sensor"] == "hall"


def test_nobody_answers(mosquitto: MosquittoFactory, connect: Connect, ask: Ask) -> None:
    broker = mosquitto()
    with ExitStack() as stack:
        stack.enter_context(RunningAgent(broker.port))
        client = connect(broker)
        client.subscribe(STATE)
        client.wait_for_payload(STATE, "online")
    client.wait_for_payload(STATE, "offline")
    told = ask(broker.port, status=1)
    assert told.output.startswith("edge-agent: ")
    assert f"node '{NODE}' is offline, according to edge/{NODE}/state on {HOST}:{broker.port}; start it" in told.output
    # What nobody clears: an agent whose broker lost the will.
    client.publish(STATE, "online", retain=True)
    in_vain = ("--timeout", str(fair(0.5)))
    told = ask(broker.port, *in_vain, status=1)
    assert "says 'online'; check that it may read edge/kitchen/request/+" in told.output
    told = ask(broker.port, *in_vain, node="nobody", status=1)
    assert "no agent with this name was ever connected" in told.output
    broker.stop()
    assert "check mqtt.host, mqtt.port" in ask(broker.port, status=1).output


def test_an_answer_of_another_version(mosquitto: MosquittoFactory, connect: Connect, ask: Ask) -> None:
    broker = mosquitto()
    client = connect(broker)
    client.publish(f"edge/{NODE}/response/status", '{"uptime": 5}', retain=True)
    assert "an agent of another version answered '{\"uptime\": 5}'" in ask(broker.port, status=1).output
    assert ask(broker.port, "--json").output == '{"uptime": 5}\n'


def test_it_may_not_ask(mosquitto: MosquittoFactory, ask: Ask, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    login = f'username = "ann"\npassword_file = "{password}"'
    broker = mosquitto(users={"ann": "secret"}, acl=f"user ann\ntopic read edge/{NODE}/#\n")
    told = ask(broker.port, login=login, status=1).output
    assert f"edge/{NODE}/request/status: Not authorized; allow writing it in the broker's access rules" in told


def test_a_wrong_configuration_is_2(ask: Ask) -> None:
    result = CliRunner().invoke(cli, ["status", "--config", "/nowhere.toml"])
    assert "no such file" in str(result.exception)
    assert getattr(result.exception, "exit_status", None) == 2
