"""ONNX files of LightGBM and XGBoost by onnxmltools 1.16, recorded (`fixtures/foreign`): three rounds of few leaves on iris, targets as below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.unit.convert.conftest import FIXTURES
from tests.unit.convert.foreign import IRIS, NAMES, SPECIES, TEXTS, require_same, table_of

TWO = (SPECIES > 0).astype(int)
WIDTH = IRIS[:, 3]


@pytest.mark.parametrize(
    ("file", "target", "how", "names"),
    [
        ("lightgbm-numbered", SPECIES, "probabilities", ("0", "1", "2")),
        ("lightgbm-text", TEXTS, "probabilities", tuple(NAMES)),
        ("lightgbm-two", TWO, "probabilities", ("0", "1")),
        ("lightgbm-number", WIDTH, "numbers", ()),
        ("xgboost-numbered", SPECIES, "probabilities", ("0", "1", "2")),
        ("xgboost-two", TWO, "probabilities", ("0", "1")),
        ("xgboost-number", WIDTH, "numbers", ()),
    ],
)
def test_files_of_onnxmltools(file: str, target: Any, how: str, names: tuple[str, ...], tmp_path: Path) -> None:
    model = onnx.load(FIXTURES / "foreign" / f"{file}.onnx")
    foreign = require_same(model, tmp_path, table_of(labels=target))
    assert (foreign.meaning.how, foreign.meaning.names) == (how, names)
    assert foreign.title == "ONNX file (OnnxMLTools 1.16.0)"
    if names:
        assert (foreign.labels_of(IRIS).labels == target.astype(str)).mean() > 0.9


def test_numbered_labels_of_boosters_are_named(tmp_path: Path) -> None:
    model = onnx.load(FIXTURES / "foreign" / "lightgbm-numbered.onnx")
    foreign = require_same(model, tmp_path, table_of(), label_names=tuple(NAMES))
    assert (foreign.labels_of(IRIS).labels == TEXTS).mean() > 0.9


def test_missing_values_go_where_the_file_sends_them(tmp_path: Path) -> None:
    rows = IRIS.copy()
    rows[np.random.default_rng(0).random(rows.shape) < 0.1] = np.nan
    model = onnx.load(FIXTURES / "foreign" / "lightgbm-text.onnx")
    foreign = require_same(model, tmp_path, table_of(rows))
    assert (foreign.labels_of(rows).labels == TEXTS).mean() > 0.85
