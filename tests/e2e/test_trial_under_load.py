"""A candidate that takes a hundred times as long is tried while messages come: its answers wait for nothing, and it is found out.

Prints how long answers took without it, and while it was compared. Time on a clock is not judged.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")
pytest.importorskip("onnx", reason="builds models; needs the extra `convert`")

import onnx

from edge_agent.contract.seal import LENGTH, seal
from tests.bad_models import loop
from tests.brokers import Mosquitto, running
from tests.channel import Channel, following
from tests.contract.client import Client
from tests.e2e.conftest import Agent
from tests.e2e.test_update_under_load import MODEL, STATE, Watched
from tests.requirements import require_mosquitto
from tests.versions import version

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
#: Seconds for which answers are timed.
_TIMED: Final = 5.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    require_mosquitto()
    lines = ["max_queued_messages 0", "max_inflight_messages 0", "log_type none", "log_type error", "log_type warning"]
    with running(Mosquitto(tmp_path / "broker", lines=lines)) as broker:
        yield broker


def slow(number: str) -> bytes:
    """The bundled model as another version, behind a loop that changes nothing."""
    model = onnx.load_from_string(version(number)[:-LENGTH])
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == "features":
                node.input[place] = "asked"
    before = loop(width=8)
    for place, node in enumerate(before):
        model.graph.node.insert(place, node)
    return seal(model.SerializeToString(deterministic=True))


def told(traffic: Watched, since: float, until: float) -> str:
    """How long the answers took that came in a time."""
    took = sorted(1e3 * one for when, one in list(traffic.took) if since <= when <= until)
    return f"p50 {statistics.median(took):.2f} ms, p99 {took[len(took) * 99 // 100]:.2f} ms, longest {took[-1]:.1f} ms"


@pytest.mark.parametrize("rate", [500, 5000])
def test_a_slow_candidate_is_compared_under_load(agent: Agent, client: Client, tmp_path: Path, rate: int) -> None:
    agent.start(**following(tmp_path / "models"))
    client.subscribe(STATE, MODEL)
    client.wait_for_payload(STATE, "online")
    channel = Channel(client)
    with Watched(agent.broker.port, rate, in_vain=agent.in_vain) as traffic:

        def timed() -> str:
            traffic.wait_for_news()
            began = time.monotonic()
            traffic.wait(lambda: time.monotonic() > began + _TIMED, "the clock stands still")
            return told(traffic, began, time.monotonic())

        calm = timed()
        channel.push(slow("1.1.0"), soak_seconds=600, min_agreement=0.98)
        client.wait_for(lambda one: one.topic == MODEL and b'"shadow"' in one.payload)
        compared = timed()
        channel.push(slow("1.2.0"), soak_seconds=600, min_agreement=0.98, max_slower=10)
        found = client.wait_for(lambda one: one.topic == MODEL and b'"rolled_back"' in one.payload)
        said: dict[str, Any] = json.loads(found.payload)
        traffic.finish(f"{rate} a second", at_least=rate)
    print(f"without a candidate: {calm}\nwhile it is compared: {compared}\n{said['reason']}")  # noqa: T201
    assert "max_slower is 10 times" in said["reason"]
    assert {number for answers in traffic.versions.values() for _, number in answers} == {"1.0.0"}
