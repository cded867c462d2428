"""Fakes with the same small interfaces as the real objects: an in-memory connection, a model, a clock.

For the agent's own unit tests, and for yours: an `Agent` on a `FakeLink` answers without a broker, a socket or a
second of waiting.

    link = FakeLink()
    agent = make_agent(link)
    link.arrive(Message("music/kitchen/features", b'{"loudness": 0.9}', qos=1))
    agent.step()
    assert link.sent[-1].topic == "music/kitchen/genre"
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.contract.card import QUANTILE_LEVELS, Feature, Metrics, ModelCard, SelfTest, Training
from edge_agent.contract.messages import Answer, Described, Message, Refused
from edge_agent.contract.templates import Template
from edge_agent.errors import BrokerError
from edge_agent.host.systemd import Notifier
from edge_agent.link.packets import size_of
from edge_agent.link.poison import cause_of, cause_of_own
from edge_agent.model.explain import Explainer, explainer
from edge_agent.model.outputs import Output, output_of
from edge_agent.routing.routes import Route, subscriptions
from edge_agent.serving.agent import Agent
from edge_agent.serving.engine import Model
from edge_agent.serving.pipeline import Pipeline
from edge_agent.serving.plan import ConnectionSettings, Plan
from edge_agent.tally import Tally

ROUTE: Final = Route(
    "genre",
    Template("music/{sensor}/features"),
    Template("music/{sensor}/genre"),
    Template("music/{sensor}/genre/error"),
)


def make_card(
    features: Sequence[str] = ("loudness",), *, minimum: float | None = 0.0, maximum: float | None = 1.0
) -> ModelCard:
    """Return a card of a model called `genre` whose features all have the same bounds."""
    quantiles = QUANTILE_LEVELS  # from 0 to 1
    return ModelCard(
        format=1,
        name="genre",
        version="1.0.0",
        features=tuple(
            Feature(name=name, minimum=minimum, maximum=maximum, quantiles=quantiles, example=0.5) for name in features
        ),
        labels=("Hip-Hop", "Rock"),
        training=Training(
            rows=2,
            class_counts={"Hip-Hop": 1, "Rock": 1},
            estimator="threshold",
            parameters={},
            libraries={},
            date="2026-01-01",
        ),
        metrics=Metrics(values={}, method="none"),
        self_test=SelfTest(rows=((0.0,) * len(features),), labels=("Hip-Hop",), probabilities=((1.0, 0.0),)),
    )


class FakeModel:
    """Answers Rock when the first feature is above 0.5, else Hip-Hop; with `broken` set it raises that instead."""

    def __init__(self, card: ModelCard | None = None, output: Output | None = None) -> None:
        self.card = card or make_card()
        self.output = output or output_of(self.card)
        self.broken: Exception | None = None
        self.calls: list[int] = []

    def predict(self, rows: Sequence[Sequence[float]]) -> Sequence[Hashable]:
        """Return the labels of `rows`; notes how many there were."""
        self.calls.append(len(rows))
        if self.broken is not None:
            raise self.broken
        return ["Rock" if row[0] > 0.5 else "Hip-Hop" for row in rows]

    def read(self, output: Any) -> Any:
        """Return the label and its probabilities."""
        return output, [0.0, 1.0] if output == "Rock" else [1.0, 0.0]

    def explainer(self, method: str) -> Explainer:
        """Return what explains the answers by the trees on the card. Raises `ExplainError`."""
        return explainer(self.card, method, np.dtype(np.float64))


class FakeClock:
    """A clock in seconds that advances only when told to."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.time

    def advance(self, seconds: float) -> None:
        """Advance the time."""
        self.time += seconds


