"""Why a connection did not come about, or ended, and what to do about it: the errors of a `Session`."""

from __future__ import annotations

from typing import Final

from edge_agent.errors import BrokerError, FarewellError, ProtocolRefusedError
from edge_agent.link import transport
from edge_agent.link.transport import Address

#: Reasons for a DISCONNECT that have nothing to do with what was sent, in paho's words (MQTT 5, 3.14.2.1).
_FAREWELLS = (
    "Server busy",
    "Server shutting down",
    "Keep alive timeout",
    "Session taken over",
    "Administrative action",
    "Use another server",
    "Server moved",
    "Connection rate exceeded",
    "Maximum connect time",
)

#: In paho's words. It is the reason of clients, and what paho 2.1 makes of a reason that it drops (`edge_agent.link.slow_lane`).
_NO_REASON: Final = "Normal disconnection"


def refused(address: Address, protocol: str, reason: str, words: str) -> BrokerError:
    """Return the error of a CONNECT that the broker refused: its reason, and that in words."""
    message = f"broker {address}: refused the connection: {words}"
    if "rotocol version" in reason:
        return ProtocolRefusedError(f"{message} (MQTT {protocol})")
    return BrokerError(f"{message}; check mqtt.username, mqtt.password_file and the broker's rules")


def ended(address: Address, protocol: str, words: str | None, *, accepted: bool) -> BrokerError:
    """Return the error of a connection that the broker ended: with `words`, or None without any."""
    if words == _NO_REASON:
        words = None
    text = words or "without a reason from the broker"
    if accepted and (words is None or "taken over" in words):
        # Two clients with one id throw each other out for ever, and not every broker says so.
        when = "if it happens again and again, " if words is None else ""
        text = (
            f"{text}; {when}another client has our client id, {address.client_id!r}: give each agent a node.id, or an "
            "mqtt.client_id, of its own"
        )
    if not accepted and words is None:
        text = f"{text}; {transport.suspicion(address)}"
    if not accepted and protocol == "5":
        # An old broker that does not know MQTT 5 may just hang up.
        return ProtocolRefusedError(f"broker {address}: ended the connection: {text} (MQTT 5)")
    kind = FarewellError if words is not None and words.startswith(_FAREWELLS) else BrokerError
    return kind(f"broker {address}: the connection ended: {text}")


def broken(address: Address, known: str | None, words: str, *, accepted: bool) -> BrokerError:
    """Return the error of a connection that broke: what the socket is `known` to have met, or else `words`."""
    guess = "" if accepted else f"; {transport.suspicion(address)}"
    return BrokerError(f"broker {address}: the connection ended: {known or words + guess}")


def late(address: Address, *, accepted: bool) -> str:
    """Say that a handshake takes long; it may come about yet."""
    asked = "SUBSCRIBE" if accepted else "CONNECT"
    return (
        f"broker {address}: no answer to {asked} for {address.connect_timeout:g} s; is it an MQTT broker? Still waiting"
    )


def unanswered(address: Address, protocol: str, *, accepted: bool) -> BrokerError:
    """Return the error of a handshake that takes too long."""
    if not accepted and protocol == "5":
        # Some brokers that do not know MQTT 5 wait for the rest of a CONNECT they misread.
        return ProtocolRefusedError(f"broker {address}: no answer to CONNECT (MQTT 5)")
    return BrokerError(f"broker {address}: no answer to CONNECT or SUBSCRIBE in time; is it an MQTT broker?")
