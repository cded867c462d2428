"""Schemas of the messages that a source of a route takes, in each format that may come there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from edge_agent.contract.card import Example, ModelCard
from edge_agent.contract.messages import JSON_TYPE
from edge_agent.docs.keys import SPECIAL, properties
from edge_agent.docs.schemas import NOTHING, Schema, of_feature
from edge_agent.payload import formats, packed, senml, sparkplug
from edge_agent.payload.checks import ECHOED
from edge_agent.payload.places import Conversion, Place
from edge_agent.routing.levels import lay_out
from edge_agent.routing.routes import Route
from edge_agent.routing.sources import FEATURE, Source

#: Examples of a message: a document is read by people.
_MOST_EXAMPLES: Final = 3
_ANY: Final[Schema] = {}
_ECHOED: Final[Schema] = {"description": "Goes back with the answer."}
_PACK: Final[Schema] = {
    "description": "A SenML pack (RFC 8428): a record for each feature; several times are a batch.",
    "type": "array",
    "items": {"type": "object"},
}


class Needed(NamedTuple):
    """A value that a message has: where, of what schema, and whether it has to be there."""

    at: tuple[str, ...]
    schema: Schema
    required: bool = True


class Incoming:
    """The messages of one source of a route. `known` are references to the schemas of features, by name."""

    def __init__(
        self, route: Route, source: Source, card: ModelCard, known: Mapping[str, Schema], max_rows: int
    ) -> None:
        self._route, self._source, self._card, self._known, self._max_rows = route, source, card, known, max_rows
        self._features = {feature.name: feature for feature in card.features}
        #: Levels at `{feature}`, each with the features that are published there; None where topics carry messages of many.
        self.levels = (
            lay_out([name for name in card.feature_names if self._comes(name)], source.fields)
            if FEATURE in source.subscribe.captures
            else None
        )

    def _comes(self, name: str) -> bool:
        return not self._source.only_fields or name in dict(self._source.fields)

    @property
    def formats(self) -> tuple[str, ...]:
        """The content types that are taken here, that of messages without one first."""
        if self._route.is_sparkplug:
            return (sparkplug.CONTENT_TYPE,)
        first = self._route.content_type or JSON_TYPE
        words = any(feature.kind == "category" for feature in self._card.features)
        others = [one for one in formats.known() if one != first and not (words and one == packed.CONTENT_TYPE)]
        return (first, *others)

    @property
    def answers(self) -> tuple[str, ...]:
        """The content types of what is answered."""
        if self._route.gathers:
            return (formats.ALL[self._route.content_type or JSON_TYPE].answers,)
        return tuple(dict.fromkeys(formats.ALL[one].answers for one in self.formats))

    @property
    def takes_batches(self) -> bool:
        """Whether an array is several messages."""
        in_array = any(not place.at or place.is_in_array for _, place in (*self._source.fields, *self._route.capture))
        return self.levels is None and not in_array

    @property
    def document(self) -> Schema:
        """The schema of a document with the features."""
        return self._document(self._places(), top=True)

    def schema(self, content_type: str, row: Schema) -> Schema:
        """Return the schema of a message of a content type; `row` is the reference to that of the `document`."""
        if content_type == senml.CONTENT_TYPE:
            return _PACK
        if content_type == packed.CONTENT_TYPE:
            count = 1 if self.levels is not None else len(self._card.features)
            names = "the value" if self.levels is not None else ", ".join(self._card.feature_names)[:1000]
            return _binary(f"Little-endian float32, {4 * count} bytes a row: {names}")
        if content_type == sparkplug.CONTENT_TYPE:
            metrics = [".".join(place.at) for _, place in self._source.fields] or list(self._card.feature_names)
            return _binary(f"A payload of Sparkplug B with metrics: {', '.join(metrics)[:1000]}")
        if self.levels is not None:
            return _either([self._document(places) for places in self.levels.values()])
        if not self.takes_batches:
            return row
        return {"anyOf": [row, {"type": "array", "items": row, "maxItems": self._max_rows}]}

    def _places(self) -> list[tuple[str, Place]]:
        """Where each feature is, in the order of the card."""
        fields = dict(self._source.fields)
        return [(name, fields.get(name) or Place((name,))) for name in self._card.feature_names if self._comes(name)]

    def _document(self, places: Iterable[tuple[str, Place]], *, top: bool = False) -> Schema:
        """Return the schema of a document with values at places."""
        route = self._route
        partial = route.remembers
        needed = [
            Needed(place.at, self._value(name, place.how), not partial and not self._features[name].missing)
            for name, place in places
        ]
        if top:
            needed += [Needed(place.at, {"type": ["string", "integer"]}) for _, place in route.capture]
            fields = dict(self._source.fields)
            needed += [
                Needed(fields.get(name, Place((name,))).at, _ECHOED, required=False)
                for name in ECHOED
                if name not in self._features
            ]
        return nested(needed, top=top)

    def _value(self, name: str, how: Conversion | None) -> Schema:
        schema = self._known[name] if how is None else of_feature(self._features[name], how)
        loses = self._route.remembers and not self._features[name].missing
        return {"anyOf": [schema, NOTHING]} if loses else schema

    def examples(self) -> list[dict[str, Any]]:
        """Return messages as JSON, from the examples on the card; none where that would take a guess."""
        if self._route.is_sparkplug:
            return []
        if self.levels is not None:
            plain = [places[0] for places in self.levels.values() if len(places) == 1]
            values = [self._features[name] for name, place in plain if place == Place(())]
            return [_told(one.name, one.word(one.example)) for one in values[:1]]
        places = self._places()
        unfit = (place.how is not None or place.is_in_array or SPECIAL & set(place.at) for _, place in places)
        if self._route.capture or any(unfit):
            return []
        made = [
            _told(one.name, payload) for one in self._examples() if (payload := self._built(one, places)) is not None
        ]
        return made[:_MOST_EXAMPLES]

    def _examples(self) -> Sequence[Example]:
        average = tuple(feature.example for feature in self._card.features)
        return self._card.examples or (Example(name="A usual one", features=average),)

    def _built(self, example: Example, places: list[tuple[str, Place]]) -> Any:
        position = {name: number for number, name in enumerate(self._card.feature_names)}
        built: Any = {}
        for name, place in places:
            word = self._features[name].word(example.features[position[name]])
            if not place.at:
                return word
            inner = built
            for step in place.at[:-1]:
                inner = inner.setdefault(step, {})
                if not isinstance(inner, dict):
                    return None
            if place.at[-1] in inner:
                return None  # two features at one place, or one within the other
            inner[place.at[-1]] = word
        return built


def nested(needed: Iterable[Needed], *, top: bool = False) -> Schema:
    """Return the schema of content with values at these places. Below a position in an array, or a selector, anything may be."""
    needed = list(needed)
    whole = [one.schema for one in needed if not one.at]
    below: dict[str, list[Needed]] = {}
    for one in needed:
        if one.at:
            below.setdefault(one.at[0], []).append(one._replace(at=one.at[1:]))
    if below and not any(step.isdecimal() or "=" in step for step in below):
        inside: Schema = {
            # Where it is text below the top, the JSON in that is looked through.
            "type": "object" if top else ["object", "string"],
            **properties({step: nested(ones) for step, ones in below.items()}),
        }
        required = [step for step, ones in below.items() if any(one.required for one in ones)]
        whole.append(inside | ({"required": required} if required else {}))
    if len(whole) > 1:
        return {"allOf": whole}
    return whole[0] if whole else _ANY


def _either(schemas: Sequence[Schema]) -> Schema:
    unlike = [one for number, one in enumerate(schemas) if one not in schemas[:number]]
    return unlike[0] if len(unlike) == 1 else {"anyOf": unlike}


def _binary(what: str) -> Schema:
    return {"description": what, "type": "string", "format": "binary"}


def _told(name: str, payload: Any) -> dict[str, Any]:
    return {"name": name, "payload": payload}
