"""ONNX files of others, built here, tables for them, and how a new file is compared with the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from edge_convert.fold import fold
from edge_convert.foreign.case import Hints
from edge_convert.foreign.model import Foreign, Opened
from edge_convert.foreign.reading import read
from edge_convert.reference import Reference
from edge_convert.tables import DataFile, Table
from edge_convert.tasks import task_of
from edge_convert.verify import verify
from edge_convert.words import Words
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris

ROWS = 8_000
IRIS, SPECIES = load_iris(return_X_y=True)
NAMES = load_iris().target_names
TEXTS = NAMES[SPECIES]
SIZES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
Floats = NDArray[np.float64]


def table_of(
    X: Floats = IRIS,
    labels: Any = TEXTS,
    names: Sequence[str] = SIZES,
    *,
    words: Mapping[str, Words] | None = None,
    others: dict[str, Any] | None = None,
) -> Table:
    """A table as it was read; `labels` None for one without a target."""
    return Table(
        feature_names=tuple(names),
        X=np.asarray(X, np.float64),
        labels=None if labels is None else np.asarray(labels).astype(str),
        ids=None,
        row_names=[f"row {row + 2}" for row in range(len(X))],
        label_column="" if labels is None else "species",
        sources=(DataFile(Path("table.csv"), "0" * 64, "plain"),),
        words=dict(words or {}),
        others=others or {},
    )


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, int, Sequence[Any]]],
    outputs: Sequence[tuple[str, int, Sequence[Any]]],
    constants: dict[str, Any] | None = None,
    *,
    opset: int = 17,
    ir_version: int = 8,
    producer: str = "pytorch",
) -> ModelProto:
    """A file of some other tool: tensors with name, element type and shape."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "main_graph",
            [helper.make_tensor_value_info(*one) for one in inputs],
            [helper.make_tensor_value_info(*one) for one in outputs],
            initializer=[numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
        ),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=ir_version,
        producer_name=producer,
        producer_version="2.4.0",
    )


def net(
    k: int = 3, last: str = "", *, n_features: int = 4, batch: Any = "batch", seed: int = 0, **options: Any
) -> ModelProto:
    """A small network as torch.onnx.export writes it: Gemm, Relu, Gemm, and what comes `last` ("" for logits)."""
    rng = np.random.default_rng(seed)
    centre, wide = IRIS.mean(axis=0)[:n_features], 8
    first = rng.normal(size=(wide, n_features)).astype(np.float32)
    constants = {
        "fc1.weight": first,
        "fc1.bias": (-first @ centre).astype(np.float32),
        "fc2.weight": rng.normal(size=(k, wide)).astype(np.float32),
        "fc2.bias": rng.normal(size=k).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["input", "fc1.weight", "fc1.bias"], ["/fc1/Gemm_output_0"], transB=1),
        helper.make_node("Relu", ["/fc1/Gemm_output_0"], ["/Relu_output_0"]),
        helper.make_node(
            "Gemm", ["/Relu_output_0", "fc2.weight", "fc2.bias"], ["logits" if last else "output"], transB=1
        ),
    ]
    if last:
        attributes: dict[str, Any] = {"axis": 1} if last == "Softmax" else {}
        nodes.append(helper.make_node(last, ["logits"], ["output"], **attributes))
    return graph(
        nodes,
        [("input", TensorProto.FLOAT, [batch, n_features])],
        [("output", TensorProto.FLOAT, [batch, k])],
        constants,
        **options,
    )


def saved(model: ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "theirs.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def settled(model: ModelProto, tmp_path: Path, table: Table, **hints: Any) -> Foreign:
    """Open a file, in this process, and settle with a table what it means."""
    return Opened(read(saved(model, tmp_path))).settled(table, Hints(**hints))


def require_same(model: ModelProto, tmp_path: Path, table: Table | None = None, **hints: Any) -> Foreign:
    """Make the new file and compare it with the original in onnxruntime, to the bit."""
    table = table or table_of()
    foreign = settled(model, tmp_path, table, **hints)
    task, folded = task_of(foreign), fold(foreign, words=table.words_by_place)
    assert task is not None
    reference = Reference(foreign, table.X, task, words=folded.words)
    result = verify(reference, folded, task.graph(folded).SerializeToString(), rows=ROWS)
    assert (result.labels_differ, result.numbers_differ) == (0, 0), result
    assert result.largest_difference <= task.comparison.tolerance
    return foreign
