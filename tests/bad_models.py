"""Model files that do harm when they are opened or asked, or are worse than others: each is valid ONNX with a valid card and seal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from edge_agent.contract import card
from edge_agent.contract.seal import seal
from edge_agent.testing import make_card

#: What the honest one says of a row: Rock when its only value is above a half.
_THRESHOLD: Final = 0.5
#: The domain of operators that are trees.
_TREES: Final = "ai.onnx.ml"


def _constant(name: str, kind: int, shape: Sequence[int], values: Sequence[Any]) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, kind, shape, values))


def _file(
    before: Sequence[NodeProto] = (),
    label: str = "all",
    certain: str = "sure",
    version: str = "1.0.0",
    after: Sequence[NodeProto] = (),
) -> bytes:
    """A model of one feature. `before` may stand for "asked", what the rows are compared as; `label` and `certain` for which
    of the answers go out, which may be made `after` the others.
    """
    given = {name for node in before for name in node.output}
    nodes = [
        _constant("half", TensorProto.FLOAT, [], [_THRESHOLD]),
        _constant("rock", TensorProto.STRING, [], [b"Rock"]),
        _constant("hip_hop", TensorProto.STRING, [], [b"Hip-Hop"]),
        _constant("flat", TensorProto.INT64, [1], [-1]),
        _constant("one", TensorProto.FLOAT, [], [1.0]),
        _constant("two", TensorProto.FLOAT, [], [2.0]),
        _constant("zero", TensorProto.INT64, [1], [0]),
        _constant("first", TensorProto.INT64, [1], [1]),
        *([] if "asked" in given else [helper.make_node("Identity", ["features"], ["asked"])]),
        *before,
        helper.make_node("Greater", ["asked", "half"], ["is_rock"]),
        helper.make_node("Where", ["is_rock", "rock", "hip_hop"], ["named"]),
        helper.make_node("Reshape", ["named", "flat"], ["all"]),
        helper.make_node("Slice", ["all", "zero", "first"], ["the_first"]),
        helper.make_node("Cast", ["is_rock"], ["of_rock"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "of_rock"], ["of_hip_hop"]),
        helper.make_node("Concat", ["of_hip_hop", "of_rock"], ["sure"], axis=1),
        helper.make_node("Mul", ["sure", "two"], ["doubled"]),
        *after,
        helper.make_node("Identity", [label], ["label"]),
        helper.make_node("Identity", [certain], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(_TREES, 3)], ir_version=8
    )
    onnx.checker.check_model(model)
    rows = ((0.0,), (1.0,))
    answers: dict[str, object] = {
        "rows": rows,
        "labels": ("Hip-Hop", "Rock"),
        "probabilities": ((1.0, 0.0), (0.0, 1.0)),
    }
    found = make_card()
    told = found.model_copy(update={"version": version, "self_test": found.self_test.model_copy(update=answers)})
    model.metadata_props.add(key=card.METADATA_KEY, value=told.to_json())
    return seal(model.SerializeToString(deterministic=True))


def honest(version: str = "1.0.0") -> bytes:
    """One that does no harm."""
    return _file(version=version)


def differing(version: str) -> bytes:
    """Rock is above 0.7 only."""
    less = _constant("less", TensorProto.FLOAT, [], [0.2])
    return _file([less, helper.make_node("Sub", ["features", "less"], ["asked"])], version=version)


def raising(version: str) -> bytes:
    """It fails on what is between 0.7 and 0.9, and on all that is asked with it: there is no third place in a list of two."""
    return _file([*_between(), helper.make_node("Gather", ["list", "index"], ["more"]), _plus_more()], version=version)


def nan(version: str) -> bytes:
    """What is between 0.7 and 0.9 is answered with NaN for its probabilities."""
    nothing = [
        _constant("none", TensorProto.FLOAT, [], [0.0]),
        _constant("not_a_number", TensorProto.FLOAT, [], [float("nan")]),
        helper.make_node("Where", ["is_between", "not_a_number", "none"], ["spoils"]),
        helper.make_node("Add", ["sure", "spoils"], ["spoilt"]),
    ]
    return _file(after=[*_between(), *nothing], certain="spoilt", version=version)


def _between() -> list[NodeProto]:
    """Nodes that make "is_between", (n, 1): whether the only value is between 0.7 and 0.9; "index" is 2 there, else 0, in a "list" of two."""
    return [
        _constant("low", TensorProto.FLOAT, [], [0.7]),
        _constant("high", TensorProto.FLOAT, [], [0.9]),
        helper.make_node("Greater", ["features", "low"], ["is_high"]),
        helper.make_node("Less", ["features", "high"], ["is_low"]),
        helper.make_node("And", ["is_high", "is_low"], ["is_between"]),
        _constant("list", TensorProto.FLOAT, [2], [0.0, 0.0]),
        _constant("third", TensorProto.INT64, [], [2]),
        helper.make_node("Cast", ["is_between"], ["one_or_none"], to=TensorProto.INT64),
        helper.make_node("Mul", ["one_or_none", "third"], ["index"]),
    ]


def _plus_more() -> NodeProto:
    return helper.make_node("Add", ["features", "more"], ["asked"])


def endless() -> bytes:
    """A loop without end."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
            helper.make_node("Identity", ["value"], ["value_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1]),
        ],
        [
            helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, [None, 1]),
        ],
    )
    true = _constant("true", TensorProto.BOOL, [], [True])
    return _file([true, helper.make_node("Loop", ["", "true", "features"], ["asked"], body=body)])


