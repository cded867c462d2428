"""The graph of a model that is not trees alone: written by `edge_convert.families`, in float64 throughout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto

from edge_agent.errors import InputError
from edge_convert.families.net import Columns, Net
from edge_convert.families.registry import REGISTRY
from edge_convert.fold import Folded
from edge_convert.graph import INPUT, LABEL, PROBABILITIES, assemble_outputs


def classifier_graph(folded: Folded, labels: Sequence[str], *, bare: bool) -> ModelProto:
    """Return the model of a classifier: `label` (n,) and, unless it is `bare`, `probabilities` (n, labels) float32."""
    net = Net(REGISTRY)
    said = net.classify(folded.estimator, Columns(INPUT, folded.words))
    net.add("Gather", net.texts(labels), said.place, output=LABEL)
    outputs: list[tuple[str, int, int | None]] = [(LABEL, TensorProto.STRING, None)]
    if not bare:
        if said.probabilities is None:
            raise InputError(f"{type(folded.estimator).__name__}: its probabilities can't be exported")
        net.add("Cast", said.probabilities, output=PROBABILITIES, to=TensorProto.FLOAT)
        outputs.append((PROBABILITIES, TensorProto.FLOAT, len(labels)))
    return assemble_outputs(folded, net, outputs)


def regressor_graph(folded: Folded, output: str, width: int) -> ModelProto:
    """Return the model of a regressor: `output` (n, width) float64."""
    net = Net(REGISTRY)
    values = net.estimate(folded.estimator, Columns(INPUT, folded.words))
    net.op("Reshape", values, np.array([-1, width]), output=output)
    return assemble_outputs(folded, net, [(output, TensorProto.DOUBLE, width)])
