"""`edge-agent check` against real brokers, their access rules and a running agent."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from click.testing import CliRunner

from edge_agent import __version__
from edge_agent.cli.main import cli
from edge_agent.contract.messages import Status
from tests.brokers import HOST, BrokerProcess, free_port
from tests.certificates import DAY, Authority
from tests.contract.agents import NODE, STATE, RunningAgent, wait_until
from tests.contract.client import Client
from tests.contract.conftest import Connect, MosquittoFactory
from tests.contract.test_transports import start
from tests.patience import fair

Found = dict[str, list[dict[str, Any]]]
Check = Callable[..., Found]
OPEN = f"topic readwrite edge/{NODE}/#\n"


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Call the command, and return its findings by what they are about."""

    def call(port: int, *arguments: str, more: str = "", status: int = 0) -> Found:
        file = tmp_path / "agent.toml"
        file.write_text(f'[node]\nid = "{NODE}"\n[mqtt]\nhost = "{HOST}"\nport = {port}\n{more}\n')
        result = CliRunner().invoke(cli, ["check", "--config", str(file), "--json", *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        found: Found = {}
        for one in json.loads(result.output)["findings"]:
            found.setdefault(one["what"], []).append(one)
        return found

    return call


def takes_connections(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((HOST, port)) == 0


def offline(client: Client) -> None:
    """Say that no agent runs, so that the check need not wait for its answer."""
    client.publish(STATE, "offline", retain=True)


def status_of(**told: Any) -> dict[str, Any]:
    """What an agent answers that has done nothing yet, but for what is `told`."""
    kinds = get_type_hints(Status)
    nothing = {name: 0 for name in Status.__required_keys__ if kinds[name] in (int, float)}
    known = {"node": NODE, "agent": __version__, "mqtt": "5", "time": "", "state": "online", "reason": None}
    return {**nothing, **known, "rejections": {}, "latency_ms": None, **told}


def said(findings: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["verdict"], one["message"]) for one in findings]


def test_all_is_well(broker: BrokerProcess, connect: Connect, check: Check) -> None:
    offline(connect(broker))
    # amqtt waits for the rest of what it takes for a broken CONNECT when it is asked for MQTT 5.
    found = check(broker.port, more=f"connect_timeout = {min(60.0, fair(1.0))}")
    assert said(found["subscribe"]) == [
        ("ok", f"edge/{NODE}/request/+: a trial message arrived"),
        ("ok", "music/+/features: a trial message arrived"),
    ]
    verdict = "ok" if len(broker.protocols) == 2 else "note"
    assert [one["verdict"] for one in found["publish"]] == [verdict] * 3
    assert {one["verdict"] for what in ("model", "self-test", "broker", "clock", "disk") for one in found[what]} == {
        "ok"
    }
    # None runs, which is not wrong by itself.
    assert [one["verdict"] for one in found["agent"]] == ["note"]


def test_reading_that_is_not_allowed(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    """Mosquitto grants the subscription all the same, and delivers nothing."""
    broker = mosquitto(acl=f"{OPEN}topic write music/#\n")
    offline(connect(broker))
    found = check(broker.port, status=1)
    (_, features) = found["subscribe"]
    assert (features["verdict"], features["message"]) == (
        "fail",
        "music/+/features: granted, but the trial message did not arrive",
    )
    assert "topic read music/+/features" in features["mend"]
    assert [one["verdict"] for one in found["publish"]] == ["ok"] * 3
    # MQTT 3.1.1 does not tell whether it was the reading or the writing.
    found = check(broker.port, more='protocol = "3.1.1"')
    assert [one["verdict"] for one in found["subscribe"]] == ["ok", "note"]


def test_a_missing_rule_for_its_own_requests(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    broker = mosquitto(acl=f"topic write edge/{NODE}/#\ntopic readwrite music/#\n")
    (requests, _) = check(broker.port, status=1)["subscribe"]
    assert (requests["verdict"], requests["message"]) == (
        "fail",
        f"edge/{NODE}/request/+: granted, but the trial message did not arrive",
    )
    assert f"topic read edge/{NODE}/request/+" in requests["mend"]


def test_writing_that_is_not_allowed(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    broker = mosquitto(acl=f"{OPEN}topic read music/+/features\ntopic write music/+/genre\n")
    offline(connect(broker))
    found = check(broker.port, status=1)
    (_, features) = found["subscribe"]
    assert (features["verdict"], "can't be tested" in features["message"]) == ("note", True)
    assert [one["verdict"] for one in found["publish"]] == ["ok", "fail", "ok"]
    assert "topic write music/+/genre/error" in found["publish"][1]["mend"]


def test_home_assistant_may_not_be_told(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    broker = mosquitto(acl=f"{OPEN}topic readwrite music/#\n")
    offline(connect(broker))
    found = check(broker.port, more="[home_assistant]\nenabled = true", status=1)
    (refused,) = [one for one in found["publish"] if one["verdict"] == "fail"]
    assert refused["message"].startswith("homeassistant/device/+/config: ")
    assert "topic write homeassistant/device/+/config" in refused["mend"]


def test_what_the_agent_says_of_itself_may_not_be_written(
    mosquitto: MosquittoFactory, connect: Connect, check: Check
) -> None:
    broker = mosquitto(acl=f"topic readwrite music/#\ntopic readwrite edge/{NODE}/request/#\n")
    found = check(broker.port, status=1)
    assert said(found["publish"]) == [
        ("ok", "music/+/genre"),
        ("ok", "music/+/genre/error"),
        *(("fail", f"edge/{NODE}/{last}: Not authorized") for last in ("health", "state", "info", "response/+")),
    ]


def test_a_user_of_another_node(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    """It may not even write where the broker would be tried."""
    broker = mosquitto(acl="topic readwrite edge/cellar/#\ntopic read music/+/features\ntopic write music/+/genre\n")
    found = check(broker.port, status=1)
    refused, *others = said(found["publish"])
    assert refused == ("fail", f"edge/{NODE}/response/+: Not authorized")
    assert {verdict for verdict, _ in others} == {"note"}


def test_nothing_is_published_to_outputs_or_to_what_the_agent_says_of_itself(
    mosquitto: MosquittoFactory, connect: Connect, check: Check
) -> None:
    """More outputs than the broker lets be under way at once, some without a captured level."""
    broker = mosquitto(lines=["max_inflight_messages 4"])
    client = connect(broker)
    offline(client)
    routes = [f'[[route]]\nsubscribe = "r{n}/{{s}}/in"\npublish = "r{n}/{{s}}/out"' for n in range(12)]
    routes.append('[[route]]\nsubscribe = "shop/features"\npublish = "shop/genre"')
    client.subscribe("#")
    found = check(broker.port, more="\n".join(routes))
    assert {one["verdict"] for one in found["publish"]} == {"ok"}
    assert len(found["publish"]) == 2 * 13 + 1
    client.barrier()
    heard = {message.topic for message in client.seen("#")}
    own = {f"edge/{NODE}/request/{verb}" for verb in ("edge-agent-check", "status")}
    own.add(f"edge/{NODE}/response/edge-agent-check")  # retained and empty, so nothing is kept
    assert heard - own - {STATE} == {f"r{n}/edge-agent-check/in" for n in range(12)}
    assert [message.payload for message in client.seen(STATE)] == [b"offline"]


def test_a_share_is_tried_in_a_pool_of_its_own(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    broker = mosquitto()
    offline(connect(broker))
    found = check(broker.port, more='[[route]]\nshare = "pool"')
    assert said(found["share"]) == [("ok", "$share/edge-agent-check/music/+/features: a trial message arrived")]
    assert "retain" not in found


def test_a_broker_whose_limits_will_be_felt(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    broker = mosquitto(lines=["max_packet_size 2000000", "retain_available false"])
    found = check(broker.port)
    (packets,) = found["packets"]
    assert (packets["verdict"], "at most 2000000 bytes" in packets["message"]) == ("note", True)
    assert [one["verdict"] for one in found["retain"]] == ["note"]
    assert {one["verdict"] for one in found["publish"]} == {"ok"}
    assert "retain" not in check(broker.port, more="retain = false")


def test_a_broker_that_takes_no_qos_2(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    broker = mosquitto(lines=["max_qos 1"])
    client = connect(broker)
    offline(client)
    client.subscribe("music/#")
    found = check(broker.port)
    assert {one["verdict"] for one in found["publish"]} == {"note"}
    assert "the broker does not support QoS 2" in found["publish"][0]["message"]
    client.barrier()
    assert {message.topic for message in client.seen("music/#")} == {"music/edge-agent-check/features"}


@pytest.mark.parametrize("retained", [True, False])
def test_inputs_of_one_sensor_are_left_alone(
    mosquitto: MosquittoFactory, connect: Connect, check: Check, retained: bool
) -> None:
    """A trial message never goes where a real sensor's messages go; what the sensor itself sends shows as much."""
    broker = mosquitto()
    client = connect(broker)
    offline(client)
    if retained:
        client.publish("shop/features", "{}", retain=True)
    client.subscribe("shop/#")
    found = check(broker.port, more='[[route]]\nsubscribe = "shop/features"\npublish = "shop/genre"')
    (_, shop) = found["subscribe"]
    if retained:
        assert (shop["verdict"], shop["message"]) == ("ok", "shop/features: a message arrived")
    else:
        assert (shop["verdict"], "can't be tested" in shop["message"]) == ("note", True)
        assert "topic read shop/features" in shop["mend"]
    client.barrier()
    assert [message.payload for message in client.seen("shop/#")] == [b"{}"] * retained


def test_a_running_agent(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    broker = mosquitto()
    client = connect(broker)
    client.subscribe(STATE)
    with RunningAgent(broker.port):
        client.wait_for_payload(STATE, "online")
        (agent,) = check(broker.port)["agent"]
        assert agent["message"].startswith("answers: up ")
        found = check(broker.port, "--quick")
        assert said(found.pop("agent")) == [("ok", f"node {NODE} answers")]
        assert list(found) == ["configuration"]
    client.wait_for_payload(STATE, "offline")
    (agent,) = check(broker.port, "--quick", status=1)["agent"]
    assert "is offline" in agent["message"]
    broker.stop()
    assert check(broker.port, "--quick", status=1)["broker"][0]["mend"].startswith("check mqtt.host")


def test_an_old_answer_is_no_answer(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    """What the broker had kept is not taken for the answer to a health check, whatever it holds."""
    broker = mosquitto()
    client = connect(broker)
    for payload in ("{}", "[1]", "[" * 100_000, '{"pong": "1", "node": "kitchen"}'):
        client.publish(f"edge/{NODE}/response/ping", payload, retain=True)
        offline(client)
        assert check(broker.port, "--quick", status=1)["agent"][0]["verdict"] == "fail"


@pytest.mark.parametrize(("connections", "uptime", "verdict"), [(5, 299.0, "note"), (5, 300.0, "ok"), (4, 5.0, "ok")])
def test_an_agent_that_loses_its_connection_again_and_again(
    connections: int, uptime: float, verdict: str, mosquitto: MosquittoFactory, connect: Connect, check: Check
) -> None:
    """As two agents with one client id do: each connection of the one ends that of the other."""
    status = status_of(uptime=uptime, connections=connections)
    broker = mosquitto()
    connect(broker).publish(f"edge/{NODE}/response/status", json.dumps(status), retain=True)
    (agent,) = check(broker.port)["agent"]
    assert agent["verdict"] == verdict
    assert ("keeps losing its connection: 5 connections so far" in agent["message"]) == (verdict == "note")


def test_a_degraded_agent_is_a_failure(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    broker = mosquitto()
    told = status_of(state="degraded", reason="subscription to 'a/+' refused: Not authorized", refused=3, faults=1)
    connect(broker).publish(f"edge/{NODE}/response/status", json.dumps(told), retain=True)
    found = check(broker.port, status=1)
    (agent,) = found["agent"]
    assert agent["verdict"] == "fail"
    assert "degraded: subscription to 'a/+' refused: Not authorized" in agent["message"]
    assert said(found["answers"]) == [("note", "the broker refused 3 messages from the running agent")]
    assert said(found["faults"]) == [("note", "1 internal error in the running agent")]
    assert "poisoned" not in found


def test_an_agent_of_another_version(mosquitto: MosquittoFactory, connect: Connect, check: Check) -> None:
    broker = mosquitto()
    connect(broker).publish(f"edge/{NODE}/response/status", '{"uptime": 5}', retain=True)
    assert said(check(broker.port)["agent"]) == [("note", "an agent of another version answers")]


@pytest.mark.parametrize("transport", ["tcp", "websockets"])
def test_the_end_of_the_brokers_certificate(
    mosquitto: MosquittoFactory, check: Check, tmp_path: Path, transport: str
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("broker", ends=9 * DAY)
    port = free_port()
    listener = [f"listener {port} {HOST}", f"protocol {transport.replace('tcp', 'mqtt')}"]
    start(mosquitto(lines=[*listener, f"certfile {pair.certificate}", f"keyfile {pair.key}"], start=False))
    wait_until(lambda: takes_connections(port), "the second listener is not there")
    found = check(port, more=f'transport = "{transport}"\n[mqtt.tls]\nca = "{authority.file}"')
    (tls,) = found["TLS"]
    assert (tls["verdict"], tls["mend"]) == ("note", "renew it on the broker")
    assert tls["message"].endswith(", 8 more days")
