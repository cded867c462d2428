"""Visiting a running agent: logging in where it does, beside it, and asking it by its requests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from edge_agent import assembly
from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.contract.messages import Answer, Message
from edge_agent.errors import BrokerError, NoAnswerError, ProtocolRefusedError
from edge_agent.link.link import Link

#: Of a payload, how much an error shows.
_SHOWN: Final = 60


def log_in(loaded: Settings, subscriptions: Iterable[str], *, purpose: str) -> tuple[Link, list[Message]]:
    """Connect and subscribe as `run` would, under a client id of our own and with a session that ends with us.

    Returns the link, and what came together with the broker's answer: what is retained may. Raises `BrokerError`;
    subscriptions that the broker refused stand in the link's `refused`.
    """
    # The node is part of the name: in containers all processes have the same few numbers.
    client_id = f"edge-agent-{loaded.node.id}-{purpose}-{os.getpid()}"
    where = assembly.address(loaded, client_id=client_id, session_expiry=0)
    protocols = assembly.protocols(loaded)
    for protocol in protocols:
        link = Link(where, protocol=protocol, subscriptions=dict.fromkeys(subscriptions, False))
        early: list[Message] = []
        try:
            while not link.ready:
                early += receive(link, time.monotonic() + 1.0)
        except ProtocolRefusedError:
            link.abandon()
            if protocol == protocols[-1]:
                raise
        else:
            return link, early
    raise AssertionError("there is always a last protocol")


def ask(
    loaded: Settings,
    verb: str,
    payload: bytes = b"",
    *,
    timeout: float,
    accept: Callable[[bytes], bool] = lambda _: True,
) -> bytes:
    """Send the agent a request and return its answer, the first that `accept` takes, within `timeout` seconds.

    Raises `NoAnswerError` when none comes, with what to look at, and `BrokerError` when there is no broker.
    """
    node = loaded.node.id
    request, response, state = (
        topics.request(node).render({"verb": verb}),
        topics.response(node, verb),
        topics.state(node),
    )
    answer: bytes | None = None
    last_state: bytes | None = None
    link, messages = log_in(loaded, [response, state], purpose=verb)
    try:
        refused = dict(link.refused)
        if response not in refused:
            link.publish(Answer(request, payload, qos=1, content_type=None))
            ends = time.monotonic() + timeout
            while True:
                for message in messages:
                    if message.topic == state:
                        last_state = message.payload
                    elif message.topic == response and accept(message.payload):
                        answer = message.payload
                over = answer is not None or last_state == b"offline" or link.refused_answers
                if over or time.monotonic() >= ends:
                    break
                messages = receive(link, ends)
            refused |= dict(link.refused_answers)
        link.close()
    except BrokerError:
        link.abandon()
        raise
    if answer is None:
        raise NoAnswerError(_why(loaded, verb, timeout, refused, last_state))
    return answer


def receive(link: Link, ends: float) -> list[Message]:
    """Wait for messages, until the monotonic time `ends` at the latest, and acknowledge them."""
    messages = link.receive(max(0.0, ends - time.monotonic()))
    for message in messages:
        link.answer(message, ())
    return messages


def cut(payload: bytes) -> str:
    """Return the beginning of a payload from outside, fit for a terminal."""
    return ascii(payload[:_SHOWN].decode(errors="replace"))


def _why(loaded: Settings, verb: str, timeout: float, refused: dict[str, str], state: bytes | None) -> str:
    """Say why there may be no answer, and what to look at."""
    node, broker = loaded.node.id, str(assembly.address(loaded))
    for topic, reason in refused.items():
        act = "writing" if "/request/" in topic else "reading"
        return f"{topic}: {reason}; allow {act} it in the broker's rules"
    if state == b"offline":
        return f"node {node!r} is offline, says {topics.state(node)} on {broker}; is it running? See its log"
    where = f"no answer from node {node!r} on {broker} within {timeout:g} s"
    if state is None:
        return (
            f"{where}, and {topics.state(node)} is empty: no agent of this name has been there; "
            "is it the agent's own configuration (node.id, mqtt.host)?"
        )
    return (
        f"{where}, though {topics.state(node)} says {cut(state)}; may it read {topics.request(node).filter} and write "
        f"{topics.response(node, verb)}? See its log"
    )
