"""Choosing parameters, evaluating, and the card that comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edge_convert.classifier import Classifier, labels_of, title_of
from edge_convert.describe import Sheet, sheet_for
from edge_convert.estimators import KINDS, Parameters, fit, macro_f1
from edge_convert.evaluate import Evaluation, default_jobs, evaluate
from edge_convert.modelcard import Identity, Origin, draft_card
from edge_convert.modelfile import read_model
from edge_convert.tables import DataFile, Table
from edge_convert.tasks import Classification
from edge_convert.trees import trees_of
from edge_convert.verify import Verification
from edge_convert.workflow import Training, model_file
from sklearn.metrics import f1_score

from edge_agent.contract import card, seal
from edge_agent.errors import InputError
from tests.unit.convert.conftest import make_table

IDENTITY = Identity("mood", "1.2.3", "2026-01-31")
UNMEASURED = card.Metrics(values={}, method="not measured")


def _evaluate(table: Table, kind: str = "tree", repeats: int = 1) -> Evaluation:
    return evaluate(table, KINDS[kind], repeats=repeats, folds=3, seed=0, jobs=1, progress=lambda _done, _total: None)


def _package(table: Table, sheet: Sheet, kind: str = "tree") -> card.ModelCard:
    assert table.labels is not None
    model, parameters = fit(KINDS[kind], table.X, table.labels, 0)
    content, _ = _model_file(model, table, sheet, parameters)
    return _card_of(content)


def _model_file(model: Classifier, table: Table, sheet: Sheet, parameters: Parameters) -> tuple[bytes, Verification]:
    draft = draft_card(IDENTITY, table, sheet, Classification(labels_of(model)))
    origin = Origin(title_of(model), parameters, UNMEASURED)
    return model_file(model, draft, origin, seed=0, rows=5000, say=lambda _sentence: None)


def _card_of(content: bytes) -> card.ModelCard:
    import onnx

    entry, sealed = onnx.load_from_string(content).metadata_props
    assert entry.key == card.METADATA_KEY
    assert sealed.key.encode() == seal.KEY
    assert seal.is_sealed(content, where="the test")
    return card.parse(entry.value, where="the test")


@pytest.mark.parametrize("kind", ["tree", "boosting"])
def test_the_same_rows_choose_the_same_model(kind: str) -> None:
    table = make_table(120)
    assert table.labels is not None
    one, first = fit(KINDS[kind], table.X, table.labels, 0)
    two, second = fit(KINDS[kind], table.X, table.labels, 0)
    assert first == second
    assert np.array_equal(one.predict_proba(table.X), two.predict_proba(table.X))


@pytest.mark.parametrize("labels", [1, 2, 3, 22])
def test_macro_f1_is_scikit_learns_to_the_bit(labels: int) -> None:
    rng = np.random.default_rng(labels)
    for _ in range(50):
        # Not each label is in both, and some are in neither.
        truth, predicted = (rng.integers(0, labels, rng.integers(5, 60)).astype(str) for _ in range(2))
        n = min(len(truth), len(predicted))
        expected = f1_score(truth[:n], predicted[:n], average="macro", zero_division=0.0)
        assert macro_f1(truth[:n], predicted[:n]) == expected


def test_a_tree_that_cannot_split_is_still_a_tree() -> None:
    table = make_table(20)
    assert table.labels is not None
    model, _ = fit(KINDS["tree"], np.zeros_like(table.X), table.labels, 0)
    trees = trees_of(model)
    assert trees is not None
    assert [len(tree.feature) for tree in trees] == [1]
    content, result = _model_file(model, replace(table, X=np.zeros_like(table.X)), Sheet(), {})
    assert result.passed
    assert _card_of(content).labels == ("calm", "loud")


def test_figures_are_those_of_held_out_rows() -> None:
    found = _evaluate(make_table(240), repeats=2)
    names = {"accuracy", "majority share", "f1 calm", "f1 loud", "macro f1", "roc auc", "brier", "ece"}
    assert set(found.random.figures) == names
    assert "blocks of ids" in found.schemes
    assert set(found.schemes["blocks of ids"].figures) == names
    accuracy, _ = found.random.figures["accuracy"]
    assert 0.7 < accuracy < 1
    assert found.random.confusion.sum() == 2 * 240
    assert np.isclose(np.trace(found.random.confusion) / (2 * 240), accuracy)
    assert found.random.importances[2] < found.random.importances[0]
    metrics = found.to_metrics()
    assert metrics.values["majority share"] == 0.5
    assert {"blocks accuracy", "blocks majority share"} <= set(metrics.values)
    assert "2 x stratified 3-fold" in metrics.method


def test_short_evaluations_start_no_processes() -> None:
    training = Training("tree", repeats=1, folds=10, jobs=None)
    assert training.processes(0.3) == 1
    assert training.processes(3.0) == default_jobs()
    assert replace(training, repeats=10).processes(0.3) == default_jobs()
    assert replace(training, jobs=3).processes(0.3) == 3


def test_nothing_to_learn_gives_the_majority_share() -> None:
    table = make_table(300, seed=1)
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(300) < 0.25, "loud", "calm")
    found = _evaluate(replace(table, labels=labels, ids=None))
    assert "blocks of ids" not in found.schemes
    assert abs(found.random.figures["roc auc"][0] - 0.5) < 0.12


def test_blocks_of_ids_do_not_learn_from_their_neighbours() -> None:
    """Albums of ten equal tracks: random folds know them by heart, blocks do not."""
    rng = np.random.default_rng(0)
    albums = rng.normal(size=(40, 3)).astype(np.float32)
    labels = np.where(rng.random(40) < 0.5, "calm", "loud")
    table = make_table(400)
    table = replace(table, X=np.repeat(albums, 10, axis=0), labels=np.repeat(labels, 10))
    found = _evaluate(table)
    assert "blocks of ids" in found.schemes
    assert found.random.figures["accuracy"][0] > 0.9
    assert found.schemes["blocks of ids"].figures["accuracy"][0] < 0.75


@pytest.mark.parametrize("kind", ["tree", "boosting"])
def test_a_block_that_leaves_one_label(kind: str) -> None:
    """Twenty neighbours have all there is of a label: without them there is but one, which is certain then."""
    table = make_table(120)
    labels = np.array(["fine"] * 120, dtype="<U5")
    labels[50:70] = "fault"
    found = _evaluate(replace(table, labels=labels), kind)
    assert "blocks of ids" in found.schemes
    (block,) = found.schemes["blocks of ids"].repeats
    assert found.schemes["blocks of ids"].figures["f1 fault"] == (0.0, 0.0)
    assert block.probabilities[50:70].tolist() == [[0.0, 1.0]] * 20
    assert np.allclose(block.probabilities.sum(axis=1), 1)


def test_a_label_that_lies_in_one_block_only() -> None:
    table = make_table(120, labels=("calm", "loud", "odd"))
    assert table.labels is not None
    labels = np.where(np.arange(120) < 30, "odd", np.where(table.labels == "odd", "calm", table.labels))
    found = _evaluate(replace(table, labels=labels))
    assert "blocks of ids" in found.schemes
    assert 0 <= found.schemes["blocks of ids"].figures["macro f1"][0] <= 1


def test_the_card_says_where_the_model_comes_from() -> None:
    table = make_table()
    found = _package(table, Sheet())
    assert (found.name, found.version, found.training.date) == ("mood", "1.2.3", "2026-01-31")
    assert found.feature_names == table.feature_names
    assert found.training.class_counts == {"calm": 120, "loud": 120}
    assert found.training.estimator == "DecisionTreeClassifier"
    assert found.training.datasets[0].name == "table.csv"
    assert found.features[0].minimum is None
    assert len(found.self_test.rows) >= 32
    assert set(found.self_test.labels) == {"calm", "loud"}
    rows = np.array(found.self_test.rows)
    assert np.array_equal(rows, rows.astype(np.float32))


def test_a_sheet_adds_bounds_examples_and_licence(tmp_path: Path) -> None:
    table = make_table()
    path = tmp_path / "sheet.toml"
    path.write_text("""
        description = "How a sound feels"
        [features.pitch]
        unit = "Hz"
        minimum = -100
        maximum = 100
        [[examples]]
        name = "a hum"
        features = { level = 0.1, pitch = 5, noise = 0 }
        [[datasets]]
        name = "Sounds"
        licence = "CC0"
    """)
    found = _package(table, sheet_for(table.feature_names, path))
    assert found.description == "How a sound feels"
    assert (found.features[1].unit, found.features[1].maximum, found.features[1].example) == ("Hz", 100, 5)
    assert found.examples[0].label in {"calm", "loud"}
    assert found.training.datasets[0].licence == "CC0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[features", "is not TOML"),
        ("colour = 1", "sheet.toml: colour: Extra inputs are not permitted"),
        ("[features.depth]\nunit = 'm'", "features.depth: the table has no such column; it has level, pitch, noise"),
        ("[features.level]\nminimum = 2\nmaximum = 1", "minimum 2 is above maximum 1"),
        ("[[examples]]\nname = 'x'\nfeatures = { level = 1 }", "example 'x' does not give each of level, pitch, noise"),
        ("[features.pitch]\nminimum = 0", "table.csv: column 'pitch', row 4: -"),
    ],
)
def test_a_bad_sheet_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sheet.toml"
    path.write_text(text)
    table = make_table()
    table.X[:2, 1], table.X[2, 1] = 1, -5
    with pytest.raises(InputError) as caught:
        _package(table, sheet_for(table.feature_names, path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_echonest_sheet_attributes_the_fma_files_and_no_others() -> None:
    names = (
        "acousticness",
        "danceability",
        "energy",
        "instrumentalness",
        "liveness",
        "speechiness",
        "tempo",
        "valence",
    )
    sheet = sheet_for(names, None)
    assert sheet.features["tempo"].unit == "BPM"
    real = sheet.published
    assert real is not None
    sources = tuple(DataFile(Path("f"), sha256, "plain") for sha256 in real.sha256)
    assert all(sheet.dataset(source) is not None for source in sources)
    assert len(sheet.published_on(sources)) == 4
    mine = DataFile(Path("mine.csv"), "0" * 64, "plain")
    assert sheet.dataset(mine) is None
    assert sheet.published_on((mine,)) == ()
    assert sheet.dataset(replace(mine, layout="fma_metadata")) is not None
    assert sheet_for((*names, "loudness"), None) == Sheet()


def test_a_file_without_a_card_is_no_model(tmp_path: Path) -> None:
    for content, message in (
        (b"", "no model card"),
        (b"\xff\xff\xff", "is not an ONNX file"),
        (b"hello", "not an ONNX file"),
    ):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_model(tmp_path / "m.onnx")
