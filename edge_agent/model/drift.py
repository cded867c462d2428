"""Whether what a model is asked, and what it answers, still looks like what it was trained on.

A sensor that drifts, a unit that changed or a season that was not in the training data spoils answers without any error. So the
values of each column (`edge_agent.model.reference`) are counted where the card's quantiles lie, and compared with the shares that
training had there.

Rules:

* an alarm takes effect AND evidence: a population stability index (PSI) of `EFFECT` or more, which says that the change matters, and a
  chi-square that says that it is none of chance. PSI alone alarms on few values, a test alone on many, whatever they are;
* values of a sensor resemble those before, so a thousand of them say less than a thousand independent ones. Chi-square is divided by
  what they say less: (1 + rho) / (1 - rho), with rho their correlation with the value before of the same sensor; or by how much more
  the parts of the window differ than independent values would, where that is more: that finds what sensors have in common, like the
  weather, and what changes within a day. `ALARM` holds for all columns of a model together;
* the window slides: it has `PARTS`, and the oldest one goes, so what was long ago can't hide what is now. Nothing is concluded before a
  whole window has passed, because a day has hours unlike each other;
* memory is bounded: by the columns, and by `sensors_of` their number. It is lost at the end of the process: nothing is written.

No clock, no threads: `now` is in seconds, of any clock that never goes back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.contract.card import QUANTILE_LEVELS
from edge_agent.model.reference import LEAST_SHARE, Column, Floats, Layout
from edge_agent.model.streams import Sensor, Streams

#: A PSI from which on a change matters, and below which it does not any more: the customary bounds.
EFFECT: Final = 0.2
OVER: Final = 0.1
#: Probability of an alarm by chance that is accepted at one look, for all columns of a model together.
ALARM: Final = 1e-5
#: Parts of a window.
PARTS: Final = 24
#: Fewest values that chi-square expects in a bin, as if they were independent: fewer are joined with their neighbours (Cochran).
_EXPECTED: Final = 5.0
#: Of fewer values in a window their correlation is not known well enough: they are no evidence.
_FEWEST: Final = 100
#: A variance of scores that is none.
_TINY: Final = 1e-9
_LEVELS: Final = np.array(QUANTILE_LEVELS[1:-1])
_SHARES: Final = np.diff(np.concatenate(([0.0], _LEVELS, [1.0])))
#: The cell above all quantiles.
_LAST: Final = 2 * len(QUANTILE_LEVELS)
#: What is summed up of a column: scores, their squares, those of the steps from one to the next of a sensor, and the values.
_COUNT, _SUM, _SQUARES, _PAIRS, _STEPS, _VALUES = range(6)


class Finding(NamedTuple):
    """A column against training. `psi` is None without a reference or a value. `independent` is how many independent values it has
    as much to say as, `chi_square` deflated accordingly, `chance` its probability if nothing had changed. `levels` (7,) are the shares of
    what is not above the card's quantiles between the least and the largest one, of an ordered column; `shares` those of its parts.
    `below` and `above` are the shares beyond all that training saw, `missing` that of missing values; `mean` is that of the values, None
    of parts.
    """

    column: Column
    rows: int
    psi: float | None
    chi_square: float
    chance: float
    independent: float
    levels: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    below: float = 0.0
    above: float = 0.0
    missing: float = 0.0
    mean: float | None = None

    def alarms(self, columns: int) -> bool:
        """Whether it is an alarm, beside others of so many columns in all."""
        return self.effect >= EFFECT and self.chance < ALARM / max(1, columns)

    @property
    def effect(self) -> float:
        """How much it has changed: PSI, or twice the difference of a mean from 0 to 1; 0 where that is not known."""
        if self.psi is None and self.column.mean is not None and self.mean is not None:
            return 2.0 * abs(self.mean - self.column.mean)
        return self.psi or 0.0


class Watch:
    """Counts the rows of one model: what it was asked, and what it answered. `hours` is the length of the window; the first
    `features` of the columns are what it was asked, by default all.
    """

    def __init__(self, columns: Sequence[Column], *, features: int | None = None, hours: float = 24.0) -> None:
        self.layout = Layout(columns)
        self._features = len(columns) if features is None else features
        self.streams = Streams(len(columns))
        self._part = hours * 3600.0 / PARTS
        self._counts = np.zeros((PARTS, self.layout.total), np.int64)
        self._sums = np.zeros((PARTS, len(columns), 6))
        self._rows = np.zeros((PARTS, 2), np.int64)  # all, and those outside of training
        self._at = 0
        self._ends = -math.inf
        #: When the first row came; None without any in the window.
        self.since: float | None = None

    @property
    def memory(self) -> int:
        """Bytes that are kept."""
        return self._counts.nbytes + self._sums.nbytes + self.streams.memory

    def add(self, rows: Floats, sensors: Sequence[str], now: float) -> None:
        """Count `rows` (n, columns) of as many sensors, in the order in which they came; NaN is a missing value."""
        self.turn(now)
        if self.since is None:
            self.since = now
        unknown = np.isnan(rows)
        lacking = unknown if unknown.any() else None
        places, scores = self.layout.places(rows, lacking), self.layout.scores(rows)
        self._counts[self._at] += np.bincount(self.layout.within(places).ravel(), minlength=self.layout.total)
        far = np.nonzero(self.layout.far(places))
        beyond = self.layout.beyond(places[far]) & (far[1] < self._features)
        outside = len(set(far[0][beyond].tolist()))
        self._rows[self._at] += len(rows), outside
        steps = self.streams.steps(sensors, scores, far, places[far])
        sums = self._sums[self._at]
        if lacking is None:
            sums[:, _COUNT] += len(rows)
        else:
            sums[:, _COUNT] += (~lacking).sum(axis=0)
            rows, scores = np.where(lacking, 0.0, rows), np.where(lacking, 0.0, scores)
        sums[:, _VALUES] += rows.sum(axis=0)
        sums[:, _SUM] += scores.sum(axis=0)
        sums[:, _SQUARES] += np.einsum("ij,ij->j", scores, scores)
        unknown = np.isnan(steps)
        sums[:, _PAIRS] += len(steps) - unknown.sum(axis=0)
        steps[unknown] = 0.0
        sums[:, _STEPS] += np.einsum("ij,ij->j", steps, steps)

    def turn(self, now: float) -> None:
        """Let what is older than the window go."""
        if now < self._ends:
            return
        turns = PARTS if self._ends == -math.inf else min(PARTS, 1 + int((now - self._ends) // self._part))
        for _ in range(turns):
            self._at = (self._at + 1) % PARTS
            self._counts[self._at] = 0
            self._sums[self._at] = 0.0
            self._rows[self._at] = 0
        self.streams.fade(turns / PARTS)
        self._ends = now + self._part if turns == PARTS else self._ends + turns * self._part
        if not self._rows.any():
            self.since = None

    def hours(self, now: float) -> float:
        """Return for how long rows have been counted, in hours."""
        return 0.0 if self.since is None else (now - self.since) / 3600.0

    @property
    def rows(self) -> int:
        """Rows in the window."""
        return int(self._rows[:, 0].sum())

    @property
    def outside(self) -> float:
        """The share of rows in the window with a value beyond all that training saw."""
        return float(self._rows[:, 1].sum()) / max(1, self.rows)

    def findings(self) -> list[Finding]:
        """Return what there is to say of each column."""
        counts = self._counts.sum(axis=0)
        independent = self._independent()
        means = self._sums[:, :, _VALUES].sum(axis=0)
        found = []
        for place, column in enumerate(self.layout.columns):
            begin = self.layout.begins[place]
            cells = counts[begin : begin + column.cells]
            found.append(_finding(column, cells, float(independent[place]), float(means[place])))
        return found

    def odd_sensors(self, limit: int) -> list[Sensor]:
        """Return sensors most of whose values lie where next to none of training did, the clearest first."""
        return self.streams.odd(limit)

    def _independent(self) -> Floats:
        """Return how many independent values each column has as much to say as."""
        sums = self._sums.sum(axis=0)
        count, pairs = sums[:, _COUNT], np.maximum(sums[:, _PAIRS], 1.0)
        whole = np.maximum(count, 1.0)
        spread = sums[:, _SQUARES] / whole - (sums[:, _SUM] / whole) ** 2
        varies = spread > _TINY
        # By the mean square of the steps (von Neumann, 1941). A value that never changes is one value, however often it comes.
        rho = np.where(varies, 1.0 - sums[:, _STEPS] / pairs / (2.0 * np.maximum(spread, _TINY)), 1.0)
        # Of few pairs too small a correlation is found, by about this (Kendall); and it may be more by chance: Fisher's z, with
        # two of its deviations.
        rho = np.clip(rho + (1.0 + 4.0 * np.maximum(rho, 0.0)) / pairs, 0.0, 1.0 - 1e-9)
        rho = np.tanh(np.arctanh(rho) + 2.0 / np.sqrt(pairs * (1.0 - rho * rho)))
        says = count / np.maximum((1.0 + rho) / np.maximum(1.0 - rho, 1e-9), self._unlike())
        says = np.where(sums[:, _PAIRS] < _FEWEST, 1.0, np.maximum(says, 1.0))
        # An answer is made of the features: it resembles the one before no more than they do (Gebelein), even if it is always the same.
        asked = says[: self._features][varies[: self._features]]
        if len(asked):
            says[self._features :] = np.maximum(says[self._features :], asked.min())
        return says

    def _unlike(self) -> Floats:
        """Return how much more the parts of the window differ than if each had drawn independent values: the F of their means."""
        count, total, squares = self._sums[:, :, _COUNT], self._sums[:, :, _SUM], self._sums[:, :, _SQUARES]
        whole = np.maximum(count.sum(axis=0), 1.0)
        used = (count > 0).sum(axis=0)
        means = total.sum(axis=0) / whole
        each = total / np.maximum(count, 1.0)
        between = (count * (each - means) ** 2).sum(axis=0) / np.maximum(used - 1, 1)
        within = (squares.sum(axis=0) - (count * each**2).sum(axis=0)) / np.maximum(whole - used, 1.0)
        return np.where((used > 1) & (within > 0), between / np.maximum(within, 1e-12), 1.0)


def _finding(column: Column, cells: npt.NDArray[np.int64], independent: float, total: float) -> Finding:
    counted, lacking = int(cells[:-1].sum()), int(cells[-1])
    rows = counted + lacking
    found = Finding(column, rows, None, 0.0, 1.0, independent if rows else 0.0, missing=lacking / max(1, rows))
    if not counted and not (lacking and column.lacking):
        return found
    shares = cells[:-1] / max(1, counted)
    if column.words:
        found = found._replace(shares=tuple(shares.tolist()))
        training = np.array(column.shares)
        order = np.argsort(training, kind="stable")  # the rare ones are joined first
        now, training = shares[order] if column.shares else training, training[order]
    else:
        found = found._replace(mean=total / max(1, counted))
        if column.quantiles:
            levels = at_levels(shares, column.quantiles)
            found = found._replace(levels=tuple(levels.tolist()), below=float(shares[0]), above=float(shares[_LAST]))
            now, training = np.diff(np.concatenate(([0.0], levels, [1.0]))), _SHARES
    if column.mean is not None and found.mean is not None:
        # No number from 0 to 1 varies more than by this.
        chi_square = independent * (found.mean - column.mean) ** 2 / max(column.mean * (1.0 - column.mean), LEAST_SHARE)
        return found._replace(chi_square=chi_square, chance=chance_of(chi_square, 1))
    if not column.is_known:
        return found
    if column.lacking:
        now, training = _with(now, found.missing), _with(training, column.lacking)
    psi, chi_square, chance = compared(now, training, independent)
    return found._replace(psi=psi, chi_square=chi_square, chance=chance)


def _with(shares: Floats, missing: float) -> Floats:
    """Return the shares of all rows, those with a missing value first."""
    return np.concatenate(([missing], (1.0 - missing) * shares))


def at_levels(shares: Floats, quantiles: Sequence[float]) -> Floats:
    """Return the shares of what is not above the card's inner quantiles, (7,), from those below, on and between all of them.

    What lies on a quantile is on either side of it, as fits training best: between what is below and what is not above.
    """
    reached = np.cumsum(shares)
    narrow = np.array(quantiles, np.float32)
    # Equal quantiles have their values in one cell, in the middle of theirs.
    first, last = np.searchsorted(narrow, narrow), np.searchsorted(narrow, narrow, "right") - 1
    found: Floats = np.clip(_LEVELS, reached[2 * first][1:-1], reached[2 * last + 1][1:-1])
    return found


def compared(now: Floats, training: Floats, independent: float) -> tuple[float, float, float]:
    """Return PSI, chi-square as of so many independent values, and its probability if nothing had changed, of shares (k,) in order."""
    observed, expected = np.maximum(now, LEAST_SHARE), np.maximum(training, LEAST_SHARE)
    psi = float(((observed - expected) * np.log(observed / expected)).sum())
    first, second = _joined(now, expected / expected.sum(), _EXPECTED / max(independent, 1e-9))
    if len(second) < 2:
        return psi, 0.0, 1.0
    chi_square = independent * sum((a - b) ** 2 / b for a, b in zip(first, second, strict=True))
    return psi, chi_square, chance_of(chi_square, len(second) - 1)


def _joined(now: Floats, training: Floats, least: float) -> tuple[list[float], list[float]]:
    """Return shares with neighbours joined until training has `least` in each."""
    first, second = [0.0], [0.0]
    for a, b in zip(now.tolist(), training.tolist(), strict=True):
        if second[-1] >= least:
            first.append(0.0)
            second.append(0.0)
        first[-1] += a
        second[-1] += b
    if len(second) > 1 and second[-1] < least:
        a, b = first.pop(), second.pop()
        first[-1] += a
        second[-1] += b
    return first, second


def chance_of(chi_square: float, degrees: int) -> float:
    """Return the probability of at least this chi-square with so many degrees of freedom (Wilson and Hilferty, 1931)."""
    spread = 2.0 / (9.0 * degrees)
    z = ((chi_square / degrees) ** (1 / 3) - (1.0 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(z / math.sqrt(2.0))
