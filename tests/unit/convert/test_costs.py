"""What a model costs, told before it is written; what is smaller; and large tables."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edge_convert import estimators, regressors
from edge_convert.costs import Cost, measure, measured_apart
from edge_convert.estimators import KINDS, SAMPLE, Floats, Kind, Parameters, fit, sample_of, with_fixed
from edge_convert.evaluate import evaluate
from edge_convert.fold import fold
from edge_convert.modelfile import read_model
from edge_convert.progress import Lines
from edge_convert.reference import Reference
from edge_convert.residuals import evaluate_numbers
from edge_convert.smaller import smaller
from edge_convert.tasks import task_of
from edge_convert.verify import part_of, verify
from edge_convert.workflow import say_cost
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from edge_agent.errors import InputError
from tests.unit.convert.conftest import Run, make_table


def test_what_a_model_costs_is_told_before_it_is_written(run: Run, table_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    done = run("train", "--data", table_file, "--target", "mood", "--repeats", "0", "--out", out)
    assert done.exit_code == 0, done.output
    assert done.output.index("cost:  ") < done.output.index("wrote ")
    assert "9.0 MiB of memory (estimated)" in done.output
    assert "a row (measured here), about" in done.output
    assert "on a Raspberry Pi 4 (estimated, 5 times that)" in done.output


def test_the_memory_of_a_large_model_is_measured() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 4))
    model = RandomForestClassifier(24, random_state=0).fit(X, rng.integers(0, 3, 4000).astype(str))
    task = task_of(model)
    assert task is not None
    content = task.graph(fold(model)).SerializeToString()
    found = measure(content, X)
    assert found.measured
    assert found.size == len(content) > 1 << 20
    assert len(content) < found.memory < 60 * len(content)
    assert 0 < found.seconds < 0.1


@pytest.mark.parametrize("trees", [1, 10])
def test_the_memory_of_a_small_model_is_estimated_as_it_would_be_measured(trees: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2500, 4))
    model = RandomForestClassifier(trees, random_state=0).fit(X, rng.integers(0, 3, 2500).astype(str))
    task = task_of(model)
    assert task is not None
    content = task.graph(fold(model)).SerializeToString()
    estimated = measure(content, X)
    assert not estimated.measured
    assert 0.7 < estimated.memory / measured_apart(content, X[:64]).memory < 1.4


def test_what_a_device_cannot_hold_is_told_with_what_is_smaller() -> None:
    table = make_table(600)
    forest = KINDS["forest"]
    said: list[str] = []
    how = {"score": lambda truth, given: float((truth == given).mean()), "what": "accuracy", "seed": 0}
    large = Cost(51 << 20, 551 << 20, 0.002)
    say_cost(
        large,
        lambda: smaller(forest, {"min_samples_leaf": 2}, table.X, table.truth, **how),  # type: ignore[arg-type]
        said.append,
    )
    cost, note, *others = said
    assert cost.startswith(
        "cost:  51.0 MiB without its card; 551.0 MiB of memory (measured); 2 ms a row (measured here), about 10 ms"
    )
    assert "MemoryMax" in note
    assert [one.split(":")[1] for one in others] == [
        " --set n_estimators=32",
        " --set min_samples_leaf=8",
        " --set n_estimators=32 --set max_depth=8",
    ]
    assert "25% of the size, accuracy 0." in others[0]
    assert Cost(1000, 1 << 20, 0.0001).trouble == ""
    assert "about 2 rows a second" in Cost(1000, 1 << 20, 0.1).trouble


@pytest.mark.parametrize("kind", ["tree", "forest", "boosting"])
def test_the_smaller_ones_are_smaller(kind: str) -> None:
    table = make_table(600)
    _, parameters = fit(KINDS[kind], table.X, table.truth, 0)
    for sentence in smaller(
        KINDS[kind],
        parameters,
        table.X,
        table.truth,
        score=lambda t, s: float((t == s).mean()),
        what="accuracy",
        seed=0,
    ):
        assert int(sentence.split("% of the size")[0].rsplit(" ", 1)[1]) <= 100


@pytest.mark.parametrize(
    ("name", "fixed"),
    [("forest", {"n_estimators": 16, "max_depth": 4}), ("tree", {"max_depth": 2}), ("boosting", {"max_iter": 20})],
)
def test_what_is_smaller_already_has_no_larger_ones(name: str, fixed: dict[str, int]) -> None:
    table = make_table(200)
    kind = with_fixed(KINDS[name], fixed)
    _, parameters = fit(kind, table.X, table.truth, 0)
    for sentence in smaller(kind, parameters, table.X, table.truth, score=lambda _t, _s: 0.5, what="accuracy", seed=0):
        assert "--set max_depth=8" not in sentence or "n_estimators=32" in sentence
        assert int(sentence.split("% of the size")[0].rsplit(" ", 1)[1]) < 100


def test_parameters_that_are_set_are_not_chosen(run: Run, table_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    command = ("train", "--data", table_file, "--target", "mood", "--folds", "2", "--jobs", "1", "--out", out)
    done = run(*command, "--set", "max_depth=2", "--set", "class_weight=balanced", "--set", "criterion=gini")
    assert done.exit_code == 0, done.output
    parameters = read_model(out)[1].training.parameters
    assert (parameters["max_depth"], parameters["class_weight"], parameters["criterion"]) == (2, "balanced", "gini")
    for given, message in (
        ("max_depth=deep", "The 'max_depth' parameter of DecisionTreeClassifier must be"),
        ("depth=3", "Invalid parameter 'depth'"),
        ("depth", "a parameter is NAME=VALUE"),
        ("random_state=3", "--seed sets random_state"),
    ):
        assert message in run(*command, "--set", given).stderr
    assert "an isolation forest has --contamination" in run(*command, "--task", "anomaly", "--set", "a=1").stderr
    for given, value in (("max_depth=None", None), ("max_depth=null", None)):
        assert run(*command, "--repeats", "0", "--set", given).exit_code == 0
        assert read_model(out)[1].training.parameters["max_depth"] is value
    assert run(*command, "--repeats", "0", "--estimator", "forest", "--set", "bootstrap=False").exit_code == 0


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("mood", "tree monotonic_cst=[1]"),
        ("mood", 'tree class_weight={"zz":2}'),
        ("mood", "forest bootstrap=false max_samples=0.5"),
        ("mood", "forest bootstrap=false oob_score=true"),
        ("level", "tree criterion=poisson"),
        ("level", "boosting loss=gamma"),
        ("level", "boosting loss=quantile"),
    ],
)
def test_what_scikit_learn_refuses_while_it_fits_is_told(
    run: Run, table_file: Path, tmp_path: Path, target: str, command: str
) -> None:
    estimator, *given = command.split()
    out = tmp_path / "m.onnx"
    done = run(
        *("train", "--data", table_file, "--target", target, "--drop", "mood" if target == "level" else "noise"),
        *("--jobs", "1", "--estimator", estimator, "--out", out, *(word for one in given for word in ("--set", one))),
    )
    assert done.exit_code == 2, done.output
    assert "--set: with " in done.stderr
    assert given[0].partition("=")[0] in done.stderr
    assert not out.exists()


def test_of_many_rows_a_sample_chooses_and_all_are_learned_from() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 2))
    y = np.where(X[:, 0] + rng.normal(0, 0.5, len(X)) > 0, "up", "down")
    y[:3] = "odd"
    kind = with_fixed(KINDS["tree"], {"criterion": "gini"})
    model, parameters = fit(kind, X, y, 0)
    assert sorted(model.classes_) == ["down", "odd", "up"]
    assert parameters["min_samples_leaf"] in {11, 22, 45}  # 5, 10 or 20, times the root of 5
    assert isinstance(model, DecisionTreeClassifier)
    assert model.tree_.n_node_samples[0] == 30_000
    some = estimators._sample(y, 0, len(y))
    assert SAMPLE <= len(some) <= SAMPLE + 3
    assert "odd" in y[some]
    assert len(sample_of(30_000, 0, 30_000)) == SAMPLE
    assert len(sample_of(20_000, 0, 20_000)) == 20_000
    # A fold of many rows does as the table does, and takes all of its rows if these are few.
    assert len(sample_of(18_000, 0, 20_001)) == SAMPLE
    assert SAMPLE <= len(estimators._sample(y[:18_000], 0, 20_001)) <= SAMPLE + 3
    assert len(sample_of(4_000, 0, 20_001)) == len(estimators._sample(y[:4_000], 0, 20_001)) == 4_000
    numbers, _ = regressors.fit_numbers(regressors.KINDS["tree"], X, X[:, :1], 0)
    assert numbers.predict(X[:2]).shape == (2,)


def test_a_fold_chooses_as_the_table_does() -> None:
    """Of 20,001 rows a sample chooses, in the folds of 13,334 as well: else another procedure would be measured."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_001, 2))
    asked: list[int] = []

    def noted(kind: Kind) -> Kind:
        def grid(some: Floats, _y: object, _seed: int) -> list[Parameters]:
            asked.append(len(some))
            return [{"min_samples_leaf": 20, "max_depth": 2}]

        return replace(kind, grid=grid)

    how = {"repeats": 1, "folds": 3, "seed": 0, "jobs": 1}
    table = replace(make_table(), X=X, labels=np.where(X[:, 0] > 0, "up", "down"), ids=None)
    evaluate(table, noted(KINDS["tree"]), progress=lambda _done, _total: None, **how)
    evaluate_numbers(
        table, X[:, :1], ("x",), noted(regressors.KINDS["tree"]), progress=lambda _done, _total: None, **how
    )
    assert len(asked) == 6
    assert all(SAMPLE <= rows <= SAMPLE + 2 for rows in asked)


