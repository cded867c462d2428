"""How paho is set up and connected, asked and listened to: options in, a connected client out, its exceptions and
callbacks mapped to ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.contract.messages import Answer
from edge_agent.errors import BrokerError
from edge_agent.link import granted, transport
from edge_agent.link.fast_lane import Stream
from edge_agent.link.granted import Granted
from edge_agent.link.packets import Disconnect
from edge_agent.link.slow_lane import Plain
from edge_agent.link.transport import Address

#: Topics that the broker may replace with a number (MQTT 5, 3.3.2.3.4).
MAX_ALIASES: Final = 100


def make_client(address: Address, protocol: str, will: Answer | None) -> paho.Client:
    """Return a client that is not connected yet. `protocol` is "5" or "3.1.1"."""
    is_5 = protocol == "5"
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=address.client_id,
        protocol=paho.MQTTv5 if is_5 else paho.MQTTv311,
        transport=address.transport,
        clean_session=None if is_5 else address.session_expiry == 0,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = address.connect_timeout
    # paho would walk its whole queue on every acknowledgement; `Delivery` sets the effective limit.
    client.max_inflight_messages_set(0)
    # With this set, paho queues packets and we write them: many per wake-up.
    client.on_socket_register_write = _leave_writing_to_us
    if address.username is not None:
        client.username_pw_set(address.username, address.password)
    if will is not None:
        client.will_set(will.topic, will.payload, will.qos, will.retain)
    return client


def connect(client: paho.Client, address: Address, protocol: str, wire: Stream | Plain) -> None:
    """Queue CONNECT on the socket that `wire` has opened; with a `Plain`, paho opens it. Raises `BrokerError`."""
    options: dict[str, Any] = {}
    if protocol == "5":
        options["clean_start"] = address.session_expiry == 0
        options["properties"] = properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = address.session_expiry
        properties.ReceiveMaximum = address.receive_maximum
        properties.TopicAliasMaximum = MAX_ALIASES
    host = address.host if address.socket is None else str(address.socket)
    try:
        client.connect(host, address.port, address.keepalive, **options)
    except OSError as error:
        raise BrokerError(f"broker {address}: no connection: {transport.explained(error, address)}") from error
    except ValueError as error:
        raise BrokerError(f"broker {address}: {error}") from error
    if isinstance(wire, Stream) and client.socket() is not wire:
        # Nothing was sent yet: CONNECT waits for `Link`. A socket that paho opened itself is not encrypted.
        wire.close()
        raise BrokerError("unsupported version of paho-mqtt; install paho-mqtt 2.1 or 2.2")


class Paho:
    """Sends SUBSCRIBE, at most at `qos`, and UNSUBSCRIBE; returns the packet's id, 0 when the connection has ended."""

    def __init__(self, client: Any, protocol: str, qos: int = 1) -> None:
        self._client = client
        self._protocol = protocol
        self._qos = qos

    def subscribe(self, filters: Mapping[str, bool]) -> int:
        """Subscribe to all `filters`, in one packet.

        A retained message comes when a subscription is new; for the filters that are true also when it is not, as MQTT
        3.1.1 has it for all.
        """
        if self._protocol == "5":
            if_new = SubscribeOptions(qos=self._qos, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            always = SubscribeOptions(qos=self._qos, retainHandling=SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE)
            _, packet_id = self._client.subscribe(
                [(one, always if retained else if_new) for one, retained in filters.items()]
            )
        else:
            _, packet_id = self._client.subscribe([(one, self._qos) for one in filters])
        return packet_id or 0

    def unsubscribe(self, filters: Collection[str]) -> int:
        """Unsubscribe from all `filters`, in one packet."""
        _, packet_id = self._client.unsubscribe(list(filters))
        return packet_id or 0


class Told(Protocol):
    """Receives the broker's packets; `edge_agent.link.session.Session` documents each method."""

    def let_in(self, granted: Granted) -> None:
        """CONNACK accepts the connection."""

    def turned_away(self, reason: str, words: str) -> None:
        """CONNACK refuses the connection."""

    def subscribed(self, packet_id: int, refusals: Sequence[str | None]) -> None:
        """SUBACK."""

    def granted_qos_0(self) -> None:
        """SUBACK grants no filter more than QoS 0."""

    def unsubscribed(self, packet_id: int) -> None:
        """UNSUBACK."""


def listen(client: Any, told: Told, *, qos: int = 1) -> None:
    """Pass on paho's callbacks in our own terms. `qos` is what subscriptions ask for."""

    def on_connect(_client: object, _data: object, _flags: object, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            told.turned_away(str(reason), words(reason, properties))
        else:
            told.let_in(granted.read(properties))

    def on_subscribe(_client: object, _data: object, packet_id: int, reasons: list[Any], properties: Any) -> None:
        if qos and all(one.value == 0 for one in reasons):
            told.granted_qos_0()
        told.subscribed(packet_id, [words(one, properties) if one.is_failure else None for one in reasons])

    def on_unsubscribe(_client: object, _data: object, packet_id: int, _reasons: object, _properties: object) -> None:
        told.unsubscribed(packet_id)

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_unsubscribe = on_unsubscribe


def words(reason: Any, properties: Any) -> str:
    """Return a reason code in words, with the broker's own Reason String when it sent one."""
    own = getattr(properties, "ReasonString", None)
    return f"{reason} ({own!r})" if own else str(reason)


def words_of(end: Disconnect) -> str:
    """Return the reason of a DISCONNECT in words, as `words` does."""
    try:
        reason = str(ReasonCode(PacketTypes.DISCONNECT, identifier=end.code))
    except KeyError:
        reason = f"reason code {end.code:#04x}"
    return reason if end.words is None else f"{reason} ({end.words!r})"


def _leave_writing_to_us(_client: object, _data: object, _socket: object) -> None:
    """Do nothing: `Link` asks `want_write` before every wait."""


def _properties(packet: int) -> Any:
    return Properties(packet)  # type: ignore[no-untyped-call]  # untyped in paho
