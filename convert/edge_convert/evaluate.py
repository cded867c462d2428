"""How good is the whole procedure? Nested cross-validation, on random rows and on whatever else can be held out.

Each outer fold chooses parameters and fits on its training rows only (`edge_convert.estimators.fit`) and answers for the rows
it never saw. The figures are those of such a whole out-of-fold prediction of the table; with several repeats, their mean
and standard deviation. `edge_convert.holdouts` says which rows are held out.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, confusion_matrix, f1_score, roc_auc_score

from edge_agent.contract import card
from edge_convert.classifier import Classifier
from edge_convert.estimators import Kind, Parameters, Progress, fit
from edge_convert.holdouts import RANDOM, Holdout, Splits, holdouts
from edge_convert.tables import Table

#: Bins of the expected calibration error and of the calibration plot.
BINS: Final = 10
#: With more labels than this, a figure for each would bury the others.
MOST_LABELS: Final = 20


@dataclass(frozen=True)
class HeldOut:
    """Answers for those `rows` (m,) of the table that were held out, by models that had not seen them: `labels` (m,),
    `probabilities` (m, labels).
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.str_]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class Scheme:
    """One way of holding rows out, and what came of it.

    `repeats` has one whole prediction a repeat; `figures` maps a name to mean and standard deviation over the repeats;
    `confusion` (labels, labels) counts truth x answer over all repeats; `importances` (f,) is the loss of accuracy on
    held-out rows when one feature is shuffled; `chosen` counts parameters by fold; `seconds` is time on the clock.
    `prefix` is that of its figures on the card.
    """

    title: str
    prefix: str
    repeats: tuple[HeldOut, ...]
    figures: dict[str, tuple[float, float]]
    confusion: NDArray[np.int64]
    importances: NDArray[np.float64]
    #: The standard deviation of the importances (f,) over the folds.
    spreads: NDArray[np.float64]
    chosen: Counter[str]
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """What came of each way of holding rows out, by name. Each has a figure to hold the others against: the share of the
    commonest of the labels that were held out, the accuracy of always answering it.
    """

    truth: NDArray[np.str_]
    labels: tuple[str, ...]
    rarest: str
    schemes: dict[str, Scheme]

    @property
    def random(self) -> Scheme:
        """What came of random rows."""
        return self.schemes[RANDOM]

    def to_metrics(self) -> card.Metrics:
        """Return the figures for the model card, rounded to what they are worth."""
        values = on_card(self.schemes.values(), lambda mean: round(mean, 4))
        method = method_of(self.schemes.values(), "'majority share': always answering the commonest label")
        return card.Metrics(values=values, method=method)


