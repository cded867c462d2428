"""The loop: receive -> pipeline -> answer -> acknowledge -> report, in one thread.

`Agent` knows the broker only as a `Connection` that its `Line` makes, so it runs the same against a real broker
(`edge_agent.broker.Link`) and in memory (`edge_agent.testing.FakeLink`). `edge_agent.assembly` puts the real parts
together.

Once `run` has begun it survives everything but the signal to stop: a lost connection is made again, for ever.
"""

from __future__ import annotations

import logging
import math
import random
import select
import sys
import time
from collections.abc import Callable
from typing import Final

from edge_agent import topics
from edge_agent.errors import BrokerError, ProtocolRefusedError, SurplusError
from edge_agent.intake import Intake
from edge_agent.messages import Answer, Health, Info, Message, Pong, Status, UnknownVerb, to_json
from edge_agent.plan import Connection, Line, Plan
from edge_agent.process import Signals
from edge_agent.reports import Reporter, now
from edge_agent.systemd import Notifier

_log = logging.getLogger(__name__)

#: Seconds for what is in flight when the agent is told to stop, and then for its last word.
_DRAIN: Final = 2.5
_LAST_WORD: Final = 1.0
#: Bytes of answers that the broker has not taken yet, past which nothing more is answered.
_MOST_HELD: Final = 4 << 20
#: Longest wait in the loop: the watchdog and the reports are looked after at least this often.
_TICK: Final = 1.0
#: Answers that gathering puts off wait while this many messages are in flight: waiting, they cost nothing.
_ENOUGH_IN_FLIGHT: Final = 1000
#: Sensors that wait for a value, as many as health and the request `status` name.
_WAITING_IN_HEALTH: Final = 10
_WAITING_IN_STATUS: Final = 100
#: Seconds before the first attempt to connect again; doubled each time up to the maximum, with jitter.
_FIRST_BACKOFF: Final = 1.0


def birth(node: str) -> Answer:
    """Return the message that says a node is there; its counterpart is `will`."""
    return Answer(topics.state(node), b"online", qos=1, retain=True, content_type=None)


def will(node: str) -> Answer:
    """Return the message that says a node is gone: published by the node itself, or by the broker in its stead."""
    return Answer(topics.state(node), b"offline", qos=1, retain=True, content_type=None)


