"""The new graph: the foreign nodes as they are, with names of their own, between what the agent sends and what it expects.

    features -> the original's inputs -> its nodes, without ZipMap -> label and probabilities, or values

What is added is exact: columns are chosen and cast, labels looked up. A softmax is computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from edge_agent.errors import InputError
from edge_convert.foreign.feeding import takes_float64, write_feed
from edge_convert.foreign.meaning import Meaning
from edge_convert.foreign.naming import zip_map_of
from edge_convert.foreign.reading import NEWEST_IR, Original
from edge_convert.foreign.scores import LABELS, NUMBERS, PROBABILITIES
from edge_convert.graph import INPUT, IR_VERSION, LABEL, described
from edge_convert.graph import PROBABILITIES as PROBABILITIES_OUT
from edge_convert.wording import first_line
from edge_convert.words import Words
from edge_convert.writer import Writer, needs

VALUES: Final = "values"
_THEIRS: Final = "theirs/"


def graph_of(original: Original, meaning: Meaning, n_features: int, words: Mapping[int, Words]) -> ModelProto:
    """Return the ONNX model around an original that takes `n_features` columns, some of `words`. Raises `InputError` where onnx refuses it."""
    writer = Writer()
    names = write_feed(writer, original.sources, INPUT, n_features, words)
    graph, asked = original.graph, meaning.asked
    label, numbers = asked.label, asked.numbers
    if numbers is not None and asked.zipped and (zipping := zip_map_of(original.wiring, numbers)) is not None:
        numbers = zipping.input[0]
    writer.nodes += [_renamed(node, names) for node in graph.node]
    writer.initializers += [_copied(one, _name(one.name, names)) for one in graph.initializer]
    outputs = _write_answers(writer, meaning, _name(label, names), _name(numbers, names))
    writer.prune([name for name, _, _ in outputs])
    used = {name for node in writer.nodes for name in needs(node)}
    sparse = [_copied_sparse(one, _name(one.values.name, names)) for one in graph.sparse_initializer]
    built = helper.make_graph(
        writer.nodes,
        "foreign",
        [
            helper.make_tensor_value_info(
                INPUT, TensorProto.DOUBLE if takes_float64(original.sources) else TensorProto.FLOAT, [None, n_features]
            )
        ],
        described(outputs),
        initializer=writer.initializers,
        sparse_initializer=[one for one in sparse if one.values.name in used],
    )
    opsets = list(original.model.opset_import)
    least = helper.find_min_ir_version_for(opsets, ignore_unknown=True)
    model = helper.make_model(
        built, opset_imports=opsets, ir_version=min(NEWEST_IR, max(IR_VERSION, least)), producer_name="edge-convert"
    )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise InputError(f"{original.path}: is not a sound ONNX graph: {first_line(error)[:300]}") from error
    return model


def _write_answers(writer: Writer, meaning: Meaning, label: str, numbers: str) -> list[tuple[str, int, int | None]]:
    """Write the outputs; return their names, element types and widths (None: one value a row)."""
    width, how = meaning.width, meaning.how
    if numbers:
        numbers = writer.add("Reshape", numbers, writer.constant([-1, width], np.int64))
    if how == NUMBERS:
        writer.add("Cast", numbers, to=TensorProto.DOUBLE, output=VALUES)
        return [(VALUES, TensorProto.DOUBLE, width)]
    if label:
        place = _write_place(writer, meaning, label)
    elif width > 1:
        place = writer.add("ArgMax", writer.add("Cast", numbers, to=TensorProto.DOUBLE), axis=1, keepdims=0)
    else:
        half = writer.constant(0.5 if how == PROBABILITIES else 0.0, np.float64)
        second = writer.add("Greater", writer.add("Cast", numbers, to=TensorProto.DOUBLE), half)
        place = writer.add("Cast", writer.add("Reshape", second, writer.constant([-1], np.int64)), to=TensorProto.INT64)
    found: list[tuple[str, int, int | None]] = [(LABEL, TensorProto.STRING, None)]
    if place:
        writer.add("Gather", writer.texts(meaning.names), place, axis=0, output=LABEL)
    else:
        writer.add("Reshape", label, writer.constant([-1], np.int64), output=LABEL)
    if how == LABELS:
        return found
    _write_probabilities(writer, meaning, numbers)
    return [*found, (PROBABILITIES_OUT, TensorProto.FLOAT, len(meaning.names))]


def _write_place(writer: Writer, meaning: Meaning, label: str) -> str:
    """Write the place of a label's number among the classes, (n,); return "" where labels are text already."""
    if isinstance(meaning.classes[0], str):
        return ""
    column = writer.add("Reshape", writer.add("Cast", label, to=TensorProto.INT64), writer.constant([-1, 1], np.int64))
    same = writer.add("Equal", column, writer.constant([list(meaning.classes)], np.int64))
    return writer.add("ArgMax", writer.add("Cast", same, to=TensorProto.INT32), axis=1, keepdims=0)


def _write_probabilities(writer: Writer, meaning: Meaning, numbers: str) -> None:
    if meaning.how != PROBABILITIES:
        logits = writer.add("Cast", numbers, to=TensorProto.DOUBLE)
        if meaning.width == 1:
            logits = writer.add("Concat", writer.add("Mul", logits, writer.constant([0], np.float64)), logits, axis=1)
        numbers = writer.add("Softmax", logits, axis=1)
    elif meaning.width == 1:
        second = writer.add("Cast", numbers, to=TensorProto.FLOAT)
        numbers = writer.add("Concat", writer.add("Sub", writer.constant([1], np.float32), second), second, axis=1)
    writer.add("Cast", numbers, to=TensorProto.FLOAT, output=PROBABILITIES_OUT)


def _name(name: str | None, names: Mapping[str, str]) -> str:
    """Return what a tensor of theirs is called here: as what takes the place of an input, or with a prefix; "" for none."""
    return names.get(name, f"{_THEIRS}{name}") if name else ""


def _renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """Return a node with the names that its tensors have here, in graphs inside of it as well."""
    new = NodeProto()
    new.CopyFrom(node)
    new.name = _name(node.name, {})
    new.input[:] = [_name(one, names) for one in node.input]
    new.output[:] = [_name(one, names) for one in node.output]
    for attribute in new.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            _rename_inside(graph, names)
    return new


def _rename_inside(graph: GraphProto, names: Mapping[str, str]) -> None:
    inner = [_renamed(node, names) for node in graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(inner)
    for tensor in graph.initializer:
        tensor.name = _name(tensor.name, names)
    for sparse in graph.sparse_initializer:
        sparse.values.name = _name(sparse.values.name, names)
    for entry in (*graph.input, *graph.output):
        entry.name = _name(entry.name, names)


def _copied(tensor: TensorProto, name: str) -> TensorProto:
    new = TensorProto()
    new.CopyFrom(tensor)
    new.name = name
    return new


def _copied_sparse(sparse: onnx.SparseTensorProto, name: str) -> onnx.SparseTensorProto:
    new = onnx.SparseTensorProto()
    new.CopyFrom(sparse)
    new.values.name = name
    return new
