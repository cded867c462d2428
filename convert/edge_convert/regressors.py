"""The estimators that answer numbers, and how their parameters are chosen: as `edge_convert.estimators` does it for labels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from edge_agent.errors import InputError
from edge_convert.classifier import Estimator
from edge_convert.estimators import INNER_FOLDS, Floats, Kind, Parameters, Progress, prunings, sample_of, widen_tree


def fit_numbers(
    kind: Kind,
    X: NDArray[np.float64],
    Y: Floats,
    seed: int,
    progress: Progress = lambda _done, _total: None,
    *,
    whole: int | None = None,
) -> tuple[Estimator, Parameters]:
    """Choose parameters by a cross-validation within `X` (n, f), `Y` (n, outputs), and fit on all of it.

    The same arguments give the same estimator. `whole` is as in `edge_convert.estimators.fit`. What is chosen has the largest R2, each output counting as much as another.
    """
    wide, y = X.astype(np.float64), Y[:, 0] if Y.shape[1] == 1 else Y
    with threadpool_limits(1), config_context(assume_finite=True, skip_parameter_validation=True):
        some = sample_of(len(y), seed, whole or len(y))
        grid = kind.grid(wide[some], y[some], seed)
        best = grid[_best(kind, grid, wide[some], Y[some], seed, progress=progress)]
        chosen = kind.widen(best, len(y) / len(some))
        estimator: Estimator = kind.make(chosen, seed).fit(wide, y)
        return estimator, chosen


def _best(kind: Kind, grid: list[Parameters], X: Floats, Y: Floats, seed: int, *, progress: Progress) -> int:
    folds = min(INNER_FOLDS, len(X))
    if len(grid) == 1 or folds < 2:
        return 0
    spread = Y.var(axis=0)
    spread[spread == 0] = 1.0
    losses = np.zeros(len(grid))
    for fold, (train, test) in enumerate(KFold(folds, shuffle=True, random_state=seed).split(X)):
        y = Y[train, 0] if Y.shape[1] == 1 else Y[train]
        for i, parameters in enumerate(grid):
            said = kind.make(parameters, seed).fit(X[train], y).predict(X[test]).reshape(len(test), -1)
            losses[i] += float((((said - Y[test]) ** 2).mean(axis=0) / spread).mean())
            progress(fold * len(grid) + i + 1, folds * len(grid))
    return int(losses.argmin())  # the first of equals: grids begin with the simplest model


def require_several(kind: Kind, outputs: int) -> None:
    """Raise `InputError` where the kind answers one number only."""
    if outputs > 1 and kind.name == "boosting":
        raise InputError(
            f"{kind.title} answers one number, not {outputs}; take --estimator forest, or a model for each"
        )


def _make_tree(parameters: Parameters, seed: int) -> DecisionTreeRegressor:
    return DecisionTreeRegressor(random_state=seed, **parameters)


def _tree_grid(X: Floats, y: Any, seed: int) -> list[Parameters]:
    """Places along the cost-complexity pruning path of these rows, from the hardest cut to none."""
    grid: list[Parameters] = []
    for leaf in (5, 10, 20):
        tree = DecisionTreeRegressor(min_samples_leaf=leaf, random_state=seed)
        grid += [{"min_samples_leaf": leaf, "ccp_alpha": alpha} for alpha in prunings(tree, X, y)]
    return grid


def _make_forest(parameters: Parameters, seed: int) -> RandomForestRegressor:
    return RandomForestRegressor(n_estimators=64, random_state=seed, **parameters)


def _forest_grid(_X: Floats, _y: Any, _seed: int) -> list[Parameters]:
    return [{"min_samples_leaf": leaf} for leaf in (5, 2)]


def _make_boosting(parameters: Parameters, seed: int) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(early_stopping=False, min_samples_leaf=20, random_state=seed, **parameters)


def _boosting_grid(_X: Floats, _y: Any, _seed: int) -> list[Parameters]:
    return [
        {"learning_rate": 0.05, "max_iter": rounds, "max_leaf_nodes": leaves, "l2_regularization": 1.0}
        for rounds, leaves in ((75, 7), (150, 15), (300, 15))
    ]


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("tree", "regression tree, cost-complexity pruned", _make_tree, _tree_grid, widen_tree),
        Kind("forest", "random forest of regression trees", _make_forest, _forest_grid, widen_tree),
        Kind("boosting", "histogram gradient boosting of regression trees", _make_boosting, _boosting_grid),
    )
}
