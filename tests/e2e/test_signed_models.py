"""The installed agent and a channel that strangers may publish to: what is signed is served, and cryptography is never in its memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from edge_agent.contract import topics
from tests.channel import MANIFEST, Channel, following, release
from tests.contract.client import Client
from tests.e2e.conftest import Agent
from tests.e2e.tracks import ROCK
from tests.trusted import ANN, BEN, CHANNEL, EVE, ISSUED, envelope, key_envelope, key_list
from tests.versions import version

MODEL = "edge/node/model/genre"


def state(client: Client, **wanted: str) -> None:
    """Wait until the model is said to be like that; of the reason a part."""

    def is_it(message: Any) -> bool:
        said = json.loads(message.payload) if message.topic == MODEL and message.payload else {}
        return bool(said) and all(value in (said[name] or "") for name, value in wanted.items())

    client.wait_for(is_it)


def serves(client: Client, number: str) -> bool:
    client.forget()
    client.publish("music/hall/features", json.dumps(ROCK))
    return bool(client.json("music/hall/genre")["version"] == number)


def has_cryptography(agent: Agent) -> bool:
    """Whether it is in the memory of the process: its library is mapped by the one that imports it."""
    assert agent.process is not None
    maps = Path(f"/proc/{agent.process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    return "cryptography" in maps or "_cffi_backend" in maps


def test_only_what_is_signed_is_served(agent: Agent, client: Client, tmp_path: Path) -> None:
    client.subscribe("edge/node/state", MODEL, "music/+/genre/#")
    agent.start(**following(tmp_path / "models"), EDGE_AGENT_MODELS__REQUIRE_SIGNATURE="true")
    client.wait_for_payload("edge/node/state", "online")
    channel = Channel(client)

    # Arbitrary installation: a stranger's manifest, for a file that is there.
    channel.push(version("6.6.6"), keys=[EVE])
    state(client, state="refused", reason="which is not trusted here")
    assert serves(client, "1.0.0")

    # Signed, and installed while it serves.
    channel.push(version("1.1.0"), serial=ISSUED + 100)
    state(client, state="idle", installed_version="1.1.0")
    assert serves(client, "1.1.0")

    # Rollback: what was rightly signed once, with a lower serial.
    client.publish(MANIFEST, envelope(release(version("1.0.1"), serial=ISSUED + 99)), retain=True)
    state(client, state="refused", reason=f"serial {ISSUED + 99} is below {ISSUED + 100}")
    assert serves(client, "1.1.0")

    # Another key takes over; the one before signs nothing any more.
    client.publish(topics.keys(CHANNEL), key_envelope(key_list(BEN), ANN), retain=True)
    channel.push(version("1.2.0"), serial=ISSUED + 101, keys=[BEN])
    state(client, state="idle", installed_version="1.2.0")
    assert serves(client, "1.2.0")
    client.publish(MANIFEST, envelope(release(version("1.3.0"), serial=ISSUED + 102)), retain=True)
    state(client, state="refused", reason="which is not trusted here")

    assert not has_cryptography(agent)
    assert agent.stop() == 0

    # What lies on the disk says who signed it: it is served after a restart, too.
    client.forget()
    agent.start(**following(tmp_path / "models"), EDGE_AGENT_MODELS__REQUIRE_SIGNATURE="true")
    client.wait_for_payload("edge/node/state", "online")
    assert serves(client, "1.2.0")
    assert not has_cryptography(agent)
