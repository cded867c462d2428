"""One served model with its codec: payloads in, written answers out.

Rules:

* a tree has one prediction per leaf, so each is made and encoded once; a row's echoed keys are appended. Equal rejections
  of a batch are made once, too;
* the size of an answer is known before it is complete: a batch is predicted and written piece by piece, and rejected as a
  whole as soon as it comes to more than `max_answer` bytes;
* only published answers are counted.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from typing import Any, Final, Protocol

from edge_agent.contract.answers import MAX_EXPLAINED, Explain, Explanation
from edge_agent.contract.card import ModelCard
from edge_agent.contract.messages import MAX_ANSWER_BYTES, Detail, ErrorCode, Message, Rejection, to_json
from edge_agent.model.explain import Explainer
from edge_agent.model.outputs import Output
from edge_agent.payload import formats
from edge_agent.payload.features import Batch, FeatureCodec, Features, Unusable, refuse
from edge_agent.routing.routes import Route
from edge_agent.serving import trace
from edge_agent.serving.explaining import Explaining, explained
from edge_agent.serving.rejecting import Wording, reason_of, rejection
from edge_agent.serving.writing import (
    Asked,
    BatchWriter,
    Settled,
    Written,
    failed,
)
from edge_agent.tally import Counts

_log = logging.getLogger(__name__)

#: Predictions cached per model, and numbers in them: bounded because their variety depends on the input, and one of 1,000
#: labels takes 100 KB.
_REMEMBERED: Final = 10_000
_NUMBERS: Final = 100_000
#: Numbers that one model call may return. All rows of a model with few labels go through one call.
_ASKED: Final = 1 << 15


class Model(Protocol):
    """What the pipeline needs from a model (implemented by `edge_agent.model.onnx.Predictor`)."""

    @property
    def card(self) -> ModelCard:
        """The model card."""

    @property
    def output(self) -> Output:
        """The kind of answer it gives."""

    def predict(self, rows: Sequence[Sequence[float]]) -> Sequence[Hashable]:
        """Return a hashable output for each of `rows` (n, features); `read` decodes it."""

    def read(self, output: Any) -> Any:
        """Decode one row's output for `output.fields`."""

    def explainer(self, method: str) -> Explainer:
        """Return what explains its answers. Raises `ExplainError`."""


class Asker(Protocol):
    """What an engine needs to know of who asks."""

    @property
    def sensor(self) -> str | None:
        """The sensor that the answer must name, or None."""

    @property
    def counts(self) -> Counts:
        """What counts the answer."""

    @property
    def publish(self) -> str:
        """Where its answers go: what tells one sensor from another."""


class Observer(Protocol):
    """Wants to see what a model is asked, and what it answers (implemented by `edge_agent.serving.drifting.Observer`)."""

    def note(
        self, sensors: Sequence[str], rows: Sequence[tuple[float, ...]], answers: Sequence[Settled | None]
    ) -> None:
        """Note rows (n, features), each with the topic of its sensor's answers, and the answers: None where the model failed."""


