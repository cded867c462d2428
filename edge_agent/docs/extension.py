"""The extension `x-edge-agent` at the document's root: what a page needs for forms, without taking schemas apart.

Keys may be added; none is ever renamed, or taken away, since pages of another version read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent import __version__
from edge_agent.config.routes import FieldSettings
from edge_agent.config.settings import Settings
from edge_agent.contract.card import ANOMALY, NORMAL, QUANTILE_LEVELS, Feature, ModelCard
from edge_agent.docs.incoming import Incoming
from edge_agent.docs.keys import SPECIAL, fit
from edge_agent.routing.routes import Route
from edge_agent.routing.sources import Source


def extension(
    settings: Settings, models: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the extension of a node."""
    return {
        "node": settings.node.id,
        "version": __version__,
        "protocol": settings.mqtt.protocol,
        "response_topics": list(settings.mqtt.response_topics),
        "models": list(models),
        "routes": list(routes),
    }


def of_model(card: ModelCard, sha256: str) -> dict[str, Any]:
    """Return what there is to know of a model."""
    labels = {"classification": list(card.labels), "anomaly": [NORMAL, ANOMALY]}.get(card.task)
    outputs = [{"name": one.name, "unit": one.unit} for one in card.outputs]
    optional = {
        "description": card.description or None,
        "labels": labels,
        "outputs": outputs or None,
        "threshold": card.threshold,
    }
    return {
        "name": card.name,
        "version": card.version,
        "sha256": sha256,
        "task": card.task,
        **_there(optional),
        "confidence": card.task == "classification" and card.has_probabilities,
        "features": [_feature(feature) for feature in card.features],
        "examples": [
            {
                "title": example.name,
                "features": {
                    feature.name: feature.word(code)
                    for feature, code in zip(card.features, example.features, strict=True)
                },
            }
            for example in card.examples
            if not SPECIAL & set(card.feature_names)
        ],
    }


def _feature(feature: Feature) -> dict[str, Any]:
    quantiles = [[level, value] for level, value in zip(QUANTILE_LEVELS, feature.quantiles, strict=True)]
    return {
        "name": feature.name,
        "kind": feature.kind,
        **_there(
            {
                "description": feature.description or None,
                "minimum": feature.minimum,
                "maximum": feature.maximum,
                "unit": feature.unit or None,
                "quantiles": quantiles if feature.kind == "number" else None,
                "values": list(feature.categories) or None,
                "missing": feature.missing or None,
            }
        ),
        "example": feature.word(feature.example),
    }


def of_route(
    route: Route, model: str, inputs: Sequence[Incoming], fields: Sequence[Mapping[str, FieldSettings]]
) -> dict[str, Any]:
    """Return what there is to know of a route. `fields` are those of its sources, as in the configuration."""
    return {
        "model": model,
        "publish": route.publish.text,
        "errors": route.errors.text,
        "retain": route.retain,
        "partial": route.partial,
        "outside": route.outside,
        "min_confidence": route.min_confidence,
        "gathers": route.gathers,
        "sources": [
            _source(route, source, incoming, places)
            for source, incoming, places in zip(route.inputs, inputs, fields, strict=True)
        ],
    }


def _source(route: Route, source: Source, incoming: Incoming, fields: Mapping[str, FieldSettings]) -> dict[str, Any]:
    return {
        "subscribe": source.subscribe.text,
        "parameters": list(source.subscribe.captures),
        "sensor": fit(dict(source.sensor)),
        "fields": fit({name: _path(one) for name, one in fields.items()}),
        "form": "sparkplug" if route.is_sparkplug else "feature" if incoming.levels is not None else "object",
        "formats": list(incoming.formats),
        **_there(
            {
                "capture": fit({name: list(place.at) for name, place in route.capture}) or None,
                "levels": fit({level: [name for name, _ in on] for level, on in (incoming.levels or {}).items()})
                or None,
            }
        ),
    }


def _path(field: FieldSettings) -> Any:
    """Return the place of a feature as the configuration has it: a path alone, or a table."""
    table: dict[str, Any] = field.model_dump(mode="json", exclude_defaults=True)
    if "map" in table:
        table["map"] = fit(table["map"])
    return table["at"] if table.keys() == {"at"} else table


def _there(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
