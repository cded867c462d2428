"""Routes: which topics go to which model and where its answers go, and what can't stand together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from edge_agent.contract import topics
from edge_agent.contract.templates import SOME, Template
from edge_agent.errors import SettingsError
from edge_agent.payload.features import ECHOED, Fields
from edge_agent.routing.trie import Trie

#: The capture that makes a route a gathering one: it stands for the level that names a single value.
FEATURE: Final = "feature"


class Route(NamedTuple):
    """Which topics carry a model's features, and where its answers go.

    `fields` says where features sit in the sensor's own JSON; `share` names the pool of agents that take turns;
    `content_type` is that of messages that do not say (MQTT 3.1.1 can't).

    A route that captures `{feature}` gathers: it takes one value per topic, and what else it captures names the sensor.
    `max_age` is the age in seconds from which a value is not answered for any more, None for never; `debounce` the
    seconds for which an answer waits for more changes. With `name_sensor` each answer says what the route captured.
    """

    model: str
    subscribe: Template
    publish: Template
    errors: Template
    fields: Fields = ()
    share: str | None = None
    content_type: str | None = None
    max_age: float | None = None
    debounce: float = 0.0
    name_sensor: bool = False

    @property
    def gathers(self) -> bool:
        """Whether each topic carries one value."""
        return FEATURE in self.subscribe.captures

    @property
    def subscription(self) -> str:
        """What the broker is asked for (MQTT 5, 4.8.2: shared subscriptions)."""
        return f"$share/{self.share}/{self.subscribe.filter}" if self.share else self.subscribe.filter


def subscriptions(node: str, routes: Iterable[Route]) -> dict[str, bool]:
    """Return the topic filters of a node, its management requests and what its routes take, each with whether what the
    broker has retained is wanted on every connection: gathered values live in memory, so those have to come again.
    """
    wanted = {topics.request(node).filter: False}
    for route in routes:
        wanted[route.subscription] = wanted.get(route.subscription, False) or route.gathers
    return wanted


def refuse_mixtures(route: Route) -> None:
    """Raise `SettingsError` when a route has what does not go with gathering, or needs it and does not gather, or has to
    name what it does not capture.
    """
    if route.name_sensor and not route.subscribe.captures - {FEATURE}:
        raise SettingsError(f"name_sensor: {route.subscribe.text!r} captures nothing that an answer could name")
    if not route.gathers:
        if route.max_age is not None or route.debounce:
            raise SettingsError(
                f"max_age and debounce are for values that come one by one; {route.subscribe.text!r} does not capture "
                f"{{{FEATURE}}}"
            )
        return
    for template in (route.publish, route.errors):
        if FEATURE in template.captures:
            raise SettingsError(
                f"topic {template.text!r}: an answer is made from all features, so {{{FEATURE}}} can't stand in it"
            )
    if route.share is not None:
        raise SettingsError(
            "share: the values of one sensor would go to different agents; leave it out where a route captures "
            f"{{{FEATURE}}}"
        )
    for name, _ in route.fields:
        if name in ECHOED:
            raise SettingsError(
                f"fields.{name}: an answer is made from several messages, so there is no one {name} to give back; "
                "leave it out"
            )


def refuse_loops(routes: Sequence[Route], node: str) -> None:
    """Raise `SettingsError` when a node would take its own output, or its own management topics, for features."""
    own: Trie[None] = Trie()
    for text in (topics.state(node), topics.info(node), topics.health(node), topics.response(node, "{verb}")):
        own.add(Template(text), None)
    requests = topics.request(node)
    takers: Trie[int] = Trie()
    for number, route in enumerate(routes, start=1):
        if route.subscribe.overlaps(requests):
            raise SettingsError(
                f"route {number}: {route.subscribe.text!r} would take the management requests of this node "
                f"({requests.text!r})"
            )
        for one, _ in own.overlapping(route.subscribe):
            raise SettingsError(
                f"route {number}: {route.subscribe.text!r} would take what this agent says of itself on {one.text!r}"
            )
        takers.add(route.subscribe, number)
    for number, route in enumerate(routes, start=1):
        for what, output in (("answers", route.publish), ("rejections", route.errors)):
            for taker, other in takers.overlapping(output):
                raise SettingsError(f"route {number}: {_loop(what, output, other, taker)}")
            if output.overlaps(requests) or own.overlapping(output):
                raise SettingsError(f"route {number}: {output.text!r} could be one of this node's own topics")


def _loop(what: str, output: Template, other: int, taker: Template) -> str:
    """Say how what is published could come back in, by an example of a topic on which it would."""
    example = output.example(taker) or ""
    named = {name: value for name, value in (output.match(example) or {}).items() if value != SOME}
    sensor = " and ".join(f"{{{name}}} is {value!r}" for name, value in named.items())
    where = "publish" if what == "answers" else "errors"
    return (
        f"{f'where {sensor}, ' if sensor else ''}what it publishes on {(example if sensor else output.text)!r} would come back "
        f"in by route {other}, which subscribes to {taker.text!r}; set {where} to a topic that no route takes"
    )


def refuse_overlaps(routes: Sequence[Route]) -> None:
    """Raise `SettingsError` where routes take the same topics and it can't be that the first of them has those.

    A broker sends a message of two subscriptions once or once for each. It has one answer for each route all the same:
    of routes with unlike filters, the first that takes its topic has it (`Table.of`).
    """
    for other, first, number, route in _overlapping(routes):
        if route.subscribe.filter == first.subscribe.filter:
            if route.publish.text == first.publish.text:
                raise SettingsError(f"routes {other} and {number}: the same topics in and out; remove one")
        elif first.subscribe.covers(route.subscribe):
            raise SettingsError(
                f"routes {other} and {number}: {first.subscribe.text!r} takes all that {route.subscribe.text!r} could "
                f"take, and stands before it; let route {number} stand first"
            )
        elif first.share or route.share:
            raise SettingsError(
                f"routes {other} and {number}: {first.subscribe.text!r} and {route.subscribe.text!r} take partly the "
                "same topics, and with share such a message comes for each; make them the same, or separate"
            )


def told_overlaps(routes: Sequence[Route]) -> list[str]:
    """Return a sentence for each pair of routes that take partly the same topics."""
    return [
        f"routes {other} and {number} both take {first.subscribe.shared(route.subscribe)!r}: route {other}, which stands "
        "first, has it"
        for other, first, number, route in _overlapping(routes)
        if first.subscribe.filter != route.subscribe.filter
    ]


def _overlapping(routes: Sequence[Route]) -> Iterator[tuple[int, Route, int, Route]]:
    """Yield each pair of routes that take a topic in common, with their numbers."""
    before: Trie[tuple[int, Route]] = Trie()
    for number, route in enumerate(routes, start=1):
        for _, (other, first) in before.overlapping(route.subscribe):
            yield other, first, number, route
        before.add(route.subscribe, (number, route))


class Table:
    """Which routes a topic goes to."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._trie: Trie[Route] = Trie()
        for route in routes:
            self._trie.add(route.subscribe, route)

    def of(self, topic: str) -> list[tuple[Route, dict[str, str]]]:
        """Return the routes that a message on `topic` goes to, with what they capture: the first that takes it, and those
        with the same filter.
        """
        found = self._trie.matching(topic)
        if len(found) < 2:
            return found
        first = found[0][0].subscribe.filter
        return [(route, captured) for route, captured in found if route.subscribe.filter == first]
