"""Models at the edge: with nothing to tell apart, of one answer, too deep, and with sums that differ by one float64 step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from edge_convert.ensembles import MOST_DEPTH, structure_of
from edge_convert.families.refusals import hint_of
from edge_convert.fold import fold
from edge_convert.load import load_estimator
from edge_convert.reference import Reference
from edge_convert.tasks import task_of
from edge_convert.trees import Tree, depth_of
from edge_convert.verify import Verification, require_verified, verify
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import KNNImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from edge_agent.errors import InputError, ModelError
from tests.unit.convert.families import rows_of
from tests.unit.convert.test_families import served

X, y = load_iris(return_X_y=True)


def chain(depth: int) -> Tree:
    """A tree that asks about one number after the other: x <= 0.5, x <= 1.5, …"""
    nodes = np.arange(2 * depth + 1)
    inner = (nodes % 2 == 0) & (nodes < 2 * depth)
    return Tree(
        feature=np.zeros(len(nodes), np.int64),
        threshold=np.where(inner, nodes // 2 + 0.5, 0.0),
        left=np.where(inner, nodes + 1, -1),
        right=np.where(inner, nodes + 2, -1),
        is_leaf=~inner,
        values=np.tile([[0.3, 0.7]], (len(nodes), 1)),
        rows=np.ones(len(nodes), np.int64),
    )


def test_a_tree_that_onnxruntime_would_overflow_its_stack_over_is_refused() -> None:
    assert depth_of(chain(19_999)) == 19_999
    with pytest.raises(InputError, match=r"a tree is 19,999 levels deep.*limit it with max_depth"):
        structure_of([chain(3), chain(19_999)])
    assert len(structure_of([chain(MOST_DEPTH)])["nodes_modes"]) == 2 * MOST_DEPTH + 1


@pytest.mark.parametrize(
    "model",
    [
        HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=100),
        GradientBoostingClassifier(n_estimators=3, min_samples_leaf=100),
        RandomForestClassifier(3, min_samples_leaf=100, random_state=0),
        DecisionTreeClassifier(min_samples_leaf=100),
        make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=100)),
        HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=100),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_model_that_asks_nothing_is_served_without_an_ensemble(model: Any, tmp_path: Path) -> None:
    """onnxruntime 1.21 takes no ensemble of leaves only."""
    fitted = model.fit(X, y)
    task = task_of(fitted)
    assert task is not None
    graph = task.graph(fold(fitted)).graph
    assert not any(node.op_type.startswith("TreeEnsemble") for node in graph.node)
    loaded, predictor = served(fitted, X, y, tmp_path / "m.skops")
    answer = predictor.read(predictor.predict(X[:1].tolist())[0])
    assert (answer[0] if isinstance(answer[0], str) else f"{answer[0]:g}") == f"{loaded.predict(X[:1])[0]:g}"


def test_one_label_is_refused_with_what_to_do(tmp_path: Path) -> None:
    skops.io.dump(DecisionTreeClassifier().fit(X, np.full(len(X), "ok")), tmp_path / "m.skops")
    with pytest.raises(InputError, match=r"trained on rows that all say ok.*two labels or more"):
        load_estimator(tmp_path / "m.skops")


def _verify(model: Any, rows: int) -> tuple[Verification, Verification | None]:
    task, folded = task_of(model), fold(model)
    assert task is not None
    reference = Reference(model, X, task)
    closer = task.closer_graph(model, folded)
    first = verify(reference, folded, task.graph(folded).SerializeToString(), rows=rows)
    return first, None if closer is None else verify(reference, folded, closer.SerializeToString(), rows=rows)


def test_sums_one_step_apart_that_have_the_same_mean() -> None:
    first, closer = _verify(ExtraTreesClassifier(10, min_samples_leaf=3, random_state=30).fit(X, y), 3_000)
    assert closer is not None
    assert closer.passed
    assert closer.labels_differ == 0
    assert first.labels_differ in {0, 1}  # the first graph compares sums


class Mine(KNeighborsClassifier):  # type: ignore[misc]
    """A classifier that is nobody else's."""


def doubled(rows: Any) -> Any:
    """A function that is nobody else's."""
    return 2 * rows


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            make_pipeline(FunctionTransformer(doubled), DecisionTreeClassifier()),
            r"doubled can't be exported; functions of numpy can",
        ),
        (KNeighborsClassifier(metric="cosine"), r"metric 'cosine' can't be exported; euclidean and manhattan can"),
        (DummyClassifier(strategy="stratified"), r"answers at random"),
        (
            make_pipeline(KNNImputer(), DecisionTreeClassifier()),
            r"KNNImputer can't be exported: it chooses among rows that are equally far .*; put a SimpleImputer in its place, or train trees",
        ),
        (
            make_pipeline(QuantileTransformer(n_quantiles=9, output_distribution="normal"), DecisionTreeClassifier()),
            r"output_distribution='normal' can't be exported: .* in float32 only; 'uniform' can",
        ),
        (
            Mine(),
            r"Mine can't be exported: it is a class of your own, .* than KNeighborsClassifier, .*; train a KNeighborsClassifier",
        ),
        (GaussianProcessClassifier(), r"its probabilities are error functions, .*; take an SVC"),
    ],
    ids=["function", "metric", "random", "imputer", "normal", "own", "process"],
)
def test_what_is_refused_says_why_and_what_can_be(model: Any, reason: str) -> None:
    fitted = model.fit(X, y)
    task = task_of(fitted)
    assert task is not None
    with pytest.raises(InputError, match=reason):
        task.graph(fold(fitted))


def test_nearest_neighbours_of_coarse_steps_are_refused_with_the_cause() -> None:
    model = KNeighborsClassifier(3).fit(X, y)
    result = Verification(len(X), 1_000, 0, "", 7, 9, 0.3)
    with pytest.raises(
        ModelError,
        match=r"7 have a different label .*; rows that are exactly as far are a toss-up .* or train a forest$",
    ):
        require_verified(result, "flowers", hint_of(make_pipeline(model)))
    assert hint_of(DecisionTreeClassifier()) == ""


def test_a_model_that_keeps_too_many_rows_is_refused() -> None:
    model = KNeighborsClassifier(1).fit(np.zeros((2, 600_000)), [0, 1])
    task = task_of(model)
    assert task is not None
    with pytest.raises(InputError, match=r"keeps 2 rows of 600,000 columns.*up to 1,000,000 numbers"):
        task.graph(fold(model))


def test_rows_that_scikit_learn_has_no_answer_for_ask_for_bounds(tmp_path: Path) -> None:
    rows, truth = rows_of("iris")
    model = make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), LogisticRegression()).fit(rows, truth)
    with pytest.raises(InputError, match=r"scikit-learn itself has no answer for some rows.*--bounds data"):
        served(model, rows, truth, tmp_path / "m.skops")
    served(model, rows, truth, tmp_path / "m.skops", bounds=True)
