"""What updates have left behind is taken back once their channel is not followed any more, or a model not served."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from edge_agent import testing
from edge_agent.assembly import make_plan
from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.contract.manifest import BLOB_BYTES
from edge_agent.contract.messages import Message
from edge_agent.host.process import Signals
from edge_agent.model.state import State
from edge_agent.model.store import Store
from edge_agent.model.trust import Accepted, Kept
from edge_agent.serving.agent import Agent
from edge_agent.serving.announcements import TakenBack
from edge_agent.serving.released import About
from edge_agent.serving.updating import Updates
from edge_agent.testing import FakeClock, FakeLink, make_connection_settings
from edge_agent.testing.updates import FakeWorkshop
from tests.trusted import ANN, CHANNEL
from tests.unit.agents import topics_of
from tests.unit.updates import sha256_of

FOLLOWED = {"channel": CHANNEL, "trusted_keys": [ANN.public_key.text]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One that has followed a channel, with a model that no route names."""
    store = Store(tmp_path)
    store.write(State(channels={CHANNEL: Kept(accepted=Accepted(1))}))
    store.add("mood", "1.0.0", b"a model")
    return store


def settings(store: Store, **sections: Any) -> Settings:
    given = {"node": {"id": "node"}, "docs": {"publish": False}, "models": {"directory": str(store.directory)}}
    return Settings(**{**given, **sections})


def taken_back(store: Store, **sections: Any) -> list[str]:
    later = make_plan(settings(store, **sections)).later
    return [one.topic for one in later if isinstance(one, TakenBack)]


def test_what_was_said_of_models_is_taken_back_without_a_channel(store: Store) -> None:
    assert taken_back(store) == ["edge/node/model/genre", "edge/node/model/mood"]


def test_what_is_told_now_is_not(store: Store) -> None:
    assert taken_back(store, update=FOLLOWED) == ["edge/node/model/mood"]
    assert taken_back(store, home_assistant={"enabled": True}) == ["edge/node/model/mood"]


def test_where_no_channel_was_followed_nothing_is_said(tmp_path: Path) -> None:
    assert taken_back(Store(tmp_path)) == []
    assert taken_back(Store(tmp_path / "none")) == []
    (tmp_path / "state.json").write_text("{")
    assert taken_back(Store(tmp_path)) == []


def test_pieces_are_removed_without_a_channel(store: Store) -> None:
    with store.part(sha256_of("file"), BLOB_BYTES, [sha256_of("piece")]):
        assert store.arriving()
    link = FakeLink()
    followed = make_plan(settings(store, update=FOLLOWED))
    agent = Agent(make_connection_settings(link), followed, clock=FakeClock())
    for _ in range(5):
        agent.step()
    assert store.arriving()
    agent.take_over(make_connection_settings(link), make_plan(settings(store)))
    for _ in range(5):
        agent.step()
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    for _ in range(5):
        agent.step()
    assert not store.arriving()
    assert topics_of(link.sent)[-2:] == ["edge/node/model/genre", "edge/node/model/mood"]
    assert [one.payload for one in link.sent[-2:]] == [b"", b""]


def test_what_is_under_way_ends_with_the_agent() -> None:
    workshop = FakeWorkshop()
    workshop.waits.add("accept")
    updates = Updates(About("node", CHANNEL), {}, workshop, clock=FakeClock(), now=str)
    agent = Agent(make_connection_settings(FakeLink()), testing.make_plan()._replace(updates=updates))
    updates.heard(Message(topics.manifest(CHANNEL), b"a manifest", 1))
    updates.turn()
    with Signals() as signals:
        signals.received = True
        assert not agent.run(signals)
    assert workshop.jobs[0].closed
