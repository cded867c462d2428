"""Decides which Response Topics are followed (MQTT 5, 4.10).

Rules:

* the agent may be allowed to publish where a sender is not, so a Response Topic is followed only where
  `mqtt.response_topics` says so;
* and, whatever that says, never to what this agent takes or could publish itself, to topics of nodes or to those of the
  broker: there, an answer would pass for another message;
* nor to what a broker could end the connection for: it would send the question again, and so on for ever.

Otherwise the answer goes to the topic of its route.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from edge_agent.contract import topics
from edge_agent.contract.templates import Template
from edge_agent.contract.topics import is_unfit
from edge_agent.errors import TopicError
from edge_agent.routing.routes import Route
from edge_agent.routing.trie import Trie

#: A first level of the sender's own, as access rules have them (`pattern read %c/response/#`), and what a page in a
#: browser tries the agent with.
DEFAULT_FILTERS: Final = ("+/response/#", "try/#")
#: Of a Response Topic. Mosquitto ends the connection at more than 200 levels, others sooner.
MAX_LEVELS: Final = 32
MAX_BYTES: Final = 256

_NOT_LISTED: Final = "mqtt.response_topics does not list it"
_OWN: Final = "this agent takes, or publishes, what is there"


class ResponseTopics:
    """Tells which Response Topics are followed: those that match one of `filters` and are of none of `routes`."""

    def __init__(self, filters: Iterable[str], routes: Sequence[Route]) -> None:
        self._listed = _matcher(filters)
        self._own: Trie[None] = Trie()
        for template in {one for route in routes for one in _templates(route)}:
            self._own.add(template, None)

    def refusal(self, topic: str) -> str | None:
        """Return briefly why a Response Topic is not followed; None when it is."""
        if not topic or any(mark in topic for mark in "+#\0\ufffd") or is_unfit(topic):
            return "it is no topic to publish on"
        if len(topic) > MAX_BYTES or len(topic.encode()) > MAX_BYTES or topic.count("/") >= MAX_LEVELS:
            return f"it has more than {MAX_BYTES} bytes, or {MAX_LEVELS} levels"
        if topic.startswith(("$", f"{topics.ROOT}/")) or topic == topics.ROOT:
            return "it belongs to the broker, or to a node"
        if self._own.matching(topic):
            return _OWN
        return None if self._listed.fullmatch(topic) else _NOT_LISTED


def _templates(route: Route) -> Iterator[Template]:
    yield from (source.subscribe for source in route.listens)
    yield from (route.publish, route.errors)


def check_filter(text: str) -> str:
    """Return a topic filter as it is. Raises `TopicError` when it is none, or one that is never followed."""
    levels = text.split("/")
    if not text or len(text.encode(errors="replace")) > MAX_BYTES or is_unfit(text):
        raise TopicError(
            f"topic filter {text[:60]!r}: empty, longer than {MAX_BYTES} bytes, or with control characters"
        )
    if any("#" in level for level in levels[:-1]) or any(len(level) > 1 and set(level) & set("+#") for level in levels):
        raise TopicError(f"topic filter {text!r}: + stands for a whole level, and # for all levels at the end")
    if any(set(level) & set("{}") for level in levels):
        raise TopicError(f"topic filter {text!r}: write + for any level, such as 'answers/+'")
    if text.startswith("$") or levels[0] == topics.ROOT:
        raise TopicError(f"topic filter {text!r}: topics of the broker and of nodes are never followed")
    return text


def _matcher(filters: Iterable[str]) -> re.Pattern[str]:
    """Return what matches the topics of any of the filters (MQTT 5, 4.7)."""
    return re.compile("|".join(map(_pattern, sorted(filters))) or r"(?!)")


def _pattern(text: str) -> str:
    # A wildcard at the front does not match the broker's own topics, which are refused before.
    if text == "#":
        return r"(?s:.*)"
    head, whole = (text[:-2], True) if text.endswith("/#") else (text, False)
    pattern = "/".join("[^/]*" if level == "+" else re.escape(level) for level in head.split("/"))
    return f"{pattern}(?s:/.*)?" if whole else pattern
