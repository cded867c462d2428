"""ONNX files of networks, as PyTorch and Keras write them: logits, probabilities, one number; batches that are free or fixed.

The graphs are built here as torch.onnx.export and tf2onnx write them: those libraries are a hundred times as large as all others together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_convert.tasks import task_of
from onnx import TensorProto, helper

from edge_agent.errors import InputError
from tests.unit.convert.foreign import IRIS, NAMES, SIZES, graph, net, require_same, settled, table_of

TWO = np.where(IRIS[:, 2] > 4, "long", "short")


def labelled(model: Any, tmp_path: Path, names: tuple[str, ...], flipped: int = 5) -> Any:
    """A table with the labels that the network itself gives, a few of them wrong."""
    foreign = settled(model, tmp_path, table_of(labels=None), scores="labels", label_names=names)
    labels = foreign.labels_of(IRIS).labels.copy()
    labels[:flipped] = names[0]
    assert len(set(labels)) == len(names)
    return table_of(labels=labels)


def test_a_softmax_makes_probabilities(tmp_path: Path) -> None:
    model = net(3, "Softmax")
    table = labelled(model, tmp_path, ("a", "b", "c"))
    foreign = require_same(model, tmp_path, table)
    assert (foreign.meaning.how, foreign.meaning.names) == ("probabilities", ("a", "b", "c"))
    assert "takes the 3 numbers in 'output' for probabilities, since a Softmax makes them" in foreign.notes[0]
    assert "calls its 3 labels a, b, c: the values of column 'species' in their order" in foreign.notes[1]
    assert foreign.rounds


def test_logits_are_not_guessed(tmp_path: Path) -> None:
    model = net(3)
    table = labelled(model, tmp_path, ("a", "b", "c"))
    with pytest.raises(InputError, match=r"whether the 3 numbers in 'output' are logits.*--scores softmax"):
        settled(model, tmp_path, table)
    for scores, outputs in {"softmax": ("label", "probabilities"), "labels": ("label",)}.items():
        task = task_of(require_same(model, tmp_path, table, scores=scores))
        assert task is not None
        assert task.outputs == outputs


def test_names_in_another_order_are_refused(tmp_path: Path) -> None:
    model = net(3, "Softmax")
    table = labelled(model, tmp_path, ("b", "c", "a"))
    with pytest.raises(
        InputError, match=r"does not tell what its labels are called.*in its own order with --label-names"
    ):
        settled(model, tmp_path, table)
    assert require_same(model, tmp_path, table, label_names=("b", "c", "a")).meaning.names == ("b", "c", "a")
    with pytest.raises(
        InputError, match="does not tell what its 3 labels are called, and column 'species' has 2 values"
    ):
        settled(model, tmp_path, table_of(labels=TWO))
    with pytest.raises(InputError, match="does not tell what its 3 labels are called, and there is no --target"):
        settled(model, tmp_path, table_of(labels=None))
    with pytest.raises(InputError, match="a model has two or more, each a text of its own"):
        settled(model, tmp_path, table, label_names=("b", "b", "a"))


def test_numbers_as_labels_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    model = net(3, "Softmax")
    assert require_same(model, tmp_path, labelled(model, tmp_path, ("2", "9", "10"))).meaning.names == ("2", "9", "10")


def test_a_sigmoid_is_the_second_labels_probability(tmp_path: Path) -> None:
    model = net(1, "Sigmoid")
    first = settled(model, tmp_path, table_of(labels=None), scores="probabilities", label_names=("n", "y"))
    table = table_of(labels=first.labels_of(IRIS).labels)
    foreign = require_same(model, tmp_path, table)
    assert (
        "for the second label's probability, since a Sigmoid makes it and 'species' has two values" in foreign.notes[0]
    )
    assert foreign.meaning.names == ("n", "y")
    with pytest.raises(InputError, match="whether the number in 'output' is a probability, a logit or a number"):
        settled(model, tmp_path, table_of(labels=None))


def test_a_logit_is_not_guessed(tmp_path: Path) -> None:
    model = net(1)
    first = settled(model, tmp_path, table_of(labels=None), scores="sigmoid", label_names=("n", "y"))
    table = table_of(labels=first.labels_of(IRIS).labels)
    with pytest.raises(
        InputError, match=r"whether the number in 'output' is a probability, a logit.*sigmoid \(a logit\)"
    ):
        settled(model, tmp_path, table)
    foreign = require_same(model, tmp_path, table, scores="sigmoid")
    logits = foreign._said(foreign.meaning.asked, IRIS).numbers[:, 0].astype(np.float64)
    assert np.allclose(foreign.labels_of(IRIS).numbers[:, 1], 1 / (1 + np.exp(-logits)), atol=1e-7)
    with pytest.raises(InputError, match="don't lie between 0 and 1"):
        settled(model, tmp_path, table, scores="probabilities")


def test_one_number_is_a_number(tmp_path: Path) -> None:
    foreign = require_same(net(1), tmp_path, table_of(labels=IRIS[:, 0]))
    assert (foreign.meaning.how, foreign.meaning.width) == ("numbers", 1)
    assert require_same(net(1), tmp_path, table_of(labels=None)).meaning.how == "numbers"
    several = table_of(labels=IRIS[:, 0], others={"b": IRIS[:, 1].astype(str), "c": IRIS[:, 2].astype(str)})
    assert (
        "answers 3 numbers, as many as there are --target columns" in require_same(net(3), tmp_path, several).notes[0]
    )


@pytest.mark.parametrize("batch", [1, 16])
def test_a_fixed_number_of_rows_becomes_any_number(batch: int, tmp_path: Path) -> None:
    model = net(3, "Softmax", batch=batch)
    foreign = require_same(model, tmp_path, labelled(model, tmp_path, ("a", "b", "c")))
    assert foreign.generated == 100_000
    task = task_of(foreign)
    assert task is not None
    assert task.comparison.tolerance == 1e-6


def test_a_graph_that_holds_for_its_own_number_of_rows_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["input", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["output"]),
    ]
    model = graph(
        nodes,
        [("input", TensorProto.FLOAT, [1, 4])],
        [("output", TensorProto.FLOAT, [1, 1])],
        {"shape": np.array([1, 4]), "w": np.ones((4, 1), np.float32)},
    )
    with pytest.raises(
        InputError, match=r"its graph does not answer 3 rows at once.*export it with the first dimension free"
    ):
        settled(model, tmp_path, table_of(labels=IRIS[:, 0]))


def test_a_number_of_columns_that_is_not_said_is_the_tables(tmp_path: Path) -> None:
    model = net(3, "Softmax")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "features"
    assert require_same(model, tmp_path, labelled(model, tmp_path, ("a", "b", "c"))).n_features_in_ == 4
    with pytest.raises(InputError, match=r"onnxruntime can't answer the rows with it .*are these its columns"):
        settled(model, tmp_path, table_of(IRIS[:, :3], names=SIZES[:3]))


def test_an_input_in_float16_and_one_in_float64(tmp_path: Path) -> None:
    for kind in (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT32):
        nodes = [
            helper.make_node("Cast", ["input"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["wide", "axes"], ["output"], keepdims=0),
        ]
        model = graph(
            nodes, [("input", kind, ["n", 4])], [("output", TensorProto.FLOAT, ["n"])], {"axes": np.array([1])}
        )
        assert require_same(model, tmp_path, table_of(labels=IRIS[:, 0])).rounds == (kind == TensorProto.FLOAT16)


def test_old_opsets_and_names_like_ours(tmp_path: Path) -> None:
    # "features", "label" and "probabilities" are names of the new file's own tensors.
    nodes = [
        helper.make_node("MatMul", ["features", "label"], ["gemm_0"]),
        helper.make_node("Softmax", ["gemm_0"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["values"], axis=1, keepdims=0),
    ]
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    for opset in (7, 9, 11, 13, 17, 22):
        model = graph(
            nodes,
            [("features", TensorProto.FLOAT, ["n", 4])],
            [("values", TensorProto.INT64, ["n"]), ("probabilities", TensorProto.FLOAT, ["n", 3])],
            {"label": weights},
            opset=opset,
            ir_version=4 if opset < 9 else 8,
        )
        foreign = require_same(model, tmp_path, label_names=tuple(NAMES))
        assert foreign.meaning.names == tuple(NAMES)
        assert any("was raised to 17" in note for note in foreign.notes) == (opset < 9)
