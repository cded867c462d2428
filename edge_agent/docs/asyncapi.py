"""AsyncAPI 3.0 of a node: its topics, and what they carry, made from the settings and the cards of its models.

Rules:

* deterministic: the same settings and models give the same bytes, whatever the time, the machine and the broker;
* whoever may subscribe reads it: see `edge_agent.docs.server`;
* topics, labels and names come from outside: they are values, or names of properties, and never keys of AsyncAPI's own maps
  (`edge_agent.docs.keys`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from edge_agent import __version__
from edge_agent.config.routes import FieldSettings
from edge_agent.config.settings import Settings
from edge_agent.contract.card import ModelCard
from edge_agent.contract.messages import JSON_TYPE, to_json
from edge_agent.contract.templates import Template
from edge_agent.docs import extension, node, outgoing, schemas
from edge_agent.docs.channels import Channels, message
from edge_agent.docs.incoming import Incoming
from edge_agent.docs.keys import Shared
from edge_agent.docs.schemas import Schema
from edge_agent.docs.served import Served
from edge_agent.docs.server import security, server
from edge_agent.routing.routes import Route
from edge_agent.routing.sources import FEATURE

VERSION: Final = "3.0.0"
_SAYS: Final = "What the agent takes and publishes: made from its configuration and from the cards of its models."
#: Where the topic of an answer stands in a message (MQTT 5).
_RESPONSE_TOPIC: Final = "$message.header#/responseTopic"
_HEADERS: Final[Schema] = {
    "type": "object",
    "properties": {
        "responseTopic": {"type": "string", "description": "Response Topic (MQTT 5): where the answer goes instead."},
        "correlationData": {"type": "string", "description": "Correlation Data (MQTT 5): goes back with the answer."},
        "explain": {
            "enum": ["path", "shap", "none"],
            "description": "User Property (MQTT 5): how the answer is to be explained.",
        },
    },
}


def write(settings: Settings, models: Mapping[str, Served]) -> bytes:
    """Return the document as JSON. `models` are those that the routes name."""
    return to_json(document(settings, models))


def document(settings: Settings, models: Mapping[str, Served]) -> dict[str, Any]:
    """Return the document. `models` are those that the routes name."""
    return _Document(settings, models).whole()


class _Model(NamedTuple):
    """A model with references to its schemas: of an answer, of those to a batch, and of each feature."""

    card: ModelCard
    answer: Schema
    batch: Schema
    features: Mapping[str, Schema]


class _Document:
    def __init__(self, settings: Settings, models: Mapping[str, Served]) -> None:
        self._settings = settings
        self._served = models
        self._routes = settings.routes()
        self._channels = Channels()
        self._wire = schemas.of_wire(dict.fromkeys((*outgoing.KINDS, *node.kinds(settings))))
        answers = {kind.__name__ for kind in outgoing.KINDS} - {"Rejection"}
        known = {name: schema for name, schema in self._wire.items() if name not in answers}
        self._schemas, self._messages = Shared("schemas", known), Shared("messages")
        self._models: dict[str, _Model] = {}

    def whole(self) -> dict[str, Any]:
        """Return the whole document."""
        settings = self._settings
        self._add_models()
        routes = [self._add_route(number, route) for number, route in enumerate(self._routes, start=1)]
        models = {sha256: extension.of_model(card, sha256) for card, sha256 in self._served.values()}
        node.add(self._channels, settings, [one["name"] for one in models.values()])
        schemes = security(settings)
        return {
            "asyncapi": VERSION,
            "info": {
                "title": f"edge-agent {settings.node.id}",
                "version": __version__,
                "description": _SAYS,
                "license": {"name": "Apache-2.0"},
            },
            "defaultContentType": JSON_TYPE,
            "servers": {"broker": server(settings)},
            "channels": self._channels.channels,
            "operations": self._channels.operations,
            "components": {
                "schemas": self._schemas.all,
                "messages": self._messages.all,
                **({"securitySchemes": schemes} if schemes else {}),
            },
            "x-edge-agent": extension.extension(settings, [*models.values()], routes),
        }

    # -- models

    def _add_models(self) -> None:
        made: dict[str, _Model] = {}
        for name, (card, sha256) in self._served.items():
            if sha256 not in made:
                asking = (route for route in self._routes if self._served[route.model].sha256 == sha256)
                made[sha256] = self._model(card, doubts=any(route.min_confidence for route in asking))
            self._models[name] = made[sha256]

    def _model(self, card: ModelCard, *, doubts: bool) -> _Model:
        features: dict[str, Schema] = {}
        for feature in card.features:
            features[feature.name] = self._schemas.put(f"{card.name}.{feature.name}", schemas.of_feature(feature))
        answer = self._schemas.put(f"{card.name}.answer", outgoing.of_model(card, self._wire, doubts=doubts))
        batch = self._schemas.put(
            f"{card.name}.answers", {"type": "array", "items": {"anyOf": [answer, outgoing.REJECTION]}}
        )
        return _Model(card, answer, batch, features)

    # -- routes

    def _add_route(self, number: int, route: Route) -> dict[str, Any]:
        """Add the channels of a route; return what the extension has of it."""
        model = self._models[route.model]
        limit = self._settings.limits.batch_rows
        inputs = [Incoming(route, source, model.card, model.features, limit) for source in route.inputs]
        formats = dict.fromkeys(one for incoming in inputs for one in incoming.answers)
        batches = any(incoming.takes_batches for incoming in inputs) and not route.gathers
        about = f"Answers of the model {model.card.name}."
        answer = {"anyOf": [model.answer, model.batch]} if batches else model.answer
        answers = {_short(one): message(one, outgoing.in_format(answer, one), "An answer") for one in formats}
        out = self._channels.add(f"answers-{number}", route.publish, self._shared(model, "answer", answers), about)
        self._channels.send(out, about, retain=route.retain)
        rejections = {
            _short(one): message(one, outgoing.in_format(outgoing.REJECTION, one), "A rejection") for one in formats
        }
        why = f"Why the model {model.card.name} has no answer."
        wrong = self._channels.add(f"errors-{number}", route.errors, self._shared(None, "rejection", rejections), why)
        self._channels.send(wrong, why)
        reply = self._reply(number, route, model, answers)
        for place, incoming in enumerate(inputs, start=1):
            name = f"features-{number}" if len(inputs) == 1 else f"features-{number}-{place}"
            self._add_source(name, route.inputs[place - 1].subscribe, incoming, model, reply)
        return extension.of_route(route, model.card.name, inputs, self._fields_of(number))

    def _fields_of(self, number: int) -> list[Mapping[str, FieldSettings]]:
        route = self._settings.route[number - 1]
        return [route.fields] if route.source is None else [source.fields for source in route.source]

    def _add_source(
        self, name: str, subscribe: Template, incoming: Incoming, model: _Model, reply: dict[str, Any] | None
    ) -> None:
        about = f"Features for the model {model.card.name}."
        headers = {} if reply is None else {"headers": _HEADERS}
        row = self._schemas.put(f"{model.card.name}.row", incoming.document) if incoming.levels is None else {}
        messages = {
            _short(one): message(
                one,
                incoming.schema(one, row),
                "Features",
                examples=incoming.examples() if one == JSON_TYPE else (),
                **headers,
            )
            for one in incoming.formats
        }
        levels = {} if incoming.levels is None else {FEATURE: {"enum": list(incoming.levels)}}
        key = self._channels.add(name, subscribe, self._shared(model, "features", messages), about, known=levels)
        self._channels.receive(key, about, reply)

    def _reply(
        self, number: int, route: Route, model: _Model, answers: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any] | None:
        """Return the reply by Response Topic; None where none is followed."""
        mqtt = self._settings.mqtt
        if mqtt.protocol == "3.1.1" or not mqtt.response_topics or route.remembers:
            return None
        about = f"Answers of the model {model.card.name} to who named a Response Topic (MQTT 5)."
        either = {name: outgoing.or_rejection(answer) for name, answer in answers.items()}
        key = self._channels.add(f"replies-{number}", None, self._shared(model, "reply", either), about)
        return self._channels.reply(key, location=_RESPONSE_TOPIC)

    def _shared(
        self, model: _Model | None, what: str, messages: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, str]]:
        """Return references to messages, by the names of their formats."""
        whose = what if model is None else f"{model.card.name}.{what}"
        return {name: self._messages.put(f"{whose}.{name}", one) for name, one in messages.items()}


def _short(content_type: str) -> str:
    """Return the name of the messages of a content type."""
    return content_type.rpartition("/")[2].replace("+", "-")
