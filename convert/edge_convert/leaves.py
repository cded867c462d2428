"""The graph of models that add up the values of leaves: regressions, and isolation forests.

ONNX's own TreeEnsembleRegressor returns float32, which is no number of a meter that counts to 1,654,733,331. So here it only tells
which leaf of each tree a row ends in, a small whole number; the rest is float64, in scikit-learn's own order:

    features -> leaves (n, trees) -> values of these leaves -> their sum, one tree after the other -> values (n, outputs)

A sum that begins with a number has one column more, before those of the trees: no tree writes to it, so it is 0, the first row of
the table of values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from sklearn.ensemble import GradientBoostingRegressor, IsolationForest
from sklearn.ensemble._iforest import _average_path_length

from edge_agent.errors import InputError
from edge_convert.ensembles import structure_of
from edge_convert.graph import INPUT
from edge_convert.trees import BOOSTED_REGRESSORS, FOREST_REGRESSORS, Tree, float32_floor
from edge_convert.writer import Writer

#: Leaves of one tree that float32 can number one by one.
_MOST_LEAVES: Final = 1 << 24


@dataclass(frozen=True)
class Sum:
    """What becomes of the leaves' values (trees, k): they are added to `first` (k,) if there is one, and divided by `count`."""

    first: NDArray[np.float64] | None = None
    count: float = 1.0
    exponential: bool = False


def sum_of(estimator: Any) -> Sum:
    """Return how a fitted estimator makes its answer of its trees. Raises `InputError` for what can't be written."""
    name = type(estimator).__name__
    if isinstance(estimator, FOREST_REGRESSORS):
        return Sum(count=float(len(estimator.estimators_)))
    if isinstance(estimator, BOOSTED_REGRESSORS):
        link = type(estimator._loss.link).__name__  # noqa: SLF001 - nothing public tells it
        if link not in {"IdentityLink", "LogLink"}:
            raise InputError(f"{name}: loss {estimator.loss!r} can't be exported")
        first = np.asarray(estimator._baseline_prediction, np.float64).ravel()  # noqa: SLF001 - as in `ensembles`
        return Sum(first, exponential=link == "LogLink")
    if isinstance(estimator, GradientBoostingRegressor):
        if estimator.init_ == "zero":
            return Sum(np.zeros(1))
        return Sum(np.asarray(estimator.init_.constant_, np.float64).ravel())
    return Sum()


def expected_length(estimator: IsolationForest, trees: Sequence[Tree]) -> float:
    """Return the path length, of all trees together, at which an isolation forest scores 0.5."""
    return float(len(trees) * _average_path_length([estimator._max_samples])[0])  # noqa: SLF001 - as `score_samples` does


def write_sum(writer: Writer, trees: Sequence[Tree], how: Sum, *, wide: bool, source: str = INPUT) -> str:
    """Write the sum of the leaves' values; return the name of the tensor (n, k), float64. `wide` tells that `source` is float64."""
    begun = 0 if how.first is None else 1
    columns = begun + len(trees)
    tables = ([] if how.first is None else [how.first[np.newaxis]]) + [tree.values[tree.is_leaf] for tree in trees]
    leaves = write_leaves(writer, trees, range(begun, columns), columns, wide=wide, source=source)
    values = write_values(writer, leaves, tables, np.float64)  # (n, columns, k)
    total = write_total(writer, values, columns, axis=1)
    if how.count != 1:
        total = writer.add("Div", total, writer.constant(how.count, np.float64))
    return writer.add("Exp", total) if how.exponential else total


def write_values(
    writer: Writer, leaves: str, tables: Sequence[NDArray[np.float64]], kind: type[np.floating[Any]]
) -> str:
    """Write the values, of `kind`, of `leaves` (n, tables), each counted within its own table (leaves,) or (leaves, k)."""
    places = writer.add("Cast", leaves, to=TensorProto.INT64)
    if len(tables) > 1:
        offsets = np.cumsum([0, *(len(table) for table in tables[:-1])])
        places = writer.add("Add", places, writer.constant(offsets[np.newaxis], np.int64))
    return writer.add("Gather", writer.constant(np.concatenate(tables), kind), places, axis=0)


def write_total(writer: Writer, values: str, columns: int, *, axis: int) -> str:
    """Write the sum of `values` along an axis of so many columns, one after the other."""
    if columns > 1:
        values = writer.add("CumSum", values, writer.constant(axis, np.int64))
    return writer.add("Gather", values, writer.constant(columns - 1, np.int64), axis=axis)


def write_leaves(
    writer: Writer, trees: Sequence[Tree], targets: Sequence[int], columns: int, *, wide: bool, source: str = INPUT
) -> str:
    """Write which leaf of each tree a row ends in, counted from 0 in the order of the tree's nodes, each tree into the column
    (of n, columns) that `targets` has for it; return the name of the tensor.
    """
    if all(tree.is_leaf.all() for tree in trees):
        # Each tree has one leaf, its first; onnxruntime 1.21 takes no such ensemble.
        rows = writer.add("Shape", source, start=0, end=1)
        shape = writer.add("Concat", rows, writer.constant([columns], np.int64), axis=0)
        return writer.add("ConstantOfShape", shape, value=numpy_helper.from_array(np.zeros(1, np.float32)))
    leaves = [np.flatnonzero(tree.is_leaf) for tree in trees]
    if max(map(len, leaves)) > _MOST_LEAVES:
        raise InputError(f"a tree has more than {_MOST_LEAVES:,} leaves; limit them with max_leaf_nodes or max_depth")
    thresholds = np.concatenate([np.where(tree.is_leaf, 0.0, tree.threshold) for tree in trees])
    weights = np.concatenate([np.arange(len(ends), dtype=np.float64) for ends in leaves])
    numbers: dict[str, Any] = (
        {
            "nodes_values_as_tensor": numpy_helper.from_array(thresholds, ""),
            "target_weights_as_tensor": numpy_helper.from_array(weights, ""),
        }
        if wide
        # For float32, `x <= threshold` and `x <= float32_floor(threshold)` are the same question.
        else {"nodes_values": float32_floor(thresholds).tolist(), "target_weights": weights.tolist()}
    )
    return writer.add(
        "TreeEnsembleRegressor",
        source,
        domain="ai.onnx.ml",
        **dict[str, Any](structure_of(trees)),
        **numbers,
        n_targets=columns,
        target_treeids=[number for number, ends in enumerate(leaves) for _ in ends],
        target_nodeids=[int(node) for ends in leaves for node in ends],
        target_ids=[target for target, ends in zip(targets, leaves, strict=True) for _ in ends],
        aggregate_function="SUM",
        post_transform="NONE",
    )
