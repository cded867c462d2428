"""A running node's reports: health on the wire, metrics in a file, and summaries in the log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from edge_agent.contract.messages import Gathered, Health, Message, Refused
from edge_agent.host.device import Device
from edge_agent.host.process import rss_bytes
from edge_agent.serving.announcements import standing
from edge_agent.serving.metrics import Seen, TextFile, exposition
from edge_agent.serving.plan import Connection, Plan
from edge_agent.tally import Tally
from edge_agent.wording import LOGGED

_log = logging.getLogger(__name__)

#: Seconds between two log lines that summarize the same problem.
_SUMMARY: Final = 60.0
#: Most incomplete sensors that health and the request `status` name.
_WAITING_IN_HEALTH: Final = 10
_WAITING_IN_STATUS: Final = 100
#: Seconds for which the figures over all sensors are reused.
_SURVEY: Final = 1.0
#: Most kinds of faults that are remembered.
_FAULTS: Final = 100


class Reporter:
    """Turns the tally into health messages, at the plan's interval, and into log lines, at most one a minute of each."""

    def __init__(self, tally: Tally, plan: Plan, clock: Callable[[], float]) -> None:
        self._tally = tally
        self._plan = plan
        self._device = Device()
        self._surveyed: tuple[float, Gathered | None] | None = None
        self._clock = clock
        self._started = clock()
        self._last = self._started
        self._last_received = 0
        self._last_predictions = 0
        self._next_summary = self._started
        self._faults: dict[str, float] = {}  # when each kind may be logged again
        self._refused = 0
        self._first_refused: Refused | None = None
        self._next_refused = self._started
        self._next_notes = self._started
        self._textfile = TextFile()
        self._protocol = ""
        self.go_on_with(plan)

    def go_on_with(self, plan: Plan) -> None:
        """Report on another plan from now on. The current interval goes on; the file is written anew, it may be another one."""
        former, self._plan = self._plan, plan
        if plan.drift is not None and former.drift is not None and plan is not former:
            plan.drift.take_over(former.drift)
        self._surveyed = None
        self._textfile.move(plan.textfile)
        self._next_metrics = self._clock()
        self._tally.detailed = plan.textfile is not None

    def is_due(self) -> bool:
        """Tell whether the interval is over."""
        return self._clock() - self._last >= self._plan.health_interval

    def begin_interval(self) -> None:
        """Begin the next interval for rates and latencies."""
        self._last = self._clock()
        self._last_received, self._last_predictions = self._tally.received, self._tally.total.predictions
        self._tally.forget_latency()

    def health(self, in_flight: int, *, asking: Message | None = None) -> Health:
        """Return the current figures. The request that asks for them is not counted, and gets more of the incomplete
        sensors.
        """
        besides, waiting = (0, _WAITING_IN_HEALTH) if asking is None else (1, _WAITING_IN_STATUS)
        now_ = self._clock()
        elapsed = now_ - self._last
        tally, latency = self._tally, self._tally.latency()
        total = tally.total
        health: Health = {
            "time": now(),
            "uptime": round(now_ - self._started, 1),
            "interval": round(elapsed, 1),
            "received": tally.received - besides,
            "redelivered": tally.redelivered,
            "predictions": total.predictions,
            "outside": total.outside,
            "uncertain": total.uncertain,
            "rejections": dict(total.rejections),
            "answered": tally.answered,
            "refused": tally.refused,
            "unrouted": tally.unrouted,
            "ignored": total.ignored,
            "poisoned": tally.poisoned,
            "faults": tally.faults,
            "acknowledged": tally.acknowledged,
            "in_flight": max(0, in_flight - (asking is not None and asking.qos > 0)),
            "connections": tally.connections,
            "messages_per_second": _rate(tally.received - besides - self._last_received, elapsed),
            "predictions_per_second": _rate(total.predictions - self._last_predictions, elapsed),
            "latency_ms": {"p50": round(latency[0] * 1e3, 3), "p99": round(latency[1] * 1e3, 3)} if latency else None,
            "rss_bytes": rss_bytes(),
        }
        if (temperature := self._device.temperature()) is not None:
            health["temperature"] = temperature
        if (gathered := self._survey()) is not None:
            health["gathering"] = {**gathered, "waiting": gathered["waiting"][:waiting]}
        if self._plan.updates is not None and (progress := self._plan.updates.health) is not None:
            health["update"] = progress
        if asking is not None and self._plan.drift is not None:
            health["drift"] = self._plan.drift.told()
        return health

    def expose(self, link: Connection | None) -> None:
        """Write the metrics when it is time, if they are wanted; `link` is the connection that the node is online on, if it is.

        Whatever goes wrong with that must not touch the connection.
        """
        if self._plan.textfile is None or self._clock() < self._next_metrics:
            return
        self._next_metrics = self._clock() + self._plan.health_interval
        try:
            self._textfile.write(exposition(self._seen(link)))
        except Exception as error:  # noqa: BLE001 - a bug of ours
            self.fault(error)

    def close(self) -> None:
        """Take back what would be wrong once the agent has stopped."""
        self._textfile.remove()

    def _seen(self, link: Connection | None) -> Seen:
        if link is not None:
            self._protocol = link.protocol
        return Seen(
            self._plan.describe(self._protocol, ""),
            "offline" if link is None else standing(link.refused).state,
            self._clock() - self._started,
            0 if link is None else link.in_flight,
            rss_bytes(),
            self._tally,
            self._plan.pipeline.shares(),
            self._survey(),
            self._textfile.failures,
            self._device.temperature(),
            None if self._plan.drift is None else self._plan.drift.measured(),
        )

    def _survey(self) -> Gathered | None:
        """Return the figures of gathering routes, at most one second old: computing them visits every sensor."""
        now_ = self._clock()
        if self._surveyed is None or now_ - self._surveyed[0] >= _SURVEY:
            self._surveyed = now_, self._plan.pipeline.gathered(now_, limit=_WAITING_IN_STATUS)
        return self._surveyed[1]

    def note_refused(self, refused: list[Refused]) -> None:
        """Count the answers that the broker has refused since the last call."""
        if refused:
            self._refused += len(refused)
            self._first_refused = self._first_refused or refused[0]
            refused.clear()

    def fault(self, error: BaseException) -> None:
        """Count an internal error, and log it with its traceback: once a minute for each place that raises it."""
        self._tally.faults += 1
        frames = traceback.extract_tb(error.__traceback__, limit=-1)
        kind = f"{type(error).__name__} in {frames[0].filename}:{frames[0].lineno}" if frames else type(error).__name__
        if self._clock() < self._faults.get(kind, 0.0):
            return
        if len(self._faults) >= _FAULTS:
            self._faults.clear()
        self._faults[kind] = self._clock() + _SUMMARY
        _log.error("internal error; the service continues", exc_info=error)

    def log_summaries(self) -> None:
        """Log rejections and refusals: the first at once, then summaries, never one line per message."""
        now_ = self._clock()
        if now_ >= self._next_summary and (reasons := self._tally.take_reasons()):
            self._next_summary = now_ + _SUMMARY
            _log.warning("%s", reasons)
        if now_ >= self._next_notes and (notes := self._tally.take_notes()):
            self._next_notes = now_ + _SUMMARY
            for what, count, topic in notes:
                _log.warning("%d messages: %s (the first: %r)", count, what, topic[:LOGGED])
        if now_ >= self._next_refused and self._first_refused is not None:
            self._next_refused = now_ + _SUMMARY
            topic, reason = self._first_refused
            _log.error(
                "broker: refused %d of our messages (the first on %r: %s); check the broker's access rules and limits",
                self._refused,
                topic[:LOGGED],
                reason,
            )
            self._refused, self._first_refused = 0, None


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 2) if seconds > 0 else 0.0


def now() -> str:
    """Return the time of day in UTC, RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
