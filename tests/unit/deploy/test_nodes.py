"""What nodes say is input from outside: whatever it is, it is bounded, and at the most somebody looks bad."""

from __future__ import annotations

import json
from typing import Any

import pytest
from edge_deploy.channel import Current
from edge_deploy.nodes import MOST_NODES, Nodes
from edge_deploy.status import HEADING, rows, summary
from edge_deploy.wording import table
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.manifest import Envelope, written
from edge_agent.contract.messages import Message
from tests.unit.deploy.releases import SERIAL, SIGNATURE, manifest_of, model_of

MANIFEST = manifest_of(model_of(b"model", "1.1.0"))
CURRENT = Current(Envelope(manifest=written(MANIFEST), signature=SIGNATURE), MANIFEST)


def say(nodes: Nodes, topic: str, payload: bytes | dict[str, Any]) -> bool:
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return nodes.take(Message(topic, content, 1), 0.0) is not None


WORD = {"installed_version": "1.1.0", "latest_version": "1.1.0", "state": "idle", "serial": SERIAL, "reason": None}


def test_a_node_of_this_project() -> None:
    nodes = Nodes()
    assert say(nodes, "edge/pi-1/state", b"degraded")
    assert say(nodes, "edge/pi-1/model/genre", WORD)
    node = nodes.known["pi-1"]
    assert node.online
    assert node.has(MANIFEST)
    assert node.trouble(MANIFEST) is None
    assert say(nodes, "edge/pi-1/model/genre", {**WORD, "state": "rolled_back", "reason": "inference failed"})
    assert node.trouble(MANIFEST) == "genre: rolled back: inference failed"
    assert say(nodes, "edge/pi-1/model/genre", {**WORD, "state": "shadow"})
    assert node.doing(MANIFEST) == "shadow"
    assert say(nodes, "edge/pi-1/model/genre", b"")
    assert not node.serves(MANIFEST)


@pytest.mark.parametrize(
    "topic",
    [
        "edge/*/state",
        "edge/100%/state",
        "edge//state",
        f"edge/{'a' * 65}/state",
        "edge/\x1b[2J/state",
        "edge/pi-1/model/a b",
        f"edge/pi-1/model/{'a' * 65}",
    ],
)
def test_what_no_agent_is_called(topic: str) -> None:
    nodes = Nodes()
    assert not say(nodes, topic, b"online")
    assert nodes.dropped == 1
    assert not nodes.known


@pytest.mark.parametrize("topic", ["edge/fleet/state", "edge/pi-1", "edge", "other/pi-1/state", "edge/pi-1/state/more"])
def test_topics_of_others(topic: str) -> None:
    nodes = Nodes()
    assert not say(nodes, topic, b"online")
    assert not nodes.known


@pytest.mark.parametrize(
    "payload",
    [b"{", b"[1]", b"null", b"[" * 20_000, b"\xff\xfe", b'{"state":"' + b"x" * 100_000 + b'"}', b"9" * 10_000],
)
def test_payloads_that_can_t_be_read(payload: bytes) -> None:
    nodes = Nodes()
    assert not say(nodes, "edge/pi-1/model/genre", payload)
    assert not say(nodes, "edge/pi-1/health", payload)
    assert nodes.dropped == 2
    assert not nodes.known


@given(
    st.dictionaries(
        st.sampled_from(["state", "installed_version", "serial", "reason", "since", "update_percentage", "rejections"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=5,
        ),
    ),
    st.binary(max_size=20),
)
def test_whatever_they_say_the_table_is_safe_to_print(content: dict[str, Any], state: bytes) -> None:
    nodes = Nodes()
    say(nodes, "edge/pi-1/state", state)
    say(nodes, "edge/pi-1/model/genre", content)
    say(nodes, "edge/pi-1/health", content)
    found = rows(nodes, CURRENT)
    for line in table([HEADING, *(row.cells() for row in found)]):
        assert line.isprintable()
        assert len(line) < 4000
    assert summary(nodes, CURRENT).isprintable()


def test_a_flood_of_nodes_and_of_models_ends_somewhere() -> None:
    nodes = Nodes()
    for number in range(MOST_NODES + 5):
        say(nodes, f"edge/n{number}/state", b"online")
    assert len(nodes.known) == MOST_NODES
    assert nodes.dropped == 5
    for number in range(100):
        say(nodes, f"edge/n0/model/m{number}", WORD)
    assert len(nodes.known["n0"].words) == 64


def test_the_status_names_who_is_silent() -> None:
    nodes = Nodes()
    say(nodes, "edge/pi-1/state", b"online")
    say(nodes, "edge/pi-1/model/genre", WORD)
    say(nodes, "edge/away/state", b"offline")
    say(nodes, "edge/away/model/genre", {**WORD, "installed_version": "1.0.0", "serial": SERIAL - 1})
    say(nodes, "edge/a-quiet-one/state", b"online")
    found = rows(nodes, CURRENT)
    assert [row.node for row in found] == ["away", "pi-1", "a-quiet-one"]
    assert found[0].cells()[:6] == ("away", "no", "genre", "1.0.0 -> 1.1.0", "idle", str(SERIAL - 1))
    assert summary(nodes, CURRENT) == f"3 nodes, 2 online, 1 of 2 that are meant on serial {SERIAL}, 1 silent"
