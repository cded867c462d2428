"""Gradient boosting of other libraries from their files: from `edge-convert export` to the answer, and files that are damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from edge_convert.boosters import opening
from edge_convert.boosters.sound import sound
from edge_convert.features import expand
from edge_convert.trees import Tree
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edge_agent.errors import InputError
from edge_agent.model.onnx import Predictor
from tests.unit.convert.boosters import (
    QUIET,
    SMALL,
    TWO,
    Floats,
    X,
    catboost,
    lightgbm,
    require_same,
    xgboost,
)
from tests.unit.convert.conftest import Run, make_table, write_csv

# Damage


def _tree(**changes: Any) -> Tree:
    nothing = np.zeros(5)
    parts: dict[str, Any] = {
        "feature": np.array([1, 0, 0, 0, 0]),
        "threshold": nothing,
        "left": np.array([1, 0, 3, 0, 0]),
        "right": np.array([2, 0, 4, 0, 0]),
        "is_leaf": np.array([False, True, False, True, True]),
        "values": np.arange(5.0)[:, np.newaxis],
        "rows": np.arange(5),
    }
    return Tree(**parts | changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"left": np.array([1, 0, 0, 0, 0])}, "leads to no node"),
        ({"right": np.array([5, 0, 4, 0, 0])}, "leads to no node"),
        ({"left": np.array([2, 0, 3, 0, 0])}, "lead to the same node"),
        ({"right": np.array([2, 0, 2, 0, 0])}, "lead to the same node"),
        ({"feature": np.array([2, 0, 0, 0, 0])}, "asks about column 2 of 2"),
    ],
)
def test_trees_that_are_none_are_refused(changes: dict[str, Any], reason: str) -> None:
    assert sound("model", _tree(), 2).values.tolist() == [[0], [1], [2], [3], [4]]
    with pytest.raises(InputError, match=reason):
        sound("model", _tree(**changes), 2)


def test_nodes_that_nothing_leads_to_are_left_out() -> None:
    cut = _tree(is_leaf=np.array([False, True, True, True, True]), left=np.array([4, 0, 0, 0, 0]))
    found = sound("model", cut, 2)
    assert found.values.ravel().tolist() == [0, 2, 4]
    assert (found.left[0], found.right[0], found.is_leaf.tolist()) == (2, 1, [False, True, True])


# From file to answer


def _answered(path: Path, rows: Floats) -> list[dict[str, Any]]:
    """What the agent's own engine says."""
    predictor = Predictor(path.read_bytes(), where=path.name)
    return [dict(predictor.output.fields(predictor.read(packed))) for packed in predictor.predict(rows.tolist())]


def _fitted_on_table(make: Callable[[], Any]) -> tuple[Any, Floats, NDArray[np.int64]]:
    table = make_table(labels=("calm", "loud", "odd"))
    assert table.labels is not None
    numbers = np.searchsorted(("calm", "loud", "odd"), table.labels)
    return make().fit(table.X, numbers), table.X, numbers


@pytest.mark.parametrize("ending", [".json", ".ubj"])
def test_xgboost_from_its_own_file(run: Run, tmp_path: Path, ending: str) -> None:
    model, rows, _ = _fitted_on_table(lambda: xgboost().XGBClassifier(n_estimators=8, n_jobs=1))
    file, out = tmp_path / f"m{ending}", tmp_path / "m.onnx"
    model.save_model(file)
    _require_exported(run, tmp_path, file, model, rows)
    card = Predictor(out.read_bytes(), where="m.onnx").card
    assert card.training.estimator == "XGBClassifier"
    assert "XGBoost" in card.training.libraries


