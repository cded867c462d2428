"""Rows to check a model with: where two implementations of a tree would part, if they ever do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Generated:
    """`X` (n, f); the first `edges` rows lie on an edge of the model, or one float32 step beside it."""

    X: Rows
    edges: int
    kind: str


def around_thresholds(
    X: Rows, thresholds: Sequence[NDArray[np.float64]], n: int, rng: np.random.Generator
) -> Generated:
    """Draw `n` rows, three quarters of them with values exactly on a threshold or one float32 step to either side.

    `X` (m, f) are real rows to start from, `thresholds` those of each of the f features. One half of the edge rows
    is a real row with one value moved (which keeps the rest of its path), in the other half every value is moved.
    """
    asked = [column for column, values in enumerate(thresholds) if len(values)]
    edges = 3 * n // 4 if asked else 0
    drawn = X[rng.integers(0, len(X), n)]
    _spread(drawn[edges:], X, rng)
    single = rng.choice(asked, edges // 2, p=_weights(thresholds, asked)) if asked else np.empty(0, dtype=np.int64)
    for column in asked:
        rows = np.concatenate([np.flatnonzero(single == column), np.arange(edges // 2, edges)])
        drawn[rows, column] = _beside(rng.choice(thresholds[column], len(rows)), rng)
    return Generated(drawn, edges, "on a threshold or one float32 step beside it")


def around_label_changes(
    X: Rows,
    labels: NDArray[np.str_],
    predict: Callable[[Rows], NDArray[np.str_]],
    n: int,
    rng: np.random.Generator,
) -> Generated:
    """Draw `n` rows, half of them within one float32 step of where the label changes: for models without thresholds.

    `labels` (m,) are what `predict` says of `X` (m, f). Pairs of real rows with different labels are brought together by bisection until nothing lies between them.
    """
    one, other = (rng.integers(0, len(X), 4 * n) for _ in range(2))
    different = np.flatnonzero(labels[one] != labels[other])[: n // 4]
    low, high, low_labels = X[one[different]], X[other[different]], labels[one[different]]
    for _ in range(64):  # float32 values differ by fewer than 2**32 steps; two halvings a step is plenty
        middle = ((low.astype(np.float64) + high) / 2).astype(np.float32)
        if np.all((middle == low) | (middle == high)):
            break
        same = (predict(middle) == low_labels)[:, np.newaxis]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    drawn = np.concatenate([low, high, X[rng.integers(0, len(X), n - 2 * len(low))]])
    _spread(drawn[2 * len(low) :], X, rng)
    return Generated(drawn, 2 * len(low), "on either side of where the label changes")


def _spread(rows: Rows, X: Rows, rng: np.random.Generator) -> None:
    """Overwrite `rows` evenly between the least and the largest value seen, and a tenth of that beyond."""
    least, largest = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    margin = (largest - least) / 10
    limit = float(np.finfo(np.float32).max)
    low, high = np.clip(least - margin, -limit, limit), np.clip(largest + margin, -limit, limit)
    rows[:] = rng.uniform(low, high, size=rows.shape)


def _weights(thresholds: Sequence[NDArray[np.float64]], asked: Sequence[int]) -> NDArray[np.float64]:
    counts = np.array([len(thresholds[column]) for column in asked], dtype=np.float64)
    weights: NDArray[np.float64] = counts / counts.sum()
    return weights


def _beside(thresholds: NDArray[np.float64], rng: np.random.Generator) -> Rows:
    values = thresholds.astype(np.float32)
    limit = np.finfo(np.float32).max
    infinity = np.float32(np.inf)
    step = rng.integers(-1, 2, len(values))
    values = np.select([step < 0, step > 0], [np.nextafter(values, -infinity), np.nextafter(values, infinity)], values)
    return np.clip(values, -limit, limit).astype(np.float32)
