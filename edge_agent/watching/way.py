"""The way of one sensor's messages: what it sent, what was answered, and the time between.

A message and its answer are told to belong together by the sender's `id`, where there is one, else by their order: an agent answers in
the order of receipt. On a route that gathers, an answer belongs to the message that came last. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from edge_agent.contract import topics
from edge_agent.contract.messages import Message, shown_topic
from edge_agent.contract.templates import Template
from edge_agent.errors import InputError, TopicError
from edge_agent.routing.sources import FEATURE
from edge_agent.watching import events
from edge_agent.watching.events import Event
from edge_agent.watching.known import DOCS, MOST_INFO, STATE, Known, RouteSeen, SourceSeen, filter_of
from edge_agent.watching.reading import decoded, rows_of, text

#: Seconds after which a message counts as not answered.
OVERDUE: Final = 5.0
#: Seconds after which it is said what may be wrong, where nothing came.
_QUIET: Final = 4.0
#: Most messages that wait for their answer, on one topic and in all; most routes that are told apart, and named.
_WAITING: Final = 64
_TOPICS: Final = 1000
_TARGETS: Final = 256
_NAMED: Final = 5


class Target(NamedTuple):
    """A source of a route that takes what is watched: `messages` are the topics of the messages, `captured` is what is known of the sensor.
    What else makes a row of a route that gathers is looked at, but not shown (`is_other`): an answer may be due to it.
    """

    route: RouteSeen
    source: SourceSeen
    messages: Template
    captured: dict[str, str]
    is_other: bool = False


class Asked(NamedTuple):
    """A message that waits for its answer: when it came, on which topic, and its sender's mark."""

    at: float
    topic: str
    mark: Any