def test_labels_that_are_only_numbered(run: Run, tmp_path: Path) -> None:
    model, _, _ = _fitted_on_table(lambda: xgboost().XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1))
    file, out = tmp_path / "m.json", tmp_path / "m.onnx"
    model.save_model(file)
    table = write_csv(tmp_path / "t.csv", make_table(labels=("calm", "loud", "odd")))
    command = ("export", file, "--data", table, "--target", "mood", "--out", out)
    wrong = run(*command, "--label-names", "calm,loud")
    assert (wrong.exit_code, "has 3 labels (0, 1, 2); --label-names has 2: calm, loud" in wrong.stderr) == (2, True)
    done = run(*command)
    assert done.exit_code == 0, done.output
    assert "none of the labels in column 'mood' (calm, loud, odd) is one of the estimator's (0, 1, 2)" in done.stdout
    assert "answers 0, 1, 2, as XGBoost numbers its labels; --label-names A,B,... gives them names" in done.stdout
    assert Predictor(out.read_bytes(), where="m.onnx").card.labels == ("0", "1", "2")


def test_names_of_labels_that_can_not_be_are_refused(run: Run, tmp_path: Path) -> None:
    model, rows, _ = _fitted_on_table(lambda: xgboost().XGBClassifier(n_estimators=2, n_jobs=1))
    table = write_csv(tmp_path / "t.csv", make_table(labels=("calm", "loud", "odd")))
    model.save_model(tmp_path / "m.json")
    xgboost().XGBRegressor(n_estimators=2, n_jobs=1).fit(rows, rows[:, 0]).save_model(tmp_path / "r.json")
    for file, data, names, reason in (
        ("m.json", ("--target", "mood"), "calm,calm,odd", "--label-names has 'calm' twice"),
        ("m.json", ("--target", "mood"), "calm,,odd", "--label-names has an empty name"),
        ("r.json", ("--drop", "mood"), "calm,calm,odd", "this one answers no labels"),
    ):
        done = run(
            "export",
            tmp_path / file,
            "--data",
            table,
            *data,
            "--label-names",
            names,
            "--out",
            tmp_path / "m.onnx",
        )
        assert (done.exit_code, reason in done.stderr) == (2, True), done.output


def test_xgboost_with_a_number_for_missing_values_from_its_own_file(run: Run, tmp_path: Path) -> None:
    rows, file, out = X[:300, [0, 1, 3]].copy(), tmp_path / "m.ubj", tmp_path / "m.onnx"
    rows[np.random.default_rng(0).random(rows.shape) < 0.1] = -127
    model = xgboost().XGBClassifier(n_estimators=5, n_jobs=1, missing=-127).fit(rows, TWO[:300])
    model.save_model(file)
    assert "does not tell which number stands for a missing value" in opening.opened(file).source.notes[0]
    table = tmp_path / "t.csv"
    lines = [",".join([*map(repr, row), str(label)]) for row, label in zip(rows.tolist(), TWO[:300], strict=True)]
    table.write_text("\n".join(["a,b,c,y", *lines]) + "\n")
    data = ("--data", table, "--target", "y")
    done = run("export", file, *data, "--out", out, "--missing-value", "-127")
    assert done.exit_code == 0, done.output
    assert "does not tell" not in done.stdout
    assert [answer["label"] for answer in _answered(out, rows)] == model.predict(rows).astype(str).tolist()
    assert run("verify", out, "--estimator", file, *data, "--rows", "3000").exit_code == 0


def test_a_number_for_missing_values_is_for_files_that_do_not_tell(run: Run, tmp_path: Path) -> None:
    model, _, _ = _fitted_on_table(lambda: xgboost().XGBClassifier(n_estimators=2, n_jobs=1))
    joblib.dump(model, tmp_path / "m.joblib")
    table = write_csv(tmp_path / "t.csv", make_table(labels=("calm", "loud", "odd")))
    done = run(
        *("export", tmp_path / "m.joblib", "--trust-pickle", "--data", table, "--target", "mood"),
        *("--missing-value", "0", "--out", tmp_path / "m.onnx"),
    )
    assert (done.exit_code, "--missing-value is for XGBoost's own files" in done.stderr) == (2, True), done.output


