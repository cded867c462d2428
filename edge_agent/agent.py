"""The loop: receive -> pipeline -> answer -> acknowledge -> report, in one thread.

`Agent` knows the broker only as a `Connection` that a function of its caller's makes, so it runs the same against a
real broker (`edge_agent.broker.Link`) and in memory (`edge_agent.testing.FakeLink`). `edge_agent.assembly` puts the
real parts together.

Once `run` has begun it survives everything but the signal to stop: a lost connection is made again, for ever.
"""

from __future__ import annotations

import logging
import random
import select
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from edge_agent import topics
from edge_agent.errors import BrokerError, ProtocolRefusedError
from edge_agent.health import Tally
from edge_agent.messages import Answer, Health, Info, Message, Pong, Refused, UnknownVerb, to_json
from edge_agent.pipeline import Pipeline
from edge_agent.process import StopSignals, rss_bytes
from edge_agent.systemd import Notifier

_log = logging.getLogger(__name__)

#: Seconds for what is in flight when the agent is told to stop, and then for its last word.
_DRAIN: Final = 2.5
_LAST_WORD: Final = 1.0
#: Longest wait in the loop: the watchdog and the reports are looked after at least this often.
_TICK: Final = 1.0
#: Seconds between two log lines that sum up the same trouble.
_SUMMARY: Final = 60.0
#: Longest topic, in characters, that a log line shows.
_SHOWN: Final = 200
#: Seconds before the first attempt to connect again; doubled each time up to the maximum, with jitter.
_FIRST_BACKOFF: Final = 1.0


