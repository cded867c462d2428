"""CatBoost, from its model in JSON (`save_model(format="json")`).

CatBoost rounds rows to float32 and compares them with float32 borders: `x > border` goes to the right. A missing value is below or above all
borders, as the feature says. Leaves are added up in float64, then scaled, and the bias comes last.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
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
    Boosted,
    BoostedClassifier,
    BoostedRegressor,
    Scores,
    Source,
    first_label_up_to,
)
from edge_convert.boosters.sound import sound
from edge_convert.trees import Tree
from edge_convert.wording import first_line

Floats = NDArray[np.float64]
Json = Mapping[str, Any]

#: What becomes of the sum, by loss.
_CLASSIFIERS: Final = {"Logloss": SIGMOID, "CrossEntropy": SIGMOID, "MultiClass": SOFTMAX}
_REGRESSORS: Final = {
    "RMSE": IDENTITY,
    "MAE": IDENTITY,
    "Quantile": IDENTITY,
    "MAPE": IDENTITY,
    "Huber": IDENTITY,
    "Expectile": IDENTITY,
    "LogLinQuantile": EXP,
    "Poisson": EXP,
    "Tweedie": EXP,
    "MultiRMSE": IDENTITY,
}
_PLAIN: Final = "FloatFeature"


def open_file(path: Path) -> Boosted:
    """Return the model in CatBoost's own file (.cbm). Raises `InputError`."""
    import catboost

    model = catboost.CatBoost()
    try:
        model.load_model(str(path))
        loss = _loss(model)
        if loss in _CLASSIFIERS or loss in _REGRESSORS:
            kind = catboost.CatBoostClassifier if loss in _CLASSIFIERS else catboost.CatBoostRegressor
            model = kind()
            model.load_model(str(path))
    except catboost.CatBoostError as error:
        raise InputError(f"{path}: CatBoost {catboost.__version__} can't open it: {first_line(error)[:200]}") from error
    return wrap(model)


def wrap(model: Any) -> Boosted:
    """Return a fitted model of CatBoost. Raises `InputError` for what can't be exported."""
    import catboost

    title = type(model).__name__
    if not isinstance(model, catboost.CatBoost):
        raise InputError(f"{title} can't be exported; models of CatBoost can")
    if not model.is_fitted():
        raise InputError(f"{title} is not fitted")
    loss, classifies = _loss(model), isinstance(model, catboost.CatBoostClassifier)
    links = _CLASSIFIERS if classifies else _REGRESSORS
    if loss not in links:
        raise InputError(f"{title}: the loss {loss} can't be exported; {', '.join(links)} can")
    dump = _dumped(title, model)
    features = _features(title, dump)
    scores = _scores(title, dump, links[loss], features)
    names = tuple(map(str, model.feature_names_ or ()))
    unnamed = names == tuple(map(str, range(len(names))))
    parameters = {name: value for name, value in model.get_params().items() if name != "thread_count"}
    source = Source("CatBoost", catboost.__version__, title, parameters, () if unnamed else names, model=model)
    if not classifies:
        return BoostedRegressor(source, scores, len(features), lambda rows: model.predict(rows, thread_count=1))
    if len(model.classes_) == 2 and not np.isclose(model.get_probability_threshold(), 0.5):
        raise InputError(
            f"{title}: has a probability threshold of {model.get_probability_threshold()}; only .5 can be exported"
        )
    return BoostedClassifier(
        source,
        scores,
        len(features),
        lambda rows: model.predict(rows, thread_count=1),
        predict_proba=lambda rows: model.predict_proba(rows, thread_count=1),
        classes=model.classes_,
    )


def _loss(model: Any) -> str:
    parameters = model.get_all_params()
    return str(parameters.get("loss_function", parameters.get("objective", ""))).partition(":")[0]


def _dumped(title: str, model: Any) -> Json:
    import catboost

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.json")
        try:
            model.save_model(str(path), format="json")
            found: Json = json.loads(path.read_bytes())
        except (catboost.CatBoostError, ValueError) as error:
            raise InputError(f"{title}: CatBoost can't write it as JSON: {first_line(error)[:200]}") from error
    return found


def _features(title: str, dump: Json) -> list[Json]:
    """Return the features in the order of the columns. Raises `InputError` unless all are numbers."""
    there = dump["features_info"]
    if any(there.get(kind) for kind in ("categorical_features", "text_features", "embedding_features")):
        raise InputError(
            f"{title}: has features that are no numbers (categories, texts or embeddings); train it on codes as numbers, without cat_features"
        )
    return sorted(there["float_features"], key=lambda feature: int(feature["flat_feature_index"]))