class FakeLink:
    """A connection in memory: `arrive` delivers a message; `sent` and `answered` record what was published.

    Sent messages are confirmed at once, unless `takes` is False; `hangs_up` makes the broker end the connection when it
    is sent something.
    """

    def __init__(self, protocol: str = "5") -> None:
        self.protocol = protocol
        self.ready = True
        self.refused: list[Refused] = []
        self.refused_answers: list[Refused] = []
        #: Everything published, in order.
        self.sent: list[Answer] = []
        #: Each message with its answers, in the order they were given.
        self.answered: list[tuple[Message, list[Answer]]] = []
        #: The number of unconfirmed messages, set by the test.
        self.in_flight = 0
        #: The number of bytes that wait for the broker, set by the test.
        self.held_bytes = 0
        #: The number of sent messages at each call of `drain`.
        self.drained: list[int] = []
        #: Each change of subscriptions: what was wanted then, and what of it anew.
        self.subscribed: list[tuple[dict[str, bool], set[str]]] = []
        #: Filters from before that were given back.
        self.given_back: list[str] = []
        #: Inputs whose answers were sent but not confirmed, by their cause in `edge_agent.link.poison`.
        self.under_way: set[int] = set()
        self.takes = True
        #: Whether retained messages are kept.
        self.retains = True
        #: Largest packet that the broker takes, in bytes; None for any.
        self.size_limit: int | None = None
        self.hangs_up: Callable[[Answer], bool] = lambda _: False
        #: Messages whose answers copied no properties.
        self.bare: list[Message] = []
        self.closed = False
        self.abandoned = False
        #: Counts what is received; that of the agent, once it has one.
        self.tally = Tally()
        self._inbox: list[Message] = []
        self._lost: BrokerError | None = None

    def arrive(self, *messages: Message) -> None:
        """Deliver messages from the broker."""
        self._inbox.extend(messages)

    def lose(self, error: BrokerError) -> None:
        """End the connection: the next `receive` raises `error`."""
        self._lost = error

    def receive(self, timeout: float, wakeup: int | None = None, *, reading: bool = True) -> list[Message]:  # noqa: ARG002 - the interface
        """Return what arrived, without waiting."""
        if self._lost is not None:
            raise self._lost
        if not reading:
            return []
        messages, self._inbox = self._inbox, []
        self.tally.received += len(messages)
        return messages

    def answer(self, message: Message, answers: Iterable[Answer], *, bare: bool = False) -> None:
        """Record the answers to a message."""
        kept = list(answers)
        self.answered.append((message, kept))
        if bare:
            self.bare.append(message)
        for answer in kept:
            self._send(answer, cause_of(message))

    def publish(self, answer: Answer) -> None:
        """Record a message that is not an answer."""
        self._send(answer, cause_of_own(answer.topic))

    def keeps(self, answer: Answer) -> bool:
        """Return whether retained messages are kept, of this size."""
        return self.retains and (self.size_limit is None or size_of(answer) <= self.size_limit)

    def settle(self) -> bool:
        """Return whether everything is confirmed."""
        return not self.under_way

    def take(self) -> None:
        """Confirm everything in flight."""
        self.under_way.clear()

    def _send(self, answer: Answer, cause: int) -> None:
        self.sent.append(answer)
        if self._lost is None and self.hangs_up(answer):
            self.lose(BrokerError("the broker closed the connection"))
        if self._lost is not None or not self.takes:
            self.under_way.add(cause)

    def subscribe(self, wanted: Mapping[str, bool], anew: Collection[str] = ()) -> None:
        """Record the wanted subscriptions; `ready` says whether they are granted at once."""
        self.subscribed.append((dict(wanted), set(anew)))

    def give_back(self, one: str) -> None:
        """Record a filter from before."""
        self.given_back.append(one)

    def drain(self, seconds: float) -> bool:  # noqa: ARG002 - the interface
        """Return at once whether nothing is in flight."""
        if self._lost is not None:
            raise self._lost
        self.drained.append(len(self.sent))
        return self.in_flight == 0

    def close(self) -> None:
        """Record a normal disconnect."""
        self.closed = True

    def abandon(self) -> None:
        """Record that the connection was dropped."""
        self.abandoned = True


def make_connection_settings(*links: FakeLink | BrokerError, node: str = "node", **options: Any) -> ConnectionSettings:
    """Return a line that gives `links` one after the other as an agent connects; an error is raised instead.

    `options` are those of `ConnectionSettings`: `session`, `protocols`, `max_backoff` and `broker`. No two are equal.
    """
    waiting = list(links)

    def dial(protocol: str, wanted: Mapping[str, bool], tally: Tally) -> FakeLink:
        link = waiting.pop(0) if waiting else BrokerError("no more connections")
        if isinstance(link, BrokerError):
            raise link
        link.protocol, link.tally = protocol, tally
        link.subscribe(wanted)
        return link

    return ConnectionSettings(node, dial, **options)


def make_plan(
    *,
    model: Model | None = None,
    routes: Sequence[Route] = (ROUTE,),
    node: str = "node",
    health_interval: float = 30.0,
    textfile: Path | None = None,
) -> Plan:
    """Return a plan of `routes` that all lead to `model`."""

    def describe(protocol: str, started: str) -> Described:
        return Described(
            node=node, agent="0", python="3", onnxruntime="0", mqtt=protocol, started=started, models=[], routes=[]
        )

    pipeline = Pipeline(routes, {"genre": model or FakeModel()})
    return Plan(pipeline, subscriptions(node, routes), describe, health_interval, textfile=textfile)


def make_agent(
    *links: FakeLink | BrokerError,
    model: Model | None = None,
    routes: Sequence[Route] = (ROUTE,),
    clock: FakeClock | None = None,
    notifier: Notifier | None = None,
    health_interval: float = 30.0,
    textfile: Path | None = None,
    **options: Any,
) -> Agent:
    """Return an agent called `node` that gets `links` one after the other as it connects; an error is raised instead.

    `options` are those of `ConnectionSettings`: `protocols`, `max_backoff` and `broker`.
    """
    return Agent(
        make_connection_settings(*links, **options),
        make_plan(model=model, routes=routes, health_interval=health_interval, textfile=textfile),
        notifier=notifier,
        clock=clock or FakeClock(),
    )
