"""What is known of a candidate that is compared with the model before it, and whether that is reason enough to go back.

Rules:

* what counts against a candidate is a share of rows: on which its answers differ, on which it fails, and which it rejects,
  always of rows that the model before answers. A bad sensor so counts against neither of them;
* a share is above its limit when it can't be explained by chance: the lower bound of Wilson's interval, three standard deviations
  wide, is above it. A limit of 0 needs one case;
* rows of one sensor resemble each other, so they are no independent evidence: their number is divided by (1 + rho) / (1 - rho),
  rho being the lag-1 autocorrelation within sensors (Wilks: Statistical Methods in the Atmospheric Sciences, 5.2.4). A sensor that
  stays in one state counts a little more than once, however often it says so;
* differences, rejections and latency count from `FEW` rows on;
* at the end of a phase the shares themselves count (`last`), for there is no more evidence to wait for.

Pure. Sizes are bounded: sensors, pairs of labels, remarks.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final, NamedTuple

from edge_agent.contract.progress import Compared
from edge_agent.wording import count

#: Rows from which on a difference, a rejection or a latency counts.
FEW: Final = 30
#: Half the width of the interval, in standard deviations. One look in 740 is wrong; looks at more and more of the same rows are not
#: independent.
_DEVIATIONS: Final = 3.0
#: Sensors whose last row is remembered, and pairs of labels.
_SENSORS: Final = 1000
_PAIRS: Final = 256
#: Pairs of labels that are told, the most frequent first, and remarks.
_TOLD: Final = 8
_REMARKS: Final = 8
#: Seconds that a row may take whatever the model before takes: below, nobody would notice the difference.
_QUICK: Final = 0.001


class ContestLimits(NamedTuple):
    """When a candidate is worse than the model before it. Shares are of the rows that the model before answers.

    `min_agreement` is the least share of equal answers, `max_failed` and `max_rejected` the largest shares on which the candidate
    fails and which it rejects; None is no limit. `max_slower` is how many times the processor time of the model before it may
    take, once it takes more than a millisecond a row. Numbers are equal within this share of their span in the self-test of the
    model before.
    """

    min_agreement: float | None = None
    max_failed: float = 0.0
    max_rejected: float | None = None
    max_slower: float | None = None
    within: float = 0.05


class Share:
    """The share of rows in which something is so."""

    def __init__(self) -> None:
        self.rows = 0
        self.cases = 0
        self._before: dict[str, bool] = {}
        #: How often what was so of a sensor's row before (first index) is so of the next (second one).
        self._followed = [[0, 0], [0, 0]]

    def add(self, sensor: str, case: bool) -> None:  # noqa: FBT001 - the thing counted
        """Count one row of a sensor."""
        self.rows += 1
        self.cases += case
        before = self._before.get(sensor)
        if before is not None:
            self._followed[before][case] += 1
        elif len(self._before) >= _SENSORS:
            return
        self._before[sensor] = case

    @property
    def value(self) -> float:
        """The share among the rows, from 0 to 1."""
        return self.cases / self.rows if self.rows else 0.0

    @property
    def evidence(self) -> float:
        """How many independent rows they are worth."""
        (still_not, began), (ended, still) = self._followed
        # One more of each, so that few rows do not claim to know.
        rho = (still + 1) / (ended + still + 2) - (began + 1) / (still_not + began + 2)
        return self.rows * (1 - rho) / (1 + rho) if rho > 0 else float(self.rows)

    @property
    def least(self) -> float:
        """The least share that can explain the rows: the lower bound of Wilson's interval (1927)."""
        n, z = self.evidence, _DEVIATIONS
        if not self.cases:
            return 0.0
        center = self.value + z * z / (2 * n)
        width = z * math.sqrt(self.value * (1 - self.value) / n + z * z / (4 * n * n))
        return max(0.0, (center - width) / (1 + z * z / n))

    def exceeds(self, limit: float, *, last: bool) -> bool:
        """Tell whether the share is above the limit, as far as the rows can say; all of them are there if it is the `last` look."""
        if limit <= 0:
            return self.cases > 0
        if self.rows < FEW:
            return False
        return (self.value if last else self.least) > limit