class Engine:
    """One served model with its codec. `max_answer` is in bytes; below `min_confidence` an answer has no label. An `observer` sees all
    rows. Answers are explained as `explain` says, and with `explain_requests` as messages ask; of a batch up to `max_explained` rows.
    """

    def __init__(
        self,
        model: Model,
        codec: FeatureCodec,
        *,
        max_answer: int = MAX_ANSWER_BYTES,
        min_confidence: float = 0.0,
        observer: Observer | None = None,
        explain: Explain = "none",
        explain_requests: bool = True,
        max_explained: int = MAX_EXPLAINED,
    ) -> None:
        self._observer = observer
        self.name = model.card.name
        self.version = model.card.version
        self.card = model.card
        self._model = model
        self._names = model.card.feature_names
        self.read, self.check, self.judge = codec.decode, codec.check, codec.judge
        self._wording = Wording()
        self._max_answer = max_answer
        self._least = min_confidence
        self._most = max(1, min(_REMEMBERED, _NUMBERS // model.output.width))
        self._at_once = max(1, _ASKED // model.output.width)
        #: Predictions by the model's output: a tree has one per leaf, so most are made once.
        self._made: dict[Hashable, Settled] = {}
        #: Not among them: why a row got its answer is its own.
        self._explaining = Explaining(model, explain, on_request=explain_requests, most=max_explained)
        self._explains = self._explaining.own is not None

    def outcomes(self, asked: Sequence[tuple[int, Message, Asker]]) -> list[Written]:
        """Return the answer to each message; each comes with a number of the caller's, and with who asks."""
        decode, find = self.read, formats.find
        wishes: Sequence[str | None] = ()
        for _, message, _ in asked:  # a third of the time that `any` takes
            if message.explain:
                wishes = [message.explain for _, message, _ in asked]
                break
        return self.settle(
            [
                (
                    message.topic,
                    decode(message.payload, message.content_type),
                    # A payload that can't be read is answered in JSON.
                    find(message.content_type) or formats.JSON,
                    asker.sensor,
                    asker.counts,
                )
                for _, message, asker in asked
            ],
            () if self._observer is None else [asker.publish for _, _, asker in asked],
            wishes,
        )

    def settle(
        self, questions: Sequence[Asked], sensors: Sequence[str] = (), wishes: Sequence[str | None] = ()
    ) -> list[Written]:
        """Return the answer to each message, with as few model calls as possible for all their rows. `sensors` tells those of the
        messages apart, for an observer. `wishes` are how they want their answers explained, as many; without, all are as the route says.
        """
        if trace.is_on():
            trace.asked(self.name, self._names, questions)
        rows: list[tuple[float, ...]] = []
        one_each = True  # as many rows as messages would say less: a batch may make up for a message without any
        for _, content, _, _, _ in questions:
            if isinstance(content, Features):
                rows.append(content.values)
            else:
                one_each = False
                if isinstance(content, Batch):
                    rows += content.values
        if not one_each and self._observer is not None:
            sensors = _of_rows(questions, sensors)
        predicted = _Predicted(self, rows, self._observer, sensors)
        if wishes or self._explains:
            predicted.explains = self._explaining.of_rows(questions, wishes)
        return [self._settle(question, predicted) for question in questions]

    def _settle(self, question: Asked, predicted: _Predicted) -> Written:
        topic, content, answering, sensor, counts = question
        if isinstance(content, Batch):
            return self._settle_batch(question, content, predicted)
        echo = content.echo if sensor is None else {**content.echo, "sensor": sensor}
        if isinstance(content, Features):
            settled = predicted.one()
            if settled is not None:
                if predicted.explains and (why := predicted.reasons(1)[0]) is not None:
                    echo = {"explanation": why, **echo}
                if content.outside:
                    echo = {"outside": content.outside, **echo}
                payload = settled.write(echo, answering)
                if len(payload) > self._max_answer:
                    return self._too_large(question)
                counts.predictions += 1
                if content.outside:
                    counts.outside += 1
                if settled.uncertain:
                    counts.uncertain += 1
                return Written(payload, False, answering.answers)  # noqa: FBT003 - twice as fast as by name
            content = failed(content.echo)
        payload = self._wording.encode({**self._rejection(content, topic), **echo}, answering)
        if len(payload) > self._max_answer:
            return self._too_large(question)
        counts.rejected(content.code, reason_of(content))
        return Written(payload, rejected=True, content_type=answering.answers)

    def _settle_batch(self, question: Asked, batch: Batch, predicted: _Predicted) -> Written:
        writer = BatchWriter(question, self.name, self.version, self._max_answer, doubting=self._least > 0)
        payload = writer.write(batch, predicted)
        if payload is None:
            return self._too_large(question)
        writer.count(question[4])
        return Written(payload, rejected=False, content_type=question[2].answers)

    def _too_large(self, question: Asked) -> Written:
        """Return the rejection for a message whose answer would be too large; it is always short."""
        unusable = refuse(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"The answer would have more than {self._max_answer} bytes (limits.answer_bytes); send fewer rows at once",
        )
        topic, _, answering, _, counts = question
        counts.rejected(unusable.code, f"{unusable.code} (the answer would be too large)")
        payload = answering.encode(self._rejection(unusable, topic))
        return Written(payload, rejected=True, content_type=answering.answers)

    def _rejection(self, unusable: Unusable, topic: str) -> Rejection:
        """Return the rejection without echoed keys."""
        return rejection(unusable, topic, self.name, self.version)

    @property
    def at_once(self) -> int:
        """How many rows one model call gets."""
        return self._at_once

    def predict(self, rows: Sequence[tuple[float, ...]]) -> Sequence[Settled | None]:
        """Return the predictions of `rows` (n, features). Raises whatever the model raises."""
        outputs = self._model.predict(rows)
        if len(outputs) != len(rows):
            raise ValueError(f"{len(outputs)} outputs for {len(rows)} rows")
        try:
            return list(map(self._made.__getitem__, outputs))
        except KeyError:
            return [self._made.get(output) or self._make(output) for output in outputs]

    def predict_singly(self, rows: Sequence[tuple[float, ...]], *, told: bool) -> list[Settled | None]:
        """Predict `rows` one by one after the model failed on them together, None where it fails again: one row must not
        affect the others. The failure is logged unless `told`.
        """
        _log.log(
            logging.DEBUG if told else logging.ERROR,
            "model %s: inference failed on %d rows",
            self.name,
            len(rows),
            exc_info=True,
        )
        if len(rows) == 1:
            return [None]
        alone: list[Settled | None] = []
        for row in rows:
            try:
                alone += self.predict([row])
            except Exception:  # noqa: BLE001 - as in `_Predicted`, and logged above
                alone.append(None)
        return alone

    def _make(self, output: Hashable) -> Settled:
        fields = self._model.output.fields(self._model.read(output))
        doubted = self._model.output.doubted(fields, self._least) if self._least else None
        prediction = {**(fields if doubted is None else doubted), "model": self.name, "version": self.version}
        if len(self._made) >= self._most:
            self._made.clear()
        made = self._made[output] = Settled(prediction, to_json(prediction)[:-1], doubted is not None)
        return made


class Absent:
    """Stands for a model that is not served: each message is rejected."""

    version: Final = None

    def __init__(self, name: str) -> None:
        self.name = name

    def outcomes(self, asked: Sequence[tuple[int, Message, Asker]]) -> list[Written]:
        """Return the rejection of each message."""
        reason: Detail = {
            "type": "model_unavailable",
            "loc": [],
            "msg": f"No model {self.name!r} is served",
            "input": None,
        }
        unusable = Unusable(ErrorCode.MODEL_UNAVAILABLE, [reason], {})
        written: list[Written] = []
        for _, message, asker in asked:
            asker.counts.rejected(unusable.code, unusable.code)
            answering = formats.find(message.content_type) or formats.JSON
            payload = answering.encode(rejection(unusable, message.topic, self.name, None))
            written.append(Written(payload, rejected=True, content_type=answering.answers))
        return written


def engine_of(
    route: Route,
    model: Model,
    observer: Observer | None = None,
    *,
    max_bytes: int,
    max_rows: int,
    max_answer: int,
    max_explained: int,
) -> Engine:
    """Return what answers a route by a model."""
    codec = FeatureCodec(
        model.card.features, fields=route.fields, outside=route.outside, max_bytes=max_bytes, max_rows=max_rows
    )
    return Engine(
        model,
        codec,
        max_answer=max_answer,
        min_confidence=route.min_confidence,
        observer=observer,
        explain=route.explain,
        explain_requests=route.explain_requests,
        max_explained=max_explained,
    )


class _Predicted:
    """The predictions of rows, computed as they are taken."""

    #: What explains each; empty where nothing does.
    explains: Sequence[Explainer | None] = ()
    _reasons: Sequence[Explanation | None] = ()

    def __init__(
        self, engine: Engine, rows: list[tuple[float, ...]], observer: Observer | None, sensors: Sequence[str]
    ) -> None:
        self._engine = engine
        self._rows = rows
        self._observer = observer
        self._sensors = sensors
        self._place = 0
        self._asked: Sequence[Settled | None] = ()
        self._begin = self._end = 0  # of the computed ones
        self.failed = False  # the model, so that there may be None among them

    def one(self) -> Settled | None:
        """Return the next prediction."""
        if self._place >= self._end:
            self._ask()
        found = self._asked[self._place - self._begin]
        self._place += 1
        return found

    def take(self, count: int) -> Sequence[Settled | None]:
        """Return the next predictions: up to `count`, at least one."""
        if self._place >= self._end:
            self._ask()
        place = self._place
        self._place = min(self._end, place + count)
        return self._asked[place - self._begin : self._place - self._begin]

    def reasons(self, count: int) -> Sequence[Explanation | None]:
        """Return why the last `count` that were taken are as they are, None where they are not explained."""
        end = self._place - self._begin
        return self._reasons[end - count : end]

    def skip(self, count: int) -> None:
        """Skip the next rows."""
        self._place += count

    def _ask(self) -> None:
        rows = self._rows[self._place : self._place + self._engine.at_once]
        try:
            self._asked = self._engine.predict(rows)
        except Exception:  # noqa: BLE001 - whatever a model does, its messages get their answer and the agent goes on
            self._asked = self._engine.predict_singly(rows, told=self.failed)
            self.failed = True
        self._begin, self._end = self._place, self._place + len(rows)
        if self._observer is not None:
            self._observer.note(self._sensors[self._begin : self._end], rows, self._asked)
        if self.explains:
            answers = [None if one is None else one.bare for one in self._asked]
            self._reasons = explained(rows, answers, self.explains[self._begin : self._end])


def _of_rows(questions: Sequence[Asked], sensors: Sequence[str]) -> list[str]:
    """Return the sensor of each row."""
    found: list[str] = []
    for question, sensor in zip(questions, sensors, strict=True):
        content = question[1]
        if isinstance(content, Features):
            found.append(sensor)
        elif isinstance(content, Batch):
            found += [sensor] * len(content.values)
    return found
