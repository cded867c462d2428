"""PUBLISH and PUBACK against paho's own reading and writing of the properties, and against anything at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.contract.messages import Answer, Carried
from edge_agent.link import packets, slow_lane
from edge_agent.link.packets import Disconnect, Puback, Publish
from edge_agent.link.properties import varint

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
topics = texts.filter(bool)
#: Without what is not carried over.
plain_texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=100)
carried = st.none() | st.builds(
    Carried,
    st.none() | st.binary(max_size=packets.MAX_CORRELATION_BYTES),
    st.lists(st.tuples(plain_texts, plain_texts), max_size=4).map(tuple),
    st.none() | st.integers(1, 0xFFFF_FFFF),
).filter(lambda found: found != Carried())
answers = st.builds(
    Answer,
    topic=topics,
    payload=st.binary(max_size=40_000),
    qos=st.integers(0, 1),
    retain=st.booleans(),
    content_type=st.none() | texts,
    carried=carried,
)


def body_of(packet: bytes) -> bytes:
    found = packets.bounds(packet, 0)
    assert found is not None
    assert found[1] == len(packet)
    return packet[found[0] :]


@given(answer=answers, packet_id=st.integers(1, 65_535), is_5=st.booleans())
def test_what_is_written_is_read_again(answer: Answer, packet_id: int, is_5: bool) -> None:
    packet = packets.publish(answer, packet_id, is_5=is_5)
    assert packet[0] == 0x30 | answer.qos << 1 | answer.retain
    assert packets.read_publish(packet[0], body_of(packet), is_5=is_5) == Publish(
        answer.topic,
        answer.payload,
        answer.qos,
        packet_id if answer.qos else 0,
        content_type=answer.content_type if is_5 else None,
        carried=answer.carried if is_5 else None,
        retained=answer.retain,
    )
    assert len(packet) <= packets.size_of(answer)


@given(answer=answers)
def test_paho_reads_what_is_written(answer: Answer) -> None:
    packet = packets.publish(answer, 1, is_5=True)
    body = body_of(packet)
    place = 2 + len(answer.topic.encode()) + 2 * answer.qos
    properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.unpack(body[place:])
    found = answer.carried or Carried()
    assert getattr(properties, "ContentType", None) == answer.content_type
    assert getattr(properties, "CorrelationData", None) == found.correlation_data
    assert tuple(getattr(properties, "UserProperty", ())) == found.user_properties
    assert getattr(properties, "MessageExpiryInterval", None) == found.expiry


def test_what_paho_writes_is_read() -> None:
    properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.PayloadFormatIndicator = 1
    properties.MessageExpiryInterval = 60
    properties.ContentType = "application/cbor"
    properties.ResponseTopic = "answers/7"
    properties.CorrelationData = b"\0\1"
    properties.SubscriptionIdentifier = 268_435_455
    properties.TopicAlias = 300
    properties.UserProperty = [("traceparent", "00-1"), ("traceparent", "00-2")]
    body = b"\0\1t" + b"\0\7" + properties.pack() + b"payload"
    assert packets.read_publish(0x3A, body, is_5=True) == Publish(
        "t",
        b"payload",
        1,
        7,
        duplicate=True,
        alias=300,
        content_type="application/cbor",
        response_topic="answers/7",
        carried=Carried(b"\0\1", (("traceparent", "00-1"), ("traceparent", "00-2")), 60),
    )


@given(flags=st.integers(0x30, 0x3F), body=st.binary(max_size=80), is_5=st.booleans())
def test_anything_is_read_or_refused(flags: int, body: bytes, is_5: bool) -> None:
    try:
        found = packets.read_publish(flags, body, is_5=is_5)
    except ValueError:
        return
    assert len(found.payload) <= len(body)
    assert (found.packet_id > 0) == (found.qos > 0)


def text_of(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def question(properties: bytes) -> bytes:
    """The body of a PUBLISH at QoS 0 on the topic "t", with a payload."""
    return b"\0\1t" + varint(len(properties)) + properties + b"payload"


#: Texts of MQTT 5 as a broker may let them through: UTF-8 or not, short and as long as there is room for.
raw_texts = st.one_of(
    st.binary(max_size=40),
    plain_texts.map(str.encode),
    st.builds(lambda byte, size: bytes((byte,)) * size, st.integers(0, 255), st.integers(0, 65_535)),
).map(text_of)
properties = st.lists(
    st.one_of(
        st.builds(lambda name, value: b"\x26" + name + value, raw_texts, raw_texts),
        raw_texts.map(lambda value: b"\x09" + value),
        raw_texts.map(lambda value: b"\x08" + value),
        raw_texts.map(lambda value: b"\x03" + value),
        st.binary(min_size=4, max_size=4).map(lambda value: b"\x02" + value),
    ),
    max_size=40,
).map(b"".join)


@given(block=properties | st.binary(max_size=200))
@example(block=b"\x26" + text_of(b"a") + text_of(b"\xff" * 30_000))
@example(block=b"\x26" + text_of(b"\xff" * 65_535) + text_of(b"\xff" * 65_535))
@example(block=b"\x08" + text_of(b"\xff" * 65_535))
@example(block=b"\x09" + text_of(b"x" * 65_535))
def test_whatever_was_read_can_be_written_in_either_lane(block: bytes) -> None:
    try:
        found = packets.read_publish(0x30, question(block), is_5=True)
    except ValueError:
        return
    answer = Answer("answer", b"payload", 1, carried=found.carried)
    packet = packets.publish(answer, 1, is_5=True)
    assert packets.read_publish(packet[0], body_of(packet), is_5=True).carried == found.carried
    assert len(packet) <= packets.size_of(answer) < 6000
    slow_lane._properties(answer).pack()


@given(first=st.integers(0, 255), body=st.binary(max_size=300), is_5=st.booleans())
def test_no_packet_raises_anything_but_value_error(first: int, body: bytes, is_5: bool) -> None:
    for read in (
        lambda: packets.bounds(body, 0),
        lambda: packets.read_publish(first, body, is_5=is_5),
        lambda: packets.read_puback(body),
    ):
        try:
            read()
        except ValueError:
            continue


@given(
    topic=st.text(max_size=30) | st.just("x" * 70_000),
    name=st.text(max_size=10) | st.just("x" * 70_000),
    data=st.none() | st.integers(0, 70_000).map(bytes),
)
def test_what_can_not_be_written_is_a_value_error_too(topic: str, name: str, data: bytes | None) -> None:
    answer = Answer(topic, b"", 1, carried=Carried(data, ((name, name),)))
    fits = all(len(one.encode(errors="replace")) <= 65_535 for one in (topic, name)) and len(data or b"") <= 65_535
    try:
        packets.publish(answer, 1, is_5=True)
    except UnicodeEncodeError:
        return
    except ValueError:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize(
    ("block", "carried", "left"),
    [
        pytest.param(b"\x09" + text_of(b"x" * 1024), Carried(b"x" * 1024), None, id="data that just fits"),
        pytest.param(b"\x09" + text_of(b"x" * 1025), None, "Correlation Data of more than 1024 bytes", id="data"),
        pytest.param(
            (b"\x26" + text_of(b"") * 2) * 33, None, "User Properties of which there are more than 32", id="number"
        ),
        pytest.param(
            b"\x26" + text_of(b"a") + text_of(b"x" * 4096), None, "User Properties of more than 4096 bytes", id="bytes"
        ),
        pytest.param(
            b"\x26" + text_of("ä".encode() * 2000) + text_of(b"x" * 97),
            None,
            "User Properties of more than 4096 bytes",
            id="bytes of UTF-8",
        ),
        pytest.param(
            b"\x26" + text_of(b"a\0") + text_of(b""), None, "User Properties with control characters", id="NUL"
        ),
        pytest.param(
            b"\x02\0\0\0\7\x26" + text_of("\U0001ffff".encode()) + text_of(b""),
            Carried(expiry=7),
            "User Properties with control characters",
            id="no character",
        ),
        pytest.param(
            b"\x26" + text_of("\u200b\xa0\U0001f600".encode()) + text_of(b""),
            Carried(user_properties=(("\u200b\xa0\U0001f600", ""),)),
            None,
            id="unusual",
        ),
        pytest.param(
            b"\x26" + text_of(b"a") + text_of(b"\xff" * 3),
            Carried(user_properties=(("a", "\ufffd" * 3),)),
            None,
            id="mended",
        ),
        pytest.param(
            b"\x26" + text_of(b"a") + text_of(b"\xff" * 30_000) + b"\x09" + text_of(b"x" * 2000),
            None,
            "Correlation Data of more than 1024 bytes and User Properties of more than 4096 bytes",
            id="both",
        ),
    ],
)
def test_what_is_carried_over_is_bounded(block: bytes, carried: Carried | None, left: str | None) -> None:
    found = packets.read_publish(0x30, question(block), is_5=True)
    assert (found.carried, found.left) == (carried, left)


@given(block=st.binary(max_size=60))
def test_any_properties_are_read_or_refused(block: bytes) -> None:
    """With the length right, so that it gets as far as the properties."""
    try:
        found = packets.read_publish(0x30, b"\0\1t" + bytes((len(block),)) + block + b"payload", is_5=True)
    except ValueError:
        return
    assert (found.topic, found.payload) == ("t", b"payload")


@pytest.mark.parametrize(
    ("body", "is_5"),
    [
        pytest.param(b"", False, id="empty"),
        pytest.param(b"\0", True, id="half a length"),
        pytest.param(b"\0\5top", False, id="topic cut"),
        pytest.param(b"\0\1t\0", False, id="packet id cut"),
        pytest.param(b"\0\1t\0\0", False, id="packet id 0"),
        pytest.param(b"\0\1t\0\1", True, id="no properties"),
        pytest.param(b"\0\1t\0\1\x05\x02\0", True, id="properties cut"),
        pytest.param(b"\0\1t\0\1\x02\x02\0", True, id="property cut"),
        pytest.param(b"\0\1t\0\1\x02\x11\0", True, id="property of another packet"),
        pytest.param(b"\0\1t\0\1\xff\xff\xff\xff\xff", True, id="length without end"),
    ],
)
def test_a_broken_publish_is_refused(body: bytes, is_5: bool) -> None:
    with pytest.raises(ValueError, match=r"PUBLISH|property|length"):
        packets.read_publish(0x32, body, is_5=is_5)


@pytest.mark.parametrize("is_5", [False, True])
def test_there_is_no_qos_3(is_5: bool) -> None:
    with pytest.raises(ValueError, match="QoS 3"):
        packets.read_publish(0x36, b"\0\1t\0\1\0payload", is_5=is_5)


def test_the_words_of_a_broker_are_cut() -> None:
    found = packets.read_puback(b"\0\7\x87" + varint(60_003) + b"\x1f" + text_of(b"x" * 60_000))
    assert found.refused is not None
    assert len(found.refused) < 300


def test_text_that_is_not_utf_8_is_repaired() -> None:
    assert packets.read_publish(0x30, b"\0\2a\xff", is_5=False).topic == "a\ufffd"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"\0\7", Puback(7)),
        (b"\1\0\x00", Puback(256)),
        (b"\0\7\x10\0", Puback(7)),
        (b"\0\7\x87", Puback(7, "Not authorized")),
        (b"\0\7\x87\x0b\x1f\0\x08no entry", Puback(7, "Not authorized ('no entry')")),
        (b"\0\7\xf0", Puback(7, "reason code 0xf0")),
    ],
)
def test_pubacks(body: bytes, expected: Puback) -> None:
    assert packets.read_puback(body) == expected


@given(body=st.binary(max_size=40))
def test_any_puback_is_read_or_refused(body: bytes) -> None:
    try:
        assert packets.read_puback(body).packet_id == int.from_bytes(body[:2], "big")
    except ValueError:
        return


@given(size=st.integers(0, 268_435_455), before=st.binary(max_size=5))
def test_lengths(size: int, before: bytes) -> None:
    data = before + b"\x30" + varint(size)
    assert packets.bounds(data, len(before)) == (len(data), len(data) + size)
    for cut in range(len(before) + 1, len(data)):
        assert packets.bounds(data[:cut], len(before)) is None


def test_a_length_of_five_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="four bytes"):
        packets.bounds(b"\x30\xff\xff\xff\xff\x01", 0)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", Disconnect(0)),
        (b"\x8e", Disconnect(0x8E)),
        (b"\x8e\x00", Disconnect(0x8E)),
        (b"\x8e\x05\x1f\x00\x02no", Disconnect(0x8E, "no")),
        (b"\x9c\x04\x1c\x00\x01x", Disconnect(0x9C)),
        (b"\x8e\x05\x1f\x00\x20no", Disconnect(0x8E)),
        (b"\x8e\xff\xff\xff\xff", Disconnect(0x8E)),
    ],
)
def test_a_disconnect_is_read(body: bytes, found: Disconnect) -> None:
    assert packets.read_disconnect(body) == found


@given(st.binary(max_size=100))
def test_any_disconnect_is_read(body: bytes) -> None:
    assert packets.read_disconnect(body).code == (body[0] if body else 0)