def _scores(title: str, dump: Json, link: str, features: Sequence[Json]) -> Scores:
    columns = {int(feature["feature_index"]): int(feature["flat_feature_index"]) for feature in features}
    missing_right = np.array([feature["nan_value_treatment"] == "AsTrue" for feature in features])
    scale, bias = dump["scale_and_bias"]
    bias = np.asarray(bias, np.float64).ravel()
    if "oblivious_trees" in dump:
        trees = [_oblivious(title, tree, columns) for tree in dump["oblivious_trees"]]
    else:
        trees = [_grown(title, tree, columns) for tree in dump["trees"]]
    known = [_sound(title, tree, missing_right) for tree in trees]
    width = known[0].values.shape[1] if known else 1
    if link == SIGMOID and width != 1:
        raise InputError(f"{title}: has {width} scores for two labels, which can't be exported")
    return Scores(
        tuple(known),
        width,
        np.float64,
        rounds=True,
        link=link,
        scale=float(scale),
        bias=np.broadcast_to(bias, width) if bias.any() else None,
        longest=first_label_up_to(lambda score: score > 0, np.float64),
    )


def _sound(title: str, tree: Tree, missing_right: NDArray[np.bool_]) -> Tree:
    found = sound(title, tree, len(missing_right))
    return replace(
        found,
        missing_left=~missing_right[np.where(found.is_leaf, 0, found.feature)],
        covers=_covers(found),
    )


def _covers(tree: Tree) -> Floats | None:
    """Return the weights of all nodes, of those of the leaves: parents come before their children. None where the file has none."""
    if tree.covers is None or not tree.covers.any():
        return None
    covers = np.where(tree.is_leaf, tree.covers, 0.0)
    for node in np.flatnonzero(~tree.is_leaf)[::-1]:
        covers[node] = covers[tree.left[node]] + covers[tree.right[node]]
    return covers


def _oblivious(title: str, tree: Json, columns: Mapping[int, int]) -> Tree:
    """Return a tree that asks the same of all nodes of a level. The first split is the lowest bit of a leaf's number; here it is asked last."""
    asked = [_split(title, split, columns) for split in reversed(tree.get("splits") or ())]
    depth = len(asked)
    inner, leaves = (1 << depth) - 1, 1 << depth
    level = np.repeat(np.arange(depth), 1 << np.arange(depth))
    number = np.arange(inner)
    weights = np.asarray(tree.get("leaf_weights") or np.zeros(leaves), np.float64)
    return Tree(
        feature=_padded(np.array([column for column, _ in asked], np.int64)[level], leaves),
        threshold=_padded(np.array([border for _, border in asked], np.float64)[level], leaves),
        left=_padded(2 * number + 1, leaves),
        right=_padded(2 * number + 2, leaves),
        is_leaf=np.arange(inner + leaves) >= inner,
        values=_values(np.asarray(tree["leaf_values"], np.float64).reshape(leaves, -1), inner),
        rows=np.concatenate([np.zeros(inner), weights]).astype(np.int64),
        covers=np.concatenate([np.zeros(inner), weights]),
    )


def _grown(title: str, root: Json, columns: Mapping[int, int]) -> Tree:
    """Return a tree of which every node asks something else; nodes are numbered from the root down."""
    nodes, children = [root], []
    for number, node in enumerate(nodes):  # grows as it goes
        if number > _MOST_NODES:
            raise InputError(f"{title}: a tree has more than {_MOST_NODES:,} nodes")
        if "split" in node:
            children.append((len(nodes), len(nodes) + 1))
            nodes += [node["left"], node["right"]]
        else:
            children.append((0, 0))
    asked = [_split(title, node["split"], columns) if "split" in node else (0, 0.0) for node in nodes]
    width = max(np.size(node["value"]) for node in nodes if "split" not in node)
    return Tree(
        feature=np.array([column for column, _ in asked], np.int64),
        threshold=np.array([border for _, border in asked], np.float64),
        left=np.array([left for left, _ in children], np.int64),
        right=np.array([right for _, right in children], np.int64),
        is_leaf=np.array(["split" not in node for node in nodes]),
        values=np.array(
            [np.zeros(width) if "split" in node else np.ravel(node["value"]) for node in nodes], np.float64
        ),
        rows=np.array([int(node.get("weight", 0)) for node in nodes], np.int64),
        covers=np.array([float(node.get("weight", 0)) for node in nodes]),
    )


_MOST_NODES: Final = 1 << 22


def _split(title: str, split: Json, columns: Mapping[int, int]) -> tuple[int, float]:
    if split["split_type"] != _PLAIN:
        raise InputError(
            f"{title}: splits on categories ({split['split_type']}); train it on their codes as numbers, without cat_features"
        )
    return columns[int(split["float_feature_index"])], float(np.float32(split["border"]))


def _padded(values: NDArray[Any], leaves: int) -> NDArray[Any]:
    padded: NDArray[Any] = np.concatenate([values, np.zeros(leaves, values.dtype)])
    return padded


def _values(leaves: Floats, inner: int) -> Floats:
    return np.concatenate([np.zeros((inner, leaves.shape[1])), leaves])
