"""Whether the broker's access rules let us publish to a topic, tested without delivering a message.

A message of QoS 2 takes two steps (MQTT 5, 4.3.3): PUBLISH, to which the broker answers whether it is allowed, and
PUBREL, which releases it. We never send PUBREL; the broker drops the message with the session, which ends with the
connection.

A broker may deliver on PUBLISH already. So this is tested first, on a topic where our messages are ignored: one message
is withheld, the next one is not. If the withheld one arrives, or none does, no other topic is touched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from edge_agent.client import log_in, receive, until_confirmed
from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.contract.messages import Answer
from edge_agent.errors import BrokerError
from edge_agent.link.link import Link

#: Our name in topics.
TRIAL: Final = "edge-agent-check"
#: Seconds for the broker to accept or refuse messages.
DEADLINE: Final = 5.0
#: Seconds for trial messages, once the broker has confirmed them, to arrive.
COMES_THROUGH: Final = 1.0


class Tried(NamedTuple):
    """Topics with the broker's reason for refusing them, None if it does not; `why` the others can't be tested."""

    topics: dict[str, str | None]
    why: str | None = None


def try_writing(loaded: Settings, wanted: Sequence[str], witness: str | None = None) -> Tried:
    """Ask the broker which topics we may publish to.

    `witness` is a topic for trials that we are known to read and write. Raises `BrokerError` when the connection fails.
    """
    witness = witness or topics.response(loaded.node.id, TRIAL)
    found: dict[str, str | None] = {}
    link, _ = log_in(loaded, [witness], purpose="check-writing")
    try:
        if (why := _why_not(link, witness)) is not None:
            refused = dict[str, str | None](link.refused_answers)
            link.close()
            return Tried(refused, why)
        # Withheld messages count as in flight; so does the first trial message.
        room, left = link.withheld_at_once - 1, list(wanted)
        while left:
            found |= _write(link, left[:room])
            left = left[room:]
            link.close()
            if left:
                link, _ = log_in(loaded, [], purpose="check-writing")
    except BrokerError:
        link.abandon()
        raise
    return Tried(found)


def _why_not(link: Link, witness: str) -> str | None:
    if link.protocol != "5":
        return "MQTT 3.1.1 does not report what is allowed"
    if link.withheld_at_once < 2:
        return "the broker does not support QoS 2, so nothing can be tested without delivering it"
    held, sent = (f"{word} {os.getpid()}-{os.urandom(4).hex()}".encode() for word in ("held", "sent"))
    link.publish(_message(witness, 2, held))
    link.publish(_message(witness, 1, sent))
    for arrived in _arriving(link, time.monotonic() + DEADLINE):
        if held in arrived:
            return "the broker delivers QoS 2 messages before PUBREL, so nothing can be tested without delivering it"
        if sent in arrived:
            return None
        if link.refused_answers or link.refused:
            break
    return f"{witness} can't be written and read, so nothing can be tested without delivering it"


def _write(link: Link, wanted: Sequence[str]) -> dict[str, str | None]:
    for topic in wanted:
        link.publish(_message(topic, 2))
    until_confirmed(link, DEADLINE)
    late = dict.fromkeys(link.unconfirmed & set(wanted), f"the broker did not answer within {DEADLINE:g} s")
    return {**dict.fromkeys(wanted), **dict(link.refused_answers), **late}


def _arriving(link: Link, ends: float) -> Iterator[list[bytes]]:
    """Yield all payloads that have arrived so far, in order, each time one arrives; ends at the deadline."""
    arrived: list[bytes] = []
    while time.monotonic() < ends:
        for message in receive(link, ends):
            arrived.append(message.payload)
            yield arrived
        yield arrived


def _message(topic: str, qos: int, payload: bytes = b"") -> Answer:
    return Answer(topic, payload, qos=qos, content_type=None)
