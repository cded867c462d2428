"""ONNX files that are refused, each in words and with the way out, and those for other versions that are taken all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_convert.foreign.reading import read
from edge_convert.trial import require_opens
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edge_agent.contract import card
from edge_agent.errors import InputError
from tests.unit.convert.conftest import Run
from tests.unit.convert.foreign import IRIS, graph, net, require_same, saved, settled, table_of

FLOAT = TensorProto.FLOAT
X = [("x", FLOAT, ["n", 4])]
Y = [("y", FLOAT, ["n", 4])]


def external() -> ModelProto:
    model = net()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model


def external_inside() -> ModelProto:
    """The same, in a constant of a branch."""
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=external().graph.initializer[0])], "b", [], []
    )
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    return graph([node], X, Y)


def endless() -> ModelProto:
    """Ends when a condition is false, which it never is."""
    inside = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", FLOAT, ["n", 4]),
    ]
    outside = [
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("w", FLOAT, ["n", 4]),
    ]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        inside,
        outside,
    )
    return graph([helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)], X, Y, {"yes": np.array(True)})


def one(operator: str, inputs: Any = X, outputs: Any = Y, **attributes: Any) -> ModelProto:
    return graph([helper.make_node(operator, [inputs[0][0]], [outputs[0][0]], **attributes)], inputs, outputs)


def custom() -> ModelProto:
    model = one("Twice", domain="com.example")
    model.opset_import.add(domain="com.example", version=1)
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (external(), r"keeps its numbers \(fc1.weight\) in another file; a model file is one file"),
        (external_inside(), r"keeps its numbers \(fc1.weight\) in another file"),
        (endless(), r"has a loop \(Loop\), which may take as long as it likes"),
        (custom(), r"has operators of its own, .*: Twice \(com\.example\); export"),
        (one("RandomUniformLike"), r"draws random numbers \(RandomUniformLike\)"),
        (one("Relu", [("image", FLOAT, [1, 3, 224, 224])]), r"input 'image' has 4 dimensions \(1 x 3 x 224 x 224\): rows of a table have two"),
        (one("Relu", [("x", FLOAT, [4])]), r"input 'x' is one row \(4\); export it for rows: \(n, 4\)"),
        (one("Relu", [("x", TensorProto.COMPLEX64, ["n", 4])]), r"input 'x' takes complex64; a model takes float32, "),
        (graph([helper.make_node("Add", ["a", "b"], ["y"])], [("a", FLOAT, ["n", None]), ("b", FLOAT, ["n", 1])], Y), r"does not say how many columns 'a' takes"),
        (graph([helper.make_node("Add", ["a", "b"], ["y"])], [("a", FLOAT, [2, 4]), ("b", FLOAT, [3, 4])], Y), "take different numbers of rows"),
        (graph([helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(np.ones((1, 4), np.float32)))], [], Y), "it has no input"),
    ],
    ids=["external", "external-inside", "loop", "custom", "random", "image", "one-row", "complex", "no-width", "batches", "no-input"],
)  # fmt: skip
def test_what_no_device_could_run_is_refused_before_it_is_opened(
    model: ModelProto, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"theirs\.onnx: .*{reason}"):
        read(saved(model, tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no such thing", b"\x08\x08" + bytes(range(200))], ids=["empty", "zip", "noise"]
)
def test_files_that_are_no_onnx(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "theirs.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"theirs\.onnx: is not an ONNX file, or it is"):
        read(path)


def test_a_model_file_of_our_own_is_told(tmp_path: Path) -> None:
    model = net()
    model.metadata_props.add(key=card.METADATA_KEY, value="{}")
    with pytest.raises(InputError, match="is a model file of edge-agent already"):
        read(saved(model, tmp_path))


def test_a_constant_that_is_larger_than_the_machine_ends_in_words(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("ConstantOfShape", ["shape"], ["much"]), helper.make_node("ReduceSum", ["much"], ["s"], keepdims=0), helper.make_node("Add", ["x", "s"], ["y"])],
        X, Y, {"shape": np.array([1 << 20, 1 << 20])},
    )  # fmt: skip
    path = saved(model, tmp_path)
    with pytest.raises(InputError, match=r"theirs\.onnx: .*takes more memory for one row than a model may"):
        require_opens(path)


def test_opening_that_takes_too_long_ends_in_words(tmp_path: Path) -> None:
    """A small file: each of 22 nodes doubles what the one before it made, and 400 compute with all of that."""
    names = [f"v{number}" for number in range(423)]
    nodes = [helper.make_node("Identity", ["x"], ["v0"])]
    nodes += [helper.make_node("Concat", [names[n], names[n]], [names[n + 1]], axis=1) for n in range(22)]
    nodes += [helper.make_node("Sin", [names[n]], [names[n + 1]]) for n in range(22, 422)]
    nodes.append(helper.make_node("ReduceMax", [names[-1]], ["y"], axes=[1]))
    path = saved(graph(nodes, X, [("y", FLOAT, ["n", 1])]), tmp_path)
    with pytest.raises(
        InputError, match="it was tried in a process apart, and it exceeded its limit of processor time"
    ):
        require_opens(path, seconds=2)


def test_sparse_constants_are_taken(tmp_path: Path) -> None:
    model = net(1)
    dense = numpy_helper.to_array(model.graph.initializer[0])
    values = helper.make_tensor("fc1.weight", FLOAT, [dense.size], dense.ravel().tolist())
    places = helper.make_tensor("places", TensorProto.INT64, [dense.size], list(range(dense.size)))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, list(dense.shape)))
    del model.graph.initializer[0]
    require_same(model, tmp_path, table_of(labels=IRIS[:, 0]))


def test_branches_are_taken_with_the_names_around_them(tmp_path: Path) -> None:
    """A graph inside takes tensors of the one around it, and both use the same names."""
    out = [helper.make_tensor_value_info("y", FLOAT, ["n", 1])]
    branches = {
        f"{name}_branch": helper.make_graph([helper.make_node("Mul", ["s", factor], ["y"])], name, [], out)
        for name, factor in (("then", "two"), ("else", "three"))
    }
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["s"]),
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "two"], ["c"]),
        helper.make_node("If", ["c"], ["y"], **branches),
    ]
    constants = {"axes": np.array([1]), "two": np.float32(2), "three": np.float32(3)}
    require_same(graph(nodes, X, [("y", FLOAT, ["n", 1])], constants), tmp_path, table_of(labels=IRIS[:, 0]))


def test_functions_are_written_out(tmp_path: Path) -> None:
    model = one("Twice", outputs=[("y", FLOAT, ["n", 4])], domain="local")
    model.functions.append(
        helper.make_function(
            "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
        )
    )
    model.opset_import.add(domain="local", version=1)
    others = {name: IRIS[:, place].astype(str) for place, name in enumerate("bcd", 1)}
    foreign = require_same(model, tmp_path, table_of(labels=IRIS[:, 0], others=others))
    assert [node.op_type for node in foreign.original.graph.node] == ["Add"]


@pytest.mark.parametrize("opset", [23, 24])
def test_newer_opsets_are_lowered(opset: int, tmp_path: Path) -> None:
    foreign = require_same(net(1, opset=opset, ir_version=11), tmp_path, table_of(labels=IRIS[:, 0]))
    made = foreign.graph()
    assert (made.ir_version, {entry.domain: entry.version for entry in made.opset_import}) == (10, {"": 22})
    assert f"its opset {opset} was lowered to 22, which onnxruntime 1.21 has" in foreign.notes


def test_an_opset_that_can_not_be_lowered_is_refused(tmp_path: Path) -> None:
    # RMSNormalization came with opset 23.
    model = graph(
        [helper.make_node("RMSNormalization", ["x", "w"], ["y"])],
        X,
        Y,
        {"w": np.ones(4, np.float32)},
        opset=23,
        ir_version=11,
    )
    with pytest.raises(InputError, match=r"is written for opset 23, and can't be converted to 22, .*opset_version=22"):
        read(saved(model, tmp_path))


def test_several_outputs_are_listed(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    model = graph(nodes, X, [*Y, ("z", FLOAT, ["n", 4])])
    with pytest.raises(
        InputError,
        match=r"has several outputs.*'y' \(float32 n x 4\), 'z' \(float32 n x 4\); say so with --output NAME",
    ):
        settled(model, tmp_path, table_of())
    with pytest.raises(InputError, match="has no output 'a'; it has 'y' "):
        settled(model, tmp_path, table_of(), outputs=("a",))
    assert (
        settled(
            model, tmp_path, table_of(), outputs=("z",), scores="labels", label_names=tuple("abcd")
        ).meaning.asked.numbers
        == "z"
    )


def test_answers_that_are_not_one_a_row_are_refused(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"])], X, [("y", FLOAT, [1, 4])], {"axes": np.array([0])}
    )
    with pytest.raises(InputError, match="output 'y' has 1 answers for 150 rows; a model answers each row by itself"):
        settled(model, tmp_path, table_of())
    model = graph(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT64)], X, [("y", TensorProto.INT64, ["n", 4])]
    )
    with pytest.raises(InputError, match=r"output 'y' has several labels for a row \(4\)"):
        settled(model, tmp_path, table_of())


def test_the_command_says_what_is_wrong(run: Run, tmp_path: Path, table_file: Path) -> None:
    path = saved(external(), tmp_path)
    for given in (path, tmp_path / "none.onnx"):
        done = run("export", given, "--data", table_file, "--target", "mood", "--out", tmp_path / "m.onnx")
        assert done.exit_code == 2
        assert done.stderr.startswith(f"edge-convert: {given}: ")
        assert "keeps its numbers" in done.stderr or "no such file" in done.stderr
    assert not (tmp_path / "m.onnx").exists()
