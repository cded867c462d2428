"""Whether an estimator that was fitted elsewhere answers the table as the table itself does.

Names of labels in the wrong order, columns in another order, another table: the file would answer just as the estimator does, on every row, and wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from edge_convert.tables import Table
from edge_convert.tasks import Answers, Classification, Regression, Task
from edge_convert.wording import some

_LOOK: Final = "is it the table that the estimator was trained on, with its columns (--columns, in its order) and its labels in that order?"
#: By so many standard deviations another order of names has to fit better, among the rows on which the two orders disagree.
_CLEARLY: Final = 2.0


def agreement(table: Table, task: Task, answers: Answers) -> list[str]:
    """Return sentences about how far the answers (n,) for a table agree with its column of targets; none where it has none."""
    if table.labels is None:
        return []
    if isinstance(task, Classification):
        return _labels_agree(table, task, answers)
    return _numbers_agree(table, answers) if isinstance(task, Regression) else []


def better_order(
    names: Sequence[Any], answered: NDArray[Any], truth: NDArray[Any]
) -> tuple[tuple[Any, ...], float] | None:
    """Return in which order `names` (k) would fit answers (n,) under these names clearly better, and the share of rows that then agree; None for none."""
    place = {name: number for number, name in enumerate(names)}
    known = np.array(
        [one in place and other in place for one, other in zip(answered.tolist(), truth.tolist(), strict=True)]
    )
    counts = np.zeros((len(names), len(names)))
    at = [[place[name] for name in side[known].tolist()] for side in (answered, truth)]
    np.add.at(counts, tuple(np.array(at, np.int64)), 1)
    # Where another order is as good, names stay where they are.
    _, order = linear_sum_assignment(counts + 1e-6 * np.eye(len(names)), maximize=True)
    moved = order != np.arange(len(names))
    now, then = counts.diagonal()[moved].sum(), counts[np.arange(len(names)), order][moved].sum()
    if then - now <= _CLEARLY * np.sqrt(then + now):
        return None
    return tuple(names[number] for number in order), float(counts[np.arange(len(names)), order].sum() / len(answered))


def _labels_agree(table: Table, task: Classification, answers: Answers) -> list[str]:
    column, counts = table.label_column, table.class_counts
    if not set(counts) & set(task.labels):
        return [
            f"note:  none of the labels in column {column!r} ({some(counts)}) is one of the estimator's ({some(task.labels)})"
        ]
    share = float(np.mean(answers.labels == table.truth))
    most = max(counts, key=lambda name: counts[name])
    majority = counts[most] / len(table.X)
    said = [f"model: agrees with column {column!r} in {share:.1%} of {len(table.X):,} rows"]
    if share <= majority < 1:
        said.append(f"note:  {most!r} for every row would agree in {majority:.1%}: {_LOOK}")
    return said


def _numbers_agree(table: Table, answers: Answers) -> list[str]:
    columns = {table.label_column: table.truth, **table.others}
    said = []
    for (name, texts), given in zip(columns.items(), np.atleast_2d(answers.numbers.T), strict=True):
        try:
            truth = texts.astype(np.float64)
        except ValueError:
            continue
        error, spread = float(np.mean(np.abs(given - truth))), float(np.mean(np.abs(truth - np.mean(truth))))
        said.append(f"model: is off from column {name!r} by {error:.4g} on average")
        if error > spread:
            said.append(f"note:  the mean of the column for every row would be off by {spread:.4g}: {_LOOK}")
    return said