class Connection(Protocol):
    """What the loop needs of a connection; `edge_agent.broker.Link` says what each part does."""

    protocol: str
    ready: bool
    refused: list[Refused]
    refused_answers: list[Refused]

    @property
    def in_flight(self) -> int:
        """Messages not yet acknowledged, confirmed or sent."""

    def receive(self, timeout: float, wakeup: int | None = None) -> list[Message]:
        """Return the messages that arrived."""

    def answer(self, message: Message, answers: Iterable[Answer]) -> None:
        """Send the answers of a message."""

    def publish(self, answer: Answer) -> None:
        """Send a message that answers nothing."""

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is in flight."""

    def close(self) -> None:
        """End the connection in good order."""

    def abandon(self) -> None:
        """Drop the connection."""


def birth(node: str) -> Answer:
    """Return the message that says a node is there; its counterpart is `will`."""
    return Answer(topics.state(node), b"online", qos=1, retain=True, content_type=None)


def will(node: str) -> Answer:
    """Return the message that says a node is gone: published by the node itself, or by the broker in its stead."""
    return Answer(topics.state(node), b"offline", qos=1, retain=True, content_type=None)


class Agent:
    """One node: its pipeline on one broker.

    `dial` begins a connection of one protocol version or raises `BrokerError`; `protocols` are the versions to try, best
    first; `describe` returns the node's info for a connection's protocol.
    """

    def __init__(
        self,
        node: str,
        pipeline: Pipeline,
        dial: Callable[[str], Connection],
        describe: Callable[[str], Info],
        *,
        protocols: Sequence[str] = ("5", "3.1.1"),
        notifier: Notifier | None = None,
        health_interval: float = 30.0,
        max_backoff: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.node = node
        self.tally: Tally = pipeline.tally
        self._pipeline = pipeline
        self._dial = dial
        self._describe = describe
        self._notifier = notifier or Notifier({})
        self._clock = clock
        self._requests = topics.request(node)
        self._max_backoff = max_backoff
        self._protocols = tuple(protocols)
        self._attempt = 0  # which of the protocols is tried
        self._link: Connection | None = None
        self._greeted = False
        self._failures = 0
        self._next_attempt = 0.0
        self._reporter = _Reporter(self.tally, health_interval, clock)
        self._next_watchdog = 0.0

    def run(self, signals: StopSignals) -> None:
        """Serve until a signal says stop; then finish what is in flight, say `offline`, and return."""
        while not signals.received:
            self.step(signals.wakeup)
        self._notifier.stopping()
        self._stop()

    def step(self, wakeup: int | None = None) -> None:
        """Go once round the loop."""
        self._feed_watchdog()
        if self._link is None and not self._connect(wakeup):
            return
        link = self._link
        assert link is not None  # noqa: S101 - for the type checker: _connect said so
        try:
            messages = link.receive(_TICK, wakeup)
            if link.ready and not self._greeted:
                self._greet(link)
            if messages:
                self._answer(link, messages)
            self._report(link)
        except BrokerError as error:
            self._lost(link, error)

    def _answer(self, link: Connection, messages: list[Message]) -> None:
        began = self._clock()
        for message, answers in zip(messages, self._pipeline.process(messages), strict=True):
            verb = self._requests.match(message.topic) if message.topic.startswith(topics.ROOT) else None
            if verb is None and not answers:
                self.tally.unrouted += 1
            link.answer(message, answers if verb is None else [*answers, self._respond(verb["verb"], message)])
        self.tally.took(self._clock() - began, len(messages))

    # -- the connection

    def _connect(self, wakeup: int | None) -> bool:
        """Try to connect when it is time to; return whether there is a connection."""
        pause = self._next_attempt - self._clock()
        if pause > 0:
            _pause(min(pause, _TICK), wakeup)
            return False
        # Looking up a name and connecting may block for many seconds, so the watchdog gets its due before.
        self._next_watchdog = 0.0
        self._feed_watchdog()
        try:
            self._link = self._dial(self._protocols[self._attempt])
        except BrokerError as error:
            self._schedule(error)
            return False
        self._greeted = False
        return True

    def _lost(self, link: Connection, error: BrokerError) -> None:
        link.abandon()
        self._link = None
        if self._greeted:
            self._failures = 0
        if isinstance(error, ProtocolRefusedError) and self._attempt + 1 < len(self._protocols):
            self._attempt += 1
            _log.info("%s; trying MQTT %s", error, self._protocols[self._attempt])
            return
        self._attempt = 0
        self._schedule(error)

    def _schedule(self, error: BrokerError) -> None:
        """Set the time of the next attempt: doubling, with jitter so that a fleet does not come back as one."""
        ceiling = min(self._max_backoff, _FIRST_BACKOFF * 2.0 ** min(self._failures, 16))
        pause = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        self._failures += 1
        self._next_attempt = self._clock() + pause
        _log.warning("%s; trying again in %.1f s", error, pause)
        self._notifier.waiting(f"not connected: {error}", pause)

    def _greet(self, link: Connection) -> None:
        """Say on a new connection that we are there, and what we run."""
        for topic, reason in link.refused:
            _log.error("broker: subscription to %r refused: %s; allow it in the broker's access rules", topic, reason)
        self.tally.connections += 1
        info = self._describe(link.protocol)
        link.publish(birth(self.node))
        link.publish(Answer(topics.info(self.node), to_json(info), qos=1, retain=True))
        served = ", ".join(f"{model['name']} {model['version']}" for model in info["models"])
        status = f"serving {served} over MQTT {link.protocol}"
        _log.info("connected as node %s; %s", self.node, status)
        self._notifier.ready(status)
        self._greeted = True

    def _stop(self) -> None:
        if self._link is None:
            return
        try:
            if self._greeted:
                if not self._link.drain(_DRAIN):
                    _log.warning("stopping with %d in flight; the broker will send them again", self._link.in_flight)
                self._link.publish(will(self.node))
                self._link.drain(_LAST_WORD)
            self._link.close()
        except BrokerError as error:
            _log.warning("while stopping: %s", error)
            self._link.abandon()
        self._link = None
        _log.info("stopped; %d messages answered", self.tally.answered)

    # -- reports and requests

    def _report(self, link: Connection) -> None:
        self._reporter.note_refused(link.refused_answers)
        health = self._reporter.health(link.in_flight)
        if health is not None and self._greeted:
            link.publish(Answer(topics.health(self.node), to_json(health)))
        self._reporter.log_summaries()

    def _respond(self, verb: str, message: Message) -> Answer:
        response: Info | Pong | UnknownVerb
        if verb == "ping":
            payload = message.payload[:1024].decode(errors="replace") or None
            response = Pong(pong=payload, node=self.node, time=now())
        elif verb == "info":
            response = self._describe(self._link.protocol if self._link else "")
        else:
            response = UnknownVerb(error="unknown_verb", verb=verb[:64], known=["info", "ping"])
        topic = self._pipeline.respond_to(message.response_topic) or topics.response(self.node, verb)
        return Answer(topic, to_json(response), message.qos)

    def _feed_watchdog(self) -> None:
        interval = self._notifier.watchdog_interval
        if interval is not None and self._clock() >= self._next_watchdog:
            self._next_watchdog = self._clock() + interval
            self._notifier.alive()


class _Reporter:
    """Turns the tally into health messages and log lines, each at its own pace."""

    def __init__(self, tally: Tally, interval: float, clock: Callable[[], float]) -> None:
        self._tally = tally
        self._interval = interval
        self._clock = clock
        self._started = clock()
        self._last = self._started
        self._last_received = 0
        self._last_predictions = 0
        self._next_summary = self._started
        self._refused = 0
        self._first_refused: Refused | None = None
        self._next_refused = self._started

    def health(self, in_flight: int) -> Health | None:
        """Return how we do, when the interval is over, else None."""
        now_ = self._clock()
        elapsed = now_ - self._last
        if elapsed < self._interval:
            return None
        tally, latency = self._tally, self._tally.take_latency()
        health: Health = {
            "time": now(),
            "uptime": round(now_ - self._started, 1),
            "interval": round(elapsed, 1),
            "received": tally.received,
            "predictions": tally.predictions,
            "rejections": dict(tally.rejections),
            "answered": tally.answered,
            "refused": tally.refused,
            "unrouted": tally.unrouted,
            "acknowledged": tally.acknowledged,
            "in_flight": in_flight,
            "connections": tally.connections,
            "messages_per_second": round((tally.received - self._last_received) / elapsed, 2),
            "predictions_per_second": round((tally.predictions - self._last_predictions) / elapsed, 2),
            "latency_ms": {"p50": round(latency[0] * 1e3, 3), "p99": round(latency[1] * 1e3, 3)} if latency else None,
            "rss_bytes": rss_bytes(),
        }
        self._last, self._last_received, self._last_predictions = now_, tally.received, tally.predictions
        return health

    def note_refused(self, refused: list[Refused]) -> None:
        """Take over the answers that the broker refused since the last call."""
        if refused:
            self._refused += len(refused)
            self._first_refused = self._first_refused or refused[0]
            refused.clear()

    def log_summaries(self) -> None:
        """Log what was rejected or refused: at once the first time, then summed up, never a line a message."""
        if self._clock() >= self._next_summary and (reasons := self._tally.take_reasons()):
            self._next_summary = self._clock() + _SUMMARY
            _log.warning("%s", reasons)
        if self._clock() >= self._next_refused and self._first_refused is not None:
            self._next_refused = self._clock() + _SUMMARY
            topic, reason = self._first_refused
            _log.error(
                "broker: refused %d answers (%r: %s); check the broker's rules and limits",
                self._refused,
                topic[:_SHOWN],
                reason,
            )
            self._refused, self._first_refused = 0, None


def now() -> str:
    """Return the time of day in UTC, RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _pause(seconds: float, wakeup: int | None) -> None:
    """Wait, unless the wakeup comes first."""
    poll = select.poll()
    if wakeup is not None:
        poll.register(wakeup, select.POLLIN)
    poll.poll(int(seconds * 1000))
