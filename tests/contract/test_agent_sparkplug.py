"""An edge node of Sparkplug B on a real broker: its births, its data by alias, and the will by which it dies."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from edge_agent.payload import sparkplug
from tests.brokers import Mosquitto
from tests.contract.agents import PROTOCOLS, STATE, RunningAgent
from tests.contract.conftest import Connect
from tests.e2e.tracks import HIP_HOP, ROCK
from tests.sparkplug import encoded

pytest.importorskip("google.protobuf", reason="protobuf is not installed: pip install '.[sparkplug]'")

ROUTE = {
    "subscribe": "spBv1.0/{group}/{_}/{node}/{device}",
    "publish": "genre/{node}/{device}",
    "partial": "merge",
    "content_type": sparkplug.CONTENT_TYPE,
    "fields": {name: f"Inputs/{name}" for name in ROCK},
}
OUT, ERROR = "genre/plc/oven", "genre/plc/oven/error"
SESSION = encoded({"name": "bdSeq", "datatype": 8, "long_value": 0})
DEATH = "spBv1.0/plant/NDEATH/plc"
BIRTH = encoded(
    *(
        {"name": f"Inputs/{name}", "alias": alias, "datatype": 10, "double_value": value}
        for alias, (name, value) in enumerate(ROCK.items())
    )
)
DATA = encoded(*({"alias": alias, "double_value": HIP_HOP[name]} for alias, name in enumerate(ROCK)))


@PROTOCOLS
def test_an_edge_node_is_born_reports_and_dies(
    server: Mosquitto, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    client.subscribe("genre/#", STATE, DEATH)
    stack.enter_context(RunningAgent(server.port, mqtt={"protocol": protocol}, route=[ROUTE]))
    client.wait_for_payload(STATE, "online")
    plc = connect(server, will=(DEATH, SESSION))
    plc.publish("spBv1.0/plant/NBIRTH/plc", SESSION, qos=0)
    plc.publish("spBv1.0/plant/DBIRTH/plc/oven", BIRTH, qos=0)
    plc.publish("spBv1.0/plant/DDATA/plc/oven", DATA, qos=0)
    assert [one.topic for one in client.messages(2, "genre/#")] == [OUT, OUT]
    assert client.wait_for(lambda one: b'"Hip-Hop","confidence"' in one.payload).topic == OUT
    plc.drop()
    client.message(DEATH)
    # The broker sent the will to the agent first or just then; data behind it find no birth.
    client.publish("spBv1.0/plant/DDATA/plc/oven", DATA, qos=0)
    assert client.json(ERROR)["detail"][0]["type"] == "birth_missing"


@PROTOCOLS
def test_what_the_broker_sends_for_each_of_two_subscriptions_is_no_gap(
    server: Mosquitto, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    """With MQTT 5, Mosquitto sends messages of nodes twice: to the devices' route of one group, and to the nodes' of all."""
    devices = {**ROUTE, "subscribe": "spBv1.0/plant/{_}/{node}/{device}"}
    nodes = {**ROUTE, "subscribe": "spBv1.0/{group}/{_}/{node}", "publish": "node/{node}"}
    client = connect(server)
    client.subscribe("genre/#", STATE)
    stack.enter_context(RunningAgent(server.port, mqtt={"protocol": protocol}, route=[devices, nodes]))
    client.wait_for_payload(STATE, "online")
    plc = connect(server)
    plc.publish("spBv1.0/plant/NBIRTH/plc", encoded(seq=0), qos=0)
    plc.publish("spBv1.0/plant/DBIRTH/plc/oven", _numbered(BIRTH, 1), qos=0)
    for number, row in ((2, HIP_HOP), (4, ROCK), (6, HIP_HOP)):
        data = encoded(*({"alias": alias, "double_value": row[name]} for alias, name in enumerate(ROCK)))
        plc.publish("spBv1.0/plant/NDATA/plc", encoded({"name": "Uptime", "int_value": number}, seq=number), qos=0)
        plc.publish("spBv1.0/plant/DDATA/plc/oven", _numbered(data, number + 1), qos=0)
    assert [one.topic for one in client.messages(4, "genre/#")] == [OUT] * 4


def _numbered(payload: bytes, seq: int) -> bytes:
    """Fields of protobuf may be joined."""
    return payload + encoded(seq=seq)