class Figures:
    """What came of asking a candidate and the model before it the same rows. Those who compare add to it."""

    def __init__(self) -> None:
        #: Of the rows that the model before takes: those that the candidate rejects.
        self.rejected = Share()
        #: Of those that both take, and the model before answers: those on which the candidate fails.
        self.failed = Share()
        #: Of those that both answer in terms of each other: those with other answers.
        self.differing = Share()
        #: Messages that nobody was asked about, for lack of time, and rows whose answers can't be compared.
        self.skipped = self.incomparable = 0
        #: Processor time of each model, in seconds, for the same rows; and how many of them, in how many calls.
        self.before = self.candidate = 0.0
        self.timed = self.calls = 0
        self.remarks: list[str] = []
        self._pairs: Counter[tuple[str, str]] = Counter()

    def differ(self, before: str, candidate: str) -> None:
        """Count a pair of different answers."""
        pair = before, candidate
        if pair in self._pairs or len(self._pairs) < _PAIRS:
            self._pairs[pair] += 1

    def took(self, before: float, candidate: float, rows: int) -> None:
        """Note the processor time that both took for the same rows, in seconds."""
        self.calls += 1
        if self.calls > 1:  # the first call warms up
            self.before += before
            self.candidate += candidate
            self.timed += rows

    def remark(self, words: str) -> None:
        """Note once what can't be compared."""
        if words not in self.remarks and len(self.remarks) < _REMARKS:
            self.remarks.append(words)

    def trouble(self, limits: ContestLimits, *, last: bool = False) -> str | None:
        """Return why the candidate is worse than `limits` allow, in one sentence with the figures; None while it is not known
        to be. `last` is for the end of a phase.
        """
        if self.failed.exceeds(limits.max_failed, last=last):
            return _told("it fails on", self.failed, "that the model before answers", "max_failed", limits.max_failed)
        if limits.max_rejected is not None and self.rejected.exceeds(limits.max_rejected, last=last):
            what = "that the model before takes"
            return _told("it rejects", self.rejected, what, "max_rejected", limits.max_rejected)
        least, enough = limits.min_agreement, self.differing.rows >= FEW
        if least is not None and enough and self.differing.exceeds(1 - least, last=last):
            return self._told_differing(least)
        return self._slow(limits.max_slower)

    def _told_differing(self, least: float) -> str:
        same = self.differing.rows - self.differing.cases
        words = (
            f"it agrees with the model before on {same} of {count(self.differing.rows, 'row')} "
            f"({_percent(1 - self.differing.value)}), and min_agreement is {_percent(least)}"
        )
        for (before, candidate), times in self._pairs.most_common(1):
            words += f"; most often {before!r} became {candidate!r} ({count(times, 'time')})"
        return words

    def _slow(self, most: float | None) -> str | None:
        if most is None or self.timed < FEW or self.calls < FEW or self.candidate / self.timed < _QUICK:
            return None
        if self.candidate <= most * self.before:
            return None
        before, candidate = (1e3 * seconds / self.timed for seconds in (self.before, self.candidate))
        return (
            f"it takes {candidate:.3g} ms of processor time a row where the model before takes {before:.3g} ms, and max_slower is "
            f"{most:g} times"
        )

    def describe(self) -> Compared:
        """Return the figures for messages."""
        described: Compared = {
            "rows": self.rejected.rows,
            "skipped": self.skipped,
            "rejected": self.rejected.cases,
            "failed": self.failed.cases,
            "compared": self.differing.rows,
            "agreement": round(1 - self.differing.value, 6) if self.differing.rows else None,
            "differing": [(*pair, times) for pair, times in self._pairs.most_common(_TOLD)],
            "incomparable": self.incomparable,
            "microseconds": None,
            "remarks": list(self.remarks),
        }
        if self.timed:
            before, candidate = (round(1e6 * one / self.timed, 1) for one in (self.before, self.candidate))
            described["microseconds"] = {"before": before, "candidate": candidate}
        return described


def _told(what: str, share: Share, of: str, name: str, limit: float) -> str:
    rows = f"{share.cases} of {count(share.rows, 'row')}"
    return f"{what} {rows} {of} ({_percent(share.value)}), and {name} is {_percent(limit)}"


def _percent(share: float) -> str:
    """Return a share, as exact as it has to be for it not to look like all or nothing."""
    text = f"{100 * share:.4g}"
    return f"{text if text != '100' or share == 1 else '99.99'}%"
