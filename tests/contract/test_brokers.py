"""The brokers and the client that the other tests stand on."""

from __future__ import annotations

import socket

import pytest

from tests.brokers import BrokerProcess
from tests.contract.conftest import Connect, MosquittoFactory


def test_a_message_goes_through_at_each_protocol(broker: BrokerProcess, connect: Connect) -> None:
    for protocol in broker.protocols:
        listener = connect(broker, protocol=protocol)
        listener.subscribe("a/+/b", "c")
        sender = connect(broker, protocol=protocol)
        sender.publish("a/1/b", {"x": 1})
        sender.publish("c", b"\x00\xff", qos=0)
        assert listener.json("a/1/b") == {"x": 1}
        assert listener.message("c").payload == b"\x00\xff"
        listener.barrier()
        assert len(listener.seen()) == 2


def test_a_broker_comes_back_on_its_port(broker: BrokerProcess, connect: Connect) -> None:
    broker.kill()
    assert not broker.running
    # Nobody else has got it meanwhile.
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((broker.host, broker.port))
    broker.start()
    connect(broker)


def test_mosquitto_keeps_its_store(mosquitto: MosquittoFactory, connect: Connect) -> None:
    broker = mosquitto(persistence=True, lines=["max_queued_messages 0"])
    connect(broker).publish("kept", "retained", retain=True)
    broker.restart()
    reader = connect(broker)
    reader.subscribe("kept")
    assert reader.message("kept").payload == b"retained"


def test_mosquitto_knows_users_and_lists(mosquitto: MosquittoFactory, connect: Connect) -> None:
    broker = mosquitto(users={"ann": "secret"}, acl="user ann\ntopic readwrite a/#\n")
    with pytest.raises(ConnectionRefusedError):
        connect(broker)
    ann = connect(broker, username="ann", password="secret")  # noqa: S106 - of a broker that lives for this test
    ann.subscribe("a/#", "b/#")
    ann.publish("b/1")
    ann.publish("a/1")
    assert ann.message().topic == "a/1"


def test_properties_of_mqtt_5_arrive(mosquitto: MosquittoFactory, connect: Connect) -> None:
    client = connect(mosquitto())
    client.subscribe("q")
    client.publish("q", b"?", ResponseTopic="r", CorrelationData=b"7", user_properties=[("traceparent", "00-1")])
    assert client.properties("q") == {
        "ResponseTopic": "r",
        "CorrelationData": b"7",
        "UserProperty": [("traceparent", "00-1")],
    }