class Pairing:
    """Finds the message that an answer belongs to. Keys are the topics of the answers."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, bool], deque[Asked]] = {}

    def asked(self, topic: str, message: Asked, *, gathers: bool) -> None:
        """Note a message whose answer is to come on a topic."""
        key = topic, gathers
        if key not in self._waiting and len(self._waiting) >= _TOPICS:
            self._waiting.pop(next(iter(self._waiting)))
        self._waiting.setdefault(key, deque(maxlen=_WAITING)).append(message)

    def answered(self, topic: str, mark: Any, *, gathers: bool) -> Asked | None:
        """Return the message that the answer on a topic belongs to, None when it is not known."""
        waiting = self._waiting.get((topic, gathers))
        if not waiting:
            return None
        if gathers:
            last = waiting[-1]
            waiting.clear()
            return last
        found = next((one for one in waiting if one.mark == mark), None)
        if found is not None:
            waiting.remove(found)
        return found

    def overdue(self, now: float) -> list[Asked]:
        """Return, once, the messages that should have been answered by now."""
        found: list[Asked] = []
        for (_, gathers), waiting in self._waiting.items():
            while waiting and waiting[0].at < now - OVERDUE:
                one = waiting.popleft()
                if not gathers:
                    found.append(one)
        return list(dict.fromkeys(found))

    def clear(self) -> None:
        """Forget all: what came meanwhile was not seen."""
        self._waiting.clear()


class Way:
    """The messages on `topic` (of a sensor or of its answers; wildcards are allowed) and what becomes of them."""

    def __init__(self, known: Known, topic: str) -> None:
        self._known = known
        self._topic = topic
        self._wanted = as_template(topic)
        self._is_plain = not any(mark in topic.split("/") for mark in "+#")
        self._version = -1
        self._targets: list[Target] = []
        self._pairing = Pairing()
        self._states: dict[str, str] = {}
        self._began: float | None = None
        self._hinted = False
        self._seen = False

    @property
    def wanted(self) -> list[str]:
        """The topics of the nodes, the messages, and their answers."""
        own = [one for one in self._known.own if not one.endswith("/health")]
        documents = [one.removesuffix(STATE) + DOCS for one in own if one.endswith(f"/{STATE}")]
        filters = [self._topic]
        for target in self._found:
            filters.append(target.messages.filter)
            filters += [filter_of(one, target.captured) for one in (target.route.publish, target.route.errors)]
        return [*own, *documents, *dict.fromkeys(filters)]

    def take(self, message: Message, now: float) -> Iterator[tuple[Event, Message | None]]:
        """Return what a message says."""
        topic = message.topic
        if self._of_node(topic, message):
            return
        is_answer = False
        for event in self._answers(topic, message, now):
            is_answer = True
            yield event, message
        takers = [] if is_answer else self._takers(topic)
        if takers or (not is_answer and self._wanted.match(topic) is not None):
            event = self._asked(topic, message, takers, now)
            if not takers or not all(target.is_other for target, _ in takers):
                self._seen = True
                yield event, message

    def due(self, now: float) -> Iterator[Event]:
        """Return messages that should have been answered; and once what may be wrong when nothing came."""
        self._began = now if self._began is None else self._began
        for one in self._pairing.overdue(now):
            nodes = {
                target.route.node: self._states.get(target.route.node, "?") for target, _ in self._takers(one.topic)
            }
            yield {"event": "unanswered", "topic": one.topic, "seconds": OVERDUE, "nodes": nodes}
        if not self._hinted and not self._seen and now - self._began > _QUIET:
            self._hinted = True
            yield {"event": "hint", "hint": self._hint()}

    def restart(self) -> None:
        """Forget the messages of a connection that has ended."""
        self._pairing.clear()
        self._began = None

    # -- what comes

    def _of_node(self, topic: str, message: Message) -> bool:
        levels = topic.split("/")
        if len(levels) == 3 and levels[0] == topics.ROOT and levels[2] == DOCS:
            self._known.take_docs(levels[1], decoded(message, MOST_INFO))
            return True
        kind = self._known.kind_of(topic)
        if kind is None:
            return False
        event = events.of_node(self._known, *kind, message)
        if event is not None and kind[1] == STATE:
            self._states.pop(kind[0], None)
            if len(self._states) < _TOPICS:
                self._states[kind[0]] = event["state"]
        return True

    def _asked(self, topic: str, message: Message, takers: list[tuple[Target, dict[str, str]]], now: float) -> Event:
        event: Event = {"event": "message", "topic": topic}
        if message.content_type:
            event["content_type"] = message.content_type
        if message.retained:
            event["retained"] = True
        if message.response_topic:
            event["response_topic"] = message.response_topic
        content = events.content(message, "message")
        event["models"] = list(dict.fromkeys(target.route.model for target, _ in takers))
        mark = _mark(content.get("message"))
        keys = {(self._answers_topic(target, captured), target.route.gathers) for target, captured in takers}
        for key, gathers in keys:
            if message.payload and key is not None:
                self._pairing.asked(key, Asked(now, topic, mark), gathers=gathers)
        return {**event, **content}

    def _answers(self, topic: str, message: Message, now: float) -> Iterator[Event]:
        """Return the event of an answer to what is watched, or of a rejection."""
        if not message.payload:
            return
        for place in self._known.places(topic)[:1]:
            targets = [one for one in self._found if one.route.node == place.node and _publishes(one, topic)]
            found = decoded(message, MOST_INFO)
            if not targets or not self._is_ours(found):
                return
            for event in events.of_message(self._known, message):
                asked = self._pairing.answered(place.topic, _mark(found), gathers=targets[0].route.gathers)
                if asked is not None and not message.retained:
                    event["to"] = asked.topic
                    event["after_ms"] = round(1000 * (now - asked.at), 3)
                yield event

    def _is_ours(self, found: Any) -> bool:
        """Tell whether an answer can be one to what is watched: a rejection names the topic of its message."""
        if not self._is_plain:
            return True
        named = {row["topic"] for row in rows_of(found) if isinstance(row.get("topic"), str)}
        sources = [target for target in self._found if target.messages is self._wanted]
        return not named or not sources or shown_topic(self._topic) in named

    # -- the routes

    @property
    def _found(self) -> list[Target]:
        if self._version != self._known.version:
            self._version = self._known.version
            self._targets = list(islice(self._find(), _TARGETS))
        return self._targets

    def _find(self) -> Iterator[Target]:
        for route in self._known.routes:
            found = list(self._targets_of(route))
            yield from found
            if route.gathers and found:
                yield from self._others(route, found[0].captured)

    def _targets_of(self, route: RouteSeen) -> Iterator[Target]:
        for source in route.sources:
            if self._is_plain and (captured := source.subscribe.match(self._topic)) is not None:
                yield Target(route, source, self._wanted, {**dict(source.sensor), **captured})
            elif self._is_plain and (captured := _captured(route, self._topic)) is not None:
                # The topic of its answers.
                yield Target(route, source, as_template(source.subscribe.filter_for(captured)), captured)
            elif not self._is_plain and source.subscribe.overlaps(self._wanted):
                yield Target(route, source, self._wanted, {})

    def _others(self, route: RouteSeen, captured: Mapping[str, str]) -> Iterator[Target]:
        sensor = {name: level for name, level in captured.items() if name != FEATURE}
        for source in route.sources:
            if all(sensor.get(name, level) == level for name, level in source.sensor):
                yield Target(route, source, as_template(source.subscribe.filter_for(sensor)), sensor, is_other=True)

    def _takers(self, topic: str) -> list[tuple[Target, dict[str, str]]]:
        """Return which routes take a message on a topic, as far as it belongs to what is watched."""
        found = []
        for target in self._found:
            captured = target.source.subscribe.match(topic)
            if captured is None or target.messages.match(topic) is None:
                continue
            found.append((target, {**target.captured, **dict(target.source.sensor), **captured}))
        return found

    def _answers_topic(self, target: Target, captured: Mapping[str, str]) -> str | None:
        """Return the topic of the answers to a message, None when only its payload or the configuration says it."""
        publish = target.route.publish
        return publish.render(captured) if publish.captures <= captured.keys() else None

    def _hint(self) -> str:
        if self._found:
            return f"nothing on {self._topic} yet: the sensor is silent, or this user may not read what it sends (docs/security.md)"
        sources = dict.fromkeys(source.subscribe.text for route in self._known.routes for source in route.sources)
        if not sources:
            return (
                f"no node has told its routes on {topics.ROOT}/+/info: does an agent run, and may this user read that?"
            )
        named = ", ".join(text(one) for one in list(sources)[:_NAMED])
        more = f" and {len(sources) - _NAMED} more" if len(sources) > _NAMED else ""
        return f"no route takes {self._topic}; routes subscribe to {named}{more}"


def as_template(topic: str) -> Template:
    """Return what matches the topics of a filter. Raises `InputError` where it is none."""
    if topic.startswith("$"):
        raise InputError(
            f"--topic {topic!r}: watching takes no part in a share, and the broker's own topics are no sensor's"
        )
    if any(mark in topic for mark in "{}"):
        raise InputError(f"--topic {topic!r}: names in braces are for routes; here + stands for any level")
    levels = [{"+": "{_}", "#": "{rest...}"}.get(level, level) for level in topic.split("/")]
    try:
        return Template("/".join(levels))
    except TopicError as error:
        raise InputError(f"--topic: {error}") from None


def _publishes(target: Target, topic: str) -> bool:
    """Tell whether a target's answers or rejections come on a topic."""
    for template in (target.route.publish, target.route.errors):
        captured = template.match(topic)
        if captured is not None and all(target.captured.get(name, level) == level for name, level in captured.items()):
            return True
    return False


def _captured(route: RouteSeen, topic: str) -> dict[str, str] | None:
    found = route.publish.match(topic)
    return route.errors.match(topic) if found is None else found


def _mark(found: Any) -> Any:
    """Return the `id` of a message or answer, None where it has none, or is a batch."""
    mark = found.get("id") if isinstance(found, dict) else None
    return mark if isinstance(mark, str | int | float) else None
