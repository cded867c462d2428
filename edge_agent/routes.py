"""Routes: which topics go to which model and where its answers go, and what can't stand together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edge_agent import topics
from edge_agent.codecs import Fields
from edge_agent.errors import SettingsError
from edge_agent.topics import Template


class Route(NamedTuple):
    """Which topics carry a model's features, and where its answers go.

    `fields` says where features sit in the sensor's own JSON; `share` names the pool of agents that take turns;
    `content_type` is that of messages that do not say (MQTT 3.1.1 can't).
    """

    model: str
    subscribe: Template
    publish: Template
    errors: Template
    fields: Fields = ()
    share: str | None = None
    content_type: str | None = None

    @property
    def subscription(self) -> str:
        """What the broker is asked for (MQTT 5, 4.8.2: shared subscriptions)."""
        return f"$share/{self.share}/{self.subscribe.filter}" if self.share else self.subscribe.filter


def refuse_loops(routes: Sequence[Route], node: str) -> None:
    """Raise `SettingsError` when a node would take its own output, or its own management topics, for features."""
    requests = topics.request(node)
    own = [
        Template(text)
        for text in (topics.state(node), topics.info(node), topics.health(node), topics.response(node, "{verb}"))
    ]
    for number, route in enumerate(routes, start=1):
        if route.subscribe.overlaps(requests):
            raise SettingsError(
                f"route {number}: {route.subscribe.text!r} would take the management requests of this node "
                f"({requests.text!r})"
            )
        for output in (route.publish, route.errors):
            for other, taker in enumerate(routes, start=1):
                if output.overlaps(taker.subscribe):
                    raise SettingsError(
                        f"route {number}: what it publishes on {output.text!r} would come back in by route {other}, "
                        f"which subscribes to {taker.subscribe.text!r}; give the output a topic of its own"
                    )
            if output.overlaps(requests) or any(output.overlaps(one) for one in own):
                raise SettingsError(f"route {number}: {output.text!r} could be one of this node's own topics")
        for one in own:
            if route.subscribe.overlaps(one):
                raise SettingsError(
                    f"route {number}: {route.subscribe.text!r} would take what this agent says of itself on {one.text!r}"
                )


def refuse_overlaps(routes: Sequence[Route]) -> None:
    """Raise `SettingsError` when subscriptions partly overlap: a broker may deliver such a message once or twice."""
    for number, route in enumerate(routes, start=1):
        for other, second in enumerate(routes[: number - 1], start=1):
            if route.subscribe.filter != second.subscribe.filter and route.subscribe.overlaps(second.subscribe):
                raise SettingsError(
                    f"routes {other} and {number}: {second.subscribe.text!r} and {route.subscribe.text!r} take partly "
                    "the same topics, so a message might be answered twice; make them the same, or separate"
                )
            if route.subscribe.filter == second.subscribe.filter and route.publish.text == second.publish.text:
                raise SettingsError(f"routes {other} and {number}: the same topics in and out; remove one")
