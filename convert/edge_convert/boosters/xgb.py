"""XGBoost, from its model in JSON (https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html).

XGBoost rounds rows to float32, sends `x < threshold` to the left, and adds up in float32, beginning with the base score. A missing
value goes the default way; which number stands for one is the wrapper's `missing`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputError
from edge_convert.boosters.model import (
    EXP,
    IDENTITY,
    SIGMOID,
    SOFTMAX,
    Absent,
    Boosted,
    BoostedClassifier,
    BoostedRegressor,
    Categories,
    Scores,
    Source,
    first_label_up_to,
)
from edge_convert.boosters.sound import sound
from edge_convert.sets import Members, Parted, asking_sets
from edge_convert.trees import Tree

Floats = NDArray[np.float64]

#: What becomes of the sum, by objective.
_CLASSIFIERS: Final = {"binary:logistic": SIGMOID, "multi:softprob": SOFTMAX}
_REGRESSORS: Final = {
    "reg:squarederror": IDENTITY,
    "reg:linear": IDENTITY,
    "reg:absoluteerror": IDENTITY,
    "reg:pseudohubererror": IDENTITY,
    "reg:squaredlogerror": IDENTITY,
    "reg:quantileerror": IDENTITY,
    "reg:logistic": SIGMOID,
    "count:poisson": EXP,
    "reg:gamma": EXP,
    "reg:tweedie": EXP,
}

#: An attribute that the scikit-learn interface writes into a file, and `Booster.save_model` does not.
_SAVED_BY_WRAPPER: Final = "scikit_learn"


def open_file(path: Path) -> Boosted:
    """Return the model in XGBoost's own file. Raises `InputError`."""
    import xgboost

    try:
        booster = xgboost.Booster(model_file=str(path))
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        wrapper = xgboost.XGBRegressor if objective in _REGRESSORS else xgboost.XGBClassifier
        model = wrapper()
        if objective in _CLASSIFIERS or objective in _REGRESSORS:  # others are refused in words below
            model.load_model(str(path))
        else:
            model._Booster = booster  # noqa: SLF001
    except xgboost.core.XGBoostError as error:
        raise InputError(f"{path}: XGBoost {xgboost.__version__} can't open it: {_cause(error)}") from error
    return _of_own_file(model, booster)


def _of_own_file(model: Any, booster: Any) -> Boosted:
    """Return a model as its user knows it: one that was saved as a Booster answers with all rounds, as `Booster.predict` does."""
    notes: tuple[str, ...] = ()
    rounds, best = booster.num_boosted_rounds(), booster.attr("best_iteration")
    if best is not None and int(best) + 1 < rounds:
        if booster.attr(_SAVED_BY_WRAPPER) is not None:
            notes = (f"answers with the first {int(best) + 1} of {rounds} rounds, up to the best (early stopping)",)
        else:
            model.get_booster().set_attr(best_iteration=None)
            found = f"the first {int(best) + 1} were found to be the best (early stopping)"
            way = "for these alone, save booster[: booster.best_iteration + 1]"
            notes = (f"answers with all {rounds} rounds, as Booster.predict does, though {found}; {way}",)

    def with_missing(number: float) -> Boosted:
        model.missing = number
        return _wrapped(model, notes)

    unsaid = "the file does not tell which number stands for a missing value (missing=N of XGBoost), so none does but NaN; --missing-value N"
    return _wrapped(model, (*notes, unsaid), with_missing)


def wrap(model: Any) -> Boosted:
    """Return a fitted model of XGBoost's scikit-learn interface, or a Booster. Raises `InputError` for what can't be exported."""
    return _wrapped(model)


def _wrapped(
    model: Any, notes: tuple[str, ...] = (), with_missing: Callable[[float], Boosted] | None = None
) -> Boosted:
    import xgboost

    if isinstance(model, xgboost.Booster):
        raise InputError(
            "xgboost.Booster in a pickle can't be exported; save it with save_model('model.json') and export that"
        )
    title = type(model).__name__
    try:
        learner = json.loads(bytes(model.get_booster().save_raw("json")))["learner"]
    except xgboost.core.XGBoostError as error:
        raise InputError(f"{title}: XGBoost {xgboost.__version__} can't read it: {_cause(error)}") from error
    objective = learner["objective"]["name"]
    links = _CLASSIFIERS if isinstance(model, xgboost.XGBClassifier) else _REGRESSORS
    if objective not in links:
        raise InputError(f"{title}: the objective {objective} can't be exported; {_way_out(objective, links)}")
    scores = _scores(title, learner, links[objective], np.nan if model.missing is None else model.missing)
    names = tuple(model.get_booster().feature_names or ())
    source = Source("XGBoost", xgboost.__version__, title, model.get_params(), names, notes, with_missing, model=model)
    n_features = int(learner["learner_model_param"]["num_feature"])
    if links is _REGRESSORS:
        return BoostedRegressor(source, scores, n_features, model.predict)
    return BoostedClassifier(
        source, scores, n_features, model.predict, predict_proba=model.predict_proba, classes=model.classes_
    )


def _way_out(objective: str, links: Mapping[str, str]) -> str:
    if objective == "multi:softmax":
        return "it has no probabilities; train with multi:softprob, which gives the same trees"
    return f"{', '.join(links)} can"


