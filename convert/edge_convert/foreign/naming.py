"""What a foreign graph itself says of its outputs: which labels there are, in which order, and which operator made a number.

Only what stands in the graph counts: the labels of a classifier or a ZipMap, a table that the place of the largest looks its label up in. Nothing
is inferred from answers here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from onnx import NodeProto, TensorProto, helper, numpy_helper

from edge_convert.foreign.wiring import Wiring

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


def zip_map_of(wiring: Wiring, output: str) -> NodeProto | None:
    """Return the ZipMap that an output comes from."""
    node = wiring.made_by(output)
    while node is not None and node.op_type == "Identity":
        node = wiring.made_by(node.input[0])
    return node if node is not None and node.op_type == "ZipMap" else None


def operator_behind(wiring: Wiring, output: str) -> str:
    """Return the operator that made the numbers of an output, apart from what only shapes or copies them; "" for none."""
    node = wiring.made_by(output)
    while node is not None and node.op_type in _PASSING - {"Softmax", "Normalizer", "Clip"}:
        node = wiring.made_by(node.input[0])
    return "" if node is None else node.op_type


def labels_of_columns(wiring: Wiring, output: str) -> Labels:
    """Return the labels that the columns of a tensor belong to; none where the graph does not tell."""
    node = wiring.made_by(output)
    while node is not None:
        if node.op_type in _CLASSIFIERS:
            return _attribute(node, _CLASSIFIERS[node.op_type])
        if node.op_type not in _PASSING:
            return ()
        node = wiring.made_by(node.input[0])
    return ()


def labels_of_answers(wiring: Wiring, output: str) -> Labels:
    """Return the labels that an output of labels can have, in the order of their numbers; none where the graph does not tell."""
    node = wiring.made_by(output)
    while node is not None:
        if node.op_type in _CLASSIFIERS:
            return _attribute(node, _CLASSIFIERS[node.op_type])
        if node.op_type in {"ArrayFeatureExtractor", "Gather"}:
            return constant(wiring, node.input[0])
        if node.op_type == "LabelEncoder":
            return _encoded(node)
        if node.op_type not in _PASSING:
            return ()
        node = wiring.made_by(node.input[0])
    return ()


def constant(wiring: Wiring, name: str) -> Labels:
    """Return the whole numbers or texts of a constant; none where it is no such thing."""
    tensor = wiring.constant(name)
    return () if tensor is None else _listed(tensor)


def column_of(wiring: Wiring, output: str) -> tuple[str, int] | None:
    """Return of which tensor (n, k) an output is one column, and which; None where the graph does not tell."""
    node = wiring.made_by(output)
    while node is not None and node.op_type in {"Identity", "Reshape", "Squeeze", "Flatten"}:
        node = wiring.made_by(node.input[0])
    if node is None or node.op_type not in {"Slice", "ArrayFeatureExtractor"}:
        return None
    numbers = [constant(wiring, name) for name in node.input[1:]]
    if node.op_type == "ArrayFeatureExtractor":
        places = numbers[0]
    else:
        begin, end, *axis = numbers
        places = begin if axis == [(1,)] and [place + 1 for place in begin] == list(end) else ()
    return (node.input[0], places[0]) if len(places) == 1 else None


def _listed(tensor: TensorProto) -> Labels:
    """Return the whole numbers or texts of a tensor; none where it holds others."""
    values = numpy_helper.to_array(tensor).ravel()
    if values.dtype.kind in "iu":
        return tuple(map(int, values))
    if values.dtype.kind in "OSU":
        return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in values)
    return ()


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
