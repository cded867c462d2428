"""Schemas of what a model answers: those of the wire contract, with what its card says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edge_agent.contract.answers import Decision, Detection, Estimate, Estimates, Prediction
from edge_agent.contract.card import ANOMALY, NORMAL, ModelCard
from edge_agent.contract.messages import Rejection
from edge_agent.docs import keys
from edge_agent.docs.keys import ref
from edge_agent.docs.schemas import PLACE, Schema
from edge_agent.payload import senml

#: All kinds of answers, and of what may stand in place of one.
KINDS: Final = (Prediction, Decision, Estimate, Estimates, Detection, Rejection)
REJECTION: Final[Schema] = ref(*PLACE, Rejection.__name__)
_PACK: Final[Schema] = {
    "description": "The same as a SenML pack (RFC 8428): a record for each key.",
    "type": "array",
    "items": {"type": "object"},
}


def kind_of(card: ModelCard) -> type[Any]:
    """Return the dictionary of a model's answers."""
    if card.task == "anomaly":
        return Detection
    if card.task == "regression":
        return Estimate if len(card.outputs) == 1 else Estimates
    return Prediction if card.has_probabilities else Decision


def of_model(card: ModelCard, wire: Mapping[str, Schema], *, doubts: bool) -> Schema:
    """Return the schema of a model's answers. `doubts` says that a route has answers without a label."""
    kind = kind_of(card)
    schema = dict(wire[kind.__name__])
    properties = dict(schema["properties"])
    properties |= {"model": {"const": card.name}, "version": {"const": card.version}}
    properties["outside"] = properties["outside"] | {"items": {"enum": list(card.feature_names)}}
    if kind in {Prediction, Decision}:
        labels: list[str | None] = list(card.labels)
        properties["label"] = {"enum": [*labels, None] if doubts else labels}
    if kind is Prediction:
        share = {"type": "number", "minimum": 0, "maximum": 1}
        properties |= {"confidence": share, "probabilities": _numbers(dict.fromkeys(card.labels, share))}
        if not doubts:
            del properties["uncertain"]
    elif kind is Detection:
        properties["label"] = {"enum": [NORMAL, ANOMALY]}
        properties["score"] = properties["score"] | {"x-threshold": card.threshold}
    elif kind is Estimate:
        (output,) = card.outputs
        if output.unit:
            properties |= {"unit": {"const": output.unit}}
            properties["value"] = properties["value"] | {"x-unit": output.unit}
    elif kind is Estimates:
        properties["values"] = _numbers(
            {one.name: {"type": "number", **({"x-unit": one.unit} if one.unit else {})} for one in card.outputs}
        )
    return {**schema, "properties": properties}


def _numbers(named: Mapping[str, Schema]) -> Schema:
    return {"type": "object", **keys.properties(named), "required": list(named)}


def in_format(schema: Schema, content_type: str) -> Schema:
    """Return the schema of the same in a format of answers."""
    return _PACK if content_type == senml.CONTENT_TYPE else schema


def or_rejection(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message that may be a rejection as well."""
    if message["contentType"] == senml.CONTENT_TYPE:
        return dict(message)
    return {**message, "title": "An answer or a rejection", "payload": {"anyOf": [message["payload"], REJECTION]}}
