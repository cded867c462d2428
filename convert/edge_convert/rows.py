"""Rows to check a model with: where two implementations of a tree would part, if they ever do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: (n, f): float32, or float64 where the model looks at more than float32 holds.
Rows = NDArray[np.float32] | NDArray[np.float64]

#: What sensors and gateways send when they have nothing to say, and where answers saturate.
_SENTINELS: Final = np.array([-127, 85, 9999, -9999, 65535, 1e6, -1e6, 0, -1, 255, 1e9, -1e9])


#: How often two rows on either side of a change of label are brought together.
_HALVINGS: Final = 24


@dataclass(frozen=True)
class Generated:
    """`X` (n, f); the first `edges` rows lie on an edge of the model, or one step beside it."""

    X: Rows
    edges: int
    kind: str


def around_thresholds(
    X: Rows, thresholds: Sequence[NDArray[np.float64]], n: int, rng: np.random.Generator, gaps: Sequence[int] = ()
) -> Generated:
    """Draw `n` rows, three quarters of them with values exactly on a threshold or one step to either side.

    A step is one of float32, or, where `X` is float64, one of either. `X` (m, f) are real rows to start from, `thresholds` those of each of the f features. One half of the edge rows
    is a real row with one value moved (which keeps the rest of its path), in the other half every value is moved.
    Columns with missing values in `X`, and those in `gaps`, lose theirs (NaN) in half of all rows: one of them, or several at random.
    """
    asked = [column for column, values in enumerate(thresholds) if len(values)]
    edges = 3 * n // 4 if asked else 0
    drawn = X[rng.integers(0, len(X), n)]
    _spread(drawn[edges:], X, rng)
    single = rng.choice(asked, edges // 2, p=_weights(thresholds, asked)) if asked else np.empty(0, dtype=np.int64)
    for column in asked:
        rows = np.concatenate([np.flatnonzero(single == column), np.arange(edges // 2, edges)])
        drawn[rows, column] = _beside(rng.choice(thresholds[column], len(rows)), rng, X.dtype)
    _lose(drawn, np.union1d(np.flatnonzero(np.isnan(X).any(axis=0)), np.array(gaps, dtype=np.int64)), rng)
    step = "float32" if X.dtype == np.float32 else "float64 or float32"
    return Generated(drawn, edges, f"on a threshold or one {step} step beside it")


def around_label_changes(
    X: Rows,
    labels: NDArray[np.str_],
    predict: Callable[[NDArray[Any]], NDArray[np.str_]],
    n: int,
    rng: np.random.Generator,
) -> Generated:
    """Draw `n` rows, half of them on either side of where the label changes: for models that are not trees alone.

    `labels` (m,) are what `predict` says of `X` (m, f), float64. Pairs of real rows with different labels are brought together by bisection.
    Columns with missing values in `X` lose theirs (NaN) in half of the other rows.
    """
    one, other = (rng.integers(0, len(X), 4 * n) for _ in range(2))
    different = np.flatnonzero(labels[one] != labels[other])[: n // 4]
    low, high, low_labels = X[one[different]], X[other[different]], labels[one[different]]
    # Sums of products are not the same to the last bit everywhere, so these come as close as float32 tells their distance. The first
    # cut is not in the middle: what is exactly as far from one row as from the other is for nearest neighbours to toss up.
    share: NDArray[Any] = rng.uniform(0.3, 0.7, (len(different), 1))
    for _ in range(_HALVINGS):
        middle: NDArray[Any] = low + (high - low) * share
        share = np.full((len(different), 1), 0.5)
        same = (predict(middle) == low_labels)[:, np.newaxis] if len(middle) else np.empty((0, 1), dtype=bool)
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    drawn = np.concatenate([low, high, X[rng.integers(0, len(X), n - 2 * len(low))]])
    _spread(drawn[2 * len(low) :], X, rng)
    _lose(drawn[2 * len(low) :], np.flatnonzero(np.isnan(X).any(axis=0)), rng)
    return Generated(drawn, 2 * len(low), "on either side of where the label changes")


def _spread(rows: Rows, X: Rows, rng: np.random.Generator) -> None:
    """Overwrite `rows` evenly between the least and the largest value seen, and a tenth of that beyond."""
    least, largest = np.nanmin(X, axis=0).astype(np.float64), np.nanmax(X, axis=0).astype(np.float64)
    margin = (largest - least) / 10
    limit = float(np.finfo(np.float32).max)
    low, high = np.clip(least - margin, -limit, limit), np.clip(largest + margin, -limit, limit)
    rows[:] = rng.uniform(low, high, size=rows.shape)


def _lose(rows: Rows, columns: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Make values of these columns missing: one in a quarter of the rows, any of them in another quarter."""
    if not len(columns):
        return
    which = rng.integers(0, 4, len(rows))
    one, several = np.flatnonzero(which == 0), np.flatnonzero(which == 1)
    rows[one, rng.choice(columns, len(one))] = np.nan
    lost = rng.random((len(several), len(columns))) < 0.5
    row, column = np.nonzero(lost)
    rows[several[row], columns[column]] = np.nan


def _weights(thresholds: Sequence[NDArray[np.float64]], asked: Sequence[int]) -> NDArray[np.float64]:
    counts = np.array([len(thresholds[column]) for column in asked], dtype=np.float64)
    weights: NDArray[np.float64] = counts / counts.sum()
    return weights


def as_sent(rows: Rows, X: Rows, rng: np.random.Generator) -> None:
    """Overwrite `rows` with what comes over the wire: two thirds are real rows (`X`) moved a little and written with up to six
    decimals, one third real rows of which one value, or each, is one that means "no value" or is far outside.
    """
    rows[:] = X[rng.integers(0, len(X), len(rows))]
    far = rows[: len(rows) // 3]
    chosen = rng.choice(_SENTINELS, far.shape)
    one = rng.integers(0, X.shape[1], len(far))[:, np.newaxis] == np.arange(X.shape[1])
    np.copyto(far, chosen.astype(rows.dtype), where=one | (rng.random((len(far), 1)) < 1 / 4))
    moved = rows[len(far) :]
    spread = np.nanstd(X, axis=0, dtype=np.float64)
    moved += rng.normal(0, 1e-2, moved.shape) * spread
    for decimals in range(1, 7):
        some = moved[decimals - 1 :: 6]
        some[:] = some.round(decimals)


def _beside(thresholds: NDArray[np.float64], rng: np.random.Generator, dtype: np.dtype[Any]) -> Rows:
    if dtype == np.float64:
        return _beside_float64(thresholds, rng)
    values = thresholds.astype(np.float32)
    limit = np.finfo(np.float32).max
    infinity = np.float32(np.inf)
    step = rng.integers(-1, 2, len(values))
    with np.errstate(over="ignore"):  # a tree that only asks whether a value is there asks `x <= the largest`
        below, above = np.nextafter(values, -infinity), np.nextafter(values, infinity)
    values = np.select([step < 0, step > 0], [below, above], values)
    return np.clip(values, -limit, limit).astype(np.float32)


def _beside_float64(thresholds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    limit = float(np.finfo(np.float32).max)
    towards = rng.choice([-np.inf, np.inf], len(thresholds))
    with np.errstate(over="ignore"):
        narrow = thresholds.astype(np.float32)
        around = [
            thresholds,
            np.nextafter(thresholds, towards),
            narrow,
            np.nextafter(narrow, towards.astype(np.float32)),
        ]
    values: NDArray[np.float64] = np.choose(rng.integers(0, 4, len(thresholds)), around)
    return np.clip(values, -limit, limit)
