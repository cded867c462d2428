"""What the nodes on a broker say of themselves in `edge/{node}/info`: their routes, so where their answers come. More of a route, such
as whether it gathers, is in `edge/{node}/docs`, which takes precedence where it is.

Both are from outside: what has another form, or topics that are none, is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from edge_agent.contract import topics
from edge_agent.contract.templates import Template
from edge_agent.errors import TopicError
from edge_agent.routing.sources import FEATURE
from edge_agent.routing.trie import Trie
from edge_agent.watching.reading import text

#: Most nodes, most routes of one node and of all, and sources of one route that are known; most topic filters that are asked for.
MOST_NODES: Final = 500
_ROUTES: Final = 256
_ALL_ROUTES: Final = 2000
_SOURCES: Final = 64
_FILTERS: Final = 1000
#: Topics whose places are remembered.
_REMEMBERED: Final = 10_000
#: Largest info that is read, in bytes.
MOST_INFO: Final = 1 << 20
#: What a node says of itself, by the last level of the topic.
STATE, INFO, HEALTH, DOCS = "state", "info", "health", "docs"


class SourceSeen(NamedTuple):
    """Where features come from, and what names the sensor besides what the topic says."""

    subscribe: Template
    sensor: tuple[tuple[str, str], ...] = ()


class RouteSeen(NamedTuple):
    """A route of a node: the model, where features come from, and where answers and rejections go. One that `gathers` need not
    answer each message.
    """

    node: str
    model: str
    sources: tuple[SourceSeen, ...]
    publish: Template
    errors: Template
    gathers: bool


class Place(NamedTuple):
    """Where an answer belongs: `topic` is that of the sensor's answers, also for its rejections, where that can be told. On
    a topic that is `shared`, those of all sensors come.
    """

    node: str
    model: str
    topic: str
    rejects: bool
    shared: bool


class Known:
    """The routes of all nodes, or of the one called `node`."""

    def __init__(self, node: str | None = None) -> None:
        self._node = node
        self._routes: dict[str, tuple[RouteSeen, ...]] = {}
        #: Made when it is needed: hundreds of nodes may tell their routes at once.
        self._trie: Trie[tuple[RouteSeen, bool]] | None = None
        self._places: dict[str, tuple[Place, ...]] = {}
        self._filters: list[str] | None = None
        #: Nodes whose routes are those of their document.
        self._documented: set[str] = set()
        #: Grows with each change.
        self.version = 0
        #: Routes that were left out: too many, or with topics that are none.
        self.left_out = 0
        #: Topics of answers that are not asked for: too many.
        self.filters_left_out = 0

    @property
    def own(self) -> list[str]:
        """Filters of what nodes say of themselves."""
        return [make(self._node or "+") for make in (topics.state, topics.info, topics.health)]

    @property
    def wanted(self) -> list[str]:
        """Filters of what nodes say of themselves, and of all answers."""
        return [*self.own, *self.filters()]

    @property
    def routes(self) -> Iterator[RouteSeen]:
        """All routes."""
        for routes in self._routes.values():
            yield from routes

    def kind_of(self, topic: str) -> tuple[str, str] | None:
        """Return whose state, info or health comes on a topic, and which of them; None for any other topic."""
        if not topic.startswith(f"{topics.ROOT}/"):
            return None
        levels = topic.split("/")
        if (
            len(levels) != 3
            or levels[2] not in {STATE, INFO, HEALTH}
            or (self._node is not None and levels[1] != self._node)
        ):
            return None
        return levels[1], levels[2]

    def take(self, node: str, info: Any) -> None:
        """Take what a node says of itself, None where it says nothing any more."""
        if not isinstance(info, dict):
            self._documented.discard(node)
        if node not in self._documented:
            self._know(node, info.get("routes") if isinstance(info, dict) else None)

    def take_docs(self, node: str, document: Any) -> None:
        """Take the document of a node (docs/messages.md)."""
        told = document.get("x-edge-agent") if isinstance(document, dict) else None
        if isinstance(told, dict) and (node in self._documented or len(self._documented) < MOST_NODES):
            self._documented.add(node)
            self._know(node, told.get("routes"))

    def _know(self, node: str, given: Any) -> None:
        before = self._routes.get(node, ())
        others = sum(map(len, self._routes.values())) - len(before)
        routes = tuple(self._read(node, given)) if isinstance(given, list) else ()
        room = _ALL_ROUTES - others if node in self._routes or len(self._routes) < MOST_NODES else 0
        self.left_out += max(0, len(routes) - room)
        routes = routes[:room]
        if routes == before:
            return
        self._routes[node] = routes
        if not routes:
            del self._routes[node]
        self._trie = None
        self._places.clear()
        self._filters = None
        self.version += 1

    def filters(self) -> list[str]:
        """Return the filters of all answers and rejections."""
        if self._filters is None:
            found = dict.fromkeys(filter_of(one) for route in self.routes for one in (route.publish, route.errors))
            self._filters = list(found)[:_FILTERS]
            self.filters_left_out = len(found) - len(self._filters)
        return self._filters

    def places(self, topic: str) -> tuple[Place, ...]:
        """Return where an answer on a topic belongs: nowhere, or in one place for each route that publishes there."""
        found = self._places.get(topic)
        if found is None:
            if len(self._places) >= _REMEMBERED:
                self._places.clear()
            found = self._places[topic] = tuple(dict.fromkeys(self._find(topic)))
        return found

    def _find(self, topic: str) -> Iterator[Place]:
        if self._trie is None:
            self._trie = Trie()
            for route in self.routes:
                self._trie.add(route.publish, (route, False))
                if route.errors != route.publish:
                    self._trie.add(route.errors, (route, True))
        for (route, rejects), captured in self._trie.matching(topic):
            is_told = route.publish.captures <= captured.keys()
            sensors_own = route.publish.render(captured) if is_told else topic
            yield Place(route.node, route.model, sensors_own, rejects, shared=not captured)

    def _read(self, node: str, given: Sequence[Any]) -> Iterator[RouteSeen]:
        self.left_out += max(0, len(given) - _ROUTES)
        for one in given[:_ROUTES]:
            try:
                yield _route(node, one)
            except (TopicError, KeyError, TypeError, AttributeError):
                self.left_out += 1


def _route(node: str, one: Mapping[str, Any]) -> RouteSeen:
    sources = tuple(_sources(one))
    publish, errors = Template(one["publish"], output=True), Template(one["errors"], output=True)
    templates = (publish, errors, *(source.subscribe for source in sources))
    # Taking part in a share would take messages from the agents of a pool; the broker's own topics are no answers.
    if any(template.text.startswith("$") for template in templates):
        raise TopicError(f"{publish.text[:60]}: not a topic of an agent")
    by_feature = any(FEATURE in source.subscribe.captures for source in sources)
    gathers = one.get("gathers", len(sources) > 1 or by_feature)
    return RouteSeen(node, text(one["model"]), sources, publish, errors, bool(gathers))


def _sources(one: Mapping[str, Any]) -> Iterator[SourceSeen]:
    if isinstance(documented := one.get("sources"), list):
        for source in documented[:_SOURCES]:
            sensor = source.get("sensor") or {}
            yield SourceSeen(Template(source["subscribe"]), tuple((str(key), str(sensor[key])) for key in sensor))
        return
    for subscribe in one["subscribe"].split(", ")[:_SOURCES]:
        yield SourceSeen(Template(subscribe))


def filter_of(template: Template, captured: Mapping[str, str] | None = None) -> str:
    """Return a filter that matches all topics of a template to publish on, with those captured levels put in that are known."""
    before, several, _ = template.filter_for(captured or {}).partition("#")  # which may stand before other levels
    return before + several
