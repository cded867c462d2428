"""What the report tells beyond the evaluation's figures: baselines, the learning curve, and where the errors are."""

from __future__ import annotations

import datetime as dt
import warnings
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from edge_convert.evaluate import Evaluation, HeldOut, figures_of
from edge_convert.residuals import NumberEvaluation
from edge_convert.tables import Table

Floats = NDArray[np.float64]

#: More rows than this tell a learning curve no better, and take longer.
_ROWS: Final = 10_000
_FOLDS: Final = 3
#: Of one held-out row there is no R2.
_CURVE: Final = 2 * _FOLDS
_SHARES: Final = (0.1, 0.2, 0.4, 0.7, 1.0)
#: Parts of a table in the order of time.
_PARTS: Final = 12
#: Groups that are listed: those with the most errors.
GROUPS_SHOWN: Final = 20


class Curve(NamedTuple):
    """A learning curve: `sizes` (m,) rows, and scores (m, folds) on held-out rows and on those learned from."""

    sizes: NDArray[np.int64]
    scores: Floats
    trained: Floats


def losses_of(evaluation: Evaluation | NumberEvaluation, scheme: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows (m,) that were held out, and the loss of each: 1 for a wrong label, or the absolute error as a share of the mean's."""
    if isinstance(evaluation, Evaluation):
        held_out = evaluation.schemes[scheme].repeats[0]
        return held_out.rows, (held_out.labels != evaluation.truth[held_out.rows]).astype(np.float64)
    found, truth = evaluation.schemes[scheme], evaluation.truth
    spread = np.abs(truth - truth.mean(axis=0)).mean(axis=0)
    losses = np.abs(found.repeats[0] - truth[found.rows]) / np.where(spread == 0, 1.0, spread)
    return found.rows, losses.mean(axis=1)


def baselines(table: Table, evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Return the figures of what needs no model, and of a single question."""
    y, labels, n = evaluation.truth, evaluation.labels, len(evaluation.truth)
    shares = np.array([table.class_counts[label] / n for label in labels])
    rows, commonest = np.arange(n), labels[int(shares.argmax())]
    always = HeldOut(rows, np.full(n, commonest), np.tile(shares, (n, 1)))
    folds = StratifiedKFold(min(5, *table.class_counts.values()), shuffle=True, random_state=0)
    asked = cross_val_predict(DecisionTreeClassifier(max_depth=1), table.X, y, cv=folds, method="predict_proba")
    one = HeldOut(rows, np.array(labels)[asked.argmax(axis=1)], asked)
    return {
        f"always {commonest!r}": figures_of(y, always, labels, evaluation.rarest),
        "a single question (a tree of two leaves)": figures_of(y, one, labels, evaluation.rarest),
    }


def single_question(X: Floats, Y: Floats) -> Floats:
    """Return what a regression tree of two leaves says of rows (n, outputs) that it has not seen."""
    folds = KFold(min(5, len(X)), shuffle=True, random_state=0)
    said: Floats = cross_val_predict(DecisionTreeRegressor(max_depth=1), X, Y, cv=folds)
    return said.reshape(Y.shape)


def learning_curve(model: Any, X: Floats, y: Any, seed: int = 0) -> Curve:
    """Return how a model with these parameters does with fewer rows: accuracy, or R2. It is empty where rows are too few."""
    rows = np.random.default_rng(seed).permutation(len(X))[:_ROWS]
    X, y = X[rows], y[rows]
    scores, trained, sizes = [], [], []
    with threadpool_limits(1), config_context(assume_finite=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a tenth of the rows may have a label for each second one
        for share in _SHARES:
            one, other = [], []
            for train, test in KFold(_FOLDS).split(X) if len(X) >= _CURVE else ():
                some = train[: max(2, int(share * len(train)))]
                if np.ndim(y) == 1 and y.dtype.kind == "U" and len(np.unique(y[some])) < 2:
                    continue
                fitted = clone(model).fit(X[some], y[some])
                one.append(fitted.score(X[test], y[test]))
                other.append(fitted.score(X[some], y[some]))
            if len(one) == _FOLDS:
                scores.append(one)
                trained.append(other)
                sizes.append(int(share * len(X) * (_FOLDS - 1) / _FOLDS))
    return Curve(np.array(sizes), np.array(scores), np.array(trained))


def worst_groups(groups: NDArray[np.str_], losses: Floats) -> list[tuple[str, int, float]]:
    """Return groups with their rows and mean loss (losses: n), those with the largest first."""
    names, which = np.unique(groups, return_inverse=True)
    counts = np.bincount(which)
    means = np.bincount(which, losses) / counts
    order = np.argsort(-means, kind="stable")[:GROUPS_SHOWN]
    return [(str(names[i]), int(counts[i]), float(means[i])) for i in order]


def parts_of_time(times: Floats, losses: Floats) -> tuple[Floats, Floats, tuple[list[float], list[str]]]:
    """Return where parts of the rows (n) are in time, their mean loss, and ticks for an axis with dates, if they are such."""
    order = np.argsort(times, kind="stable")
    parts = [part for part in np.array_split(order, min(_PARTS, len(order))) if len(part)]
    where = np.array([float(np.median(times[part])) for part in parts])
    ticks = [float(value) for value in np.linspace(times.min(), times.max(), 4)]
    return where, np.array([losses[part].mean() for part in parts]), (ticks, [_when(value) for value in ticks])


def _when(seconds: float) -> str:
    """Return seconds since 1970 as a date where they may be that; else the number."""
    if not 1e8 < seconds < 1e10:
        return f"{seconds:g}"
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d\n%H:%M")