def _scores(title: str, learner: Mapping[str, Any], link: str, missing: float) -> Scores:
    booster = learner["gradient_booster"]
    if booster["name"] not in {"gbtree", "dart"}:
        raise InputError(f"{title}: booster {booster['name']!r} can't be exported; only trees (gbtree, dart) can")
    parameters = learner["learner_model_param"]
    model = booster.get("gbtree", booster)["model"]  # before version 3, dart has its trees one level below
    dropped = model.get("weight_drop", booster.get("weight_drop"))
    width = max(1, int(parameters["num_class"]), int(parameters.get("num_target", 1)))
    trees = model["trees"][: _rounds_used(learner, model)]
    groups = model["tree_info"][: len(trees)]
    features = int(parameters["num_feature"])
    grown, places = asking_sets([(_tree(title, tree), _categories(title, tree, features)) for tree in trees], features)
    found = [sound(title, tree, features + len(places)) for tree in grown]
    if dropped:
        found = [_weighted(tree, weight) for tree, weight in zip(found, dropped, strict=False)]
    by_score = [[tree for tree, group in zip(found, groups, strict=True) if group == score] for score in range(width)]
    if len({len(some) for some in by_score}) != 1:
        raise InputError(f"{title}: its labels have unlike numbers of trees, which can't be exported")
    return Scores(
        tuple(tree for one_each in zip(*by_score, strict=True) for tree in one_each),
        width,
        np.float32,
        rounds=True,
        link=link,
        first=_margin(parameters["base_score"], link, width),
        longest=first_label_up_to(_is_second, np.float32),
        sorts=learner["objective"]["name"] == "reg:quantileerror" and width > 1,
        absent=None if np.isnan(missing) else Absent(float(np.float32(missing)), float(np.float32(missing))),
        categories=Categories(places, toward_zero=False, branches=True) if places else None,
    )


def _rounds_used(learner: Mapping[str, Any], model: Mapping[str, Any]) -> int | None:
    """Return how many trees answer: those up to the best round, where training was stopped early."""
    best = learner["attributes"].get("best_iteration")
    if best is None:
        return None
    if "iteration_indptr" in model:
        return int(model["iteration_indptr"][int(best) + 1])
    per_round = int(model["gbtree_model_param"].get("num_parallel_tree", 1)) * len(set(model["tree_info"]))
    return (int(best) + 1) * per_round


def _tree(title: str, tree: Mapping[str, Any]) -> Tree:
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise InputError(f"{title}: has trees of several numbers; train it with multi_strategy='one_output_per_tree'")
    left = np.asarray(tree["left_children"], np.int64)
    conditions = np.asarray(tree["split_conditions"], np.float32)
    is_leaf = left == -1
    return Tree(
        feature=np.asarray(tree["split_indices"], np.int64),
        # x < threshold is x <= the float32 before it.
        threshold=np.where(is_leaf, 0, np.nextafter(conditions, np.float32(-np.inf))).astype(np.float64),
        left=left,
        right=np.asarray(tree["right_children"], np.int64),
        is_leaf=is_leaf,
        values=conditions.astype(np.float64)[:, np.newaxis],
        rows=np.asarray(tree["sum_hessian"], np.float64).astype(np.int64),
        missing_left=np.asarray(tree["default_left"]).astype(bool),
        covers=np.asarray(tree["sum_hessian"], np.float64),
    )


def _categories(title: str, tree: Mapping[str, Any], features: int) -> dict[int, Parted]:
    """Return the splits on categories of a tree: what is in the set goes to the right, all else to the left, and a missing value the
    default way.
    """
    splits = {}
    for node, start, size in zip(
        tree.get("categories_nodes", ()),
        tree.get("categories_segments", ()),
        tree.get("categories_sizes", ()),
        strict=True,
    ):
        members, column = tree["categories"][start : start + size], int(tree["split_indices"][node])
        if not 0 <= column < features:
            raise InputError(f"{title}: a tree asks about column {column} of {features}; the file is damaged")
        splits[int(node)] = Parted(Members(column, tuple(map(float, sorted(members)))), left=False)
    return splits


def _weighted(tree: Tree, weight: float) -> Tree:
    """Return a tree of dart, whose leaves count by its weight."""
    return replace(tree, values=(np.float32(weight) * tree.values.astype(np.float32)).astype(np.float64))


def _margin(base_score: str, link: str, width: int) -> Floats:
    """Return the base score as the sum begins with it, in float32; on the card of the model it is on the scale of the answers."""
    given = np.asarray(json.loads(base_score), np.float32).ravel()
    one = np.float32(1)
    if link == SIGMOID:
        given = -np.log((one / given - one).astype(np.float64)).astype(np.float32)
    elif link == EXP:
        given = np.log(given.astype(np.float64)).astype(np.float32)
    return np.broadcast_to(given, width).astype(np.float64)


def _is_second(score: float) -> bool:
    """Return whether XGBoost's probability of the second label is above .5, rounding as it does."""
    one = np.float32(1)
    return bool(one / (np.float32(np.exp(-score)) + one) > np.float32(0.5))


def _cause(error: Exception) -> str:
    lines: Sequence[str] = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].split("] ", 1)[-1] if lines else type(error).__name__
