"""What explanations cost, and how far SHAP values are from those of the package `shap` (where it is installed).

    python -m benchmarks.explain

Costs are CPU time of this process, the median of the rounds; ways take turns.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from edge_convert.boosters import opening
from edge_convert.explaining import trees_on_card
from edge_convert.fold import Folded, fold
from edge_convert.shapley import explained
from numpy.typing import NDArray
from sklearn import ensemble, tree
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import payloads
from edge_agent.contract.card import QUANTILE_LEVELS, Feature, Metrics, ModelCard, Quantity, SelfTest, Training
from edge_agent.contract.messages import Message
from edge_agent.contract.templates import Template
from edge_agent.model.explain import MAX_STEPS, Shap, differences
from edge_agent.model.library import Library
from edge_agent.routing.routes import Route
from edge_agent.serving.pipeline import Pipeline

_ROUNDS: Final = 11
_MESSAGES: Final = 1_000
_TOGETHER: Final = (1, 20)
_ROWS: Final = 40

_IRIS, _NUMBERS = load_iris(return_X_y=True), load_diabetes(return_X_y=True)
_TWO = load_breast_cancer(return_X_y=True)
_TWO = _TWO[0][:, :10], _TWO[1]
_SMALL: Final[dict[str, Any]] = {"n_estimators": 10, "max_depth": 4, "random_state": 0}


class LibraryError(Exception):
    """A library of a case can't be imported here; the text names it."""


@dataclass(frozen=True)
class Case:
    """A model, and what it is fitted on; with `gaps` a tenth of the values is missing."""

    name: str
    make: Callable[[], Any]
    data: tuple[NDArray[Any], NDArray[Any]]
    gaps: bool = False


def _grown(name: str, make: Callable[[], Any], *, gaps: bool = False) -> list[Case]:
    """Return the cases of a classifier: of two labels, of three, and with missing values."""
    two, three = Case(f"{name}, 2 labels", make, _TWO), Case(f"{name}, 3 labels", make, _IRIS)
    return [two, three, *([Case(f"{name}, gaps", make, _TWO, gaps=True)] if gaps else [])]


def cases() -> Iterator[Case]:
    """Yield models of all families that have trees on their cards. A library is imported once a model of it is made."""
    hist: dict[str, Any] = {"max_iter": 10, "max_leaf_nodes": 8}
    yield from _grown("tree", lambda: tree.DecisionTreeClassifier(random_state=0), gaps=True)
    yield Case("scaler > tree", lambda: make_pipeline(StandardScaler(), tree.DecisionTreeClassifier(max_depth=5)), _TWO)
    yield from _grown("forest", lambda: ensemble.RandomForestClassifier(class_weight="balanced", **_SMALL), gaps=True)
    yield from _grown("extra trees", lambda: ensemble.ExtraTreesClassifier(**_SMALL))
    yield from _grown("HistGradientBoosting", lambda: ensemble.HistGradientBoostingClassifier(**hist), gaps=True)
    yield Case("GradientBoosting, 2 labels", lambda: ensemble.GradientBoostingClassifier(**_SMALL), _TWO)
    for title, make in (
        ("tree, number", lambda: tree.DecisionTreeRegressor(max_leaf_nodes=20, random_state=0)),
        ("forest, number", lambda: ensemble.RandomForestRegressor(**_SMALL)),
        ("forest, number, large", lambda: ensemble.RandomForestRegressor(60, max_leaf_nodes=25, random_state=0)),
        ("GradientBoosting, number", lambda: ensemble.GradientBoostingRegressor(**_SMALL)),
        ("HistGradientBoosting, number", lambda: ensemble.HistGradientBoostingRegressor(**hist)),
        ("HistGradientBoosting, poisson", lambda: ensemble.HistGradientBoostingRegressor(loss="poisson", **hist)),
        ("isolation forest", lambda: ensemble.IsolationForest(n_estimators=10, max_samples=64, random_state=0)),
    ):
        yield Case(title, make, _NUMBERS)
    yield from _of_other_libraries()


