"""A batch of messages in, their answers out: the whole way from features to label, with no input or output of its own.

Rules:

* every message gives exactly one answer a route that takes it, in the order of the messages;
* nothing raises: what goes wrong with a message becomes its rejection;
* all rows that arrived together for one model (and one set of `fields`) go through one call of that model.

`run`, `try` and the tests all go through here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from edge_agent import formats, topics
from edge_agent.card import ModelCard
from edge_agent.codecs import MAX_BATCH_ROWS, MAX_PAYLOAD_BYTES, Batch, FeatureCodec, Features, Fields, Unusable
from edge_agent.health import Tally
from edge_agent.messages import Answer, Detail, ErrorCode, Message, Prediction, Rejection, Row
from edge_agent.routes import Route

_log = logging.getLogger(__name__)

#: Topics whose targets are remembered; topic names come from outside, so their number and length have to be bounded.
_REMEMBERED: Final = 10_000
_LONGEST_REMEMBERED: Final = 256


class Model(Protocol):
    """What the pipeline needs of a model (`edge_agent.predictor.Predictor` is one)."""

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""

    def predict(self, rows: Sequence[Sequence[float]]) -> tuple[list[str], list[list[float]]]:
        """Return the label (n,) and the probabilities (n, labels) of `rows` (n, features)."""


class Pipeline:
    """Answers messages. `models` by the name that the routes use; a route without one answers `model_unavailable`."""

    def __init__(
        self,
        routes: Sequence[Route],
        models: Mapping[str, Model],
        *,
        tally: Tally | None = None,
        max_bytes: int = MAX_PAYLOAD_BYTES,
        max_rows: int = MAX_BATCH_ROWS,
    ) -> None:
        self.tally = tally or Tally()
        self._routes = tuple(routes)
        self._targets: dict[str, tuple[_Target, ...]] = {}
        self._engines = {
            (route.model, route.fields): _Engine(
                models[route.model],
                FeatureCodec(
                    models[route.model].card.features, fields=route.fields, max_bytes=max_bytes, max_rows=max_rows
                ),
            )
            for route in self._routes
            if route.model in models
        }

    def respond_to(self, topic: str | None) -> str | None:
        """Return the response topic that a sender asked for, or None when it can't be followed.

        The agent may be allowed to publish where the sender is not, so it follows nobody into its own inputs, into the
        topics of nodes, or into those of the broker.
        """
        if not topic or topic.startswith(("$", f"{topics.ROOT}/")) or any(mark in topic for mark in "+#\0"):
            return None
        return None if self._targets_of(topic) else topic

    def process(self, messages: Sequence[Message]) -> list[list[Answer]]:
        """Return the answers to each of `messages`: one a route that takes its topic, so an empty list for none."""
        answers: list[list[Answer]] = [[] for _ in messages]
        questions = [
            (position, target.typed(message), target)
            for position, message in enumerate(messages)
            for target in self._targets_of(message.topic)
        ]
        for engine in dict.fromkeys(target.engine for _, _, target in questions):
            asked = [question for question in questions if question[2].engine == engine]
            for (position, message, target), outcome in zip(
                asked, self._outcomes(engine, [message for _, message, _ in asked]), strict=True
            ):
                topic = self.respond_to(message.response_topic)
                if topic is None:
                    topic = target.errors if isinstance(outcome, dict) and "error" in outcome else target.publish
                # What can't be read is answered in JSON.
                answering = formats.find(message.content_type) or formats.JSON
                payload = answering.encode(outcome)
                answers[position].append(Answer(topic, payload, message.qos, content_type=answering.answers))
        return answers

    def _targets_of(self, topic: str) -> tuple[_Target, ...]:
        targets = self._targets.get(topic)
        if targets is None:
            targets = tuple(
                _Target(
                    (route.model, route.fields),
                    route.publish.render(captured),
                    route.errors.render(captured),
                    route.content_type,
                )
                for route in self._routes
                if (captured := route.subscribe.match(topic)) is not None
            )
            if len(self._targets) >= _REMEMBERED:
                self._targets.clear()
            if len(topic) <= _LONGEST_REMEMBERED:
                self._targets[topic] = targets
        return targets

    def _outcomes(self, key: tuple[str, Fields], messages: Sequence[Message]) -> list[Row | list[Row]]:
        engine, (name, _) = self._engines.get(key), key
        if engine is not None:
            return engine.outcomes(messages, self.tally)
        reason: Detail = {"type": "model_unavailable", "loc": [], "msg": f"No model {name!r} is served", "input": None}
        unusable = Unusable(ErrorCode.MODEL_UNAVAILABLE, [reason], {})
        for _ in messages:
            self.tally.rejected(unusable.code, unusable.code)
        return [rejection(unusable, message.topic, name, None) for message in messages]


class _Target(NamedTuple):
    """A route for one topic: the model with its fields, and the topics of the answer."""

    engine: tuple[str, Fields]
    publish: str
    errors: str
    content_type: str | None

    def typed(self, message: Message) -> Message:
        """Return the message with the route's content type, when it has none of its own."""
        if self.content_type is None or message.content_type is not None:
            return message
        return message._replace(content_type=self.content_type)


