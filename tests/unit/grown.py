"""Random trees for cards, and what the textbook makes of them: slow, and by other ways than the agent's."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

from edge_agent.contract.card import QUANTILE_LEVELS, Feature, Metrics, ModelCard, Quantity, SelfTest, Training
from edge_agent.contract.trees import LEAF, Trees

THRESHOLDS = (0.125, 0.25, 0.5, 0.625, 0.75)


def grow(source: random.Random, *, features: int, trees: int, scores: int, depth: int = 4, **how: Any) -> Trees:
    """Return random trees, each of whose leaves has `scores` values, or one with `how = {"one": True}`."""
    one = how.pop("one", False)
    columns: dict[str, list[Any]] = {name: [] for name in ("features", "thresholds", "left", "right", "covers")}
    missing: list[bool] = []
    sizes, values = [], []
    for _ in range(trees):
        pending, number = [(0, float(source.randrange(20, 60)))], 0
        rows: list[tuple[Any, ...]] = []
        while pending:
            level, cover = pending.pop(0)
            if level == depth or (level and source.random() < 0.25):
                rows.append((LEAF, 0.0, 0, 0, cover, False))
                values.append([round(source.uniform(-1, 1), 3) for _ in range(1 if one else scores)])
                continue
            share = source.choice((0.1, 0.25, 0.5, 0.9))
            rows.append(
                (
                    source.randrange(features),
                    source.choice(THRESHOLDS),
                    number + 1,
                    number + 2,
                    cover,
                    source.random() < 0.5,
                )
            )
            number += 2
            pending += [(level + 1, cover * share), (level + 1, cover * (1 - share))]
        sizes.append(len(rows))
        for name, column in zip(columns, zip(*rows, strict=True), strict=False):
            columns[name] += column
        missing += [row[-1] for row in rows]
    return Trees(
        sizes=tuple(sizes),
        values=tuple(map(tuple, values)),
        scores=scores,
        missing_left=tuple(missing),
        **{name: tuple(column) for name, column in columns.items()},
        **how,
    )


def card_of(
    trees: Trees, *, features: Sequence[Feature] | None = None, width: int = 4, task: str = "classification"
) -> ModelCard:
    """Return the card of a model with these trees."""
    features = features or [
        Feature(name=name, quantiles=QUANTILE_LEVELS, example=0.5, missing=True) for name in ascii_lowercase[:width]
    ]
    rows = ((0.25,) * len(features),)
    labels = tuple(f"label {number}" for number in range(2 if trees.link == "logistic" else trees.scores))
    of_task: dict[str, Any] = {
        "classification": {
            "labels": labels,
            "self_test": SelfTest(rows=rows, labels=labels[:1], probabilities=((1.0, *(0.0 for _ in labels[1:])),)),
        },
        "regression": {
            "outputs": tuple(Quantity(name=f"y{number}") for number in range(trees.scores)),
            "self_test": SelfTest(rows=rows, values=((0.0,) * trees.scores,)),
        },
        "anomaly": {"threshold": 0.5, "self_test": SelfTest(rows=rows, labels=("normal",), values=((0.0,),))},
    }
    return ModelCard(
        format=1,
        name="grown",
        version="1.0.0",
        task=task,
        features=tuple(features),
        training=Training(rows=1, estimator="", parameters={}, libraries={}, date="2026-01-01"),
        metrics=Metrics(values={}, method=""),
        trees=trees,
        **of_task[task],
    )


def score(trees: Trees, row: Sequence[float], known: Sequence[int], column: int) -> float:
    """Return the score of a row of which only some features are known: where another one is asked for, both ways are taken, by the
    training rows that went there.
    """
    total = trees.base[column] if trees.base else 0.0
    begin = leaves = 0
    for number, size in enumerate(trees.sizes):
        total += _walk(trees, begin, 0, row, frozenset(known), (leaves, number, column))
        leaves += trees.features[begin : begin + size].count(LEAF)
        begin += size
    return total / len(trees.sizes) if trees.mean else total


def _walk(
    trees: Trees, begin: int, node: int, row: Sequence[float], known: frozenset[int], of: tuple[int, int, int]
) -> float:
    place, (leaves, number, column) = begin + node, of
    feature = trees.features[place]
    if feature == LEAF:
        values = trees.values[leaves + trees.features[begin:place].count(LEAF)]
        if len(values) == trees.scores:
            return values[column]
        return values[0] if number % trees.scores == column else 0.0
    left, right = trees.left[place], trees.right[place]
    if feature in known:
        value = row[feature]
        goes = trees.missing_left[place] if math.isnan(value) else value <= trees.thresholds[place]
        return _walk(trees, begin, left if goes else right, row, known, of)
    covers = trees.covers[begin + left], trees.covers[begin + right]
    both = [_walk(trees, begin, side, row, known, of) for side in (left, right)]
    return (covers[0] * both[0] + covers[1] * both[1]) / sum(covers)


def shapley(trees: Trees, row: Sequence[float], column: int) -> list[float]:
    """Return the Shapley values of a row's features, by their definition: over all subsets."""
    width = len(row)
    found = []
    for feature in range(width):
        others = [one for one in range(width) if one != feature]
        value = 0.0
        for size in range(width):
            weight = math.factorial(size) * math.factorial(width - size - 1) / math.factorial(width)
            for subset in itertools.combinations(others, size):
                value += weight * (score(trees, row, (*subset, feature), column) - score(trees, row, subset, column))
        found.append(value)
    return found


def answer(trees: Trees, row: Sequence[float]) -> list[float]:
    """Return all scores of a row."""
    return [score(trees, row, range(len(row)), column) for column in range(trees.scores)]
