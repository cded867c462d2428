"""The converter for whatever is made of trees: what skl2onnx would round is kept exact here.

"Almost the same" shows up as another label on rows that lie on a threshold or near a tie. So the rules, each held by
`edge_convert.verify` on a million rows:

* One tree stays float32 throughout, unless scalers are folded into it (`edge_convert.fold`). A threshold is the largest float32 at or below scikit-learn's: for float32 input
  that is the same question. Leaves keep their label: where rounding to float32 would make a tie or break one, the
  winning probability moves by one float32 step.
* Ensembles compare and add up in float64, as scikit-learn does, in the same order; forests divide at the end, not at the start.
* onnxruntime decides between two labels by `sum > 0.5`, scikit-learn by comparing two sums that were each rounded. So a
  two-label forest carries a third label that no leaf votes for, which makes onnxruntime compare sums, too.
* A missing value goes where scikit-learn sends it, node by node (skl2onnx drops that: sklearn-onnx#1253). A model that was
  trained without any has no such branches, and the agent lets none in.

The attributes are those of `TreeEnsembleClassifier` in ai.onnx.ml opset 3, where float64 lives in `*_as_tensor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from skl2onnx.common.data_types import DoubleTensorType

from edge_agent.errors import InputError
from edge_convert.trees import BOOSTED, FORESTS, SINGLE, Tree, depth_of, float32_floor

#: onnxruntime 1.21 and 1.32 take 10,000 levels with a stack of 8 MiB, and not 20,000.
MOST_DEPTH: Final = 4_000
_NOBODY: Final = "(nobody)"


def write_ensemble(operator: Any, container: Any, trees: Sequence[Tree], *, wide: bool = False) -> None:
    """Write one fitted tree, forest or boosting model into a graph: a converter in skl2onnx's sense.

    `operator` names the tensors and holds the estimator; its input is float32, or float64 inside a float64 graph.
    `trees` are the estimator's, possibly with other thresholds: `wide` tells that these are to be compared with the float64
    input as it is. `container` receives the nodes.
    """
    estimator = operator.raw_operator
    labels = [str(label) for label in estimator.classes_]
    source, outputs = operator.inputs[0].full_name, [output.full_name for output in operator.outputs]
    # scikit-learn's trees and forests round what they are handed to float32, boosting does not.
    wide = wide or (isinstance(operator.inputs[0].type, DoubleTensorType) and isinstance(estimator, BOOSTED))
    if not wide and isinstance(operator.inputs[0].type, DoubleTensorType):
        source = _cast(container, source, TensorProto.FLOAT)
    if isinstance(estimator, SINGLE):
        _write_tree(container, trees[0], labels, source, outputs, wide=wide)
        return
    if not wide:
        source = _cast(container, source, TensorProto.DOUBLE)
    if isinstance(estimator, FORESTS):
        _write_forest(container, trees, labels, source, outputs)
    else:
        _write_boosting(container, trees, labels, source, outputs, baseline=baseline_of(estimator))


def baseline_of(estimator: Any) -> NDArray[np.float64]:
    """Return the scores (scores,) that histogram gradient boosting begins with."""
    return np.asarray(estimator._baseline_prediction, dtype=np.float64).ravel()  # noqa: SLF001 - skl2onnx reads it, too


def _write_tree(container: Any, tree: Tree, labels: list[str], source: str, outputs: list[str], *, wide: bool) -> None:
    leaves = tree.values[tree.is_leaf]
    weights = keep_winner(leaves)
    if len(labels) == 2:  # then onnxruntime takes the second label's column alone
        weights = weights[:, 1:]
    numbers: dict[str, Any] = (
        {
            "nodes_values_as_tensor": _tensor(_thresholds([tree])),
            "class_weights_as_tensor": _tensor(weights.ravel().astype(np.float64)),
        }
        if wide
        else {
            "nodes_values": float32_floor(_thresholds([tree])).tolist(),
            "class_weights": weights.ravel().tolist(),
        }
    )
    _add(
        container,
        source,
        outputs,
        **structure_of([tree]),
        **_leaves([tree], range(weights.shape[1])),
        **numbers,
        classlabels_strings=labels,
        post_transform="NONE",
    )


def _write_forest(container: Any, trees: Sequence[Tree], labels: list[str], source: str, outputs: list[str]) -> None:
    label, probabilities = outputs
    votes = "votes"
    _add(
        container,
        source,
        [label, votes],
        **structure_of(trees),
        **_leaves(trees, range(len(labels))),
        **_float64(trees),
        classlabels_strings=[*labels, _NOBODY] if len(labels) == 2 else labels,
        post_transform="NONE",
    )
    if len(labels) == 2:
        for name, value in (("first", 0), ("end", 2), ("axis", 1)):
            container.add_initializer(name, TensorProto.INT64, [1], [value])
        container.add_node(
            "Slice", [votes, "first", "end", "axis"], ["votes_for_labels"], name="drop_nobody", op_version=13
        )
        votes = "votes_for_labels"
    container.add_initializer("trees", TensorProto.FLOAT, [1], [float(len(trees))])
    container.add_node("Div", [votes, "trees"], [probabilities], name="mean", op_version=14)


def _write_boosting(
    container: Any,
    trees: Sequence[Tree],
    labels: list[str],
    source: str,
    outputs: list[str],
    *,
    baseline: NDArray[np.float64],
) -> None:
    # One raw score per label, except that two labels share one; iteration after iteration, label after label.
    scores = len(baseline)
    _add(
        container,
        source,
        outputs,
        **structure_of(trees),
        **{**_leaves(trees, [0]), "class_ids": [i % scores for i, tree in enumerate(trees) for _ in _leaf_nodes(tree)]},
        **_float64(trees),
        base_values_as_tensor=_tensor(baseline),
        classlabels_strings=labels,
        post_transform="LOGISTIC" if scores == 1 else "SOFTMAX",
    )


def keep_winner(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round (n, labels) to float32 so that onnxruntime finds the same winner in each row: the first of the largest.

    Rounding can make a tie but never reverse an order, so lifting the winner by one step is enough. With two labels
    onnxruntime only asks whether the second is above 0.5.
    """
    rounded = probabilities.astype(np.float32)
    rows, winner = np.arange(len(rounded)), probabilities.argmax(axis=1)
    if rounded.shape[1] == 2:
        half = np.float32(0.5)
        second = rounded[:, 1]
        rounded[:, 1] = np.where(
            winner == 1, np.maximum(second, np.nextafter(half, np.float32(1))), np.minimum(second, half)
        )
        return rounded
    lost = rounded.argmax(axis=1) != winner
    rounded[rows[lost], winner[lost]] = np.nextafter(rounded[rows[lost], winner[lost]], np.float32(2))
    return rounded


