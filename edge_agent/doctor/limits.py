"""What the broker does not have, or only so much of, and where the agent will feel that.

Rules:

* What CONNACK says is taken at its word. What it does not say is tried: a shared subscription of our own, with a message of
  our own, for a broker may grant it and deliver nothing (NATS); and a retained message, which is empty, so nothing is kept.
* The pool that is subscribed to is not the agents': the check would take messages from them.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from typing import Final

from edge_agent.client import log_in, receive, until_confirmed
from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.contract.messages import Answer
from edge_agent.doctor.findings import Finding, fail, note, ok
from edge_agent.doctor.writing import COMES_THROUGH, DEADLINE, TRIAL
from edge_agent.errors import BrokerError
from edge_agent.link.granted import NO_SHARED, advice_on
from edge_agent.link.link import Link
from edge_agent.routing.routes import Route

_NO_RETAIN: Final = (
    "the broker does not support retained messages: state, info and the will are published without retain, so who subscribes "
    "later asks with the request status"
)
_SAY_SO: Final = "to do so from the start: mqtt.retain = false"


def check_limits(link: Link, loaded: Settings, routes: Sequence[Route]) -> Iterator[Finding]:
    """Report what CONNACK says that will be felt; `routes` are those of the settings."""
    granted = link.granted
    if loaded.mqtt.retain is not False and not (link.terms.retains and link.terms.retains_will):
        yield note("retain", _NO_RETAIN, _SAY_SO)
    if not link.terms.maximum_qos:
        yield note("QoS", "the broker supports QoS 0 only: messages and answers may be lost", "use a broker with QoS 1")
    if not granted.shared_subscriptions and any(route.share is not None for route in routes):
        yield note("share", "the broker does not support shared subscriptions", advice_on(NO_SHARED))
    most = max(loaded.limits.payload_bytes, loaded.limits.answer_bytes)
    if granted.maximum_packet_size is not None and granted.maximum_packet_size < most:
        yield note(
            "packets",
            f"the broker accepts packets of at most {granted.maximum_packet_size} bytes: larger messages do not arrive, and "
            "larger answers are not sent",
            "keep batches below it, or raise it on the broker (Mosquitto: max_packet_size)",
        )


def check_retain(loaded: Settings) -> Iterator[Finding]:
    """Publish an empty retained message on a topic of our own, where the settings let the agent publish retained ones."""
    if loaded.mqtt.retain is False:
        return
    link, _ = log_in(loaded, [], purpose="check-retain")
    try:
        if link.terms.retains:
            link.publish(Answer(topics.response(loaded.node.id, TRIAL), b"", qos=1, retain=True, content_type=None))
            until_confirmed(link, DEADLINE)
    except BrokerError as error:
        link.abandon()
        yield note("retain", f"the broker ends the connection over a retained message: {error}", _SAY_SO)
    else:
        link.close()


def check_shares(loaded: Settings, routes: Sequence[Route], came: Container[str]) -> Iterator[Finding]:
    """Try the shared subscription of each route, in a pool of our own; `came` are topics of trial messages that arrived
    without one.
    """
    shared = [source.subscribe for route in routes if route.share is not None for source in route.inputs]
    for one in dict.fromkeys(shared):
        wanted, topic = f"$share/{TRIAL}/{one.filter}", one.render(dict.fromkeys(one.captures, TRIAL))
        if topic not in came:
            yield note("share", f"{one.filter}: can't be tested where no trial message arrives")
            continue
        link, early = log_in(loaded, [wanted], purpose="check-share")
        try:
            yield _shared(link, wanted, topic, {message.topic for message in early})
        except BrokerError:
            link.abandon()
            raise
        link.close()


def _shared(link: Link, wanted: str, topic: str, arrived: set[str]) -> Finding:
    for _, reason in link.refused:
        return fail("share", f"{wanted}: {reason}", advice_on(reason))
    link.publish(Answer(topic, b"", qos=1, content_type=None))
    arrived |= {message.topic for message in until_confirmed(link, DEADLINE)}
    ends = time.monotonic() + COMES_THROUGH
    while not arrived and not link.refused_answers and time.monotonic() < ends:
        arrived |= {message.topic for message in receive(link, ends)}
    if arrived:
        return ok("share", f"{wanted}: a trial message arrived")
    return fail(
        "share",
        f"{wanted}: granted, but the trial message did not arrive: this broker may not deliver to shared subscriptions",
        "remove share from the route, or use a broker that has shared subscriptions",
    )
