"""Messages on topics, answered as the running agent would: one pipeline, in order, on a clock of their own.

Rules:

* the time of a message is its own `at`, or else when it was read; it never goes back;
* what a route puts off comes out when it is due: by the clock while messages come as they are read, else before the next
  message that is later; at the end comes all that still waits;
* each answer is a line of JSON on standard output; why a message has none is a line on standard error.
"""

from __future__ import annotations

import base64
import json
import math
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Final, NamedTuple

import click
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_agent.contract.messages import Answer, Gathered, Message, to_json
from edge_agent.errors import InputError
from edge_agent.routing.routes import FEATURE, Route, RouteTable, Taker
from edge_agent.serving.pipeline import Pipeline
from edge_agent.wording import duration, plain, plain_json

#: Input topics that are named where no route takes a topic.
_NAMED: Final = 8
_ALL: Final = sys.maxsize
_CHUNK: Final = 1 << 16
#: Plainer words for what pydantic finds wrong with a line.
_KINDS: Final = {
    "model_type": "not a JSON object",
    "missing": "missing",
    "extra_forbidden": "unknown key; there are topic, payload, payload_base64, qos, retained, content_type, explain and at",
}


class _Line(BaseModel):
    """One message of a conversation. `at` in seconds; `payload` is any JSON value, or text, which is sent as it is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    topic: Annotated[str, Field(min_length=1)]
    payload: Any = ""
    payload_base64: str | None = None
    qos: Annotated[int, Field(ge=0, le=2)] = 0
    retained: bool = False
    content_type: str | None = None
    explain: str | None = None
    at: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class TimedMessage(NamedTuple):
    """A message, and when it comes, in seconds since the first; None for as soon as it is read."""

    message: Message
    at: float | None = None


def live(patience: Callable[[], float | None]) -> Iterator[bytes | None]:
    """Yield the lines of standard input as they come; None when none has come for `patience()` seconds."""
    try:
        descriptor = sys.stdin.buffer.fileno()
    except OSError:  # not a file of the system's
        yield from sys.stdin.buffer
        return
    begun = b""
    while True:
        if not select.select([descriptor], [], [], patience())[0]:
            yield None
            continue
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            break
        *lines, begun = (begun + chunk).split(b"\n")
        yield from lines
    yield begun


def on_topic(topic: str, payloads: Iterable[bytes | None]) -> Iterator[TimedMessage | None]:
    """Yield payloads as messages on one topic; a blank line is none."""
    for payload in payloads:
        if payload is None:
            yield None
        elif payload.strip():
            yield TimedMessage(Message(topic, payload))


def read(lines: Iterable[bytes | None], where: str) -> Iterator[TimedMessage | None]:
    """Yield the messages of lines, as they come: JSON objects (`_Line`), or a topic, a space and the payload, as
    `mosquitto_sub -v` prints them. Raises `InputError` with the number of a wrong line.
    """
    latest = 0.0
    number = 0
    for line in lines:
        if line is None:
            yield None
            continue
        number += 1
        if not line.strip():
            continue
        said = _said(line, f"{where}: line {number}")
        if said.at is not None:
            if said.at < latest:
                raise InputError(
                    f"{where}: line {number}: at: {said.at:g} comes after {latest:g}; sort the messages by time"
                )
            latest = said.at
        yield said


def _said(line: bytes, where: str) -> TimedMessage:
    if not line.lstrip().startswith(b"{"):
        topic, _, payload = line.rstrip(b"\r\n").partition(b" ")
        return TimedMessage(Message(topic.decode(errors="replace"), payload))
    try:
        content = _Line.model_validate(json.loads(line))
        payload = _payload(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        what = _KINDS.get(first["type"], first["msg"])
        raise InputError(
            f"{where}: {f'{place}: ' if place else ''}{what}; "
            'write for example {"topic": "home/kitchen/sensor", "payload": {"temperature": 21.5}}'
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {error}") from None
    message = Message(
        content.topic,
        payload,
        content.qos,
        content_type=content.content_type,
        retained=content.retained,
        explain=content.explain,
    )
    return TimedMessage(message, content.at)


def _payload(line: _Line) -> bytes:
    if line.payload_base64 is not None:
        return base64.b64decode(line.payload_base64, validate=True)
    return line.payload.encode(errors="surrogateescape") if isinstance(line.payload, str) else to_json(line.payload)


class Conversation:
    """Plays messages to `pipeline`, which serves `routes`. `clock` gives seconds; it counts from now."""

    def __init__(self, pipeline: Pipeline, routes: Sequence[Route], clock: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self._routes = routes
        self._table = RouteTable(routes)
        self._clock, self._began = clock, clock()
        self._now = 0.0
        self._unrouted = 0
        self._has_times = False  # messages bring their own

    @property
    def failed(self) -> bool:
        """Whether anything was rejected, or had no route."""
        return bool(self._unrouted or self._pipeline.tally.total.rejections)

    def patience(self) -> float | None:
        """Return how long to wait for the next message, in seconds, None for as long as it takes."""
        due = self._pipeline.next_due
        return None if due is None or self._has_times else max(0.0, due - self._elapsed())

    def play(self, messages: Iterable[TimedMessage | None]) -> None:
        """Answer all of them. None says that there is none for the moment."""
        for said in messages:
            at = None if said is None else said.at
            self._has_times = self._has_times or at is not None
            self._wait_until(max(self._now, self._elapsed() if at is None else at))
            if said is not None:
                self._answer(said.message)
        self._wait_until(math.inf)

    def _elapsed(self) -> float:
        return self._clock() - self._began

    def _wait_until(self, until: float) -> None:
        """Let time pass; show what was put off until then."""
        while (due := self._pipeline.next_due) is not None and due <= until:
            self._now = max(self._now, due)
            _show(self._pipeline.due(self._now, limit=_ALL))
        if until < math.inf:
            self._now = until

    def _answer(self, message: Message) -> None:
        takers = self._table.of(message.topic) if self._pipeline.takes(message.topic) else []
        if not takers:
            self._unrouted += 1
            _remark(message.topic, f"no route takes this topic; the routes take {self._inputs()}")
            return
        before = self._counts()
        (answers,) = self._pipeline.process([message], self._now)
        _show(answers)
        if not answers:
            _remark(message.topic, self._why_not(message, takers, before))

    def _inputs(self) -> str:
        texts = list(dict.fromkeys(source.subscribe.text for route in self._routes for source in route.inputs))
        more = f", and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
        return ", ".join(texts[:_NAMED]) + more

    def _counts(self) -> tuple[int, int]:
        gathered = self._gathered()
        return self._pipeline.tally.total.ignored, gathered["ignored"] if gathered else 0

    def _gathered(self) -> Gathered | None:
        return self._pipeline.gathered(self._now, limit=_ALL)

    def _why_not(self, message: Message, takers: Sequence[Taker], before: tuple[int, int]) -> str:
        """Say why a message that a route takes has no answer."""
        if self._pipeline.tally.total.ignored > before[0]:
            return "ignored: " + ("the broker had kept it" if message.payload else "the payload is empty")
        gathered = self._gathered()
        assert gathered is not None  # noqa: S101 - for the type checker: only routes that gather give no answer
        if gathered["ignored"] > before[1]:
            levels = {taker.captured.get(FEATURE) for taker in takers}
            for level in gathered["unknown"]:
                if level["level"] in levels:
                    meant = f"; is {level['meant']!r} meant?" if level["meant"] else ""
                    return f"ignored: {level['level']!r} is no feature of the model{meant}"
            is_sparkplug = any(taker.route.is_sparkplug for taker in takers)
            takes = "; a death takes values away" if is_sparkplug else ""
            return f"ignored: it brings no feature of the model, or not all of them{takes}"
        for waiting in reversed(gathered["waiting"]):
            if any(_is_of(waiting["sensor"], taker) for taker in takers):
                lacks = ", ".join([*waiting["missing"], *(f"{name} (too old)" for name in waiting["stale"])])
                return f"no answer yet: {waiting['sensor'] or 'the sensor'} still lacks {lacks}"
        if (due := self._pipeline.next_due) is not None:
            return f"no answer yet: put off for {duration(due - self._now)}, for more changes may come"
        return "no answer: nothing has changed since the last one"


def _is_of(sensor: str, taker: Taker) -> bool:
    """Tell whether a sensor, its names joined, can be the one that a topic is about: the payload may name it further."""
    known = {**taker.captured, **dict(taker.source.sensor)}
    named = "/".join(known[name] for name in taker.route.inputs[0].names)
    return sensor == named or not named or sensor.startswith(f"{named}/")


def _show(answers: Iterable[Answer]) -> None:
    for answer in answers:
        line = b'{"topic":%b,%b%b}' % (
            to_json(answer.topic),
            _shown_payload(answer),
            b',"retain":true' if answer.retain else b"",
        )
        click.echo(plain_json(line.decode()).encode())


def _shown_payload(answer: Answer) -> bytes:
    if answer.content_type is None or answer.content_type.partition(";")[0].endswith("json"):
        return b'"payload":' + answer.payload
    encoded = base64.b64encode(answer.payload)
    return b'"payload_base64":"%b","content_type":%b' % (encoded, to_json(answer.content_type))


def _remark(topic: str, text: str) -> None:
    click.echo(plain(f"{topic}: {text}"), err=True)
