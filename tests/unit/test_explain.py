"""Explanations, against the definition of Shapley values, and against every change of every feature."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from edge_agent.contract.answers import Explanation
from edge_agent.contract.card import QUANTILE_LEVELS, Feature
from edge_agent.contract.messages import validator
from edge_agent.contract.trees import LEAF, Trees
from edge_agent.errors import ExplainError
from edge_agent.model.explain import MAX_STEPS, Shap, explainer
from edge_agent.model.ways import in_words, leaves_of
from tests.unit.grown import THRESHOLDS, answer, card_of, grow, score, shapley

FLOAT64 = np.dtype(np.float64)


def rows_of(source: random.Random, count: int, width: int = 4) -> list[tuple[float, ...]]:
    """Rows on thresholds, beside them, and with gaps."""
    values = (*THRESHOLDS, 0.0, 0.3, 1.0, math.nan)
    return [tuple(source.choice(values) for _ in range(width)) for _ in range(count)]


@pytest.mark.parametrize(
    ("how", "task"),
    [
        ({"trees": 1, "scores": 3, "mean": True}, "classification"),
        ({"trees": 5, "scores": 3, "mean": True}, "classification"),
        ({"trees": 4, "scores": 1, "base": (0.3,), "link": "logistic"}, "classification"),
        ({"trees": 6, "scores": 3, "base": (0.3, 0.1, -1.0), "link": "softmax", "one": True}, "classification"),
        ({"trees": 4, "scores": 1, "base": (2.0,)}, "regression"),
        ({"trees": 4, "scores": 1, "base": (0.5,), "link": "exponential"}, "regression"),
        ({"trees": 4, "scores": 1, "link": "path", "expected": 8.0}, "anomaly"),
    ],
)
def test_shap_values_are_those_of_the_definition(how: dict[str, Any], task: str) -> None:
    source = random.Random(len(str(how)))
    trees = grow(source, features=4, **how)
    card = card_of(trees, task=task)
    shap = Shap(card, trees, FLOAT64)
    rows = rows_of(source, 40)
    for place, label in enumerate(card.labels or (None,)):
        column = place if trees.scores > 1 else 0
        sign = -1.0 if trees.link == "logistic" and place == 0 else 1.0
        sign /= len(trees.sizes) if trees.link == "path" else 1
        values, bases, outputs = shap.values(rows, [label] * len(rows))
        for row, found, base, output in zip(rows, values, bases, outputs, strict=True):
            assert found == pytest.approx([sign * one for one in shapley(trees, row, column)], abs=1e-12)
            assert base == pytest.approx(sign * score(trees, row, (), column), abs=1e-12)
            assert output == pytest.approx(sign * answer(trees, row)[column], abs=1e-12)
            assert sum(found) + base == pytest.approx(output, abs=1e-12)


def test_values_and_base_are_the_output_as_it_is_sent() -> None:
    source = random.Random(1)
    trees = grow(source, features=4, trees=5, scores=2, mean=True)
    card = card_of(trees)
    rows = rows_of(source, 30)
    for told in explainer(card, "shap", FLOAT64).explain(rows, [card.labels[1]] * len(rows)):
        validator(Explanation).validate_python(told, strict=True)
        assert told["method"] == "shap"
        assert (told["of"], told["scale"]) == ("label 1", "probability")
        assert sum(told["values"].values()) + told["base"] == pytest.approx(told["output"], abs=1e-6)
        assert 0 not in told["values"].values()
        sizes = [abs(value) for value in told["values"].values()]
        assert sizes == sorted(sizes, reverse=True)


def test_a_part_that_no_training_row_reached_has_a_value_still() -> None:
    trees = Trees(
        sizes=(5,), features=(0, LEAF, 1, LEAF, LEAF), thresholds=(0.5, 0, 0.5, 0, 0), left=(1, 0, 3, 0, 0),
        right=(2, 0, 4, 0, 0), covers=(4, 4, 0, 0, 0), values=((0.0,), (1.0,), (3.0,)), scores=1,
    )  # fmt: skip
    ((values,), (base,), (output,)) = Shap(card_of(trees, task="regression"), trees, FLOAT64).values(
        [(1, 1, 0, 0)], [None]
    )
    assert base == 0
    assert output == 3
    assert values.tolist() == pytest.approx([2.5, 0.5, 0, 0])


@pytest.mark.parametrize("seed", range(20))
def test_the_nearest_change_is_the_nearest_of_all(seed: int) -> None:
    source = random.Random(seed)
    trees = grow(source, features=4, trees=1, scores=3, mean=True)
    card = card_of(trees)
    steps = sorted({*THRESHOLDS, *(math.nextafter(one, math.inf) for one in THRESHOLDS), -9.0, 9.0})
    rows = rows_of(source, 30)
    for row, told in zip(rows, explainer(card, "path", FLOAT64).explain(rows, [None] * len(rows)), strict=True):
        validator(Explanation).validate_python(told, strict=True)
        assert told["method"] == "path"
        own = int(np.argmax(answer(trees, row)))
        others = []
        for place, value in enumerate(row):
            for other in () if math.isnan(value) else steps:
                changed = (*row[:place], other, *row[place + 1 :])
                if int(np.argmax(answer(trees, changed))) != own:
                    others.append(abs(other - value))
        nearest = told["nearest"]
        if nearest is None:
            assert not others
            continue
        assert min(others) == pytest.approx(abs(nearest["change"]), abs=1e-7)
        place = card.feature_names.index(nearest["feature"])
        to = row[place] + nearest["change"]
        reached = (*row[:place], math.nextafter(to, math.inf) if nearest["change"] >= 0 else to, *row[place + 1 :])
        assert nearest["label"] == card.labels[int(np.argmax(answer(trees, reached)))]


@pytest.mark.parametrize("seed", range(10))
def test_the_conditions_are_those_of_the_way(seed: int) -> None:
    source = random.Random(seed)
    trees = grow(source, features=4, trees=1, scores=1)
    rows = rows_of(source, 30)
    for row, told in zip(
        rows, explainer(card_of(trees, task="regression"), "path", FLOAT64).explain(rows, [None] * 30), strict=True
    ):
        assert told["method"] == "path"
        node, asked = 0, set()
        while trees.features[node] != LEAF:
            feature = trees.features[node]
            asked.add("abcd"[feature])
            gone = math.isnan(row[feature])
            left = trees.missing_left[node] if gone else row[feature] <= trees.thresholds[node]
            node = (trees.left if left else trees.right)[node]
        by_name = {
            next(word for word in text.replace(",", "").split() if word in "abcd"): text for text in told["conditions"]
        }
        assert set(by_name) == asked
        for name, text in by_name.items():
            value = row["abcd".index(name)]
            if math.isnan(value):
                assert text.endswith("missing")
            else:
                said = text.removesuffix(", or missing").replace(f"{name} is there", "True")
                assert eval(said, {name: value})  # noqa: S307 - Python reads it as people do


def feature(**how: Any) -> Feature:
    return Feature(**{"name": "x", "quantiles": QUANTILE_LEVELS, "example": 1.0, **how})


@pytest.mark.parametrize(
    ("how", "low", "high", "missing", "text"),
    [
        ({"unit": "°C"}, -math.inf, 21.5, False, "x <= 21.5 °C"),
        ({}, 0.1, math.inf, True, "x > 0.1"),
        ({"missing": True}, 0.1, 0.31049999, True, "0.1 < x <= 0.3105, or missing"),
        ({"missing": True}, -math.inf, math.inf, False, "x is there"),
        ({"missing": True, "kind": "boolean"}, 0.5, -math.inf, True, "x is missing"),
        ({"kind": "boolean"}, 0.5, math.inf, False, "x = true"),
        (
            {"kind": "category", "categories": ("hall", "attic", "barn")},
            0.5,
            math.inf,
            False,
            "x is one of attic, barn",
        ),
        (
            {"kind": "category", "categories": tuple(f"r{n}" for n in range(20))},
            4.5,
            math.inf,
            False,
            "x is one of r5, r6, r7, r8, r9, r10, r11, r12 and 7 more",
        ),
    ],
)
def test_conditions_are_words(how: dict[str, Any], low: float, high: float, missing: bool, text: str) -> None:
    assert in_words(feature(**how), low, high, missing=missing) == text


def one_question(threshold: float, *, low: float = 0.0, high: float = 1.0) -> Trees:
    return Trees(
        sizes=(3,), features=(0, LEAF, LEAF), thresholds=(threshold, 0, 0), left=(1, 0, 0), right=(2, 0, 0), covers=(4, 1, 3),
        values=((1 - low, low), (1 - high, high)), scores=2, mean=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("of", "code", "nearest"),
    [
        (feature(kind="boolean"), 1.0, {"feature": "x", "condition": "x = false", "label": "label 0"}),
        (
            feature(kind="category", categories=("hall", "attic", "barn")),
            0.0,
            {"feature": "x", "condition": "x is one of attic, barn", "label": "label 1"},
        ),
        (feature(maximum=1.0), 0.25, {"feature": "x", "condition": "x > 0.5", "change": 0.25, "label": "label 1"}),
        # Nothing above it would be taken.
        (feature(maximum=0.5, example=0.5), 0.25, None),
        (feature(missing=True), math.nan, None),
    ],
)
def test_only_what_could_be_sent_is_near(of: Feature, code: float, nearest: Any) -> None:
    card = card_of(one_question(0.5), features=[of])
    (told,) = explainer(card, "path", FLOAT64).explain([(code,)], [None])
    assert told["method"] == "path"
    assert told["nearest"] == nearest


def test_no_change_matters_where_both_leaves_say_the_same() -> None:
    card = card_of(one_question(0.5, low=0.6, high=0.9), features=[feature()])
    (told,) = explainer(card, "path", FLOAT64).explain([(0.2,)], [None])
    assert told == {"method": "path", "conditions": ["x <= 0.5"], "nearest": None}


def test_rows_are_rounded_as_the_graph_rounds_them() -> None:
    """0.1 is more in float32, and so beyond a threshold of 0.1."""
    card = card_of(one_question(0.1), features=[feature()])
    for dtype, condition in ((np.float32, "x > 0.1"), (np.float64, "x <= 0.1")):
        (told,) = explainer(card, "path", np.dtype(dtype)).explain([(0.1,)], [None])
        assert told["method"] == "path"
        assert told["conditions"] == [condition]


def test_what_cannot_be_explained_is_refused_with_what_to_do() -> None:
    source = random.Random(0)
    forest = card_of(grow(source, features=4, trees=2, scores=2, mean=True))
    several = card_of(grow(source, features=4, trees=1, scores=2), task="regression")
    for card, method, says in (
        (forest.model_copy(update={"trees": None}), "shap", "its card has no trees"),
        (forest, "path", 'has 2 trees, and a path is that of one: set explain = "shap"'),
        (several, "shap", "answers several numbers"),
        (forest, "x" * 99, "'xxxxxxxxxxxxxxxxxxxx' is none of path, shap"),
    ):
        with pytest.raises(ExplainError, match=says):
            explainer(card, method, FLOAT64)
    wide = card_of(grow(random.Random(0), features=24, trees=20, scores=1, depth=9), width=24, task="regression")
    with pytest.raises(ExplainError, match=rf"too large .* steps or more for a row, and {MAX_STEPS:,} are allowed"):
        explainer(wide, "shap", FLOAT64)


def test_one_long_way_among_short_ones_takes_no_memory() -> None:
    """A chain of questions, each of another feature, beside a thousand trees of one."""
    depth = 300
    features, left, right = [], [], []
    for step in range(depth):
        features += [step, LEAF]
        left += [2 * step + 1, 0]
        right += [2 * step + 2, 0]
    features, left, right = [*features, LEAF], [*left, 0], [*right, 0]
    short, nodes = 1000, len(features)
    trees = Trees(
        sizes=(nodes, *(3,) * short),
        features=(*features, *(0, LEAF, LEAF) * short),
        thresholds=tuple(0.5 if feature != LEAF else 0.0 for feature in (*features, *(0, LEAF, LEAF) * short)),
        left=(*left, *(1, 0, 0) * short),
        right=(*right, *(2, 0, 0) * short),
        covers=(1.0,) * (nodes + 3 * short),
        values=((0.5,),) * (depth + 1 + 2 * short),
        scores=1,
    )
    with pytest.raises(ExplainError, match="too large"):
        leaves_of(trees, MAX_STEPS)


def test_labels_share_what_is_the_same_for_all() -> None:
    trees = grow(random.Random(3), features=4, trees=5, scores=40, mean=True)
    card = card_of(trees)
    shap = Shap(card, trees, FLOAT64)
    shap.values([(0.1, 0.2, 0.3, 0.4)] * 40, list(card.labels))
    assert len({id(score.shares) for score in shap._scores.values()}) == 1
