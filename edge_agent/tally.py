"""Counters for messages, answers and rejections. Pure; the agent publishes them and logs summaries."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

#: Latencies kept for the percentiles of one interval; more messages than this are sampled by dropping the oldest.
_SAMPLES: Final = 4096
#: Distinct reasons kept for one summary; their text comes partly from outside, so their number must be bounded.
_REASONS: Final = 20


class Tally:
    """Totals since the start, and counts since the last summary."""

    def __init__(self) -> None:
        self.received = 0
        self.redelivered = 0
        self.predictions = 0
        self.outside = 0
        self.uncertain = 0
        self.rejections: Counter[str] = Counter()
        self.answered = 0
        self.refused = 0
        self.unrouted = 0
        self.ignored = 0
        self.poisoned = 0
        self.faults = 0
        self.acknowledged = 0
        self.connections = 0
        self._latencies: deque[float] = deque(maxlen=_SAMPLES)
        self._reasons: Counter[str] = Counter()
        self._other_reasons = 0
        self._notes: dict[str, tuple[int, str]] = {}

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

    def rejected(self, code: str, reason: str, count: int = 1) -> None:
        """Count rejected rows or payloads. `reason` is short: a feature and its problem."""
        self.rejections[code] += count
        if reason in self._reasons or len(self._reasons) < _REASONS:
            self._reasons[reason] += count
        else:
            self._other_reasons += count

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
        if not self._reasons:
            return None
        parts = [f"{count} x {reason}" for reason, count in self._reasons.most_common(5)]
        rest = self._reasons.total() + self._other_reasons - sum(n for _, n in self._reasons.most_common(5))
        total = self._reasons.total() + self._other_reasons
        self._reasons.clear()
        self._other_reasons = 0
        return f"{total} rejected: {', '.join(parts)}" + (f", {rest} x other reasons" if rest else "")
