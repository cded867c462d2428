"""The graph of boosters: which leaf of each tree a row ends in, the sum of these leaves' values, and what is made of it.

    features -> leaves -> values of these leaves -> their sum, one tree after the other -> scores (n, k) -> answers

Sums are in the library's own type and order (`Scores`), so scores are the library's to the last bit. The label is decided by comparing scores,
not probabilities, with two labels; with more, by the largest of probabilities that are rounded as the library rounds them:
an exponential may differ in its last bit from machine to machine, and a tie is broken by less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import ModelProto, TensorProto

from edge_agent.errors import InputError
from edge_convert.boosters.model import EXP, IDENTITY, SIGMOID, Absent, Categories, Scores
from edge_convert.classifier import split
from edge_convert.families.categories import write_sets
from edge_convert.families.net import Columns, Net
from edge_convert.families.registry import REGISTRY
from edge_convert.fold import Folded
from edge_convert.graph import INPUT, LABEL, PROBABILITIES, assemble_outputs
from edge_convert.leaves import write_leaves, write_total, write_values
from edge_convert.tasks import Classification, Comparison, Regression
from edge_convert.trees import Tree
from edge_convert.writer import Writer

#: Where a library answers with an exponential in float32.
ROUNDED_VALUES_ALIKE: Final = Comparison("value", 1e-6, relative=True, has_labels=False)
_TYPES: Final = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}
#: XGBoost's own bound: exp of more is no float32.
_LARGEST: Final = {np.float32: 88.7, np.float64: 700.0}


@dataclass(frozen=True)
class BoostedLabels(Classification):
    """One of several labels, as a booster says."""

    def graph(self, folded: Folded) -> ModelProto:
        """Return the graph, which answers a label and probabilities."""
        scores = _scores_of(folded)
        writer, total = _write_scores(folded, scores)
        write = _write_two if scores.link == SIGMOID else _write_several
        label, probabilities = write(writer, total, scores)
        writer.add("Gather", writer.texts(self.labels), label, axis=0, output=LABEL)
        writer.add("Cast", probabilities, to=TensorProto.FLOAT, output=PROBABILITIES)
        return assemble_outputs(
            folded, writer, [(LABEL, TensorProto.STRING, None), (PROBABILITIES, TensorProto.FLOAT, len(self.labels))]
        )


@dataclass(frozen=True)
class BoostedNumbers(Regression):
    """Numbers, as a booster says."""

    def graph(self, folded: Folded) -> ModelProto:
        """Return the graph, which answers values (n, outputs) in float64."""
        scores = _scores_of(folded)
        writer, total = _write_scores(folded, scores)
        if scores.sorts:
            size = writer.constant([scores.width], np.int64)
            total, _ = writer.add_pair("TopK", total, size, axis=1, largest=0, sorted=1)
        if scores.link == EXP:
            total = _write_exp(writer, total, scores)
        elif scores.link == SIGMOID:
            total = _write_sigmoid(writer, total, scores)
        elif scores.link != IDENTITY:
            raise InputError(f"{split(folded.estimator)[1].title}: {scores.link} of its numbers can't be exported")
        writer.add("Cast", total, to=TensorProto.DOUBLE, output=self.outputs[0])
        return assemble_outputs(folded, writer, [(self.outputs[0], TensorProto.DOUBLE, self.width)])


def _scores_of(folded: Folded) -> Scores:
    scores: Scores = split(folded.estimator)[1].scores
    if all(tree.is_leaf.all() for tree in scores.trees):
        raise InputError(
            f"{split(folded.estimator)[1].title}: none of its {len(scores.trees)} trees has a split, so every row gets the same answer; "
            "train it with more rows, or a smaller minimum of rows a leaf"
        )
    return scores


def _begun(folded: Folded, scores: Scores) -> tuple[Writer, list[Tree], str, bool]:
    """Return a graph with what comes before the trees, the trees, the rows (n, f) that they get, and whether these are float64."""
    writer: Writer
    if folded.trees is not None:
        writer, trees, given, wide = Writer(), folded.trees, INPUT, folded.wide
    else:
        writer, trees, wide = Net(REGISTRY), list(scores.trees), not scores.rounds
        _, columns = writer.last(folded.estimator, Columns(INPUT, folded.words))
        given = writer.add("Cast", columns.name, to=TensorProto.FLOAT) if scores.rounds else columns.name
    source = given
    if scores.absent is not None:
        width = split(folded.estimator)[1].n_features_in_
        source = _write_absent(writer, given, width, scores.absent, np.float64 if wide else np.float32)
    if scores.categories is not None:
        source = _write_categories(writer, source, given, scores.categories, wide=wide)
    return writer, trees, source, wide


def _write_scores(folded: Folded, scores: Scores) -> tuple[Writer, str]:
    """Write the sums; return the graph so far, and the name of the tensor (n, k)."""
    writer, trees, source, wide = _begun(folded, scores)
    vectors = trees[0].values.shape[1] > 1
    groups = 1 if vectors else scores.width
    # The columns of a score stand side by side. One that no tree writes to stays 0: the first row of its table.
    tables, grown, targets = [], [], []
    for group in range(groups):
        if scores.first is not None:
            tables.append(scores.first[np.newaxis] if vectors else scores.first[group : group + 1, np.newaxis])
        for tree in trees[group::groups]:
            if not tree.is_leaf.all():
                grown.append(tree)
                targets.append(len(tables))
            tables.append(tree.values[tree.is_leaf])
    columns = len(tables) // groups
    leaves = write_leaves(writer, grown, targets, len(tables), wide=wide, source=source)
    values = write_values(writer, leaves, tables if vectors else [table[:, 0] for table in tables], scores.kind)
    if not vectors:
        values = writer.add("Reshape", values, writer.constant([-1, groups, columns], np.int64))
    total = write_total(writer, values, columns, axis=1 if vectors else 2)
    if scores.count != 1:
        total = writer.add("Div", total, writer.constant(scores.count, scores.kind))
    if scores.scale != 1:
        total = writer.add("Mul", total, writer.constant(scores.scale, scores.kind))
    if scores.bias is not None:
        total = writer.add("Add", total, writer.constant(scores.bias[np.newaxis], scores.kind))
    return writer, total


def _write_absent(writer: Writer, source: str, width: int, absent: Absent, kind: type[np.floating[Any]]) -> str:
    """Write rows in which numbers that stand for a missing value are missing."""
    is_absent = writer.add(
        "And",
        writer.add("GreaterOrEqual", source, writer.constant(absent.low, kind)),
        writer.add("LessOrEqual", source, writer.constant(absent.high, kind)),
    )
    if absent.columns is not None:
        columns = np.isin(np.arange(width), absent.columns)[np.newaxis]
        is_absent = writer.add("And", is_absent, writer.constant(columns, np.bool_))
    return writer.add("Where", is_absent, writer.constant(np.nan, kind), source)


def _write_categories(writer: Writer, source: str, given: str, how: Categories, *, wide: bool) -> str:
    """Write rows with the columns of the sets of categories behind their own. `given` are rows in which nothing is made missing."""
    assert isinstance(writer, Net)  # noqa: S101 - trees that ask about sets are no trees alone
    keys = writer.number(source if how.branches else given)
    whole = writer.op("Floor", keys)
    if how.toward_zero:
        whole = writer.op("Where", writer.op("Less", keys, 0.0), writer.op("Ceil", keys), whole)
    rows = write_sets(writer, writer.number(source), how.places, whole)
    if how.branches:
        columns = [*range(min(how.places.values())), *(members.column for members in how.places)]
        rows = writer.op("Where", writer.op("IsNaN", writer.columns(keys, columns)), np.nan, rows)
    return rows if wide else writer.add("Cast", rows, to=TensorProto.FLOAT)


def _write_exp(writer: Writer, exponent: str, scores: Scores) -> str:
    """Write exp in float64, rounded to the type of the sums: that is what a good float32 exp is."""
    wide = writer.add("Exp", writer.add("Cast", exponent, to=TensorProto.DOUBLE))
    return writer.add("Cast", wide, to=_TYPES[scores.kind])


def _write_sigmoid(writer: Writer, total: str, scores: Scores) -> str:
    kind, one = scores.kind, writer.constant(1, scores.kind)
    if scores.slope != 1:
        total = writer.add("Mul", total, writer.constant(scores.slope, kind))
    exponent = writer.add("Min", writer.add("Neg", total), writer.constant(_LARGEST[kind], kind))
    return writer.add("Div", one, writer.add("Add", _write_exp(writer, exponent, scores), one))


def _write_two(writer: Writer, total: str, scores: Scores) -> tuple[str, str]:
    """Write which of two labels it is (n,), and both probabilities (n, 2)."""
    second = _write_sigmoid(writer, total, scores)
    first = writer.add("Sub", writer.constant(1, scores.kind), second)
    is_second = writer.add("Greater", total, writer.constant(scores.longest, scores.kind))
    label = writer.add("Cast", writer.add("Reshape", is_second, writer.constant([-1], np.int64)), to=TensorProto.INT64)
    return label, writer.add("Concat", first, second, axis=1)


def _write_several(writer: Writer, total: str, scores: Scores) -> tuple[str, str]:
    """Write which label has the largest probability (n,), the first of equals, and the probabilities (n, labels)."""
    largest = writer.add("ReduceMax", total, axes=[1], keepdims=1)
    powers = _write_exp(writer, writer.add("Sub", total, largest), scores)
    whole = writer.add("ReduceSum", writer.add("Cast", powers, to=TensorProto.DOUBLE), writer.constant([1], np.int64))
    probabilities = writer.add("Div", powers, writer.add("Cast", whole, to=_TYPES[scores.kind]))
    return writer.add("ArgMax", probabilities, axis=1, keepdims=0), probabilities
