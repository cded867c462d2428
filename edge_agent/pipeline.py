"""A batch of messages in, their answers out: the whole way from features to label, with no input or output of its own.

Rules:

* every message gives exactly one answer a route that takes it, in the order of the messages; a route that gathers
  gives one at most, and those that it puts off come from `due`;
* nothing raises: what goes wrong with a message becomes its rejection;
* all rows that arrived together for one model (and one set of `fields`) go through one call of that model.

`run`, `try` and the tests all go through here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any, Final, NamedTuple, Protocol, cast

from edge_agent import formats, topics
from edge_agent.card import ModelCard
from edge_agent.codecs import MAX_BATCH_ROWS, MAX_PAYLOAD_BYTES, Batch, FeatureCodec, Features, Fields, Unusable
from edge_agent.formats import Format
from edge_agent.gathering import Due, Gathering, Source, captured_by, report
from edge_agent.health import Tally
from edge_agent.messages import Answer, Detail, ErrorCode, Gathered, Message, Prediction, Rejection, Row, to_json
from edge_agent.routes import Route
from edge_agent.sensors import MAX_SENSORS

_log = logging.getLogger(__name__)

#: Topics whose targets are remembered, and predictions of a model; both come from outside, so their number is bounded,
#: and so is the length of a topic.
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
        max_sensors: int = MAX_SENSORS,
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
        self._gatherings = {
            route: Gathering(route, models[route.model].card.features, max_sensors=max_sensors, max_bytes=max_bytes)
            for route in self._routes
            if route.gathers and route.model in models
        }

    def respond_to(self, topic: str | None) -> str | None:
        """Return the response topic that a sender asked for, or None when it can't be followed.

        The agent may be allowed to publish where the sender is not, so it follows nobody into its own inputs, into the
        topics of nodes, or into those of the broker.
        """
        if not topic or topic.startswith(("$", f"{topics.ROOT}/")) or any(mark in topic for mark in "+#\0"):
            return None
        return None if self._targets_of(topic) else topic

    def takes(self, topic: str) -> bool:
        """Tell whether any route takes what comes on `topic`."""
        return bool(self._targets_of(topic))

    def process(self, messages: Sequence[Message], now: float = 0.0) -> list[list[Answer]]:
        """Return the answers to each of `messages`: one a route that takes its topic, so an empty list for none.

        `now` is the time in seconds of any clock that never goes back; only routes that gather look at it.
        """
        answers: list[list[Answer]] = [[] for _ in messages]
        asked: dict[tuple[str, Fields], list[tuple[int, Message, _Target]]] = {}
        for position, message in enumerate(messages):
            for target in self._targets_of(message.topic):
                if target.source is None:
                    asked.setdefault(target.engine, []).append((position, target.typed(message), target))
        for engine, questions in asked.items():
            outcomes = self._outcomes(engine, [message for _, message, _ in questions])
            for (position, message, target), outcome in zip(questions, outcomes, strict=True):
                topic = self.respond_to(message.response_topic)
                if topic is None:
                    rejected = isinstance(outcome, Settled) and "error" in outcome.row
                    topic = target.errors if rejected else target.publish
                # What can't be read is answered in JSON.
                answering = formats.find(message.content_type) or formats.JSON
                answers[position].append(
                    Answer(topic, _encode(outcome, answering), message.qos, content_type=answering.answers)
                )
        if self._gatherings:
            self._gather(messages, answers, now)
        return answers

    @property
    def next_due(self) -> float | None:
        """When `due` has its next answer, None when no answer is put off."""
        waiting = [one.sensors.next_due for one in self._gatherings.values()]
        return min((when for when in waiting if when is not None), default=None)

    def due(self, now: float, *, most: int, ahead: float = 0.0) -> list[Answer]:
        """Return up to `most` answers that were put off until `now`, or until `ahead` seconds from now."""
        found: list[Due] = []
        for gathering in self._gatherings.values():
            found += gathering.due(now, most=most - len(found), ahead=ahead)
        return self._answer_gathered(found)

    def reconnected(self) -> None:
        """Note a new connection: answers that had been handed to the old one may be lost."""
        for gathering in self._gatherings.values():
            gathering.sensors.reconnected()

    def gathered(self, now: float, *, most: int) -> Gathered | None:
        """Return how the routes do that gather, with up to `most` sensors that wait; None when no route gathers."""
        return report(self._gatherings.values(), now, most=most) if self._gatherings else None

    def _gather(self, messages: Sequence[Message], answers: list[list[Answer]], now: float) -> None:
        """Hand the messages to the routes that gather, and add what they answer at once."""
        positions: list[int] = []
        found: list[Due] = []
        for position, message in enumerate(messages):
            for target in self._targets_of(message.topic):
                source = target.source
                if source is not None and (due := source.gathering.take(source, target.typed(message), now)):
                    positions.append(position)
                    found.append(due)
        for position, answer in zip(positions, self._answer_gathered(found), strict=True):
            answers[position].append(answer)

    def _answer_gathered(self, found: Sequence[Due]) -> list[Answer]:
        """Return the answers to `found`, in order: in the format of the route, for no one message is their question."""
        settled: dict[str, Iterator[Settled | list[Settled]]] = {}
        for model, fields in {due.route.model: due.route.fields for due in found}.items():
            mine = [due for due in found if due.route.model == model]
            settled[model] = iter(
                self._engines[model, fields].settle(
                    [due.topic for due in mine], [due.content for due in mine], self.tally
                )
            )
        answers: list[Answer] = []
        for due in found:
            outcome = next(settled[due.route.model])
            rejected = isinstance(outcome, Settled) and "error" in outcome.row
            template = due.route.errors if rejected else due.route.publish
            chosen = formats.find(due.route.content_type) or formats.JSON
            topic = template.render(captured_by(due.route, due.sensor))
            answers.append(Answer(topic, _encode(outcome, chosen), due.qos, content_type=chosen.answers))
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
                    self._gatherings[route].source(captured) if route in self._gatherings else None,
                )
                for route in self._routes
                if (captured := route.subscribe.match(topic)) is not None
            )
            if len(self._targets) >= _REMEMBERED:
                self._targets.clear()
            if len(topic) <= _LONGEST_REMEMBERED:
                self._targets[topic] = targets
        return targets

    def _outcomes(self, key: tuple[str, Fields], messages: Sequence[Message]) -> list[Settled | list[Settled]]:
        engine, (name, _) = self._engines.get(key), key
        if engine is not None:
            return engine.outcomes(messages, self.tally)
        reason: Detail = {"type": "model_unavailable", "loc": [], "msg": f"No model {name!r} is served", "input": None}
        unusable = Unusable(ErrorCode.MODEL_UNAVAILABLE, [reason], {})
        for _ in messages:
            self.tally.rejected(unusable.code, unusable.code)
        return [_settled(rejection(unusable, message.topic, name, None)) for message in messages]


class Settled(NamedTuple):
    """What a row came to: its prediction or rejection, and that as JSON, which nearly every answer is."""

    row: Row
    json: bytes


def _settled(row: Row) -> Settled:
    return Settled(row, to_json(row))


def _encode(outcome: Settled | list[Settled], answering: Format) -> bytes:
    """Return the payload of an answer: that of a row, or of an array of them."""
    if isinstance(outcome, Settled):
        return outcome.json if answering.encode is to_json else answering.encode(outcome.row)
    if answering.encode is to_json:
        return b"[" + b",".join([settled.json for settled in outcome]) + b"]"
    return answering.encode([settled.row for settled in outcome])


class _Target(NamedTuple):
    """A route for one topic: the model with its fields, the topics of the answer, and the source when it gathers."""

    engine: tuple[str, Fields]
    publish: str
    errors: str
    content_type: str | None
    source: Source | None

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
        #: Predictions by label and probabilities: a tree has as many as leaves, so most are made once.
        self._made: dict[tuple[str | float, ...], Settled] = {}

    def outcomes(self, messages: Sequence[Message], tally: Tally) -> list[Settled | list[Settled]]:
        """Return what each message comes to, all their rows through one call of the model."""
        decoded = [self._codec.decode(message.payload, message.content_type) for message in messages]
        return self.settle([message.topic for message in messages], decoded, tally)

    def settle(
        self, sources: Sequence[str], contents: Sequence[Features | Unusable | Batch], tally: Tally
    ) -> list[Settled | list[Settled]]:
        """Return what each of `contents` comes to, all their rows through one call; `sources` are their topics."""
        values: list[tuple[float, ...]] = []
        for content in contents:
            if isinstance(content, Features):
                values.append(content.values)
            elif isinstance(content, Batch):
                values += content.values
        predicted = iter(self._predict(values))
        outcomes: list[Settled | list[Settled]] = []
        for topic, content in zip(sources, contents, strict=True):
            if isinstance(content, Features):
                outcomes.append(self._predicted(next(predicted), content.echo, topic, tally))
            elif isinstance(content, Unusable):
                outcomes.append(self._rejected(content, topic, tally))
            else:
                outcomes.append(self._batch(content, predicted, topic, tally))
        return outcomes

    def _batch(self, batch: Batch, predicted: Iterator[Settled | None], topic: str, tally: Tally) -> list[Settled]:
        found = list(islice(predicted, len(batch.values)))
        if batch.echoes is None and not batch.unusable and None not in found:
            tally.predictions += len(found)
            return cast("list[Settled]", found)
        rows = zip(found, batch.echoes or repeat({}), strict=False)
        return [
            self._rejected(batch.unusable[position], topic, tally)
            if position in batch.unusable
            else self._predicted(*next(rows), topic, tally)
            for position in range(len(batch.values) + len(batch.unusable))
        ]

    def _predicted(self, settled: Settled | None, echo: dict[str, Any], topic: str, tally: Tally) -> Settled:
        """Return the prediction with what has to be echoed, or, where the model failed, the rejection."""
        if settled is None:
            reason: Detail = {"type": "inference_failed", "loc": [], "msg": "The model failed on this", "input": None}
            return self._rejected(Unusable(ErrorCode.INFERENCE_FAILED, [reason], echo), topic, tally)
        tally.predictions += 1
        if not echo:
            return settled
        row = cast("Row", {**settled.row, **echo})
        return Settled(row, settled.json[:-1] + b"," + to_json(echo)[1:])

    def _rejected(self, unusable: Unusable, topic: str, tally: Tally) -> Settled:
        tally.rejected(unusable.code, _reason(unusable))
        return _settled(rejection(unusable, topic, self._name, self._model.card.version))

    def _predict(self, rows: list[tuple[float, ...]]) -> list[Settled | None]:
        """Return the predictions of `rows` (n, features), None where the model failed."""
        if not rows:
            return []
        try:
            return self._ask(rows)
        except Exception:  # noqa: BLE001 - whatever a model does, its messages get their answer and the agent goes on
            _log.exception("model %s: inference failed on %d rows", self._name, len(rows))
        if len(rows) == 1:
            return [None]
        # One row must not take the others with it.
        alone: list[Settled | None] = []
        for row in rows:
            try:
                alone += self._ask([row])
            except Exception:  # noqa: BLE001 - as above, and logged there
                alone.append(None)
        return alone

    def _ask(self, rows: list[tuple[float, ...]]) -> list[Settled | None]:
        made = self._made
        settled: list[Settled | None] = []
        for label, probabilities in zip(*self._model.predict(rows), strict=True):
            found = made.get((label, *probabilities))
            settled.append(found if found is not None else self._make(label, probabilities))
        if len(settled) != len(rows):
            raise ValueError(f"{len(settled)} labels for {len(rows)} rows")
        return settled

    def _make(self, label: str, probabilities: list[float]) -> Settled:
        if not math.isfinite(sum(probabilities)):
            raise ValueError(f"the probabilities {probabilities} are not all numbers")
        prediction: Prediction = {
            "label": label,
            "confidence": probabilities[self._column[label]],
            "probabilities": dict(zip(self._labels, probabilities, strict=True)),
            "model": self._name,
            "version": self._model.card.version,
        }
        if len(self._made) >= _REMEMBERED:
            self._made.clear()
        settled = self._made[label, *probabilities] = _settled(prediction)
        return settled


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
