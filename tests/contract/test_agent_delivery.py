"""Each message gets one reply, and is acknowledged only after the broker confirms the reply: packet by packet.

A relay between agent and broker keeps a list of the packets, and holds some of them back.
"""

from __future__ import annotations

import json
from contextlib import ExitStack

from tests.brokers import Mosquitto
from tests.contract.agents import INFO, NODE, PROTOCOLS, STATE, Packet, Relay, RunningAgent, wait_until
from tests.contract.client import Client
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import ROCK
from tests.wire import PUBACK, PUBLISH

IN, OUT = "music/hall/features", "music/hall/genre"


def begin(stack: ExitStack, relay: Relay, client: Client, protocol: str, **sections: object) -> RunningAgent:
    """Run an agent behind the relay, until it is online and has nothing under way."""
    agent = stack.enter_context(RunningAgent(relay.port, mqtt={"protocol": protocol}, **sections))
    client.subscribe("music/+/genre", "music/+/genre/error", "other/#", STATE, INFO)
    client.wait_for_payload(STATE, "online")
    relay.wait(lambda: len(packets(relay, up=False, kind=PUBACK)) == 2, "state and info confirmed")
    return agent


def packets(relay: Relay, *, up: bool, kind: int) -> list[Packet]:
    return relay.packets(up=up, kind=kind)


def inputs(relay: Relay) -> list[Packet]:
    return [
        one
        for one in packets(relay, up=False, kind=PUBLISH)
        if one.topic is not None and one.topic.endswith("features")
    ]


def outputs(relay: Relay) -> list[Packet]:
    return [
        one
        for one in packets(relay, up=True, kind=PUBLISH)
        if one.topic is not None and not one.topic.startswith("edge/")
    ]


def send(client: Client, count: int) -> None:
    for number in range(count):
        client.publish(IN, {**ROCK, "id": number})


def answered(client: Client, topic: str = OUT) -> list[int]:
    return [json.loads(message.payload)["id"] for message in client.seen(topic)]


