"""How good is a model that answers numbers? Nested cross-validation as in `edge_convert.evaluate`.

All errors are in the unit of the output. The baseline is what needs no model: the mean of the rows that a fold is trained on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from edge_agent.contract import card
from edge_convert.estimators import Floats, Kind, Parameters, Progress
from edge_convert.evaluate import brief, held_out_of, method_of, on_card, over_repeats, ticking
from edge_convert.holdouts import RANDOM, Holdout, holdouts
from edge_convert.regressors import fit_numbers
from edge_convert.tables import Table


@dataclass(frozen=True)
class NumberScheme:
    """One way of holding rows out, and what came of it.

    `rows` (m,) are those of the table that were held out; `repeats` has the answers (m, outputs) of models that had not seen them,
    once a repeat; `figures` maps a name to mean and
    standard deviation over the repeats; `importances` (f,) is by how much the mean absolute error grows when one feature is
    shuffled, as a share of the baseline's; `chosen` counts parameters by fold; `seconds` is time on the clock. `prefix` is that of
    its figures on the card.
    """

    title: str
    prefix: str
    rows: NDArray[np.int64]
    repeats: tuple[Floats, ...]
    figures: dict[str, tuple[float, float]]
    importances: Floats
    #: The standard deviation of the importances (f,) over the folds.
    spreads: Floats
    chosen: Counter[str]
    seconds: float


@dataclass(frozen=True)
class NumberEvaluation:
    """What came of each way of holding rows out, by name, and the truth (n, outputs)."""

    truth: Floats
    outputs: tuple[str, ...]
    schemes: dict[str, NumberScheme]

    @property
    def random(self) -> NumberScheme:
        """What came of random rows."""
        return self.schemes[RANDOM]

    def to_metrics(self) -> card.Metrics:
        """Return the figures for the model card, rounded to what they are worth."""
        values = on_card(self.schemes.values(), lambda mean: float(f"{mean:.4g}"))
        return card.Metrics(
            values=values, method=method_of(self.schemes.values(), "'of the mean': always answering the mean")
        )


def evaluate_numbers(
    table: Table,
    Y: Floats,
    outputs: tuple[str, ...],
    kind: Kind,
    *,
    repeats: int,
    folds: int,
    seed: int,
    jobs: int,
    progress: Progress,
) -> NumberEvaluation:
    """Evaluate `kind` on a table with its numbers `Y` (n, outputs).

    Everything is drawn from `seed`; `jobs` processes share the folds and don't change the result. `progress` is told how many folds
    of how many are done.
    """
    ways = holdouts(table, repeats=repeats, folds=folds, seed=seed, stratify=False)
    run = _Run(table.X, Y, outputs, kind, seed, jobs, ticking(progress, ways))
    return NumberEvaluation(Y, outputs, {way.name: run(way) for way in ways})


@dataclass(frozen=True)
class _Run:
    """What the schemes have in common."""

    X: NDArray[np.float64]
    Y: Floats
    outputs: tuple[str, ...]
    kind: Kind
    seed: int
    jobs: int
    tick: Callable[[], None]

    def __call__(self, way: Holdout) -> NumberScheme:
        started = time.monotonic()
        answers, each, chosen, importances, lost = [], [], Counter[str](), [], []
        rows = held_out_of(way.repeats[0])
        for splits in way.repeats:
            said, mean = np.empty_like(self.Y), np.empty_like(self.Y)
            outcomes = Parallel(n_jobs=min(self.jobs, len(splits)), return_as="generator")(
                delayed(_one_fold)(self.kind, self.X, self.Y, train=train, test=test, seed=self.seed)
                for train, test in splits
            )
            for (train, test), outcome in zip(splits, outcomes, strict=True):
                said[test], mean[test] = outcome.values, self.Y[train].mean(axis=0)
                chosen[", ".join(f"{name}={brief(value)}" for name, value in outcome.parameters.items())] += 1
                importances.append(outcome.importances * len(test) / len(rows))
                lost.append(outcome.importances)
                self.tick()
            answers.append(said[rows])
            each.append(figures_of(self.Y[rows], said[rows], mean[rows], self.outputs))
        return NumberScheme(
            title=way.title,
            prefix=way.prefix,
            rows=rows,
            repeats=tuple(answers),
            figures=over_repeats(each),
            importances=np.sum(importances, axis=0) / len(way.repeats),
            spreads=np.std(lost, axis=0),
            chosen=chosen,
            seconds=time.monotonic() - started,
        )


@dataclass(frozen=True)
class _Outcome:
    values: Floats
    importances: Floats
    parameters: Parameters


def _one_fold(
    kind: Kind, X: NDArray[np.float64], Y: Floats, *, train: NDArray[np.int64], test: NDArray[np.int64], seed: int
) -> _Outcome:
    estimator, parameters = fit_numbers(kind, X[train], Y[train], seed, whole=len(Y))
    held_out, truth = X[test].astype(np.float64), Y[test]
    spread = np.abs(Y - Y.mean(axis=0)).mean(axis=0)

    def error(values: Floats) -> float:
        return float((np.abs(values - truth).mean(axis=0) / np.where(spread == 0, 1.0, spread)).mean())

    values = np.asarray(estimator.predict(held_out)).reshape(len(test), -1)
    rng, losses = np.random.default_rng(seed), np.empty(X.shape[1])
    for column in range(X.shape[1]):
        shuffled = held_out.copy()
        rng.shuffle(shuffled[:, column])
        losses[column] = error(np.asarray(estimator.predict(shuffled)).reshape(len(test), -1)) - error(values)
    return _Outcome(values, losses, parameters)


def figures_of(truth: Floats, said: Floats, mean: Floats, outputs: tuple[str, ...]) -> dict[str, float]:
    """Return mean absolute error, root mean square error and R2 of each output, and the errors of the baseline `mean`."""
    figures: dict[str, float] = {}
    for column, name in enumerate(outputs):
        of = f" {name}" if len(outputs) > 1 else ""
        wrong, baseline = said[:, column] - truth[:, column], mean[:, column] - truth[:, column]
        spread = float(((truth[:, column] - truth[:, column].mean()) ** 2).sum())
        figures |= {
            f"mae{of}": float(np.abs(wrong).mean()),
            f"rmse{of}": float(np.sqrt((wrong**2).mean())),
            f"r2{of}": 1 - float((wrong**2).sum()) / spread if spread else 0.0,
            f"mae of the mean{of}": float(np.abs(baseline).mean()),
            f"rmse of the mean{of}": float(np.sqrt((baseline**2).mean())),
        }
    return figures
