"""Agent, broker and line fail in every way, again and again, under load: every message is answered all the same.

Each test prints what it counted. A message may be answered more than once, never not at all, and the first answers of
each sensor come in the order of its messages.
"""

from __future__ import annotations

import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import wire
from tests.blame import OURS, Record
from tests.brokers import HOST, Mosquitto, running
from tests.contract.agents import Relay, wait_until
from tests.contract.client import Client
from tests.e2e.conftest import Agent
from tests.line import Line, shares
from tests.patience import DEADLINE
from tests.requirements import require_mosquitto
from tests.traffic import Traffic

STATE: Final = "edge/node/state"
#: Messages a second: for the agent that is killed, and for the rest.
RATE: Final = 2000
EASY: Final = 400
WINDOW: Final = (0.3, 1.0)  # seconds from one blow to the next
#: It keeps everything for an absent agent, by default 1,000 messages, and says only what went wrong.
LINES: Final = ("max_queued_messages 0", "log_type none", "log_type error", "log_type warning")
#: Mosquitto writes its store when this many things have changed since the last time.
SAVED_CHANGES: Final = 100
IMPATIENT: Final = {"EDGE_AGENT_MQTT__KEEPALIVE": "5", "EDGE_AGENT_MQTT__MAX_BACKOFF": "1"}


LONG: Final = (pytest.mark.long, pytest.mark.timeout(900))


def times(short: int, full: int) -> pytest.MarkDecorator:
    """How often it happens, in the short form and in full."""
    forms = [pytest.param(short, id="short"), pytest.param(full, marks=LONG, id="full")]
    return pytest.mark.parametrize("blows", forms)


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mosquitto]:
    """With a store; a test's parameter are lines to add to the configuration."""
    require_mosquitto()
    with running(
        Mosquitto(tmp_path / "broker", lines=[*LINES, *getattr(request, "param", ())], persistence=True)
    ) as broker:
        yield broker


def pause(moments: random.Random) -> None:
    """The moment is what is tested, so it is drawn; nothing is waited for here."""
    time.sleep(moments.uniform(*WINDOW))


def suspects_nobody(agent: Agent) -> None:
    """Fail when an input was taken for one that ends the connection, or something went wrong that should not."""
    with Client(agent.broker.port) as client:
        client.subscribe("edge/node/response/status")
        client.publish("edge/node/request/status")
        status = client.json("edge/node/response/status")
    assert (status["poisoned"], status["faults"]) == (0, 0)


def start(agent: Agent, client: Client, line: Line | None = None) -> None:
    """Start the agent, through a line when there is one, and return when it is online."""
    client.subscribe(STATE)
    agent.start(**IMPATIENT, **({} if line is None else {"EDGE_AGENT_MQTT__PORT": str(line.port)}))
    client.wait_for_payload(STATE, "online")


@times(5, 50)
def test_the_agent_is_killed(agent: Agent, client: Client, blows: int) -> None:
    moments = random.Random(blows)
    start(agent, client)
    # Where starting takes long, the queue must not grow from one kill to the next.
    with Traffic(agent.broker.port, RATE, ahead=4 * RATE, in_vain=agent.in_vain) as traffic:
        for _ in range(blows):
            pause(moments)
            client.forget()
            agent.stop(signal.SIGKILL)
            client.wait_for_payload(STATE, "offline")
            agent.start()
            client.wait_for_payload(STATE, "online")
        traffic.finish(f"agent killed {blows} times", at_least=int(blows * RATE * WINDOW[0] / 2))


@times(2, 50)
def test_the_broker_is_restarted(agent: Agent, client: Client, blows: int) -> None:
    """On SIGTERM Mosquitto writes its store, so what it has confirmed is there again."""
    moments = random.Random(blows)
    start(agent, client)
    with Traffic(agent.broker.port, EASY, in_vain=agent.in_vain) as traffic:
        for _ in range(blows):
            pause(moments)
            agent.broker.restart()
            traffic.wait_for_news()
        traffic.finish(f"broker restarted {blows} times", at_least=int(blows * EASY * WINDOW[0] / 2))
    suspects_nobody(agent)


