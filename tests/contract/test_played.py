"""The agent on brokers of the cloud, played by `tests.played` with the limits of their documentation.

`shown` gives a test its row in docs/brokers.md.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from edge_agent.cli.main import cli
from tests.brokers import HOST
from tests.certificates import Authority
from tests.cloud import (
    AWS,
    AWS_WITHOUT_RETAIN,
    AZURE,
    EMQX,
    NO_SHARE,
    PLAYED,
    Limits,
    maximum_qos,
    server_keep_alive,
)
from tests.contract.agents import NODE, PROTOCOLS, STATE, RunningAgent
from tests.e2e.tracks import IMPOSSIBLE, ROCK
from tests.patience import fair
from tests.played import PlayedBroker

ASKED, ANSWERED = "music/hall/features", "music/hall/genre"


class Set(NamedTuple):
    """A played broker, and what an agent needs to be told to get in."""

    broker: PlayedBroker
    mqtt: dict[str, Any]


@pytest.fixture(params=list(PLAYED))
def played(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Set]:
    limits = PLAYED[request.param]
    mqtt: dict[str, Any] = {"connect_timeout": min(60.0, fair(3.0))}
    context = None
    if limits.login is not None:
        authority = Authority(tmp_path)
        pair = authority.issue("broker")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        user, password = limits.login
        file = tmp_path / "password"
        file.write_text(password)
        file.chmod(0o600)
        mqtt |= {"tls": {"ca": str(authority.file)}, "username": user, "password_file": str(file)}
    with PlayedBroker(limits, context) as broker:
        yield Set(broker, mqtt)


def is_answered(broker: PlayedBroker) -> None:
    """Return when a message has been answered."""
    broker.ask(ASKED, json.dumps({**ROCK, "id": 1}).encode())
    assert json.loads(broker.wait_for(ANSWERED)[0])["label"] == "Rock"


def ready(broker: PlayedBroker) -> None:
    broker.wait(lambda: b"online" in broker.said(STATE), "it does not say that it is there")


@pytest.mark.shown("a message is answered or rejected at QoS 1")
@PROTOCOLS
def test_a_message_is_answered_or_rejected(played: Set, protocol: str) -> None:
    broker = played.broker
    with RunningAgent(broker.port, mqtt={**played.mqtt, "protocol": protocol}):
        ready(broker)
        is_answered(broker)
        broker.ask(ASKED, json.dumps(IMPOSSIBLE).encode())
        assert json.loads(broker.wait_for(f"{ANSWERED}/error")[0])["error"] == "invalid_features"
    assert broker.said(STATE)[-1] == b"offline"


@pytest.mark.shown("two agents share (`share`): each message is answered once")
def test_two_agents_share(played: Set) -> None:
    broker = played.broker
    with (
        RunningAgent(broker.port, mqtt=played.mqtt, node={"id": "a"}, route=[{"share": "pool"}]) as first,
        RunningAgent(broker.port, mqtt=played.mqtt, node={"id": "b"}, route=[{"share": "pool"}]) as second,
    ):
        for node in ("a", "b"):
            broker.wait_for_payload(f"edge/{node}/state", b"online")
        for number in range(20):
            broker.ask(ASKED, json.dumps({**ROCK, "id": number}).encode())
        answers = broker.wait_for(ANSWERED, 20)
        assert sorted(json.loads(answer)["id"] for answer in answers) == list(range(20))
        assert {first.agent.tally.received, second.agent.tally.received} == {10}


@pytest.mark.shown("12 routes, so 13 topic filters")
def test_many_routes(played: Set) -> None:
    broker = played.broker
    route = [{"subscribe": f"r{n}/{{sensor}}/in", "publish": f"r{n}/{{sensor}}/out"} for n in range(12)]
    with RunningAgent(broker.port, mqtt=played.mqtt, route=route):
        ready(broker)
        broker.ask("r11/x/in", json.dumps(ROCK).encode())
        assert json.loads(broker.wait_for("r11/x/out")[0])["label"] == "Rock"
    assert not any("topic filters" in reason for reason in broker.thrown_out)


@pytest.mark.shown("`edge-agent check` finds nothing to fix")
def test_check(played: Set, tmp_path: Path) -> None:
    broker = played.broker
    # No agent runs: the check need not wait for its answer.
    broker.keep(STATE, b"offline")
    lines = [f'{name} = "{played.mqtt[name]}"' for name in ("username", "password_file") if name in played.mqtt]
    if "tls" in played.mqtt:
        lines += ["[mqtt.tls]", f'ca = "{played.mqtt["tls"]["ca"]}"']
    asked = look(broker.port, tmp_path, "\n".join(lines))
    found = [one for one in asked if one["what"] in {"broker", "subscribe", "publish"}]
    assert {one["what"] for one in found} == {"broker", "subscribe", "publish"}
    assert [one for one in found if one["verdict"] == "fail"] == []


def look(port: int, directory: Path, more: str = "") -> list[dict[str, str]]:
    """The findings of `edge-agent check` about a broker."""
    file = directory / "agent.toml"
    file.write_text(f'[node]\nid = "{NODE}"\n[mqtt]\nhost = "{HOST}"\nport = {port}\n{more}\n')
    result = CliRunner().invoke(cli, ["check", "--config", str(file), "--json"])
    found: list[dict[str, str]] = json.loads(result.output)["findings"]
    return found


# -- one limit at a time


#: As a broker may be that asks nothing of a will.
ONLY_MESSAGES = replace(AWS_WITHOUT_RETAIN, title="no retained messages", checks_will=False)


@pytest.mark.parametrize(
    ("limits", "protocol"),
    [
        pytest.param(AZURE, "5", id="azure-5"),
        pytest.param(AZURE, "3.1.1", id="azure-3.1.1"),
        pytest.param(AWS_WITHOUT_RETAIN, "5", id="aws-5"),
        pytest.param(AWS_WITHOUT_RETAIN, "3.1.1", id="aws-3.1.1"),
        pytest.param(ONLY_MESSAGES, "5", id="messages-5"),
        pytest.param(ONLY_MESSAGES, "3.1.1", id="messages-3.1.1"),
    ],
)
def test_where_nothing_may_be_retained_it_is_found_out(limits: Limits, protocol: str) -> None:
    """State, info and the will go out without the retain flag."""
    with PlayedBroker(limits) as broker, RunningAgent(broker.port, mqtt={"protocol": protocol}):
        ready(broker)
        is_answered(broker)
        assert not any(said.retain for said in broker.published if said.payload != b"offline")


@pytest.mark.parametrize("limits", [AWS_WITHOUT_RETAIN, AZURE], ids=["aws", "azure"])
@PROTOCOLS
def test_it_can_be_told_that_nothing_may_be_retained(limits: Limits, protocol: str) -> None:
    mqtt = {"retain": False, "protocol": protocol}
    with PlayedBroker(limits) as broker, RunningAgent(broker.port, mqtt=mqtt):
        ready(broker)
        is_answered(broker)
        assert broker.thrown_out == []


@PROTOCOLS
def test_a_broker_that_takes_qos_0_only(protocol: str) -> None:
    limits = replace(EMQX, title="QoS 0 only", connack=maximum_qos(0), max_qos=0, checks_will=protocol == "5")
    with PlayedBroker(limits) as broker, RunningAgent(broker.port, mqtt={"protocol": protocol}):
        ready(broker)
        is_answered(broker)


def test_the_keep_alive_of_the_broker_holds() -> None:
    """It closes after one and a half times as much silence, two seconds where nobody else wants the processor, whatever the
    agent asked for."""
    seconds = round(fair(2))
    limits = replace(EMQX, title="Server Keep Alive", connack=server_keep_alive(seconds), keep_alive=seconds)
    with PlayedBroker(limits) as broker, RunningAgent(broker.port, mqtt={"keepalive": 60}):
        ready(broker)
        broker.wait(lambda: broker.pings >= 2 or bool(broker.thrown_out), "neither pings nor an end")
        assert broker.thrown_out == []


@pytest.mark.parametrize(
    ("limits", "more", "word"),
    [
        pytest.param(AZURE, "", "retain", id="no retain"),
        pytest.param(
            replace(EMQX, title="no shared subscriptions", connack=NO_SHARE, shared=False),
            '[[route]]\nshare = "pool"',
            "shared",
            id="no shared subscriptions",
        ),
    ],
)
def test_check_notes_what_will_be_felt(limits: Limits, more: str, word: str, tmp_path: Path) -> None:
    with PlayedBroker(limits) as broker:
        broker.keep(STATE, b"offline")
        found = look(broker.port, tmp_path, more)
    assert [one for one in found if one["verdict"] == "note" and word in one["message"]] != []


def test_no_shared_subscriptions_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """The agent is degraded, and says why."""
    limits = replace(EMQX, title="no shared subscriptions", connack=NO_SHARE, shared=False)
    with PlayedBroker(limits) as broker, RunningAgent(broker.port, route=[{"share": "pool"}]):
        broker.wait_for_payload(STATE, b"degraded")
    assert broker.thrown_out == []
    assert "hared" in caplog.text


def test_an_answer_that_is_too_large_does_not_end_the_connection() -> None:
    """A batch whose answer is larger than the broker takes: it is refused here, and what follows is answered."""
    rows = [ROCK] * 1500
    limits = replace(AWS, max_packet=149_504)
    with PlayedBroker(limits) as broker, RunningAgent(broker.port, mqtt={"protocol": "5"}) as agent:
        ready(broker)
        broker.ask(ASKED, json.dumps(rows).encode())
        broker.ask(ASKED, json.dumps({**ROCK, "id": 1}).encode())
        broker.wait_for(ANSWERED)
        assert agent.agent.tally.refused == 1
    assert broker.thrown_out == []


@pytest.mark.parametrize("client_id", ["device1/module1", "sensors+1", "räume"])
def test_client_ids_that_mqtt_allows(client_id: str) -> None:
    with PlayedBroker(EMQX) as broker, RunningAgent(broker.port, mqtt={"client_id": client_id}):
        ready(broker)
        assert broker.client_ids == [client_id]
