"""The agent on every kind of broker that is installed: what matters, the same on each.

docs/brokers.md shows the outcome (`python -m tests.brokers_page`); `shown` gives a test its row there. What a broker lacks
(`tests.every_broker`) is the reason, by name, why a test is skipped on it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from click.testing import CliRunner

from edge_agent.cli.main import cli
from tests.brokers import HOST
from tests.contract.agents import Relay, RunningAgent, wait_until
from tests.contract.client import Client
from tests.contract.conftest import Connect
from tests.contract.probes import PROBES, probe
from tests.e2e.tracks import IMPOSSIBLE, ROCK
from tests.every_broker import Ability, EveryBroker
from tests.patience import DEADLINE, fair

PROTOCOLS: Final = {"5": Ability.MQTT_5, "3.1.1": Ability.MQTT_311}


def shown(row: str) -> pytest.MarkDecorator:
    return pytest.mark.shown(row)


def needs(broker: EveryBroker, *abilities: Ability) -> None:
    """Skip the test where the broker lacks one of them."""
    for ability in abilities:
        if ability not in broker.abilities:
            pytest.skip(f"{broker.title} lacks: {ability.value}")


class Place(NamedTuple):
    """A node and topics that nobody else on the broker has."""

    broker: EveryBroker
    name: str

    @property
    def newest(self) -> str:
        return "5" if Ability.MQTT_5 in self.broker.abilities else "3.1.1"

    @property
    def state(self) -> str:
        return f"edge/{self.name}/state"

    @property
    def asked(self) -> str:
        return f"{self.name}/hall/features"

    @property
    def answered(self) -> str:
        return f"{self.name}/hall/genre"

    def settings(self, node: str | None = None, **route: Any) -> dict[str, Any]:
        subscribe, publish = f"{self.name}/{{sensor}}/features", f"{self.name}/{{sensor}}/genre"
        return {
            "node": {"id": node or self.name},
            "route": [{"subscribe": subscribe, "publish": publish, **route}],
        }

    def agent(self, port: int | None = None, *, mqtt: dict[str, Any] | None = None, **settings: Any) -> RunningAgent:
        """An agent, in the newest protocol of the broker unless told otherwise."""
        mqtt = {"protocol": self.newest, **(mqtt or {})}
        return RunningAgent(port or self.broker.port, mqtt=mqtt, **(settings or self.settings()))


@pytest.fixture
def place(each: EveryBroker) -> Place:
    return Place(each, f"node-{uuid.uuid4().hex[:8]}")


def subscribe_until(client: Client, filters: Sequence[str], found: Callable[[], bool]) -> None:
    """Subscribe, and again where what is retained did not come: brokers keep it a moment after they have confirmed it."""
    ends = time.monotonic() + DEADLINE
    while True:
        client.subscribe(*filters)
        try:
            wait_until(found, f"what is retained on {filters}", min(2.0, max(0.0, ends - time.monotonic())))
        except TimeoutError:
            if time.monotonic() < ends:
                continue
            raise
        return


def watch(client: Client, place: Place) -> Client:
    """Return when the agent is there."""
    # By name: not every broker has what it retains for a wildcard.
    own = [f"edge/{place.name}/{last}" for last in ("state", "info", "response/info")]
    subscribe_until(
        client,
        [*own, f"{place.name}/+/genre/#"],
        lambda: (
            b"online" in [bytes(message.payload) for message in client.seen(place.state)] and bool(client.seen(own[1]))
        ),
    )
    return client


def ids(client: Client, place: Place) -> list[int]:
    return [json.loads(message.payload)["id"] for message in client.seen(place.answered)]


def ask(client: Client, place: Place, numbers: range) -> None:
    for number in numbers:
        client.publish(place.asked, {**ROCK, "id": number}, wait=False)


@pytest.mark.parametrize("ability", list(Ability), ids=lambda ability: ability.name.lower())
def test_a_broker_can_what_is_said_of_it_and_nothing_more(each: EveryBroker, ability: Ability) -> None:
    with probe(each) as trying:
        assert PROBES[ability](trying) == (ability in each.abilities)


@shown("a message is answered or rejected at QoS 1")
@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_message_is_answered_or_rejected(place: Place, connect: Connect, protocol: str) -> None:
    needs(place.broker, PROTOCOLS[protocol])
    with place.agent(mqtt={"protocol": protocol}):
        client = watch(connect(place.broker), place)
        client.publish(place.asked, {**ROCK, "id": 1})
        answer = client.message(place.answered)
        assert (json.loads(answer.payload)["label"], answer.qos, answer.retain) == ("Rock", 1, False)
        client.publish(place.asked, {**IMPOSSIBLE, "id": 2})
        client.publish(place.asked, b"\xff\x00")
        errors = client.messages(2, f"{place.answered}/error")
        kinds = [json.loads(message.payload)["error"] for message in errors]
        assert kinds == ["invalid_features", "malformed_payload"]


@shown("a message is answered at QoS 0")
def test_a_message_is_answered_at_qos_0(place: Place, connect: Connect) -> None:
    with place.agent():
        client = watch(connect(place.broker), place)
        client.publish(place.asked, {**ROCK, "id": 1}, qos=0)
        # Where the broker hands everything out at the QoS of the subscription, it came to the agent at QoS 1.
        assert client.message(place.answered).qos == (0 if Ability.QOS_0 in place.broker.abilities else 1)


@shown('`protocol = "auto"` finds the version')
def test_auto_finds_the_version(place: Place, connect: Connect) -> None:
    with place.agent(mqtt={"protocol": "auto", "connect_timeout": min(60.0, fair(0.3))}):
        client = watch(connect(place.broker), place)
        client.publish(f"edge/{place.name}/request/info")
        spoken = client.json(f"edge/{place.name}/response/info")["mqtt"]
    assert spoken == ("5" if Ability.MQTT_5 in place.broker.abilities else "3.1.1")


@shown("300 at once: each is answered once, in order")
def test_each_is_answered_once_and_in_order(place: Place, connect: Connect) -> None:
    needs(place.broker, Ability.BUSY)
    with place.agent():
        client = watch(connect(place.broker), place)
        ask(client, place, range(300))
        client.messages(300, place.answered)
        client.barrier()
        assert ids(client, place) == list(range(300))


@shown("state and info are retained, and the will says `offline`")
def test_state_and_will(place: Place, connect: Connect) -> None:
    needs(place.broker, Ability.RETAIN, Ability.WILL)
    with Relay(place.broker) as relay, place.agent(relay.port) as agent:
        client = watch(connect(place.broker), place)
        late = watch(connect(place.broker), place)
        kept = {message.topic for message in late.seen() if message.retain}
        assert {place.state, f"edge/{place.name}/info"} <= kept
        client.forget()
        relay.hold(lambda packet: packet.up)  # so that it is not back at once
        relay.cut()
        client.wait_for_payload(place.state, "offline")
        latest = connect(place.broker)
        subscribe_until(latest, [place.state], lambda: bool(latest.seen(place.state)))
        assert (latest.message(place.state).payload, latest.message(place.state).retain) == (b"offline", True)
        relay.cut()  # what was held; the other way round there could be two that say `online`
        relay.release()
        client.wait_for_payload(place.state, "online")
        client.forget()
        agent.stop()
        client.wait_for_payload(place.state, "offline")


@shown("it goes on when the broker was away")
def test_it_goes_on_when_the_broker_was_away(place: Place, connect: Connect) -> None:
    with place.agent() as agent:
        watch(connect(place.broker), place)
        place.broker.kill()
        place.broker.start()
        wait_until(lambda: agent.agent.tally.connections == 2, "it connects and subscribes again")
        client = connect(place.broker)
        client.subscribe(place.answered)
        client.publish(place.asked, {**ROCK, "id": 1})
        assert json.loads(client.message(place.answered).payload)["label"] == "Rock"


@shown("what came while it was away is answered")
def test_what_came_while_it_was_away_is_answered(place: Place, connect: Connect) -> None:
    """Also when the broker was restarted meanwhile, where it has a store."""
    needs(place.broker, Ability.SESSION)
    with place.agent():
        watch(connect(place.broker), place)
    sender = connect(place.broker)
    ask(sender, place, range(50))
    sender.barrier()
    if Ability.STORE in place.broker.abilities:
        place.broker.restart()
    client = connect(place.broker)
    client.subscribe(place.answered)
    with place.agent():
        client.messages(50, place.answered)
    assert ids(client, place) == list(range(50))


def configured(place: Place, directory: Path) -> Path:
    """The file with the settings of an agent there."""
    (route,) = place.settings()["route"]
    file = directory / "agent.toml"
    file.write_text(
        f"""[node]
