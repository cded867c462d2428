"""The file answers as scikit-learn does: every kind of estimator, bare and behind scalers, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from edge_convert.describe import Sheet
from edge_convert.ensembles import keep_winner
from edge_convert.fold import fold
from edge_convert.graph import IR_VERSION, OPSETS, build_graph
from edge_convert.modelcard import Identity, Origin, build_card, draft_card
from edge_convert.reference import Reference
from edge_convert.sessions import open_session
from edge_convert.tasks import Classification, task_of
from edge_convert.trees import float32_floor, thresholds_by_feature, trees_of
from edge_convert.verify import Verification, require_verified, run, verify
from edge_convert.workflow import model_file
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from edge_agent.contract.card import Metrics
from edge_agent.errors import InputError, ModelError
from tests.unit.convert.conftest import make_table

TWO, THREE = ("calm", "loud"), ("calm", "loud", "odd")
ROWS = 20_000

ESTIMATORS: list[Any] = [
    DecisionTreeClassifier(min_samples_leaf=3, random_state=0),
    # Weights that do not add up exactly: leaves whose two probabilities differ in the last bit of a float64 only.
    DecisionTreeClassifier(class_weight="balanced", max_depth=4, random_state=0),
    ExtraTreeClassifier(random_state=0),
    RandomForestClassifier(7, min_samples_leaf=3, random_state=0),
    # Pure leaves and an even number of trees: many exact ties.
    RandomForestClassifier(10, random_state=0),
    ExtraTreesClassifier(7, max_depth=4, random_state=0, n_jobs=2),
    HistGradientBoostingClassifier(max_iter=15, random_state=0),
]
SCALERS: list[Any] = [
    StandardScaler(),
    MinMaxScaler(),
    MinMaxScaler(clip=True, feature_range=(-1, 2)),
    MaxAbsScaler(),
    RobustScaler(unit_variance=True),
]


def _name(estimator: Any) -> str:
    return type(estimator).__name__


def _graph(model: Any) -> onnx.ModelProto:
    task = task_of(model)
    assert task is not None
    return task.graph(fold(model))


def _verify(model: Any, graph: onnx.ModelProto, x: Any) -> Verification:
    return verify(Reference(model, x), fold(model), graph.SerializeToString(), rows=ROWS)


def _fit(model: Any, labels: tuple[str, ...]) -> tuple[Any, Any]:
    table = make_table(labels=labels)
    return clone(model).fit(table.X.astype(np.float64), table.labels), table.X


@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=_name)
def test_no_label_differs(estimator: Any, labels: tuple[str, ...]) -> None:
    model, x = _fit(estimator, labels)
    result = _verify(model, _graph(model), x)
    assert (result.labels_differ, result.numbers_differ) == (0, 0)
    assert result.largest_difference < 1e-6
    assert result.edge_rows >= ROWS / 2
    assert f"240 training rows + {ROWS:,} generated rows" in str(result)


@pytest.mark.parametrize("scaler", SCALERS, ids=_name)
@pytest.mark.parametrize("estimator", [ESTIMATORS[0], ESTIMATORS[3], ESTIMATORS[6]], ids=_name)
def test_scalers_fold_into_the_thresholds(estimator: Any, scaler: Any) -> None:
    model, x = _fit(make_pipeline(clone(scaler), clone(estimator)), THREE)
    trees = fold(model).trees
    assert trees is not None
    graph = _graph(model)
    assert {node.op_type for node in graph.graph.node} <= {"TreeEnsembleClassifier", "Cast", "Slice", "Div"}
    assert _verify(model, graph, x).passed


def test_scalers_in_a_row_and_in_a_nested_pipeline() -> None:
    inner = make_pipeline(MinMaxScaler(), DecisionTreeClassifier(random_state=0))
    model, x = _fit(make_pipeline("passthrough", StandardScaler(), inner), TWO)
    assert fold(model).trees is not None
    assert _verify(model, _graph(model), x).passed


def test_a_folded_threshold_is_the_largest_float64_that_goes_left() -> None:
    model, x = _fit(make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0)), TWO)
    trees = fold(model).trees
    assert trees is not None
    root = float(trees[0].threshold[0])
    column = int(trees[0].feature[0])
    rows = np.repeat(x[:1].astype(np.float64), 2, axis=0)
    rows[:, column] = root, np.nextafter(root, np.inf)
    scaled = model[0].transform(rows)[:, column].astype(np.float32)
    threshold = model[-1].tree_.threshold[0]
    assert scaled[0] <= threshold < scaled[1]


def test_a_constant_column_behind_a_scaler() -> None:
    table = make_table()
    x = table.X.copy()
    x[:, 2] = 7
    model = make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0)).fit(
        x.astype(np.float64), table.labels
    )
    assert _verify(model, _graph(model), x).passed


def test_integer_labels_become_text() -> None:
    table = make_table()
    assert table.labels is not None
    model = DecisionTreeClassifier(random_state=0).fit(table.X, np.equal(table.labels, "loud").astype(int))
    labels, _ = run(open_session(_graph(model).SerializeToString()), table.X, Classification(("0", "1")))
    assert set(labels) == {"0", "1"}
    assert _verify(model, _graph(model), table.X).passed


@pytest.mark.parametrize("estimator", [DecisionTreeClassifier(), RandomForestClassifier(3)], ids=_name)
def test_the_file_is_what_the_oldest_runtime_reads(estimator: Any) -> None:
    model, _ = _fit(estimator, TWO)
    graph = _graph(model)
    assert graph.ir_version == IR_VERSION <= 10
    assert {entry.domain: entry.version for entry in graph.opset_import} == OPSETS
    [features] = graph.graph.input
    assert features.name == "features"
    assert features.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [output.name for output in graph.graph.output] == ["label", "probabilities"]
    assert graph.graph.output[1].type.tensor_type.shape.dim[1].dim_value == 2


def test_the_same_model_gives_the_same_bytes() -> None:
    model, _ = _fit(RandomForestClassifier(3, random_state=0), THREE)
    assert _graph(model).SerializeToString() == _graph(model).SerializeToString()


def test_what_cannot_be_folded_is_judged_by_the_rows_beside_a_label_change() -> None:
    model, x = _fit(make_pipeline(PCA(2), DecisionTreeClassifier(random_state=0)), TWO)
    assert fold(model).trees is None
    result = _verify(model, _graph(model), x)
    assert "where the label changes" in str(result)
    assert result.edge_rows == ROWS / 2
    assert result.passed


def test_a_linear_model_becomes_a_float64_graph() -> None:
    model, x = _fit(make_pipeline(StandardScaler(), LogisticRegression()), TWO)
    assert fold(model).trees is None
    assert _verify(model, _graph(model), x).passed


def test_another_model_is_refused_with_the_number_of_rows() -> None:
    model, x = _fit(DecisionTreeClassifier(max_depth=3, random_state=0), TWO)
    other, _ = _fit(DecisionTreeClassifier(max_depth=2, random_state=0), TWO)
    result = _verify(model, _graph(other), x)
    assert not result.passed
    with pytest.raises(
        ModelError, match=r"the file does not reproduce scikit-learn: of 20,240 rows [\d,]+ have a different"
    ):
        require_verified(result, "the file")


def test_a_threshold_off_by_one_float32_step_is_found() -> None:
    """The test of the test: the smallest error that a conversion can make."""
    model, x = _fit(DecisionTreeClassifier(max_depth=3, random_state=0), TWO)
    folded = fold(model)
    assert folded.trees is not None
    (tree,) = folded.trees
    moved = np.nextafter(tree.threshold.astype(np.float32), np.float32(np.inf)).astype(np.float64)
    graph = build_graph(replace(folded, trees=[tree.with_thresholds(moved)]), TWO)
    assert _verify(model, graph, x).labels_differ > 0


def test_a_classifier_without_probabilities_answers_its_label() -> None:
    for labels in (TWO, THREE):
        model, x = _fit(LinearSVC(), labels)
        graph = _graph(model)
        assert [output.name for output in graph.graph.output] == ["label"]
        assert _verify(model, graph, x).passed


def test_an_unknown_class_is_refused_by_its_name() -> None:
    class Mine(DecisionTreeClassifier):  # type: ignore[misc]  # scikit-learn carries no types
        pass

    model, _ = _fit(make_pipeline(PCA(2), Mine()), TWO)
    with pytest.raises(InputError, match="Mine can't be exported"):
        _graph(model)


def test_float32_floor_asks_the_same_question() -> None:
    thresholds = np.array([0.1, 1 / 3, 1.0, -0.1, 16777217.0, 1e300, -1e300, 5e-324, 0.0])
    floor = float32_floor(thresholds)
    for threshold, low in zip(thresholds, floor, strict=True):
        around = np.float32(np.clip(threshold, -3e38, 3e38))
        for x in (np.nextafter(around, np.float32(-np.inf)), around, np.nextafter(around, np.float32(np.inf))):
            assert (float(x) <= threshold) == (float(x) <= low)


def test_rounding_keeps_the_winner() -> None:
    close = np.array([[0.5 - 1e-12, 0.5 + 1e-12], [0.5, 0.5], [0.5 + 1e-12, 0.5 - 1e-12]])
    assert (keep_winner(close)[:, 1] > 0.5).tolist() == [True, False, False]
    third = np.array([[1 / 3, 1 / 3 + 1e-12, 1 / 3 - 1e-12], [0.4, 0.4, 0.2]])
    assert keep_winner(third).argmax(axis=1).tolist() == [1, 0]


def test_thresholds_by_feature_are_distinct_and_sorted() -> None:
    model, _ = _fit(RandomForestClassifier(5, random_state=0), TWO)
    trees = trees_of(model)
    assert trees is not None
    for values in thresholds_by_feature(trees, 3):
        assert np.all(np.diff(values) > 0)


def test_the_reference_does_not_depend_on_threads() -> None:
    model, x = _fit(RandomForestClassifier(20, n_jobs=2, random_state=0), TWO)
    one, two = (Reference(model, x).training.numbers for _ in range(2))
    assert np.array_equal(one, two)
    assert model.n_jobs == 2


class _Counting:
    """A fitted model that notes how many rows it is asked about each time."""

    def __init__(self, model: Any) -> None:
        self.model, self.asked = model, list[int]()
        self.classes_, self.n_features_in_ = model.classes_, model.n_features_in_

    def __deepcopy__(self, _memo: dict[int, object]) -> _Counting:
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return dict(self.model.get_params(deep))

    def set_params(self, **parameters: Any) -> None:
        self.model.set_params(**parameters)

    def predict(self, X: Any, /) -> Any:
        self.asked.append(len(X))
        return self.model.predict(X)

    def predict_proba(self, X: Any, /) -> Any:
        return self.model.predict_proba(X)


@pytest.mark.parametrize("estimator", [DecisionTreeClassifier(), LogisticRegression()], ids=_name)
def test_proof_and_card_ask_about_the_training_rows_once(estimator: Any) -> None:
    model, x = _fit(estimator, TWO)
    counting, folded, table = _Counting(model), fold(model), make_table(labels=TWO)
    reference = Reference(counting, x)
    draft = draft_card(Identity("mood", "1.0.0", "2026-01-31"), table, Sheet(), Classification(TWO))
    assert verify(reference, folded, _graph(model).SerializeToString(), rows=1000).passed
    origin = Origin("", {}, Metrics(values={}, method="not measured"))
    assert set(build_card(draft, origin, reference, folded, seed=0).self_test.labels) == set(TWO)
    assert counting.asked.count(len(x)) == 1
    assert counting.asked.count(1000) == 1


@pytest.mark.parametrize(
    "estimator", [*ESTIMATORS, make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0))]
)
def test_missing_values_go_where_scikit_learn_sends_them(estimator: Any) -> None:
    table = make_table(labels=THREE)
    x = table.X.copy()
    x[np.random.default_rng(0).random(x.shape) < (0.3, 0.1, 0.0)] = np.nan
    model = clone(estimator).fit(x.astype(np.float64), table.labels)
    draft = draft_card(Identity("gaps", "1.0.0", "2026-01-31"), replace(table, X=x), Sheet(), Classification(THREE))
    _, result = model_file(
        model, draft, Origin("", {}, Metrics(values={}, method="")), seed=0, say=lambda _: None, rows=ROWS
    )
    assert (result.labels_differ, result.numbers_differ) == (0, 0)
    assert [feature.missing for feature in draft.features] == [True, True, False]
