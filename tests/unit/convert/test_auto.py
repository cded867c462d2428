"""`--estimator auto`: what is compared, what is recommended, and that this is what is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from edge_convert.auto import CANDIDATES, Weighed, reasons, recommended
from edge_convert.costs import Cost
from edge_convert.modelfile import read_model

from tests.unit.convert.conftest import Run, make_table, write_csv


def _weighed(title: int, loss: float, size: int, *, memory: int = 1 << 20) -> Weighed:
    return Weighed(CANDIDATES[title], loss, 0.01, f"accuracy {1 - loss:.4f}", Cost(size, memory, 1e-5))


def test_the_smallest_within_a_standard_error_is_recommended() -> None:
    tree, boosting, forest = _weighed(0, 0.10, 1000), _weighed(2, 0.085, 90_000), _weighed(3, 0.08, 900_000)
    assert recommended([tree, boosting, forest]) is boosting
    assert recommended([_weighed(0, 0.09, 1000), boosting, forest]).candidate.title == "tree"
    huge = _weighed(3, 0.01, 51 << 20, memory=551 << 20)
    assert recommended([tree, boosting, huge]) is boosting
    assert recommended([huge]) is huge
    assert reasons([tree]) == reasons([huge]) == []
    assert reasons([tree, boosting, forest]) == [
        "boosting is the smallest within one standard error (0.0100) of forest"
    ]
    (said,) = reasons([tree, boosting, huge])
    assert said.startswith("forest is better, but too much for a Raspberry Pi: the model takes 551.0 MiB of memory.")
    assert len(reasons([tree, _weighed(2, 0.095, 90_000), huge])) == 2


def test_auto_needs_rows_for_its_folds_without_an_evaluation_too(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{n},{'rare' if n > 37 else 'uv'[n % 2]}\n" for n in range(40)))
    done = run(
        *(
            "train",
            "--data",
            path,
            "--target",
            "y",
            "--estimator",
            "auto",
            "--repeats",
            "0",
            "--out",
            tmp_path / "m.onnx",
        )
    )
    assert "5 folds need 5 rows of each label" in done.stderr


@pytest.mark.parametrize("target", ["mood", "level"])
def test_auto_compares_says_and_writes_what_it_recommends(run: Run, tmp_path: Path, target: str) -> None:
    out = tmp_path / "m.onnx"
    command = ("train", "--data", write_csv(tmp_path / "t.csv", make_table(150)), "--target", target, "--out", out)
    done = run(
        *command,
        "--estimator",
        "auto",
        "--folds",
        "2",
        "--jobs",
        "1",
        "--drop",
        "mood" if target == "level" else "noise",
    )
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("auto:  estimator"))
    assert ("accuracy" if target == "mood" else "MAE") in lines[start]
    rows = lines[start + 1 : start + 5]
    assert [row[7:23].strip() for row in rows] == [one.title for one in CANDIDATES]
    (chosen,) = (row for row in rows if row.endswith("recommended"))
    names = {"tree": "DecisionTree", "forest": "RandomForest", "boosting": "HistGradientBoosting"}
    kind = chosen[7:23].split(",")[0].strip()
    written = read_model(out)[1]
    assert written.training.estimator.startswith(names[kind])
    assert written.metrics.method.endswith("; the kind was chosen by such figures")
    assert "auto compares several" in run(*command, "--estimator", "auto", "--set", "max_depth=2").stderr
