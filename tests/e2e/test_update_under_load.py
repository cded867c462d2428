"""Models replaced over MQTT while messages come: none lost, each sensor's in order, and no sensor goes back to an old version.

Prints what it counted, and how much later the latest answers came than without an update. Time on a clock is not judged.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from tests.brokers import Mosquitto, running
from tests.channel import Channel, following
from tests.contract.client import Client
from tests.e2e.conftest import Agent
from tests.requirements import require_mosquitto
from tests.traffic import Traffic
from tests.versions import version

STATE: Final = "edge/node/state"
MODEL: Final = "edge/node/model/genre"
VERSIONS: Final = ("1.1.0", "1.2.0", "1.3.0", "1.0.1", "1.4.0")
LONG: Final = (pytest.mark.long, pytest.mark.timeout(900))


class Watched(Traffic):
    """Notes which version answered each question, and how long that took."""

    def __init__(self, port: int, rate: float, *, in_vain: Any) -> None:
        # Where others want the processor too, the backlog must not grow without end.
        super().__init__(port, rate, ahead=rate, in_vain=in_vain)
        self.asked_at: dict[int, float] = {}
        self.took: list[tuple[float, float]] = []
        self.versions: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)

    def _question(self, number: int, *, again: bool = False) -> bytes:
        self.asked_at.setdefault(number, time.monotonic())
        return super()._question(number, again=again)

    def _take(self, sensor: str, answer: dict[str, object]) -> None:
        super()._take(sensor, answer)
        number, now = int(str(answer["id"])), time.monotonic()
        self.took.append((now, now - self.asked_at[number]))
        self.versions[sensor].append((number, str(answer["version"])))

    def latest(self, since: float, until: float) -> float:
        """The longest that an answer took of those that came in a time."""
        return max((took for when, took in list(self.took) if since <= when <= until), default=0.0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    require_mosquitto()
    lines = ["max_queued_messages 0", "log_type none", "log_type error", "log_type warning"]
    with running(Mosquitto(tmp_path / "broker", lines=lines)) as broker:
        yield broker


def installed(client: Client, number: str) -> None:
    def is_it(message: Any) -> bool:
        if message.topic != MODEL or not message.payload:
            return False
        said = json.loads(message.payload)
        assert said["state"] not in {"refused", "rolled_back"}, said
        return bool(said["state"] == "idle" and said["installed_version"] == number)

    client.wait_for(is_it)


@pytest.mark.parametrize(
    ("rate", "swaps"), [pytest.param(500, 2, id="short"), pytest.param(5000, 5, marks=LONG, id="full")]
)
def test_models_are_replaced_under_load(agent: Agent, client: Client, tmp_path: Path, rate: int, swaps: int) -> None:
    agent.start(**following(tmp_path / "models"))
    client.subscribe(STATE, MODEL)
    client.wait_for_payload(STATE, "online")
    channel = Channel(client)
    with Watched(agent.broker.port, rate, in_vain=agent.in_vain) as traffic:
        traffic.wait_for_news()
        began = time.monotonic()
        traffic.wait(lambda: traffic.sent > 4 * rate, "no traffic")
        calm = traffic.latest(began, time.monotonic())
        latest = []
        for number in VERSIONS[:swaps]:
            began = time.monotonic()
            channel.push(version(number))
            installed(client, number)
            traffic.wait_for_news()
            latest.append(traffic.latest(began, time.monotonic()))
        traffic.finish(f"{swaps} swaps", at_least=rate)
    told = ", ".join(f"{1e3 * one:.0f}" for one in latest)
    print(f"longest answer: {1e3 * calm:.0f} ms without an update; with one: {told} ms")  # noqa: T201
    order = ["1.0.0", *VERSIONS[:swaps]]
    for sensor, answers in traffic.versions.items():
        places = [order.index(answered) for _, answered in answers]
        assert places == sorted(places), f"{sensor} went back to an older version"
        assert places[-1] == swaps
    client.subscribe("edge/node/response/status")
    client.publish("edge/node/request/status")
    status = client.json("edge/node/response/status")
    assert (status["faults"], status["poisoned"]) == (0, 0)
    # Mosquitto 2.0 lets out more than Receive Maximum of a long queue, which the agent leaves to it by connecting again.
    if "reconnecting for the rest" not in agent.log():
        assert status["connections"] == 1