class _Engine:
    """One served model with its codec: payloads in, predictions and rejections out."""

    def __init__(self, model: Model, codec: FeatureCodec) -> None:
        self._name = model.card.name
        self._model = model
        self._codec = codec
        self._labels = model.card.labels
        self._column = {label: position for position, label in enumerate(model.card.labels)}

    def outcomes(self, messages: Sequence[Message], tally: Tally) -> list[Row | list[Row]]:
        """Return what each message comes to, all their rows through one call of the model."""
        decoded = [self._codec.decode(message.payload, message.content_type) for message in messages]
        rows = [
            (message.topic, row)
            for message, content in zip(messages, decoded, strict=True)
            for row in (content.rows if isinstance(content, Batch) else [content])
        ]
        settled = iter(self._settle(rows, tally))
        return [
            [next(settled) for _ in content.rows] if isinstance(content, Batch) else next(settled)
            for content in decoded
        ]

    def _settle(self, rows: Sequence[tuple[str, Features | Unusable]], tally: Tally) -> list[Row]:
        usable = [row for _, row in rows if isinstance(row, Features)]
        results = iter(self._predict(usable))
        settled: list[Row] = []
        for topic, row in rows:
            outcome = next(results) if isinstance(row, Features) else row
            if isinstance(outcome, Unusable):
                tally.rejected(outcome.code, _reason(outcome))
                settled.append(rejection(outcome, topic, self._name, self._model.card.version))
            else:
                tally.predictions += 1
                settled.append(outcome)
        return settled

    def _predict(self, rows: Sequence[Features]) -> list[Prediction | Unusable]:
        if not rows:
            return []
        try:
            labels, probabilities = self._model.predict([row.values for row in rows])
            return [
                self._prediction(label, chances, row.echo)
                for label, chances, row in zip(labels, probabilities, rows, strict=True)
            ]
        except Exception:  # noqa: BLE001 - whatever a model does, its messages get their answer and the agent goes on
            _log.exception("model %s: inference failed on %d rows", self._name, len(rows))
            reason: Detail = {"type": "inference_failed", "loc": [], "msg": "The model failed on this", "input": None}
            return [Unusable(ErrorCode.INFERENCE_FAILED, [reason], row.echo) for row in rows]

    def _prediction(self, label: str, probabilities: list[float], echo: dict[str, Any]) -> Prediction:
        if not math.isfinite(sum(probabilities)):
            raise ValueError(f"the probabilities {probabilities} are not all numbers")
        prediction: Prediction = {
            "label": label,
            "confidence": probabilities[self._column[label]],
            "probabilities": dict(zip(self._labels, probabilities, strict=True)),
            "model": self._name,
            "version": self._model.card.version,
        }
        prediction.update(echo)  # type: ignore[typeddict-item]  # only the keys in codecs.ECHOED
        return prediction


def rejection(unusable: Unusable, topic: str | None, model: str, version: str | None) -> Rejection:
    """Return the message that says why there is no label."""
    message: Rejection = {
        "error": unusable.code,
        "detail": unusable.detail,
        "topic": topic,
        "model": model,
        "version": version,
    }
    message.update(unusable.echo)  # type: ignore[typeddict-item]  # only the keys in codecs.ECHOED
    return message


def _reason(unusable: Unusable) -> str:
    """Return the first reason in a few words, for the log: which feature and what is wrong with it."""
    first = unusable.detail[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{unusable.code} ({place}: {first['type']})" if place else str(unusable.code)