class Agent:
    """One node on one broker: what `plan` says, on a connection that `line` makes, until `take_over` brings others."""

    def __init__(
        self,
        line: Line,
        plan: Plan,
        *,
        notifier: Notifier | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = plan.pipeline.tally
        self.notifier = notifier or Notifier({})
        self._line = line
        self._plan = plan
        self._clock = clock
        self._requests = topics.request(line.node)
        self._started = now()
        self._attempt = 0  # which of the protocols is tried
        self._link: Connection | None = None
        self._intake = Intake()
        self._greeted = False  # the connection has heard that we are there
        self._announced = False  # what the plan runs has been published
        self._settled = False  # the service manager has heard that the plan is in use
        self._surplus_told = False
        self._failures = 0
        self._next_attempt = 0.0
        self._reporter = Reporter(self.tally, plan.health_interval, clock)
        self._next_watchdog = 0.0

    @property
    def node(self) -> str:
        """The node id."""
        return self._line.node

    def run(self, signals: Signals) -> bool:
        """Serve until a signal comes. Return True for a reload, with the connection as it is: `take_over` or `stay`, and
        run again. To stop, finish what is in flight, say `offline`, and return False.
        """
        while not signals.received:
            if signals.take_reload():
                return True
            self.step(signals.wakeup)
        self.notifier.stopping()
        self.leave()
        _log.info("stopped; %d messages answered", self.tally.answered)
        return False

    def step(self, wakeup: int | None = None) -> None:
        """Go once round the loop."""
        if not self._settled:
            # Whether there is a broker is another question: boot and terminals wait for this, and it may be away for long.
            self._settled = True
            what = "" if self._link is None else " to grant the subscriptions"
            self.notifier.ready(f"waiting for the broker{what}")
        self._feed_watchdog()
        if self._link is None and not self._connect(wakeup):
            return
        link = self._link
        assert link is not None  # noqa: S101 - for the type checker: _connect said so
        try:
            # Not to read while much waits keeps it bounded, unless only the broker's confirmations get us on.
            reading = not self._intake.full or _is_behind(link)
            self._intake.add(link.receive(self._patience(link), wakeup, reading=reading), self._clock())
            if link.ready and not (self._greeted and self._announced):
                self._announce(link)
            self._answer(link)
            self._answer_due(link)
            self._report(link)
        except SurplusError as error:
            self._begin_again(link, error)
        except BrokerError as error:
            self._lost(link, error)

    def _answer(self, link: Connection) -> None:
        """Answer a slice of what has arrived, when there is room for its answers."""
        if not self._intake or _is_behind(link):
            return
        messages, arrived = self._intake.take()
        began = self._clock()
        for message, answers in zip(messages, self._plan.pipeline.process(messages, began), strict=True):
            verb = self._requests.match(message.topic) if message.topic.startswith(topics.ROOT) else None
            if verb is None and not answers and not self._plan.pipeline.takes(message.topic):
                self.tally.unrouted += 1
            link.answer(message, answers if verb is None else [*answers, self._respond(link, verb["verb"], message)])
        ended = self._clock()
        self.tally.took(ended - arrived, len(messages))
        self._intake.took(ended - began)

    def _finish(self, link: Connection, seconds: float) -> None:
        """Answer what has arrived, as far as that goes in so many seconds. What arrives meanwhile waits behind it."""
        ends = self._clock() + seconds
        later: list[Message] = []
        while self._intake and (left := ends - self._clock()) > 0:
            self._feed_watchdog()
            behind = _is_behind(link)
            later += link.receive(min(left, _TICK) if behind else 0.0, reading=behind)
            self._answer(link)
        self._intake.add(later, self._clock())

    def _room(self, link: Connection) -> int:
        """Return how many answers that were put off may go out now."""
        return _ENOUGH_IN_FLIGHT - link.in_flight if self._greeted else 0

    def _patience(self, link: Connection) -> float:
        """Return how long to wait for messages: not at all when some are to be answered, and no longer than until the
        next answer that was put off.
        """
        if (self._intake and not _is_behind(link)) or (link.ready and not self._announced):
            return 0.0
        due = self._plan.pipeline.next_due
        if due is None or self._room(link) <= 0:
            return _TICK
        # A millisecond more, for the wait counts whole ones and would come back a little too early.
        return min(_TICK, max(0.0, due - self._clock()) + 0.001)

    def _answer_due(self, link: Connection, ahead: float = 0.0) -> None:
        """Send answers that were put off until now, or, at the end of a plan, all until `ahead` seconds from now."""
        if self._plan.pipeline.next_due is None:
            return
        most = sys.maxsize if ahead else self._room(link)
        for answer in self._plan.pipeline.due(self._clock(), most=most, ahead=ahead):
            link.publish(answer)
            self.tally.answered += 1

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
            self._link = self._line.dial(self._line.protocols[self._attempt], self._plan.subscriptions, self.tally)
        except BrokerError as error:
            self._schedule(error)
            return False
        self._greeted = False
        return True

    def _begin_again(self, link: Connection, error: SurplusError) -> None:
        """Connect again at once, with no will: there is a queue to be worked off, and nothing is wrong with us."""
        _log.log(logging.DEBUG if self._surplus_told else logging.WARNING, "%s", error)
        self._surplus_told = True
        link.close()
        self._link = None
        self._intake.clear()

    def _lost(self, link: Connection, error: BrokerError) -> None:
        link.abandon()
        self._link = None
        self._intake.clear()
        if self._greeted:
            self._failures = 0
        if isinstance(error, ProtocolRefusedError) and self._attempt + 1 < len(self._line.protocols):
            self._attempt += 1
            _log.info("%s; trying MQTT %s", error, self._line.protocols[self._attempt])
            return
        self._attempt = 0
        self._schedule(error)

    def _schedule(self, error: BrokerError) -> None:
        """Set the time of the next attempt: doubling, with jitter so that a fleet does not come back as one."""
        ceiling = min(self._line.max_backoff, _FIRST_BACKOFF * 2.0 ** min(self._failures, 16))
        pause = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        self._failures += 1
        self._next_attempt = self._clock() + pause
        _log.warning("%s; trying again in %.1f s", error, pause)
        self.notifier.status(f"waiting for the broker: {error}")

    def _announce(self, link: Connection) -> None:
        """Say what we run; on a new connection first that we are there."""
        for topic, reason in link.refused:
            _log.error("broker: subscription to %r refused: %s; allow it in the broker's access rules", topic, reason)
        if not self._greeted:
            self.tally.connections += 1
            self._plan.pipeline.reconnected()
            link.publish(birth(self.node))
        info = self._describe(link)
        link.publish(Answer(topics.info(self.node), to_json(info), qos=1, retain=True))
        served = ", ".join(f"{model['name']} {model['version']}" for model in info["models"])
        status = f"serving {served} over MQTT {link.protocol}"
        _log.info("%s as node %s; %s", "still connected" if self._greeted else "connected", self.node, status)
        self.notifier.status(status)
        self._greeted = self._announced = True

    def _describe(self, link: Connection) -> Info:
        return self._plan.describe(link.protocol, self._started)

    # -- the end of a connection, or of a plan

    def take_over(self, line: Line, plan: Plan) -> None:
        """Go on with new settings: on the connection there is when `line` is as it was, else on a new one, without a
        last word when it is in the same session.
        """
        stays = line == self._line
        link = self._link if stays and self._greeted else None
        if link is None:
            self.leave(successor=(line.node, line.session) == (self._line.node, self._line.session))
            self._attempt = self._failures = 0
            self._next_attempt = 0.0
        else:
            try:
                self._finish(link, math.inf)  # which is not much: the intake is bounded
                self._answer_due(link, ahead=math.inf)
            except BrokerError as error:
                self._lost(link, error)
        plan.pipeline.tally = self.tally
        anew = plan.pipeline.take_over(self._plan.pipeline) if stays else ()
        if self._link is not None:
            self._link.subscribe(plan.subscriptions, anew)
        self._line, self._plan = line, plan
        self._requests = topics.request(line.node)
        self._reporter.interval = plan.health_interval
        self._announced = self._settled = False

    def stay(self, why: str) -> None:
        """Tell the service manager that a reload has ended and changed nothing."""
        self._settled = True
        self.notifier.ready(why)

    def leave(self, *, successor: bool = False) -> None:
        """Finish what is in flight and end the connection in good order; a `successor` on the same node goes on in the
        same session, so there is no last word then.
        """
        if self._link is None:
            return
        try:
            if self._greeted:
                ends = self._clock() + _DRAIN
                self._finish(self._link, _DRAIN)
                self._answer_due(self._link, ahead=math.inf)
                if not self._link.drain(max(0.0, ends - self._clock())):
                    _log.warning("stopping with %d in flight; the broker will send them again", self._link.in_flight)
                if not successor:
                    self._link.publish(will(self.node))
                    self._link.drain(_LAST_WORD)
            self._link.close()
        except BrokerError as error:
            _log.warning("while stopping: %s", error)
            self._link.abandon()
        self._link = None
        self._intake.clear()

    # -- reports and requests

    def _report(self, link: Connection) -> None:
        self._reporter.note_refused(link.refused_answers)
        if self._reporter.is_due():
            health = self._health(link, _WAITING_IN_HEALTH)
            self._reporter.begin_interval()
            if self._greeted:
                link.publish(Answer(topics.health(self.node), to_json(health)))
        self._reporter.log_summaries()

    def _health(self, link: Connection, waiting: int) -> Health:
        health = self._reporter.health(link.in_flight)
        if (gathered := self._plan.pipeline.gathered(self._clock(), most=waiting)) is not None:
            health["gathering"] = gathered
        return health

    def _respond(self, link: Connection, verb: str, message: Message) -> Answer:
        response: Info | Pong | Status | UnknownVerb
        if verb == "ping":
            payload = message.payload[:1024].decode(errors="replace") or None
            response = Pong(pong=payload, node=self.node, time=now())
        elif verb == "info":
            response = self._describe(link)
        elif verb == "status":
            info = self._describe(link)
            health = self._health(link, _WAITING_IN_STATUS)
            response = Status(node=self.node, agent=info["agent"], mqtt=info["mqtt"], **health)
        else:
            response = UnknownVerb(error="unknown_verb", verb=verb[:64], known=["info", "ping", "status"])
        topic = self._plan.pipeline.respond_to(message) or topics.response(self.node, verb)
        return Answer(topic, to_json(response), message.qos)

    def _feed_watchdog(self) -> None:
        interval = self.notifier.watchdog_interval
        if interval is not None and self._clock() >= self._next_watchdog:
            self._next_watchdog = self._clock() + interval
            self.notifier.alive()


def _is_behind(link: Connection) -> bool:
    """Tell whether so many answers wait for the broker that no more should be made."""
    return link.held_bytes > _MOST_HELD


def _pause(seconds: float, wakeup: int | None) -> None:
    """Wait, unless the wakeup comes first."""
    poll = select.poll()
    if wakeup is not None:
        poll.register(wakeup, select.POLLIN)
    poll.poll(int(seconds * 1000))