id = "{place.name}"
[mqtt]
host = "{HOST}"
port = {place.broker.port}
protocol = "{place.newest}"
[[route]]
subscribe = "{route["subscribe"]}"
publish = "{route["publish"]}"
"""
    )
    return file


@contextmanager
def process(place: Place, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The agent as a process of its own, for a test that kills it."""
    file = configured(place, directory)
    running = subprocess.Popen([sys.executable, "-m", "edge_agent", "run", "--config", str(file)])
    try:
        yield running
    finally:
        running.kill()
        running.wait(DEADLINE)


@shown("nothing is lost when it is killed")
def test_nothing_is_lost_when_it_is_killed(place: Place, connect: Connect, tmp_path: Path) -> None:
    needs(place.broker, Ability.SESSION, Ability.AGAIN, Ability.BUSY)
    client = connect(place.broker)
    with process(place, tmp_path) as first:
        watch(client, place)
        ask(client, place, range(200))
        client.messages(10, place.answered)
        os.kill(first.pid, signal.SIGKILL)
        client.wait_for_payload(place.state, "offline")
    with process(place, tmp_path):
        client.wait_for(lambda _: set(ids(client, place)) == set(range(200)))


@shown("two agents share (`share`): each message is answered once")
def test_two_agents_share(place: Place, connect: Connect) -> None:
    needs(place.broker, Ability.SHARE)
    client = connect(place.broker)
    nodes = [f"{place.name}-{one}" for one in ("a", "b")]
    with ExitStack() as stack:
        agents = [stack.enter_context(place.agent(**place.settings(node, share="pool"))) for node in nodes]
        client.subscribe(f"{place.name}/+/genre", *(f"edge/{node}/state" for node in nodes))
        for node in nodes:
            client.wait_for_payload(f"edge/{node}/state", "online")
        ask(client, place, range(100))
        client.messages(100, place.answered)
        client.barrier()
        assert Counter(ids(client, place)) == Counter(range(100))
        assert all(agent.agent.tally.received > 0 for agent in agents)


@shown("`edge-agent check` finds nothing to fix")
def test_check(place: Place, tmp_path: Path) -> None:
    file = configured(place, tmp_path)
    result = CliRunner().invoke(cli, ["check", "--config", str(file), "--json"])
    found = [one for one in json.loads(result.output)["findings"] if one["what"] in {"broker", "subscribe", "publish"}]
    assert {one["what"] for one in found} == {"broker", "subscribe", "publish"}
    assert [one for one in found if one["verdict"] == "fail"] == []
    assert [one["verdict"] for one in found if one["what"] == "subscribe"] == ["ok", "ok"]
