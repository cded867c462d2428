"""The agent's loop: receive -> pipeline -> answer -> acknowledge -> report, in one thread.

`Agent` knows the broker only as a `Connection` made by its `ConnectionSettings`, so it runs the same with a real broker
(`edge_agent.link.link.Link`) and in memory (`edge_agent.testing.FakeLink`). `edge_agent.assembly` puts the real parts
together.

Once running, it survives everything but the signal to stop: it reconnects forever.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from edge_agent.contract import topics
from edge_agent.contract.messages import Answer, Health, Info, Message, to_json
from edge_agent.errors import AdaptedError, BrokerError, NarrowedError, ProtocolRefusedError, SurplusError
from edge_agent.host.process import Signals, pause
from edge_agent.host.systemd import Notifier
from edge_agent.link.granted import advice_on
from edge_agent.serving.afterwards import Afterwards
from edge_agent.serving.announcements import ONLINE, News, Retry, announce, standing, will
from edge_agent.serving.answering import Answering
from edge_agent.serving.plan import Connection, ConnectionSettings, Plan
from edge_agent.serving.reports import Reporter, now
from edge_agent.serving.requests import Requests, Subject
from edge_agent.wording import LOGGED

if TYPE_CHECKING:
    from edge_agent.serving.updating import Updates

_log = logging.getLogger(__name__)

#: Seconds to finish messages in flight when told to stop, including those to answer received messages; then seconds to
#: publish `offline`.
_DRAIN: Final = 2.5
_FINISH: Final = 1.5
#: Seconds to answer, with the old settings, messages received before a reload.
_FINISH_PLAN: Final = 5.0
_LAST_WORD: Final = 1.0
#: Signals that end the loop.
_SIGNALS: Final = (SystemExit, KeyboardInterrupt)
#: Longest wait in the loop, in seconds: watchdog and reports are due at least this often.
_TICK: Final = 1.0
#: Longest pause in seconds before a suspect is sent again (`edge_agent.link.poison`, `edge_agent.link.narrowing`).
_RETRIAL: Final = 0.1
#: How many times in a row, without a connection that lasted: a broker that ends all of them would be asked for ever.
_TRIALS: Final = 12
#: Seconds before the first reconnect; doubled each time up to the maximum, with jitter.
_FIRST_BACKOFF: Final = 1.0
#: Seconds that a connection must last before pauses start small again: two agents with one client id disconnect each other
#: forever.
_LASTED: Final = 30.0


class Agent:
    """One node on one broker: runs `plan` on a connection made by `settings`, until `take_over` replaces them."""

    def __init__(
        self,
        settings: ConnectionSettings,
        plan: Plan,
        *,
        notifier: Notifier | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = plan.pipeline.tally
        self.notifier = notifier or Notifier({})
        self._settings = settings
        self._plan = plan
        self._clock = clock
        self._requests = Requests(settings.node, clock)
        self._started = now()
        self._attempt = 0  # index of the protocol to try
        self._link: Connection | None = None
        self._answering = Answering(plan, clock, self._respond)
        self._greeted_at = 0.0
        self._greeted = False  # `online` was published on this connection
        self._is_known = False  # `online` was published on any connection, and `offline` not since
        self._announced = False  # the plan's announcements were published
        self._settled = False  # the service manager was told that the plan is in use
        self._surplus_told = False
        self._standing = ONLINE
        self._retry = Retry(clock)
        self._asked_again = False  # refused subscriptions were requested again
        self._afterwards = Afterwards()
        self._failures = 0
        self._trials = 0
        self._next_attempt = 0.0
        self._reporter = Reporter(self.tally, plan, clock)
        self._next_watchdog = 0.0

    @property
    def node(self) -> str:
        """The node id."""
        return self._settings.node

    def run(self, signals: Signals, news: Callable[[], bool] = bool) -> bool:
        """Serve until a signal comes. Return True for a reload, or where `news` tells of something to do, with the connection open:
        handle it (`take_over` or `stay` once the reload has ended), then run again. To stop, finish messages in flight, publish
        `offline`, return False.
        """
        while not signals.received:
            if signals.take_news() or news():
                return True
            self.step(signals.wakeup)
        self.notifier.stopping()
        self._afterwards.close()
        self._answering.close()
        self.leave()
        self._reporter.close()
        _log.info("stopped; %d messages answered", self.tally.answered)
        return False

    def step(self, wakeup: int | None = None) -> None:
        """Run one turn of the loop. Only a signal ends it."""
        try:
            self._turn(wakeup)
        except _SIGNALS:
            raise
        except BaseException as error:  # noqa: BLE001 - a bug of ours or of a library must not end the service
            connected = self._link is not None
            self._fault(error)
            if not connected:
                # The error may have come before any pause in the turn.
                pause(_FIRST_BACKOFF, wakeup)

    def _turn(self, wakeup: int | None) -> None:
        if not self._settled:
            # Ready does not depend on the broker: it may be away for long, while boot and `systemctl start` wait for this.
            self._settled = True
            what = "" if self._link is None else " to grant the subscriptions"
            self.notifier.ready(f"waiting for the broker{what}")
        self._feed_watchdog()
        self._reporter.expose(self._link if self._greeted else None)
        if self._link is None and not self._connect(wakeup):
            return
        link = self._link
        assert link is not None  # noqa: S101 - for the type checker: _connect returned True
        try:
            self._answering.receive(link, wakeup, hurry=link.ready and not self._announced)
            if link.ready:
                self._look_after_subscriptions(link)
            self._answering.answer(link)
            self._answering.answer_due(link)
            self._answering.introduce(link)
            if self._answering.update(link):
                link.subscribe(self._plan.wanted)
            self._report(link)
        except SurplusError as error:
            self._begin_again(link, error)
        except BrokerError as error:
            self._lost(link, error)

    # -- the connection

    def _connect(self, wakeup: int | None) -> bool:
        """Try to connect if it is time; return whether there is a connection."""
        left = self._next_attempt - self._clock()
        if left > 0:
            pause(min(left, _TICK), wakeup)
            return False
        # Looking up a name and connecting may block for many seconds, so notify the watchdog first.
        self._next_watchdog = 0.0
        self._feed_watchdog()
        try:
            self._link = self._settings.dial(self._settings.protocols[self._attempt], self._plan.wanted, self.tally)
        except BrokerError as error:
            self._schedule(error)
            return False
        self._greeted = self._asked_again = False
        self._answering.reconnected()  # before any message: the session's backlog comes before the subscriptions are granted
        return True

    def _begin_again(self, link: Connection, error: SurplusError) -> None:
        """Reconnect at once without sending the will: there is a backlog, and the agent is healthy."""
        _log.log(logging.DEBUG if self._surplus_told else logging.WARNING, "%s", error)
        self._surplus_told = True
        link.close()
        self._drop()

    def _drop(self) -> None:
        """Drop a connection that has ended, with the messages received on it."""
        self._link = None
        self._answering.drop()

    def _lost(self, link: Connection, error: BrokerError) -> None:
        nearer = self._answering.ended(link, error)
        if isinstance(error, NarrowedError):
            nearer |= error.nearer
            if error.found:  # there are no more of them than filters
                self._trials = 0
        self._reporter.note_refused(link.refused_answers)
        link.abandon()
        self._drop()
        if self._greeted and self._clock() - self._greeted_at >= _LASTED:
            self._failures = self._trials = 0
        if nearer and self._trials < _TRIALS:
            # The backoff is for what ends the connections; all else must not wait for it.
            self._trials += 1
            self._next_attempt = self._clock() + _jittered(_RETRIAL)
            _log.warning("%s; trying again at once", error)
            return
        if isinstance(error, AdaptedError):
            _log.info("%s; trying again without that", error)
            return
        if isinstance(error, ProtocolRefusedError) and self._attempt + 1 < len(self._settings.protocols):
            self._attempt += 1
            _log.info("%s; trying MQTT %s", error, self._settings.protocols[self._attempt])
            return
        self._attempt = 0
        self._schedule(error)

    def _fault(self, error: BaseException) -> None:
        """Reconnect after an internal error; the messages being answered are suspects."""
        self._reporter.fault(error)
        end = BrokerError(f"internal error: {type(error).__name__}")
        if self._link is None:
            self._schedule(end)
            return
        try:
            self._lost(self._link, end)
        finally:
            self._drop()

    def _schedule(self, error: BrokerError) -> None:
        """Set the time of the next attempt: after pauses that double."""
        ceiling = min(self._settings.max_backoff, _FIRST_BACKOFF * 2.0 ** min(self._failures, 16))
        seconds = _jittered(ceiling)
        self._failures += 1
        self._next_attempt = self._clock() + seconds
        _log.warning("%s; trying again in %.1f s", error, seconds)
        self.notifier.status(f"waiting for the broker: {str(error).removeprefix('broker ')}")

    def _look_after_subscriptions(self, link: Connection) -> None:
        """Announce once the broker has answered the subscriptions; retry refused ones when it is time."""
        if not (self._greeted and self._announced) or self._asked_again:
            if self._answering.may_say(link, *self._announcements(News.CONNECTION, self._info(link))):
                self._asked_again = False
                self._announce(link)
        elif (costly := self._retry.take()) is not None:
            self._asked_again = True
            link.subscribe(self._plan.wanted, costly)
        else:
            self._afterwards.turn(link, self._answering, self.node)

    def _announce(self, link: Connection) -> None:
        """Publish state and announcements: on a new connection, with a new plan, and when the state has changed."""
        before, self._standing = self._standing, standing(link.refused)
        news = News.CONNECTION if not self._greeted else News(0)
        news |= News.STANDING if self._standing != before else News(0)
        news |= News.PLAN if not self._announced else News(0)
        self._retry.schedule(link.refused)
        if not news:
            return
        for one in link.refused:
            _log.error(
                "broker: subscription to %r refused: %s; %s; retrying in %.0f s",
                one.topic[:LOGGED],
                one.reason,
                advice_on(one.reason),
                self._retry.left(one),
            )
        if self._greeted and before != ONLINE == self._standing:
            _log.info("broker: all subscriptions are granted now")
        if not self._greeted:
            self._greeted_at = self._clock()
            self.tally.connections += 1
        info = self._info(link)
        for answer in self._announcements(news, info):
            self._answering.say(link, answer)
        served = ", ".join(f"{model['name']} {model['version']}" for model in info["models"])
        status = f"serving {served} over MQTT {link.protocol}"
        if self._standing != ONLINE:
            status = f"degraded: {self._standing.reason}; {status}"
        where = f"{'still ' if self._greeted else ''}connected to {self._settings.broker} as node {self.node}"
        _log.info("%s; %s", where, status)
        self.notifier.status(status)
        if news & (News.CONNECTION | News.PLAN):
            self._afterwards.begin(self._plan)
        self._greeted = self._is_known = self._announced = True
        self._answering.greeted()

    def _announcements(self, news: News, info: Info) -> list[Answer]:
        return announce(self._plan.announcements, news, self.node, info)

    def _info(self, link: Connection) -> Info:
        described = self._plan.describe(link.protocol, self._started)
        return Info(**described, state=self._standing.state, reason=self._standing.reason)

    # -- the end of a connection, or of a plan

    def take_over(self, settings: ConnectionSettings, plan: Plan) -> None:
        """Apply a new plan; keep the connection if `settings` are unchanged. Otherwise reconnect; within the same session
        without publishing `offline`.
        """
        stays = settings == self._settings
        link = self._link if stays and self._greeted else None
        if link is None:
            self.leave(successor=(settings.node, settings.session) == (self._settings.node, self._settings.session))
            self._attempt = self._failures = self._trials = 0
            self._next_attempt = 0.0
        else:
            try:
                # Takes a moment, because the backlog is bounded, unless the broker does not accept answers.
                self._answering.finish(link, _FINISH_PLAN, self._feed_watchdog)
            except BrokerError as error:
                self._lost(link, error)
            except _SIGNALS:
                raise
            except BaseException as error:  # noqa: BLE001 - as in `step`
                self._fault(error)
        refused = self._retry.forget()
        plan.pipeline.tally = self.tally
        anew = plan.pipeline.take_over(self._plan.pipeline) if stays else ()
        if not stays:  # else what was learned of the broker goes on
            self._settings = settings
        self._plan = plan
        self._answering.go_on_with(plan)
        if self._link is not None:
            self._link.subscribe(plan.wanted, {*anew, *refused})
        self._requests = Requests(settings.node, self._clock)
        self._reporter.go_on_with(plan)
        self._announced = self._settled = self._asked_again = False

    @property
    def updates(self) -> Updates | None:
        """What brings the plan's models over MQTT."""
        return self._plan.updates

    def stay(self, why: str) -> None:
        """Tell the service manager that a reload was rejected, so that nothing changed."""
        self._settled = True
        self.notifier.ready(why)

    def leave(self, *, successor: bool = False) -> None:
        """Finish messages in flight and disconnect; with a `successor` on the same node, which continues the session,
        `offline` is not published.
        """
        if self._link is None:
            return
        try:
            ends = self._clock() + _DRAIN
            self._answering.finish(self._link, _FINISH, self._feed_watchdog)
            if not self._link.drain(max(_DRAIN - _FINISH, ends - self._clock())):
                _log.warning("stopping with %d in flight; the broker will send them again", self._link.in_flight)
            if self._is_known and not successor:
                # Also on a connection that was not greeted: where it took over another one, that one's will may not have come.
                self._link.publish(will(self.node))
                self._link.drain(_LAST_WORD)
                self._is_known = False
            self._link.close()
        except BrokerError as error:
            _log.warning("while stopping: %s", error)
            self._link.abandon()
        except _SIGNALS:
            raise
        except BaseException as error:  # noqa: BLE001 - as in `step`
            self._reporter.fault(error)
            self._link.abandon()
        self._drop()

    # -- reports and requests

    def _report(self, link: Connection) -> None:
        self._reporter.note_refused(link.refused_answers)
        if self._reporter.is_due() and not self._answering.busy_alone:
            message = Answer(topics.health(self.node), to_json(self._reporter.health(link.in_flight)))
            if not self._greeted or self._answering.may_say(link, message):
                self._reporter.begin_interval()
                if self._greeted:
                    self._answering.say(link, message)
        self._reporter.log_summaries()

    def _respond(self, link: Connection, message: Message) -> Answer | None:
        verb = self._requests.verb(message.topic)
        if verb is None:
            return None

        def health(asking: Message) -> Health:
            return self._reporter.health(link.in_flight, asking=asking)

        subject = Subject(self.node, lambda: self._info(link), health, now, self._plan.install)
        response = self._requests.answer(verb, message, subject)
        topic = self._plan.pipeline.respond_to(message) or topics.response(self.node, verb)
        return Answer(topic, to_json(response), message.qos)

    def _feed_watchdog(self) -> None:
        interval = self.notifier.watchdog_interval
        if interval is not None and self._clock() >= self._next_watchdog:
            self._next_watchdog = self._clock() + interval
            self.notifier.alive()


def _jittered(seconds: float) -> float:
    """Return a pause of at most `seconds`, with jitter so that a fleet does not reconnect all at once."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
