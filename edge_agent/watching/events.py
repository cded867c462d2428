"""What comes, as events: one dictionary for each, with the keys of docs/watch.md. Plain lines are made of the same ones. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from edge_agent.contract.messages import Message, to_json
from edge_agent.watching.known import HEALTH, INFO, MOST_INFO, STATE, Known
from edge_agent.watching.reading import Unread, decoded, number, read, text
from edge_agent.watching.view import Connected, Lost, Noted, Told
from edge_agent.wording import LOGGED, plain, plain_json, quantity

#: An event. Every one has `event`, and, once it is shown, `time`.
Event = dict[str, Any]

#: Longest state, in characters, and the most of a payload that is shown where it can't be read, in bytes.
_STATE: Final = 40
_PAYLOAD: Final = 120
#: Most characters of what a sensor sent in a line.
_FEATURES: Final = 500
#: Most characters of a note on the connection.
_NOTE: Final = 1000


def of_connection(told: Told) -> Event:
    """Return news of the connection."""
    if isinstance(told, Connected):
        return {"event": "connected", "broker": told.broker, "mqtt": told.protocol}
    if isinstance(told, Lost):
        return {"event": "lost", "reason": told.reason, "retry": round(told.retry, 1)}
    if isinstance(told, Noted):
        return {"event": "note", "note": told.text[:_NOTE]}
    return {"event": "refused", "filter": told.topic, "reason": told.reason}


def of_message(known: Known, message: Message) -> list[Event]:
    """Return what a message says: of a node, or an answer of one. An info changes what is `known`."""
    topic = message.topic
    kind = known.kind_of(topic)
    if kind is not None and (told := of_node(known, *kind, message)) is not None:
        return [told]
    places = known.places(topic)
    if not places or not message.payload:
        return []
    rejects = places[0].rejects
    event: Event = {
        "event": "rejection" if rejects else "prediction",
        "topic": topic,
        "nodes": list(dict.fromkeys(place.node for place in places)),
        "model": places[0].model,
    }
    if message.retained:
        event["retained"] = True
    return [{**event, **content(message, event["event"])}]


def of_node(known: Known, node: str, what: str, message: Message) -> Event | None:
    """Return what a node says of itself; None where that is nothing."""
    event: Event = {"event": what, "node": node}
    if what == STATE:
        return {**event, "state": message.payload[:_STATE].decode(errors="replace")}
    found = decoded(message, MOST_INFO)
    if what == INFO:
        known.take(node, found)
    if what in {INFO, HEALTH} and isinstance(found, dict):
        return {**event, what: found}
    return {**event, **content(message, what)} if message.payload else None


def content(message: Message, key: str) -> Event:
    """Return what a payload holds under `key`, or, where it can't be read, why, and its beginning."""
    found = decoded(message, MOST_INFO)
    if isinstance(found, Unread):
        beginning = message.payload[:_PAYLOAD].decode(errors="replace")
        return {"unreadable": found.why, "bytes": len(message.payload), "beginning": beginning}
    return {key: found}


def as_json(event: Event) -> str:
    """Return an event as one line of JSON that is safe for a terminal."""
    return plain_json(to_json(event).decode())


def as_line(event: Event, message: Message | None = None) -> str:
    """Return an event as a line for people, safe for a terminal, without the time. `message` is what it was made of."""
    return plain(_line(event, message))


def _line(event: Event, message: Message | None) -> str:
    what = event["event"]
    if what in _LINES:
        return _LINES[what](event)
    if what in {INFO, HEALTH}:
        return f"{event['node'][:LOGGED]}  {_node(event.get(what))}"
    said = _answer(message) if message is not None and what in {"prediction", "rejection"} else _message(event)
    retained = " (retained)" if event.get("retained") else ""
    spent = f", {event['after_ms']:.1f} ms after {event['to'][:LOGGED]}" if "after_ms" in event else ""
    return f"{event['topic'][:LOGGED]}  {said}{retained}{spent}"


_LINES: Final[dict[str, Callable[[Event], str]]] = {
    "connected": lambda event: f"connected to {event['broker']} over MQTT {event['mqtt']}",
    "lost": lambda event: f"{event['reason']}; trying again in {event['retry']:g} s",
    "refused": lambda event: f"subscription to {event['filter'][:LOGGED]} refused: {event['reason']}",
    "skipped": lambda event: f"{event['messages']} messages are not shown: too many at once",
    "unanswered": lambda event: (
        f"{event['topic'][:LOGGED]}  not answered within {event['seconds']:g} s; "
        + (", ".join(f"{text(node)} is {state}" for node, state in event["nodes"].items()) or "no known route takes it")
    ),
    "note": lambda event: str(event["note"]),
    "hint": lambda event: str(event["hint"]),
    STATE: lambda event: f"{event['node'][:LOGGED]}  {event['state']}",
}


def _answer(message: Message) -> str:
    reading = read(message)
    if reading.error:
        return f"{reading.error}: {reading.note}" if reading.note else reading.error
    said = " ".join(part for part in (reading.value, reading.figure) if part)
    if reading.sensor:
        said = f"({reading.sensor}) {said}"
    return f"{said}; {reading.note}" if reading.note else said


def _message(event: Event) -> str:
    if "unreadable" in event:
        said = f"{event['unreadable']}: {event['beginning']!r}"
    else:
        said = text(event.get("message", ""), _FEATURES)
    asks = f" (answer wanted on {event['response_topic'][:LOGGED]})" if "response_topic" in event else ""
    return f"{said}{asks}" if event.get("models") else f"{said}{asks}; no known route takes it"


def _node(found: Any) -> str:
    if not isinstance(found, dict):
        return "?"
    if "models" in found:
        models = found["models"] if isinstance(found["models"], list) else []
        names = [f"{text(one.get('name'))} {text(one.get('version'))}" for one in models[:8] if isinstance(one, dict)]
        return f"edge-agent {text(found.get('agent'))} serves {', '.join(names) or 'nothing'}"
    rejections = found.get("rejections")
    rejected = sum(quantity(one) or 0 for one in rejections.values()) if isinstance(rejections, dict) else 0
    return (
        f"{number(found.get('messages_per_second'), 4)} messages a second, {text(found.get('predictions'))} predictions, "
        f"{number(rejected)} rejections"
    )
