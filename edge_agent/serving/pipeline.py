"""Turns a batch of messages into answers: the whole path from features to predictions, without any I/O.

Rules:

* every message gets exactly one answer from each matching route, in the order of the messages; a route that gathers
  gives at most one, and its delayed answers come from `due`;
* nothing raises: a problem with a message becomes its rejection;
* all rows that arrived together for one model (by routes that ask the same, `Route.asks`) go through one model
  call, or, if it has many labels, through several bounded ones.

`run`, `try` and the tests all use this. `engine` turns rows into predictions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from edge_agent.contract.answers import MAX_EXPLAINED
from edge_agent.contract.messages import (
    MAX_ANSWER_BYTES,
    MAX_PAYLOAD_BYTES,
    Answer,
    Detail,
    ErrorCode,
    Gathered,
    Message,
    to_json,
)
from edge_agent.payload.features import MAX_BATCH_ROWS, Unusable
from edge_agent.routing.gathering import UNKNOWN, Due, GatheredTopic, Gathering, Outputs, named, report
from edge_agent.routing.responses import DEFAULT_FILTERS, ResponseTopics
from edge_agent.routing.routes import Asking, Route, RouteTable, Taker, asks, follows_nodes
from edge_agent.routing.sensors import MAX_SENSORS
from edge_agent.routing.sparkplug import SparkplugGathering
from edge_agent.serving.engine import Absent, Engine, Model, Observer, engine_of
from edge_agent.serving.rejecting import rejection
from edge_agent.serving.writing import Asked
from edge_agent.tally import Counts, Tally, bucket

if TYPE_CHECKING:
    from edge_agent.serving.contest import Contesting, Contests  # loaded while a model has a candidate

#: Topics whose targets are cached, and the longest of them: they come from outside, so both are bounded.
_REMEMBERED: Final = 10_000
_LONGEST_REMEMBERED: Final = 256


class Watcher(Protocol):
    """Wants to know each topic that is answered (implemented by `edge_agent.serving.discovery.Discovery`)."""

    @property
    def known(self) -> Mapping[str, object]:
        """Topics that it need not be told of."""

    @property
    def edition(self) -> int:
        """Another number, from 1 on, whenever a topic has left `known`: compared for each answer, which is cheaper than looking it up."""

    def meet(self, route: Route, topic: str, content_type: str) -> None:
        """Note that a prediction was made for a topic that is not in `known`."""


class Pipeline:
    """Answers messages. `models` by the names that routes use; a route without its model answers `model_unavailable`.
    A `watcher` is told of the topics that are answered. `contests` are candidates for the place of some of the models, `observers`
    see what the models that answer most are asked and answer; both are by the same names.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        models: Mapping[str, Model],
        *,
        tally: Tally | None = None,
        max_bytes: int = MAX_PAYLOAD_BYTES,
        max_rows: int = MAX_BATCH_ROWS,
        max_answer: int = MAX_ANSWER_BYTES,
        max_sensors: int = MAX_SENSORS,
        max_explained: int = MAX_EXPLAINED,
        response_topics: Sequence[str] = DEFAULT_FILTERS,
        watcher: Watcher | None = None,
        contests: Mapping[str, Contesting] | None = None,
        observers: Mapping[str, Observer] | None = None,
    ) -> None:
        self._watcher = watcher
        self._routes = tuple(routes)
        self._table = RouteTable(self._routes)
        self._response_topics = ResponseTopics(response_topics, self._routes)
        self._targets: dict[str, tuple[_Target, ...]] = {}
        limits = {"max_bytes": max_bytes, "max_rows": max_rows}
        stand = models
        #: None where no model has a candidate.
        self.contests: Contests | None = None
        if contests:
            from edge_agent.serving import contest

            stand, self.contests = contest.standing(models, contests), contest.Contests(contests)

        def made(route: Route, model: Model) -> Engine:
            seen_by = (observers or {}).get(route.model) if model is stand[route.model] else None
            return engine_of(route, model, seen_by, max_answer=max_answer, max_explained=max_explained, **limits)

        self._engines: dict[Asking, Engine | Absent] = {}
        for route in self._routes:
            if route.model not in models:
                self._engines[route.asks] = Absent(route.model)
            elif route.asks not in self._engines:
                one = made(route, models[route.model])
                self._engines[route.asks] = one if self.contests is None else self.contests.begin(route, one, made)
        self._gatherings = {
            route: self._gathering(route, stand[route.model], {"max_sensors": max_sensors, "max_bytes": max_bytes})
            for route in self._routes
            if route.gathers and route.model in stand
        }
        self.tally = tally or Tally()

    @property
    def tally(self) -> Tally:
        """What counts the messages, by route."""
        return self._tally

    @tally.setter
    def tally(self, tally: Tally) -> None:
        self._tally = tally
        self.counts = tally.serve(self._routes)
        self._targets.clear()  # they know what counts them
        routes_of = Counter(route.asks for route in self._routes)
        alone = (route for route in self._routes if routes_of[route.asks] == 1)
        self._alone = {engine: self.counts[route] for route in alone for engine in self._engines_of(route)}
        self._last: _Processed | None = None
        self._gathered_for = {
            one: (cast("Engine", self._engines[route.asks]), self.counts[route])
            for route, one in self._gatherings.items()
        }

    def _engines_of(self, route: Route) -> Sequence[Engine | Absent]:
        engine = self._engines[route.asks]
        return (engine,) if self.contests is None else self.contests.engines_with(engine)

    def _gathering(self, route: Route, model: Model, limits: Mapping[str, int]) -> Gathering:
        features = model.card.features
        if route.is_sparkplug:
            return SparkplugGathering(route, features, follows=follows_nodes(route, self._routes), **limits)
        return Gathering(route, features, **limits)

    def respond_to(self, message: Message) -> str | None:
        """Return the sender's Response Topic, or None when there is none that may be followed."""
        topic = message.response_topic
        if topic is None:
            return None
        refusal = self._response_topics.refusal(topic)
        if refusal is None:
            return topic
        self.tally.note(f"Response Topic not followed, so the answer went to the route's topic: {refusal}", topic)
        return None

    def took(self, seconds: float) -> None:
        """Note that what was processed last was answered within `seconds`, in the counts of each route."""
        last, self._last = self._last, None  # not kept: payloads may be large
        if last is None:
            return
        place = bucket(seconds)
        asked, gathered = last
        for engine, questions in asked.items():
            number = len(questions)
            alone = questions[0][2].counts if number == 1 else self._alone.get(engine)
            if alone is not None:
                alone.took(place, seconds, number)
                continue
            for _, _, target in questions:
                target.counts.took(place, seconds, 1)
        for _, _, topic in gathered:
            self._gathered_for[topic.gathering][1].took(place, seconds, 1)

    def shares(self) -> Iterator[tuple[str, str, str, Counts]]:
        """Yield what each route has counted: the name of its model, its topics in and out as configured, and the counts."""
        for route in self._routes:
            yield self._engines[route.asks].name, route.inputs_text, route.publish.text, self.counts[route]

    def takes(self, topic: str) -> bool:
        """Tell whether any route matches `topic`."""
        return bool(self._targets_of(topic))

    def routes_of(self, topic: str) -> Iterator[str]:
        """Yield the routes that match `topic`, in words."""
        for route, _, _ in self._takers_of(topic):
            yield f"to {route.publish.text}, model {route.model}{', gathers' if route.gathers else ''}"

    def process(self, messages: Sequence[Message], now: float = 0.0) -> list[list[Answer]]:
        """Return the answers to each of `messages`: one from each matching route, so possibly none.

        `now` is the time in seconds of any clock that never goes back; only routes that gather use it.
        """
        answers: list[list[Answer]] = [[] for _ in messages]
        asked, gathered = processed = self._sort(messages)
        self._last = processed if self._tally.detailed else None
        watched = 0 if self._watcher is None else self._watcher.edition
        for engine, questions in asked.items():
            outcomes = engine.outcomes(questions)
            if self.contests is not None:
                self.contests.note(engine, questions)
            for (position, message, target), written in zip(questions, outcomes, strict=True):
                payload, rejected, content_type = written
                topic, retain = None if message.response_topic is None else self.respond_to(message), False
                if topic is None:
                    topic, retain = (target.errors, False) if rejected else (target.publish, target.retain)
                    # What goes to a Response Topic is not seen by those who follow the sensor.
                    if target.watched != watched and not rejected:
                        self._meet(target, content_type)
                answers[position].append(Answer(topic, payload, message.qos, retain, content_type))
        if gathered:
            self._gather(gathered, answers, now)
        return answers

    def _meet(self, target: _Target, content_type: str) -> None:
        """Tell the watcher of a prediction for a topic, unless it knows the topic."""
        watcher = self._watcher
        if watcher is not None:
            if target.publish in watcher.known:
                target.watched = watcher.edition
            else:
                watcher.meet(target.route, target.publish, content_type)

    def _sort(self, messages: Sequence[Message]) -> _Processed:
        """Return what is to be asked of each engine, and what routes gather, each with its position; count what is neither."""
        asked: dict[Engine | Absent, list[tuple[int, Message, _Target]]] = {}
        gathered: list[tuple[int, Message, GatheredTopic]] = []
        for position, message in enumerate(messages):
            for target in self._targets_of(message.topic):
                if target.is_silent or not message.payload or (message.retained and not target.takes_retained):
                    # A retained topic that was cleared looks like this; and what was kept may not be wanted.
                    target.counts.ignored += 1
                elif target.gathered is None:
                    asked.setdefault(target.engine, []).append((position, target.typed(message), target))
                else:
                    gathered.append((position, target.typed(message), target.gathered))
        return asked, gathered

    def undeliverable(self, message: Message) -> list[Answer]:
        """Return short rejections instead of the answers to `message`, which the broker does not accept: one per route,
        with nothing of the sender's choice except the topic.
        """
        reason: Detail = {
            "type": "undeliverable",
            "loc": [],
            "msg": "The broker does not accept the answer",
            "input": None,
        }
        unusable = Unusable(ErrorCode.UNDELIVERABLE, [reason], {})
        answers = []
        for target in self._targets_of(message.topic):
            if target.is_silent:
                continue
            target.counts.rejected(unusable.code, unusable.code)
            payload = to_json(rejection(unusable, message.topic, target.engine.name, target.engine.version))
            answers.append(Answer(target.errors, payload, message.qos))
        return answers

    @property
    def next_due(self) -> float | None:
        """The time of the next answer from `due`, None when no answer is delayed."""
        waiting = [one.sensors.next_due for one in self._gatherings.values()]
        return min((when for when in waiting if when is not None), default=None)

    def due(self, now: float, *, limit: int, ahead: float = 0.0) -> list[Answer]:
        """Return up to `limit` delayed answers that are due at `now`, or within `ahead` seconds."""
        found: list[Due] = []
        for gathering in self._gatherings.values():
            found += gathering.due(now, limit=limit - len(found), ahead=ahead)
        return self._answer_gathered(found)

    def reconnected(self) -> None:
        """Note a new connection: answers passed to the old one may be lost."""
        for gathering in self._gatherings.values():
            gathering.reconnected()

    def take_over(self, former: Pipeline) -> set[str]:
        """Keep the values gathered before a reload, by unchanged routes; return the subscriptions of the
        routes that start over.
        """
        return {
            subscription
            for route, gathering in self._gatherings.items()
            if (known := former._gatherings.get(route)) is None or not gathering.take_over(known)
            for subscription in route.subscriptions
            if route.remembers
        }

    def gathered(self, now: float, *, limit: int) -> Gathered | None:
        """Return the figures of gathering routes, with up to `limit` incomplete sensors; None when no route gathers."""
        return report(self._gatherings.values(), now, limit=limit) if self._gatherings else None

    def _gather(
        self, messages: Sequence[tuple[int, Message, GatheredTopic]], answers: list[list[Answer]], now: float
    ) -> None:
        """Pass the messages to the routes that gather, and add their immediate answers."""
        positions: list[int] = []
        found: list[Due] = []
        for position, message, topic in messages:
            for due in topic.gathering.take(topic, message, now):
                positions.append(position)
                found.append(due)
        for position, answer in zip(positions, self._answer_gathered(found), strict=True):
            answers[position].append(answer)

    def _answer_gathered(self, found: Sequence[Due]) -> list[Answer]:
        """Return the answers to `found`, in order, in the route's format, because they belong to no single message."""
        asked: dict[Engine, tuple[list[Asked], list[str]]] = {}
        told: list[tuple[Gathering, Engine, Outputs, int]] = []
        for gathering, sensor, topic, content, qos, is_judged in found:
            (engine, counts), outputs = self._gathered_for[gathering], gathering.outputs(sensor)
            if self.contests is None:
                judged = content if is_judged or isinstance(content, Unusable) else engine.judge(content)
            else:
                engine, judged = self.contests.gathered(engine, outputs.publish, content, is_judged=is_judged)
            questions, sensors = asked.setdefault(engine, ([], []))
            questions.append((topic, judged, gathering.answering, outputs.sensor, counts))
            sensors.append(outputs.publish)
            told.append((gathering, engine, outputs, qos))
        settled = {engine: iter(engine.settle(*all_of)) for engine, all_of in asked.items()}
        answers: list[Answer] = []
        for gathering, engine, outputs, qos in told:
            payload, rejected, content_type = next(settled[engine])
            topic, retain = (outputs.errors, False) if rejected else (outputs.publish, outputs.retain)
            answers.append(Answer(topic, payload, qos, retain, content_type))
            if self._watcher is not None and not rejected and topic not in self._watcher.known:
                self._watcher.meet(gathering.route, topic, content_type)
        return answers

    def _targets_of(self, topic: str) -> tuple[_Target, ...]:
        targets = self._targets.get(topic)
        if targets is None:
            targets = tuple(self._target(topic, taker) for taker in self._takers_of(topic))
            if len(self._targets) >= _REMEMBERED:
                self._targets.clear()
            if len(topic) <= _LONGEST_REMEMBERED:
                self._targets[topic] = targets
        return targets

    def _target(self, topic: str, taker: Taker) -> _Target:
        route, source, captured = taker
        # What only the payload says of a sensor is not known of its topic.
        known = {**dict.fromkeys(route.names, UNKNOWN), **dict(source.sensor), **captured}
        gathering, engine = self._gatherings.get(route), self._engines[route.asks]
        return _Target(
            engine if self.contests is None else self.contests.engine_for(engine, topic),
            route.publish.render(known),
            route.errors.render(known),
            route.content_type,
            None if gathering is None else gathering.topic_of(source, captured),
            named(route, known),
            route.takes_retained,
            route.retain,
            isinstance(engine, Absent) and not asks(route, source, topic),
            self.counts[route],
            route,
        )

    def _takers_of(self, topic: str) -> list[Taker]:
        # MQTT allows no wildcards in a message's topic. A broker that delivers them anyway would not accept the answer.
        return [] if any(mark in topic for mark in "+#\0") else self._table.of(topic)


@dataclass(eq=False, slots=True)
class _Target:
    """A route for one topic: what answers it, the topics of the answer, the gathered topic when it gathers, the
    name of the sensor when answers have to tell it, whether it takes messages that the broker had kept, whether the
    broker is to keep its predictions, whether nothing is answered (with no model to ask, what is no question), what counts
    its messages, the route itself, and the watcher's edition in which the topic of its predictions was known (0: in none).
    """

    engine: Engine | Absent
    publish: str
    errors: str
    content_type: str | None
    gathered: GatheredTopic | None
    sensor: str | None
    takes_retained: bool
    retain: bool
    is_silent: bool
    counts: Counts
    route: Route
    watched: int = 0

    def typed(self, message: Message) -> Message:
        """Return the message with the route's content type if it has none itself."""
        if self.content_type is None or message.content_type:
            return message
        return message._replace(content_type=self.content_type)


#: What `Pipeline.process` was given: questions by what answers them, and what routes gather.
_Processed: TypeAlias = tuple[
    dict[Engine | Absent, list[tuple[int, Message, _Target]]], list[tuple[int, Message, GatheredTopic]]
]
