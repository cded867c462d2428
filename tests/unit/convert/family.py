"""What a family of models is, and what many of them are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

#: How families answer.
LABELS, BARE, NUMBERS, SCORES = "label, probabilities", "label", "number", "label, score"


@dataclass(frozen=True)
class Family:
    """Models of one kind: unfitted, the tables to fit them on, and what comes of it.

    `refused` is part of the message where they are refused; `bounds` tells that they need `--bounds data`.
    """

    title: str
    answers: str
    models: tuple[Any, ...]
    tables: tuple[str, ...] = ("iris", "cancer")
    refused: str = ""
    bounds: bool = False
    remark: str = ""


def tree(depth: int = 3, **options: Any) -> Any:
    return DecisionTreeClassifier(max_depth=depth, random_state=0, **options)


def forest() -> Any:
    return RandomForestClassifier(5, max_depth=4, random_state=0)


def logistic() -> Any:
    return LogisticRegression(max_iter=1000)


def scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


def grown(**options: Any) -> Any:
    return DecisionTreeRegressor(max_depth=4, random_state=0, **options)


def behind(*steps: Any) -> tuple[Any, ...]:
    """Steps in front of a tree, which tells the last bit, and of a linear model, in turn."""
    return tuple(make_pipeline(step, scaled(logistic()) if number % 2 else tree()) for number, step in enumerate(steps))


TWO = ("cancer",)
DIABETES = ("diabetes",)