def test_wide_tables_are_verified_in_parts() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, 1000))
    model = DecisionTreeClassifier(random_state=0).fit(X, rng.integers(0, 2, 64).astype(str))
    folded, task = fold(model), task_of(model)
    assert task is not None
    done: list[int] = []
    content = task.graph(folded).SerializeToString()
    result = verify(
        Reference(model, X), folded, content, rows=20_000, progress=lambda so_far, _total: done.append(so_far)
    )
    assert result.passed
    assert (result.generated_rows, result.edge_rows) == (20_000, 15_000)
    assert len(done) > 2
    assert part_of(1000) * 1000 * 8 <= 1 << 27
    assert part_of(4) == 1 << 18


def test_progress_is_told_in_lines_where_there_is_no_terminal() -> None:
    now, said = [0.0], list[str]()
    lines = Lines("evaluating", said.append, lambda: now[0])
    for done in range(1, 11):
        now[0] += 4
        lines(done, 10)
    assert said == [
        "evaluating: 3 of 10 after 12 s, about 28 s left",
        "evaluating: 6 of 10 after 24 s, about 16 s left",
        "evaluating: 9 of 10 after 36 s, about 4 s left",
    ]


@pytest.mark.parametrize(
    ("rows", "generated", "gibibytes"), [(400, 20_000, 0.9), pytest.param(2000, 100_000, 1.5, marks=pytest.mark.long)]
)
def test_a_wide_table_stays_within_its_memory(tmp_path: Path, rows: int, generated: int, gibibytes: float) -> None:
    """Of 1,000 features, in a process of its own; with 2,000 rows the verification took 8.9 GB once."""
    code = f"""
import numpy as np
from edge_convert.fold import fold
from edge_convert.reference import Reference
from edge_convert.tasks import task_of
from edge_convert.verify import verify
from sklearn.tree import DecisionTreeClassifier
rng = np.random.default_rng(0)
X = rng.normal(size=({rows}, 1000))
model = DecisionTreeClassifier(random_state=0, max_depth=6).fit(X, rng.integers(0, 2, {rows}).astype(str))
verify(Reference(model, X), fold(model), task_of(model).graph(fold(model)).SerializeToString(), rows={generated})
from edge_convert.costs import _peak
open({str(tmp_path / "peak")!r}, "w").write(str(_peak()))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert int((tmp_path / "peak").read_text()) < gibibytes * (1 << 30)


def test_an_unknown_parameter_is_refused_before_the_work() -> None:
    with pytest.raises(InputError, match="--set: Invalid parameter 'x'"):
        with_fixed(KINDS["forest"], {"x": 1})
