"""What the broker granted in its CONNACK (MQTT 5, 3.2.2.3): the one place that reads it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

#: Receive Maximum of a broker that names none: the protocol's own default.
DEFAULT_RECEIVE_MAXIMUM: Final = 65_535


class Granted(NamedTuple):
    """What holds on one connection. The defaults are MQTT's: a broker that says nothing, or talks 3.1.1, grants these."""

    #: Messages of QoS 1 and 2 that may be unconfirmed at once.
    receive_maximum: int = DEFAULT_RECEIVE_MAXIMUM
    #: Bytes of a whole packet; None where there is no limit.
    maximum_packet_size: int | None = None
    #: Topics that we may put a number in place of.
    topic_alias_maximum: int = 0
    maximum_qos: int = 2
    retain_available: bool = True
    shared_subscriptions: bool = True
    #: Seconds that stand in for those of our CONNECT; None where ours hold.
    server_keep_alive: int | None = None
    #: The client id that the broker chose; None where it took ours.
    assigned_client_id: str | None = None


def read(properties: Any) -> Granted:
    """Return what the properties of a CONNACK grant; `properties` are paho's, which lack what was not sent, or None."""
    mqtt = Granted()
    return Granted(
        getattr(properties, "ReceiveMaximum", mqtt.receive_maximum),
        getattr(properties, "MaximumPacketSize", mqtt.maximum_packet_size),
        getattr(properties, "TopicAliasMaximum", mqtt.topic_alias_maximum),
        getattr(properties, "MaximumQoS", mqtt.maximum_qos),
        bool(getattr(properties, "RetainAvailable", mqtt.retain_available)),
        bool(getattr(properties, "SharedSubscriptionAvailable", mqtt.shared_subscriptions)),
        getattr(properties, "ServerKeepAlive", mqtt.server_keep_alive),
        getattr(properties, "AssignedClientIdentifier", mqtt.assigned_client_id),
    )
