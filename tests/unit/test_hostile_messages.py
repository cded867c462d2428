"""All that the hostile client sends, and what mutations make of it, from the bytes of the packet to those of the answer.

The nightly profile draws 100,000 of them.
"""

from __future__ import annotations

import json
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.messages import Answer, Message
from edge_agent.link import packets
from edge_agent.payload.features import FeatureCodec
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import ROUTE, FakeModel, make_card
from tests import wire
from tests.hostile import ATTACKS, CBOR, HEAVY, PACKED, SENML, Attack, content_type, correlation, response_topic, user

FEATURES: Final = tuple("abcdefgh")
PIPELINE: Final = Pipeline([ROUTE], {"genre": FakeModel(make_card(FEATURES))})
#: An answer is at most this many times as long as its question, and some more: reasons, probabilities, the topic.
GROWTH: Final = 400
LEAST: Final = 50_000

#: Rows that are right, of each format; the mutations begin with them.
ROWS: Final = (
    json.dumps(dict.fromkeys(FEATURES, 0.5)).encode(),
    json.dumps([{"n": name, "v": 0.5} for name in FEATURES]).encode(),
    b"\xa8" + b"".join(b"\x61" + name.encode() + b"\xfb\x3f\xe0" + bytes(6) for name in FEATURES),
    bytes(32),
)
FORMATS: Final = (
    b"",
    CBOR,
    PACKED,
    SENML,
    content_type("application/json"),
    content_type("text/plain"),
    content_type("application/vnd.sparkplug.b"),
)


def answer(attack: Attack) -> list[Answer]:
    """Read the packet, answer it, and write the answer as either protocol does. No error but the reader's `ValueError`."""
    packet = attack.packet(7)
    found = packets.bounds(packet, 0)
    assert found is not None
    try:
        event = packets.read_publish(packet[0], packet[found[0] :], is_5=True)
    except ValueError:
        return []
    message = Message(event.topic, event.payload, event.qos, event.content_type, None, event.response_topic)
    (answers,) = PIPELINE.process([message])
    for one in answers:
        carried = one._replace(carried=event.carried)
        for is_5 in (True, False):
            assert len(packets.publish(carried, 1, is_5=is_5)) <= packets.size_of(carried)
        assert len(one.payload) < LEAST + GROWTH * len(event.payload)
    return answers


def test_the_rows_are_right() -> None:
    pytest.importorskip("cbor2")
    for row, kind in zip(ROWS, (b"", SENML, CBOR, PACKED), strict=True):
        (one,) = answer(Attack(row, properties=kind))
        assert one.topic == "music/hostile/genre", one.payload


@pytest.mark.parametrize("name", ATTACKS)
def test_each_attack_has_one_answer(name: str) -> None:
    attack = ATTACKS[name]
    answers = answer(attack)
    assert len(answers) <= 1
    if answers and attack.properties and b"\x08" in attack.properties[:1]:
        # None of those Response Topics is one that may be followed.
        assert answers[0].topic in {"music/hostile/genre", "music/hostile/genre/error"}


@pytest.mark.parametrize("name", HEAVY)
def test_each_heavy_attack_has_one_answer(name: str) -> None:
    assert len(answer(HEAVY[name]())) == 1


texts = st.text(max_size=30) | st.sampled_from(["", "/", "#", "+", "$SYS", "edge/node/state", "a" * 300, "\0", "\x1b"])
properties = st.lists(
    st.one_of(
        texts.map(content_type),
        texts.map(response_topic),
        st.binary(max_size=20).map(response_topic),
        st.binary(max_size=2000).map(correlation),
        st.builds(user, texts | st.binary(max_size=20), texts | st.binary(max_size=20)),
        st.binary(max_size=20),
    ),
    max_size=4,
).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A payload of the catalogue, or a right one, with pieces cut out, doubled, or replaced."""
    payload = draw(st.sampled_from([*ROWS, *(one.payload for one in ATTACKS.values() if len(one.payload) < 2000)]))
    for _ in range(draw(st.integers(0, 3))):
        first, last = sorted((draw(st.integers(0, len(payload))), draw(st.integers(0, len(payload)))))
        piece = draw(st.sampled_from([b"", payload[first:last] * 2]) | st.binary(max_size=9))
        payload = payload[:first] + piece + payload[last:]
    return payload


@given(
    payload=mutated(),
    topic=st.sampled_from(["music/a/features", "music//features"]) | texts.map("music/{}/features".format) | texts,
    kind=st.sampled_from(FORMATS),
    more=properties,
)
def test_any_message_is_answered_or_refused(payload: bytes, topic: str, kind: bytes, more: bytes) -> None:
    assert len(answer(Attack(payload, topic, kind + more))) <= 1


@given(st.binary(max_size=60), st.integers(0, 3))
def test_any_bytes_of_a_packet_are_refused_or_answered(body: bytes, qos: int) -> None:
    try:
        event = packets.read_publish(0x30 | qos << 1, wire.text("music/a/features") + body, is_5=True)
    except ValueError:
        return
    PIPELINE.process([Message(event.topic, event.payload, event.qos, event.content_type, None, event.response_topic)])


def test_a_decoder_is_the_same_after_all_of_it() -> None:
    """Nothing that came before changes what a row means."""
    codec = FeatureCodec(make_card(FEATURES).features)
    before = codec.decode(ROWS[0])
    for attack in ATTACKS.values():
        codec.decode(attack.payload)
    assert repr(codec.decode(ROWS[0])) == repr(before)
