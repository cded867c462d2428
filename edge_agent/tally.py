"""Counters for messages, answers and rejections. Pure; the agent publishes them and logs summaries.

What becomes of messages is counted once, by route (`Counts`); the totals are their sums, so that more figures cost a message
nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Hashable, Iterable
from typing import Final

#: Latencies kept for the percentiles of one interval; more messages than this are sampled by dropping the oldest.
_SAMPLES: Final = 4096
#: Distinct reasons kept for one summary; their text comes partly from outside, so their number must be bounded.
_REASONS: Final = 20
#: Upper bounds of a histogram's buckets in seconds; above the last one is one more.
BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Reasons:
    """The rejections since the last summary, by their reason."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._others = 0

    def add(self, reason: str, count: int) -> None:
        """Count rejections. `reason` is short: a feature and its problem."""
        if reason in self._counts or len(self._counts) < _REASONS:
            self._counts[reason] += count
        else:
            self._others += count

    def take(self) -> str | None:
        """Return the rejections since the last call in one line, most frequent first, or None."""
        if not self._counts:
            return None
        parts = [f"{count} x {reason}" for reason, count in self._counts.most_common(5)]
        total = self._counts.total() + self._others
        rest = total - sum(n for _, n in self._counts.most_common(5))
        self._counts.clear()
        self._others = 0
        return f"{total} rejected: {', '.join(parts)}" + (f", {rest} x other reasons" if rest else "")


class Counts:
    """What became of the messages of one route: rows, of which a batch has many, and whole messages that were `ignored`."""

    def __init__(self, reasons: Reasons | None = None) -> None:
        self.predictions = 0
        self.outside = 0
        self.uncertain = 0
        self.ignored = 0
        self.rejections: Counter[str] = Counter()
        #: Messages by latency: one number for each of `BOUNDS` and one for those above; and the sum of the latencies in seconds.
        self.latencies = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self._reasons = reasons or Reasons()

    def rejected(self, code: str, reason: str, count: int = 1) -> None:
        """Count rejected rows or payloads. `reason` is short: a feature and its problem."""
        self.rejections[code] += count
        self._reasons.add(reason, count)

    def took(self, place: int, seconds: float, messages: int) -> None:
        """Note the latency of messages, whose bucket is at `place`."""
        self.latencies[place] += messages
        self.seconds += seconds * messages

    def add(self, other: Counts) -> None:
        """Add what another one has counted, except latencies."""
        self.predictions += other.predictions
        self.outside += other.outside
        self.uncertain += other.uncertain
        self.ignored += other.ignored
        self.rejections += other.rejections


class Tally:
    """Totals since the start, and counts since the last summary."""

    def __init__(self) -> None:
        self.received = 0
        self.redelivered = 0
        self.answered = 0
        self.refused = 0
        self.unrouted = 0
        self.poisoned = 0
        self.faults = 0
        self.acknowledged = 0
        self.connections = 0
        #: Whether latencies are counted by route, too.
        self.detailed = False
        self._reasons = Reasons()
        self._former = Counts(self._reasons)
        self._routes: dict[Hashable, Counts] = {}
        self._latencies: deque[float] = deque(maxlen=_SAMPLES)
        self._notes: dict[str, tuple[int, str]] = {}

    def serve(self, routes: Iterable[Hashable]) -> dict[Hashable, Counts]:
        """Return the counts of these routes, which go on where they were; those of all others remain in the totals only."""
        before = self._routes
        serving = {route: before.get(route, Counts(self._reasons)) for route in routes}
        self._routes = serving
        for gone in before.keys() - serving.keys():
            self._former.add(before[gone])
        return serving

    @property
    def total(self) -> Counts:
        """What became of all messages, also those of routes that are gone; without latencies."""
        total = Counts()
        for one in (self._former, *self._routes.values()):
            total.add(one)
        return total

    def note(self, what: str, topic: str) -> None:
        """Count an event for the summary in the log, with a topic as its first example."""
        count, first = self._notes.get(what, (0, topic))
        if count or len(self._notes) < _REASONS:
            self._notes[what] = count + 1, first

    def take_notes(self) -> list[tuple[str, int, str]]:
        """Return the events since the last call: what, how often, and the example."""
        notes = [(what, count, topic) for what, (count, topic) in self._notes.items()]
        self._notes.clear()
        return notes

    def took(self, seconds: float, messages: int) -> None:
        """Note that a batch of `messages` took `seconds` from the socket to its answers."""
        self._latencies.extend([seconds] * min(messages, _SAMPLES))

    def forget_latency(self) -> None:
        """Forget all latencies."""
        self._latencies.clear()

    def latency(self) -> tuple[float, float] | None:
        """Return p50 and p99 in seconds since the last reset, or None without a message."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]

    def take_reasons(self) -> str | None:
        """Return the rejections since the last call in one line, most frequent first, or None."""
        return self._reasons.take()


def bucket(seconds: float) -> int:
    """Return the number of a latency's bucket (`Counts.latencies`)."""
    return bisect_left(BOUNDS, seconds)
