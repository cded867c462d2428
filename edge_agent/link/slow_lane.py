"""The slow lane: every packet goes through paho's own calls, for versions of paho that the fast lane does not support."""

from __future__ import annotations

import select
from collections.abc import Container
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.contract.messages import Answer
from edge_agent.errors import BrokerError
from edge_agent.link import packets, transport
from edge_agent.link.packets import Event, Pong, Puback, Publish
from edge_agent.link.transport import Address


def let_paho_read(client: paho.Client) -> None:
    """Let paho read from its socket. Raises `ValueError` when the bytes are not MQTT."""
    try:
        client.loop_read()
    except ValueError:
        raise
    except Exception as error:  # KeyError, IndexError, AssertionError: whatever the bytes cause in paho
        raise ValueError(f"{type(error).__name__} in paho: {error}") from error


class Plain:
    """paho's own connection, with the interface of `edge_agent.link.fast_lane.Stream`."""

    def __init__(self, client: paho.Client, address: Address, *, is_5: bool) -> None:
        self._client = client
        self._is_5 = is_5
        self._events: list[Event] = []
        #: Sizes of the messages at QoS 0 that paho has not written yet.
        self._unsent: dict[int, int] = {}
        self.backlog = 0
        self._poll = select.poll()
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        if address.tls is not None:
            client.tls_set_context(transport.make_context_for(address))
        if address.transport == "websockets":
            client.ws_set_options(path=address.path)

    @property
    def socket(self) -> Any:
        """The socket that paho has opened."""
        return self._client.socket()

    def receive(self) -> list[Event]:
        """Read one packet."""
        let_paho_read(self._client)
        events, self._events = self._events, []
        return events

    def publish(self, answer: Answer, taken: Container[int]) -> int:  # noqa: ARG002 - paho keeps its own ids
        """Queue an answer; return its packet id. Raises `BrokerError` when paho does not accept it."""
        properties = _properties(answer) if self._is_5 else None
        info = self._client.publish(answer.topic, answer.payload, answer.qos, answer.retain, properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise BrokerError(f"a message could not be queued: {paho.error_string(info.rc)}")
        if answer.qos == 0:
            self._unsent[info.mid] = len(answer.payload)
            self.backlog += len(answer.payload)
        return info.mid

    def acknowledge(self, packet_id: int) -> None:
        """Acknowledge a message."""
        self._client.ack(packet_id, 1)

    def keep_alive(self, *, due: bool) -> None:  # noqa: ARG002 - paho knows when
        """Let paho handle its keep-alive."""
        self._client.loop_misc()

    def ping(self) -> None:
        """Trust the broker's confirmations: paho sends a PINGREQ only when it chooses to."""
        self._events.append(Pong())

    def flush(self) -> None:
        """Do nothing: paho writes its own data."""

    def pending(self) -> int:
        """Tell whether there is more to read: paho reads one packet at a time."""
        sock: Any = self._client.socket()
        if sock is None:
            return 0
        below = getattr(sock, "pending", None)
        self._poll.register(sock, select.POLLIN)
        return (below() if below is not None else 0) or len(self._poll.poll(0))

    def fileno(self) -> int:
        """Return the file descriptor, for poll."""
        sock: Any = self._client.socket()
        return -1 if sock is None else int(sock.fileno())

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = (
                "\ufffd"  # MQTT forbids it and brokers check it: no route takes it, so it is counted and acknowledged
            )
        properties: Any = message.properties
        carried, left = packets.carry(
            getattr(properties, "CorrelationData", None),
            getattr(properties, "UserProperty", ()),
            getattr(properties, "MessageExpiryInterval", None),
        )
        self._events.append(
            Publish(
                topic,
                bytes(message.payload),
                message.qos,
                message.mid,
                message.dup,
                getattr(properties, "TopicAlias", None),
                getattr(properties, "ContentType", None),
                getattr(properties, "ResponseTopic", None),
                carried,
                message.retain,
                left,
            )
        )

    def _on_publish(self, _client: object, _data: object, packet_id: int, reason: Any, properties: Any) -> None:
        """Paho calls this when a QoS 0 message is written and when a QoS 1 message is confirmed."""
        if packet_id in self._unsent:
            self.backlog -= self._unsent.pop(packet_id)
            return
        own = getattr(properties, "ReasonString", None)
        refused = f"{reason} ({own!r})" if own else str(reason)
        self._events.append(Puback(packet_id, refused if reason.is_failure else None))


def _properties(answer: Answer) -> Any:
    if answer.content_type is None and answer.carried is None:
        return None
    properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho left this one out
    if answer.content_type is not None:
        properties.ContentType = answer.content_type
    if answer.carried is not None:
        correlation_data, user_properties, expiry = answer.carried
        if correlation_data is not None:
            properties.CorrelationData = correlation_data
        if user_properties:
            properties.UserProperty = list(user_properties)
        if expiry is not None:
            properties.MessageExpiryInterval = expiry
    return properties
