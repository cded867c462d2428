"""What is on the broker: what lacks is published and no more, what a broker does not keep is told, what nobody names is cleared."""

from __future__ import annotations

from pathlib import Path

import pytest
from edge_deploy.channel import Channel, Current, needed, require_fit
from edge_deploy.release import Bundle
from edge_deploy.testing import Room
from edge_deploy.wire import Limits

from edge_agent.contract import topics
from edge_agent.contract.manifest import BLOB_BYTES
from edge_agent.errors import BrokerError, InputError
from tests.unit.deploy.releases import SERIAL, write_release


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def channel(room: Room) -> Channel:
    return Channel("stable", room.wire(), room.clock)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_release(tmp_path))


def test_pieces_are_published_once(room: Room, channel: Channel, bundle: Bundle) -> None:
    first = channel.push(bundle)
    assert first == (4, 0, 2 * (BLOB_BYTES + 1000))
    for model in bundle.models:
        joined = b"".join(room.retained[topics.blob("stable", model.sha256, number)] for number in range(2))
        assert joined == bundle.contents[model.sha256]
    assert channel.push(bundle) == (0, 4, 0)
    assert len(room.published) == 4


def test_what_is_damaged_there_is_published_again(room: Room, channel: Channel, bundle: Bundle) -> None:
    channel.push(bundle)
    sha256 = bundle.models[0].sha256
    room.retained[topics.blob("stable", sha256, 0)] = b"something else"
    del room.retained[topics.blob("stable", sha256, 1)]
    room.retained[topics.blob("stable", sha256, 7)] = b"a piece that nobody asked for"
    assert channel.push(bundle)[:2] == (2, 2)


def test_a_broker_without_retained_messages(room: Room, channel: Channel, bundle: Bundle) -> None:
    room.limits = Limits(retains=False)
    with pytest.raises(BrokerError, match="keeps no retained messages"):
        channel.push(bundle)
    assert room.published == []


def test_a_broker_that_takes_small_packets_only(room: Room, channel: Channel, bundle: Bundle) -> None:
    room.limits = Limits(packet_bytes=64 * 1024)
    with pytest.raises(BrokerError, match="packets of 65536 bytes at most"):
        channel.push(bundle)
    # AWS IoT's, which it does not tell.
    room.limits = Limits(packet_bytes=128 * 1024)
    channel.push(bundle)


def test_a_broker_that_confirms_and_does_not_keep(room: Room, channel: Channel, bundle: Bundle) -> None:
    room.keeps = lambda _topic, payload: len(payload) < 100_000
    with pytest.raises(BrokerError, match="does not keep it: 2 pieces of 4"):
        channel.push(bundle)


def test_the_manifest_comes_with_its_wave(channel: Channel, bundle: Bundle) -> None:
    assert channel.current() == Current()
    channel.announce(bundle.forward, ["pi-1", "10%"])
    current = channel.current()
    assert current.serial == SERIAL
    assert current.envelope is not None
    assert current.envelope.wave == ("pi-1", "10%")
    assert bundle.forward.is_in(current.envelope)


def test_a_manifest_that_can_t_be_read_is_told(room: Room, channel: Channel, bundle: Bundle) -> None:
    room.publish(channel.topic, b'{"manifest": 1}')
    assert channel.current().fault is not None
    require_fit(channel.current(), bundle.forward)


def test_serials_grow(tmp_path: Path, channel: Channel, bundle: Bundle) -> None:
    channel.announce(bundle.forward, None)
    require_fit(channel.current(), bundle.forward)
    (tmp_path / "other").mkdir()
    older = Bundle.open(write_release(tmp_path / "other", serial=SERIAL - 1))
    with pytest.raises(InputError, match="above this release's"):
        require_fit(channel.current(), older.forward)
    same = Bundle.open(write_release(tmp_path / "other", "1.3.0"))
    with pytest.raises(InputError, match="another manifest with the same serial"):
        require_fit(channel.current(), same.forward)


def test_what_no_manifest_names_is_cleared(tmp_path: Path, room: Room, channel: Channel, bundle: Bundle) -> None:
    channel.push(bundle)
    channel.announce(bundle.forward, None)
    (tmp_path / "newer").mkdir()
    newer = Bundle.open(write_release(tmp_path / "newer", "1.2.0", before="1.1.0", serial=SERIAL + 10))
    channel.push(newer)
    channel.announce(newer.forward, None)
    current = channel.current()
    assert current.manifest is not None
    # 1.1.0 is what the newer release goes back to.
    keep = [current.manifest, *([newer.back.manifest] if newer.back else [])]
    stale = channel.stale(keep)
    assert len(stale) == 2
    assert all(bundle.models[1].sha256 in topic for topic in stale)
    channel.clear(stale)
    assert channel.stale(keep) == []
    assert len(channel.stale([current.manifest])) == 2


def test_nothing_is_cleared_where_nobody_says_what_is_of_use(channel: Channel, bundle: Bundle) -> None:
    with pytest.raises(
        InputError, match=f"^{channel.topic}: no manifest, so nothing says .* or clear everything with --all"
    ):
        needed(channel.current(), [], channel.topic)
    assert needed(channel.current(), [], channel.topic, everything=True) == []
    assert needed(channel.current(), [bundle.forward.manifest], channel.topic) == [bundle.forward.manifest]
    channel.announce(bundle.forward, None)
    assert needed(channel.current(), [], channel.topic) == [bundle.forward.manifest]
    assert needed(channel.current(), [], channel.topic, everything=True) == [bundle.forward.manifest]


def test_nothing_is_cleared_beside_a_manifest_that_can_t_be_read(channel: Channel) -> None:
    with pytest.raises(InputError, match="publish a release first"):
        needed(Current.of(b"{", channel.name), [], channel.topic, everything=True)
