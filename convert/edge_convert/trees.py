"""What scikit-learn's tree models are made of, in one shape for all of them.

A tree model here is a decision tree, a forest of them, or histogram gradient boosting. Exporting, folding scalers and
checking parity all need the same few arrays; this file is the only one that knows where scikit-learn keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.ensemble._forest import BaseForest
from sklearn.ensemble._gb import BaseGradientBoosting, _init_raw_predictions
from sklearn.tree import (
    BaseDecisionTree,
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
)

SINGLE = (DecisionTreeClassifier, ExtraTreeClassifier)
FORESTS = (RandomForestClassifier, ExtraTreesClassifier)
BOOSTED = (HistGradientBoostingClassifier,)
SINGLE_REGRESSORS = (DecisionTreeRegressor,)
FOREST_REGRESSORS = (RandomForestRegressor, ExtraTreesRegressor)
BOOSTED_REGRESSORS = (HistGradientBoostingRegressor,)
#: What rounds whatever it is handed to float32 by itself, so that float32 is all it has to be given.
ROUNDING = (BaseDecisionTree, BaseForest, BaseGradientBoosting, IsolationForest)


@dataclass(frozen=True)
class Tree:
    """One tree of a model: n nodes in scikit-learn's own order, node 0 is the root.

    `feature` (n,) is the column a node asks about, `threshold` (n,) float64 sends `x <= threshold` to the left;
    (`left` and `right` (n,) are node numbers); all four mean nothing where `is_leaf` (n,). `values` (n, k) float64 is what a leaf answers: one probability a label for
    trees and forests, or one value an output; one summand of the raw score (k = 1) for boosting; a path length (k = 1) for isolation forests. `rows` (n,) is how many training rows came by.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    is_leaf: NDArray[np.bool_]
    values: NDArray[np.float64]
    rows: NDArray[np.int64]
    #: Whether a node (n,) sends a missing value to the left; None for a model that is to take none.
    missing_left: NDArray[np.bool_] | None = None
    #: The weight (n,) float64 of the training rows that came by; None where the library does not tell it.
    covers: NDArray[np.float64] | None = None

    def with_thresholds(self, threshold: NDArray[np.float64]) -> Tree:
        """Return the same tree asking other questions."""
        return replace(self, threshold=threshold)


def trees_of(estimator: Any) -> list[Tree] | None:
    """Return the trees of a fitted estimator in the order in which they are added up; None if it has none, or none that ask about
    thresholds alone: boosting with categories is `edge_convert.families.grown`'s.
    """
    if isinstance(estimator, SINGLE + SINGLE_REGRESSORS):
        return [plain(estimator.tree_)]
    if isinstance(estimator, FORESTS + FOREST_REGRESSORS):
        return [plain(member.tree_) for member in estimator.estimators_]
    # That which begins with another model is not trees alone.
    if isinstance(estimator, GradientBoostingRegressor) and (
        isinstance(estimator.init_, str) or hasattr(estimator.init_, "constant_")
    ):
        return stages_of(estimator)
    if isinstance(estimator, IsolationForest):
        return _isolating(estimator)
    if isinstance(estimator, BOOSTED + BOOSTED_REGRESSORS) and not has_categories(estimator):
        return [boosted(predictor.nodes) for predictor in predictors_of(estimator)]
    return None


def has_categories(estimator: Any) -> bool:
    """Return whether histogram gradient boosting takes some columns for categories, and so puts these first."""
    return getattr(estimator, "is_categorical_", None) is not None


def predictors_of(estimator: Any) -> list[Any]:
    """Return scikit-learn's own trees of histogram gradient boosting."""
    # `_predictors` is (iterations, trees per iteration); skl2onnx reads the same private attribute.
    return [predictor for iteration in estimator._predictors for predictor in iteration]  # noqa: SLF001


def depth_of(tree: Tree) -> int:
    """Return how many questions a tree asks at the most."""
    depth, nodes = 0, np.zeros(1, np.int64)
    while len(nodes := nodes[~tree.is_leaf[nodes]]):
        nodes = np.concatenate([tree.left[nodes], tree.right[nodes]])
        depth += 1
    return depth


def parents_first(tree: Tree) -> Tree:
    """Return the same tree with its nodes numbered level by level, so that all come after their parents."""
    levels, nodes = [], np.zeros(1, np.int64)
    while len(nodes):
        levels.append(nodes)
        asking = nodes[~tree.is_leaf[nodes]]
        nodes = np.stack([tree.left[asking], tree.right[asking]], axis=1).ravel()
    return renumbered(tree, np.concatenate(levels))


