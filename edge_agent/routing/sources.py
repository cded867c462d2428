"""The sources of a route: topics with some of a sensor's features."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from edge_agent.contract.templates import Template
from edge_agent.payload.checks import Fields

#: The capture of a topic that carries a single value: it stands for the level that says which.
FEATURE: Final = "feature"

#: What becomes of a message that lacks features of the model: a rejection, nothing, or a part of what is known.
Partial: TypeAlias = Literal["reject", "ignore", "merge"]
#: Names, each with the text that stands for it, or with the path to that in a sensor's JSON.
Named: TypeAlias = tuple[tuple[str, str], ...]


class Source(NamedTuple):
    """Topics of one kind. `fields` says where the features are in what is published there; with `only_fields` no others are
    looked for. `sensor` are names that the topic does not say, with their text. What is only `overheard` brings no features,
    but says what becomes of others (`edge_agent.routing.edge_nodes`).
    """

    subscribe: Template
    fields: Fields = ()
    sensor: Named = ()
    only_fields: bool = False
    overheard: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What is known of the sensor from here, by name, but for the feature."""
        return (*(name for name in self.subscribe.captures if name != FEATURE), *(name for name, _ in self.sensor))

    def filter_for(self, known: dict[str, str]) -> str:
        """Return the topic filter with what is `known` of a sensor put in."""
        return self.subscribe.filter_for(known)
