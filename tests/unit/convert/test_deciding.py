"""`--calibrate` and `--threshold`: found on out-of-fold predictions, and served exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edge_convert.deciding import Decision, Threshold, base_of, decided, threshold_of
from edge_convert.estimators import KINDS, fit
from edge_convert.evaluate import evaluate
from edge_convert.modelfile import read_model
from sklearn.tree import DecisionTreeClassifier

from edge_agent.errors import InputError
from tests.unit.convert.conftest import Run, make_table, write_csv


@pytest.mark.parametrize("method", ["isotonic", "sigmoid"])
def test_calibrated_probabilities_are_served_exactly(run: Run, tmp_path: Path, method: str) -> None:
    table = write_csv(tmp_path / "t.csv", make_table(240, labels=("calm", "fair", "loud")))
    out, report = tmp_path / "m.onnx", tmp_path / "m.html"
    done = run(
        *("train", "--data", table, "--target", "mood", "--calibrate", method, "--folds", "3", "--jobs", "1"),
        *("--out", out, "--report", report, "--save-estimator", tmp_path / "m.skops"),
    )
    assert done.exit_code == 0, done.output
    assert ": 0 labels differ" in done.output
    assert f"calibrated ({method})" in done.output
    assert read_model(out)[1].training.parameters["method"] == method
    assert "The tree" in report.read_text()
    done = run("verify", out, "--estimator", tmp_path / "m.skops", "--data", table, "--rows", "1000")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("given", ["f1", "cost=10", "recall=0.95"])
def test_a_threshold_is_served_exactly_and_is_on_the_card(run: Run, tmp_path: Path, given: str) -> None:
    rare = make_table(240)
    rare = replace(rare, labels=np.where(rare.X[:, 0] + rare.X[:, 1] / 10 > 1.2, "loud", "calm"))
    out = tmp_path / "m.onnx"
    done = run(
        *("train", "--data", write_csv(tmp_path / "t.csv", rare), "--target", "mood", "--threshold", given),
        *("--calibrate", "sigmoid", "--folds", "2", "--jobs", "1", "--out", out),
    )
    assert done.exit_code == 0, done.output
    assert ": 0 labels differ" in done.output
    assert "label: loud where its probability is 0." in done.output
    assert "on held-out rows its recall is" in done.output
    parameters = read_model(out)[1].training.parameters
    assert parameters["pos_label"] == "loud"
    assert isinstance(parameters["threshold"], float)


def test_missing_the_rarer_label_gets_dearer_and_is_missed_less() -> None:
    table = make_table(600)
    labels = np.where(table.X[:, 0] + np.random.default_rng(1).normal(0, 1, 600) > 1.5, "loud", "calm")
    table = replace(table, labels=labels, ids=None)
    kind = decided(KINDS["forest"], table.class_counts, Decision(None, Threshold("cost", 20)))
    model, _ = fit(replace(kind, grid=lambda _X, _y, _seed: [{"min_samples_leaf": 20}]), table.X, labels, 0)
    plain, _ = fit(replace(KINDS["forest"], grid=lambda _X, _y, _seed: [{"min_samples_leaf": 20}]), table.X, labels, 0)
    loud = labels == "loud"
    assert (model.predict(table.X)[loud] == "loud").mean() > (plain.predict(table.X)[loud] == "loud").mean()
    assert np.array_equal(model.predict_proba(table.X), plain.predict_proba(table.X))


def test_calibration_brings_confidence_closer_to_the_truth() -> None:
    table = replace(make_table(600, seed=3), ids=None)
    how = {"repeats": 1, "folds": 3, "seed": 0, "jobs": 1, "progress": lambda _done, _total: None}
    sure = replace(KINDS["tree"], grid=lambda _X, _y, _seed: [{"min_samples_leaf": 1}])
    plain = evaluate(table, sure, **how).random.figures["ece"][0]  # type: ignore[arg-type]
    honest = evaluate(table, decided(sure, table.class_counts, Decision("isotonic")), **how)  # type: ignore[arg-type]
    assert honest.random.figures["ece"][0] < plain / 2


def test_thresholds_reach_what_is_asked_for() -> None:
    truth = np.array([True, True, False, True, False, False, False, True, False, False])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.3, 0.2, 0.1])
    assert Threshold("recall", 0.75).best(truth, scores) == pytest.approx(0.55)
    assert Threshold("recall", 1).best(truth, scores) == pytest.approx(0.25)
    assert Threshold("cost", 0.1).best(truth, scores) == pytest.approx(0.75)
    assert Threshold("cost", 100).best(truth, scores) == pytest.approx(0.25)
    assert Threshold("f1").best(truth, scores) == pytest.approx(0.55)
    # Equal scores can't be told apart, and all rows may have to be taken.
    assert Threshold("recall", 1).best(np.array([True, False]), np.array([0.5, 0.5])) == 0.25


def test_few_rows_of_the_rarer_label() -> None:
    table = make_table(60)
    for rare in (2, 3, 6):
        labels = np.array(["calm"] * (60 - rare) + ["loud"] * rare)
        kind = decided(KINDS["tree"], {"calm": 60 - rare, "loud": rare}, Decision("isotonic", Threshold("recall", 0.9)))
        model, _ = fit(kind, table.X, labels, 0)
        assert model.predict_proba(table.X).shape == (60, 2)


def test_the_model_inside_is_found() -> None:
    table = make_table(120)
    kind = decided(KINDS["tree"], table.class_counts, Decision("sigmoid", Threshold("f1")))
    model, _ = fit(kind, table.X, table.truth, 0)
    assert isinstance(base_of(model), DecisionTreeClassifier)
    one, _ = fit(kind, table.X, np.array(["calm"] * 120), 0)
    assert isinstance(one, DecisionTreeClassifier)


def test_what_cannot_be_decided(run: Run, table_file: Path, tmp_path: Path) -> None:
    command = ("train", "--data", table_file, "--out", tmp_path / "m.onnx")
    for text in ("f2", "cost", "cost=0", "cost=-1", "recall=2", "recall=x", "cost=nan"):
        with pytest.raises(ValueError, match=r".*"):
            threshold_of(text)
        assert "it is f1, cost=5" in run(*command, "--target", "mood", "--threshold", text).stderr
    for more in (("--target", "level", "--drop", "mood"), ("--task", "anomaly")):
        done = run(*command, *more, "--calibrate", "sigmoid")
        assert done.exit_code == 2
        assert "--calibrate and --threshold" in done.stderr
    with pytest.raises(InputError, match="--threshold is for two labels, and there are 3"):
        decided(KINDS["tree"], {"a": 1, "b": 1, "c": 1}, Decision(threshold=Threshold("f1")))