def renumbered(tree: Tree, order: NDArray[np.int64]) -> Tree:
    """Return the tree with the nodes of `order` (k,) in this order, the root first. Only nodes that no other leads to may be left out."""
    place = np.zeros(len(tree.is_leaf), np.int64)
    place[order] = np.arange(len(order))
    asking = ~tree.is_leaf[order]
    return replace(
        tree,
        feature=tree.feature[order],
        threshold=tree.threshold[order],
        left=place[tree.left[order] * asking],
        right=place[tree.right[order] * asking],
        is_leaf=tree.is_leaf[order],
        values=tree.values[order],
        rows=tree.rows[order],
        missing_left=None if tree.missing_left is None else tree.missing_left[order],
        covers=None if tree.covers is None else tree.covers[order],
    )


def rounds(estimator: Any) -> bool:
    """Return whether an estimator rounds whatever it is handed to float32 by itself."""
    return bool(getattr(estimator, "rounds", isinstance(estimator, ROUNDING)))


def stages_of(estimator: Any) -> list[Tree]:
    """Return the trees of gradient boosting, stage after stage, with the values that they add."""
    grown = [plain(member.tree_) for member in estimator.estimators_.ravel()]
    return [replace(tree, values=estimator.learning_rate * tree.values) for tree in grown]


def begun_with(estimator: GradientBoostingClassifier) -> NDArray[np.float64] | None:
    """Return the scores (scores,) that gradient boosting begins with; None where it begins with a model's answer to the row."""
    init = estimator.init_
    if isinstance(init, str):  # "zero"
        return np.zeros(estimator.estimators_.shape[1])
    if not hasattr(init, "class_prior_") or hasattr(init, "theta_"):  # naive Bayes has priors, too
        return None
    row = np.zeros((1, estimator.n_features_in_), np.float32)
    first: NDArray[np.float64] = _init_raw_predictions(row, init, estimator._loss, use_predict_proba=True)[0]  # noqa: SLF001 - theirs
    return first


def halves(estimator: GradientBoostingClassifier) -> bool:
    """Return whether the scores of gradient boosting are half of the log odds."""
    return bool(estimator.loss == "exponential")


def thresholds_by_feature(trees: Sequence[Tree], n_features: int, *, wide: bool = False) -> list[NDArray[np.float64]]:
    """Return, for every feature, the distinct thresholds at which some tree asks about it (may be empty), each as the
    largest float32 at or below it, unless the graph is `wide` and takes float64.
    """
    feature = np.concatenate([tree.feature[~tree.is_leaf] for tree in trees])
    threshold = np.concatenate([tree.threshold[~tree.is_leaf] for tree in trees])
    asked = threshold if wide else float32_floor(threshold)
    return [np.unique(asked[feature == column]) for column in range(n_features)]


def float32_floor(threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest float32 at or below each threshold, as float64.

    For any float32 x, `x <= threshold` and `x <= float32_floor(threshold)` are the same question, so nothing is lost.
    """
    with np.errstate(over="ignore"):
        rounded = threshold.astype(np.float32)
    with np.errstate(over="ignore"):  # below the least float32
        below = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded.astype(np.float64) > threshold, below, rounded).astype(np.float64)


def plain(tree: Any) -> Tree:
    """Return one of scikit-learn's own trees (`tree_`)."""
    return Tree(
        feature=tree.feature.astype(np.int64),
        threshold=tree.threshold.astype(np.float64),
        left=tree.children_left.astype(np.int64),
        right=tree.children_right.astype(np.int64),
        is_leaf=tree.children_left == -1,
        # (nodes, outputs, labels): labels of one output, or numbers of several.
        values=(tree.value[:, 0, :] if tree.n_outputs == 1 else tree.value[:, :, 0]).astype(np.float64),
        rows=tree.n_node_samples.astype(np.int64),
        missing_left=tree.missing_go_to_left.astype(bool),
        covers=tree.weighted_n_node_samples.astype(np.float64),
    )


def boosted(nodes: Any) -> Tree:
    """Return one of the trees of histogram gradient boosting; a split on categories has no threshold that means anything."""
    return Tree(
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        is_leaf=nodes["is_leaf"].astype(bool),
        values=nodes["value"].astype(np.float64)[:, np.newaxis],
        rows=nodes["count"].astype(np.int64),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        # It keeps no weights.
        covers=nodes["count"].astype(np.float64),
    )


def _isolating(estimator: IsolationForest) -> list[Tree]:
    """Return the trees of an isolation forest. A tree may have been given some of the columns only, and numbers them itself."""
    lengths = zip(estimator._decision_path_lengths, estimator._average_path_length_per_tree, strict=True)  # noqa: SLF001
    trees = []
    for member, columns, (path, average) in zip(
        estimator.estimators_, estimator.estimators_features_, lengths, strict=True
    ):
        tree = plain(member.tree_)
        feature = np.asarray(columns, np.int64)[np.where(tree.is_leaf, 0, tree.feature)]
        trees.append(replace(tree, feature=feature, values=(path + average - 1.0)[:, np.newaxis]))
    return trees
