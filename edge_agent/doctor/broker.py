"""The broker: whether the agent can log in, and what the access rules let it read and write.

Rules:

* We use other client ids than the agent, so a running agent keeps its connection and its session.
* Read access shows only when a message arrives: Mosquitto grants every subscription, then silently drops what its ACL
  forbids. So we publish an empty message to each input that has a captured level, with a name of ours in that level,
  and expect to receive it. A running agent does not answer it. Without a captured
  level, or where we may not write, only messages from others can show it.
* Write access is tested without delivering anything (`edge_agent.doctor.writing`): nothing is published to outputs or
  to the agent's own topics.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from edge_agent.client import log_in, receive, until_confirmed
from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.contract.messages import Answer, Message
from edge_agent.contract.templates import Template
from edge_agent.doctor.advice import Advice
from edge_agent.doctor.channel import check_channel
from edge_agent.doctor.findings import Finding, fail, failed, note, ok
from edge_agent.doctor.limits import check_limits, check_retain, check_shares
from edge_agent.doctor.writing import COMES_THROUGH, DEADLINE, TRIAL, try_writing
from edge_agent.errors import BrokerError
from edge_agent.link.granted import ADVICE, advice_on
from edge_agent.link.link import Link
from edge_agent.routing.routes import FEATURE, Route, subscriptions
from edge_agent.wording import count

#: A certificate that expires within this many days is reported.
_SOON: Final = 30
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def check_broker(loaded: Settings, routes: Sequence[Route], advice: Advice) -> Generator[Finding, None, str | None]:
    """Log in, subscribe and publish as the agent would; return the protocol version, None when the login failed."""
    # Without shared subscriptions: the check would take messages from the agents that share them.
    alone = [route._replace(share=None) for route in routes]
    try:
        link, early = log_in(loaded, subscriptions(loaded.node.id, alone), purpose="check", will=_will(loaded.node.id))
    except BrokerError as error:
        yield failed("broker", error)
        if loaded.mqtt.username is not None and loaded.mqtt.password() is None:
            yield note(
                "password",
                "not set: there is neither mqtt.password_file nor the credential mqtt-password",
                f"if it is a credential of the service: {advice.check}",
            )
        return None
    try:
        who = f"as {loaded.mqtt.username!r}" if loaded.mqtt.username is not None else "anonymously"
        yield ok("broker", f"{link.address}: logged in over MQTT {link.protocol} {who}")
        yield from _check_encryption(link, loaded, datetime.now(UTC))
        yield from check_limits(link, loaded, routes)
        found = loaded.model_copy(update={"mqtt": loaded.mqtt.model_copy(update={"protocol": link.protocol})})
        reading = _Reading(link, found, alone, early)
        yield from reading.findings()
        link.close()
        if link.granted.shared_subscriptions:
            yield from check_shares(found, routes, reading.arrived)
        if link.terms.retains:
            yield from check_retain(found)
        yield from check_channel(found)
        yield from _check_writing(found, alone, reading.came_through)
    except BrokerError as error:
        yield failed("broker", error)
        link.abandon()
    return link.protocol


def _will(node: str) -> Answer:
    """Return a will like the agent's that has no effect: it is empty, so nothing is retained, and on our own topic."""
    return Answer(topics.response(node, TRIAL), b"", qos=1, retain=True, content_type=None)


def _check_encryption(link: Link, loaded: Settings, now: datetime) -> Iterator[Finding]:
    if loaded.mqtt.uses_tls:
        if (ends := link.certificate_ends) is not None:
            yield check_certificate(datetime.fromtimestamp(ends, UTC), now)
    elif loaded.mqtt.username is not None and loaded.mqtt.transport != "unix" and loaded.mqtt.host not in _HERE:
        yield note(
            "TLS", "off: the password goes over the network as plain text", "set [mqtt.tls], and check mqtt.port"
        )


def check_certificate(ends: datetime, now: datetime) -> Finding:
    """Check how long the broker's certificate, which was accepted, is still valid."""
    days = (ends - now).days
    said = f"the broker's certificate is valid until {ends:%Y-%m-%d}, {count(days, 'more day')}"
    return note("TLS", said, "renew it on the broker") if days < _SOON else ok("TLS", said)


