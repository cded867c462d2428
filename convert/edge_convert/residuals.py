"""How good is a model that answers numbers? Nested cross-validation as in `edge_convert.evaluate`, on random rows and on blocks of ids.

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
from sklearn.model_selection import KFold

from edge_agent.contract import card
from edge_convert.estimators import INNER_FOLDS, SEEDS, Floats, Parameters
from edge_convert.evaluate import Progress, Splits, blocks_of_ids, brief, over_repeats, ticking
from edge_convert.regressors import KINDS, fit_numbers
from edge_convert.tables import Table


@dataclass(frozen=True)
class NumberScheme:
    """One way of holding rows out, and what came of it.

    `repeats` has the answers (n, outputs) of models that had not seen the rows, once a repeat; `figures` maps a name to mean and
    standard deviation over the repeats; `importances` (f,) is by how much the mean absolute error grows when one feature is
    shuffled, as a share of the baseline's; `chosen` counts parameters by fold; `seconds` is time on the clock.
    """

    title: str
    repeats: tuple[Floats, ...]
    figures: dict[str, tuple[float, float]]
    importances: Floats
    chosen: Counter[str]
    seconds: float


@dataclass(frozen=True)
class NumberEvaluation:
    """Both schemes (`blocks` is None without ids), and the truth (n, outputs)."""

    truth: Floats
    outputs: tuple[str, ...]
    random: NumberScheme
    blocks: NumberScheme | None

    @property
    def schemes(self) -> dict[str, NumberScheme]:
        """The schemes by name."""
        found = {"random rows": self.random, "blocks of ids": self.blocks}
        return {name: scheme for name, scheme in found.items() if scheme is not None}

    def to_metrics(self) -> card.Metrics:
        """Return the figures for the model card, rounded to what they are worth."""
        values = {name: float(f"{mean:.4g}") for name, (mean, _) in self.random.figures.items()}
        method = f"{self.random.title}, parameters chosen inside the training folds; 'of the mean': always answering the mean"
        if self.blocks is not None:
            values |= {f"blocks {name}": float(f"{mean:.4g}") for name, (mean, _) in self.blocks.figures.items()}
            method += f"; 'blocks': {self.blocks.title}"
        return card.Metrics(values=values, method=method)


def evaluate_numbers(
    table: Table,
    Y: Floats,
    outputs: tuple[str, ...],
    kind: str,
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
    splits: list[Splits] = [
        list(KFold(folds, shuffle=True, random_state=(seed + repeat) % SEEDS).split(table.X))
        for repeat in range(repeats)
    ]
    blocks = blocks_of_ids(table, folds)
    tick = ticking(progress, folds * (len(splits) + len(blocks)))
    inner = f"nested, inner {INNER_FOLDS}-fold"
    run = _Run(table.X, Y, outputs, kind, seed, jobs, tick)
    random = run(f"{repeats} x {folds}-fold ({inner})", splits)
    by_block = run(f"{folds} contiguous blocks of ids held out ({inner})", blocks) if blocks else None
    return NumberEvaluation(Y, outputs, random, by_block)


@dataclass(frozen=True)
class _Run:
    """What the schemes have in common."""

    X: NDArray[np.float64]
    Y: Floats
    outputs: tuple[str, ...]
    kind: str
    seed: int
    jobs: int
    tick: Callable[[], None]

    def __call__(self, title: str, repeats: list[Splits]) -> NumberScheme:
        started = time.monotonic()
        answers, each, chosen, importances = [], [], Counter[str](), []
        for splits in repeats:
            said, mean = np.empty_like(self.Y), np.empty_like(self.Y)
            outcomes = Parallel(n_jobs=min(self.jobs, len(splits)), return_as="generator")(
                delayed(_one_fold)(self.kind, self.X, self.Y, train=train, test=test, seed=self.seed)
                for train, test in splits
            )
            for (train, test), outcome in zip(splits, outcomes, strict=True):
                said[test], mean[test] = outcome.values, self.Y[train].mean(axis=0)
                chosen[", ".join(f"{name}={brief(value)}" for name, value in outcome.parameters.items())] += 1
                importances.append(outcome.importances * len(test))
                self.tick()
            answers.append(said)
            each.append(figures_of(self.Y, said, mean, self.outputs))
        return NumberScheme(
            title=title,
            repeats=tuple(answers),
            figures=over_repeats(each),
            importances=np.sum(importances, axis=0) / (len(self.Y) * len(repeats)),
            chosen=chosen,
            seconds=time.monotonic() - started,
        )


@dataclass(frozen=True)
class _Outcome:
    values: Floats
    importances: Floats
    parameters: Parameters


def _one_fold(
    kind: str, X: NDArray[np.float64], Y: Floats, *, train: NDArray[np.int64], test: NDArray[np.int64], seed: int
) -> _Outcome:
    estimator, parameters = fit_numbers(KINDS[kind], X[train], Y[train], seed)
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
