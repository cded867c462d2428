"""What a foreign graph itself says of its outputs: which labels there are, in which order, and which operator made a number.

Only what stands in the graph counts: the labels of a classifier or a ZipMap, a table that the place of the largest looks its label up in. Nothing
is inferred from answers here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from edge_convert.writer import needs

Labels = tuple[Any, ...]

#: What keeps the columns of a tensor where they are.
_PASSING: Final = frozenset(
    {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Normalizer", "Clip", "Softmax"}
)
_CLASSIFIERS: Final = {
    "ZipMap": ("classlabels_strings", "classlabels_int64s"),
    "TreeEnsembleClassifier": ("classlabels_strings", "classlabels_int64s"),
    "LinearClassifier": ("classlabels_strings", "classlabels_ints"),
    "SVMClassifier": ("classlabels_strings", "classlabels_ints"),
}
#: What a LabelEncoder makes of numbers; `classes_strings`, in the first version, of their places.
_VALUES: Final = ("values_strings", "values_int64s", "values_tensor")
_KEYS: Final = ("keys_int64s", "keys_tensor")


def made_by(graph: GraphProto, name: str) -> NodeProto | None:
    """Return the node that makes a tensor; None where it is an input or a constant."""
    return next((node for node in graph.node if name in node.output), None)


def zip_map_of(graph: GraphProto, output: str) -> NodeProto | None:
    """Return the ZipMap that an output comes from."""
    node = made_by(graph, output)
    while node is not None and node.op_type == "Identity":
        node = made_by(graph, node.input[0])
    return node if node is not None and node.op_type == "ZipMap" else None


def operator_behind(graph: GraphProto, output: str) -> str:
    """Return the operator that made the numbers of an output, apart from what only shapes or copies them; "" for none."""
    node = made_by(graph, output)
    while node is not None and node.op_type in _PASSING - {"Softmax", "Normalizer", "Clip"}:
        node = made_by(graph, node.input[0])
    return "" if node is None else node.op_type


def labels_of_columns(graph: GraphProto, output: str) -> Labels:
    """Return the labels that the columns of a tensor belong to; none where the graph does not tell."""
    node = made_by(graph, output)
    while node is not None:
        if node.op_type in _CLASSIFIERS:
            return _attribute(node, _CLASSIFIERS[node.op_type])
        if node.op_type not in _PASSING:
            return ()
        node = made_by(graph, node.input[0])
    return ()


def labels_of_answers(graph: GraphProto, output: str) -> Labels:
    """Return the labels that an output of labels can have, in the order of their numbers; none where the graph does not tell."""
    node = made_by(graph, output)
    while node is not None:
        if node.op_type in _CLASSIFIERS:
            return _attribute(node, _CLASSIFIERS[node.op_type])
        if node.op_type in {"ArrayFeatureExtractor", "Gather"}:
            return constant(graph, node.input[0])
        if node.op_type == "LabelEncoder":
            return _encoded(node)
        if node.op_type not in _PASSING:
            return ()
        node = made_by(graph, node.input[0])
    return ()


def constant(graph: GraphProto, name: str) -> Labels:
    """Return the whole numbers or texts of a constant; none where it is no such thing."""
    while (node := made_by(graph, name)) is not None and node.op_type == "Identity":
        name = node.input[0]
    if node is None:
        tensor = next((one for one in graph.initializer if one.name == name), None)
    else:
        tensor = next((one.t for one in node.attribute if (node.op_type, one.name) == ("Constant", "value")), None)
    return () if tensor is None else _listed(tensor)


def _listed(tensor: TensorProto) -> Labels:
    """Return the whole numbers or texts of a tensor; none where it holds others."""
    values = numpy_helper.to_array(tensor).ravel()
    if values.dtype.kind in "iu":
        return tuple(map(int, values))
    if values.dtype.kind in "OSU":
        return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in values)
    return ()


def depends_on(graph: GraphProto, output: str, inputs: Sequence[str]) -> bool:
    """Return whether an output has anything to do with one of the inputs."""
    makers = {name: node for node in graph.node for name in node.output}
    seen, waiting = set[str](), [output]
    while waiting:
        name = waiting.pop()
        if name in inputs:
            return True
        if name not in seen and name in makers:
            seen.add(name)
            waiting += needs(makers[name])
    return False


def _encoded(node: NodeProto) -> Labels:
    """Return what a LabelEncoder makes of 0, 1, 2, ...; none where it takes anything else."""
    values = _attribute(node, _VALUES)
    if not values:
        return _attribute(node, ("classes_strings",))
    table = dict(zip(_attribute(node, _KEYS), values, strict=False))
    if set(table) != set(range(len(values))):
        return ()
    return tuple(table[key] for key in range(len(values)))


def _attribute(node: NodeProto, names: Sequence[str]) -> Labels:
    for attribute in node.attribute:
        values = helper.get_attribute_value(attribute) if attribute.name in names else None
        if isinstance(values, TensorProto):
            return _listed(values)
        if values:
            return tuple(value.decode() if isinstance(value, bytes) else int(value) for value in values)
    return ()
