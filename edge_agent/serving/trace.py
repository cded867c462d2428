"""The log lines of `log.level = "debug"`: each message with its answers, one bounded line per step.

    music/kitchen/features: received, 143 bytes at QoS 1: '{"acousticness": 0.36, "danceability": 0.38, …'
    music/kitchen/genre: answers music/kitchen/features, 96 bytes at QoS 1: '{"label":"Rock",…'
    music/kitchen/genre: confirmed by the broker

The last line comes from `edge_agent.link.delivery`; after it the message is acknowledged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from edge_agent.contract.messages import Answer, Message
from edge_agent.wording import LOGGED

_log = logging.getLogger(__name__)

#: Most characters of a topic, and most bytes of a payload, that a line shows.
_PAYLOAD: Final = 120


def answered(messages: Sequence[Message], answers: Sequence[Sequence[Answer]]) -> None:
    """Log messages and their answers."""
    if not _log.isEnabledFor(logging.DEBUG):
        return
    for message, mine in zip(messages, answers, strict=True):
        again = ", redelivered" if message.duplicate else ", retained" if message.retained else ""
        _log.debug("%s: received%s, %s", message.topic[:LOGGED], again, _shown(message.payload, message.qos))
        if not mine:
            _log.debug("%s: nothing to answer now", message.topic[:LOGGED])
        for answer in mine:
            what = _shown(answer.payload, answer.qos)
            _log.debug("%s: answers %s, %s", answer.topic[:LOGGED], message.topic[:LOGGED], what)


def published(answers: Sequence[Answer]) -> None:
    """Log delayed answers."""
    if _log.isEnabledFor(logging.DEBUG):
        for answer in answers:
            _log.debug("%s: due, %s", answer.topic[:LOGGED], _shown(answer.payload, answer.qos))


def _shown(payload: bytes, qos: int) -> str:
    beginning = payload[:_PAYLOAD].decode(errors="replace")
    return f"{len(payload)} bytes at QoS {qos}: {beginning!r}{'…' if len(payload) > _PAYLOAD else ''}"