class Measured(Protocol):
    """What the schemes of all tasks have in common."""

    @property
    def title(self) -> str:
        """How rows were held out."""

    @property
    def prefix(self) -> str:
        """That of its figures on the card."""

    @property
    def figures(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation by name."""


def on_card(schemes: Iterable[Measured], shorten: Callable[[float], float]) -> dict[str, float]:
    """Return the figures of all schemes as the model card has them."""
    return {f"{one.prefix}{name}": shorten(mean) for one in schemes for name, (mean, _) in one.figures.items()}


def method_of(schemes: Iterable[Measured], remark: str) -> str:
    """Return how the figures on the card were measured."""
    first, *others = schemes
    parts = [f"{first.title}, parameters chosen inside the training folds; {remark}"]
    return "; ".join([*parts, *(f"'{one.prefix.strip()}': {one.title}" for one in others)])


def evaluate(
    table: Table, kind: Kind, *, repeats: int, folds: int, seed: int, jobs: int, progress: Progress
) -> Evaluation:
    """Evaluate `kind` on a labelled table (see `edge_convert.tables.require_trainable`).

    Everything is drawn from `seed`; `jobs` processes share the folds and don't change the result. `progress` is told how
    many folds of how many are done.
    """
    y = table.truth
    ways = holdouts(table, repeats=repeats, folds=folds, seed=seed, stratify=True)
    tick = ticking(progress, ways)
    labels = tuple(table.class_counts)
    rarest = min(labels, key=lambda label: table.class_counts[label])
    run = _Run(table, kind, labels, rarest, seed, jobs, tick)
    return Evaluation(y, labels, rarest, {way.name: run(way) for way in ways})


def ticking(progress: Progress, ways: Iterable[Holdout]) -> Callable[[], None]:
    """Return what is to be called whenever a fold of one of the ways is done."""
    done, total = 0, sum(len(splits) for way in ways for splits in way.repeats)

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    return tick


def held_out_of(splits: Splits) -> NDArray[np.int64]:
    """Return the rows that are held out once, in the order of the table: all, but for the first ones in time."""
    return np.sort(np.concatenate([test for _, test in splits]))


def over_repeats(each: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of each figure over the repeats."""
    return {name: (float(np.mean([f[name] for f in each])), float(np.std([f[name] for f in each]))) for name in each[0]}


@dataclass(frozen=True)
class _Run:
    """What the schemes have in common."""

    table: Table
    kind: Kind
    labels: tuple[str, ...]
    rarest: str
    seed: int
    jobs: int
    tick: Callable[[], None]

    def __call__(self, way: Holdout) -> Scheme:
        X, y = self.table.X, self.table.truth
        started = time.monotonic()
        predictions, chosen, importances, lost = [], Counter[str](), [], []
        for splits in way.repeats:
            rows = held_out_of(splits)
            answers, probabilities = np.empty_like(y), np.zeros((len(y), len(self.labels)))
            for outcome in self._outcomes(X, y, splits):
                answers[outcome.test], probabilities[outcome.test] = outcome.labels, outcome.probabilities
                chosen[", ".join(f"{name}={brief(value)}" for name, value in outcome.parameters.items())] += 1
                importances.append(outcome.importances * len(outcome.test) / len(rows))
                lost.append(outcome.importances)
                self.tick()
            predictions.append(HeldOut(rows, answers[rows], probabilities[rows]))
        each = [figures_of(y[one.rows], one, self.labels, self.rarest) for one in predictions]
        return Scheme(
            title=way.title,
            prefix=way.prefix,
            repeats=tuple(predictions),
            figures=over_repeats(each),
            confusion=sum(confusion_matrix(y[one.rows], one.labels, labels=self.labels) for one in predictions),
            importances=np.sum(importances, axis=0) / len(way.repeats),
            spreads=np.std(lost, axis=0),
            chosen=chosen,
            seconds=time.monotonic() - started,
        )

    def _outcomes(self, X: NDArray[np.float64], y: NDArray[np.str_], splits: Splits) -> Iterator[_Outcome]:
        # Processes, not threads: choosing a tree is mostly Python. In the order of the splits, for equal sums.
        parallel = Parallel(n_jobs=min(self.jobs, len(splits)), return_as="generator")
        yield from parallel(
            delayed(_one_fold)(self.kind, X, y, train=train, test=test, labels=self.labels, seed=self.seed)
            for train, test in splits
        )


@dataclass(frozen=True)
class _Outcome:
    test: NDArray[np.int64]
    labels: NDArray[np.str_]
    probabilities: NDArray[np.float64]
    importances: NDArray[np.float64]
    parameters: Parameters


def _one_fold(
    kind: Kind,
    X: NDArray[np.float64],
    y: NDArray[np.str_],
    *,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    labels: tuple[str, ...],
    seed: int,
) -> _Outcome:
    estimator, parameters = fit(kind, X[train], y[train], seed, whole=len(y))
    held_out = X[test].astype(np.float64)
    answers = estimator.predict(held_out)
    # A block may hold all rows of a label; then the estimator does not know that label at all.
    probabilities = np.zeros((len(test), len(labels)))
    known = [labels.index(label) for label in estimator.classes_]
    # With one label left it is certain; boosting says so in two columns, trees in one.
    probabilities[:, known] = estimator.predict_proba(held_out) if len(known) > 1 else 1.0
    return _Outcome(test, answers, probabilities, _importances(estimator, held_out, y[test], answers, seed), parameters)


def _importances(
    estimator: Classifier, X: NDArray[np.float64], y: NDArray[np.str_], answers: NDArray[np.str_], seed: int
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    accuracy = (answers == y).mean()
    losses = np.empty(X.shape[1])
    for column in range(X.shape[1]):
        shuffled = X.copy()
        rng.shuffle(shuffled[:, column])
        losses[column] = accuracy - (estimator.predict(shuffled) == y).mean()
    return losses


def figures_of(y: NDArray[np.str_], prediction: HeldOut, labels: tuple[str, ...], rarest: str) -> dict[str, float]:
    """Return the figures of one whole prediction of rows whose labels are `y` (m,). For two labels ROC AUC and Brier score are
    about the rarer one. A label that no row has, and none was given, has no F1: that would be 0 whatever the model does.
    """
    there = sorted({*map(str, y), *map(str, prediction.labels)})
    scores = f1_score(y, prediction.labels, labels=there, average=None, zero_division=0.0)
    figures = {
        "accuracy": float((y == prediction.labels).mean()),
        "majority share": float(np.unique(y, return_counts=True)[1].max() / len(y)),
    }
    if len(labels) <= MOST_LABELS:
        figures |= {f"f1 {label}": float(score) for label, score in zip(there, scores, strict=True)}
    figures["macro f1"] = float(np.mean(scores))
    truth = y[:, np.newaxis] == np.array(labels)
    # Of the later rows none, or all, may have a label: then there is nothing that could be in a better order.
    mixed = [column for column in range(len(labels)) if truth[:, column].any() and not truth[:, column].all()]
    if len(labels) == 2:
        column = labels.index(rarest)
        mixed = [column] if mixed else []
        figures["brier"] = float(brier_score_loss(truth[:, column], prediction.probabilities[:, column]))
    else:
        figures["brier"] = float(((prediction.probabilities - truth) ** 2).sum(axis=1).mean())
    if mixed:
        each = [roc_auc_score(truth[:, column], prediction.probabilities[:, column]) for column in mixed]
        figures["roc auc"] = float(np.mean(each))
    figures["ece"] = _expected_calibration_error(y, prediction)
    return figures


def _expected_calibration_error(y: NDArray[np.str_], prediction: HeldOut) -> float:
    """Mean gap between confidence and accuracy over equal bins of confidence (Naeini et al. 2015)."""
    confidence, right = prediction.probabilities.max(axis=1), prediction.labels == y
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [(bins == b).mean() * abs(confidence[bins == b].mean() - right[bins == b].mean()) for b in np.unique(bins)]
    return float(sum(gaps))


def brief(value: Any) -> str:
    """Return a parameter as people read it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def default_jobs() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
