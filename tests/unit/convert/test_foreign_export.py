"""ONNX files of others through the command: from `export` to an answer of the agent, and `verify` with the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skops.io
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from edge_agent.model.onnx import Predictor
from tests.unit.convert.conftest import Run, write_csv
from tests.unit.convert.foreign import IRIS, SIZES, TEXTS, graph, net, saved, settled, table_of


@pytest.fixture
def iris_file(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "iris.csv", table_of())


def test_from_their_file_to_an_answer(run: Run, tmp_path: Path, iris_file: Path) -> None:
    # A fixed number of rows: so many rows are not generated as for others.
    model = net(3, batch=64)
    theirs, out = saved(model, tmp_path), tmp_path / "flowers.onnx"
    command = ("export", theirs, "--data", iris_file, "--out", out)
    done = run(*command, "--target", "species")
    assert done.exit_code == 2
    assert (
        "whether the 3 numbers in 'output' are logits, scores or numbers to answer is not clear; say --scores softmax"
        in done.stderr
    )

    hints = ("--scores", "softmax", "--label-names", "a,b,c", "--output", "output")
    done = run(*command, *hints, "--drop", "species", "--bounds", "data", "--tolerance", "1e-4")
    assert done.exit_code == 0, done.output
    assert "verify: 150 training rows + 100,000 generated rows" in done.output
    assert ": 0 labels differ" in done.output

    predictor = Predictor(out.read_bytes(), where="flowers.onnx")
    card = predictor.card
    assert (card.labels, [one.name for one in card.features]) == (("a", "b", "c"), list(SIZES))
    assert (card.features[0].minimum, card.features[0].maximum) == (4.3, 7.9)
    assert card.self_test.tolerance == 1e-4
    assert card.training.estimator == "ONNX file (pytorch 2.4.0)"
    assert card.training.parameters["scores"] == "softmax"
    assert "onnxruntime" in card.training.libraries
    foreign = settled(model, tmp_path, table_of(labels=None), scores="softmax", label_names=("a", "b", "c"))
    label, probabilities = predictor.read(predictor.predict(IRIS[:1].tolist())[0])
    expected = foreign.labels_of(IRIS[:1])
    assert label == expected.labels[0]
    assert np.allclose(probabilities, expected.numbers[0], atol=1e-5)

    done = run("verify", out, "--estimator", theirs, "--data", iris_file, "--drop", "species", "--rows", "500")
    assert done.exit_code == 0, done.output
    assert "verify: 150 training rows + 500 generated rows" in done.output


def test_the_estimator_itself_can_be_compared_with_as_well(run: Run, tmp_path: Path, iris_file: Path) -> None:
    fitted = DecisionTreeClassifier(max_depth=3, random_state=0).fit(IRIS, TEXTS)
    other = DecisionTreeClassifier(max_depth=1, random_state=0).fit(IRIS, TEXTS)
    model = to_onnx(fitted, IRIS[:1].astype(np.float32), options={"zipmap": False})
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 64
    theirs, out = saved(model, tmp_path), tmp_path / "flowers.onnx"
    done = run("export", theirs, "--data", iris_file, "--target", "species", "--out", out)
    assert done.exit_code == 0, done.output
    assert "model: agrees with column 'species' in 97.3% of 150 rows" in done.output
    assert Predictor(out.read_bytes(), where="flowers.onnx").card.self_test.tolerance == 1e-5
    for estimator, status in ((fitted, 0), (other, 3)):
        skops.io.dump(estimator, tmp_path / "m.skops")
        done = run("verify", out, "--estimator", tmp_path / "m.skops", "--data", iris_file, "--rows", "500")
        assert done.exit_code == status, done.output


def test_inputs_with_other_names_than_the_table_has(run: Run, tmp_path: Path, iris_file: Path) -> None:
    nodes = [
        helper.make_node("Concat", list("abcd"), ["all"], axis=1),
        helper.make_node("ReduceMax", ["all"], ["y"], axes=[1]),
    ]
    inputs = [(name, TensorProto.FLOAT, [1024, 1]) for name in "abcd"]
    theirs = saved(graph(nodes, inputs, [("y", TensorProto.FLOAT, [1024, 1])]), tmp_path)
    table, out = ("--data", iris_file, "--drop", "species"), tmp_path / "largest.onnx"
    done = run("export", theirs, *table, "--out", out)
    assert done.exit_code == 2
    assert "no column 'a'; there are 'sepal_length'" in done.stderr
    assert "give its names in the order of the inputs (a, b, c, d): --columns" in done.stderr
    done = run("export", theirs, *table, "--columns", "petal_width,sepal_length,sepal_width,petal_length", "--out", out)
    assert done.exit_code == 0, done.output
    predictor = Predictor(out.read_bytes(), where="largest.onnx")
    assert predictor.card.feature_names == ("petal_width", "sepal_length", "sepal_width", "petal_length")
    assert predictor.read(predictor.predict([(1, 2, 4, 3)])[0]) == [4.0]


def test_options_for_onnx_files_are_for_these_only(run: Run, tmp_path: Path, iris_file: Path) -> None:
    skops.io.dump(LogisticRegression(max_iter=1000).fit(IRIS, TEXTS), tmp_path / "m.skops")
    table = ("--data", iris_file, "--target", "species", "--out", tmp_path / "o.onnx")
    for option in (("--output", "y"), ("--scores", "softmax")):
        done = run("export", tmp_path / "m.skops", *table, *option)
        assert done.exit_code == 2
        assert "--output and --scores are for ONNX files (.onnx)" in done.stderr
    done = run("export", saved(net(), tmp_path), *table, "--missing-value", "0")
    assert done.exit_code == 2
    assert "--missing-value is for XGBoost's own files" in done.stderr
