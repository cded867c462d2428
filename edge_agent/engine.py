"""One served model with its codec: payloads in, predictions and rejections out.

A tree has as many predictions as leaves, so each is made once, its JSON with it; what a row has to have echoed is put at
the end of that.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

from edge_agent.card import ModelCard, are_probabilities
from edge_agent.codecs import Batch, FeatureCodec, Features, Unusable
from edge_agent.health import Tally
from edge_agent.messages import Detail, ErrorCode, Message, Prediction, Rejection, Row, shown_topic, to_json

_log = logging.getLogger(__name__)

#: Predictions of a model that are kept, and probabilities in them: how many differ comes from outside, and one of 1,000
#: labels takes 100 KB.
_REMEMBERED: Final = 10_000
_PROBABILITIES: Final = 100_000
#: Probabilities that are shown when something is wrong with them.
_SHOWN: Final = 10
_NOTHING: Final[Mapping[str, Any]] = {}


class Model(Protocol):
    """What the pipeline needs of a model (`edge_agent.predictor.Predictor` is one)."""

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""

    def predict(self, rows: Sequence[Sequence[float]]) -> Sequence[Hashable]:
        """Return what comes out for each of `rows` (n, features), to be read by `read`; the same is equal."""

    def read(self, output: Any) -> tuple[str, list[float]]:
        """Return the label and the probabilities (labels,) of an output."""


class Settled(NamedTuple):
    """What a row came to: its prediction or rejection, and the JSON of that, which nearly every answer is."""

    #: Less what is echoed with a prediction.
    bare: Row
    echo: Mapping[str, Any]
    #: Less the brace at its end.
    begun: bytes

    @property
    def rejected(self) -> bool:
        """Whether there is no label."""
        return "error" in self.bare

    @property
    def content(self) -> Row:
        """The answer."""
        return cast("Row", {**self.bare, **self.echo}) if self.echo else self.bare

    @property
    def json(self) -> bytes:
        """The answer as JSON."""
        return self.begun + b"}"

    def echoing(self, echo: Mapping[str, Any]) -> Settled:
        """Return it with what a row has to have echoed."""
        return Settled(self.bare, echo, self.begun + b"," + to_json(echo)[1:-1]) if echo else self


class SettledBatch(NamedTuple):
    """What the rows of a batch came to; with `ids` (see `Batch`), these are still to be echoed."""

    made: list[Settled]
    ids: list[int] | None = None

    @property
    def rejected(self) -> bool:
        """Not as a whole: each row says it for itself."""
        return False

    @property
    def content(self) -> list[Row]:
        """The answer."""
        if self.ids is None:
            return [one.content for one in self.made]
        return [cast("Row", {**one.bare, "id": number}) for one, number in zip(self.made, self.ids, strict=True)]

    @property
    def json(self) -> bytes:
        """The answer as JSON."""
        if self.ids is None:
            return b"[" + b",".join([one.begun + b"}" for one in self.made]) + b"]"
        # Whole numbers have no comma in them, so all can be written at once.
        numbers = to_json(self.ids)[1:-1].split(b",")
        rows = [one.begun + b',"id":' + number for one, number in zip(self.made, numbers, strict=True)]
        return b"[" + b"},".join(rows) + b"}]"


Outcome: TypeAlias = Settled | SettledBatch


def settled(row: Row) -> Settled:
    """Return a whole answer."""
    return Settled(row, _NOTHING, to_json(row)[:-1])


class Engine:
    """One served model with its codec."""

    def __init__(self, model: Model, codec: FeatureCodec) -> None:
        self._name = model.card.name
        self.version = model.card.version
        self._model = model
        self._codec = codec
        self._labels = model.card.labels
        self._column = {label: position for position, label in enumerate(model.card.labels)}
        self._most = max(1, min(_REMEMBERED, _PROBABILITIES // len(self._labels)))
        #: Predictions by the model's output: a tree has as many as leaves, so most are made once.
        self._made: dict[Hashable, Settled] = {}

    def outcomes(self, messages: Sequence[Message], tally: Tally) -> list[Outcome]:
        """Return what each message comes to, all their rows through one call of the model."""
        decoded = [self._codec.decode(message.payload, message.content_type) for message in messages]
        return self.settle([message.topic for message in messages], decoded, tally)

    def settle(
        self, sources: Sequence[str], contents: Sequence[Features | Unusable | Batch], tally: Tally
    ) -> list[Outcome]:
        """Return what each of `contents` comes to, all their rows through one call; `sources` are their topics."""
        values: list[tuple[float, ...]] = []
        for content in contents:
            if isinstance(content, Features):
                values.append(content.values)
            elif isinstance(content, Batch):
                values += content.values
        predicted = iter(self._predict(values))
        outcomes: list[Outcome] = []
        for topic, content in zip(sources, contents, strict=True):
            if isinstance(content, Features):
                outcomes.append(self._predicted(next(predicted), content.echo, topic, tally))
            elif isinstance(content, Unusable):
                outcomes.append(self._rejected(content, topic, tally))
            else:
                outcomes.append(self._batch(content, predicted, topic, tally))
        return outcomes

    def _batch(self, batch: Batch, predicted: Iterator[Settled | None], topic: str, tally: Tally) -> SettledBatch:
        found = list(islice(predicted, len(batch.values)))
        if batch.unusable or None in found:
            rows = zip(found, batch.echoed, strict=True)
            return SettledBatch(
                [
                    self._rejected(batch.unusable[position], topic, tally)
                    if position in batch.unusable
                    else self._predicted(*next(rows), topic, tally)
                    for position in range(len(batch.values) + len(batch.unusable))
                ]
            )
        made = cast("list[Settled]", found)
        tally.predictions += len(made)
        if batch.echoes is None:
            return SettledBatch(made, batch.ids)
        return SettledBatch([one.echoing(echo) for one, echo in zip(made, batch.echoes, strict=True)])

    def _predicted(self, made: Settled | None, echo: Mapping[str, Any], topic: str, tally: Tally) -> Settled:
        """Return the prediction with what has to be echoed, or, where the model failed, the rejection."""
        if made is None:
            reason: Detail = {"type": "inference_failed", "loc": [], "msg": "The model failed on this", "input": None}
            return self._rejected(Unusable(ErrorCode.INFERENCE_FAILED, [reason], dict(echo)), topic, tally)
        tally.predictions += 1
        return made.echoing(echo)

    def _rejected(self, unusable: Unusable, topic: str, tally: Tally) -> Settled:
        tally.rejected(unusable.code, _reason(unusable))
        return settled(rejection(unusable, topic, self._name, self._model.card.version))

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
        outputs = self._model.predict(rows)
        if len(outputs) != len(rows):
            raise ValueError(f"{len(outputs)} outputs for {len(rows)} rows")
        found = list(map(self._made.get, outputs))
        if None in found:
            return [self._made.get(output) or self._make(output) for output in outputs]
        return found

    def _make(self, output: Hashable) -> Settled:
        label, probabilities = self._model.read(output)
        if not are_probabilities(probabilities):
            raise ValueError(f"these are no probabilities: {probabilities[:_SHOWN]}")
        prediction: Prediction = {
            "label": label,
            "confidence": probabilities[self._column[label]],
            "probabilities": dict(zip(self._labels, probabilities, strict=True)),
            "model": self._name,
            "version": self._model.card.version,
        }
        if len(self._made) >= self._most:
            self._made.clear()
        made = self._made[output] = settled(prediction)
        return made


def rejection(unusable: Unusable, topic: str | None, model: str, version: str | None) -> Rejection:
    """Return the message that says why there is no label."""
    message: Rejection = {
        "error": unusable.code,
        "detail": unusable.detail,
        "topic": None if topic is None else shown_topic(topic),
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
