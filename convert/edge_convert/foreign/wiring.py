"""Which node of a foreign graph makes which tensor, looked up by name: graphs of strangers have any number of nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from onnx import GraphProto, NodeProto, TensorProto

from edge_convert.writer import needs


class Wiring:
    """What leads to what in a graph."""

    def __init__(self, graph: GraphProto) -> None:
        self._nodes = graph.node
        self._makers = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}

    def made_by(self, name: str) -> NodeProto | None:
        """Return the node that makes a tensor; None where it is an input or a constant."""
        return self._makers.get(name)

    def constant(self, name: str) -> TensorProto | None:
        """Return a constant, of the graph or of a node; None where a tensor is no such thing."""
        while (node := self.made_by(name)) is not None and node.op_type == "Identity":
            name = node.input[0]
        if node is None:
            return self._constants.get(name)
        return next((one.t for one in node.attribute if (node.op_type, one.name) == ("Constant", "value")), None)

    def depending_on(self, inputs: Iterable[str]) -> frozenset[str]:
        """Return the tensors that have anything to do with one of the inputs, these too."""
        takers = defaultdict[str, list[NodeProto]](list)
        for node in self._nodes:
            for name in needs(node):
                takers[name].append(node)
        found = set(inputs)
        waiting = list(found)
        while waiting:
            made = {name for node in takers.get(waiting.pop(), ()) for name in node.output} - found
            found |= made
            waiting += made
        return frozenset(found)
