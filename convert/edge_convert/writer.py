"""Nodes and constants of a graph, each with a name of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper


class Writer:
    """Writes nodes with names of their own, so that two parts of a model never ask for the same one."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []

    def constant(self, value: Any, kind: Any) -> str:
        """Add a constant; return its name."""
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def texts(self, values: Sequence[str]) -> str:
        """Add a constant of texts (k,); return its name."""
        return self.constant(list(values), object)

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"make_{name}", **attributes))
        return name

    def add_pair(self, operator: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """Add a node with two outputs; return their names."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        names = (f"{name}_values", f"{name}_places")
        self.nodes.append(helper.make_node(operator, list(inputs), list(names), name=f"make_{name}", **attributes))
        return names

    def prune(self, outputs: Sequence[str]) -> None:
        """Drop what none of `outputs` depends on."""
        needed, kept = set(outputs), list[NodeProto]()
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(needs(node))
                kept.append(node)
        self.nodes = kept[::-1]
        self.initializers = [one for one in self.initializers if one.name in needed]


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Return the graphs inside a node, not those inside of these."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def needs(node: NodeProto) -> list[str]:
    """Return the tensors that a node takes, also those that graphs inside of it may take from outside."""
    inner = [name for graph in subgraphs(node) for one in graph.node for name in needs(one)]
    outer = [output.name for graph in subgraphs(node) for output in graph.output]
    return [*filter(None, node.input), *inner, *outer]