class _Reading:
    """Trial messages to the inputs, on one connection, and which of them arrived. `early` arrived before."""

    def __init__(self, link: Link, loaded: Settings, routes: Sequence[Route], early: Iterable[Message]) -> None:
        self._link, self._loaded, self._routes = link, loaded, routes
        #: Topics of trial messages over which the broker ended the connection.
        self._ended: set[str] = set()
        #: Topics of trial messages that it refused, with its reason.
        self._refused: dict[str, str] = {}
        requests = topics.request(loaded.node.id)
        inputs = [source.subscribe for route in routes for source in route.inputs]
        #: Topic of a trial message -> what receives it.
        self._trials = {_render(one): one for one in (requests, *inputs) if one.captures - {FEATURE}}
        #: Those that something can receive.
        self._sent = [topic for topic, one in self._trials.items() if self._ungranted(one) is None]
        self._silent = [one for one in inputs if not one.captures - {FEATURE}]
        #: Topics of messages that arrived.
        self.arrived = {message.topic for message in early}

    def findings(self) -> Iterator[Finding]:
        """Send them all, then report for each input whether its message arrived."""
        try:
            self._send(self._link, self._sent)
        except BrokerError:
            self._link.abandon()
            self._send_apart()
        for topic, one in self._trials.items():
            yield self._ungranted(one) or self._read(topic, one, self._refused.get(topic))
        for one in self._silent:
            yield self._ungranted(one) or self._heard(one)

    @property
    def came_through(self) -> str | None:
        """The topic of a trial message that arrived, None when none did."""
        return next((topic for topic in self._trials if topic in self.arrived), None)

    def _send(self, link: Link, trials: Iterable[str]) -> None:
        """Send trial messages, wait until the broker has confirmed them all, then a moment for them to arrive."""
        for topic in trials:
            link.publish(Answer(topic, b"", qos=1, content_type=None))
        self.arrived |= {message.topic for message in until_confirmed(link, DEADLINE)}
        self._refused |= dict(link.refused_answers)
        ends = time.monotonic() + COMES_THROUGH
        awaited = set(trials) - self._refused.keys() - link.unconfirmed
        while awaited - self.arrived and time.monotonic() < ends:
            self.arrived |= {message.topic for message in receive(link, ends)}

    def _send_apart(self) -> None:
        """Send each trial message on a connection of its own: over one of them the broker ended the one that had them all."""
        wanted = subscriptions(self._loaded.node.id, self._routes)
        for topic in self._sent:
            link, _ = log_in(self._loaded, wanted, purpose="check", terms=self._link.terms)
            try:
                self._send(link, [topic])
            except BrokerError:
                self._ended.add(topic)
                link.abandon()
            else:
                link.close()

    def _ungranted(self, one: Template) -> Finding | None:
        reason = dict(self._link.refused).get(one.filter)
        return None if reason is None else fail("subscribe", f"{one.filter}: {reason}", _fix(one.filter, reason))

    def _read(self, topic: str, one: Template, refused: str | None) -> Finding:
        if topic in self.arrived:
            return ok("subscribe", f"{one.filter}: a trial message arrived")
        if topic in self._ended:
            return note(
                "subscribe",
                f"{one.filter}: granted; the broker ends the connection over a trial message on {topic}, so whether messages "
                "arrive can't be tested",
                f"if none arrive: {_allow('read', one.filter)}",
            )
        if refused is not None:
            return self._heard(one)
        if topic in self._link.unconfirmed:
            return fail("subscribe", f"{one.filter}: the broker did not confirm a trial message within {DEADLINE:g} s")
        said = f"{one.filter}: granted, but the trial message did not arrive"
        if self._link.protocol == "5":
            return fail("subscribe", said, _allow("read", one.filter))
        return note("subscribe", f"{said}: reading or writing is not allowed; MQTT 3.1.1 does not tell which")

    def _heard(self, one: Template) -> Finding:
        """Report whether anything arrived where we can't send a trial message ourselves."""
        if any(one.match(topic) is not None for topic in self.arrived):
            return ok("subscribe", f"{one.filter}: a message arrived")
        return note(
            "subscribe",
            f"{one.filter}: granted; whether messages arrive can't be tested without publishing there",
            f"if none arrive: {_allow('read', one.filter)}",
        )


def _check_writing(loaded: Settings, routes: Sequence[Route], witness: str | None) -> Iterator[Finding]:
    """Report for each output whether the broker would accept a message."""
    node = loaded.node.id
    outputs = {_render(one): one.filter for route in routes for one in (route.publish, route.errors)}
    if loaded.home_assistant.enabled:
        prefix = loaded.home_assistant.prefix
        outputs |= {f"{prefix}/device/{TRIAL}/config": f"{prefix}/device/+/config"}
    own = {topic: topic for topic in (topics.health(node), topics.state(node), topics.info(node))}
    own[topics.response(node, TRIAL)] = topics.response(node, "+")
    tried = try_writing(loaded, list(outputs | own), witness)
    refused = [_written(one, reason) for topic, one in own.items() if (reason := tried.topics.get(topic)) is not None]
    if tried.why is not None:
        yield from refused
        for one in (*outputs.values(), topics.health(node)):
            yield note("publish", f"{one}: not tested: {tried.why}")
        return
    for topic, one in outputs.items():
        yield _written(one, tried.topics[topic])
    yield from refused or [ok("publish", f"{topics.health(node)}, and its state, info and responses")]


def _written(one: str, refused: str | None) -> Finding:
    return ok("publish", one) if refused is None else fail("publish", f"{one}: {refused}", _allow("write", one))


def _render(template: Template) -> str:
    return template.render(dict.fromkeys(template.captures, TRIAL))


def _fix(one: str, reason: str) -> str:
    return advice_on(reason) if reason.startswith(tuple(ADVICE)) else _allow("read", one)


def _allow(act: str, one: str) -> str:
    verb = {"read": "reading", "write": "writing"}[act]
    return f"allow {verb} it in the broker's access rules (Mosquitto's acl_file: topic {act} {one})"
