"""`edge-convert` as a user meets it: what it prints, what it writes, and one line for everything that is wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import skops.io
from click.testing import Result
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from edge_agent.contract import card
from edge_agent.contract.seal import LENGTH
from tests.unit.convert.conftest import FIXTURES, Run, make_table, write_csv

FAST = ("--folds", "3", "--jobs", "1", "--date", "2026-01-31")


def _card(path: Path) -> card.ModelCard:
    entry, _seal = onnx.load(path).metadata_props
    return card.parse(entry.value, where=str(path))


def _estimator(path: Path, model: object) -> Path:
    table = make_table()
    skops.io.dump(model.fit(table.X.astype(np.float64), table.labels), path)  # type: ignore[attr-defined]
    return path


def test_train_writes_everything_and_verify_agrees(run: Run, table_file: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "mood.onnx", tmp_path / "report.html"
    metrics, estimator = tmp_path / "metrics.json", tmp_path / "mood.skops"
    done = run(
        *("train", "--data", table_file, "--target", "mood", "--out", out, *FAST),
        *("--report", report, "--metrics", metrics, "--save-estimator", estimator),
    )
    assert done.exit_code == 0, done.output
    assert "table: 240 rows, 3 features; calm 120 (50.0%), loud 120 (50.0%)" in done.output
    assert "1 x stratified 3-fold" in done.output
    assert "verify: 240 training rows + 1,000,000 generated rows (750,000 on a threshold or one" in done.output
    assert ": 0 labels differ" in done.output
    found = _card(out)
    assert (found.name, found.version, found.training.date) == ("mood", "1.0.0", "2026-01-31")
    assert found.metrics.values["accuracy"] > 0.7
    figures = json.loads(metrics.read_text())
    assert figures["evaluation"]["random rows"]["figures"]["accuracy"]["mean"] > 0.7
    assert figures["verification"]["labels_differ"] == 0

    page = report.read_text()
    assert page.count("<svg") == 7
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "Confusion matrix" in page

    done = run("verify", out, "--estimator", estimator, "--data", table_file, "--rows", "5000")
    assert done.exit_code == 0, done.output
    assert "verify: 240 training rows + 5,000 generated rows" in done.output
    assert "digest: correct\n" in done.output


def test_verify_checks_the_digest(run: Run, table_file: Path, tmp_path: Path) -> None:
    model = _estimator(tmp_path / "mood.skops", DecisionTreeClassifier(max_depth=2, random_state=0))
    out = tmp_path / "mood.onnx"
    table = ("--data", table_file, "--target", "mood")
    assert run("export", model, *table, "--out", out).exit_code == 0
    content = out.read_bytes()

    def verify() -> Result:
        return run("verify", out, "--estimator", model, "--data", table_file, "--drop", "mood", "--rows", "1000")

    out.write_bytes(content.replace(b"calm", b"cald"))
    done = verify()
    assert done.exit_code == 3
    assert f"{out}: the file is damaged, or was changed after it was written" in done.output
    out.write_bytes(content[:-LENGTH])
    done = verify()
    assert done.exit_code == 0, done.output
    assert "digest: the file has none" in done.output


@pytest.mark.parametrize("estimator", ["forest", "boosting"])
def test_the_other_estimators(run: Run, tmp_path: Path, estimator: str) -> None:
    data = write_csv(tmp_path / "t.csv", make_table(90))
    out, report = tmp_path / "m.onnx", tmp_path / "r.html"
    options = ("--estimator", estimator, "--repeats", "0", "--jobs", "1", "--report", report)
    done = run("train", "--data", data, "--target", "mood", "--out", out, *options)
    assert done.exit_code == 0, done.output
    assert ": 0 labels differ" in done.output
    assert "not measured" in _card(out).metrics.method
    assert "The first of its" in report.read_text()


def test_the_same_command_writes_the_same_bytes(
    run: Run, table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    for name in ("one", "two"):
        command = ("train", "--data", table_file, "--target", "mood", "--out", tmp_path / f"{name}.onnx")
        assert run(*command, "--name", "mood", "--folds", "3", "--jobs", "1").exit_code == 0
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert _card(tmp_path / "one.onnx").training.date == "2001-09-09"


def test_the_fma_projects_own_layout(run: Run, tmp_path: Path) -> None:
    directory, out = FIXTURES / "fma_metadata", tmp_path / "genre.onnx"
    done = run(
        *("train", "--features", directory / "echonest.csv", "--labels", directory / "tracks.csv"),
        *("--label-column", "genre_top", "--classes", "Rock,Hip-Hop", "--out", out, *FAST),
    )
    assert done.exit_code == 0, done.output
    assert "10 contiguous" not in done.output
    assert "3 contiguous blocks of ids held out" in done.output
    assert "sheet: the columns are called as Echonest's audio features are" in done.output
    found = _card(out)
    assert found.labels == ("Hip-Hop", "Rock")
    assert found.features[6].unit == "BPM"
    assert "Defferrard" in found.training.datasets[0].attribution


def test_export_of_a_pipeline_that_someone_else_trained(run: Run, table_file: Path, tmp_path: Path) -> None:
    model = _estimator(tmp_path / "m.skops", make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0)))
    out = tmp_path / "mood.onnx"
    done = run("export", model, "--data", table_file, "--target", "mood", "--out", out, "--version", "2.0.0")
    assert done.exit_code == 0, done.output
    assert "1,000,000 generated rows" in done.output
    found = _card(out)
    assert (found.version, found.training.estimator) == ("2.0.0", "StandardScaler > DecisionTreeClassifier")
    done = run("verify", out, "--estimator", model, "--data", table_file, "--rows", "1000")
    assert done.exit_code == 0, done.output


def test_export_refuses_what_does_not_reproduce_and_writes_nothing(run: Run, table_file: Path, tmp_path: Path) -> None:
    bins = KBinsDiscretizer(5, encode="ordinal", strategy="uniform")
    # Many rows are equally far: which of them are the nearest is up to the order in which scikit-learn looks at them.
    model = _estimator(tmp_path / "m.skops", make_pipeline(bins, KNeighborsClassifier(4)))
    done = run("export", model, "--data", table_file, "--drop", "mood", "--out", tmp_path / "out.onnx")
    assert done.exit_code == 3, done.output
    assert "out does not reproduce scikit-learn: of 1,000,240 rows" in done.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_verify_tells_another_estimator_apart(run: Run, table_file: Path, tmp_path: Path) -> None:
    one = _estimator(tmp_path / "one.skops", DecisionTreeClassifier(max_depth=3, random_state=0))
    other = _estimator(tmp_path / "other.skops", DecisionTreeClassifier(max_depth=2, random_state=0))
    out = tmp_path / "mood.onnx"
    assert run("export", one, "--data", table_file, "--target", "mood", "--out", out).exit_code == 0
    done = run("verify", out, "--estimator", other, "--data", table_file, "--rows", "5000")
    assert done.exit_code == 3
    assert "mood.onnx does not reproduce scikit-learn: of 5,240 rows" in done.stderr


def test_a_pickle_is_opened_only_on_request(run: Run, table_file: Path, tmp_path: Path) -> None:
    table = make_table()
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(DecisionTreeClassifier(max_depth=3).fit(table.X, table.labels)))
    command = ("export", path, "--data", table_file, "--target", "mood", "--out", tmp_path / "m.onnx")
    done = run(*command)
    assert done.exit_code == 2
    assert "opening a pickle runs any code that its author put into it" in done.stderr
    assert run(*command, "--trust-pickle").exit_code == 0


TRAIN = ("train", "--data", "t.csv", "--target", "y")
GOOD = "a,b,y\n" + "".join(f"{i},{i % 7},{'uv'[i % 2]}\n" for i in range(30))


@pytest.mark.parametrize(
    ("content", "command", "message"),
    [
        pytest.param(GOOD, ("train", "--data", "t.csv", "--target", "z"), "t.csv: no column 'z'", id="no such column"),
        pytest.param(GOOD, (*TRAIN, "--drop", "z"), "t.csv: no column 'z'", id="no such column to drop"),
        pytest.param(GOOD + "x,1,u\n", TRAIN, "t.csv: column 'a', row 32: 'x' is not a number", id="text"),
        pytest.param(
            GOOD + "nan,1,u\n",
            TRAIN,
            "t.csv: values are missing in 1 of 31 rows: column 'a' in 1 (first in row 32); --missing drop",
            id="NaN",
        ),
        pytest.param(
            GOOD + ",1,u\n",
            TRAIN,
            "t.csv: values are missing in 1 of 31 rows: column 'a' in 1 (first in row 32)",
            id="empty cell",
        ),
        pytest.param(GOOD.replace("v", "u"), TRAIN, "t.csv: column 'y': all 30 rows say 'u'", id="one class"),
        pytest.param("a,y\n1,u\n2,v\n", TRAIN, "t.csv: column 'y': only 1 of 2 rows say 'u'", id="two rows"),
        pytest.param("", TRAIN, "t.csv: the file is empty", id="empty file"),
        pytest.param('{"a": {"0": 1}}', TRAIN, "t.csv: is named .csv but its content is json", id="JSON named csv"),
        pytest.param("\x00\x01\x02\n\x03\n", TRAIN, "t.csv: is not text", id="binary"),
        pytest.param(
            GOOD, ("train", "--data", "nowhere.csv", "--target", "y"), "nowhere.csv: can't be read", id="no file"
        ),
        pytest.param(GOOD, (*TRAIN, "--date", "tomorrow"), "'tomorrow' is not a date", id="date"),
        pytest.param(GOOD, (*TRAIN, "--name", "a b"), "'a b': a model's name is up to 64 letters", id="name"),
        pytest.param(GOOD, (*TRAIN, "--name", "x" * 300), "xxx': a model's name is up to 64 letters", id="long name"),
        pytest.param(GOOD, (*TRAIN, "--version", "1"), "'1': a version is one like 1.0.0 (SemVer)", id="version"),
        pytest.param(GOOD, (*TRAIN, "--columns", "a,c"), "t.csv: no column 'c'", id="no such feature"),
        pytest.param(GOOD, (*TRAIN, "--columns", "a,a"), "t.csv: column 'a' appears twice in --columns", id="twice"),
        pytest.param(GOOD, (*TRAIN, "--columns", "a,y"), "t.csv: column 'y' holds the labels", id="labels as feature"),
        pytest.param(
            GOOD,
            (*TRAIN, "--columns", "a,b", "--id-column", "a"),
            "t.csv: column 'a' holds the ids",
            id="ids as feature",
        ),
        pytest.param(
            GOOD, (*TRAIN, "--columns", "a", "--drop", "a"), "column 'a' is in both --columns and --drop", id="both"
        ),
        pytest.param(GOOD, (*TRAIN, "--drop", "a,b"), "t.csv: no column is left as a feature", id="no features"),
        pytest.param(
            ",".join(f"c{number}" for number in range(1025)) + ",y\n" + "0," * 1025 + "u\n",
            TRAIN,
            "t.csv: 1,025 columns would be features; a model has at most 1,024",
            id="too many features",
        ),
        pytest.param(
            "a,y\n" + "".join(f"{number},{number % 1025}\n" for number in range(10_250)),
            TRAIN,
            "the model card is not valid: labels: Tuple should have at most 1024 items",
            id="too many labels",
        ),
        pytest.param(GOOD, (*TRAIN, "--describe", "t.csv"), "t.csv: is not TOML", id="sheet"),
        pytest.param(
            GOOD, ("export", "t.skops", "--data", "t.csv", "--target", "y"), "t.skops: can't be read", id="no model"
        ),
        pytest.param(
            GOOD, ("export", "t.csv", "--data", "t.csv"), "t.csv: an estimator is a .skops file", id="no skops"
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, content: str, command: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(content)
    done = run(*command, "--out", "m.onnx")
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("edge-convert: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    # Before anything is computed.
    assert done.stdout == ""
    assert not Path("m.onnx").exists()


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ("[features.a]\nmaximum = 20", "column 'a', row 23: 21 is outside the bounds -inf to 20 of the feature sheet"),
        (
            "[features.a]\nmaximum = 50\n[[examples]]\nname = 'x'\nfeatures = {a = 99, b = 1}",
            "the example 99 is outside",
        ),
    ],
)
def test_a_sheet_that_does_not_fit_is_said_before_anything_is_computed(
    run: Run, tmp_path: Path, sheet: str, message: str
) -> None:
    table, described = tmp_path / "t.csv", tmp_path / "t.toml"
    table.write_text(GOOD)
    described.write_text(sheet)
    done = run("train", "--data", table, "--target", "y", "--describe", described, "--out", tmp_path / "m.onnx")
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize("seed", ["-1", str(2**32), "9" * 50])
def test_seeds_that_there_are_not(run: Run, table_file: Path, tmp_path: Path, seed: str) -> None:
    table = ("--data", table_file, "--target", "mood")
    out = tmp_path / "m.onnx"
    for command in (
        ("train", *table, "--out", out),
        ("export", "m.skops", *table, "--out", out),
        ("verify", out, "--estimator", "m.skops", *table),
    ):
        done = run(*command, "--seed", seed)
        assert done.exit_code == 2
        assert f"{seed} is not in the range 0<=x<=4294967295" in done.stderr


def test_the_largest_seed(run: Run, table_file: Path, tmp_path: Path) -> None:
    options = ("--seed", str(2**32 - 1), "--repeats", "2", "--folds", "2", "--jobs", "1")
    done = run("train", "--data", table_file, "--target", "mood", "--out", tmp_path / "m.onnx", *options)
    assert done.exit_code == 0, done.output


def test_files_that_are_not_what_they_say(run: Run, table_file: Path, tmp_path: Path) -> None:
    fake = tmp_path / "fake.skops"
    fake.write_bytes(b"PK\x03\x04 but no more")
    unfitted = tmp_path / "unfitted.skops"
    skops.io.dump(DecisionTreeClassifier(), unfitted)
    regressor = tmp_path / "regressor.skops"
    skops.io.dump(RadiusNeighborsRegressor().fit(make_table().X, np.arange(240.0)), regressor)
    scaler = tmp_path / "scaler.skops"
    skops.io.dump(StandardScaler().fit(make_table().X), scaler)
    foreign = tmp_path / "foreign.skops"
    table = make_table()
    skops.io.dump(
        make_pipeline(FunctionTransformer(np.abs), DecisionTreeClassifier()).fit(table.X, table.labels), foreign
    )
    other = _estimator(tmp_path / "other.skops", DecisionTreeClassifier())
    for path, message in (
        (fake, "fake.skops: is not a skops file"),
        (unfitted, "unfitted.skops: DecisionTreeClassifier is not a fitted"),
        (
            regressor,
            "RadiusNeighborsRegressor can't be exported: it has no answer where no row is within the radius; take a KN",
        ),
        (
            scaler,
            "scaler.skops: StandardScaler is not a classifier, a regressor or an isolation forest",
        ),
    ):
        done = run("export", path, "--data", table_file, "--target", "mood", "--out", tmp_path / "m.onnx")
        assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
    done = run(
        "export", other, "--data", table_file, "--target", "mood", "--drop", "pitch", "--out", tmp_path / "m.onnx"
    )
    assert "has 2 feature columns, the estimator was trained on 3" in done.stderr
    done = run("verify", fake, "--estimator", other, "--data", table_file)
    assert (done.exit_code, "is not an ONNX file" in done.stderr) == (2, True)
    broken = tmp_path / "broken.pkl"
    broken.write_bytes(b"no pickle")
    done = run(
        "export", broken, "--trust-pickle", "--data", table_file, "--target", "mood", "--out", tmp_path / "m.onnx"
    )
    assert (done.exit_code, "is not a pickle" in done.stderr) == (2, True)
    assert not (tmp_path / "m.onnx").exists()


def test_unequal_ids(run: Run, tmp_path: Path) -> None:
    features = tmp_path / "f.json"
    features.write_text('{"track_id": {"0": 1, "1": 2}, "tempo": {"0": 100, "2": 90}}')
    labels = tmp_path / "l.csv"
    labels.write_text("track_id,y\n1,u\n2,v\n")
    pair = ("train", "--features", features, "--labels", labels, "--label-column", "y", "--out", tmp_path / "m.onnx")
    done = run(*pair)
    assert done.exit_code == 2
    assert "f.json: columns 'track_id' and 'tempo' do not have the same row ids: row" in done.stderr
    features.write_text('{"track_id": [7, 8], "tempo": [100, 90]}')
    assert "no track_id is in both" in run(*pair).stderr


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--data", "t.csv"),
        ("--features", "t.csv"),
        ("--features", "t.csv", "--labels", "t.csv"),
        ("--data", "t.csv", "--target", "y", "--labels", "t.csv"),
    ],
)
def test_half_a_table_is_a_usage_error(run: Run, options: tuple[str, ...]) -> None:
    done = run("train", *options, "--out", "m.onnx")
    assert done.exit_code == 2
    assert "Usage:" in done.stderr


def test_places_are_checked_before_the_work(run: Run, table_file: Path, tmp_path: Path) -> None:
    data = ("train", "--data", table_file, "--target", "mood")
    assert "the name must end in .onnx" in run(*data, "--out", tmp_path / "m.bin").stderr
    assert "there is no directory" in run(*data, "--out", tmp_path / "no" / "m.onnx").stderr
    assert "must end in .html" in run(*data, "--out", tmp_path / "m.onnx", "--report", tmp_path / "r.txt").stderr
