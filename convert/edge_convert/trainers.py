"""What training is, task by task: what the target has to be, how an estimator is fitted and evaluated, what is said of the table.

The line from a fitted estimator to its file is the same for all (`edge_convert.workflow`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.metrics import r2_score

from edge_agent.errors import InputError
from edge_convert import regressors
from edge_convert.classifier import Estimator
from edge_convert.deciding import Decision, decided
from edge_convert.estimators import KINDS, Floats, Kind, Parameters, Progress, fit, with_fixed
from edge_convert.evaluate import Evaluation, evaluate
from edge_convert.features import is_quantity
from edge_convert.regressors import fit_numbers, require_several
from edge_convert.residuals import NumberEvaluation, evaluate_numbers
from edge_convert.smaller import smaller
from edge_convert.tables import Table, require_trainable
from edge_convert.tasks import Anomaly, Classification, Regression, Task, quantities_of

Say = Callable[[str], object]


class Trainer(Protocol):
    """How to train for one task on one table."""

    @property
    def task(self) -> Task:
        """The task of the model."""

    @property
    def title(self) -> str:
        """The kind of estimator."""

    def require_trainable(self, folds: int) -> None:
        """Raise `InputError` unless the table can be learned from, with so many folds."""

    def say_table(self, say: Say) -> None:
        """Say what the table has, and what would be answered without a model."""

    def fit(self, seed: int, progress: Progress) -> tuple[Estimator, Parameters]:
        """Fit on all rows; return the estimator and the parameters chosen."""

    def evaluate(
        self, *, repeats: int, folds: int, seed: int, jobs: int, progress: Progress
    ) -> Evaluation | NumberEvaluation | None:
        """Evaluate the whole procedure; None where nothing tells right from wrong."""

    def smaller(self, parameters: Parameters, seed: int) -> Iterable[str]:
        """Return what smaller models of this kind there are, and what they cost."""


@contextmanager
def blaming(fixed: Mapping[str, Any]) -> Iterator[None]:
    """Raise `InputError` for what scikit-learn refuses while it fits, if parameters were `fixed`: it checks some only then, together
    or against the rows, and what we choose ourselves fits.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        if not fixed:
            raise
        given = ", ".join(f"{name}={value}" for name, value in fixed.items())
        raise InputError(f"--set: with {given} scikit-learn does not learn from this table: {error}") from error


@dataclass(frozen=True)
class LabelTrainer:
    """Trains for a classification."""

    table: Table
    kind: Kind

    @cached_property
    def task(self) -> Classification:
        """The labels of the table."""
        return Classification(tuple(self.table.class_counts))

    @property
    def title(self) -> str:
        """The kind of estimator."""
        return self.kind.title

    def require_trainable(self, folds: int) -> None:
        """Raise `InputError` unless there are labels enough."""
        require_trainable(self.table, folds)

    def say_table(self, say: Say) -> None:
        """Say the balance of the labels."""
        counts, rows = self.table.class_counts, len(self.table.X)
        balance = ", ".join(f"{label} {count:,} ({count / rows:.1%})" for label, count in counts.items())
        _say(self.table, balance, say)
        commonest = max(counts, key=lambda label: counts[label])
        say(f"       always answering {commonest} would have an accuracy of {counts[commonest] / rows:.4f}")

    def fit(self, seed: int, progress: Progress) -> tuple[Estimator, Parameters]:
        """Fit a classifier."""
        return fit(self.kind, self.table.X, self.table.truth, seed, progress)

    def evaluate(self, *, repeats: int, folds: int, seed: int, jobs: int, progress: Progress) -> Evaluation:
        """Evaluate by labels and probabilities."""
        return evaluate(self.table, self.kind, repeats=repeats, folds=folds, seed=seed, jobs=jobs, progress=progress)

    def smaller(self, parameters: Parameters, seed: int) -> Iterable[str]:
        """Compare by accuracy."""
        how: Any = {"score": lambda truth, said: float((truth == said).mean()), "what": "accuracy", "seed": seed}
        return smaller(self.kind, parameters, self.table.X, self.table.truth, **how)


@dataclass(frozen=True)
class NumberTrainer:
    """Trains for a regression: `names` are the columns of the numbers `Y` (n, outputs)."""

    table: Table
    kind: Kind
    names: tuple[str, ...]
    Y: Floats
    units: tuple[str, ...] = ()

    @cached_property
    def task(self) -> Regression:
        """The outputs, named after the columns."""
        return Regression(quantities_of(self.names, self.units))

    @property
    def title(self) -> str:
        """The kind of estimator."""
        return self.kind.title

    def require_trainable(self, folds: int) -> None:
        """Raise `InputError` unless there are rows enough, and numbers that differ."""
        if len(self.Y) < folds:
            raise InputError(
                f"{self.table.where}: {folds} folds need {folds} rows, there are {len(self.Y)} (see --folds)"
            )
        for name, column in zip(self.names, self.Y.T, strict=True):
            if column.min() == column.max():
                raise InputError(
                    f"{self.table.sources[0].path}: column {name!r}: all {len(column):,} rows say {column[0]:g}; there is nothing to learn"
                )
        require_several(self.kind, len(self.names))

    def say_table(self, say: Say) -> None:
        """Say the range of each output."""
        quantities = zip(self.task.quantities, self.Y.T, strict=True)
        said = [
            f"{one.name} from {column.min():g} to {column.max():g} {one.unit}".rstrip() + f", mean {column.mean():.4g}"
            for one, column in quantities
        ]
        _say(self.table, "; ".join(said), say)
        wrong = np.abs(self.Y - self.Y.mean(axis=0)).mean(axis=0)
        errors = ", ".join(
            f"{error:.4g} {one.unit}".rstrip() for one, error in zip(self.task.quantities, wrong, strict=True)
        )
        say(f"       always answering the mean would be wrong by {errors} on average (MAE)")

    def fit(self, seed: int, progress: Progress) -> tuple[Estimator, Parameters]:
        """Fit a regressor."""
        return fit_numbers(self.kind, self.table.X, self.Y, seed, progress)

    def evaluate(self, *, repeats: int, folds: int, seed: int, jobs: int, progress: Progress) -> NumberEvaluation:
        """Evaluate by the errors of the numbers."""
        how: Final = {"repeats": repeats, "folds": folds, "seed": seed, "jobs": jobs}
        return evaluate_numbers(self.table, self.Y, self.names, self.kind, progress=progress, **how)

    def smaller(self, parameters: Parameters, seed: int) -> Iterable[str]:
        """Compare by R2."""
        y = self.Y[:, 0] if self.Y.shape[1] == 1 else self.Y
        how: Any = {"score": lambda truth, said: float(r2_score(truth, said)), "what": "R2", "seed": seed}
        return smaller(self.kind, parameters, self.table.X, y, **how)