def huge() -> bytes:
    """Values that take 16 GiB, of a file of a few kilobytes."""
    return _taking(16 << 30)


def large() -> bytes:
    """Values that take 100 MiB: allowed, where there is as much."""
    return _taking(100 << 20)


def _taking(size: int) -> bytes:
    return _file(
        [
            _constant("large", TensorProto.INT64, [2], [size >> 18, 1 << 16]),
            _constant("empty", TensorProto.FLOAT, [], [0.0]),
            # Of the rows, so that it can't be worked out when the file is opened.
            helper.make_node("ReduceMax", ["features"], ["largest"], keepdims=0),
            helper.make_node("Expand", ["largest", "large"], ["gigabytes"]),
            helper.make_node("ReduceMin", ["gigabytes"], ["smallest"], keepdims=0),
            helper.make_node("Mul", ["smallest", "empty"], ["nothing"]),
            helper.make_node("Add", ["features", "nothing"], ["asked"]),
        ]
    )


def deep(levels: int) -> bytes:
    """A tree with a leaf at each of so many levels. onnxruntime puts it together by recursion: it takes 0.7 KiB of stack for each."""
    numbers, leaves = range(levels + 2), [levels, levels + 1]
    tree = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["nothing"],
        domain=_TREES,
        nodes_treeids=[0] * len(numbers),
        nodes_nodeids=numbers,
        nodes_featureids=[0] * len(numbers),
        nodes_modes=["BRANCH_LEQ"] * levels + ["LEAF"] * 2,
        nodes_values=[-1.0] * len(numbers),
        nodes_truenodeids=[levels + 1] * levels + [0, 0],
        nodes_falsenodeids=[*range(1, levels + 1), 0, 0],
        target_treeids=[0, 0],
        target_nodeids=leaves,
        target_ids=[0, 0],
        target_weights=[0.0, 0.0],
        n_targets=1,
    )
    return _file([tree, helper.make_node("Add", ["features", "nothing"], ["asked"])])


def crashing() -> bytes:
    """One on which onnxruntime overflows the stack, of whatever size that is: the process ends by SIGSEGV."""
    return deep(20_000)


def external() -> bytes:
    """Its values are said to be in another file of the device."""
    model = onnx.load_from_string(honest())
    tensor = next(node for node in model.graph.node if node.op_type == "Constant").attribute[0].t
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    return seal(model.SerializeToString())


def fewer_labels() -> bytes:
    """One label, however many rows."""
    return _file(label="the_first")


def no_probabilities() -> bytes:
    """Each row's probabilities sum to 2."""
    return _file(certain="doubled")


def slow(version: str) -> bytes:
    """It takes some milliseconds of processor time for whatever it is asked."""
    return _file(loop(width=1), version=version)


def loop(width: int) -> list[NodeProto]:
    """Nodes that make "asked" of "features" (n, width), slowly."""
    row = [None, width]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
            helper.make_node("MatMul", ["value", "unit"], ["value_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, row),
        ],
        [
            helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, row),
        ],
    )
    unit = [float(column == line) for line in range(width) for column in range(width)]
    return [
        _constant("times", TensorProto.INT64, [], [3000]),
        _constant("unit", TensorProto.FLOAT, [width, width], unit),
        helper.make_node("Loop", ["times", "", "features"], ["asked"], body=body),
    ]


#: Some that no device takes, with what is said of them where their test may take a second.
REFUSED: Final = (
    pytest.param(endless, "it exceeded its limit of 1 s of processor time", id="hangs"),
    pytest.param(huge, "not enough memory", id="16 GiB"),
    pytest.param(fewer_labels, "the graph does not match its card: for 2 rows", id="labels"),
    pytest.param(no_probabilities, "the self-test failed on 2 of 2 rows", id="self-test"),
    pytest.param(lambda: honest()[:-9], "the file is damaged", id="truncated"),
)
