"""What stands between a classifier's scores and its answer: calibrated probabilities, and the threshold of two labels.

Both are found on out-of-fold predictions: of the rows that it learned from a model is too sure. The model itself then learns from all
rows. What comes out are scikit-learn's own classes, which `edge_convert.families` writes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import FixedThresholdClassifier, StratifiedKFold, cross_val_predict

from edge_agent.errors import InputError
from edge_convert.estimators import Kind, Labels

#: Folds that are predicted by models of the others.
_FOLDS: Final = 5

Calibration = Literal["isotonic", "sigmoid"]


@dataclass(frozen=True)
class Threshold:
    """What a threshold is to reach: the best F1 of the rarer label; the least cost, where missing it costs `value` times as much as
    a false alarm; or a recall of `value`, with the best precision there is.
    """

    goal: Literal["f1", "cost", "recall"]
    value: float = 1.0

    def best(self, truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
        """Return the threshold that reaches this, halfway between two scores (n,); `truth` (n,) is which rows have the rarer label."""
        order = np.argsort(-scores, kind="stable")
        ordered, caught = scores[order], np.cumsum(truth[order])
        ends = np.flatnonzero(np.append(np.diff(ordered) < 0, True))  # equal scores are on one side
        found, said, there = caught[ends], ends + 1, int(truth.sum())
        if self.goal == "f1":
            worth = 2 * found / (said + there)
        elif self.goal == "cost":
            worth = -(self.value * (there - found) + (said - found))
        else:
            worth = np.where(found >= self.value * there, found / said, -1.0)
        at = ends[int(worth.argmax())]
        return float((ordered[at] + ordered[at + 1]) / 2) if at + 1 < len(ordered) else float(ordered[at] / 2)


@dataclass(frozen=True)
class Decision:
    """How probabilities and the label come about, where not as the model has it."""

    calibration: Calibration | None = None
    threshold: Threshold | None = None


def threshold_of(text: str) -> Threshold:
    """Return what `f1`, `cost=5` or `recall=0.9` asks for. Raises `ValueError` for anything else."""
    goal, equals, number = text.partition("=")
    if text == "f1":
        return Threshold("f1")
    value = float(number) if equals else 0.0
    if goal == "cost" and 0 < value < float("inf"):
        return Threshold("cost", value)
    if goal == "recall" and 0 < value <= 1:
        return Threshold("recall", value)
    raise ValueError(text)


def decided(kind: Kind, labels: dict[str, int], decision: Decision | None) -> Kind:
    """Return a kind whose models are calibrated, and answer by a threshold; `labels` are the table's, with their rows.

    Raises `InputError` where a threshold is asked for with other than two labels.
    """
    if decision is None:
        return kind
    calibration, threshold = decision.calibration, decision.threshold
    if threshold is not None and len(labels) != 2:
        raise InputError(f"--threshold is for two labels, and there are {len(labels)}")

    def fit(model: Any, X: NDArray[np.float64], y: Labels, seed: int) -> Any:
        rows = int(np.unique(y, return_counts=True)[1].min())
        if rows < 2 or len(np.unique(y)) < 2:  # of a fold that has one label, say, nothing can be held out
            return model.fit(X, y)
        folds = min(_FOLDS, rows)
        left = rows if threshold is None else rows - -(-rows // folds)  # to calibrate with, while a fold is held out
        if calibration is not None and left > 1:
            inner = StratifiedKFold(min(_FOLDS, left), shuffle=True, random_state=seed)
            model = CalibratedClassifierCV(model, method=calibration, cv=inner, ensemble=False)
        if threshold is None:
            return model.fit(X, y)
        return _with_threshold(model, X, y, threshold, StratifiedKFold(folds, shuffle=True, random_state=seed))

    title = kind.title + (f", calibrated ({calibration})" if calibration else "")
    return replace(kind, fit=fit, title=title + (", by a threshold" if threshold else ""))


def _with_threshold(
    model: Any, X: NDArray[np.float64], y: Labels, threshold: Threshold, folds: StratifiedKFold
) -> FixedThresholdClassifier:
    labels, counts = np.unique(y, return_counts=True)
    place = int(counts.argmin())
    # Of all folds together: a fold of a rare label has few rows to reach a recall on.
    scores = cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, place]
    rarer = str(labels[place])
    found: FixedThresholdClassifier = FixedThresholdClassifier(
        model, threshold=threshold.best(y == rarer, scores), pos_label=rarer, response_method="predict_proba"
    ).fit(X, y)
    return found


def base_of(model: Any) -> Any:
    """Return the fitted model inside."""
    if isinstance(model, FixedThresholdClassifier):
        return base_of(model.estimator_)
    if isinstance(model, CalibratedClassifierCV):
        return base_of(model.calibrated_classifiers_[0].estimator)
    return model
