"""Which number of an ONNX file belongs to which label: orders that the table or the file itself contradicts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_convert.agreement import agreement, better_order
from edge_convert.tasks import Answers, task_of
from edge_convert.verify import Verification, require_verified
from onnx import ModelProto, TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from edge_agent.errors import InputError, ModelError
from tests.unit.convert.foreign import IRIS, NAMES, SPECIES, graph, require_same, settled, table_of

FLOAT = TensorProto.FLOAT
FITTED = LogisticRegression(max_iter=1000).fit(IRIS, SPECIES)


def species(order: list[int], *nodes: Any, outputs: Any = (), **constants: Any) -> ModelProto:
    """A network with probabilities "p" of the species in an order, and nodes after it."""
    weights = {"w": FITTED.coef_[order].T.astype(np.float32), "b": FITTED.intercept_[order].astype(np.float32)}
    first = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    return graph(
        [*first, *nodes],
        [("x", FLOAT, ["n", 4])],
        [*outputs, ("p", FLOAT, ["n", 3])],
        {**weights, **constants},
    )


def encoded(order: list[int] = [0, 1, 2], **table: Any) -> ModelProto:  # noqa: B006 - it is only read
    """A network with labels that a LabelEncoder makes of the places of the largest."""
    nodes = [
        helper.make_node("ArgMax", ["p"], ["a"], axis=1, keepdims=0),
        helper.make_node("LabelEncoder", ["a"], ["l"], domain="ai.onnx.ml", **table),
    ]
    return species(order, *nodes, outputs=[("l", TensorProto.STRING, ["n"])])


@pytest.mark.parametrize("order", [[0, 2, 1], [2, 0, 1]], ids=["swapped", "cycled"])
def test_an_order_that_fits_clearly_better_is_named(order: list[int], tmp_path: Path) -> None:
    names = ",".join(NAMES[order])
    said = rf"does not tell what its labels are called.*agrees with \d+\.\d% .*--label-names {names} would agree with 97\.3% of the rows"
    with pytest.raises(InputError, match=said):
        settled(species(order), tmp_path, table_of())
    assert require_same(species(order), tmp_path, label_names=(names,)).meaning.names == tuple(NAMES[order])


def test_names_that_are_given_in_another_order_are_told(tmp_path: Path) -> None:
    foreign = settled(species([0, 2, 1]), tmp_path, table_of(), label_names=tuple(NAMES))
    assert re.search(
        r"another order than the table: --label-names setosa,virginica,versicolor would agree with 97\.3%.*these with 36",
        foreign.notes[-1],
    )
    foreign = settled(species([0, 1, 2]), tmp_path, table_of(), label_names=tuple(NAMES))
    assert not any("order" in note for note in foreign.notes)


def test_a_name_that_is_never_answered_is_told(tmp_path: Path) -> None:
    constants = {"w2": np.eye(3, dtype=np.float32), "b2": np.array([0, -99, 0], np.float32)}
    model = species([0, 1, 2], **constants)
    model.graph.node.insert(1, helper.make_node("Gemm", ["z", "w2", "b2"], ["y"]))
    model.graph.node[2].input[0] = "y"
    foreign = settled(model, tmp_path, table_of())
    assert "answers 'versicolor' for no row of the table" in foreign.notes[-1]


def test_a_poor_model_is_no_other_order() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 300)
    answered = np.where(rng.random(300) < 0.45, truth, 1 - truth)
    assert better_order([0, 1], np.where(rng.random(300) < 0.5, truth, 1 - truth), truth) is None
    assert better_order([0, 1], np.where(rng.random(300) < 0.2, truth, 1 - truth), truth) is not None
    assert better_order([0, 1, 2], answered * 0, truth) is None
    assert better_order(["a", "b"], answered, truth) is None


UNORDERED = {"keys_int64s": [2, 0, 1], "values_strings": ["virginica", "setosa", "versicolor"]}


@pytest.mark.parametrize(
    "table",
    [
        UNORDERED,
        {"keys_tensor": numpy_helper.from_array(np.array([2, 0, 1])), "values_strings": UNORDERED["values_strings"]},
    ],
    ids=["lists", "tensor"],
)
def test_a_table_of_labels_is_read_by_its_keys(table: dict[str, Any], tmp_path: Path) -> None:
    model = encoded(**table)
    model.opset_import[1].version = 4 if "keys_tensor" in table else 3
    foreign = require_same(model, tmp_path)
    assert foreign.meaning.names == tuple(NAMES)
    assert foreign.notes == ()
    answers = foreign.labels_of(IRIS)
    assert (np.array(foreign.meaning.names)[answers.numbers.argmax(axis=1)] == answers.labels).all()


def test_a_table_of_other_keys_tells_nothing(tmp_path: Path) -> None:
    model = encoded(keys_int64s=[0, 1, 5], values_strings=list(NAMES), default_string="virginica")
    with pytest.raises(
        InputError, match="does not tell which labels its numbers belong to; give them in order with --label-names"
    ):
        settled(model, tmp_path, table_of())
    assert require_same(model, tmp_path, label_names=tuple(NAMES)).meaning.names == tuple(NAMES)


def test_labels_that_contradict_their_numbers_are_refused(tmp_path: Path) -> None:
    model = encoded(keys_int64s=[0, 1, 2], values_strings=list(NAMES))
    model.graph.node[2].input[0] = "q"  # the numbers are answered in another order than the labels are looked up
    model.graph.node.insert(2, helper.make_node("Gather", ["p", "turned"], ["q"], axis=1))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 0, 1]), "turned"))
    with pytest.raises(
        InputError,
        match=r"not the one with the largest number in 150 of 150 rows.*would agree in 100\.0%.*--scores labels",
    ):
        settled(model, tmp_path, table_of())
    assert require_same(model, tmp_path, scores="labels").meaning.how == "labels"


def test_columns_in_the_wrong_order_are_told(tmp_path: Path) -> None:
    """Nearly all rows get one label, which is right as often as that label for every row is."""
    model = encoded(keys_int64s=[0, 1, 2], values_strings=list(NAMES))
    table = table_of(IRIS[:, ::-1])
    foreign = settled(model, tmp_path, table)
    task = task_of(foreign)
    assert task is not None
    said = agreement(table, task, Answers(np.full(150, "versicolor"), np.empty((150, 0))))
    assert said[0] == "model: agrees with column 'species' in 33.3% of 150 rows"
    assert "'setosa' for every row would agree in 33.3%" in said[1]
    assert "--columns" in said[1]
    alike = replace(table, labels=np.full(150, "setosa"))
    assert len(agreement(alike, task, Answers(alike.truth, np.empty((150, 0))))) == 1


def test_an_output_for_each_label_has_its_own_way_out(tmp_path: Path) -> None:
    nodes = [helper.make_node("Split", ["p"], ["sa", "sb", "sc"], axis=1)]
    labels = [helper.make_node("ArgMax", ["p"], ["a"], axis=1, keepdims=0)]
    model = species([0, 1, 2], *nodes, *labels, outputs=[("a", TensorProto.INT64, ["n"])])
    del model.graph.output[1]
    model.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, ["n", 1]) for name in ("sa", "sb", "sc"))
    with pytest.raises(
        InputError,
        match=r"an output for each label's probability.*export it with one output for all .*zipmap=False.*, or .*--output a$",
    ):
        settled(model, tmp_path, table_of())


@pytest.mark.parametrize(("labels", "said"), [(0, True), (1, False)])
def test_the_tolerance_is_named_where_numbers_alone_are_off(labels: int, said: bool) -> None:
    with pytest.raises(ModelError) as caught:
        require_verified(Verification(150, 1000, 0, "", labels, 3, 2e-5), "flowers")
    assert ("--tolerance" in str(caught.value)) == said
