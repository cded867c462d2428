"""The log lines of `log.level = "debug"`: each message from its arrival to its acknowledgement, one bounded line per step.

    music/kitchen/features: received as packet 17, 143 bytes at QoS 1: '{"acousticness": 0.36, "danceability": 0.38, …'
    music/kitchen/features: route to music/{sensor}/genre, model genre
    music/kitchen/features: for genre: acousticness=0.36, danceability=0.38, energy=0.59, …
    music/kitchen/genre: answers music/kitchen/features, 96 bytes at QoS 1: '{"label":"Rock",…'
    music/kitchen/genre: confirmed by the broker
    packet 17: acknowledged

The last two lines come from `edge_agent.link.delivery`. Whoever calls these asks first whether it `is_on`, once for all messages that
arrived together: that is all it costs otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from edge_agent.contract.messages import Answer, Message
from edge_agent.contract.topics import ROOT
from edge_agent.link.ledger import packet_of
from edge_agent.payload.features import Batch, Features, Unusable
from edge_agent.serving.rejecting import reason_of
from edge_agent.serving.writing import Asked
from edge_agent.wording import LOGGED, count

_log = logging.getLogger(__name__)

#: Most bytes of a payload, and most features, that a line shows; and most routes of one message.
_PAYLOAD: Final = 120
_FEATURES: Final = 32
_ROUTES: Final = 10


def is_on() -> bool:
    """Tell whether messages are followed."""
    return _log.isEnabledFor(logging.DEBUG)


def received(messages: Sequence[Message], routes_of: Callable[[str], Iterable[str]]) -> None:
    """Log messages before they are answered, with the routes that take them."""
    for message in messages:
        again = ", redelivered" if message.duplicate else ", retained" if message.retained else ""
        packet = packet_of(message)
        what = f"received{again}" if packet is None else f"received{again} as packet {packet}"
        _log.debug("%s: %s, %s", message.topic[:LOGGED], what, _shown(message.payload, message.qos))
        routes = list(routes_of(message.topic))
        for route in routes[:_ROUTES]:
            _log.debug("%s: route %s", message.topic[:LOGGED], route[:LOGGED])
        if len(routes) > _ROUTES or not (routes or message.topic.startswith(f"{ROOT}/")):
            more = f"{len(routes) - _ROUTES} more routes" if routes else "no route takes it"
            _log.debug("%s: %s", message.topic[:LOGGED], more)


def asked(model: str, names: Sequence[str], questions: Sequence[Asked]) -> None:
    """Log what the model is asked, or why it is not."""
    for topic, content, *_ in questions:
        _log.debug("%s: for %s: %s", topic[:LOGGED], model[:LOGGED], _told(names, content)[: 4 * LOGGED])


def answered(messages: Sequence[Message], answers: Sequence[Sequence[Answer]]) -> None:
    """Log the answers to messages."""
    for message, mine in zip(messages, answers, strict=True):
        if not mine:
            _log.debug("%s: nothing to answer now", message.topic[:LOGGED])
        for answer in mine:
            what = _shown(answer.payload, answer.qos)
            _log.debug("%s: answers %s, %s", answer.topic[:LOGGED], message.topic[:LOGGED], what)


def published(answers: Sequence[Answer]) -> None:
    """Log delayed answers."""
    for answer in answers:
        _log.debug("%s: due, %s", answer.topic[:LOGGED], _shown(answer.payload, answer.qos))


def _told(names: Sequence[str], content: Features | Unusable | Batch) -> str:
    if isinstance(content, Unusable):
        return f"rejected, {reason_of(content)}"
    if isinstance(content, Batch):
        rejected = f", {len(content.rejected)} rejected" if content.rejected else ""
        return f"{count(len(content.values), 'row')}{rejected}"
    outside = f"; outside of training: {', '.join(content.outside[:_FEATURES])}" if content.outside else ""
    return f"{_row(names, content.values)}{outside}"


def _row(names: Sequence[str], values: Sequence[float]) -> str:
    shown = [f"{name}={value:g}" for name, value in zip(names[:_FEATURES], values, strict=False)]
    return ", ".join(shown) + (f" and {len(names) - _FEATURES} more" if len(names) > _FEATURES else "")


def _shown(payload: bytes, qos: int) -> str:
    beginning = payload[:_PAYLOAD].decode(errors="replace")
    return f"{len(payload)} bytes at QoS {qos}: {beginning!r}{'…' if len(payload) > _PAYLOAD else ''}"
