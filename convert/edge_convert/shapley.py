"""Explanations of self-test rows on the card, made by the package `shap`: with these each device proves its own.

Rules:

* `shap` explains the library's own model, with its own trees and its own rows: nothing of it comes from the trees on the card;
* without `shap`, and for a model that it explains otherwise than the model answers, the card has none, and a sentence says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.contract.card import ModelCard
from edge_agent.contract.trees import LEAF, Trees
from edge_convert.boosters.model import Boosted
from edge_convert.classifier import Estimator, split, unwrapped
from edge_convert.fold import Folded
from edge_convert.wording import first_line

#: The most rows that are explained, and numbers in their explanations.
_ROWS: Final = 16
_NUMBERS: Final = 4096
#: Digits of a number: more than any device is compared to.
_DIGITS: Final = 12
#: By how much base and values may miss what the model answers, as a share of the largest answer. XGBoost adds in float32.
_ALIKE: Final = 1e-5

Floats = NDArray[np.float64]


def explained(
    model: Estimator, folded: Folded, card: ModelCard, installed: Callable[[str], str] = metadata.version
) -> tuple[ModelCard, str]:
    """Return the card with explanations of some rows of its self-test, or as it is, and a sentence that says why ("" if it never has any).
    `installed` tells the version of a package.
    """
    if card.trees is None or len(card.outputs) > 1:
        return card, ""
    try:
        version = installed("shap")
    except metadata.PackageNotFoundError:
        return card, (
            "explain: shap is not installed, so the self-test has no explanations that devices could compare theirs with "
            "(pip install '.[explain]')"
        )
    rows = np.array(card.self_test.rows, np.float64)
    most = max(1, min(_ROWS, _NUMBERS // (rows.shape[1] + 1)))
    places = np.unique(np.linspace(0, len(rows) - 1, most).astype(int))
    columns = [card.labels.index(card.self_test.labels[place]) if card.labels else 0 for place in places]
    try:
        found = _shap(model, rows[places].astype(folded.dtype), columns, len(card.labels))
    except Exception as error:  # noqa: BLE001 - whatever shap says of a model, the file does without
        return card, f"explain: shap {version} can't explain this model: {first_line(error)[:200]}"
    answers = _answers(card.trees, rows[places].astype(folded.dtype).astype(np.float64), columns)
    if not np.abs(found.sum(axis=1) - answers).max() <= _ALIKE * np.abs(answers).max():
        return (
            card,
            f"explain: what shap {version} says of this model does not add up to its answers, so the self-test goes without",
        )
    numbers: list[tuple[float, ...]] = [()] * len(rows)
    for place, row in zip(places, found, strict=True):
        numbers[place] = tuple(float(f"{value:.{_DIGITS}g}") for value in row)
    training = card.training.model_copy(update={"libraries": {**card.training.libraries, "shap": version}})
    self_test = card.self_test.model_copy(update={"shap": tuple(numbers)})
    return card.model_copy(update={"training": training, "self_test": self_test}), ""


def _shap(model: Estimator, rows: NDArray[Any], columns: list[int], labels: int) -> Floats:
    """Return the base and the SHAP values of each row's own label, (n, 1 + features); of the only output where there are no labels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from shap import TreeExplainer

        before, last = split(unwrapped(model))
        for step in before:
            rows = step.transform(rows)
        explainer = TreeExplainer(
            last.source.model if isinstance(last, Boosted) else last, feature_perturbation="tree_path_dependent"
        )
        values = np.asarray(explainer.shap_values(rows, check_additivity=False), np.float64)
    base = np.atleast_1d(np.asarray(explainer.expected_value, np.float64))
    found = []
    for row, column in enumerate(columns):
        if values.ndim == 3:
            found.append([base[column], *values[row, :, column]])
        else:
            # Of two labels with one score, that of the first is the same with the other sign.
            sign = -1.0 if labels and column == 0 else 1.0
            found.append([sign * base[-1], *(sign * values[row])])
    return np.array(found)


def _answers(trees: Trees, rows: Floats, columns: list[int]) -> Floats:
    """Return what the trees on the card add up to for each row's own label, (n,)."""
    found = []
    for row, column in zip(rows, columns, strict=True):
        score = column if trees.scores > 1 else 0
        total = trees.base[score] if trees.base else 0.0
        begin = leaves = 0
        for number, size in enumerate(trees.sizes):
            node = 0
            while (feature := trees.features[begin + node]) != LEAF:
                gone = np.isnan(row[feature])
                left = trees.missing_left[begin + node] if gone else row[feature] <= trees.thresholds[begin + node]
                node = (trees.left if left else trees.right)[begin + node]
            values = trees.values[leaves + trees.features[begin : begin + node].count(LEAF)]
            if len(values) == trees.scores:
                total += values[score]
            elif number % trees.scores == score:
                total += values[0]
            leaves += trees.features[begin : begin + size].count(LEAF)
            begin += size
        total /= len(trees.sizes) if trees.mean or trees.link == "path" else 1
        found.append(-total if trees.link == "logistic" and column == 0 else total)
    return np.array(found)
