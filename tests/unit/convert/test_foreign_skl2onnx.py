"""ONNX files of skl2onnx: with ZipMap and without, with one input or one for each column, of numbers and of words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from edge_convert.foreign.model import parted
from edge_convert.words import Words
from onnx import ModelProto
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from edge_agent.errors import InputError
from tests.unit.convert.foreign import IRIS, NAMES, SIZES, SPECIES, TEXTS, require_same, settled, table_of

pytestmark = pytest.mark.filterwarnings("ignore")


#: Labels that are no names for outputs.
NAMED = np.array(["a, b", "[c", "d"])[SPECIES]


def converted(model: Any, kind: Any = FloatTensorType, name: str = "X", **options: Any) -> ModelProto:
    found: ModelProto = to_onnx(model, initial_types=[(name, kind([None, 4]))], options=options or None)
    return found


# With float64 numbers skl2onnx makes dictionaries, and trees, that onnxruntime refuses.
@pytest.mark.parametrize(
    ("estimator", "kind", "zipmap"),
    [
        (DecisionTreeClassifier(max_depth=4, random_state=0), FloatTensorType, True),
        (RandomForestClassifier(8, random_state=0), FloatTensorType, False),
        (RandomForestClassifier(8, random_state=0), DoubleTensorType, False),
        (make_pipeline(StandardScaler(), LogisticRegression()), FloatTensorType, True),
        (make_pipeline(StandardScaler(), LogisticRegression()), DoubleTensorType, False),
    ],
    ids=["tree", "forest", "forest-float64", "logistic", "logistic-float64"],
)
def test_classifiers_with_text_labels(estimator: Any, kind: Any, zipmap: bool, tmp_path: Path) -> None:
    fitted = estimator.fit(IRIS, TEXTS)
    foreign = require_same(converted(fitted, kind, zipmap=zipmap), tmp_path)
    assert foreign.meaning.names == tuple(NAMES)
    assert foreign.meaning.how == "probabilities"
    assert foreign.rounds == (kind is FloatTensorType)
    assert foreign.notes == ()
    assert foreign.title.startswith("ONNX file (skl2onnx 1.")


def test_labels_that_are_numbered_are_named(tmp_path: Path) -> None:
    model = converted(LogisticRegression(max_iter=1000).fit(IRIS, SPECIES), name="float_input")
    foreign = require_same(model, tmp_path, table_of(labels=SPECIES))
    assert foreign.meaning.names == ("0", "1", "2")
    assert "as the file numbers its labels; --label-names" in foreign.notes[0]
    assert require_same(model, tmp_path, label_names=("setosa,versicolor,virginica",)).meaning.names == tuple(NAMES)
    with pytest.raises(InputError, match="has 3 labels; --label-names has 2: a, b"):
        settled(model, tmp_path, table_of(), label_names=("a", "b"))


def test_numbers_of_labels_need_not_begin_at_0(tmp_path: Path) -> None:
    model = converted(DecisionTreeClassifier(max_depth=3).fit(IRIS, SPECIES * 5 - 2))
    foreign = require_same(model, tmp_path, label_names=tuple(NAMES))
    assert (foreign.meaning.classes, foreign.meaning.names) == ((-2, 3, 8), tuple(NAMES))


def test_text_labels_keep_their_names(tmp_path: Path) -> None:
    model = converted(DecisionTreeClassifier().fit(IRIS, TEXTS))
    with pytest.raises(InputError, match="--label-names is for files that number their labels; this one has setosa, "):
        settled(model, tmp_path, table_of(), label_names=("a", "b", "c"))


def test_decision_values_are_no_probabilities(tmp_path: Path) -> None:
    foreign = require_same(converted(LinearSVC().fit(IRIS, TEXTS)), tmp_path)
    assert foreign.meaning.how == "labels"
    assert (
        "answers labels without probabilities: the numbers in 'probabilities' don't lie between 0 and 1"
        in foreign.notes[0]
    )
    softened = require_same(converted(LinearSVC().fit(IRIS, TEXTS)), tmp_path, scores="softmax")
    assert softened.labels_of(IRIS).numbers.shape == (150, 3)


def test_outputs_that_say_nothing_of_a_row_are_ignored(tmp_path: Path) -> None:
    model = converted(LogisticRegression(max_iter=1000).fit(IRIS, TEXTS), zipmap=False, output_class_labels=True)
    assert [output.name for output in model.graph.output][-1] == "class_labels"
    assert require_same(model, tmp_path).meaning.names == tuple(NAMES)


@pytest.mark.parametrize(
    "labels", [TEXTS, SPECIES * 5 - 2, TEXTS == "setosa", NAMED], ids=["texts", "numbers", "two", "commas"]
)
def test_a_column_for_each_probability(labels: Any, tmp_path: Path) -> None:
    fitted = RandomForestClassifier(3, random_state=0).fit(
        IRIS, np.where(labels, 1, 0) if labels.dtype == bool else labels
    )
    model = converted(fitted, zipmap="columns")
    names = tuple(map(str, fitted.classes_))
    foreign = require_same(model, tmp_path, table_of(labels=np.array(list(map(str, fitted.predict(IRIS))))))
    assert (foreign.meaning.how, foreign.meaning.names) == ("probabilities", names)
    assert np.abs(foreign.labels_of(IRIS).numbers - fitted.predict_proba(IRIS)).max() < 1e-6
    # What its card says of it is enough to find the outputs again.
    outputs = tuple(output.name for output in model.graph.output)
    assert parted(str(foreign.get_params()["outputs"])) == foreign.meaning.asked.names == outputs
    assert settled(model, tmp_path, table_of(), outputs=outputs).meaning.names == names
    assert require_same(model, tmp_path, outputs=("output_label",)).meaning.how == "labels"
    if len(names) == 3:  # some of them are no probabilities of the row
        assert require_same(model, tmp_path, outputs=outputs[:3]).meaning.how == "labels"


def test_regressors_and_their_units(tmp_path: Path) -> None:
    for estimator in (RandomForestRegressor(5, random_state=0), LinearRegression()):
        fitted = estimator.fit(IRIS[:, :], IRIS[:, 3] * 2)
        foreign = require_same(converted(fitted), tmp_path, table_of(labels=IRIS[:, 3] * 2))
        assert (foreign.meaning.how, foreign.notes) == ("numbers", ("answers the number in 'variable' as it is",))
    several = LinearRegression().fit(IRIS, IRIS[:, :2])
    table = table_of(labels=IRIS[:, 0], others={"width": IRIS[:, 1].astype(str)})
    assert require_same(converted(several), tmp_path, table).meaning.width == 2


MIXED = pd.DataFrame(
    {
        "temperature": np.round(np.random.default_rng(0).normal(20, 5, 300), 1),
        "count": np.random.default_rng(1).integers(0, 9, 300),
        "room": np.random.default_rng(2).choice(["attic", "cellar", "hall"], 300),
        "open": np.random.default_rng(3).random(300) < 0.5,
    }
)
ROOMS = Words("category", ("attic", "cellar", "hall"))
CODED = np.column_stack(
    [
        MIXED["temperature"],
        MIXED["count"],
        [ROOMS.categories.index(room) for room in MIXED["room"]],
        MIXED["open"],
    ]
).astype(np.float64)
COMFORT = np.where((MIXED["temperature"] > 20) ^ (MIXED["room"] == "cellar"), "good", "bad")


def test_an_input_for_each_column_of_any_type(tmp_path: Path) -> None:
    encoder = ColumnTransformer([("room", OneHotEncoder(), ["room"])], remainder="passthrough")
    fitted = make_pipeline(encoder, RandomForestClassifier(5, random_state=0)).fit(MIXED, COMFORT)
    kinds = {
        "temperature": DoubleTensorType,
        "count": Int64TensorType,
        "room": StringTensorType,
        "open": BooleanTensorType,
    }
    model = to_onnx(fitted, initial_types=[(name, kind([None, 1])) for name, kind in kinds.items()])
    table = table_of(CODED, COMFORT, tuple(kinds), words={"room": ROOMS, "open": Words("boolean")})
    foreign = require_same(model, tmp_path, table)
    assert foreign.original.column_names == tuple(kinds)
    assert not foreign.rounds
    assert "takes whole numbers in 'count': what is behind the decimal point is dropped" in foreign.notes
    # The rows are those that the estimator itself was trained on.
    assert (foreign.labels_of(CODED).labels == fitted.predict(MIXED)).mean() > 0.98

    as_number = table_of(CODED, COMFORT, tuple(kinds))
    with pytest.raises(InputError, match=r"column 'room' holds numbers, and input 'room' of .* takes text"):
        settled(model, tmp_path, as_number)
    lacking = CODED.copy()
    lacking[3, 1] = np.nan
    with pytest.raises(InputError, match=r"column 'count' has missing values, and input 'count' of .* takes int64"):
        settled(model, tmp_path, table_of(lacking, COMFORT, tuple(kinds), words=table.words))


def test_inputs_of_float_columns_stay_float32(tmp_path: Path) -> None:
    fitted = make_pipeline(ColumnTransformer([("scaled", StandardScaler(), list(SIZES))]), LogisticRegression()).fit(
        pd.DataFrame(IRIS, columns=list(SIZES)), TEXTS
    )
    model = to_onnx(fitted, initial_types=[(name, FloatTensorType([None, 1])) for name in SIZES])
    assert require_same(model, tmp_path).rounds
    with pytest.raises(InputError, match=r"has 3 feature columns, and .* takes 4 \(sepal_length, .*--columns"):
        settled(model, tmp_path, table_of(IRIS[:, :3], names=SIZES[:3]))


def test_words_for_a_number_are_refused(tmp_path: Path) -> None:
    model = converted(DecisionTreeClassifier().fit(CODED, COMFORT))
    table = table_of(CODED, COMFORT, words={"petal_length": ROOMS})
    with pytest.raises(
        InputError, match=r"column 'petal_length' holds words, and input 'X' of .* takes float32: how the model codes"
    ):
        settled(model, tmp_path, table)
