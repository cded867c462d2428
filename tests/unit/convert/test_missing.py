"""Tables with gaps and `--missing native`: from the command to the agent's answer, which is scikit-learn's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skops.io
from click.testing import CliRunner
from edge_convert.describe import Sheet
from edge_convert.modelcard import Identity, Origin, draft_card
from edge_convert.tasks import task_of
from edge_convert.workflow import model_file
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.tree import DecisionTreeClassifier

from edge_agent.cli.main import cli
from edge_agent.contract.card import ANOMALY, Metrics
from edge_agent.contract.seal import seal
from edge_agent.errors import InputError
from tests.unit.convert.conftest import Run, make_table

FAST = ("--folds", "3", "--jobs", "1", "--date", "2026-01-31")
TABLE = make_table(labels=("calm", "loud", "odd"))


def _gaps() -> NDArray[np.float64]:
    """The table's features with positions of six decimals in the first column, and gaps in the first and the second."""
    x = TABLE.X.copy()
    x[:, 0] = np.round(48.137 + x[:, 0] * 2e-6, 6)
    x[np.random.default_rng(0).random(x.shape) < (0.3, 0.1, 0.0)] = np.nan
    return x


X = _gaps()
NUMBERS = np.round(np.nan_to_num(X[:, 1], nan=3.5) + TABLE.X[:, 0], 2)


def _write(path: Path) -> Path:
    """Write the table with an empty cell where there is a gap."""
    assert TABLE.labels is not None
    rows = [
        ",".join(["" if np.isnan(value) else repr(float(value)) for value in row] + [label])
        for row, label in zip(X, TABLE.labels, strict=True)
    ]
    path.write_text("\n".join([",".join([*TABLE.feature_names, "mood"]), *rows]) + "\n")
    return path


def _messages(rows: NDArray[np.float64]) -> list[dict[str, float | None]]:
    return [
        {name: None if np.isnan(value) else float(value) for name, value in zip(TABLE.feature_names, row, strict=True)}
        for row in rows
    ]