@times(2, 50)
@pytest.mark.parametrize(
    "broker", [("autosave_on_changes true", f"autosave_interval {SAVED_CHANGES}")], ids=["autosave"], indirect=True
)
def test_the_broker_is_killed(agent: Agent, client: Client, blows: int) -> None:
    """Mosquitto 2 confirms a message when it has it in memory, and writes the store afterwards: the whole of it at the
    end of the round of its loop in which `autosave_interval` changes have come together. A kill takes it back to the
    last store. That is sound in itself: inputs taken back are not acknowledged, answers taken back belong to inputs
    that are not acknowledged either, so the agent answers again. But whoever published since then holds a
    confirmation that is worth nothing, and has to publish again: the traffic does so with its last ones, more than can
    have changed since the store was written.
    """
    moments = random.Random(blows)
    start(agent, client)
    # Not far ahead: the broker writes all that is queued, again and again.
    traffic = Traffic(agent.broker.port, EASY, doubt=10 * SAVED_CHANGES, ahead=1000, in_vain=agent.in_vain)
    with traffic:
        for _ in range(blows):
            pause(moments)
            agent.broker.kill()
            agent.broker.start()
            traffic.wait_for_news()
        traffic.finish(f"broker killed {blows} times", at_least=int(blows * EASY * WINDOW[0] / 2))
    suspects_nobody(agent)


@times(6, 50)
@pytest.mark.parametrize("how", ["restarted", "killed"])
@pytest.mark.parametrize(
    "broker", [("autosave_on_changes true", f"autosave_interval {SAVED_CHANGES}")], ids=["autosave"], indirect=True
)
def test_the_broker_ends_before_anything_is_settled(agent: Agent, client: Client, blows: int, how: str) -> None:
    """Again and again while the agent is at the same messages: that must not look as if those did it. A broker that is
    killed before it has written anything loses what was asked, so then it is only what is asked afterwards that counts.
    """
    moments = random.Random(blows)
    start(agent, client)
    # Not far ahead, for the same reason.
    with Traffic(agent.broker.port, EASY, ahead=EASY, in_vain=agent.in_vain) as traffic:
        for _ in range(blows):
            connections = agent.log().count("; serving ")
            if how == "killed":
                agent.broker.kill()
            else:
                agent.broker.stop()
            agent.broker.start()
            wait_until(lambda before=connections: agent.log().count("; serving ") > before, "it does not come back")  # type: ignore[misc]
            time.sleep(moments.uniform(0, 0.05))
        if how == "killed":
            traffic.wait_for_news()
        else:
            traffic.finish(f"broker {how} {blows} times in a row", at_least=EASY)
    suspects_nobody(agent)


@times(3, 10)
@pytest.mark.parametrize(
    "broker",
    [
        pytest.param(("autosave_on_changes true", f"autosave_interval {SAVED_CHANGES}"), id="saved by changes"),
        pytest.param(("autosave_interval 1",), id="saved every second"),
    ],
    indirect=True,
)
def test_what_a_killed_broker_loses_is_not_the_agents_loss(agent: Agent, client: Client, blows: int) -> None:
    """Nobody publishes again here what the broker has confirmed, so a kill may cost messages; a relay before the agent
    sees whose loss each is."""
    moments = random.Random(blows)
    with Relay(agent.broker) as relay:
        client.subscribe(STATE)
        agent.start(**IMPATIENT, EDGE_AGENT_MQTT__PORT=str(relay.port))
        client.wait_for_payload(STATE, "online")
        with Traffic(agent.broker.port, EASY, ahead=1000, in_vain=agent.in_vain) as traffic:
            for _ in range(blows):
                pause(moments)
                agent.broker.kill()
                agent.broker.start()
                traffic.wait_for_news()
            lost = traffic.lost("what came after the last kill is not answered")
        record = Record(relay.log())
    fates = Counter(record.fate(number) for number in lost)
    told = "".join(f"; {count} {fate}" for fate, count in fates.items())
    print(f"broker killed {blows} times: {traffic}, {len(lost)} lost{told}")  # noqa: T201
    assert record.sent.keys() >= set(traffic.times)
    # Lost or not.
    assert not record.too_early
    assert not OURS & fates.keys()


