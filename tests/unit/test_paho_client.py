"""paho set up, asked and listened to: what stands in its CONNECT, and what its callbacks become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.contract.messages import Answer
from edge_agent.errors import BrokerError
from edge_agent.link import granted, paho_client
from edge_agent.link.fast_lane import Stream
from edge_agent.link.granted import Granted
from edge_agent.link.packets import Disconnect
from edge_agent.link.transport import Address
from tests.unit.sessions import FakeSocket

SECRET = "secret"  # noqa: S105 - nobody's


class Told:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []

    def let_in(self, granted: Granted) -> None:
        self.all.append(("let in", granted))

    def turned_away(self, reason: str, words: str) -> None:
        self.all.append(("turned away", reason, words))

    def subscribed(self, packet_id: int, refusals: Sequence[str | None]) -> None:
        self.all.append(("subscribed", packet_id, list(refusals)))

    def granted_qos_0(self) -> None:
        self.all.append(("QoS 0",))

    def unsubscribed(self, packet_id: int) -> None:
        self.all.append(("unsubscribed", packet_id))


class FakePaho:
    """Where callbacks are hung; a connection that is not there any more gives no packet id."""

    on_connect: Any
    on_subscribe: Any
    on_unsubscribe: Any

    def subscribe(self, _filters: object) -> tuple[int, None]:
        return 4, None

    def unsubscribe(self, _filters: object) -> tuple[int, None]:
        return 4, None


def properties(packet: int, **values: Any) -> Any:
    made: Any = Properties(packet)  # type: ignore[no-untyped-call] # paho left this one out
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def client() -> FakePaho:
    return FakePaho()


@pytest.fixture
def told(client: FakePaho) -> Told:
    made = Told()
    paho_client.listen(client, made)
    return made


def test_what_the_broker_grants(client: FakePaho, told: Told) -> None:
    client.on_connect(
        client,
        None,
        None,
        ReasonCode(PacketTypes.CONNACK, "Success"),
        properties(
            PacketTypes.CONNACK,
            ReceiveMaximum=20,
            MaximumPacketSize=1024,
            TopicAliasMaximum=8,
            MaximumQoS=1,
            RetainAvailable=0,
            SharedSubscriptionAvailable=0,
            WildcardSubscriptionAvailable=0,
            ServerKeepAlive=15,
            AssignedClientIdentifier="auto-1",
        ),
    )
    assert told.all == [("let in", Granted(20, 1024, 8, 1, False, False, False, 15, "auto-1"))]


@pytest.mark.parametrize("sent", [None, properties(PacketTypes.CONNACK)])
def test_what_the_broker_does_not_say_is_as_mqtt_has_it(sent: Any) -> None:
    assert granted.read(sent) == Granted()
    assert Granted() == (65_535, None, 0, 2, True, True, True, None, None)


def test_a_refused_login(client: FakePaho, told: Told) -> None:
    reason = ReasonCode(PacketTypes.CONNACK, "Not authorized")
    client.on_connect(client, None, None, reason, properties(PacketTypes.CONNACK, ReasonString="no such user"))
    client.on_connect(client, None, None, reason, None)
    assert told.all == [
        ("turned away", "Not authorized", "Not authorized ('no such user')"),
        ("turned away", "Not authorized", "Not authorized"),
    ]


def test_answers_about_subscriptions(client: FakePaho, told: Told) -> None:
    reasons = [ReasonCode(PacketTypes.SUBACK, identifier=code) for code in (1, 0x87, 0)]
    client.on_subscribe(client, None, 7, reasons, properties(PacketTypes.SUBACK, ReasonString="rule 3"))
    client.on_unsubscribe(client, None, 8, [], None)
    assert told.all == [("subscribed", 7, [None, "Not authorized ('rule 3')", None]), ("unsubscribed", 8)]


def test_without_a_connection_there_is_no_packet_id(client: FakePaho) -> None:
    for protocol in ("5", "3.1.1"):
        asker = paho_client.Paho(client, protocol)
        assert (asker.subscribe({"a": True}), asker.unsubscribe(["a"])) == (0, 0)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (Disconnect(0x8E), "Session taken over"),
        (Disconnect(0x8E, "by pi-2"), "Session taken over ('by pi-2')"),
        (Disconnect(0x7F), "reason code 0x7f"),
    ],
)
def test_the_reason_of_a_disconnect_in_words(end: Disconnect, words: str) -> None:
    assert paho_client.words_of(end) == words


# -- CONNECT


def connect(address: Address, protocol: str, *, will: Answer | None = None, takes: bool = True) -> tuple[bytes, Any]:
    """Return the CONNECT that is queued on a stream, and the stream's socket; paho opens its own unless it `takes` it."""
    client = paho_client.make_client(address, protocol, will)
    sock = FakeSocket()
    stream = Stream(client, sock, is_5=protocol == "5", max_payload=1000)
    other = stream if takes else Stream(client, FakeSocket(), is_5=protocol == "5", max_payload=1000)
    client._create_socket = lambda: other  # type: ignore[method-assign] # as `prepare` does
    try:
        paho_client.connect(client, address, protocol, stream)
    except BrokerError:
        return b"", sock
    client.loop_write()
    stream.flush()
    return bytes(sock.sent), sock


@pytest.mark.parametrize(("expiry", "flags"), [(0, 0xC2), (3600, 0xC0)])
@pytest.mark.parametrize(("protocol", "version"), [("5", 5), ("3.1.1", 4)])
def test_the_login_and_the_session_stand_in_connect(protocol: str, version: int, expiry: int, flags: int) -> None:
    address = Address(client_id="pi", username="user", password=SECRET, session_expiry=expiry, receive_maximum=7)
    packet, _ = connect(address, protocol)
    assert packet[2:12] == b"\0\4MQTT" + bytes((version, flags)) + b"\0\x1e"
    assert packet.endswith(b"\0\2pi\0\4user\0\6" + SECRET.encode())
    ours = packet[13 : 13 + packet[12]]
    if version == 5:
        assert b"\x21\0\x07" in ours  # Receive Maximum
        assert b"\x22\0\x64" in ours  # Topic Alias Maximum
        assert b"\x11" + expiry.to_bytes(4) in ours  # Session Expiry Interval


def test_the_will_stands_in_connect() -> None:
    packet, _ = connect(Address(client_id="pi"), "3.1.1", will=Answer("state", b"offline", 1, retain=True))
    assert packet[9] == 0x02 | 0x04 | 0x08 | 0x20
    assert packet.endswith(b"\0\5state\0\7offline")


def test_a_paho_that_opens_a_socket_of_its_own_is_refused_before_anything_is_said() -> None:
    packet, sock = connect(Address(client_id="pi"), "5", takes=False)
    assert packet == b""
    assert sock.closed
    assert bytes(sock.sent) == b""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "broker localhost:1883: no connection: Connection refused"),
        (ValueError("Invalid host."), "broker localhost:1883: Invalid host."),
    ],
)
def test_what_paho_can_not_do_is_an_error_of_ours(error: Exception, words: str) -> None:
    address = Address(client_id="pi")
    client = paho_client.make_client(address, "5", None)

    def refuse() -> None:
        raise error

    client._create_socket = refuse  # type: ignore[method-assign, assignment] # as `prepare` does
    wire = Stream(client, FakeSocket(), is_5=True, max_payload=1000)
    with pytest.raises(BrokerError) as raised:
        paho_client.connect(client, address, "5", wire)
    assert str(raised.value) == words
