"""Models that were trained on a data frame: columns by name, words, `set_output`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from edge_convert.describe import Sheet
from edge_convert.load import load_estimator
from edge_convert.modelcard import Draft, Identity, Origin, draft_card
from edge_convert.tables import TableChoice
from edge_convert.tasks import task_of
from edge_convert.workflow import model_file
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from edge_agent.contract.card import Metrics
from edge_agent.model.onnx import Predictor
from tests.unit.convert.conftest import Run

pd = pytest.importorskip("pandas", reason="models that were trained on a data frame need it")

NUMBERS, WORDS = ["level", "pitch"], ["room"]


def frame(n: int = 120) -> Any:
    rng = np.random.default_rng(0)
    level, pitch = rng.normal(20, 4, n).round(1), rng.normal(0, 1, n).round(2)
    room = np.array(["bath", "hall", "kitchen"], dtype=object)[rng.integers(0, 3, n)]
    warm = (level + 3 * pitch + 4 * (room == "bath") > 21).astype(int)
    return pd.DataFrame({"level": level, "room": room, "pitch": pitch, "warm": warm})


def served(model: Any, path: Path, table: Any) -> tuple[Any, Predictor, Draft]:
    """Return the model as it is opened, what the device opens, and the draft of the card."""
    table.to_csv(path / "table.csv", index=False)
    skops.io.dump(model, path / "model.skops")
    loaded = load_estimator(path / "model.skops")
    given = TableChoice(data=path / "table.csv", target="warm").read()
    task = task_of(loaded)
    assert task is not None
    draft = draft_card(Identity("frame", "1.0.0", "2026-01-31"), given, Sheet(), task)
    origin = Origin("", {}, Metrics(values={}, method="not measured"))
    content, _ = model_file(loaded, draft, origin, seed=0, say=lambda _: None, rows=2_000)
    return loaded, Predictor(content, where="frame.onnx"), draft


def by_name(encoder: Any, last: Any) -> Any:
    return make_pipeline(ColumnTransformer([("n", StandardScaler(), NUMBERS), ("w", encoder, WORDS)]), last)


@pytest.mark.parametrize(
    "model",
    [
        by_name(OneHotEncoder(), LogisticRegression()),
        by_name(OneHotEncoder(drop="first", sparse_output=False), RandomForestClassifier(4, random_state=0)),
        by_name(OrdinalEncoder(), DecisionTreeClassifier(max_depth=4, random_state=0)),
        by_name(OneHotEncoder(sparse_output=False), LogisticRegression()).set_output(transform="pandas"),
        make_pipeline(
            ColumnTransformer([("w", OneHotEncoder(), WORDS)], remainder="passthrough"),
            DecisionTreeClassifier(max_depth=4),
        ),
        make_pipeline(
            ColumnTransformer(
                [
                    ("n", StandardScaler(), make_column_selector(dtype_include="number")),
                    ("w", OneHotEncoder(), make_column_selector(dtype_exclude="number")),
                ]
            ),
            LogisticRegression(),
        ),
    ],
)
def test_words_reach_the_encoder_that_knows_them(model: Any, tmp_path: Path) -> None:
    table = frame()
    X = table.drop(columns="warm")
    loaded, predictor, draft = served(clone(model).fit(X, table["warm"]), tmp_path, table)
    assert draft.features[1].categories == ("bath", "hall", "kitchen")
    codes = X.assign(room=[draft.features[1].categories.index(word) for word in X["room"]]).to_numpy(np.float64)
    answers = [dict(predictor.output.fields(predictor.read(one))) for one in predictor.predict(codes.tolist())]
    assert [answer["label"] for answer in answers] == loaded.predict(X).astype(str).tolist()


@pytest.mark.parametrize("options", [{}, {"categorical_features": ["room"]}])
def test_words_reach_boosting_that_takes_them_for_categories(options: dict[str, Any], tmp_path: Path) -> None:
    table = frame()
    X = table.drop(columns="warm").astype({"room": "category"})
    # Training never saw a kitchen.
    seen = X["room"] != "kitchen"
    model = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5, **options)
    loaded, predictor, draft = served(model.fit(X[seen], table["warm"][seen]), tmp_path, table)
    assert (draft.features[1].kind, draft.features[1].categories) == ("category", ("bath", "hall", "kitchen"))
    codes = X.assign(room=[draft.features[1].categories.index(word) for word in X["room"]]).to_numpy(np.float64)
    answers = [predictor.read(one)[0] for one in predictor.predict(codes.tolist())]
    assert answers == loaded.predict(X).astype(str).tolist()


def test_columns_by_name_without_words(tmp_path: Path) -> None:
    table = frame().drop(columns="room")
    X = table.drop(columns="warm")
    model = make_pipeline(ColumnTransformer([("n", StandardScaler(), ["pitch", "level"])]), LogisticRegression())
    loaded, predictor, _ = served(model.fit(X, table["warm"]), tmp_path, table)
    answers = [predictor.read(one)[0] for one in predictor.predict(X.to_numpy().tolist())]
    assert answers == loaded.predict(X).astype(str).tolist()


def test_words_without_an_encoder_are_refused(run: Run, tmp_path: Path) -> None:
    table = frame()
    table.to_csv(tmp_path / "table.csv", index=False)
    X = table.drop(columns="warm").assign(room=0.0)
    skops.io.dump(DecisionTreeClassifier(max_depth=4).fit(X, table["warm"]), tmp_path / "m.skops")
    done = run("export", tmp_path / "m.skops", "--data", tmp_path / "table.csv", "--out", tmp_path / "m.onnx")
    assert done.exit_code == 2
    assert "column 'room' holds words, and how the estimator codes them is not known" in done.stderr