@times(3, 10)
def test_the_line_is_cut_within_a_packet(agent: Agent, client: Client, blows: int) -> None:
    moments = random.Random(blows)
    with Line(agent.broker.port) as line:
        start(agent, client, line)
        with Traffic(agent.broker.port, EASY, in_vain=agent.in_vain) as traffic:
            for number, share in enumerate(shares(blows, blows)):
                pause(moments)
                line.cut(up=number % 2 == 0, share=share)
                line.wait_for_another()
                traffic.wait_for_news()
            traffic.finish(f"line cut {blows} times", at_least=int(blows * EASY * WINDOW[0] / 2))
        assert line.connections > blows


@pytest.mark.parametrize(
    ("ways", "blows"),
    [
        pytest.param((True, False), 1, id="both ways-short"),
        pytest.param((True,), 10, marks=LONG, id="up-full"),
        pytest.param((False,), 10, marks=LONG, id="down-full"),
    ],
)
def test_the_line_stalls_within_a_packet(agent: Agent, client: Client, ways: tuple[bool, ...], blows: int) -> None:
    """Nothing says so: it is the keep-alive, 5 s here, that ends the connection, on either side."""
    with Line(agent.broker.port) as line:
        start(agent, client, line)
        with Traffic(agent.broker.port, EASY, in_vain=agent.in_vain) as traffic:
            for share in shares(blows, blows):
                for up in ways:
                    line.stall(up=up, share=share)
                line.wait_for_another()
                traffic.wait_for_news()
            way = " and ".join("to" if up else "from" for up in ways)
            traffic.finish(f"line {way} the broker stalled {blows} times", at_least=blows * EASY)
        assert line.connections > blows


@times(3, 60)
def test_the_broker_is_slow(agent: Agent, client: Client, blows: int) -> None:
    """`blows` is how many seconds: far fewer bytes pass in them than are asked for."""
    with Line(agent.broker.port) as line:
        start(agent, client, line)
        with Traffic(agent.broker.port, EASY, in_vain=agent.in_vain) as traffic:
            traffic.wait_for_news()
            before = agent.memory()
            line.slow(1000)
            time.sleep(blows)
            grown = agent.memory().growth(before)
            line.slow(None)
            traffic.finish(f"slow line for {blows} s, {line.connections} connections", at_least=blows * EASY // 2)
    print(f"memory grew by {grown >> 10} KiB")  # noqa: T201
    assert grown < 5 << 20


@times(1, 10)
def test_the_broker_is_away_at_start(agent: Agent, client: Client, blows: int) -> None:
    """What waits in the session is answered once the broker is back."""
    start(agent, client)
    with Traffic(agent.broker.port, EASY, in_vain=agent.in_vain) as traffic:
        for number in range(blows):
            traffic.wait_for_news()
            assert agent.stop() == 0
            asked = traffic.sent
            wait_until(lambda asked=asked: traffic.sent >= asked + 200, "no questions while the agent is away")  # type: ignore[misc]
            agent.broker.stop()
            agent.start(**IMPATIENT)
            wait_until(lambda number=number: agent.log().count("Connection refused") > number, "not told")  # type: ignore[misc]
            agent.broker.start()
            traffic.wait_for_news()
        traffic.finish(f"agent started {blows} times before its broker", at_least=200 * blows)


@times(2, 10)
def test_another_client_has_the_same_id(agent: Agent, client: Client, blows: int) -> None:
    """It takes the session over, and the messages in it, acknowledges none, and goes away without a word."""
    moments = random.Random(blows)
    session_expiry = b"\x11" + (3600).to_bytes(4)
    rival = wire.connect("edge-agent-node", level=5, clean=False, properties=session_expiry)
    start(agent, client)
    with Traffic(agent.broker.port, EASY, in_vain=agent.in_vain) as traffic:
        for _ in range(blows):
            pause(moments)
            with socket.create_connection((HOST, agent.broker.port), DEADLINE) as sock:
                sock.sendall(rival)
                taken = bytearray()
                while not any(packet.kind == wire.PUBLISH for packet in wire.take(taken)):
                    taken += sock.recv(wire.CHUNK)
            traffic.wait_for_news()
        traffic.finish(f"session taken over {blows} times", at_least=int(blows * EASY * WINDOW[0] / 2))
