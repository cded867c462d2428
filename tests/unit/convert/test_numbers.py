"""Models that answer numbers, or whether something is an anomaly: as scikit-learn does, to the last bit."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from edge_convert.fold import fold
from edge_convert.reference import Reference
from edge_convert.sessions import open_session
from edge_convert.tasks import Anomaly, Regression, Task, task_of
from edge_convert.verify import require_verified, verify
from edge_convert.verify import run as run_file
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestRegressor,
)
from sklearn.impute import KNNImputer
from sklearn.neighbors import RadiusNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeRegressor, ExtraTreeRegressor

from edge_agent.contract.card import Quantity
from edge_agent.errors import InputError, ModelError
from edge_agent.model.library import Predictor
from tests.unit.convert.conftest import Run

ROWS = 20_000

ONE_NUMBER: list[Any] = [
    DecisionTreeRegressor(random_state=0),
    ExtraTreeRegressor(random_state=0),
    RandomForestRegressor(9, random_state=0, n_jobs=2),
    ExtraTreesRegressor(9, max_depth=6, random_state=0),
    GradientBoostingRegressor(n_estimators=20, random_state=0),
    GradientBoostingRegressor(n_estimators=20, init="zero", loss="huber", random_state=0),
    HistGradientBoostingRegressor(max_iter=20, random_state=0),
    HistGradientBoostingRegressor(max_iter=20, loss="quantile", quantile=0.9, random_state=0),
    make_pipeline(StandardScaler(), HistGradientBoostingRegressor(max_iter=20, random_state=0)),
    make_pipeline(RobustScaler(), GradientBoostingRegressor(n_estimators=20, random_state=0)),
]
SEVERAL_NUMBERS: list[Any] = [
    DecisionTreeRegressor(random_state=0),
    RandomForestRegressor(9, random_state=0),
    ExtraTreesRegressor(9, random_state=0),
]
OUTLIERS: list[Any] = [
    IsolationForest(n_estimators=20, random_state=0),
    IsolationForest(n_estimators=20, contamination=0.1, max_features=0.4, random_state=0),
    make_pipeline(StandardScaler(), IsolationForest(n_estimators=20, contamination=0.05, random_state=0)),
]


def _name(estimator: Any) -> str:
    return type(estimator).__name__


def _diabetes() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    data = load_diabetes()
    return data.data.astype(np.float32), data.target


def _linnerud() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    data = load_linnerud()
    return data.data.astype(np.float32), data.target


def _proven(model: Any, x: NDArray[np.float32]) -> tuple[Task, bytes, float]:
    """The task, the graph, and the largest difference of any number."""
    task, folded = task_of(model), fold(model)
    assert task is not None
    content = task.graph(folded).SerializeToString()
    result = verify(Reference(model, x), folded, content, rows=ROWS)
    assert result.passed, str(result)
    return task, content, result.largest_difference


@pytest.mark.parametrize("estimator", ONE_NUMBER, ids=_name)
def test_a_number_is_the_same_to_the_last_bit(estimator: Any) -> None:
    x, y = _diabetes()
    assert _proven(clone(estimator).fit(x.astype(np.float64), y), x)[2] == 0


@pytest.mark.parametrize("estimator", SEVERAL_NUMBERS, ids=_name)
def test_several_numbers_are_the_same_to_the_last_bit(estimator: Any) -> None:
    x, y = _linnerud()
    assert _proven(clone(estimator).fit(x.astype(np.float64), y), x)[2] == 0


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_an_exponential_is_the_same_to_its_last_bits(loss: str) -> None:
    x, y = _diabetes()
    model = HistGradientBoostingRegressor(loss=loss, max_iter=20, random_state=0).fit(x.astype(np.float64), y)
    assert _proven(model, x)[2] < 1e-15


def test_large_numbers_keep_their_last_digits() -> None:
    x, y = _diabetes()
    model = ExtraTreesRegressor(9, random_state=0).fit(x.astype(np.float64), y + 1_654_733_331)
    task, content, difference = _proven(model, x)
    assert difference == 0
    assert np.array_equal(run_file(open_session(content), x, task).numbers[:, 0], model.predict(x))


@pytest.mark.parametrize("estimator", OUTLIERS, ids=_name)
def test_an_anomaly_is_one_even_where_its_score_is_the_threshold(estimator: Any) -> None:
    x, _ = _diabetes()
    model = clone(estimator).fit(x.astype(np.float64))
    task, _, difference = _proven(model, x)
    assert isinstance(task, Anomaly)
    assert difference < 1e-15
    score = -model.score_samples(x.astype(np.float64))
    assert ((score > task.threshold) == (model.predict(x.astype(np.float64)) == -1)).all()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (RadiusNeighborsRegressor(radius=1e3), "RadiusNeighborsRegressor can't be exported"),
        (make_pipeline(KNNImputer(), DecisionTreeRegressor()), "KNNImputer can't be exported"),
        (
            make_pipeline(PCA(2), IsolationForest()),
            "IsolationForest: can be exported with nothing but scalers in front",
        ),
        (IsolationForest(max_samples=1), "each tree saw one row only"),
    ],
)
def test_what_can_not_be_exported_is_refused_with_the_reason(model: Any, reason: str) -> None:
    x, y = _diabetes()
    fitted = clone(model).fit(x.astype(np.float64), y)
    task = task_of(fitted)
    assert task is not None
    with pytest.raises(InputError, match=reason):
        task.graph(fold(fitted))


def test_another_model_is_told_by_its_values() -> None:
    x, y = _diabetes()
    one, other = (
        DecisionTreeRegressor(max_depth=depth, random_state=0).fit(x.astype(np.float64), y) for depth in (3, 4)
    )
    content = Regression((Quantity(name="y"),)).graph(fold(one)).SerializeToString()
    result = verify(Reference(other, x), fold(other), content, rows=1000)
    with pytest.raises(
        ModelError,
        match=r"of 1,442 rows \d.* have a value off by more than 1e-10 .*, as a share of the largest; export it with --tolerance",
    ):
        require_verified(result, "the file")


def _write(path: Path, names: list[str], columns: list[NDArray[Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
    return path


@pytest.fixture
def diabetes(tmp_path: Path) -> Path:
    data = load_diabetes()
    return _write(tmp_path / "diabetes.csv", [*data.feature_names, "progression"], [*data.data.T, data.target])


@pytest.fixture
def linnerud(tmp_path: Path) -> Path:
    data = load_linnerud()
    names = [*data.feature_names, *data.target_names]
    return _write(tmp_path / "linnerud.csv", names, [*data.data.T, *data.target.T])


def test_a_regressor_of_others_becomes_a_file_that_a_device_serves(run: Run, diabetes: Path, tmp_path: Path) -> None:
    x, y = _diabetes()
    skops.io.dump(RandomForestRegressor(5, random_state=0).fit(x.astype(np.float64), y), tmp_path / "m.skops")
    source = ("--data", diabetes, "--target", "progression")
    done = run("export", tmp_path / "m.skops", *source, "--unit", "points", "--out", tmp_path / "m.onnx")
    assert done.exit_code == 0, done.output
    assert "0 values differ by more than 1e-10, largest value difference 0.0e+00 of the largest" in done.stdout
    model = Predictor((tmp_path / "m.onnx").read_bytes(), where="m.onnx")
    assert (model.card.task, model.card.outputs, model.card.training.class_counts) == (
        "regression",
        (Quantity(name="progression", unit="points"),),
        {},
    )
    assert model.self_test_difference < 1e-15
    done = run("verify", tmp_path / "m.onnx", "--estimator", tmp_path / "m.skops", *source, "--rows", "1000")
    assert done.exit_code == 0, done.output


def test_several_targets_are_named_after_their_columns(run: Run, linnerud: Path, tmp_path: Path) -> None:
    x, y = _linnerud()
    skops.io.dump(DecisionTreeRegressor(random_state=0).fit(x.astype(np.float64), y), tmp_path / "m.skops")
    targets = [word for name in load_linnerud().target_names for word in ("--target", name)]
    command = ("export", tmp_path / "m.skops", "--data", linnerud, *targets, "--out", tmp_path / "m.onnx")
    done = run(*command, "--unit", "lb", "--unit", "in", "--unit", "1/min")
    assert done.exit_code == 0, done.output
    model = Predictor((tmp_path / "m.onnx").read_bytes(), where="m.onnx")
    assert model.output.summary == "Weight in lb, Waist in in, Pulse in 1/min"
    fields = model.output.fields(model.read(model.predict([x[0].tolist()])[0]))
    assert fields == {"values": dict(zip(("Weight", "Waist", "Pulse"), y[0].tolist(), strict=True))}
    done = run(*command, "--unit", "lb")
    assert (done.exit_code, "there are 1 units for 3 numbers" in done.stderr) == (2, True), done.stderr
    fewer = (*command[:4], "--target", "Weight", "--drop", "Waist,Pulse", *command[-2:])
    done = run(*fewer)
    assert (done.exit_code, "answers 3 numbers; give as many columns" in done.stderr) == (2, True), done.stderr


def test_an_isolation_forest_becomes_a_file_that_a_device_serves(run: Run, diabetes: Path, tmp_path: Path) -> None:
    x, _ = _diabetes()
    forest = IsolationForest(n_estimators=10, contamination=0.1, random_state=0).fit(x.astype(np.float64))
    skops.io.dump(forest, tmp_path / "m.skops")
    done = run(
        "export", tmp_path / "m.skops", "--data", diabetes, "--drop", "progression", "--out", tmp_path / "m.onnx"
    )
    assert done.exit_code == 0, done.output
    assert "0 labels differ, largest score difference" in done.stdout
    model = Predictor((tmp_path / "m.onnx").read_bytes(), where="m.onnx")
    assert model.card.threshold == -forest.offset_
    answers = [model.output.fields(model.read(packed))["label"] for packed in model.predict(x.tolist())]
    assert answers == ["anomaly" if one == -1 else "normal" for one in forest.predict(x.astype(np.float64))]


def test_a_target_with_a_unit_is_a_regression(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{i},{i % 7}\n" for i in range(70)))
    source = ("--data", path, "--target", "y", "--unit", "°C", "--repeats", "0", "--out", tmp_path / "m.onnx")
    assert run("train", *source).exit_code == 0
    done = run("train", *source, "--task", "classification")
    assert done.exit_code == 2
    assert "a classification has one --target, and no --unit" in done.output


def test_a_target_of_many_numbers_is_a_regression(run: Run, diabetes: Path, tmp_path: Path) -> None:
    out, report, figures = tmp_path / "m.onnx", tmp_path / "m.html", tmp_path / "m.json"
    files = ("--out", out, "--report", report, "--metrics", figures)
    source = ("--data", diabetes, "--target", "progression", "--unit", "points", "--folds", "3")
    done = run("train", *source, *files)
    assert done.exit_code == 0, done.output
    assert "target: progression has 214 different numbers, so this is a regression" in done.stdout
    assert "progression from 25 to 346 points, mean 152.1" in done.stdout
    assert "always answering the mean would be wrong by 65.76 points on average (MAE)" in done.stdout
    card = Predictor(out.read_bytes(), where="m.onnx").card
    assert (card.task, card.outputs) == ("regression", (Quantity(name="progression", unit="points"),))
    values = card.metrics.values
    assert set(values) == {"mae", "rmse", "r2", "mae of the mean", "rmse of the mean"}
    assert values["mae"] < 0.85 * values["mae of the mean"]
    assert 0.2 < values["r2"] < 0.6
    assert json.loads(figures.read_text())["verification"]["numbers_differ"] == 0
    page = report.read_text()
    for words in (
        "progression: residuals",
        "predicted and true",
        "always answering the mean",
        "(points)",
        "Importances",
    ):
        assert words in page
    assert "nan" not in page.lower().replace("finance", "")
    before = out.read_bytes()
    assert run("train", *source, "--out", out).exit_code == 0
    assert out.read_bytes() == before  # the same arguments give the same bytes, with a report or without


@pytest.mark.parametrize("estimator", ["tree", "forest"])
def test_one_model_learns_several_numbers(run: Run, linnerud: Path, tmp_path: Path, estimator: str) -> None:
    out, report = tmp_path / "m.onnx", tmp_path / "m.html"
    targets = ("--target", "Weight", "--target", "Waist", "--target", "Pulse")
    options = ("--estimator", estimator, "--folds", "2", "--report", report)
    done = run("train", "--data", linnerud, *targets, *options, "--out", out)
    assert done.exit_code == 0, done.output
    model = Predictor(out.read_bytes(), where="m.onnx")
    assert [output.name for output in model.card.outputs] == ["Weight", "Waist", "Pulse"]
    assert "mae of the mean Pulse" in model.card.metrics.values
    assert "Pulse: residuals" in report.read_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--target", "Weight", "--target", "Waist", "--task", "classification"), "a classification has one --target"),
        (("--target", "Weight", "--target", "Waist", "--estimator", "boosting"), "answers one number, not 2; take --estimator forest"),
        (("--target", "Weight", "--task", "regression", "--unit", "lb", "--unit", "in"), "there are 2 units for 1 numbers"),
        (("--target", "Weight", "--task", "regression", "--folds", "30"), "30 folds need 30 rows, there are 20"),
        (("--target", "Weight", "--target", "Nothing"), "no column 'Nothing'"),
        (("--target", "Weight", "--target", "Waist", "--columns", "Waist"), "column 'Waist' holds the labels, so it is no feature"),
    ],
)  # fmt: skip
def test_what_can_not_be_learned_is_refused(
    run: Run, linnerud: Path, tmp_path: Path, options: Any, reason: str
) -> None:
    done = run("train", "--data", linnerud, *options, "--out", tmp_path / "m.onnx")
    assert (done.exit_code, reason in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "m.onnx").exists()


def test_a_word_among_the_numbers_is_named(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("x,y\n" + "".join(f"{n},{n / 3}\n" for n in range(30)) + "30,warm\n")
    done = run("train", "--data", table, "--target", "y", "--task", "regression", "--out", tmp_path / "m.onnx")
    assert "column 'y', row 32: 'warm' is not a number; a regression learns numbers" in done.stderr
    table.write_text("x,y\n" + "".join(f"{n},7\n" for n in range(30)))
    done = run("train", "--data", table, "--target", "y", "--task", "regression", "--out", tmp_path / "m.onnx")
    assert "column 'y': all 30 rows say 7; there is nothing to learn" in done.stderr


def test_few_numbers_stay_labels(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("x,y\n" + "".join(f"{n},{n % 3}\n" for n in range(60)))
    done = run("train", "--data", table, "--target", "y", "--folds", "2", "--out", tmp_path / "m.onnx")
    assert done.exit_code == 0, done.output
    assert Predictor((tmp_path / "m.onnx").read_bytes(), where="m.onnx").card.labels == ("0", "1", "2")


def test_rows_without_labels_train_a_model_for_anomalies(run: Run, linnerud: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "odd.onnx", tmp_path / "odd.html"
    source = ("--data", linnerud, "--task", "anomaly", "--contamination", "0.1")
    done = run("train", *source, "--out", out, "--report", report, "--metrics", tmp_path / "odd.json")
    assert done.exit_code == 0, done.output
    assert "0 labels differ, largest score difference" in done.stdout
    card = Predictor(out.read_bytes(), where="odd.onnx").card
    assert (card.task, card.labels, card.training.class_counts) == ("anomaly", (), {})
    assert card.training.parameters["contamination"] == 0.1
    assert 0.5 < (card.threshold or 0) < 1
    assert "isolation forest" in report.read_text()
    assert json.loads((tmp_path / "odd.json").read_text())["estimator"] == "isolation forest"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--task", "anomaly", "--unit", "lb"), "--unit is for a model that answers numbers"),
        (("--task", "anomaly", "--estimator", "tree"), "--task anomaly trains an isolation forest; remove --estimator"),
        (
            ("--target", "Weight", "--task", "regression", "--contamination", "0.1"),
            "--contamination is for --task anomaly",
        ),
        (("--target", "Weight", "--target", "Weight"), "column 'Weight' is given 2 times as --target; give it once"),
    ],
)
def test_options_of_another_task_are_refused(
    run: Run, linnerud: Path, tmp_path: Path, options: tuple[str, ...], reason: str
) -> None:
    done = run("train", "--data", linnerud, *options, "--out", tmp_path / "m.onnx")
    assert (done.exit_code, reason in done.stderr) == (2, True), done.stderr
