"""Families that compare a row with rows that they keep: support vectors, nearest neighbours, kernels."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final

import numpy as np

from edge_agent.errors import InputError
from edge_convert.families.net import Classified, Columns, Net

#: Numbers in the rows that a model keeps, at the most: a device compares each row with all of them.
MOST: Final = 1_000_000
#: Up to so many columns, distances are added up column by column, as scikit-learn's own loops do it.
_COLUMNS: Final = 64


def support_vectors(net: Net, estimator: Any, x: Columns) -> Classified:
    """Support vector machines decide by votes of pairs; their probabilities, which may disagree with the label, are left out."""
    labels = len(estimator.classes_)
    kernel = _kernel(net, estimator, x, estimator.support_vectors_, estimator._gamma)  # noqa: SLF001 - "scale" in numbers
    ends = np.cumsum([0, *estimator.n_support_])
    weights = np.zeros((len(estimator.support_vectors_), labels * (labels - 1) // 2))
    dual = estimator._dual_coef_
    for pair, (i, j) in enumerate(combinations(range(labels), 2)):
        weights[ends[i] : ends[i + 1], pair] = dual[j - 1, ends[i] : ends[i + 1]]
        weights[ends[j] : ends[j + 1], pair] = dual[i, ends[j] : ends[j + 1]]
    pairs = net.affine(kernel, weights, estimator._intercept_)
    first = net.number(net.op("Greater", pairs, 0.0))
    if labels == 2:
        return Classified(net.flat(net.whole(net.op("Sub", 1.0, first))), None, net.op("Neg", pairs))
    votes = _votes(net, first, labels)
    if estimator.decision_function_shape == "ovo":
        return Classified(net.largest(votes), None, pairs)
    ranked = rank_by_pairs(net, net.number(net.op("Less", pairs, 0.0)), net.op("Neg", pairs), labels)
    return Classified(net.largest(ranked if estimator.break_ties else votes), None, ranked)


def _votes(net: Net, first: str, labels: int) -> str:
    """Return votes (n, labels); `first` (n, pairs) is 1 where a pair votes for its first label, else 0."""
    pairs = list(combinations(range(labels), 2))
    matrix, base = np.zeros((len(pairs), labels)), np.zeros(labels)
    for pair, (i, j) in enumerate(pairs):
        matrix[pair, i], matrix[pair, j] = 1, -1
        base[j] += 1
    return net.affine(first, matrix, base)


def rank_by_pairs(net: Net, second: str, confidences: str, labels: int) -> str:
    """Return votes with the confidences as the decimals behind them (scikit-learn's `_ovr_decision_function`)."""
    pairs = list(combinations(range(labels), 2))
    votes = _votes(net, net.op("Sub", 1.0, second), labels)
    signs = np.zeros((len(pairs), labels))
    for pair, (i, j) in enumerate(pairs):
        signs[pair, i], signs[pair, j] = -1, 1
    total = net.op("MatMul", confidences, signs)
    below = net.op("Mul", net.op("Add", net.op("Abs", total), 1.0), 3.0)
    return net.op("Add", votes, net.op("Div", total, below))


def support_values(net: Net, estimator: Any, x: Columns) -> str:
    """Support vector regression."""
    kernel = _kernel(net, estimator, x, estimator.support_vectors_, estimator._gamma)  # noqa: SLF001 - "scale" in numbers
    return net.affine(kernel, estimator._dual_coef_.T, estimator._intercept_)


def kernel_ridge(net: Net, estimator: Any, x: Columns) -> str:
    """Kernel ridge regression."""
    gamma = estimator.gamma if estimator.gamma is not None else 1.0 / estimator.n_features_in_
    kernel = _kernel(net, estimator, x, estimator.X_fit_, gamma)
    dual = np.asarray(estimator.dual_coef_)
    return net.op("MatMul", kernel, dual.reshape(len(dual), -1))


def _kernel(net: Net, estimator: Any, x: Columns, points: Any, gamma: float) -> str:
    """Return the kernel of each row with each point, (n, points)."""
    name, kind = type(estimator).__name__, estimator.kernel
    if not isinstance(points, np.ndarray):
        raise InputError(f"{name}: was trained on a sparse matrix; train it on a dense one (X.toarray())")
    require_few(estimator, points)
    if kind == "rbf":
        return net.op("Exp", net.op("Mul", squares(net, x.name, points), -gamma))
    products = net.op("MatMul", x.name, np.ascontiguousarray(points.T))
    if kind == "linear":
        return products
    if kind not in {"poly", "sigmoid"}:
        raise InputError(f"{name}: kernel {kind!r} can't be exported; rbf, linear, poly and sigmoid can")
    inner = net.op("Add", net.op("Mul", products, gamma), float(estimator.coef0))
    return net.op("Tanh", inner) if kind == "sigmoid" else net.op("Pow", inner, float(estimator.degree))


def squares(net: Net, x: str, points: Any) -> str:
    """Return squares of distances, (n, points)."""
    if points.shape[1] > _COLUMNS:
        own = net.sum(net.op("Mul", x, x))
        products = net.op("MatMul", x, -2.0 * np.ascontiguousarray(points.T))
        return net.op("Max", net.op("Add", net.op("Add", own, products), (points**2).sum(axis=1)), 0.0)
    parts = []
    for column in range(points.shape[1]):
        difference = net.op("Sub", net.columns(x, [column]), points[:, column])
        parts.append(net.op("Mul", difference, difference))
    return net.running_sum(parts)


def require_few(estimator: Any, points: Any) -> None:
    """Refuse a model that keeps more than a device can compare with."""
    if points.size > MOST:
        raise InputError(
            f"{type(estimator).__name__}: keeps {points.shape[0]:,} rows of {points.shape[1]:,} columns, and a device would compare each "
            f"message with all of them; up to {MOST:,} numbers can be exported: train on fewer rows, or train a forest"
        )


def _distances(net: Net, estimator: Any, x: Columns) -> tuple[str, bool]:
    """Return distances from all rows that the model keeps, (n, points), and whether these are squares."""
    name, points = type(estimator).__name__, estimator._fit_X  # noqa: SLF001 - nothing public has them
    if not isinstance(points, np.ndarray):
        raise InputError(f"{name}: was trained on a sparse matrix; train it on a dense one (X.toarray())")
    require_few(estimator, points)
    metric, p = estimator.effective_metric_, estimator.p
    if callable(estimator.weights):
        raise InputError(f"{name}: weights that are a function can't be exported; 'uniform' and 'distance' can")
    if metric == "euclidean":
        return squares(net, x.name, points), True
    if metric == "manhattan" or (metric == "minkowski" and p == 1):
        distances = net.running_sum(
            [
                net.op("Abs", net.op("Sub", net.columns(x.name, [column]), points[:, column]))
                for column in range(points.shape[1])
            ]
        )
        return distances, False
    raise InputError(f"{name}: metric {metric!r} can't be exported; euclidean and manhattan can")


def _nearest(net: Net, estimator: Any, x: Columns) -> tuple[str, str]:
    """Return distances and places of the nearest rows, (n, neighbours) each."""
    distances, squared = _distances(net, estimator, x)
    nearest, places = net.add_pair(
        "TopK", distances, net.constant([estimator.n_neighbors], np.int64), axis=1, largest=0, sorted=1
    )
    return (net.op("Sqrt", nearest) if squared else nearest), places


def _weights(net: Net, estimator: Any, nearest: str) -> str | None:
    """Return what each neighbour counts, (n, neighbours); None where all count the same."""
    if estimator.weights != "distance":
        return None
    here = net.number(net.op("Equal", nearest, 0.0))
    any_here = net.op("Greater", net.sum(here), 0.0)
    return net.op("Where", any_here, here, net.op("Div", 1.0, nearest))


def neighbours(net: Net, estimator: Any, x: Columns) -> Classified:
    """K nearest neighbours that vote."""
    if estimator.outputs_2d_:
        raise InputError("KNeighborsClassifier: answers several labels at once; train a model for each")
    nearest, places = _nearest(net, estimator, x)
    weights, labels = _weights(net, estimator, nearest), len(estimator.classes_)
    own = net.op("Gather", np.eye(labels)[np.asarray(estimator._y).ravel()], places)  # noqa: SLF001 - (n, neighbours, labels)
    if weights is not None:
        own = net.op("Mul", own, net.op("Unsqueeze", weights, np.array([2])))
    votes = net.op("ReduceSum", own, np.array([1]), keepdims=0)
    return Classified(net.largest(votes), net.shares(votes))


def neighbour_values(net: Net, estimator: Any, x: Columns) -> str:
    """K nearest neighbours, whose mean is the answer."""
    nearest, places = _nearest(net, estimator, x)
    weights = _weights(net, estimator, nearest)
    known = np.asarray(estimator._y, np.float64)  # noqa: SLF001 - nothing public has it
    own = net.op("Gather", known.reshape(len(known), -1), places)  # (n, neighbours, outputs)
    if weights is None:
        return net.op("Div", net.op("ReduceSum", own, np.array([1]), keepdims=0), float(estimator.n_neighbors))
    each = net.op("Mul", own, net.op("Unsqueeze", weights, np.array([2])))
    return net.op("Div", net.op("ReduceSum", each, np.array([1]), keepdims=0), net.sum(weights))


def _around(net: Net, estimator: Any, x: Columns) -> str:
    """Return what each of the rows that the model keeps counts, (n, points): 0 beyond the radius."""
    distances, squared = _distances(net, estimator, x)
    radius = float(estimator.radius)
    inside = net.op("LessOrEqual", distances, radius**2 if squared else radius)
    if estimator.weights != "distance":
        return net.number(inside)
    weights = _weights(net, estimator, net.op("Sqrt", distances) if squared else distances)
    return net.op("Where", inside, weights, 0.0)


def rows_around(net: Net, estimator: Any, x: Columns) -> Classified:
    """All rows within a radius vote; where there are none it is the label for outliers."""
    labels, outlier = estimator.classes_, estimator.outlier_label_
    if estimator.outputs_2d_:
        raise InputError("RadiusNeighborsClassifier: answers several labels at once; train a model for each")
    if outlier is None or outlier[0] not in list(labels):
        raise InputError(
            "RadiusNeighborsClassifier: has no answer where no row is within the radius; train it with outlier_label='most_frequent', "
            "or one of its labels"
        )
    known = np.eye(len(labels))[np.asarray(estimator._y).ravel()]  # noqa: SLF001 - (points, labels)
    votes = net.op("MatMul", _around(net, estimator, x), known)
    none = net.op("Equal", net.sum(votes), 0.0)
    votes = net.op("Where", none, (labels == outlier[0]).astype(np.float64)[np.newaxis], votes)
    return Classified(net.largest(votes), net.shares(votes))


def centroids(net: Net, estimator: Any, x: Columns) -> Classified:
    """The nearest centroid."""
    if estimator.metric != "euclidean":
        raise InputError(f"NearestCentroid: metric {estimator.metric!r} can't be exported; euclidean can")
    spread = getattr(estimator, "within_class_std_dev_", None)
    if spread is None:
        raise InputError("NearestCentroid: train it with scikit-learn 1.6 or later; an earlier one can't be exported")
    spread, centroids = np.where(spread == 0, 1.0, spread), np.asarray(estimator.centroids_)
    far = squares(net, net.op("Div", x.name, spread), centroids / spread)
    scores = net.op("Sub", 2.0 * np.log(estimator.class_prior_), far)
    if np.allclose(estimator.class_prior_, 1 / len(estimator.classes_)):  # as its `predict` asks
        index = net.op("ArgMin", squares(net, x.name, centroids), axis=1, keepdims=0)
        return Classified(index, net.softmax(scores))
    return Classified(net.largest(scores), net.softmax(scores))
