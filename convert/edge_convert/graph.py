"""Fitted scikit-learn classifier -> ONNX graph that answers exactly as scikit-learn does.

skl2onnx writes the graph, with a converter of our own for whatever is made of trees (`edge_convert.ensembles`). Here is what
holds for the whole file: what it is called, what goes in and out, which versions it asks for.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

from edge_agent.errors import InputError
from edge_convert.ensembles import write_ensemble
from edge_convert.fold import Folded
from edge_convert.trees import BOOSTED, FORESTS, SINGLE
from edge_convert.wording import first_line
from edge_convert.writer import Writer

INPUT: Final = "features"
LABEL: Final = "label"
PROBABILITIES: Final = "probabilities"

# What onnxruntime 1.21, the oldest supported, reads. IR 8 is the one that belongs to opset 17.
OPSETS: Final = {"": 17, "ai.onnx.ml": 3}
IR_VERSION: Final = 8


def build_graph(folded: Folded, labels: Sequence[str]) -> ModelProto:
    """Return the ONNX model of a fitted classifier: `features` (n, n_features) in, `label` (n,) string and
    `probabilities` (n, labels) float32 out.

    `features` are float32 or float64, as `folded` says. The same arguments give the same bytes. Raises
    `InputError` if skl2onnx has no converter for the estimator.
    """
    graph = _convert(folded, labels)
    outputs = [
        helper.make_tensor_value_info(LABEL, TensorProto.STRING, [None]),
        helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [None, len(labels)]),
    ]
    return assemble(folded, list(graph.node), outputs, graph.initializer)


def assemble(
    folded: Folded,
    nodes: Sequence[NodeProto],
    outputs: Sequence[ValueInfoProto],
    initializers: Sequence[TensorProto],
) -> ModelProto:
    """Return the model of these nodes, which take `features` as `folded` says."""
    takes = TensorProto.DOUBLE if folded.wide else TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            nodes,
            type(folded.estimator).__name__,  # skl2onnx draws a random name here
            [helper.make_tensor_value_info(INPUT, takes, [None, folded.n_features])],
            outputs,
            initializer=initializers,
        ),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
        ir_version=IR_VERSION,
        producer_name="edge-convert",
    )
    onnx.checker.check_model(model)
    return model


def assemble_outputs(folded: Folded, writer: Writer, outputs: Sequence[tuple[str, int, int | None]]) -> ModelProto:
    """Return the model of what `writer` holds; `outputs` are names, element types, and widths (None: one value a row)."""
    writer.prune([name for name, _, _ in outputs])
    return assemble(folded, writer.nodes, described(outputs), writer.initializers)


def described(outputs: Sequence[tuple[str, int, int | None]]) -> list[ValueInfoProto]:
    """Return outputs, as in `assemble_outputs`, as a graph has them."""
    return [
        helper.make_tensor_value_info(name, kind, [None] if width is None else [None, width])
        for name, kind, width in outputs
    ]


def _convert(folded: Folded, labels: Sequence[str]) -> GraphProto:
    """Let skl2onnx write the graph, with text labels whatever the estimator's own labels are."""
    trees, wide, name = folded.trees or [], folded.wide, type(folded.estimator).__name__
    named: Any = copy.deepcopy(folded.estimator)
    named.classes_ = np.array(labels, dtype=object)

    def write(_scope: Any, operator: Any, container: Any) -> None:
        write_ensemble(operator, container, trees, wide=wide)

    kind = DoubleTensorType if wide else FloatTensorType
    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about versions newer than skl2onnx knows; verify() judges the result
        try:
            model = convert_sklearn(
                named,
                initial_types=[(INPUT, kind([None, folded.n_features]))],
                options={"zipmap": False},
                target_opset=OPSETS,
                custom_conversion_functions=dict.fromkeys((*SINGLE, *FORESTS, *BOOSTED), write),
            )
        except Exception as error:
            raise InputError(f"skl2onnx can't convert {name}: {first_line(error)}") from error
    outputs = [output.type.tensor_type.elem_type for output in model.graph.output]
    if len(outputs) != 2 or outputs[0] != TensorProto.STRING:
        raise InputError(f"{name} does not give a label and probabilities, so it can't be exported")
    graph: GraphProto = model.graph
    return graph
