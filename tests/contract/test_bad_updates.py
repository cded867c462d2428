"""Bad input on a channel of models: on a real broker, with the real agent, while honest messages flow at QoS 1. Whatever comes, what is served does
not change, no honest message is lost or answered by anything else, the topic of the model says the reason and the fix, and what is good is
accepted next.

Kind -> in every detail (tests/unit) -> here. Unsigned, another key, a flipped bit (there in every byte of a message and a signature), truncated,
swapped signature, older serial, another channel or model, too large, a clock of 1970 -> test_trust, test_hostile_manifests -> MANIFESTS and the
test of the clock. Files that are damaged, truncated, bombs, external data, a crash of onnxruntime, hanging, another model's, cards that lie, a
failing self-test -> test_workshop, test_library -> FILES, SLOW. Pieces that are damaged, of other lengths, absent, late, without end -> test_parts,
test_updating_trouble, test_updating_parts -> PIECES and the tests of pieces. A hundred manifests or lists of keys a second, two at once ->
test_updating_refused, test_updating -> the tests of that name. A disk that fills, a broker that keeps nothing -> test_store_crashes (at each
call), test_store_hostile, test_updating_trouble -> test_bad_surroundings.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from edge_agent.contract import topics
from edge_agent.contract.manifest import BLOB_BYTES, pieces
from tests.channel import MANIFEST, release
from tests.contract.bad_input import BAD, FILES, MANIFESTS, PIECES, PUBLISH, SIGN_IT, SLOW, Bad, signed_as
from tests.contract.client import Client
from tests.contract.honest import PACE, Scene, scene
from tests.contract.updating import MODEL, Clocks
from tests.patience import DEADLINE
from tests.requirements import require_mosquitto
from tests.trusted import CHANNEL, EVE, ISSUED, envelope, instant, key_envelope, key_list
from tests.versions import version


class Today:
    """The device's clock."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.time

    def __call__(self) -> float:
        return self.now()


TODAY: Final = Today()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    require_mosquitto()
    with scene(tmp_path_factory.mktemp("bad-updates"), Clocks(PACE, TODAY)) as made:
        made.takes_what_is_good()
        made.channel.upload(version(BAD))
        yield made


@pytest.fixture(name="scene")
def _scene(shared: Scene) -> Scene:
    shared.agent.serves()  # known to who looks at each message of this test
    shared.client.forget()
    return shared


@pytest.mark.parametrize(
    "bad",
    [*MANIFESTS, *FILES, *PIECES, *(pytest.param(bad, marks=pytest.mark.long) for bad in SLOW)],
    ids=lambda bad: bad.name,
)
def test_it_changes_nothing_and_is_told(scene: Scene, bad: Bad) -> None:
    bad.publish(scene)
    scene.refuses(bad.why, bad.fix, bad.state)
    scene.takes_what_is_good()


def test_a_manifest_of_a_model_that_this_node_does_not_have(scene: Scene) -> None:
    """It is no concern of this node's, and blocks nothing."""
    scene.channel.push(version(BAD), models={0: {"name": "vinyl"}})
    scene.takes_what_is_good()
    assert [json.loads(one.payload)["state"] for one in scene.client.seen(MODEL)] == ["idle"]


def test_a_clock_of_1970(scene: Scene) -> None:
    """Nothing expires by it; serials need no clock."""
    TODAY.now = time.time
    expires = instant(ISSUED + 3600)
    scene.channel.announce(scene.content, expires=expires)
    scene.refuses("expired at 2026-09-21T", "sign it again, or set the clock")
    TODAY.now = lambda: 3600.0
    try:
        scene.client.forget()
        scene.accepted = scene.channel.announce(scene.content, expires=expires)
        scene.said("idle", serial=scene.accepted)
        scene.channel.announce(version(BAD), serial=scene.accepted - 1)
        scene.refuses("which was accepted before", "sign it again")
        scene.takes_what_is_good()
    finally:
        TODAY.now = time.time
    scene.takes_what_is_good()


