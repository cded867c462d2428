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
from sklearn.metrics import f1_score, make_scorer, precision_score, recall_score
from sklearn.model_selection import FixedThresholdClassifier, StratifiedKFold, TunedThresholdClassifierCV

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

    def score(self, truth: NDArray[Any], said: NDArray[Any], *, pos_label: str) -> float:
        """Return what is to be as large as possible."""
        if self.goal == "f1":
            return float(f1_score(truth, said, pos_label=pos_label, zero_division=0.0))
        if self.goal == "cost":
            missed = ((truth == pos_label) & (said != pos_label)).sum()
            return -float(self.value * missed + ((truth != pos_label) & (said == pos_label)).sum())
        recall = float(recall_score(truth, said, pos_label=pos_label, zero_division=0.0))
        if recall < self.value:
            return recall - 1
        return float(precision_score(truth, said, pos_label=pos_label, zero_division=0.0))


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
        folds = StratifiedKFold(min(_FOLDS, rows), shuffle=True, random_state=seed)
        if calibration is not None:
            model = CalibratedClassifierCV(model, method=calibration, cv=folds, ensemble=False)
        return model.fit(X, y) if threshold is None else _with_threshold(model, X, y, threshold, folds)

    title = kind.title + (f", calibrated ({calibration})" if calibration else "")
    return replace(kind, fit=fit, title=title + (", by a threshold" if threshold else ""))


def _with_threshold(
    model: Any, X: NDArray[np.float64], y: Labels, threshold: Threshold, folds: StratifiedKFold
) -> FixedThresholdClassifier:
    labels, counts = np.unique(y, return_counts=True)
    rarer = labels[int(counts.argmin())]
    scorer = make_scorer(threshold.score, pos_label=rarer)
    tuned = TunedThresholdClassifierCV(
        model, scoring=scorer, response_method="predict_proba", cv=folds, thresholds=200
    ).fit(X, y)
    # What it was tuned by is a function, which is none of the model's parameters.
    found = FixedThresholdClassifier(
        model, threshold=float(tuned.best_threshold_), pos_label=str(rarer), response_method="predict_proba"
    )
    found.estimator_ = tuned.estimator_
    found.n_features_in_ = X.shape[1]
    return found


def base_of(model: Any) -> Any:
    """Return the fitted model inside."""
    if isinstance(model, FixedThresholdClassifier):
        return base_of(model.estimator_)
    if isinstance(model, CalibratedClassifierCV):
        return base_of(model.calibrated_classifiers_[0].estimator)
    return model
