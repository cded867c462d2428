"""What a model is expected to answer to data like its training data: on the card, for a device that watches for drift.

How often each label, and how sure of it, is asked of rows that were held out, where a model was evaluated: of those that it was fitted on it knows
more than it ever will again. Values and scores are asked of the rows of the table and the model itself, because a tree answers few values, and
those of the trees of an evaluation are others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.contract.card import ANOMALY, NORMAL, QUANTILE_LEVELS
from edge_agent.contract.expected import Expected
from edge_convert.evaluate import Evaluation, HeldOut
from edge_convert.reference import Reference
from edge_convert.tasks import Answers, Classification, Regression, Task

#: Significant digits of quantiles: those of values on the wire, so that values of a tree are equal to them.
_DIGITS: Final = 12


def of_held_out(evaluation: object) -> Expected | None:
    """Return what was answered to rows that were held out at random, in one whole prediction of the table; None for numbers."""
    if not isinstance(evaluation, Evaluation):
        return None
    found: HeldOut = evaluation.random.repeats[0]
    places = {label: place for place, label in enumerate(evaluation.labels)}
    columns = np.array([places[str(one)] for one in found.labels])
    confidence = found.probabilities[np.arange(len(columns)), columns]
    return Expected(
        rows=len(found.rows),
        held_out=True,
        labels=_counts(found.labels, evaluation.labels),
        means={"confidence": round(float(confidence.mean()), 4)},
    )


def of_table(reference: Reference, task: Task) -> Expected:
    """Return what the model answers to the rows of its table, which it may have been fitted on."""
    answers: Answers = reference.training
    rows = len(answers.labels)
    if isinstance(task, Classification):
        return Expected(rows=rows, held_out=False, labels=_counts(answers.labels, task.labels))
    if isinstance(task, Regression):
        columns = {one.name: _quantiles(answers.numbers[:, place]) for place, one in enumerate(task.quantities)}
        return Expected(rows=rows, held_out=False, quantiles=columns)
    labels = _counts(answers.labels, (NORMAL, ANOMALY))
    return Expected(rows=rows, held_out=False, labels=labels, quantiles={"score": _quantiles(answers.numbers[:, 0])})


def _counts(answered: NDArray[np.str_], labels: Sequence[str]) -> dict[str, int]:
    counts = Counter(map(str, answered))
    return {label: counts[label] for label in labels}


def _quantiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    # Interpolation may put two equal ones out of order in the last bit; rounding keeps the order.
    found = np.maximum.accumulate(np.quantile(values, QUANTILE_LEVELS))
    return tuple(float(f"{one:.{_DIGITS}g}") for one in found)