def _answers(model: Path, messages: list[dict[str, float | None]]) -> list[dict[str, Any]]:
    """What the agent says: `edge-agent try`."""
    done = CliRunner().invoke(
        cli, ["try", "--model", str(model), "-"], input="".join(json.dumps(one) + "\n" for one in messages)
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _asked() -> NDArray[np.float64]:
    """Rows of the table, and rows that lack one or both of what may be missing."""
    rows = TABLE.X[:40].copy()
    rows[:, 0] = np.round(48.137 + rows[:, 0] * 2e-6, 6)
    rows[::2, 0] = rows[::3, 1] = np.nan
    return np.concatenate([X[:80], rows])


def _require_answers(path: Path, model: Any) -> None:
    rows = _asked()
    answers = _answers(path, _messages(rows))
    assert [answer.get("label") for answer in answers] == list(map(str, model.predict(rows)))
    probabilities = [[answer["probabilities"][name] for name in model.classes_] for answer in answers]
    np.testing.assert_allclose(probabilities, model.predict_proba(rows), atol=2e-6)
    (rejected,) = _answers(path, [{**_messages(rows)[1], "noise": None}])
    assert (rejected["error"], rejected["detail"][0]["loc"]) == ("invalid_features", ["noise"])


def test_train_on_gaps_and_answer_null_as_scikit_learn_does(run: Run, tmp_path: Path) -> None:
    out, estimator, report = tmp_path / "m.onnx", tmp_path / "m.skops", tmp_path / "r.html"
    command = ("train", "--data", _write(tmp_path / "t.csv"), "--target", "mood", "--out", out, *FAST)
    refused = run(*command)
    assert refused.exit_code == 2
    for way in ("--missing drop", "--missing native", "--drop a column", "fill them in"):
        assert way in refused.stderr
    done = run(*command, "--missing", "native", "--save-estimator", estimator, "--report", report)
    assert done.exit_code == 0, done.output
    assert "nan" not in report.read_text().lower().split()
    _require_answers(out, skops.io.load(estimator, trusted=skops.io.get_untrusted_types(file=estimator)))
    # Also on a table without gaps the file is asked about those that its card allows.
    whole = tmp_path / "whole.csv"
    whole.write_text(
        "\n".join(line for line in (tmp_path / "t.csv").read_text().splitlines() if ",," not in f",{line}")
    )
    for table in (tmp_path / "t.csv", whole):
        verify = ("verify", out, "--estimator", estimator, "--data", table, "--rows", "2000")
        assert run(*verify).exit_code == 0
        flipped = onnx.load_from_string(out.read_bytes())
        for node in flipped.graph.node:
            for attribute in node.attribute:
                if attribute.name == "nodes_missing_value_tracks_true":
                    attribute.ints[:] = [1 - one for one in attribute.ints]
        other = tmp_path / "flipped.onnx"
        other.write_bytes(seal(flipped.SerializeToString()))
        done = run("verify", other, *verify[2:])
        assert done.exit_code == 3, done.output


def test_a_row_without_a_label_is_refused_with_native_as_well(run: Run, tmp_path: Path) -> None:
    table = _write(tmp_path / "t.csv")
    table.write_text(table.read_text() + "1,2,3,\n")
    done = run("train", "--data", table, "--target", "mood", "--missing", "native", "--out", tmp_path / "m.onnx")
    assert done.exit_code == 2
    assert "label 'mood' in 1 (first in row 242); leave these rows out of the table, or fill them in" in done.stderr


def _fitted(estimator: Any, target: NDArray[Any]) -> Any:
    return estimator.fit(X, target)


def _file(model: Any, path: Path) -> Path:
    """Write a model's file, as `export` does, with few generated rows."""
    task = task_of(model)
    assert task is not None
    draft = draft_card(Identity("gaps", "1.0.0", "2026-01-31"), replace(TABLE, X=X), Sheet(), task)
    origin = Origin("", {}, Metrics(values={}, method=""))
    content, _ = model_file(model, draft, origin, seed=0, say=lambda _: None, rows=3000)
    path.write_bytes(content)
    return path


def test_export_of_a_forest_that_was_trained_on_gaps(run: Run, tmp_path: Path) -> None:
    assert TABLE.labels is not None
    model, estimator, out = RandomForestClassifier(5, random_state=0), tmp_path / "m.skops", tmp_path / "m.onnx"
    skops.io.dump(_fitted(model, TABLE.labels), estimator)
    data = ("--data", _write(tmp_path / "t.csv"), "--target", "mood")
    done = run("export", estimator, *data, "--missing", "native", "--out", out)
    assert done.exit_code == 0, done.output
    _require_answers(out, model)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(HistGradientBoostingClassifier(max_iter=9), id="boosting, which compares float64"),
        pytest.param(make_pipeline(MinMaxScaler(), DecisionTreeClassifier(random_state=0)), id="scaler"),
    ],
)
def test_float64_graphs_take_gaps(estimator: Any, tmp_path: Path) -> None:
    assert TABLE.labels is not None
    model = _fitted(estimator, TABLE.labels)
    _require_answers(_file(model, tmp_path / "m.onnx"), model)


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(5, random_state=0),
        ExtraTreesRegressor(5, random_state=0),
        HistGradientBoostingRegressor(max_iter=9),
    ],
    ids=str,
)
def test_numbers_of_rows_with_gaps(estimator: Any, tmp_path: Path) -> None:
    model, rows = _fitted(estimator, NUMBERS), _asked()
    answers = _answers(_file(model, tmp_path / "m.onnx"), _messages(rows))
    np.testing.assert_allclose([answer["value"] for answer in answers], model.predict(rows), rtol=1e-11)


def test_anomalies_of_rows_with_gaps(tmp_path: Path) -> None:
    model, rows = IsolationForest(n_estimators=9, random_state=0).fit(X), _asked()
    answers = _answers(_file(model, tmp_path / "m.onnx"), _messages(rows))
    assert [answer["label"] == ANOMALY for answer in answers] == list(model.predict(rows) == -1)


@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingClassifier(n_estimators=2).fit(TABLE.X, TABLE.labels),
        make_pipeline(MinMaxScaler(), LogisticRegression()).fit(TABLE.X, TABLE.labels),
    ],
    ids=str,
)
def test_models_without_branches_for_gaps_are_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has missing values, and .* can't be exported with them.*--missing drop"):
        _file(model, tmp_path / "m.onnx")
