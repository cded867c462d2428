"""`edge-agent check` and the channel from which a node takes models: what lies there, and whether it can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from edge_agent.contract import topics
from tests.channel import MANIFEST
from tests.contract.conftest import Connect, MosquittoFactory
from tests.contract.test_check import OPEN, Check, check, offline, said
from tests.trusted import ANN, CHANNEL, EVE, ISSUED, envelope, instant, manifest

__all__ = ["check"]


@pytest.fixture
def follows(tmp_path: Path) -> str:
    """Settings of a node that follows the channel."""
    return (
        f'[models]\ndirectory = "{tmp_path}/models"\n'
        f'[update]\nchannel = "{CHANNEL}"\ntrusted_keys = ["{ANN.public_key.text}"]\n'
    )


def test_what_this_node_makes_of_the_manifest(
    mosquitto: MosquittoFactory, connect: Connect, check: Check, follows: str
) -> None:
    broker = mosquitto()
    client = connect(broker)
    offline(client)
    assert "channel" not in check(broker.port)
    (nothing,) = check(broker.port, more=follows)["channel"]
    assert (nothing["verdict"], nothing["message"]) == (
        "note",
        f"{MANIFEST}: no manifest came: there is none, or reading it is not allowed",
    )
    client.publish(MANIFEST, envelope(manifest(), wave=["other"]), retain=True)
    found = check(broker.port, more=follows)
    assert said(found["channel"]) == [
        ("ok", f"stable: genre 1.0.0, not for this node, or not yet; serial {ISSUED}, issued {instant(ISSUED)}")
    ]
    client.publish(MANIFEST, envelope(manifest(), EVE), retain=True)
    ((verdict, message),) = said(check(broker.port, more=follows)["channel"])
    assert verdict == "note"
    assert message.startswith(f"the manifest: signed by key {EVE.public_key.name}, which is not trusted here")


def test_a_channel_that_can_not_be_read(
    mosquitto: MosquittoFactory, connect: Connect, check: Check, follows: str
) -> None:
    """Mosquitto grants the subscription, and sends nothing."""
    broker = mosquitto(acl=f"{OPEN}topic readwrite music/#\ntopic write {MANIFEST}\n")
    client = connect(broker)
    offline(client)
    client.publish(MANIFEST, envelope(manifest()), retain=True)
    (found,) = check(broker.port, more=follows)["channel"]
    assert found["verdict"] == "note"
    assert f"allow reading {topics.ROOT}/fleet/{CHANNEL}/# in the broker's access rules" in found["mend"]
