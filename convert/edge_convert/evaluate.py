"""How good is the whole procedure? Nested cross-validation, twice: on random rows and on contiguous blocks of ids.

Each outer fold chooses parameters and fits on its training rows only (`edge_convert.estimators.fit`) and answers for the rows
it never saw. The figures are those of such a whole out-of-fold prediction of the table; with several repeats, their mean
and standard deviation. Blocks of ids are held out as well because neighbours are alike (tracks of one album sit side by
side), which flatters random folds.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, confusion_matrix, f1_score, roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold

from edge_agent.contract import card
from edge_convert.classifier import Classifier
from edge_convert.estimators import INNER_FOLDS, SEEDS, Kind, Parameters, fit
from edge_convert.tables import Table

#: Bins of the expected calibration error and of the calibration plot.
BINS: Final = 10
#: With more labels than this, a figure for each would bury the others.
MOST_LABELS: Final = 20

Splits = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class HeldOut:
    """Answers for all n rows by models that had not seen them: `labels` (n,), `probabilities` (n, labels)."""

    labels: NDArray[np.str_]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class Scheme:
    """One way of holding rows out, and what came of it.

    `repeats` has one whole prediction a repeat; `figures` maps a name to mean and standard deviation over the repeats;
    `confusion` (labels, labels) counts truth x answer over all repeats; `importances` (f,) is the loss of accuracy on
    held-out rows when one feature is shuffled; `chosen` counts parameters by fold; `seconds` is time on the clock.
    """

    title: str
    repeats: tuple[HeldOut, ...]
    figures: dict[str, tuple[float, float]]
    confusion: NDArray[np.int64]
    importances: NDArray[np.float64]
    chosen: Counter[str]
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """Both schemes (`blocks` is None without ids), and what to hold them against: the share of the commonest label."""

    truth: NDArray[np.str_]
    labels: tuple[str, ...]
    rarest: str
    majority_share: float
    random: Scheme
    blocks: Scheme | None

    @property
    def schemes(self) -> dict[str, Scheme]:
        """The schemes by name."""
        found = {"random rows": self.random, "blocks of ids": self.blocks}
        return {name: scheme for name, scheme in found.items() if scheme is not None}

    def to_metrics(self) -> card.Metrics:
        """Return the figures for the model card, rounded to what they are worth."""
        values = {name: round(mean, 4) for name, (mean, _) in self.random.figures.items()}
        method = (
            f"{self.random.title}, parameters chosen inside the training folds; 'majority share' is the commonest label"
        )
        if self.blocks is not None:
            values |= {f"blocks {name}": round(mean, 4) for name, (mean, _) in self.blocks.figures.items()}
            method += f"; 'blocks': {self.blocks.title}"
        return card.Metrics(values=values | {"majority share": round(self.majority_share, 4)}, method=method)


def evaluate(
    table: Table, kind: Kind, *, repeats: int, folds: int, seed: int, jobs: int, progress: Progress
) -> Evaluation:
    """Evaluate `kind` on a labelled table (see `edge_convert.tables.require_trainable`).

    Everything is drawn from `seed`; `jobs` processes share the folds and don't change the result. `progress` is told how
    many folds of how many are done.
    """
    y = table.truth
    splits: list[Splits] = [
        list(StratifiedKFold(folds, shuffle=True, random_state=(seed + repeat) % SEEDS).split(table.X, y))
        for repeat in range(repeats)
    ]
    blocks = blocks_of_ids(table, folds)
    tick = ticking(progress, folds * (len(splits) + len(blocks)))
    labels = tuple(table.class_counts)
    rarest = min(labels, key=lambda label: table.class_counts[label])
    inner = f"nested, inner stratified {INNER_FOLDS}-fold"
    run = _Run(table, kind, labels, rarest, seed, jobs, tick)
    random = run(f"{repeats} x stratified {folds}-fold ({inner})", splits)
    by_block = run(f"{folds} contiguous blocks of ids held out ({inner})", blocks) if blocks else None
    return Evaluation(y, labels, rarest, max(table.class_counts.values()) / len(y), random, by_block)


def blocks_of_ids(table: Table, folds: int) -> list[Splits]:
    """Return the one way to hold out contiguous blocks of ids, none without ids."""
    if table.ids is None:
        return []
    order = np.argsort(table.ids, kind="stable")
    return [[(order[train], order[test]) for train, test in KFold(folds).split(order)]]


def ticking(progress: Progress, total: int) -> Callable[[], None]:
    """Return what is to be called whenever one of `total` folds is done."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    return tick


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

    def __call__(self, title: str, repeats: list[Splits]) -> Scheme:
        X, y = self.table.X, self.table.truth
        started = time.monotonic()
        predictions, chosen, importances = [], Counter[str](), []
        for splits in repeats:
            answers, probabilities = np.empty_like(y), np.zeros((len(y), len(self.labels)))
            for outcome in self._outcomes(X, y, splits):
                answers[outcome.test], probabilities[outcome.test] = outcome.labels, outcome.probabilities
                chosen[", ".join(f"{name}={brief(value)}" for name, value in outcome.parameters.items())] += 1
                importances.append(outcome.importances * len(outcome.test))
                self.tick()
            predictions.append(HeldOut(answers, probabilities))
        each = [_figures(y, prediction, self.labels, self.rarest) for prediction in predictions]
        return Scheme(
            title=title,
            repeats=tuple(predictions),
            figures=over_repeats(each),
            confusion=sum(confusion_matrix(y, prediction.labels, labels=self.labels) for prediction in predictions),
            importances=np.sum(importances, axis=0) / (len(y) * len(repeats)),
            chosen=chosen,
            seconds=time.monotonic() - started,
        )

    def _outcomes(self, X: NDArray[np.float64], y: NDArray[np.str_], splits: Splits) -> Iterator[_Outcome]:
        # Processes, not threads: choosing a tree is mostly Python. In the order of the splits, for equal sums.
        parallel = Parallel(n_jobs=min(self.jobs, len(splits)), return_as="generator")
        yield from parallel(
            delayed(_one_fold)(self.kind.name, X, y, train=train, test=test, labels=self.labels, seed=self.seed)
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
    kind: str,
    X: NDArray[np.float64],
    y: NDArray[np.str_],
    *,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    labels: tuple[str, ...],
    seed: int,
) -> _Outcome:
    from edge_convert.estimators import KINDS

    estimator, parameters = fit(KINDS[kind], X[train], y[train], seed)
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


def _figures(y: NDArray[np.str_], prediction: HeldOut, labels: tuple[str, ...], rarest: str) -> dict[str, float]:
    """The figures of one whole prediction. For two labels ROC AUC and Brier score are about the rarer one."""
    scores = f1_score(y, prediction.labels, labels=labels, average=None, zero_division=0.0)
    figures = {"accuracy": float((y == prediction.labels).mean())}
    if len(labels) <= MOST_LABELS:
        figures |= {f"f1 {label}": float(score) for label, score in zip(labels, scores, strict=True)}
    figures["macro f1"] = float(np.mean(scores))
    if len(labels) == 2:
        column = prediction.probabilities[:, labels.index(rarest)]
        figures["roc auc"] = float(roc_auc_score(y == rarest, column))
        figures["brier"] = float(brier_score_loss(y == rarest, column))
    else:
        truth = y[:, np.newaxis] == np.array(labels)
        figures["roc auc"] = float(
            np.mean([roc_auc_score(t, p) for t, p in zip(truth.T, prediction.probabilities.T, strict=True)])
        )
        figures["brier"] = float(((prediction.probabilities - truth) ** 2).sum(axis=1).mean())
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