def _of_other_libraries() -> Iterator[Case]:
    xgb: dict[str, Any] = {"n_estimators": 10, "max_depth": 4, "n_jobs": 1}
    lgbm: dict[str, Any] = {"n_estimators": 10, "num_leaves": 8, "verbose": -1, "n_jobs": 1}
    cat: dict[str, Any] = {"iterations": 10, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    yield from _grown("XGBoost", lambda: _library("xgboost").XGBClassifier(**xgb), gaps=True)
    yield Case("XGBoost, number", lambda: _library("xgboost").XGBRegressor(**xgb), _NUMBERS)
    counts = {"objective": "count:poisson", **xgb}
    yield Case("XGBoost, poisson", lambda: _library("xgboost").XGBRegressor(**counts), _NUMBERS)
    yield from _grown("LightGBM", lambda: _library("lightgbm").LGBMClassifier(**lgbm), gaps=True)
    yield Case("LightGBM, number", lambda: _library("lightgbm").LGBMRegressor(**lgbm), _NUMBERS)
    yield from _grown("CatBoost", lambda: _library("catboost").CatBoostClassifier(**cat), gaps=True)
    yield Case("CatBoost, number", lambda: _library("catboost").CatBoostRegressor(**cat), _NUMBERS)
    leafwise = {"grow_policy": "Lossguide", **cat}
    yield Case("CatBoost, lossguide", lambda: _library("catboost").CatBoostClassifier(**leafwise), _TWO)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # LightGBM's: without libgomp
        raise LibraryError(f"{name} can't be imported: {error}") from error


def fitted(case: Case) -> tuple[Any, Folded, ModelCard]:
    """Return a fitted model, what is converted of it, and its card, with some rows in its self-test. Raises `LibraryError`."""
    given, y = case.data
    if case.gaps:
        given = np.where(np.random.default_rng(0).random(given.shape) < 0.1, np.nan, given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = opening.adopted(case.make().fit(given, y))
        folded = fold(model, missing=case.gaps)
        said = model.predict(given)
    trees, why = trees_on_card(folded)
    if trees is None:
        raise SystemExit(f"benchmarks.explain: {case.name}: {why or 'no trees'}")
    # As `edge-convert` takes them for a self-test: exact in what the graph takes.
    places = np.linspace(0, len(given) - 1, _ROWS).astype(int)
    exact = given[places].astype(folded.dtype).astype(np.float64)
    rows = tuple(tuple(None if np.isnan(value) else value for value in row) for row in exact.tolist())
    more: dict[str, Any] = {"task": "regression", "outputs": (Quantity(name="y"),)}
    test = SelfTest(rows=rows, values=((0.0,),) * len(rows))
    if "isolation" in case.name:
        more = {"task": "anomaly", "threshold": 0.5}
        test = test.model_copy(update={"labels": ("normal",) * len(rows)})
    elif hasattr(model, "predict_proba"):
        labels = tuple(str(label) for label in model.classes_)
        certain = (1.0, *(0.0 for _ in labels[1:]))
        more = {"labels": labels}
        answers = tuple(str(label) for label in np.ravel(said)[places])
        test = SelfTest(rows=rows, labels=answers, probabilities=(certain,) * len(rows))
    card = ModelCard(
        format=1,
        name="model",
        version="1.0.0",
        features=tuple(
            Feature(name=f"x{place}", quantiles=QUANTILE_LEVELS, example=0.5, missing=case.gaps)
            for place in range(given.shape[1])
        ),
        training=Training(rows=len(given), estimator="", parameters={}, libraries={}, date="2026-01-01"),
        metrics=Metrics(values={}, method=""),
        self_test=test,
        trees=trees,
        **more,
    )
    return model, folded, card


def main() -> int:
    """Print the tables."""
    _print_models()
    _print_messages()
    return 0


def _print_models() -> None:
    print(f"{'':30}{'leaves':>8}{'steps':>8}{'us a row':>10}  from those of shap, of the largest")
    for case in cases():
        try:
            model, folded, card = fitted(case)
        except LibraryError as error:
            print(f"{case.name:30}  left out: {error}")
            continue
        assert card.trees is not None  # noqa: S101 - `fitted` has seen to it
        shap = Shap(card, card.trees, folded.dtype)
        labels = [None] * _ROWS if not card.self_test.labels else list(card.self_test.labels)
        cost = _median(partial(shap.values, card.self_test.rows, labels)) / _ROWS
        with_numbers, why = explained(model, folded, card)
        shares = differences(with_numbers, folded.dtype).values()
        print(
            f"{case.name:30}{len(card.trees.values):8,}{shap.steps:8,}{cost * 1e6:10.1f}  "
            f"{f'{max(shares):.1e}' if shares else why.removeprefix('explain: ')}"
        )
    print(f"at most {MAX_STEPS:,} steps\n")


def _print_messages() -> None:
    model = Library().load("genre")
    texts = [json.dumps(row).encode() for row in payloads.draw_rows(model.card, payloads.COUNT)]
    topics = Template("in/{s}"), Template("out/{s}"), Template("out/{s}/error")
    ways = {way: Pipeline([Route("genre", *topics, explain=way)], {"genre": model}) for way in ("none", "path", "shap")}
    messages = [Message(f"in/{number % 50}", texts[number % len(texts)], 1) for number in range(_MESSAGES)]
    print(f"{'us of CPU a message, genre':30}" + "".join(f"{f'{count} together':>14}" for count in _TOGETHER))
    costs: dict[str, list[float]] = {way: [] for way in ways}
    for together in _TOGETHER:
        slices = [messages[start : start + together] for start in range(0, _MESSAGES, together)]
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(_ROUNDS):
            for way, pipeline in ways.items():
                found[way].append(_spent(partial(_process, pipeline, slices)))
        for way, times in found.items():
            costs[way].append(statistics.median(times) / _MESSAGES * 1e6)
    for way, each in costs.items():
        print(f"{f'explain = {json.dumps(way)}':30}" + "".join(f"{cost:14.1f}" for cost in each))


def _process(pipeline: Pipeline, slices: list[list[Message]]) -> None:
    for one in slices:
        pipeline.process(one)


def _median(work: Callable[[], object]) -> float:
    return statistics.median(_spent(work) for _ in range(_ROUNDS))


def _spent(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


if __name__ == "__main__":
    sys.exit(main())
