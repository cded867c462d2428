"""Figures and words of the table, from what nodes say of themselves. Pure; nothing here trusts the form of what it is given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from edge_agent.contract import topics
from edge_agent.watching.known import Known
from edge_agent.watching.picture import Node, Picture, Sensor
from edge_agent.watching.reading import number, text
from edge_agent.wording import count, duration, quantity

#: A health is too old to tell rates when this many intervals, and these seconds, have passed.
_INTERVALS: Final = 3.0
_GRACE: Final = 5.0
#: Seconds after which it is said that nothing is there.
_QUIET: Final = 4.0
#: Most models, and most kinds of rejections, of a node that are named.
_NAMED: Final = 4
_DIGITS: Final = re.compile(r"([0-9]+)")


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts names as people do: sensor 2 before sensor 10."""
    # Digits are compared as text of their length: a number of thousands of digits is nothing that int() takes.
    return [(len(part.lstrip("0")) if part.isdigit() else 0, part) for part in _DIGITS.split(name[:200])]


def served(node: Node) -> str:
    """Return the models of a node with their versions."""
    models = node.info.get("models")
    found = [
        f"{text(one.get('name', '?'))} {text(one.get('version', '?'))}"
        for one in (models[:_NAMED] if isinstance(models, list) else ())
        if isinstance(one, dict)
    ]
    more = len(models) - _NAMED if isinstance(models, list) else 0
    return ", ".join(found) + (f" and {more} more" if more > 0 else "")


def is_current(node: Node, now: float) -> bool:
    """Tell whether what the health of a node says of rates still holds."""
    if node.heard is None or node.state == "offline":
        return False
    return now - node.heard <= _INTERVALS * (quantity(node.health.get("interval")) or 0) + _GRACE


def rate(node: Node, key: str, now: float) -> str:
    """Return a rate of a node a second."""
    value = quantity(node.health.get(key))
    return a_second(value) if value is not None and is_current(node, now) else "-"


def a_second(value: float) -> str:
    """Return a rate in few digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def latency(node: Node, now: float) -> str:
    """Return how long answers take, as median and 99th percentile."""
    found = node.health.get("latency_ms")
    if not (is_current(node, now) and isinstance(found, dict)):
        return "-"
    return f"{number(found.get('p50'), 3)} / {number(found.get('p99'), 3)}"


def rejections(node: Node) -> str:
    """Return how often a node rejected what, since it started."""
    found = node.health.get("rejections")
    if not isinstance(found, dict):
        return "-" if not node.health else "none"
    counted = sorted(
        ((one, code) for code, given in found.items() if (one := quantity(given)) is not None), reverse=True
    )
    more = len(counted) - _NAMED
    told = ", ".join(f"{number(one)} {text(code)}" for one, code in counted[:_NAMED]) + (
        f" and {more} more" if more > 0 else ""
    )
    return told or "none"


def up(node: Node, now: float) -> str:
    """Return for how long a node has run."""
    value = quantity(node.health.get("uptime"))
    if value is None or value < 0 or node.heard is None or node.state == "offline":
        return "-"
    return duration(value + now - node.heard)


def age(sensor: Sensor, now: float) -> str:
    """Return how long ago a sensor was answered; nobody knows that of what the broker had kept."""
    return "retained" if sensor.arrived is None else _ago(now - sensor.arrived)


def note(sensor: Sensor, now: float) -> str:
    """Return what is to be said of the latest answer, or of a rejection a short time before it."""
    reading = sensor.reading
    if reading.note or reading.error or (rejection := sensor.rejected_lately(now)) is None:
        return reading.note
    return f"rejected {_ago(now - sensor.rejected)} ago: {rejection.note or rejection.error}"


def _ago(seconds: float) -> str:
    return duration(float(int(seconds))).replace(".0 s", " s")


def troubles(nodes: Iterable[Node]) -> list[str]:
    """Return why nodes are degraded."""
    return [
        f"{node.name} is degraded: {text(node.info.get('reason'))}"
        for node in nodes
        if node.state == "degraded" and node.info.get("reason") is not None
    ]


def sampled(picture: Picture) -> str | None:
    """Return how many of the messages are read, where that is not each of them."""
    come, are_read = picture.rates
    if come < 50 or are_read > 0.9 * come:
        return None
    return f"{come:.0f} messages a second: of each sensor the latest one is read, {are_read:.0f} a second"


def left_out(known: Known, forgotten: int = 0) -> str | None:
    """Return what found no room, or was not valid."""
    told = []
    if forgotten:
        told.append(f"{count(forgotten, 'time')} a sensor or node was left out to make room for others")
    if known.left_out:
        told.append(f"{count(known.left_out, 'route')} left out: too many, or not valid")
    if known.filters_left_out:
        told.append(f"{count(known.filters_left_out, 'topic')} of answers not subscribed to: too many")
    return "; ".join(told) or None


def nothing_there(picture: Picture, node: str | None, seconds: float) -> str | None:
    """Return what to check when there is nothing to show, `seconds` after the connection."""
    if picture.nodes or picture.sensors or seconds < _QUIET:
        return None
    return hint(node)


def hint(node: str | None) -> str:
    """Return what to check where nothing comes of the nodes, or of that `node`."""
    own = f"{topics.ROOT}/{node or '+'}/#"
    return f"nothing on {own}: check that an agent runs on this broker, and that this user may read these topics"