class AnomalyTrainer:
    """Trains for anomalies: `contamination` is the share of rows to be taken for such; None is what the method's paper says."""

    title: Final = "isolation forest"

    def __init__(self, table: Table, contamination: float | None) -> None:
        self._table = table
        self._contamination = "auto" if contamination is None else contamination
        #: The threshold is known when there is a model.
        self.task: Task = Anomaly(0.5)

    def require_trainable(self, folds: int) -> None:  # noqa: ARG002 - there are none
        """Raise `InputError` unless there are two rows."""
        if len(self._table.X) < 2:
            raise InputError(f"{self._table.sources[0].path}: one row does not tell what is usual; two are needed")

    def say_table(self, say: Say) -> None:
        """Say how large the table is."""
        _say(self._table, "all rows, to learn what is usual", say)

    def fit(self, seed: int, progress: Progress) -> tuple[Estimator, Parameters]:  # noqa: ARG002 - it takes no time
        """Fit an isolation forest."""
        parameters: Parameters = {"n_estimators": 100, "contamination": self._contamination}
        model: Any = IsolationForest(random_state=seed, **parameters).fit(self._table.X.astype(np.float64))
        self.task = Anomaly(float(-model.offset_))
        return model, parameters

    def evaluate(self, *, repeats: int, folds: int, seed: int, jobs: int, progress: Progress) -> None:
        """Return None: no row says whether it is one."""

    def smaller(self, parameters: Parameters, seed: int) -> Iterable[str]:  # noqa: ARG002 - it has a hundred small trees
        """Return nothing."""
        return ()


def trainer_for(
    table: Table,
    kind: str,
    task: str,
    units: Sequence[str],
    say: Say,
    *,
    contamination: float | None = None,
    fixed: Parameters | None = None,
    decision: Decision | None = None,
) -> Trainer:
    """Return the trainer for a table. `task` is `classification`, `regression`, `anomaly`, or `auto`: then the target tells.

    `fixed` are parameters of the estimator that are not to be chosen; `decision` says how the labels come about. Raises `InputError` for a target that is none for the task.
    """
    fixed = fixed or {}
    if contamination is not None and task != "anomaly":
        raise InputError("--contamination is for --task anomaly")
    if task == "anomaly":
        for given, why in (
            (units, "--unit is for a model that answers numbers"),
            (fixed, "--set is for trees, forests and boosting; an isolation forest has --contamination"),
            (decision, "--calibrate and --threshold are for a classification"),
        ):
            if given:
                raise InputError(why)
        return AnomalyTrainer(table, contamination)
    if task == "auto":
        task = _found_task(table, units, say)
    if task == "classification":
        if table.others or units:
            raise InputError("a classification has one --target, and no --unit; --task regression answers numbers")
        return LabelTrainer(table, decided(with_fixed(KINDS[kind], fixed), table.class_counts, decision))
    if decision is not None:
        raise InputError("--calibrate and --threshold are for a classification")
    return _number_trainer(table, with_fixed(regressors.KINDS[kind], fixed), tuple(units))


def _found_task(table: Table, units: Sequence[str], say: Say) -> str:
    counts = {} if table.others else table.class_counts
    if is_quantity(counts):
        say(f"target: {table.label_column} has {len(counts):,} different numbers, so this is a regression (see --task)")
        return "regression"
    return "regression" if table.others or units else "classification"


def _number_trainer(table: Table, kind: Kind, units: tuple[str, ...]) -> NumberTrainer:
    names = (table.label_column, *table.others)
    columns = []
    for name, texts in zip(names, (table.truth, *table.others.values()), strict=True):
        found = _numbers(texts)
        if found is None:
            row, odd = next((row, text) for row, text in enumerate(texts) if _number(str(text)) is None)
            raise InputError(
                f"{table.sources[-1].path}: column {name!r}, {table.row_names[row]}: {str(odd)!r:.40} is not a number; a regression "
                "learns numbers"
            )
        columns.append(found)
    return NumberTrainer(table, kind, names, np.stack(columns, axis=1), units)


def _numbers(texts: NDArray[np.str_]) -> Floats | None:
    """Return the numbers (n,) that texts (n,) stand for; None if one of them stands for none."""
    found = [_number(str(text)) for text in texts]
    return None if None in found else np.array(found, dtype=np.float64)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _say(table: Table, target: str, say: Say) -> None:
    say(f"table: {len(table.X):,} rows, {len(table.feature_names)} features; {target}")
    for sentence in (*table.left_out, *(f"{name}: {words}" for name, words in table.words.items())):
        say(f"       {sentence}")
    for sentence in table.strange:
        say(f"note:  {sentence}")
