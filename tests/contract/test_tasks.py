"""From a table to the answer on MQTT: models that answer a number, several, or whether something is an anomaly."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="needs the extra `convert`")
pytest.importorskip("skl2onnx", reason="needs the extra `convert`")

from edge_agent.contract.answers import Detection, Estimate, Estimates
from edge_agent.contract.messages import Info, validator
from tests.brokers import Mosquitto
from tests.contract.agents import INFO, STATE, RunningAgent
from tests.contract.client import Client
from tests.contract.conftest import Connect
from tests.training import train, write_room


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_room(tmp_path / "room.csv")


def serve(stack: ExitStack, server: Mosquitto, client: Client, model: Path) -> RunningAgent:
    route = {"model": model.stem, "subscribe": "room/{name}/features", "publish": "room/{name}/answer"}
    agent = stack.enter_context(RunningAgent(server.port, route=[route], models={"directory": str(model.parent)}))
    client.subscribe("room/+/answer", "room/+/answer/error", STATE, INFO)
    client.wait_for_payload(STATE, "online")
    return agent


def ask(client: Client, **features: float) -> Any:
    client.publish("room/kitchen/features", {**features, "id": 7})
    return client.json("room/kitchen/answer")


def test_a_number_with_its_unit(
    server: Mosquitto, connect: Connect, stack: ExitStack, table: Path, tmp_path: Path
) -> None:
    model = train(table, tmp_path / "indoor.onnx", "--target", "indoor", "--unit", "°C", "--drop", "power")
    client = connect(server)
    serve(stack, server, client, model)
    answer = ask(client, outdoor=10.0, hour=12)
    validator(Estimate).validate_python(answer)
    assert answer.pop("value") == pytest.approx(19.5, abs=0.5)
    assert answer == {"unit": "°C", "model": "indoor", "version": "1.0.0", "id": 7}
    info = validator(Info).validate_python(client.json(INFO))
    assert (info["models"][0]["task"], info["models"][0]["outputs"]) == (
        "regression",
        [{"name": "indoor", "unit": "°C"}],
    )


def test_several_numbers(server: Mosquitto, connect: Connect, stack: ExitStack, table: Path, tmp_path: Path) -> None:
    model = train(table, tmp_path / "both.onnx", "--target", "indoor", "--target", "power", "--estimator", "forest")
    client = connect(server)
    serve(stack, server, client, model)
    answer = ask(client, outdoor=10.0, hour=12)
    validator(Estimates).validate_python(answer)
    assert answer["values"] == {"indoor": pytest.approx(19.5, abs=0.5), "power": pytest.approx(1400, abs=100)}


def test_an_anomaly_with_its_score(
    server: Mosquitto, connect: Connect, stack: ExitStack, table: Path, tmp_path: Path
) -> None:
    model = train(table, tmp_path / "odd.onnx", "--task", "anomaly", "--contamination", "0.02")
    client = connect(server)
    serve(stack, server, client, model)
    answer = ask(client, outdoor=10.0, hour=12, indoor=19.5, power=1400)
    validator(Detection).validate_python(answer)
    assert answer["label"] == "normal"
    client.forget()
    odd = ask(client, outdoor=29.0, hour=23, indoor=18.0, power=2600)
    assert (odd["label"], odd["score"] > answer["score"]) == ("anomaly", True)
