"""A new model whose agent is killed again and again while it is watched goes back by itself; one whose agent is restarted is watched on."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from tests.channel import Channel, following
from tests.contract.client import Client
from tests.e2e.conftest import Agent
from tests.versions import version

STATE: Final = "edge/node/state"
MODEL: Final = "edge/node/model/genre"


def test_a_model_that_ends_the_agent_goes_back_and_a_restart_goes_on(
    agent: Agent, client: Client, tmp_path: Path
) -> None:
    def start() -> None:
        agent.start(**following(tmp_path / "models"))

    def wait(state: str) -> dict[str, Any]:
        found = client.wait_for(lambda one: one.topic == MODEL and f'"state":"{state}"'.encode() in one.payload)
        return dict(json.loads(found.payload))

    start()
    client.subscribe(STATE, MODEL)
    client.wait_for_payload(STATE, "online")
    Channel(client).push(version("1.1.0"), soak_seconds=3600)
    assert wait("committed")["installed_version"] == "1.1.0"
    for how, state in (
        (signal.SIGTERM, "committed"),
        (signal.SIGKILL, "committed"),
        (signal.SIGABRT, "committed"),
        (signal.SIGKILL, "rolled_back"),
    ):
        agent.stop(how)
        client.forget()
        start()
        said = wait(state)
        assert said["installed_version"] == ("1.1.0" if state == "committed" else "1.0.0")
    assert said["reason"] == "the agent ended 3 times while it was watched"
