"""Why a row got its answer, from the trees on a model's card (`edge_agent.contract.trees`). The graph answers; this explains.

Rules:

* `path` is for one tree: the conditions that led to the leaf, each feature once, and the smallest change of one feature alone
  that gives another answer;
* `shap` gives exact path-dependent SHAP values (Lundberg et al., 2020, https://doi.org/10.1038/s42256-019-0138-9: what the package `shap`
  calls `tree_path_dependent`). Values and base add up to the output;
* rows are what the model gets: codes for words, NaN for what is missing, rounded as the graph rounds them;
* a model whose rows would take more than `MAX_STEPS` is refused when it is asked for, not when a message comes.

How SHAP values come of a leaf with d features on its path, value v, and for each of them z, the share of the training rows that went
this way, and o, 1 if the row does, else 0: that of feature i is

    v (o_i - z_i) * integral from 0 to 1 of product over j != i of (o_j t + z_j (1 - t)) dt

which is the sum over all subsets that Shapley's formula has. The integrand is a polynomial of degree d - 1, for which Gauss and Legendre's
rule is exact with d / 2 points; all terms are positive, so nothing cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edge_agent.contract.answers import Explanation, Nearest, Scale
from edge_agent.contract.card import Feature, ModelCard
from edge_agent.contract.trees import Trees
from edge_agent.errors import ExplainError
from edge_agent.model.ways import Floats, Leaves, codes, in_words, leaves_of, too_large

#: The ways to explain an answer.
METHODS: Final = ("path", "shap")
#: The most leaves times features on a path times points of a model that explains: about 0.3 ms a row on a desktop.
MAX_STEPS: Final = 1 << 16
#: How far from those on a card SHAP values may be, as a share of the largest: XGBoost adds in float32.
TOLERANCE: Final = 1e-5
#: Steps that are taken at once: they stay in the processor's cache.
_AT_ONCE: Final = 1 << 15
#: In place of a share of 0: its product with up to ten others is a number still.
_NOTHING: Final = 1e-30
#: Significant digits of what an explanation says.
_DIGITS: Final = 7


class Explainer(Protocol):
    """Explains the answers of one model in one way."""

    def explain(self, rows: Sequence[Sequence[float]], labels: Sequence[str | None]) -> list[Explanation]:
        """Return why each of `rows` (n, features) got its label, (n,); None where answers have none."""


def explainer(card: ModelCard, method: str, dtype: np.dtype[Any]) -> Explainer:
    """Return what explains the answers of a model by `method`; `dtype` is what its graph takes. Raises `ExplainError`."""
    if card.trees is None:
        raise ExplainError(
            f"model {card.name!r} can't explain its answers: its card has no trees; tree models with up to 4,096 nodes have them when "
            'edge-convert of this version writes them; remove explain, or set explain = "none"'
        )
    if method == "path":
        return _Path(card, card.trees, dtype)
    if method == "shap":
        return Shap(card, card.trees, dtype)
    raise ExplainError(f"explain: {method[:20]!a} is none of {', '.join(METHODS)}")


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


class Shap:
    """SHAP values of the score that stands for the answered label, or of the value.

    Of two labels with one score, which speaks for the second, that of the first is the same with the other sign.
    """

    def __init__(self, card: ModelCard, trees: Trees, dtype: np.dtype[Any]) -> None:
        if len(card.outputs) > 1:
            raise ExplainError(
                f'model {card.name!r} answers several numbers, and shap explains one; set explain = "none"'
            )
        self._names = card.feature_names
        self._labels = {label: place for place, label in enumerate(card.labels)}
        self._only = card.outputs[0].name if card.outputs else "normal"
        self._trees = trees
        self._dtype = dtype
        self.scale = _scale_of(card, trees)
        self._leaves = leaves = leaves_of(trees, MAX_STEPS)
        #: Whether each score has trees of its own.
        self._is_split = bool(leaves.values.shape[1] < trees.scores)
        several = (len(leaves.features) + 1) // 2
        #: What a row takes: of the trees of one score, if each has its own.
        self.steps = leaves.features.size * several // (trees.scores if self._is_split else 1)
        if self.steps > MAX_STEPS:
            raise ExplainError(f"model {card.name!r}: {too_large(self.steps, MAX_STEPS)}")
        #: Points and weights of Gauss and Legendre's rule, between 0 and 1.
        points, weights = np.polynomial.legendre.leggauss(several)
        self._points, self._weights = (points + 1) / 2, weights / 2
        self._all = None if self._is_split else self._shared(leaves)
        self._scores: dict[int, _Score] = {}

    def explain(self, rows: Sequence[Sequence[float]], labels: Sequence[str | None]) -> list[Explanation]:
        """Return the values of all features that have any, the largest first."""
        found = []
        for label, values, base, output in zip(labels, *self.values(rows, labels), strict=True):
            order = np.argsort(-np.abs(values), kind="stable").tolist()
            told: Explanation = {
                "method": "shap",
                "of": label if label in self._labels else self._only,
                "scale": self.scale,
                "base": _short(base),
                "output": _short(output),
                "values": {self._names[one]: _short(values[one]) for one in order if values[one]},
            }
            found.append(told)
        return found

    def values(
        self, rows: Sequence[Sequence[float]], labels: Sequence[str | None]
    ) -> tuple[list[Floats], list[float], list[float]]:
        """Return for each of `rows` (n, features) the SHAP values (features,), the base, and the output that both add up to."""
        seen = np.asarray(rows, self._dtype).astype(np.float64)
        values: list[Floats] = [np.empty(0)] * len(seen)
        bases, outputs = [0.0] * len(seen), [0.0] * len(seen)
        of = [self._labels.get(label or "", 0) for label in labels]
        for place in sorted(set(of)):
            score = self._score(place)
            places = [row for row, one in enumerate(of) if one == place]
            at_once = max(1, _AT_ONCE // max(1, score.leaves.features.size * len(self._points)))
            for start in range(0, len(places), at_once):
                part = places[start : start + at_once]
                for row, one, output in zip(part, *self._part(score, seen[part]), strict=True):
                    values[row], bases[row], outputs[row] = one, score.base, output
        return values, bases, outputs

    def _part(self, score: _Score, rows: Floats) -> tuple[Floats, list[float]]:
        leaves, weight, first, shares, _ = score
        met = leaves.met(rows)
        each = shares + met * self._points[:, np.newaxis, np.newaxis, np.newaxis]  # (points, n, d, l)
        product = each.prod(axis=2, keepdims=True) * self._weights[:, np.newaxis, np.newaxis, np.newaxis]
        terms = (product / each).sum(axis=0)
        terms *= (met - leaves.share) * weight
        n, width = len(rows), rows.shape[1]
        places = leaves.features + width * np.arange(n)[:, np.newaxis, np.newaxis]
        values = np.bincount(places.ravel(), terms.ravel(), n * width).reshape(n, width)
        outputs: list[float] = (met.all(axis=1) @ weight + first).tolist()
        return values, outputs

    def _shared(self, leaves: Leaves) -> Floats:
        """Return the part of the integrand that no row changes, (points, 1, d, l)."""
        return np.asarray(
            np.maximum(leaves.share, _NOTHING) * (1 - self._points[:, np.newaxis, np.newaxis, np.newaxis])
        )

    def _score(self, place: int) -> _Score:
        """Return the leaves of one score, made when it is first asked for."""
        found = self._scores.get(place)
        if found is not None:
            return found
        trees, leaves = self._trees, self._leaves
        column = place if trees.scores > 1 else 0
        if self._is_split:
            leaves = leaves.of(leaves.tree % trees.scores == column)
            column = 0
        sign = -1.0 if trees.link == "logistic" and place == 0 else 1.0
        sign /= len(trees.sizes) if trees.mean or trees.link == "path" else 1
        weight = sign * leaves.values[:, column]
        first = sign * trees.base[place if trees.scores > 1 else 0] if trees.base else 0.0
        shares = self._shared(leaves) if self._all is None else self._all
        base = first + float(leaves.share.prod(axis=0) @ weight)
        found = self._scores[place] = _Score(leaves, weight, first, shares, base)
        return found


def differences(card: ModelCard, dtype: np.dtype[Any]) -> dict[int, float]:
    """Return by how much the SHAP values that this device computes differ from those on the card, by row of the self-test: as a share of the
    largest number there. Empty for a card without, or a model that this agent does not explain.
    """
    test = card.self_test
    rows = [row for row, numbers in enumerate(test.shap) if numbers]
    if not rows or card.trees is None:
        return {}
    try:
        shap = Shap(card, card.trees, dtype)
    except ExplainError:
        return {}
    labels = [test.labels[row] if test.labels else None for row in rows]
    values, bases, _ = shap.values([test.rows[row] for row in rows], labels)
    expected = np.array([test.shap[row] for row in rows])
    found = np.column_stack([bases, np.array(values)])
    shares = np.abs(found - expected).max(axis=1) / (np.abs(expected).max() or 1.0)
    return dict(zip(rows, shares.tolist(), strict=True))


class _Score(NamedTuple):
    leaves: Leaves
    weight: Floats
    first: float
    shares: Floats
    base: float


def _scale_of(card: ModelCard, trees: Trees) -> Scale:
    """Return what SHAP values add up to."""
    if card.task == "classification":
        return "probability" if trees.link == "identity" else "log-odds" if trees.link == "logistic" else "score"
    return "logarithm" if trees.link == "exponential" else "path length" if trees.link == "path" else "value"


class _Path:
    """The conditions on the way to the leaf of the only tree, and the smallest change that leads to another answer.

    A change is measured by how far training rows are spread (from 5 to 95 percent of them); another word counts as far as that.
    """

    def __init__(self, card: ModelCard, trees: Trees, dtype: np.dtype[Any]) -> None:
        if len(trees.sizes) > 1:
            raise ExplainError(
                f'model {card.name!r} has {len(trees.sizes)} trees, and a path is that of one: set explain = "shap"'
            )
        self._card, self._dtype = card, dtype
        self._leaves = leaves = leaves_of(trees, MAX_STEPS)
        values = leaves.values
        if card.task == "classification":
            self._answer = values.argmax(axis=1)
        else:
            self._answer = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)
        self._spread = np.array([_spread(feature) for feature in card.features])
        self._is_word = np.array([feature.kind != "number" for feature in card.features])
        self._told: dict[int, list[str]] = {}

    def explain(self, rows: Sequence[Sequence[float]], labels: Sequence[str | None]) -> list[Explanation]:  # noqa: ARG002 - the tree says it
        """Return the path of each of `rows` (n, features)."""
        seen = np.asarray(rows, self._dtype).astype(np.float64)
        met = self._leaves.met(seen)
        found: list[Explanation] = []
        for row, conditions in zip(seen, met, strict=True):
            leaf = int(conditions.all(axis=0).argmax())
            told = self._told.get(leaf)
            if told is None:
                told = self._told[leaf] = self._conditions(leaf)
            found.append({"method": "path", "conditions": told, "nearest": self._nearest(row, conditions, leaf)})
        return found

    def _conditions(self, leaf: int) -> list[str]:
        features, low, high, missing = (part[:, leaf] for part in self._leaves[:4])
        return [
            in_words(self._card.features[feature], *bounds, missing=gone)
            for feature, *bounds, gone in zip(
                features.tolist(), low.tolist(), high.tolist(), missing.tolist(), strict=True
            )
            if bounds != [-math.inf, math.inf] or not gone
        ]

    def _nearest(self, row: Floats, met: npt.NDArray[np.bool_], own: int) -> Nearest | None:
        """Return the smallest change of one feature that leads to another answer; None where there is none."""
        leaves = self._leaves
        # Leaves with another answer of which one condition is not met: one feature alone leads there.
        others = np.flatnonzero(((~met).sum(axis=0) == 1) & (self._answer != self._answer[own]))
        if not len(others):
            return None
        at = (~met[:, others]).argmax(axis=0)
        features, low, high = (part[at, others] for part in (leaves.features, leaves.low, leaves.high))
        change = np.where(row[features] > high, high, low) - row[features]
        far = np.abs(change) / self._spread[features]
        far[self._is_word[features] & (far >= 0)] = 1.0
        for place in np.argsort(far, kind="stable").tolist():
            told = self._card.features[features[place]], float(low[place]), float(high[place])
            if far[place] >= 0 and _reaches(*told, up=row[features[place]] <= low[place]):  # else the value is missing
                return self._told_of(*told, float(change[place]), int(others[place]))
        return None

    def _told_of(self, feature: Feature, low: float, high: float, change: float, leaf: int) -> Nearest:
        told: Nearest = {"feature": feature.name, "condition": ""}
        if feature.kind == "number":
            # The one threshold that is in the way.
            up = change >= 0
            told["condition"] = in_words(feature, low if up else -math.inf, math.inf if up else high, missing=False)
            told["change"] = _short(change)
        else:
            told["condition"] = in_words(feature, low, high, missing=False)
        if self._card.task == "classification":
            told["label"] = self._card.labels[self._answer[leaf]]
        elif len(self._card.outputs) == 1:
            told["value"] = _short(float(self._leaves.values[leaf, 0]))
        return told


def _spread(feature: Feature) -> float:
    quantiles = feature.quantiles
    return (quantiles[6] - quantiles[2]) or (quantiles[-1] - quantiles[0]) or 1.0


def _reaches(feature: Feature, low: float, high: float, *, up: bool) -> bool:
    """Tell whether a feature has a value on the other side of a threshold."""
    if feature.kind != "number":
        return bool(codes(feature, low, high))
    if low >= high:  # the tree asked for the same twice
        return False
    if up:
        return feature.maximum is None or feature.maximum > low
    return feature.minimum is None or feature.minimum <= high
