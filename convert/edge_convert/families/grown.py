"""Trees, forests and boosting as parts of a model: leaves found by onnxruntime, their values added up in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.ensemble import GradientBoostingClassifier

from edge_convert.families.categories import write_sets
from edge_convert.families.net import Classified, Columns, Net
from edge_convert.families.transforms import codes_of
from edge_convert.leaves import Sum, sum_of, write_sum
from edge_convert.sets import Members, Parted, asking_sets
from edge_convert.trees import (
    BOOSTED_REGRESSORS,
    ROUNDING,
    Tree,
    begun_with,
    boosted,
    halves,
    predictors_of,
    stages_of,
    trees_of,
)


def add_up(net: Net, x: str, trees: Sequence[Tree], how: Sum, *, narrow: bool = True) -> str:
    """Write the sum of the leaves' values. `narrow` tells that the trees round what they get to float32."""
    source = net.add("Cast", x, to=TensorProto.FLOAT) if narrow else x
    return write_sum(net, trees, how, wide=not narrow, source=source)


def voting_trees(net: Net, estimator: Any, x: Columns) -> Classified:
    """A tree, or the mean of a forest's."""
    trees = trees_of(estimator)
    assert trees is not None  # noqa: S101 - the registry knows
    probabilities = add_up(net, x.name, trees, Sum(count=float(len(trees))))
    return Classified(net.largest(probabilities), probabilities)


def hist_boosting(net: Net, estimator: Any, x: Columns) -> Classified:
    """Histogram gradient boosting compares float64."""
    trees, source = _hist_trees(net, estimator, x)
    first = np.asarray(estimator._baseline_prediction, np.float64).ravel()  # noqa: SLF001 - as in `ensembles`
    scores = len(first)
    raw = net.beside(
        [add_up(net, source, trees[k::scores], Sum(first[k : k + 1]), narrow=False) for k in range(scores)]
    )
    return _boosted(net, raw, scores)


def gradient_boosting(net: Net, estimator: GradientBoostingClassifier, x: Columns) -> Classified:
    """Gradient boosting: `init` may be a model of its own."""
    scores = estimator.estimators_.shape[1]
    stages = [stages_of(estimator)[k::scores] for k in range(scores)]
    half = 0.5 if halves(estimator) else 1.0
    if (first := begun_with(estimator)) is not None:
        raw = net.beside([add_up(net, x.name, stages[k], Sum(first[k : k + 1])) for k in range(scores)])
    else:
        begun = _log_odds(net, estimator.init_, Columns(_narrowed(net, x.name)), scores)
        if half != 1.0:
            begun = net.op("Mul", begun, half)
        # One stage after the other, beginning with that of `init`.
        parts = []
        for k in range(scores):
            total = net.columns(begun, [k]) if scores > 1 else begun
            for tree in stages[k]:
                total = net.op("Add", total, add_up(net, x.name, [tree], Sum()))
            parts.append(total)
        raw = net.beside(parts)
    return _boosted(net, raw, scores, half=half, equal=True)


def numbers(net: Net, estimator: Any, x: Columns) -> str:
    """Regression trees of any kind."""
    if isinstance(estimator, BOOSTED_REGRESSORS):
        boosting, source = _hist_trees(net, estimator, x)
        return add_up(net, source, boosting, sum_of(estimator), narrow=False)
    trees = trees_of(estimator)
    if trees is not None:
        return add_up(net, x.name, trees, sum_of(estimator), narrow=isinstance(estimator, ROUNDING))
    total = net.estimate(estimator.init_, Columns(_narrowed(net, x.name)))
    for tree in stages_of(estimator):
        total = net.op("Add", total, add_up(net, x.name, [tree], Sum()))
    return total


def _hist_trees(net: Net, estimator: Any, x: Columns) -> tuple[list[Tree], str]:
    """Return the trees of histogram gradient boosting, and the name of the rows that they get."""
    if (trees := trees_of(estimator)) is not None:
        return trees, x.name
    is_category = np.asarray(estimator.is_categorical_)
    # It puts the columns of categories first, with codes in them.
    columns = np.concatenate([np.flatnonzero(is_category), np.flatnonzero(~is_category)])
    encoder = estimator._preprocessor.named_transformers_["encoder"]  # noqa: SLF001 - nothing public has its categories
    values = [
        codes_of(encoder, [one for one in categories if one == one], x, int(place))  # noqa: PLR0124 - NaN is none
        for place, categories in zip(columns, encoder.categories_, strict=False)
    ]
    grown = []
    for predictor in predictors_of(estimator):
        tree, nodes = boosted(predictor.nodes), predictor.nodes
        splits = {
            int(node): _parted(nodes[node], predictor.raw_left_cat_bitsets, columns, values)
            for node in np.flatnonzero(nodes["is_categorical"])
        }
        grown.append((replace(tree, feature=columns[np.where(tree.is_leaf, 0, tree.feature)]), splits))
    trees, places = asking_sets(grown, len(columns))
    return trees, write_sets(net, x.name, places)


def _parted(node: Any, bitsets: Any, columns: NDArray[np.int64], values: Sequence[NDArray[np.float64]]) -> Parted:
    """Return what a node of histogram gradient boosting asks. A category that it does not know goes where a missing value goes."""
    known, bits = values[node["feature_idx"]], bitsets[node["bitset_idx"]]
    codes = np.arange(len(known))
    is_left = (bits[codes >> 5] >> (codes & 31) & 1).astype(bool)
    left = not node["missing_go_to_left"]
    members = np.unique(known[is_left == left])
    return Parted(Members(int(columns[node["feature_idx"]]), tuple(map(float, members))), left)


def _narrowed(net: Net, x: str) -> str:
    """Gradient boosting rounds rows to float32 before it asks `init`."""
    return net.op("Cast", net.add("Cast", x, to=TensorProto.FLOAT), to=TensorProto.DOUBLE)


def _log_odds(net: Net, init: Any, x: Columns, scores: int) -> str:
    probabilities = net.classify(init, x).probabilities
    assert probabilities is not None  # noqa: S101 - gradient boosting asks for them
    epsilon = float(np.finfo(np.float64).eps)
    if scores == 1:
        p = net.op("Max", net.op("Min", net.columns(probabilities, [1]), 1 - epsilon), epsilon)
        return net.op("Log", net.op("Div", p, net.op("Sub", 1.0, p)))
    logs = net.op("Log", net.op("Max", net.op("Min", probabilities, 1 - epsilon), epsilon))
    return net.op("Sub", logs, net.op("ReduceMean", logs, axes=[1], keepdims=1))


def _boosted(net: Net, raw: str, scores: int, *, half: float = 1.0, equal: bool = False) -> Classified:
    if scores > 1:
        return Classified(net.largest(raw), net.softmax(raw), raw)
    whole = raw if half == 1.0 else net.op("Div", raw, half)
    return Classified(net.above(raw, equal=equal), net.both(net.logistic(whole)), raw)