def test_xgboost_stopped_early_answers_as_whoever_saved_it_does(tmp_path: Path) -> None:
    library = xgboost()
    noise = np.random.default_rng(0).permutation(TWO[:300])
    matrix, other = library.DMatrix(X[300:], TWO[300:]), library.DMatrix(X[:300], noise)
    booster = library.train(
        {"objective": "binary:logistic", "nthread": 1},
        matrix,
        40,
        evals=[(other, "e")],
        early_stopping_rounds=3,
        verbose_eval=False,
    )
    best, rounds = booster.best_iteration + 1, booster.num_boosted_rounds()
    assert best < rounds
    booster.save_model(tmp_path / "booster.json")
    found = opening.opened(tmp_path / "booster.json")
    np.testing.assert_array_equal(found.predict_proba(X)[:, 1], booster.predict(library.DMatrix(X)))
    require_same(found)
    assert (
        f"answers with all {rounds} rounds, as Booster.predict does, though the first {best}" in found.source.notes[0]
    )

    model = library.XGBClassifier(n_estimators=40, early_stopping_rounds=3, n_jobs=1)
    model.fit(X[300:], TWO[300:], eval_set=[(X[:300], noise)], verbose=False)
    model.save_model(tmp_path / "model.json")
    found = opening.opened(tmp_path / "model.json")
    np.testing.assert_array_equal(found.predict_proba(X), model.predict_proba(X))
    assert f"answers with the first {model.best_iteration + 1} of" in found.source.notes[0]


def _require_exported(run: Run, tmp_path: Path, file: Path, model: Any, rows: Floats, *more: str) -> None:
    """Export a file with names for its labels, compare the answers with the model's, and verify the file that was written."""
    out = tmp_path / "m.onnx"
    table = write_csv(tmp_path / "t.csv", make_table(labels=("calm", "loud", "odd")))
    data = ("--data", table, "--target", "mood")
    done = run("export", file, *data, "--label-names", "calm,loud,odd", "--out", out, *more)
    assert done.exit_code == 0, done.output
    assert "0 labels differ" in done.stdout
    assert "agrees with column 'mood' in" in done.stdout
    assert "note:" not in done.stdout
    answers = _answered(out, rows)
    expected = np.array(["calm", "loud", "odd"])[np.asarray(model.predict(rows)).ravel().astype(int)]
    assert [answer["label"] for answer in answers] == expected.tolist()
    np.testing.assert_allclose(
        [list(answer["probabilities"].values()) for answer in answers], model.predict_proba(rows), atol=2e-6
    )
    verified = run("verify", out, "--estimator", file, *data, "--rows", "3000", *more)
    assert verified.exit_code == 0, verified.output


def test_xgboost_from_a_pickle(run: Run, tmp_path: Path) -> None:
    model, rows, _ = _fitted_on_table(
        lambda: make_pipeline(StandardScaler(), xgboost().XGBClassifier(n_estimators=8, n_jobs=1))
    )
    file = tmp_path / "m.joblib"
    joblib.dump(model, file)
    _require_exported(run, tmp_path, file, model, rows, "--trust-pickle")


def test_lightgbm_from_its_own_file(run: Run, tmp_path: Path) -> None:
    model, rows, _ = _fitted_on_table(lambda: lightgbm().LGBMClassifier(**SMALL))
    file = tmp_path / "m.txt"
    model.booster_.save_model(file)
    _require_exported(run, tmp_path, file, model, rows)


def test_names_of_columns_in_which_lightgbm_has_replaced_the_blanks() -> None:
    assert expand(["room_temp", "b"], ["room temp", "b"]) == ("room temp", "b")
    assert expand(["room_temp"], ["room temp", "room_temp"]) == ("room_temp",)
    assert expand(["a_b_c"], ["a b_c", "a_b c"]) == ("a_b_c",)


def test_catboost_from_its_own_file(run: Run, tmp_path: Path) -> None:
    model, rows, _ = _fitted_on_table(lambda: catboost().CatBoostClassifier(**QUIET))
    file = tmp_path / "m.cbm"
    model.save_model(str(file))
    _require_exported(run, tmp_path, file, model, rows)
    file.write_bytes(file.read_bytes()[:2000])
    done = run("export", file, "--data", tmp_path / "t.csv", "--target", "mood", "--out", tmp_path / "m.onnx")
    assert (done.exit_code, "can't open it" in done.stderr or "can't be opened" in done.stderr) == (2, True), (
        done.output
    )


