"""Routes: the topics of each model and of its answers, and checks for routes that conflict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from edge_agent.contract import topics
from edge_agent.contract.answers import Explain
from edge_agent.contract.templates import SOME, Template
from edge_agent.errors import SettingsError
from edge_agent.payload.features import ECHOED, Fields
from edge_agent.payload.ranges import Outside
from edge_agent.payload.sparkplug import CONTENT_TYPE as SPARKPLUG
from edge_agent.routing import edge_nodes
from edge_agent.routing.sources import FEATURE as FEATURE  # noqa: PLC0414
from edge_agent.routing.sources import Partial, Source
from edge_agent.routing.trie import Trie

#: A model, where the features sit, what a route does with values outside and with answers that are not sure, and how it explains answers.
Asking: TypeAlias = tuple[str, Fields, Outside, float, Explain, bool]


class Route(NamedTuple):
    """Which topics carry a model's features, and where its answers go.

    `subscribe` and `fields`, which says where features sit in the sensor's own JSON, are those of the only source, unless
    there are several `sources`. `share` names the pool of agents that take turns; `content_type` is that of messages that
    do not say (MQTT 3.1.1 can't). `capture` are names that the payload says, with the paths to them.

    A route remembers the latest values of each sensor where one message need not bring all of them: where it captures
    `{feature}`, has several sources, or merges partial messages. What else it captures names the sensor. `max_age` is the
    age in seconds from which a value is not answered for any more, None for never; `debounce` the seconds for which an
    answer waits for more changes. With `name_sensor` each answer says what the route captured. Messages that the broker
    had kept are ignored unless `takes_retained`.

    `outside` says what becomes of values beyond all that the model was trained on. An answer whose confidence is below
    `min_confidence` has no label. With `retain` the broker keeps predictions; rejections never. `binary_sensor` is the label of
    two with which Home Assistant shows a binary sensor that is on. Answers are explained by `explain`, and where `explain_requests` says so, as their
    message asks.
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
    partial: Partial = "reject"
    sources: tuple[Source, ...] = ()
    capture: Fields = ()
    takes_retained: bool = True
    outside: Outside = "flag"
    min_confidence: float = 0.0
    retain: bool = False
    binary_sensor: str | None = None
    explain: Explain = "none"
    explain_requests: bool = True

    @property
    def asks(self) -> Asking:
        """What is asked, and how: routes that ask the same are asked together."""
        return self.model, self.fields, self.outside, self.min_confidence, self.explain, self.explain_requests

    @property
    def inputs(self) -> tuple[Source, ...]:
        """The sources, of which there is one at least."""
        return self.sources or (Source(self.subscribe, self.fields),)

    @property
    def inputs_text(self) -> str:
        """The templates of the sources, as the info and the metrics tell them."""
        return ", ".join(source.subscribe.text for source in self.inputs)

    @property
    def is_sparkplug(self) -> bool:
        """Whether it takes what edge nodes of Sparkplug B publish."""
        return self.content_type == SPARKPLUG

    @property
    def listens(self) -> tuple[Source, ...]:
        """All that it subscribes to: the sources, and what is only overheard."""
        besides = edge_nodes.overheard(self.subscribe) if self.is_sparkplug else None
        return self.inputs if besides is None else (*self.inputs, besides)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that identify a sensor, in order."""
        return (*self.inputs[0].names, *(name for name, _ in self.capture))

    @property
    def by_feature(self) -> bool:
        """Whether topics carry one value each."""
        return any(FEATURE in source.subscribe.captures for source in self.inputs)

    @property
    def remembers(self) -> bool:
        """Whether values of several messages make one row."""
        return self.by_feature or len(self.inputs) > 1 or self.partial == "merge"

    @property
    def gathers(self) -> bool:
        """Whether its messages are looked into one by one: to merge them, to ignore some, or for whose they are."""
        return self.remembers or self.partial != "reject" or bool(self.capture) or self.is_sparkplug

    def subscription(self, source: Source) -> str:
        """The subscription (MQTT 5, 4.8.2: shared subscriptions)."""
        return f"$share/{self.share}/{source.subscribe.filter}" if self.share else source.subscribe.filter

    @property
    def subscriptions(self) -> set[str]:
        """All subscriptions."""
        return {self.subscription(source) for source in self.listens}


def subscriptions(node: str, routes: Iterable[Route]) -> dict[str, bool]:
    """Return the topic filters of a node, its management requests and what its routes take, each with whether what the
    broker has retained is wanted on every connection: remembered values live in memory, so those have to come again.
    """
    wanted = {topics.request(node).filter: False}
    for route in routes:
        for subscription in sorted(route.subscriptions):
            again = route.remembers and route.takes_retained
            wanted[subscription] = wanted.get(subscription, False) or again
    return wanted


def follows_nodes(route: Route, routes: Iterable[Route]) -> bool:
    """Tell whether a route for Sparkplug B gets all that edge nodes and their devices say, and no other of `routes` a part of it.
    Of subscriptions that overlap, a broker may send a message once for each.
    """
    return edge_nodes.takes_all(route.subscribe) and not any(
        other.subscription(theirs) != route.subscription(own) and theirs.subscribe.overlaps(own.subscribe)
        for other in routes
        for theirs in other.listens
        for own in route.listens
    )


def asks(route: Route, source: Source, topic: str) -> bool:
    """Tell whether a message on a topic that a source of the route takes wants an answer, by all that is known without a model."""
    if route.is_sparkplug:
        return not source.overheard and edge_nodes.is_data(topic)
    level = (source.subscribe.match(topic) or {}).get(FEATURE)
    return level is None or not source.only_fields or (level,) in {place.at[:1] for _, place in source.fields}


def refuse_mixtures(route: Route) -> None:
    """Raise `SettingsError` when a route has what does not go with the way in which it takes messages, or lacks what that
    needs, or has to name what it does not know.
    """
    if route.name_sensor and not route.names:
        raise SettingsError(f"name_sensor: {route.subscribe.text!r} captures nothing that an answer could name")
    _refuse_unlike_sources(route)
    _refuse_half_sessions(route)
    if not route.remembers:
        if route.max_age is not None or route.debounce:
            raise SettingsError(
                f"max_age and debounce are for values that come one by one; {route.subscribe.text!r} does not capture "
                f'{{{FEATURE}}}, and partial is not "merge"'
            )
        return
    for template in (route.publish, route.errors):
        if FEATURE in template.captures:
            raise SettingsError(
                f"topic {template.text!r}: an answer is made from all features, so {{{FEATURE}}} can't stand in it"
            )
    if route.share is not None:
        why = f"captures {{{FEATURE}}}" if route.by_feature else "merges messages"
        raise SettingsError(
            f"share: the values of one sensor would go to different agents; leave it out where a route {why}"
        )
    if route.by_feature or route.debounce:
        for name, _ in (field for source in route.inputs for field in source.fields):
            if name in ECHOED:
                raise SettingsError(
                    f"fields.{name}: an answer is made from several messages, so there is no one {name} to give back; "
                    "leave it out"
                )


def _refuse_half_sessions(route: Route) -> None:
    """Raise `SettingsError` when a route for Sparkplug B would not know whose births, data and deaths belong together."""
    if not route.is_sparkplug:
        return
    for setting, given in (("source", route.sources), ("capture", route.capture), ("share", route.share)):
        if given:
            raise SettingsError(
                f"{setting}: not with Sparkplug B, where topics say whose births and data these are; leave it out"
            )
    edge_nodes.refuse_shape(route.subscribe)


def _refuse_unlike_sources(route: Route) -> None:
    first, *others = route.inputs
    for number, source in enumerate(others, start=2):
        if set(source.names) != set(first.names):
            unlike = min(set(source.names) ^ set(first.names))
            lacks, has = (number, 1) if unlike in first.names else (1, number)
            raise SettingsError(
                f"source {lacks} does not say which {{{unlike}}} it is about, as source {has} does; capture it, or set "
                f'sensor = {{ {unlike} = "…" }}'
            )
        for earlier, one in enumerate(route.inputs[: number - 1], start=1):
            if one.subscribe.overlaps(source.subscribe):
                raise SettingsError(
                    f"sources {earlier} and {number} both take {one.subscribe.shared(source.subscribe)!r}; each topic is of "
                    "one source"
                )


def refuse_loops(routes: Sequence[Route], node: str, besides: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raise `SettingsError` when a node would take its own output, or its own management topics, for features. `besides` are
    templates of more topics that are no route's, with what they are for.
    """
    own: Trie[None] = Trie()
    for text in (
        topics.state(node),
        topics.info(node),
        topics.health(node),
        topics.drift(node),
        topics.docs(node),
        topics.response(node, "{verb}"),
        *besides,
    ):
        own.add(Template(text), None)
    requests = topics.request(node)
    takers: Trie[int] = Trie()
    for number, subscribe in (
        (number, source.subscribe) for number, one in enumerate(routes, start=1) for source in one.listens
    ):
        if subscribe.overlaps(requests):
            raise SettingsError(
                f"route {number}: {subscribe.text!r} would take the management requests of this node ({requests.text!r})"
            )
        for one, _ in own.overlapping(subscribe):
            whose = besides.get(one.text, "this agent says of itself")
            raise SettingsError(f"route {number}: {subscribe.text!r} would take what {whose} on {one.text!r}")
        takers.add(subscribe, number)
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
    of routes with unlike filters, the first that takes its topic has it (`RouteTable.of`).
    """
    for other, first, number, second in _overlapping(routes):
        one, two = routes[other - 1], routes[number - 1]
        if second.filter == first.filter:
            if two.publish.text == one.publish.text:
                raise SettingsError(f"routes {other} and {number}: the same topics in and out; remove one")
        elif first.covers(second):
            raise SettingsError(
                f"routes {other} and {number}: {first.text!r} takes every topic of {second.text!r} and comes first; "
                f"move route {number} before it"
            )
        elif one.share or two.share:
            raise SettingsError(
                f"routes {other} and {number}: {first.text!r} and {second.text!r} overlap, and with share the "
                "agent would receive some messages twice; make them equal, or disjoint"
            )


def told_overlaps(routes: Sequence[Route]) -> list[str]:
    """Return a sentence for each pair of routes that match some of the same topics."""
    return [
        f"routes {other} and {number} both take {first.shared(second)!r}: route {other}, which comes first, gets it"
        for other, first, number, second in _overlapping(routes)
        if first.filter != second.filter
    ]


def _inputs(routes: Iterable[Route]) -> Iterator[tuple[int, Source, Template]]:
    """Yield each source with the number of its route."""
    for number, route in enumerate(routes, start=1):
        for source in route.inputs:
            yield number, source, source.subscribe


def _overlapping(routes: Sequence[Route]) -> Iterator[tuple[int, Template, int, Template]]:
    """Yield what two routes subscribe to where that has a topic in common, each pair with the numbers of the routes."""
    before: Trie[int] = Trie()
    for number, _, subscribe in _inputs(routes):
        for first, other in before.overlapping(subscribe):
            if other != number:
                yield other, first, number, subscribe
        before.add(subscribe, number)


class Taker(NamedTuple):
    """A route that matches a topic, with the matching source and its captures."""

    route: Route
    source: Source
    captured: dict[str, str]


class RouteTable:
    """Finds the routes for a topic."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._trie: Trie[tuple[Route, Source]] = Trie()
        for route in routes:
            for source in route.listens:
                self._trie.add(source.subscribe, (route, source))

    def of(self, topic: str) -> list[Taker]:
        """Return the routes that a message on `topic` goes to: the first that takes it, those with the same filter, and
        those that overhear it.
        """
        found = [Taker(route, source, captured) for (route, source), captured in self._trie.matching(topic)]
        if len(found) < 2:
            return found
        first = next((one.source.subscribe.filter for one in found if not one.source.overheard), None)
        return [one for one in found if one.source.overheard or one.source.subscribe.filter == first]
