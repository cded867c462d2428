"""What the broker granted in its CONNACK (MQTT 5, 3.2.2.3): the one place that reads it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

#: Receive Maximum of a broker that names none: the protocol's own default.
DEFAULT_RECEIVE_MAXIMUM: Final = 65_535
#: Why a filter can't be subscribed to: the words of the reason codes with which a SUBACK says the same (MQTT 5, 3.9.3).
NO_SHARED: Final = "Shared subscription not supported"
NO_WILDCARDS: Final = "Wildcard subscription not supported"
#: Why a filter is refused that was found by `edge_agent.link.narrowing`.
ENDS: Final = "the broker ends the connection over it"

#: How to fix what a broker does not have.
ADVICE: Final = {
    NO_SHARED: "remove share from the route, or use a broker that has shared subscriptions",
    NO_WILDCARDS: "name each topic in a route of its own, or use a broker that has wildcards",
    ENDS: "allow it in the broker's access rules, or raise its limit of subscriptions, or remove it from the routes",
}


def advice_on(reason: str) -> str:
    """Return how to fix that a subscription was refused."""
    fixes = (fix for lacking, fix in ADVICE.items() if reason.startswith(lacking))
    return next(fixes, "allow it in the broker's access rules")


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
    wildcards: bool = True
    #: Seconds that stand in for those of our CONNECT; None where ours hold.
    server_keep_alive: int | None = None
    #: The client id that the broker chose; None where it took ours.
    assigned_client_id: str | None = None

    def lacks(self, one: str) -> str | None:
        """Return why a topic filter can't be subscribed to, None where it can."""
        if not self.shared_subscriptions and one.startswith("$share/"):
            return NO_SHARED
        if not self.wildcards and ("+" in one or "#" in one):
            return NO_WILDCARDS
        return None


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
        bool(getattr(properties, "WildcardSubscriptionAvailable", mqtt.wildcards)),
        getattr(properties, "ServerKeepAlive", mqtt.server_keep_alive),
        getattr(properties, "AssignedClientIdentifier", mqtt.assigned_client_id),
    )
