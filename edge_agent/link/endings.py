"""The errors of a `Session`: why connecting failed or a connection ended, and how to fix it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge_agent.errors import AdaptedError, BrokerError, FarewellError, ProtocolRefusedError
from edge_agent.link import granted, transport
from edge_agent.link.transport import Address
from edge_agent.wording import LOGGED

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
NO_REASON: Final = "Normal disconnection"


#: Payloads from this size on may be larger than a broker takes; AWS IoT: 128 KiB.
_LARGE: Final = 100_000
#: Most topic filters that are named.
_NAMED: Final = 3
#: Most slashes of a topic or a topic filter, without `$share/…/`, on AWS IoT.
_SLASHES: Final = 7

#: How to fix what a broker gives as its reason, in paho's words, for refusing a connection or ending one; the beginning counts.
_ADVICE: Final = {
    "Client identifier not valid": "set mqtt.client_id to one that the broker accepts; this was {client_id!r}",
    "Bad user name or password": "check mqtt.username and mqtt.password_file",
    "Not authorized": "check mqtt.username, mqtt.password_file and the broker's access rules",
    "Bad authentication method": "the broker wants a way to log in that the agent does not have: allow it a password or a certificate",
    "Banned": "the broker has banned this client: lift that on the broker",
    "Server moved": "set mqtt.host to where it is now",
    "Use another server": "set mqtt.host to another one",
    "Topic name invalid": "the topics of our state (node.id) or of our answers (publish) are not allowed there: check its access rules",
    "Topic filter invalid": "check subscribe and share of the routes against what the broker allows",
    "Packet too large": "set limits.answer_bytes below the broker's limit",
    "Quota exceeded": "raise the broker's limit for this client",
    "Message rate too high": "raise the broker's limit for this client",
    "Receive maximum exceeded": "raise the broker's limit for this client",
    "Retain not supported": "set mqtt.retain = false",
    "QoS not supported": "the broker takes fewer kinds of messages than it says: use one that takes QoS 1",
    **granted.ADVICE,
    "Session taken over": (
        "another client uses our client id, {client_id!r}: give each agent its own node.id or mqtt.client_id"
    ),
}
#: Mosquitto before 2.1 keeps a freed session in its list of those that expire, and so expires clients that are connected.
_RELOADED: Final = "or Mosquitto before 2.1 was reloaded, perhaps to rotate its log, and has to be restarted"
#: What a broker refuses for a while only, or without our being able to do anything.
_PASSING: Final = ("Server unavailable", "Server busy", "Connection rate exceeded")


def refused(address: Address, protocol: str, reason: str, words: str, *, adapted: bool = False) -> BrokerError:
    """Return the error for a refused CONNECT: `reason` is paho's name for it, `words` is for people. `adapted` says that
    the next attempt leaves out what was refused.
    """
    message = f"broker {address}: refused the connection: {words}"
    if "rotocol version" in reason:
        return ProtocolRefusedError(f"{message} (MQTT {protocol})")
    if adapted:
        return AdaptedError(message)
    if reason.startswith(_PASSING):
        return BrokerError(message)
    advice = _advice_on(reason, address.client_id) or "see the broker's log"
    return BrokerError(f"{message}; {advice}")


def ended(
    address: Address,
    protocol: str,
    words: str | None,
    *,
    accepted: bool,
    client_id: str | None = None,
    fits: str | None = None,
    sent: Sequence[str] = (),
) -> BrokerError:
    """Return the error for a connection that the broker ended, with its reason in `words` if it gave one. `client_id`
    is the one that holds, `fits` says what may be the reason, by what was under way, and `sent` are topics of messages
    that it did not confirm.
    """
    if words == NO_REASON:
        words = None
    name = client_id or address.client_id
    text = words or "without a reason from the broker"
    if words is not None and (advice := _advice_on(words, name)) is not None:
        text = f"{text}; {advice}"
    elif accepted and words is None:
        # Two clients with the same id disconnect each other forever, and not every broker gives the reason. Nor does a
        # broker in disorder.
        forbids = (
            f"the broker's access rules may not allow {_shown(sent[0])}, which was unconfirmed, or " if sent else ""
        )
        taken_over = _ADVICE["Session taken over"].format(client_id=name)
        text = f"{text}; {fits or f'if this repeats, {forbids}{taken_over}; {_RELOADED}'}"
    if not accepted and words is None:
        text = f"{text}; {transport.suspicion(address)}"
    if not accepted and protocol == "5":
        # An old broker without MQTT 5 may just close the connection.
        return ProtocolRefusedError(f"broker {address}: ended the connection: {text} (MQTT 5)")
    kind = FarewellError if words is not None and words.startswith(_FAREWELLS) else BrokerError
    return kind(f"broker {address}: the connection ended: {text}")


def will(address: Address) -> BrokerError:
    """Return the error for a connection that the broker ended on CONNECT, when its will may be the reason."""
    return AdaptedError(f"broker {address}: ended the connection on CONNECT, perhaps because the will is retained")


def what_fits(asked: Sequence[str], sent: Sequence[str], largest: int, *, retained: bool) -> str | None:
    """Return what a broker that gives no reason may have ended the connection for, None when nothing stands out: filters
    that it was `asked` for and did not answer, topics that it was `sent` messages to and did not confirm, bytes of the
    `largest` payload among these, or one that was `retained`.
    """
    if (deep := next((one for one in asked if _slashes(one) > _SLASHES), None)) is not None:
        return _too_deep(deep)
    if asked:
        named = ", ".join(_shown(one) for one in asked[:_NAMED])
        more = f" and {len(asked) - _NAMED} more" if len(asked) > _NAMED else ""
        return (
            f"it was asked for a subscription to {named}{more}: check the broker's access rules, and how many it allows"
        )
    if largest >= _LARGE:
        return (
            f"a message of {largest} bytes was unconfirmed: if the broker takes no more than that, set limits.answer_bytes "
            "below its limit"
        )
    if (deep := next((one for one in sent if _slashes(one) > _SLASHES), None)) is not None:
        return _too_deep(deep)
    if retained:
        return (
            "a retained message was unconfirmed: if this repeats, check that the broker's access rules allow the agent's own "
            "topics, edge/{node.id}/#, and retained messages (else: mqtt.retain = false)"
        )
    return None


def of_filter(asked: Sequence[str], words: str | None) -> str:
    """Return the reason for which a filter counts as refused over which the broker ended the connection, with `words` if it
    gave any. `asked` are the filters that it did not answer.
    """
    if len(asked) == 1 and _slashes(asked[0]) > _SLASHES:
        return f"{granted.ENDS}: {_too_deep(asked[0])}"
    return granted.ENDS if words in {None, NO_REASON} else f"{granted.ENDS}: {words}"


def _too_deep(one: str) -> str:
    return f"{_shown(one)} has {_slashes(one)} slashes: some brokers take fewer (AWS IoT: {_SLASHES})"


def _slashes(one: str) -> int:
    """Return how many slashes a topic or a topic filter has, without those of a shared subscription."""
    return one.count("/") - (2 if one.startswith("$share/") else 0)


def _shown(topic: str) -> str:
    return repr(topic[:LOGGED])


def _advice_on(words: str, client_id: str) -> str | None:
    return next(
        (advice.format(client_id=client_id) for reason, advice in _ADVICE.items() if words.startswith(reason)), None
    )


def broken(address: Address, known: str | None, words: str, *, accepted: bool, fits: str | None = None) -> BrokerError:
    """Return the error of a connection that broke: what the socket is `known` to have met, or else `words`. `fits` is as
    for `ended`.
    """
    guess = (f"; {fits}" if fits else "") if accepted else f"; {transport.suspicion(address)}"
    return BrokerError(f"broker {address}: the connection ended: {known or words}{'' if known else guess}")


def late(address: Address, *, accepted: bool) -> str:
    """Return a warning that a handshake is slow; it may still succeed."""
    asked = "SUBSCRIBE" if accepted else "CONNECT"
    return (
        f"broker {address}: no answer to {asked} for {address.connect_timeout:g} s; is it an MQTT broker? Still waiting"
    )


def unconfirmed(address: Address, seconds: float, sent: int, unsent: int, inputs: int) -> str:
    """Return a warning that the broker, which is there, has not confirmed a message for `seconds`: messages `sent` and not
    confirmed, those that wait to be sent, and `inputs` that are not acknowledged.
    """
    return (
        f"broker {address}: has not confirmed a message for {seconds:g} s (unconfirmed: {sent}, waiting to be sent: {unsent}, "
        f"inputs not acknowledged: {inputs}). Look at the broker's log, and at its limits of messages in flight "
        "and of this client; some brokers confirm nothing to a client that has many inputs to acknowledge (docs/brokers.md)"
    )


def unanswered(address: Address, protocol: str, *, accepted: bool) -> BrokerError:
    """Return the error for a handshake that timed out."""
    if not accepted and protocol == "5":
        # Some brokers without MQTT 5 misread the CONNECT and wait for the rest of it.
        return ProtocolRefusedError(f"broker {address}: no answer to CONNECT (MQTT 5)")
    return BrokerError(f"broker {address}: no answer to CONNECT or SUBSCRIBE in time; is it an MQTT broker?")
