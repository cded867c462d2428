"""The three kinds of estimator, and how their parameters are chosen: inside the rows they are handed, and no others.

`fit` is what both the evaluation (on each fold's training rows) and the final model (on all rows) call, so the figures
in the report are those of the whole procedure, choice of parameters included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from edge_agent.errors import InputError
from edge_convert.classifier import Classifier

Parameters = dict[str, Any]
Floats = NDArray[np.float64]
Labels = NDArray[np.str_]
Progress = Callable[[int, int], None]

INNER_FOLDS: Final = 3
#: So many seeds there are (from 0 on): what numpy's and scikit-learn's old generators take.
SEEDS: Final = 1 << 32
#: In a table with more rows than this, parameters are chosen by a sample of so many, and carried over to all rows.
_MANY: Final = 20_000
SAMPLE: Final = 6_000
#: How many places on the pruning path are tried, besides not pruning at all.
_PRUNINGS: Final = 6


@dataclass(frozen=True)
class Kind:
    """A kind of estimator: `make(parameters, seed)` is unfitted; `grid(X, y, seed)` lists what to choose from; `widen(parameters,
    times)` carries parameters over to so many times as many rows.
    """

    name: str
    title: str
    make: Callable[[Parameters, int], Any]
    grid: Callable[[Floats, Any, int], list[Parameters]]
    widen: Callable[[Parameters, float], Parameters] = lambda parameters, _times: parameters
    #: Fits the model with the parameters chosen: (unfitted, X, y, seed).
    fit: Callable[[Any, Floats, Any, int], Any] = lambda model, X, y, _seed: model.fit(X, y)


def with_fixed(kind: Kind, fixed: Parameters) -> Kind:
    """Return a kind that chooses all parameters but these. Raises `InputError` for what the estimator does not take."""
    if not fixed:
        return kind
    try:
        kind.make({}, 0).set_params(**fixed)._validate_params()  # noqa: SLF001 - what its fit() calls first
    except ValueError as error:
        raise InputError(f"--set: {str(error).split('. Valid parameters')[0]}") from None

    def make(parameters: Parameters, seed: int) -> Any:
        return kind.make({name: value for name, value in parameters.items() if name not in fixed}, seed).set_params(
            **fixed
        )

    def grid(X: Floats, y: Any, seed: int) -> list[Parameters]:
        found: list[Parameters] = []
        for one in kind.grid(X, y, seed):
            if (parameters := {**one, **fixed}) not in found:
                found.append(parameters)
        return found

    return replace(
        kind, make=make, grid=grid, widen=lambda parameters, times: {**kind.widen(parameters, times), **fixed}
    )


def fit(
    kind: Kind,
    X: NDArray[np.float64],
    y: Labels,
    seed: int,
    progress: Progress = lambda _done, _total: None,
    *,
    whole: int | None = None,
) -> tuple[Classifier, Parameters]:
    """Choose parameters by a stratified cross-validation within `X` (n, f), `y` (n,), and fit on all of it.

    Returns the fitted estimator and the parameters chosen. The same arguments give the same estimator. A label with
    fewer than two rows, or one that is alone, leaves nothing to choose by; then the first of the grid is taken. Of many rows a
    sample is enough to choose by, for each candidate is fitted three times; where the rows are a fold, it is the `whole` table's
    rows that are many or not, so that a fold does what the table does. `progress` is told how many candidates of how many are done.
    """
    wide = X.astype(np.float64)
    # One thread: folds are what runs side by side (edge_convert.evaluate), and on small tables more threads only wait.
    # The rows were checked when the table was read, the parameters are ours: scikit-learn need not check them each time.
    with threadpool_limits(1), config_context(assume_finite=True, skip_parameter_validation=True):
        some = _sample(y, seed, whole or len(y))
        grid = kind.grid(wide[some], y[some], seed)
        best = grid[_best(kind, grid, wide[some], y[some], seed, progress=progress)]
        chosen = kind.widen(best, len(y) / len(some))
        return kind.fit(kind.make(chosen, seed), wide, y, seed), chosen


def _sample(y: Labels, seed: int, whole: int) -> NDArray[np.int64]:
    """Return which rows to choose by: all, or of each label its share, rounded up, where the `whole` table has many."""
    if whole <= _MANY:
        return np.arange(len(y))
    _, which, counts = np.unique(y, return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(y))
    by_label = np.split(shuffled[np.argsort(which[shuffled], kind="stable")], np.cumsum(counts)[:-1])
    return np.sort(np.concatenate([rows[: -(-len(rows) * SAMPLE // len(y))] for rows in by_label]))


def sample_of(rows: int, seed: int, whole: int) -> NDArray[np.int64]:
    """Return which of so many rows to choose by where there are no labels."""
    if whole <= _MANY:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).permutation(rows)[:SAMPLE])


def _best(kind: Kind, grid: list[Parameters], X: Floats, y: Labels, seed: int, *, progress: Progress) -> int:
    counts = np.unique(y, return_counts=True)[1]
    folds = min(INNER_FOLDS, int(counts.min()))
    if len(grid) == 1 or len(counts) == 1 or folds < 2:
        return 0
    scores = np.zeros(len(grid))
    for fold, (train, test) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=seed).split(X, y)):
        for i, parameters in enumerate(grid):
            scores[i] += _score(y[test], kind.make(parameters, seed).fit(X[train], y[train]).predict(X[test]))
            progress(fold * len(grid) + i + 1, folds * len(grid))
    return int(scores.argmax())  # the first of equals: grids begin with the simplest model


def _score(truth: Labels, predicted: Labels) -> float:
    # Accuracy alone would let a rare label go; macro F1 alone is noisy where a label has few rows. Both count.
    return float((truth == predicted).mean() + macro_f1(truth, predicted))


def macro_f1(truth: Labels, predicted: Labels) -> float:
    """Return the mean F1 over the labels in `truth` or `predicted` (n,): `f1_score(..., average="macro")`, to the bit.

    scikit-learn's own takes longer to check its arguments than a small tree takes to grow.
    """
    labels, numbers = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    true, said = numbers[: len(truth)], numbers[len(truth) :]
    right = np.bincount(true[true == said], minlength=len(labels))
    both = np.bincount(true, minlength=len(labels)) + np.bincount(said, minlength=len(labels))
    return float(np.mean(2.0 * right / both))


def _make_tree(parameters: Parameters, seed: int) -> DecisionTreeClassifier:
    return DecisionTreeClassifier(random_state=seed, **parameters)


def _tree_grid(X: Floats, y: Labels, seed: int) -> list[Parameters]:
    """Places along the cost-complexity pruning path of these rows, from the hardest cut to none."""
    grid: list[Parameters] = []
    for criterion in ("gini", "entropy"):
        for leaf in (5, 10, 20):
            tree = DecisionTreeClassifier(criterion=criterion, min_samples_leaf=leaf, random_state=seed)
            alphas = prunings(tree, X, y)
            grid += [{"criterion": criterion, "min_samples_leaf": leaf, "ccp_alpha": alpha} for alpha in alphas]
    return grid


def prunings(tree: Any, X: Floats, y: Any) -> list[float]:
    """Return places along the cost-complexity pruning path of an unfitted tree on these rows, from the hardest cut to none."""
    alphas = np.unique(tree.cost_complexity_pruning_path(X, y).ccp_alphas)
    alphas = alphas[alphas > 0][:-1]  # the last one prunes all but the root
    # The geometric mean of two neighbours stands for the range between them (Breiman et al. 1984, 3.4).
    between = np.sqrt(alphas[:-1] * alphas[1:])
    # A tree of one or two leaves has nothing in between.
    places = sorted({round(place) for place in np.linspace(0, len(between) - 1, _PRUNINGS)} if len(between) else ())
    return [*(float(between[place]) for place in reversed(places)), 0.0]


def widen_tree(parameters: Parameters, times: float) -> Parameters:
    """Carry the size of leaves and the pruning over to more rows: what a split gains by chance shrinks with their number, and with
    more rows a tree may tell finer, but not that much finer.
    """
    wider = {**parameters, "min_samples_leaf": round(parameters["min_samples_leaf"] * times**0.5)}
    return wider | ({"ccp_alpha": parameters["ccp_alpha"] / times} if "ccp_alpha" in parameters else {})


def _make_forest(parameters: Parameters, seed: int) -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=128, random_state=seed, **parameters)


def _forest_grid(_X: Floats, _y: Labels, _seed: int) -> list[Parameters]:
    return [{"min_samples_leaf": leaf} for leaf in (5, 2)]


def _make_boosting(parameters: Parameters, seed: int) -> HistGradientBoostingClassifier:
    # No early stopping: it would set rows aside at random, and a fixed number of iterations does as well here.
    return HistGradientBoostingClassifier(early_stopping=False, min_samples_leaf=20, random_state=seed, **parameters)


def _boosting_grid(_X: Floats, _y: Labels, _seed: int) -> list[Parameters]:
    return [
        {"learning_rate": 0.05, "max_iter": 150, "max_leaf_nodes": 7, "l2_regularization": 1.0},
        {"learning_rate": 0.05, "max_iter": 150, "max_leaf_nodes": 15, "l2_regularization": 1.0},
        {"learning_rate": 0.05, "max_iter": 300, "max_leaf_nodes": 15, "l2_regularization": 1.0},
        {"learning_rate": 0.05, "max_iter": 300, "max_leaf_nodes": 31, "l2_regularization": 1.0},
    ]


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("tree", "decision tree, cost-complexity pruned", _make_tree, _tree_grid, widen_tree),
        Kind("forest", "random forest", _make_forest, _forest_grid, widen_tree),
        Kind("boosting", "histogram gradient boosting", _make_boosting, _boosting_grid),
    )
}
