"""The broker: whether the agent gets in, and what the access rules let it do.

Rules:

* We come under a client id of our own, so a running agent keeps its connection and its session.
* What may be read shows only when something is there to be read: Mosquitto grants every subscription, and then keeps
  back what the rules forbid. So an empty message goes to each input that has a captured level, with a name of ours in
  that level; it has to come through to us. A running agent answers it with a rejection, on a topic with our name.
* What may be written shows by the broker's answer with MQTT 5. MQTT 3.1.1 has none: there it shows only where we can
  read what we wrote.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from edge_agent import topics
from edge_agent.broker import Link
from edge_agent.doctor.advice import Advice
from edge_agent.doctor.findings import Finding, fail, failed, note, ok
from edge_agent.errors import BrokerError
from edge_agent.messages import Answer
from edge_agent.routes import FEATURE, Route, subscriptions
from edge_agent.settings import Settings
from edge_agent.topics import Template
from edge_agent.visit import log_in, receive
from edge_agent.wording import count

#: What stands for each captured level in the topics of the trial messages.
_TRIAL: Final = "edge-agent-check"
#: Seconds for the broker to take or refuse the trial messages, and for those it took to come through.
_DEADLINE: Final = 5.0
_COMES_THROUGH: Final = 1.0
#: Days before its end at which a certificate is worth a word.
_SOON: Final = 30
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def check_broker(loaded: Settings, routes: Sequence[Route], advice: Advice) -> Generator[Finding, None, str | None]:
    """Log in, subscribe and publish as the agent would; return the protocol version, None when we did not get in."""
    # Not as one of a pool: the check would take messages from the agents in it.
    alone = [route._replace(share=None) for route in routes]
    try:
        link, _ = log_in(loaded, subscriptions(loaded.node.id, alone), purpose="check")
    except BrokerError as error:
        yield failed("broker", error)
        if loaded.mqtt.username is not None and loaded.mqtt.password() is None:
            yield note(
                "password",
                "none: neither mqtt.password_file nor the credential mqtt-password is set",
                f"if it is a credential of the service: {advice.check}",
            )
        return None
    try:
        who = f"as {loaded.mqtt.username!r}" if loaded.mqtt.username is not None else "anonymously"
        yield ok("broker", f"{link.address}: logged in over MQTT {link.protocol} {who}")
        yield from _check_encryption(link, loaded, datetime.now(UTC))
        yield from _Trial(link, loaded, alone).findings()
        link.close()
    except BrokerError as error:
        yield failed("broker", error)
        link.abandon()
    return link.protocol


def _check_encryption(link: Link, loaded: Settings, now: datetime) -> Iterator[Finding]:
    if loaded.mqtt.uses_tls:
        if (ends := link.certificate_ends) is not None:
            yield check_certificate(datetime.fromtimestamp(ends, UTC), now)
    elif loaded.mqtt.username is not None and loaded.mqtt.transport != "unix" and loaded.mqtt.host not in _HERE:
        yield note(
            "TLS", "none: the password goes over the network as plain text", "set [mqtt.tls] (and see mqtt.port)"
        )


def check_certificate(ends: datetime, now: datetime) -> Finding:
    """Look at how long the broker's certificate, which was accepted, is still valid."""
    days = (ends - now).days
    said = f"the broker's certificate is valid until {ends:%Y-%m-%d}, {count(days, 'more day')}"
    return note("TLS", said, "renew it on the broker") if days < _SOON else ok("TLS", said)


class _Trial:
    """Trial messages on one connection, and what came of them."""

    def __init__(self, link: Link, loaded: Settings, routes: Sequence[Route]) -> None:
        self._link = link
        self._requests = topics.request(loaded.node.id).filter
        inputs, outputs = (
            [route.subscribe for route in routes],
            [t for route in routes for t in (route.publish, route.errors)],
        )
        #: Topic of a trial message -> the filter that a rule has to name.
        self._inputs = {_render(one): one.filter for one in inputs if one.captures - {FEATURE}}
        self._silent = [one.filter for one in inputs if not one.captures - {FEATURE}]
        self._outputs = {_render(one): one.filter for one in outputs}
        self._outputs[topics.health(loaded.node.id)] = topics.health(loaded.node.id)
        self._arrived: set[str] = set()

    def findings(self) -> Iterator[Finding]:
        """Send them all, then say for each topic what came of it."""
        for topic in dict.fromkeys([*self._inputs, *self._outputs]):
            self._link.publish(Answer(topic, b"", qos=1, content_type=None))
        self._wait()
        refused = dict(self._link.refused_answers)
        for one in (self._requests, *self._silent):
            yield self._ungranted(one) or ok("subscribe", f"{one}: granted")
        for topic, one in self._inputs.items():
            yield self._ungranted(one) or self._read(topic, one, refused.get(topic))
        for topic, one in self._outputs.items():
            yield self._written(topic, one, refused.get(topic))

    def _wait(self) -> None:
        """Wait until the broker has confirmed all, and then for a moment until all that we wait for has come through."""
        ends = time.monotonic() + _DEADLINE
        while self._link.unconfirmed and time.monotonic() < ends:
            self._listen(ends)
        ends = time.monotonic() + _COMES_THROUGH
        awaited = self._inputs.keys() - dict(self._link.refused_answers) - self._link.unconfirmed
        while awaited - self._arrived and time.monotonic() < ends:
            self._listen(ends)

    def _listen(self, ends: float) -> None:
        self._arrived |= {message.topic for message in receive(self._link, ends)}

    def _ungranted(self, one: str) -> Finding | None:
        reason = dict(self._link.refused).get(one)
        return None if reason is None else fail("subscribe", f"{one}: {reason}", _allow("read", one))

    def _read(self, topic: str, one: str, refused: str | None) -> Finding:
        if topic in self._arrived:
            return ok("subscribe", f"{one}: a trial message came through")
        if refused is not None:
            return note(
                "subscribe", f"{one}: granted; whether messages come through can't be tried without writing there"
            )
        if topic in self._link.unconfirmed:
            return fail("subscribe", f"{one}: the broker did not confirm a trial message within {_DEADLINE:g} s")
        said = f"{one}: granted, but no trial message came through"
        if self._link.protocol == "5":
            return fail("subscribe", said, _allow("read", one))
        return note("subscribe", f"{said}: reading or writing it is not allowed; MQTT 3.1.1 does not tell which")

    def _written(self, topic: str, one: str, refused: str | None) -> Finding:
        if refused is not None:
            return fail("publish", f"{topic}: {refused}", _allow("write", one))
        if topic in self._link.unconfirmed:
            return fail("publish", f"{topic}: the broker did not confirm it within {_DEADLINE:g} s")
        if self._link.protocol == "5":
            return ok("publish", topic)
        return note("publish", f"{topic}: sent; MQTT 3.1.1 does not tell whether it is allowed")


def _render(template: Template) -> str:
    return template.render(dict.fromkeys(template.captures, _TRIAL))


def _allow(act: str, one: str) -> str:
    verb = {"read": "reading", "write": "writing"}[act]
    return f"allow {verb} it in the broker's rules (Mosquitto's acl_file: topic {act} {one})"
