"""The agent is killed without warning, again and again, under load: every message is answered all the same."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from paho.mqtt.client import MQTTMessage

from tests.brokers import Mosquitto
from tests.contract.agents import wait_until
from tests.contract.client import Client
from tests.e2e.conftest import Agent
from tests.e2e.tracks import ROCK
from tests.requirements import require_mosquitto

STATE = "edge/node/state"
SENSORS = ("attic", "cellar", "hall")
RATE = 2000  # messages a second
WINDOW = (0.3, 1.0)  # seconds from the agent being online to its end
DEADLINE = 60.0


class Load(threading.Thread):
    """Publishes numbered messages at `RATE`, sensor by sensor, until told to stop."""

    def __init__(self, client: Client) -> None:
        super().__init__(name="load")
        self._client = client
        self._ended = threading.Event()
        self.sent = 0

    def run(self) -> None:
        began = time.monotonic()
        for number in count():
            if self._ended.wait(max(0.0, began + number / RATE - time.monotonic())):
                return
            payload = json.dumps({**ROCK, "id": number})
            self._client.publish(f"music/{SENSORS[number % len(SENSORS)]}/features", payload, wait=False)
            self.sent = number + 1

    def end(self) -> None:
        self._ended.set()
        self.join()


class Answers:
    """Which numbers were answered, how often, and each sensor's in the order of their first answers."""

    def __init__(self, client: Client) -> None:
        self.times = Counter[int]()
        self.first: dict[str, list[int]] = {sensor: [] for sensor in SENSORS}
        client.paho.on_message = self._take
        client.subscribe("music/+/genre")

    def _take(self, _client: object, _data: object, message: MQTTMessage) -> None:
        number = json.loads(message.payload)["id"]
        if number not in self.times:
            self.first[message.topic.split("/")[1]].append(number)
        self.times[number] += 1


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """One that keeps everything for an absent agent; by default it keeps 1,000 messages."""
    require_mosquitto()
    directory = tmp_path / "broker"
    directory.mkdir()
    broker = Mosquitto(directory, lines=["max_queued_messages 0"])
    broker.start()
    yield broker
    broker.stop()


@pytest.mark.parametrize(
    "kills", [5, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(600)])], ids=["short", "full"]
)
def test_every_message_is_answered_though_the_agent_is_killed(agent: Agent, client: Client, kills: int) -> None:
    moments = random.Random(kills)
    client.subscribe(STATE)
    agent.start()
    client.wait_for_payload(STATE, "online")
    with Client(agent.broker.port) as sender, Client(agent.broker.port) as listener:
        answers = Answers(listener)
        load = Load(sender)
        load.start()
        try:
            for _ in range(kills):
                # The moment is what is tested, so it is drawn; nothing is waited for here.
                time.sleep(moments.uniform(*WINDOW))
                client.forget()
                agent.stop(signal.SIGKILL)
                client.wait_for_payload(STATE, "offline")
                agent.start()
                client.wait_for_payload(STATE, "online")
        finally:
            load.end()
        try:
            wait_until(lambda: len(answers.times) >= load.sent, "not all are answered", DEADLINE)
        except TimeoutError:
            missing = sorted(set(range(load.sent)) - set(answers.times))
            pytest.fail(f"{len(missing)} of {load.sent} messages lost, {missing[:20]} among them")
    repeated = answers.times.total() - len(answers.times)
    print(f"{load.sent} messages, {kills} kills: 0 lost, {repeated} answers repeated")  # noqa: T201
    assert load.sent > kills * RATE * WINDOW[0] / 2, "there was not enough of a load"
    for numbers in answers.first.values():
        assert numbers == sorted(numbers)
