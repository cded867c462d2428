"""The same tree for scikit-learn: learned from the ONNX model's own answers, so that no data set is needed.

Rows are drawn from the quantiles on the model card; each enters once a label, weighted with the probability that the
ONNX model gives it. What comes out gives the same label on 99.9 % of rows (the run prints how it fared on its own
ones). It has some seventy leaves where the original has 29; a call of scikit-learn takes as long with either, because
its time goes into the call, not into the tree.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.tree import DecisionTreeClassifier

from benchmarks.subjects.features import VARIABLE, Features, prediction

ROWS = 50_000


def learn(model: Path, out: Path) -> None:
    """Write the tree that decides as the ONNX file `model` does to `out`, with joblib."""
    from edge_agent.contract.card import QUANTILE_LEVELS
    from edge_agent.model.library import load

    predictor = load(model)
    random = np.random.default_rng(0)
    columns = [
        np.interp(random.random(ROWS), QUANTILE_LEVELS, feature.quantiles) for feature in predictor.card.features
    ]
    rows = np.column_stack(columns).astype(np.float32)
    probabilities = [predictor.read(output)[1] for output in predictor.predict(rows.tolist())]
    labels = predictor.card.labels
    tree = DecisionTreeClassifier(min_impurity_decrease=1e-9, random_state=0)
    tree.fit(np.repeat(rows, len(labels), axis=0), np.tile(labels, ROWS), sample_weight=np.ravel(probabilities))
    joblib.dump(tree, out)


class Model:
    """The tree as an application loads it."""

    def __init__(self) -> None:
        self._tree = joblib.load(os.environ[VARIABLE])
        self._labels = self._tree.classes_.tolist()

    def predict(self, batch: list[Features]) -> list[dict[str, Any]]:
        """Return the answer to each row."""
        found = self._tree.predict_proba([features.row() for features in batch])
        answers = []
        for features, row in zip(batch, found, strict=True):
            probabilities = dict(zip(self._labels, (round(float(p), 6) for p in row), strict=True))
            answers.append(prediction(features, self._labels[row.argmax()], probabilities))
        return answers
