"""What the agent says, and goes on doing, when the broker won't have it."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_agent.host.systemd import Notifier
from tests.brokers import HOST, free_port
from tests.contract.agents import INFO, NODE, STATE, RunningAgent, wait_for_line, wait_until
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import ROCK
from tests.patience import fair
from tests.requirements import lacking

PASSWORD = "open-sesame"  # noqa: S105 - of brokers that live for a test


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def run(stack: ExitStack, port: int, **options: Any) -> RunningAgent:
    return stack.enter_context(RunningAgent(port, **options))


def test_nobody_is_there_and_then_somebody_is(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    broker = mosquitto(start=False)
    run(stack, broker.port)
    line = wait_for_line(
        caplog, "no connection: Connection refused; check mqtt.host, mqtt.port and that the broker runs"
    )
    assert f"broker {HOST}:{broker.port}" in line
    assert "trying again in" in line
    broker.start()
    client = connect(broker)
    client.subscribe(STATE)
    client.wait_for_payload(STATE, "online")


def test_a_wrong_password_is_told_and_tried_again(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    broker = mosquitto(users={"agent": PASSWORD})
    file = tmp_path / "password"
    file.write_text("wrong-one")
    login = {"username": "agent", "password_file": str(file)}
    for protocol in ("5", "3.1.1"):
        with RunningAgent(broker.port, mqtt={**login, "protocol": protocol}):
            line = wait_for_line(caplog, "refused the connection: ", "check mqtt.username, mqtt.password_file", count=2)
            assert "Not authorized" in line or "Bad user name or password" in line
            assert "trying again in" in line
        assert "wrong-one" not in caplog.text
        caplog.clear()
    file.write_text(f"{PASSWORD}\n")
    run(stack, broker.port, mqtt=login)
    client = connect(broker, username="agent", password=PASSWORD)
    client.subscribe(STATE)
    client.wait_for_payload(STATE, "online")
    assert PASSWORD not in caplog.text


def test_wrong_credentials_are_no_reason_for_an_older_protocol(
    mosquitto: MosquittoFactory, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    broker = mosquitto(users={"agent": PASSWORD})
    run(stack, broker.port)
    wait_for_line(caplog, "refused the connection")
    assert "MQTT 3.1.1" not in caplog.text


#: Where Debian, and others, put Mosquitto's plugins.
PLUGIN_FOLDERS = ("usr/lib/*", "usr/lib", "usr/local/lib")
ACL = f"""
topic readwrite test/#
user watcher
topic readwrite #
user agent
topic read edge/{NODE}/request/#
topic write edge/{NODE}/#
"""
USERS = {"agent": PASSWORD, "watcher": PASSWORD}


def login(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    return {"username": "agent", "password_file": str(file)}


def dynamic_security(directory: Path) -> list[str]:
    """Configure Mosquitto to refuse the features to everybody: a plain acl_file takes any subscription."""
    found = [file for folder in PLUGIN_FOLDERS for file in Path("/").glob(f"{folder}/mosquitto_dynamic_security.so")]
    if not found:
        lacking("mosquitto_dynamic_security.so is missing: it comes with the broker's package")
    access = dict.fromkeys(("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe"), True)
    denied = {"acltype": "subscribeLiteral", "topic": "music/+/features", "allow": False}
    content = {
        "defaultACLAccess": access,
        "roles": [{"rolename": "all", "acls": [denied]}],
        "groups": [{"groupname": "all", "roles": [{"rolename": "all"}]}],
        "anonymousGroup": "all",
    }
    file = directory / "dynamic-security.json"
    file.write_text(json.dumps(content))
    file.chmod(0o600)
    return [f"plugin {found[0]}", f"plugin_opt_config_file {file}"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_refused_subscription_is_told_and_the_rest_is_served(
    mosquitto: MosquittoFactory,
    connect: Connect,
    stack: ExitStack,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    protocol: str,
) -> None:
    broker = mosquitto(lines=dynamic_security(tmp_path))
    run(stack, broker.port, mqtt={"protocol": protocol})
    client = connect(broker)
    client.subscribe("edge/#")
    client.wait_for_payload(STATE, "degraded")
    info = client.json(INFO)
    assert info["state"] == "degraded"
    assert info["reason"].startswith("subscription to 'music/+/features' refused: ")
    line = wait_for_line(caplog, "subscription to 'music/+/features' refused")
    assert "allow it in the broker's access rules" in line
    client.publish(f"edge/{NODE}/request/ping")
    assert client.json(f"edge/{NODE}/response/ping")["node"] == NODE


def test_a_denied_answer_is_counted_and_told_and_blocks_nothing(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    # Only the rejections of the hall may be published.
    acl = ACL + "topic read music/+/features\ntopic write music/hall/genre/error\n"
    broker = mosquitto(users=USERS, acl=acl)
    agent = run(stack, broker.port, mqtt=login(tmp_path))
    client = connect(broker, username="watcher", password=PASSWORD)
    client.subscribe("edge/#", "music/#")
    client.wait_for_payload(STATE, "online")
    for _ in range(10):
        client.publish("music/hall/features", ROCK)
    client.publish("music/hall/features", {"id": "last"})
    assert json.loads(client.message("music/hall/genre/error").payload)["id"] == "last"
    assert "'music/hall/genre': Not authorized); check the broker's access rules and limits" in wait_for_line(
        caplog, "broker: refused"
    )
    tally = agent.agent.tally
    wait_until(lambda: tally.acknowledged == 11, "everything acknowledged")
    assert (tally.refused, tally.received, tally.answered) == (10, 11, 11)
    assert client.seen("music/hall/genre") == []
    # One line at once, the next after a minute.
    assert caplog.text.count("broker: refused") == 1


def test_two_agents_with_one_client_id_are_told_so(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    broker = mosquitto()
    run(stack, broker.port, mqtt={"protocol": "5"})
    client = connect(broker)
    client.subscribe(STATE)
    client.wait_for_payload(STATE, "online")
    run(stack, broker.port, mqtt={"protocol": "5"})
    line = wait_for_line(caplog, f"another client uses our client id, 'edge-agent-{NODE}'")
    assert "the connection ended" in line
    assert "trying again in" in line


def test_something_that_is_no_broker(stack: ExitStack, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server((HOST, 0)) as silent:
        run(stack, silent.getsockname()[1], mqtt={"protocol": "3.1.1", "connect_timeout": 0.1})
        wait_for_line(caplog, "no answer to CONNECT or SUBSCRIBE in time; is it an MQTT broker?")


def test_an_answer_larger_than_the_broker_takes_blocks_nothing(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    broker = mosquitto(lines=["max_packet_size 2000"])
    agent = run(stack, broker.port, mqtt={"protocol": "5"})
    client = connect(broker)
    client.subscribe("edge/#", "music/#")
    client.wait_for_payload(STATE, "online")
    # Eight predictions, of 150 bytes each and more; the question is much shorter than that.
    client.publish("music/hall/features", [{}] * 10)
    client.publish("music/hall/features", {**ROCK, "id": "next"})
    assert client.json("music/hall/genre")["id"] == "next"
    wait_for_line(caplog, "larger than the broker's limit")
    wait_until(lambda: agent.agent.tally.acknowledged == 2, "everything acknowledged")
    assert agent.agent.tally.connections == 1


@pytest.mark.parametrize("mqtt", [{}, {"host": "host.invalid"}])
def test_stopping_is_quick_without_a_broker(mqtt: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with RunningAgent(free_port(), mqtt=mqtt) as agent:
        wait_for_line(caplog, "trying again in")
        assert agent.stop() < fair(5)


def test_stopping_is_quick_when_the_broker_hangs(
    mosquitto: MosquittoFactory, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    broker = mosquitto()
    client = connect(broker)
    client.subscribe("music/#", INFO)
    with RunningAgent(broker.port) as agent:
        client.message(INFO)
        for number in range(20):
            client.publish("music/hall/features", {**ROCK, "id": number}, wait=False)
        client.message("music/hall/genre")
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            took = agent.stop()
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        assert took < fair(5)


def test_a_service_manager_that_is_away_does_not_matter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nowhere")})
    notifier.ready("serving")
    notifier.alive()
    assert caplog.text.count("systemd: can't send") == 2
