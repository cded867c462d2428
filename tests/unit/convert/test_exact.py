"""Exact on the numbers that people send: what scikit-learn says of a row as the table has it, not of the row in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_convert.describe import Sheet
from edge_convert.fold import fold
from edge_convert.modelcard import Identity, Origin, draft_card
from edge_convert.reference import Reference
from edge_convert.sessions import open_session
from edge_convert.tables import DataFile, Table
from edge_convert.tasks import task_of
from edge_convert.verify import Verification, run, verify
from edge_convert.workflow import model_file
from numpy.typing import NDArray
from sklearn.datasets import load_iris, load_wine
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from edge_agent.contract.card import Metrics
from edge_agent.model.onnx import Predictor

ROWS = 20_000
N = 8_000

Sheeted = tuple[NDArray[np.float64], NDArray[Any]]


def gps() -> Sheeted:
    """Which fixes are within some metres of a place: float32 tells apart places 40 cm and more from each other."""
    rng = np.random.default_rng(0)
    X: NDArray[np.float64] = np.column_stack([52.52 + rng.normal(0, 5e-5, N), 13.405 + rng.normal(0, 5e-5, N)]).round(6)
    return X, (((X - np.array([52.52, 13.405])) ** 2).sum(1) < 2.5e-9).astype(int)


def tenths() -> Sheeted:
    """Readings of a sensor in steps of 0.1: thresholds of boosting lie between two of them, or on one."""
    rng = np.random.default_rng(0)
    X: NDArray[np.float64] = np.round(rng.normal(20, 5, (N, 3)), 1)
    return X, (X.sum(1) + rng.normal(0, 3, N) > 60).astype(int)


def seconds() -> Sheeted:
    """Seconds since 1970: float32 tells apart every 128th."""
    rng = np.random.default_rng(0)
    X: NDArray[np.float64] = np.c_[1654733331.0 + rng.integers(0, 7200, N), rng.normal(size=N).round(2)]
    return X, (X[:, 0] % 3600 < 1200).astype(int)


def _verify(model: Any, X: NDArray[np.float64]) -> Verification:
    folded, task = fold(model), task_of(model)
    assert task is not None
    return verify(Reference(model, X, task), folded, task.graph(folded).SerializeToString(), rows=ROWS)


def _served(model: Any, X: NDArray[np.float64], y: NDArray[Any]) -> Predictor:
    """Return the model as a device opens it."""
    table = Table(
        feature_names=tuple(f"x{column}" for column in range(X.shape[1])),
        X=X,
        labels=y.astype(str),
        ids=None,
        row_names=[f"row {row + 2}" for row in range(len(X))],
        label_column="y",
        sources=(DataFile(Path("table.csv"), "0" * 64, "plain"),),
    )
    task = task_of(model)
    assert task is not None
    draft = draft_card(Identity("exact", "1.0.0", "2026-01-31"), table, Sheet(), task)
    origin = Origin("", {}, Metrics(values={}, method="not measured"))
    content, _ = model_file(model, draft, origin, seed=0, say=lambda _: None, rows=ROWS)
    return Predictor(content, where="exact.onnx")


@pytest.mark.parametrize("table", [gps, tenths, seconds, lambda: load_wine(return_X_y=True)])
def test_boosting_answers_every_row_of_the_table_on_the_device(table: Any) -> None:
    X, y = table()
    model = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(X, y)
    predictor = _served(model, X, y)
    answers = [predictor.read(output) for output in predictor.predict(X.tolist())]
    assert [label for label, _ in answers] == model.predict(X).astype(str).tolist()
    assert np.abs(np.array([numbers for _, numbers in answers]) - model.predict_proba(X)).max() < 1e-5


def test_rounding_the_same_rows_to_float32_changes_labels() -> None:
    """The test of the test."""
    X, y = gps()
    model = HistGradientBoostingClassifier(random_state=0).fit(X, y)
    assert (model.predict(X) != model.predict(X.astype(np.float32).astype(np.float64))).sum() > 50


@pytest.mark.parametrize("table", [gps, seconds])
@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeClassifier(random_state=0),
        RandomForestClassifier(4, random_state=0),
        HistGradientBoostingClassifier(max_iter=10, random_state=0),
        RandomForestRegressor(4, random_state=0),
        HistGradientBoostingRegressor(max_iter=10, random_state=0),
        IsolationForest(n_estimators=4, random_state=0),
        LogisticRegression(),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_behind_a_scaler(estimator: Any, table: Any) -> None:
    X, y = table()
    model = make_pipeline(StandardScaler(), estimator).fit(X, y)
    assert fold(model).wide
    result = _verify(model, X)
    assert result.passed, result


def test_what_rounds_to_float32_by_itself_stays_the_plainest_graph() -> None:
    X, y = gps()
    model = DecisionTreeClassifier(random_state=0).fit(X, y)
    folded, task = fold(model), task_of(model)
    assert task is not None
    graph = task.graph(folded).graph
    assert not folded.wide
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [node.op_type for node in graph.node] == ["TreeEnsembleClassifier"]
    assert _verify(model, X).passed


@pytest.mark.parametrize("estimator", [OneVsRestClassifier(LogisticRegression()), SGDClassifier(loss="log_loss")])
def test_what_saturates_is_exact_or_refused(estimator: Any) -> None:
    """Beyond the table every probability is 0 or 1, and the label is decided by something else than the largest of them."""
    X, y = load_iris(return_X_y=True)
    model = estimator.fit(X, y)
    task = task_of(model)
    assert task is not None
    result = _verify(model, X)
    far = np.repeat(X, 4, axis=0)
    far[np.arange(len(far)), np.arange(len(far)) % 4] = 9999
    given = run(open_session(task.graph(fold(model)).SerializeToString()), far, task).labels
    assert result.passed <= bool((given == model.predict(far).astype(str)).all())
