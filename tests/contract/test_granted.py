"""The agent on brokers that say in CONNACK what they do not have, and on those that end the connection instead."""

from __future__ import annotations

import logging

import pytest

from tests.contract.agents import STATE, RunningAgent
from tests.contract.scripted import ScriptedBroker, count_filters

#: Flags of a CONNECT, and the properties of a CONNACK (MQTT 5, 3.1.2.3 and 3.2.2.3).
WILL_RETAIN, WILL_QOS = 0x20, 0x18
NO_RETAIN, NO_QOS = b"\x25\0", b"\x24\0"
SUBSCRIBE, PUBLISH = 0x80, 0x30


def silent(_: int) -> bytes:
    return b""


def states(broker: ScriptedBroker) -> list[tuple[int, bool]]:
    """QoS and retain of each state that the broker took."""
    return [(one.qos, one.retained) for one in list(broker.published) if one.topic == STATE]


def test_a_broker_without_retained_messages() -> None:
    def connack(flags: int) -> tuple[int, bytes]:
        return (0x9A, b"") if flags & WILL_RETAIN else (0, NO_RETAIN)

    with ScriptedBroker(silent, connack=connack) as broker, RunningAgent(broker.port):
        broker.wait(lambda: bool(states(broker)), "it does not say that it is there")
        assert states(broker) == [(1, False)]
        assert broker.connections == 2, "the will is left as it is but for the flag, at once"
        assert broker.connect[7] & WILL_QOS


def test_a_broker_of_qos_0(caplog: pytest.LogCaptureFixture) -> None:
    def connack(flags: int) -> tuple[int, bytes]:
        return (0x9B, b"") if flags & WILL_QOS else (0, NO_QOS)

    with (
        caplog.at_level(logging.WARNING),
        ScriptedBroker(silent, connack=connack, grants=lambda _: 0) as broker,
        RunningAgent(broker.port),
    ):
        broker.wait(lambda: bool(states(broker)), "it does not say that it is there")
        assert states(broker) == [(0, True)]
        assert broker.connect[7] & WILL_RETAIN
    assert "no more than QoS 0" in caplog.text


def test_a_broker_that_hangs_up_on_retained_messages_is_found_out() -> None:
    def hangs_up(first: int, _: bytes) -> bool:
        return first & 0xF0 == PUBLISH and bool(first & 1)

    with ScriptedBroker(silent, hangs_up=hangs_up) as broker, RunningAgent(broker.port):
        broker.wait(lambda: bool(states(broker)), "it does not find out")
        assert states(broker) == [(1, False)]
        assert broker.connections == 3


def test_told_that_there_are_none_it_does_not_try() -> None:
    def hangs_up(first: int, body: bytes) -> bool:
        return (first == 0x10 and bool(body[7] & WILL_RETAIN)) or (first & 0xF0 == PUBLISH and bool(first & 1))

    with ScriptedBroker(silent, hangs_up=hangs_up) as broker, RunningAgent(broker.port, mqtt={"retain": False}):
        broker.wait(lambda: bool(states(broker)), "it does not say that it is there")
        assert broker.connections == 1


def test_a_broker_that_hangs_up_on_a_will() -> None:
    def hangs_up(first: int, body: bytes) -> bool:
        return first == 0x10 and bool(body[7] & WILL_RETAIN)

    with ScriptedBroker(silent, hangs_up=hangs_up) as broker, RunningAgent(broker.port, mqtt={"protocol": "5"}):
        broker.wait(lambda: bool(states(broker)), "it does not find out")
        assert states(broker) == [(1, True)], "what holds for the will need not hold for messages"
        assert broker.connections == 2


def test_a_broker_that_hangs_up_on_the_ninth_filter() -> None:
    def hangs_up(first: int, body: bytes) -> bool:
        return first & 0xF0 == SUBSCRIBE and count_filters(body) > 8

    route = [{"subscribe": f"r{n}/{{s}}/in", "publish": f"r{n}/{{s}}/out"} for n in range(20)]
    with ScriptedBroker(silent, hangs_up=hangs_up) as broker, RunningAgent(broker.port, route=route):
        broker.wait(lambda: bool(states(broker)), "it is not let in")
        assert (broker.connections, broker.subscribed) == (1, 3)
