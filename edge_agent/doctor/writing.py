"""Whether the broker's rules let us write to a topic, without anybody hearing of it.

A message of QoS 2 goes in two steps (MQTT 5, 4.3.3): PUBLISH, to which the broker answers whether that is allowed, and
PUBREL, which lets it out. Ours never come to the second step, and end with the session, which ends with the connection.

A broker is free to deliver with the first step already. Whether this one does is found out before, on a topic where our
messages do no harm: one that is held back, and behind it one that is not. Where the first comes through, or nothing does,
no other topic is touched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from edge_agent.client import log_in, receive
from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.contract.messages import Answer
from edge_agent.errors import BrokerError
from edge_agent.link.link import Link

#: Names us, in topics.
TRIAL: Final = "edge-agent-check"
#: Seconds for the broker to take or refuse messages.
DEADLINE: Final = 5.0


class Tried(NamedTuple):
    """What is known: why the broker refuses a topic, None where it does not; and `why` the others can't be tried."""

    topics: dict[str, str | None]
    why: str | None = None


def try_writing(loaded: Settings, wanted: Sequence[str], witness: str | None = None) -> Tried:
    """Ask the broker which topics may be written.

    `witness` is a topic for trials that is known to be written and read. Raises `BrokerError` when the connection fails.
    """
    witness = witness or topics.response(loaded.node.id, TRIAL)
    found: dict[str, str | None] = {}
    link, _ = log_in(loaded, [witness], purpose="check-writing")
    try:
        if (why := _why_not(link, witness)) is not None:
            refused = dict[str, str | None](link.refused_answers)
            link.close()
            return Tried(refused, why)
        # What is held back counts against what may be under way; so does the first message of the witness.
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
        return "MQTT 3.1.1 does not tell what is allowed"
    if link.withheld_at_once < 2:
        return "the broker takes no messages of QoS 2, so none can be tried unheard"
    held, sent = (f"{word} {os.getpid()}-{os.urandom(4).hex()}".encode() for word in ("held", "sent"))
    link.publish(_message(witness, 2, held))
    link.publish(_message(witness, 1, sent))
    for arrived in _arriving(link, time.monotonic() + DEADLINE):
        if held in arrived:
            return "the broker lets out at once what it should hold back, so nothing can be tried unheard"
        if sent in arrived:
            return None
        if link.refused_answers or link.refused:
            break
    return f"{witness} can't be written and read, so nothing can be tried unheard"


def _write(link: Link, wanted: Sequence[str]) -> dict[str, str | None]:
    for topic in wanted:
        link.publish(_message(topic, 2))
    ends = time.monotonic() + DEADLINE
    while link.unconfirmed and time.monotonic() < ends:
        receive(link, ends)
    late = dict.fromkeys(link.unconfirmed & set(wanted), f"the broker does not say within {DEADLINE:g} s")
    return {**dict.fromkeys(wanted), **dict(link.refused_answers), **late}


def _arriving(link: Link, ends: float) -> Iterator[list[bytes]]:
    """Yield the payloads that arrive, in their order, all that came so far; ends when the time is over."""
    arrived: list[bytes] = []
    while time.monotonic() < ends:
        for message in receive(link, ends):
            arrived.append(message.payload)
            yield arrived
        yield arrived


def _message(topic: str, qos: int, payload: bytes = b"") -> Answer:
    return Answer(topic, payload, qos=qos, content_type=None)
