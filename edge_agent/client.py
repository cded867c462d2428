"""A client for a running agent: connects to its broker and sends it requests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from edge_agent import assembly
from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.contract.messages import MAX_PAYLOAD_BYTES, Answer, Message, Status, validator
from edge_agent.errors import AdaptedError, BrokerError, NarrowedError, NoAnswerError, ProtocolRefusedError
from edge_agent.link.link import Link
from edge_agent.link.terms import Terms
from edge_agent.wording import quantity

#: Most of a payload that an error shows.
_SHOWN: Final = 60


def log_in(
    loaded: Settings,
    subscriptions: Iterable[str],
    *,
    purpose: str,
    will: Answer | None = None,
    terms: Terms | None = None,
    qos: int = 1,
    max_payload: int = MAX_PAYLOAD_BYTES,
) -> tuple[Link, list[Message]]:
    """Connect and subscribe as `run` would, but with another client id and a session that ends with the connection.

    Returns the link, and messages that arrived with the broker's answer, such as retained ones. Raises `BrokerError`;
    refused subscriptions are in the link's `refused`. `terms` are what is known of the broker by now; the rest is as for `Link`.
    """
    terms = terms or assembly.make_terms(loaded)
    # The node is part of the id: in containers, process ids are few and repeat.
    client_id = f"edge-agent-{loaded.node.id}-{purpose}-{os.getpid()}"
    where = assembly.address(loaded, client_id=client_id, session_expiry=0)
    protocols = assembly.protocols(loaded)
    while True:
        link = Link(
            where,
            protocol=protocols[0],
            will=will,
            subscriptions=dict.fromkeys(subscriptions, False),
            terms=terms,
            qos=qos,
            max_payload=max_payload,
        )
        early: list[Message] = []
        try:
            while not link.ready:
                early += receive(link, time.monotonic() + 1.0)
        except (AdaptedError, NarrowedError):
            link.abandon()  # the next attempt leaves out what was refused, or comes nearer to it
        except ProtocolRefusedError:
            link.abandon()
            if len(protocols) == 1:
                raise
            protocols = protocols[1:]
        except BaseException:
            link.abandon()  # also when a signal ends the wait
            raise
        else:
            return link, early


def ask(
    loaded: Settings,
    verb: str,
    payload: bytes = b"",
    *,
    timeout: float,
    accept: Callable[[bytes], bool] = lambda _: True,
) -> bytes:
    """Send the agent a request and return its answer, the first that `accept` accepts, within `timeout` seconds.

    Raises `NoAnswerError` without an answer, with what to check, and `BrokerError` when connecting fails.
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


def read_status(answer: bytes) -> Status:
    """Return what an agent answers to `status`. Raises `ValueError` where it is something else, or has figures that no machine has."""
    status: Status = validator(Status).validate_json(answer)
    if not _is_sound(status):
        raise ValueError("a number is too large")
    return status


def _is_sound(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_sound, value.values()))
    if isinstance(value, list):
        return all(map(_is_sound, value))
    return isinstance(value, bool) or not isinstance(value, int | float) or quantity(value) is not None


def receive(link: Link, ends: float) -> list[Message]:
    """Wait for messages, until the monotonic time `ends` at the latest, and acknowledge them."""
    messages = link.receive(max(0.0, ends - time.monotonic()))
    for message in messages:
        link.answer(message, ())
    return messages


def until_confirmed(link: Link, seconds: float) -> list[Message]:
    """Wait until the broker has confirmed everything, for so many seconds at most; return the messages that arrived."""
    ends = time.monotonic() + seconds
    arrived: list[Message] = []
    while link.unconfirmed and time.monotonic() < ends:
        arrived += receive(link, ends)
    return arrived


def cut(payload: bytes) -> str:
    """Return the beginning of a payload from outside, safe to print."""
    return ascii(payload[:_SHOWN].decode(errors="replace"))


def _why(loaded: Settings, verb: str, timeout: float, refused: dict[str, str], state: bytes | None) -> str:
    """Return why there may be no answer, and what to check."""
    node, broker = loaded.node.id, str(assembly.address(loaded))
    for topic, reason in refused.items():
        act = "writing" if "/request/" in topic else "reading"
        return f"{topic}: {reason}; allow {act} it in the broker's access rules"
    if state == b"offline":
        return f"node {node!r} is offline, according to {topics.state(node)} on {broker}; start it, or see its log"
    where = f"no answer from node {node!r} on {broker} within {timeout:g} s"
    if state is None:
        return (
            f"{where}, and {topics.state(node)} is empty: no agent with this name was ever connected; "
            "check that this is the agent's own configuration (node.id, mqtt.host)"
        )
    return (
        f"{where}, though {topics.state(node)} says {cut(state)}; check that it may read {topics.request(node).filter} and write "
        f"{topics.response(node, verb)}, and see its log"
    )
