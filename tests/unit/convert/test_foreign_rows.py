"""ONNX files that answer a row by those beside it, which are refused, and answers that go onto a card as they may be there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_convert.describe import Sheet
from edge_convert.modelcard import Identity, Origin, draft_card
from edge_convert.tasks import Answers, Classification, task_of
from edge_convert.workflow import model_file
from onnx import ModelProto, TensorProto, helper
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from edge_agent.contract.card import Metrics
from edge_agent.errors import InputError, ModelError
from edge_agent.model.onnx import Predictor
from tests.unit.convert.conftest import make_table
from tests.unit.convert.foreign import IRIS, SPECIES, TEXTS, graph, settled, table_of

FLOAT = TensorProto.FLOAT
FITTED = LogisticRegression(max_iter=1000).fit(IRIS - IRIS.mean(axis=0), SPECIES)
WEIGHTS = {"w": FITTED.coef_.T.astype(np.float32), "b": FITTED.intercept_.astype(np.float32)}
IDENTITY = Identity("flowers", "1.0.0", "2026-01-31")
ORIGIN = Origin("", {}, Metrics(values={}, method="not measured"))


def linear(
    first: list[Any], last: str = "Softmax", *, opset: int = 17, batch: Any = "n", **constants: Any
) -> ModelProto:
    """Numbers of each species from "h", which the nodes that come `first` make of "x"."""
    nodes = [*first, helper.make_node("Gemm", ["h", "w", "b"], ["z"])]
    nodes.append(helper.make_node("Softmax", ["z"], ["y"], axis=0 if last == "Softmax0" else 1))
    return graph(nodes, [("x", FLOAT, [batch, 4])], [("y", FLOAT, [batch, 3])], {**WEIGHTS, **constants}, opset=opset)


def normalised(batch: Any = "n") -> ModelProto:
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    mean, variance = IRIS.mean(axis=0).astype(np.float32), IRIS.var(axis=0).astype(np.float32)
    node = helper.make_node("BatchNormalization", ["x", "s", "o", "m", "v"], ["h", "m2", "v2"], training_mode=1)
    return linear([node], opset=15, batch=batch, s=ones, o=zeros, m=mean, v=variance)


def centred() -> ModelProto:
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]), helper.make_node("Sub", ["x", "m"], ["h"])]
    return linear(nodes)


def summed_up() -> ModelProto:
    return linear([helper.make_node("CumSum", ["x", "axis"], ["h"])], axis=np.array(0))


@pytest.mark.parametrize(
    "model",
    [normalised(), normalised(16), centred(), summed_up(), linear([helper.make_node("Identity", ["x"], ["h"])], "Softmax0")],
    ids=["batch-norm", "batch-norm-of-16", "centred", "summed-up", "softmax"],
)  # fmt: skip
@pytest.mark.parametrize("scores", ["probabilities", "labels", "numbers"])
def test_answers_that_depend_on_the_rows_beside_are_refused(model: ModelProto, scores: str, tmp_path: Path) -> None:
    if scores == "probabilities" and model.graph.node[-1].attribute[0].i == 0:
        scores = "softmax"
    hints = {} if scores == "numbers" else {"label_names": ("setosa", "versicolor", "virginica")}
    with pytest.raises(
        InputError,
        match=r"theirs\.onnx: its answer to a row depends on the rows beside it.*export it with model\.eval\(\)",
    ):
        settled(model, tmp_path, table_of(), scores=scores, **hints)


def test_numbers_are_judged_by_how_far_apart_they_are(tmp_path: Path) -> None:
    """A pressure: what depends on the rows beside it is a small share of it."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]),
        helper.make_node("Sub", ["x", "m"], ["h"]),
        helper.make_node("ReduceSum", ["h", "axes"], ["s"]),
        helper.make_node("Add", ["s", "level"], ["y"]),
    ]
    constants = {"axes": np.array([1]), "level": np.float32(101_325)}
    model = graph(nodes, [("x", FLOAT, ["n", 4])], [("y", FLOAT, ["n", 1])], constants)
    with pytest.raises(InputError, match="depends on the rows beside it"):
        settled(model, tmp_path, table_of(labels=IRIS[:, 0]))
    del model.graph.node[0], model.graph.node[0]
    model.graph.node[0].input[0] = "x"
    settled(model, tmp_path, table_of(labels=IRIS[:, 0]))


@pytest.mark.parametrize("zipmap", [True, False])
def test_probabilities_a_step_above_1_go_onto_the_card(zipmap: bool, tmp_path: Path) -> None:
    # Ten times a tenth, in float32.
    forest = RandomForestClassifier(10, random_state=0).fit(IRIS, TEXTS)
    model = to_onnx(forest, IRIS[:1].astype(np.float32), options={"zipmap": zipmap})
    table = table_of()
    foreign = settled(model, tmp_path, table)
    assert foreign.labels_of(IRIS).numbers.max() > 1
    task = task_of(foreign)
    assert task is not None
    draft = draft_card(IDENTITY, table, Sheet(), task)
    content, _ = model_file(foreign, draft, ORIGIN, seed=0, say=lambda _: None, rows=1_000)
    predictor = Predictor(content, where="flowers.onnx")
    assert predictor.card.has_probabilities
    assert max(map(max, predictor.card.self_test.probabilities)) == 1
    for packed, label in zip(predictor.predict(IRIS.tolist()), foreign.labels_of(IRIS).labels, strict=True):
        fields = predictor.output.fields(predictor.read(packed))
        assert fields["label"] == label
        confidence = fields["confidence"]
        assert isinstance(confidence, float)
        assert 0 <= confidence <= 1


def test_probabilities_that_are_none_do_not_become_some() -> None:
    answers = Answers(np.array(["a", "a"]), np.array([[1 + 1e-7, -1e-7], [1.2, -0.2]]))
    tested = Classification(("a", "b")).self_test(answers)
    assert tested["probabilities"] == ((1.0, 0.0), (1.2, -0.2))


@dataclass(frozen=True)
class Wrong(Classification):
    """Expects the other label on the card."""

    def self_test(self, answers: Answers) -> dict[str, Any]:
        return super().self_test(answers._replace(labels=answers.labels[::-1]))


def test_a_file_that_the_agent_would_refuse_is_not_made() -> None:
    table = make_table(labels=("calm", "loud"))
    model = LogisticRegression().fit(table.X, table.truth)
    draft = draft_card(IDENTITY, table, Sheet(), Wrong(("calm", "loud")))
    with pytest.raises(ModelError, match=r"flowers: the finished file fails its own self-test on \d+ of \d+ rows"):
        model_file(model, draft, ORIGIN, seed=0, say=lambda _: None, rows=1_000)
    right = replace(draft, task=Classification(("calm", "loud")))
    model_file(model, right, ORIGIN, seed=0, say=lambda _: None, rows=1_000)
