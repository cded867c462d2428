"""The errors of a `Session`: why connecting failed or a connection ended, and how to fix it."""

from __future__ import annotations

from typing import Final

from edge_agent.errors import BrokerError, FarewellError, ProtocolRefusedError
from edge_agent.link import transport
from edge_agent.link.transport import Address

#: Reasons for a DISCONNECT that are unrelated to our messages, in paho's words (MQTT 5, 3.14.2.1).
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

#: In paho's words. Clients send this reason; paho 2.1 also reports it for a reason that it drops (`edge_agent.link.slow_lane`).
_NO_REASON: Final = "Normal disconnection"


def refused(address: Address, protocol: str, reason: str, words: str) -> BrokerError:
    """Return the error for a refused CONNECT: `reason` is paho's name for it, `words` is for people."""
    message = f"broker {address}: refused the connection: {words}"
    if "rotocol version" in reason:
        return ProtocolRefusedError(f"{message} (MQTT {protocol})")
    return BrokerError(f"{message}; check mqtt.username, mqtt.password_file and the broker's access rules")


def ended(address: Address, protocol: str, words: str | None, *, accepted: bool) -> BrokerError:
    """Return the error for a connection that the broker ended, with its reason in `words` if it gave one."""
    if words == _NO_REASON:
        words = None
    text = words or "without a reason from the broker"
    if accepted and (words is None or "taken over" in words):
        # Two clients with the same id disconnect each other forever, and not every broker gives the reason.
        when = "if this repeats, " if words is None else ""
        text = (
            f"{text}; {when}another client uses our client id, {address.client_id!r}: give each agent its own node.id or "
            "mqtt.client_id"
        )
    if not accepted and words is None:
        text = f"{text}; {transport.suspicion(address)}"
    if not accepted and protocol == "5":
        # An old broker without MQTT 5 may just close the connection.
        return ProtocolRefusedError(f"broker {address}: ended the connection: {text} (MQTT 5)")
    kind = FarewellError if words is not None and words.startswith(_FAREWELLS) else BrokerError
    return kind(f"broker {address}: the connection ended: {text}")


def broken(address: Address, known: str | None, words: str, *, accepted: bool) -> BrokerError:
    """Return the error of a connection that broke: what the socket is `known` to have met, or else `words`."""
    guess = "" if accepted else f"; {transport.suspicion(address)}"
    return BrokerError(f"broker {address}: the connection ended: {known or words + guess}")


def late(address: Address, *, accepted: bool) -> str:
    """Return a warning that a handshake is slow; it may still succeed."""
    asked = "SUBSCRIBE" if accepted else "CONNECT"
    return (
        f"broker {address}: no answer to {asked} for {address.connect_timeout:g} s; is it an MQTT broker? Still waiting"
    )


def unanswered(address: Address, protocol: str, *, accepted: bool) -> BrokerError:
    """Return the error for a handshake that timed out."""
    if not accepted and protocol == "5":
        # Some brokers without MQTT 5 misread the CONNECT and wait for the rest of it.
        return ProtocolRefusedError(f"broker {address}: no answer to CONNECT (MQTT 5)")
    return BrokerError(f"broker {address}: no answer to CONNECT or SUBSCRIBE in time; is it an MQTT broker?")