@PROTOCOLS
def test_an_input_is_acknowledged_after_its_answer_is_confirmed(
    server: Mosquitto, relay: Relay, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    agent = begin(stack, relay, client, protocol)
    relay.hold(lambda packet: not packet.up and packet.kind == PUBACK)
    send(client, 5)
    # The answers are with the broker, and even with whoever listens, but the agent does not know it yet.
    client.messages(5, OUT)
    relay.wait(lambda: len(relay._held) == 5, "five confirmations under way")
    assert len(outputs(relay)) == 5
    assert packets(relay, up=True, kind=PUBACK) == []
    assert agent.agent.tally.acknowledged == 0
    relay.release()
    relay.wait(lambda: len(packets(relay, up=True, kind=PUBACK)) == 5, "the inputs acknowledged")
    # In the order of receipt (MQTT 5, 4.6).
    assert [one.id for one in packets(relay, up=True, kind=PUBACK)] == [one.id for one in inputs(relay)]
    log = relay.log()
    confirmed = [log.index(one) for one in log if not one.up and one.kind == PUBACK][2:]
    acknowledged = [log.index(one) for one in log if one.up and one.kind == PUBACK]
    assert all(before < after for before, after in zip(confirmed, acknowledged, strict=True))


@PROTOCOLS
def test_one_unconfirmed_answer_holds_back_what_came_after_it(
    server: Mosquitto, relay: Relay, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    begin(stack, relay, client, protocol)
    held: list[int | None] = []

    def first(packet: Packet) -> bool:
        if packet.up or packet.kind != PUBACK:
            return False
        held.append(packet.id)
        return len(held) == 1

    relay.hold(first)
    send(client, 5)
    relay.wait(lambda: len(held) == 5, "five confirmations")
    # The agent has acted on the last one that went through when it answers what came after it.
    client.subscribe(f"edge/{NODE}/response/ping")
    client.publish(f"edge/{NODE}/request/ping", qos=0)
    client.message(f"edge/{NODE}/response/ping")
    assert packets(relay, up=True, kind=PUBACK) == []
    relay.release()
    relay.wait(lambda: len(packets(relay, up=True, kind=PUBACK)) == 5, "the inputs acknowledged")
    assert [one.id for one in packets(relay, up=True, kind=PUBACK)] == [one.id for one in inputs(relay)]


@PROTOCOLS
def test_every_answer_of_every_route_is_waited_for(
    server: Mosquitto, relay: Relay, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    begin(
        stack,
        relay,
        client,
        protocol,
        route=[{}, {"subscribe": "music/{room}/features", "publish": "other/{room}"}],
    )
    confirmations = []

    def second(packet: Packet) -> bool:
        if packet.up or packet.kind != PUBACK:
            return False
        confirmations.append(packet)
        return len(confirmations) == 2

    relay.hold(second)
    send(client, 1)
    client.message(OUT)
    client.message("other/hall")
    relay.wait(lambda: len(confirmations) == 2, "both confirmations")
    client.subscribe(f"edge/{NODE}/response/ping")
    client.publish(f"edge/{NODE}/request/ping", qos=0)
    client.message(f"edge/{NODE}/response/ping")
    assert packets(relay, up=True, kind=PUBACK) == []
    relay.release()
    relay.wait(lambda: len(packets(relay, up=True, kind=PUBACK)) == 1, "the input acknowledged")


@PROTOCOLS
def test_what_was_not_acknowledged_comes_again_after_the_connection_broke(
    server: Mosquitto, relay: Relay, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    begin(stack, relay, client, protocol)
    relay.hold(lambda packet: not packet.up and packet.kind == PUBACK)
    send(client, 3)
    client.messages(3, OUT)
    relay.wait(lambda: len(relay._held) == 3, "three confirmations under way")
    assert packets(relay, up=True, kind=PUBACK) == []
    relay.hold(lambda _: False)
    relay.cut()
    # The next connection of the same session: the broker sends them again, and they are answered again.
    client.messages(6, OUT)
    relay.wait(lambda: len(packets(relay, up=True, kind=PUBACK)) == 3, "the inputs acknowledged")
    again = [one for one in inputs(relay) if one.connection == 2]
    assert [one.again for one in again] == [True] * 3
    # Nothing of the old connection reaches the new one: each is answered once and acknowledged once on it.
    assert [one.id for one in packets(relay, up=True, kind=PUBACK)] == [one.id for one in again]
    assert len([one for one in outputs(relay) if one.connection == 2]) == 3
    client.barrier()
    assert answered(client) == [0, 1, 2] * 2


@PROTOCOLS
def test_nothing_is_lost_when_the_connection_breaks_again_and_again(
    server: Mosquitto, relay: Relay, connect: Connect, stack: ExitStack, protocol: str
) -> None:
    client = connect(server)
    begin(stack, relay, client, protocol)
    for number in range(200):
        client.publish(IN, {**ROCK, "id": number}, wait=False)
        if number % 100 == 50:
            count = len(outputs(relay))
            relay.wait(lambda count=count: len(outputs(relay)) > count, "an answer")  # type: ignore[misc]
            relay.cut()
    wait_until(lambda: set(answered(client)) == set(range(200)), f"200 answers, not {set(answered(client))}")


def test_the_will_speaks_when_the_connection_breaks(
    server: Mosquitto, relay: Relay, connect: Connect, stack: ExitStack
) -> None:
    client = connect(server)
    begin(stack, relay, client, "5")
    client.forget()
    relay.cut()
    client.messages(2, STATE)
    client.message(INFO)
    # Dropped, the broker speaks; back again, the agent does.
    assert [message.payload for message in client.seen(STATE)][:2] == [b"offline", b"online"]
    late = connect(server)
    late.subscribe(STATE)
    assert late.message(STATE).payload == b"online"


def test_no_more_is_under_way_than_the_broker_takes(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack
) -> None:
    # Mosquitto's max_inflight_messages is the Receive Maximum that it announces to MQTT 5 clients.
    server = mosquitto(lines=["max_inflight_messages 3"])
    relay = stack.enter_context(Relay(server))
    client = connect(server)
    begin(stack, relay, client, "5")
    relay.hold(lambda packet: not packet.up and packet.kind == PUBACK)
    client.publish(IN, [ROCK])
    for number in range(20):
        client.publish(f"edge/{NODE}/request/ping", str(number))
    relay.wait(lambda: len(relay._held) == 3, "three confirmations under way")
    assert len([one for one in packets(relay, up=True, kind=PUBLISH) if one.id is not None]) == 2 + 3
    relay.release()
    relay.wait(lambda: len(packets(relay, up=True, kind=PUBACK)) == 21, "the inputs acknowledged")


def test_messages_wait_for_an_agent_that_is_away(server: Mosquitto, relay: Relay, connect: Connect) -> None:
    client = connect(server)
    with ExitStack() as stack:
        begin(stack, relay, client, "5")
    send(client, 10)
    with ExitStack() as stack:
        stack.enter_context(RunningAgent(relay.port))
        client.messages(10, OUT)
    assert answered(client) == list(range(10))
