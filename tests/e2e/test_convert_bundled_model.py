"""The bundled model is what `edge-convert train` makes of the real data: retrained here, it has the same bytes.

Evaluating takes longer than a test should, so the card's figures, and what it expects of answers, are taken over; all else has to come out of the
training again. The data is not part of the project: without it there is nothing to retrain from.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skl2onnx", reason="needs the extra `convert`")

import onnx
from edge_convert.classifier import labels_of, title_of
from edge_convert.describe import sheet_for
from edge_convert.estimators import KINDS, fit
from edge_convert.modelcard import Identity, Origin, draft_card
from edge_convert.sessions import open_session
from edge_convert.tables import Table, read_pair
from edge_convert.tasks import Classification
from edge_convert.verify import run
from edge_convert.workflow import model_file

import edge_agent
from edge_agent.contract import card

ROOT = Path(__file__).parent.parent.parent
DATA = Path(os.environ.get("FMA_DATA", ROOT.parent / "shared" / "data" / "fma"))
BUNDLED = Path(edge_agent.__file__).parent / "models" / "genre.onnx"

needs_data = pytest.mark.skipif(
    not (DATA / "echonest-metrics.json").is_file(),
    reason="needs the FMA data (FMA_DATA, or shared/data/fma beside the clone)",
)


def _card(content: bytes) -> card.ModelCard:
    entry, _seal = onnx.load_from_string(content).metadata_props
    return card.parse(entry.value, where="the model")


@pytest.fixture(scope="module")
def table() -> Table:
    return read_pair(DATA / "echonest-metrics.json", DATA / "fma-rock-vs-hiphop.csv", label_column="genre_top")


@needs_data
def test_retraining_gives_the_same_bytes(table: Table) -> None:
    bundled = BUNDLED.read_bytes()
    old = _card(bundled)
    assert table.labels is not None
    model, parameters = fit(KINDS["tree"], table.X, table.labels, 0)
    identity = Identity("genre", "1.0.0", old.training.date)
    draft = draft_card(identity, table, sheet_for(table.feature_names, None), Classification(labels_of(model)))
    parameters = {**model.get_params(deep=False), **parameters}
    origin = Origin(title_of(model), parameters, old.metrics, expected=lambda _reference: old.expected)
    retrained, result = model_file(model, draft, origin, seed=0, say=lambda _sentence: None)
    assert result.passed
    if retrained == bundled:
        return
    # Not the same bytes: the one accepted reason is that other versions of the libraries trained it.
    now, then = _card(retrained).training.libraries, old.training.libraries
    changed = {name: (then.get(name), now.get(name)) for name in then | now if then.get(name) != now.get(name)}
    assert changed, "the same library versions made another file: run the command in docs/training.md again"
    answers, _ = run(open_session(retrained), table.X, draft.task)
    expected, _ = run(open_session(bundled), table.X, draft.task)
    same = float(np.mean(answers == expected))
    assert same > 0.97, f"library versions changed {changed}, and with them {1 - same:.1%} of the labels"


def test_the_card_names_the_source_and_the_figures() -> None:
    found = _card(BUNDLED.read_bytes())
    assert (found.name, found.version, found.labels) == ("genre", "1.0.0", ("Hip-Hop", "Rock"))
    assert [example.label for example in found.examples] == ["Hip-Hop", "Rock"]
    assert found.expected is not None
    assert found.expected.held_out
    assert sum(found.expected.labels.values()) == found.expected.rows == sum(found.training.class_counts.values())
    assert found.expected.means["confidence"] == pytest.approx(found.metrics.values["accuracy"], abs=0.05)
    for dataset in found.training.datasets:
        assert dataset.licence == "CC BY 4.0"
        assert "arXiv:1612.01840" in dataset.attribution
    assert found.metrics.values["accuracy"] >= 0.895
    assert found.metrics.values["f1 Hip-Hop"] >= 0.71
    assert len(found.self_test.rows) >= 32