def structure_of(trees: Sequence[Tree]) -> dict[str, list[Any]]:
    """Return who asks about which feature and where the answers lead, node by node, tree by tree."""

    def branch(name: str) -> list[int]:
        return [int(value) for tree in trees for value in np.where(tree.is_leaf, 0, getattr(tree, name))]

    require_shallow(trees)
    structure: dict[str, list[Any]] = {
        "nodes_treeids": [number for number, tree in enumerate(trees) for _ in tree.feature],
        "nodes_nodeids": [node for tree in trees for node in range(len(tree.feature))],
        "nodes_featureids": branch("feature"),
        "nodes_truenodeids": branch("left"),
        "nodes_falsenodeids": branch("right"),
        "nodes_modes": ["LEAF" if leaf else "BRANCH_LEQ" for tree in trees for leaf in tree.is_leaf],
    }
    if all(tree.missing_left is not None for tree in trees):
        structure["nodes_missing_value_tracks_true"] = branch("missing_left")
    return structure


def require_shallow(trees: Sequence[Tree]) -> None:
    """Raise `InputError` for a tree that onnxruntime would end the process over: it builds trees by recursion."""
    deepest = max(depth_of(tree) for tree in trees)
    if deepest > MOST_DEPTH:
        raise InputError(
            f"a tree is {deepest:,} levels deep, and onnxruntime ends with a stack overflow somewhere above {MOST_DEPTH:,}; limit it with "
            "max_depth or min_samples_leaf"
        )


def _leaves(trees: Sequence[Tree], columns: Sequence[int]) -> dict[str, list[int]]:
    """Which leaf of which tree adds to which column."""
    places = [(number, node) for number, tree in enumerate(trees) for node in _leaf_nodes(tree)]
    return {
        "class_treeids": [number for number, _ in places for _ in columns],
        "class_nodeids": [node for _, node in places for _ in columns],
        "class_ids": list(columns) * len(places),
    }


def _leaf_nodes(tree: Tree) -> list[int]:
    return [int(node) for node in np.flatnonzero(tree.is_leaf)]


def _float64(trees: Sequence[Tree]) -> dict[str, TensorProto]:
    return {
        "nodes_values_as_tensor": _tensor(_thresholds(trees)),
        "class_weights_as_tensor": _tensor(np.concatenate([tree.values[tree.is_leaf].ravel() for tree in trees])),
    }


def _thresholds(trees: Sequence[Tree]) -> NDArray[np.float64]:
    # What a leaf would ask is whatever was in memory when scikit-learn grew it.
    return np.concatenate([np.where(tree.is_leaf, 0.0, tree.threshold) for tree in trees])


def _tensor(values: NDArray[np.float64]) -> TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float64), "")


def _cast(container: Any, source: str, to: int) -> str:
    target = f"{source}_{TensorProto.DataType.Name(to).lower()}"
    container.add_node("Cast", [source], [target], name=f"cast_{target}", op_version=13, to=to)
    return target


def _add(container: Any, source: str, outputs: list[str], **attributes: Any) -> None:
    container.add_node(
        "TreeEnsembleClassifier", [source], outputs, op_domain="ai.onnx.ml", op_version=3, name="trees", **attributes
    )