def test_a_regressor_from_its_own_file(run: Run, tmp_path: Path) -> None:
    rows, target = load_diabetes(return_X_y=True, scaled=False)
    table, file, out = tmp_path / "t.csv", tmp_path / "m.json", tmp_path / "m.onnx"
    names = load_diabetes().feature_names
    lines = [",".join([*names, "progression"])] + [
        ",".join(map(repr, [*map(float, row), float(y)])) for row, y in zip(rows, target, strict=True)
    ]
    table.write_text("\n".join(lines) + "\n")
    model = xgboost().XGBRegressor(n_estimators=20, n_jobs=1).fit(rows, target)
    model.save_model(file)
    done = run("export", file, "--data", table, "--target", "progression", "--unit", "points", "--out", out)
    assert done.exit_code == 0, done.output
    assert "0 values differ" in done.stdout
    assert "is off from column 'progression' by" in done.stdout
    answers = _answered(out, rows)
    assert [answer["value"] for answer in answers] == pytest.approx(model.predict(rows).astype(float), rel=1e-11)
    assert answers[0]["unit"] == "points"


def test_damaged_files_are_refused_in_words(run: Run, tmp_path: Path, table_file: Path) -> None:
    xgboost()
    for name, content in (
        ("m.json", b"{}"),
        ("m.json", b"not json"),
        ("m.ubj", b"\x00\x01"),
        ("m.json", json.dumps({"learner": []}).encode()),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        done = run("export", file, "--data", table_file, "--target", "mood", "--out", tmp_path / "m.onnx")
        assert done.exit_code == 2, (content, done.output, done.exception)
        assert "can't open it" in done.stderr


def test_damaged_text_of_lightgbm_is_refused_in_words(run: Run, tmp_path: Path, table_file: Path) -> None:
    model, _, _ = _fitted_on_table(lambda: lightgbm().LGBMClassifier(**SMALL))
    text, file = model.booster_.model_to_string(), tmp_path / "m.txt"
    for damaged, reason in (
        ("level,pitch\n1,2\n", "is not a model file of LightGBM"),
        (text[: len(text) // 3], "it was tried in a process apart, and it crashed"),
        (text.replace("left_child=1", "left_child=0", 1), "leads to no node"),
        (text.replace("split_feature=1", "split_feature=77", 1), "asks about column 77 of 3"),
        (text.replace("num_leaves=", "num_leaves=9"), "can't open it"),
        (text.replace("max_feature_idx", "something"), "can't open it"),
    ):
        assert damaged != text
        file.write_text(damaged)
        done = run("export", file, "--data", table_file, "--target", "mood", "--out", tmp_path / "m.onnx")
        assert (done.exit_code, reason in done.stderr) == (2, True), (reason, done.output, done.exception)


def test_a_library_that_is_not_installed_is_named() -> None:
    error = ModuleNotFoundError("No module named 'xgboost'", name="xgboost")
    assert "pip install xgboost, in the version" in opening.needed("xgboost.sklearn", error)
    assert opening.needed("torch", error) == ""
    system = OSError("libgomp.so.1: cannot open shared object file: No such file or directory")
    assert "sudo apt install libgomp1" in opening.needed("lightgbm", system)
    assert "model.save_model('model.json')" in opening.way_out(["xgboost.sklearn.XGBClassifier"])


def test_a_library_without_the_system_s_is_said(tmp_path: Path) -> None:
    """LightGBM, in a Debian without libgomp, fails with an OSError as it is imported."""
    package = tmp_path / "packages" / "lightgbm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')\n")
    (tmp_path / "model.txt").write_text("tree\n")
    pickle = b"clightgbm\nBooster\n."
    (tmp_path / "model.pkl").write_bytes(pickle)
    for name in ("model.txt", "model.pkl"):
        code = (
            "import sys; from pathlib import Path; from edge_convert.load import load_estimator; "
            "load_estimator(Path(sys.argv[1]), trust_pickle=True)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)],
            env={**os.environ, "PYTHONPATH": str(package.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"InputError: {tmp_path / name}: needs the system's library libgomp" in done.stderr, done.stderr