def test_a_hundred_manifests_a_second(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """They cost a few checks; the newest that is right is taken all the same."""
    began = time.monotonic()
    for number in range(200):
        right = envelope(release(version(BAD), serial=scene.serial()), *([EVE] if number % 2 else []))
        scene.client.publish(MANIFEST, right if number % 2 else signed_as(None)(right), retain=True, wait=False)
        time.sleep(max(0.0, began + number / 100 - time.monotonic()))
    scene.refuses("", "sign it with")
    scene.traffic.judge(scene.version)
    scene.takes_what_is_good()
    checks = [one for one in caplog.records if "not accepted on channel" in one.getMessage()]
    assert 1 <= len(checks) < 30


def test_a_hundred_lists_of_keys_a_second(scene: Scene) -> None:
    """What is good is taken although they do not end."""
    serial = scene.channel.announce(scene.content)
    sent = 0
    while sent < 100 or not scene.has_accepted(serial):
        said = key_envelope(key_list(EVE, serial=scene.serial()), EVE)
        scene.client.publish(topics.keys(CHANNEL), said, retain=True, wait=False)
        sent += 1
        time.sleep(0.01)
    scene.client.publish(topics.keys(CHANNEL), retain=True)
    scene.takes_what_is_good()


def test_200_mib_of_pieces(scene: Scene) -> None:
    """In the place of the one that is fetched, behind the last one, and of another file."""
    content = version(BAD, larger=2 * BLOB_BYTES)
    sha256 = hashlib.sha256(content).hexdigest()
    piece = bytes(BLOB_BYTES)
    scene.channel.announce(content, models={0: {"version": BAD}})
    scene.said("fetching")
    places = [(sha256, number) for number in range(8)] + [("cd" * 32, 0)]
    sent = 0
    while sent < 200 << 20 or not scene.has_said("is not what was signed"):
        for file, number in places:
            scene.client.paho.publish(topics.blob(CHANNEL, file, number), piece).wait_for_publish(DEADLINE)
        sent += len(places) * len(piece)
    scene.refuses("is not what was signed", PUBLISH, "fetching")
    assert scene.arriving() <= len(content)
    scene.traffic.judge(scene.version)
    scene.takes_what_is_good()


def test_pieces_that_come_late(scene: Scene) -> None:
    """What has come stays, what has not is asked for again, and then the model is served."""
    content = version("1.1.0", larger=2 * BLOB_BYTES)
    said = release(content).models[0]
    right = pieces(content)
    scene.client.publish(topics.blob(CHANNEL, said.sha256, 1), right[1], retain=True)
    scene.channel.announce(content)
    scene.refuses("piece 1 of 3 does not come on", PUBLISH, "fetching")
    scene.said("fetching", update_percentage=33)
    scene.traffic.judge(scene.version)
    for place in (0, 2):
        scene.client.publish(topics.blob(CHANNEL, said.sha256, place), right[place], retain=True)
    scene.takes("1.1.0", content)
    assert scene.arriving() == 0


def test_a_first_piece_that_is_not_the_right_one(scene: Scene) -> None:
    """Of a file whose pieces no manifest lists: it is thought to have as many pieces as bytes, until the right one is there."""
    content = version("1.1.5")
    said = release(content).models[0]
    topic = topics.blob(CHANNEL, said.sha256, 0)
    scene.client.publish(topic, b"x", retain=True)
    scene.channel.announce(content, models={0: {"blobs": ()}})
    scene.refuses(f"piece 2 of {len(content)} does not come on", PUBLISH, "fetching")
    scene.client.publish(topic, content, retain=True)
    scene.takes("1.1.5", content)


@pytest.mark.parametrize("first", [0, 1])
def test_two_at_once(scene: Scene, first: int) -> None:
    """Two publish at the same time, each a manifest of its own: what is served in the end is what has the higher serial, once it is what the
    broker keeps. Of two that come together, the agent looks at the last one.
    """
    number = f"1.{2 + first}.1"
    content = version(number)
    scene.channel.upload(content, version(BAD))
    low, high = scene.serial(), scene.serial()
    both = [envelope(release(version(BAD), serial=low)), envelope(release(content, serial=high))]
    with Client(scene.broker.port) as other:
        clients = [scene.client, other]
        sent = [clients[place].publish(MANIFEST, both[place], retain=True, wait=False) for place in (first, 1 - first)]
        for one in sent:
            one.wait_for_publish(DEADLINE)
    scene.publish(both[1])
    scene.said("idle", installed_version=number)
    scene.traffic.judge(scene.version, BAD, number)
    scene.version, scene.content = number, content
    scene.takes_what_is_good()


def test_what_was_refused_may_be_right_later(scene: Scene) -> None:
    """The same file, which was refused for what a manifest said of it."""
    content = version("1.9.0")
    scene.channel.push(content, models={0: {"labels": ("Hip-Hop", "Jazz")}})
    scene.refuses("the manifest says labels", SIGN_IT)
    scene.channel.push(content)
    scene.takes("1.9.0", content)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_all_of_it_in_any_order(scene: Scene, seed: int) -> None:
    """Nobody waits for what is said of one before the next comes; what is good in between is served each time."""
    chance = random.Random(seed)
    kinds = [*MANIFESTS, *FILES, *PIECES]
    for turn in range(10):
        for bad in chance.sample(kinds, 12):
            bad.publish(scene)
            time.sleep(chance.expovariate(10))
        number = f"3.{seed}.{turn}"
        content = version(number, larger=chance.choice([0, BLOB_BYTES, 3 * BLOB_BYTES]))
        scene.client.forget()
        scene.channel.push(content)
        scene.takes(number, content)
