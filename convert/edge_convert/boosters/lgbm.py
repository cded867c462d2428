"""LightGBM, from its model as text (what `save_model` writes).

LightGBM compares float64: `x <= threshold` goes to the left. What a missing value does depends on the feature: where training saw none it is
0; where it saw some it goes the default way; and with `zero_as_missing` so does 0. Whatever is within 1e-35 of 0 is 0. Leaves are added up in float64.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
Text = Mapping[str, str]

#: What becomes of the sum, by objective.
_CLASSIFIERS: Final = {"binary": SIGMOID, "multiclass": SOFTMAX}
_REGRESSORS: Final = {
    "regression": IDENTITY,
    "regression_l1": IDENTITY,
    "huber": IDENTITY,
    "fair": IDENTITY,
    "quantile": IDENTITY,
    "mape": IDENTITY,
    "poisson": EXP,
    "gamma": EXP,
    "tweedie": EXP,
    "cross_entropy": SIGMOID,
}
#: Bits of `decision_type`, and the kinds of missing values in bits 2 and 3 (LightGBM's tree.h).
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_ZERO, _NAN = 1, 2
#: What is 0 to LightGBM (kZeroThreshold, a float32).
_NEAR_ZERO: Final = float(np.float32(1e-35))
_BOOSTER: Final = "lightgbm.Booster"
_UNNAMED: Final = re.compile(r"Column_\d+")


def open_file(path: Path) -> Boosted:
    """Return the model in LightGBM's own file. Raises `InputError`."""
    import lightgbm

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as LightGBM's text: {error}") from error
    if not text.startswith("tree\n"):
        raise InputError(f"{path}: is not a model file of LightGBM, which begins with the line 'tree'")
    try:
        _read(path.name, text)
        booster = lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, KeyError, ValueError, IndexError) as error:
        raise InputError(f"{path}: LightGBM {lightgbm.__version__} can't open it: {error!s:.200}") from error
    return _wrap_booster(booster)


def wrap(model: Any) -> Boosted:
    """Return a fitted model of LightGBM's scikit-learn interface, or a Booster. Raises `InputError` for what can't be exported."""
    import lightgbm

    if isinstance(model, lightgbm.Booster):
        return _wrap_booster(model)
    if isinstance(model, lightgbm.LGBMRanker) or not isinstance(
        model, lightgbm.LGBMClassifier | lightgbm.LGBMRegressor
    ):
        raise InputError(f"{type(model).__name__} can't be exported; classifiers and regressors of LightGBM can")
    title = type(model).__name__
    text = model.booster_.model_to_string()
    scores, width, names, objective = _read(title, text)
    words = _words(model.booster_, text)
    source = Source("LightGBM", lightgbm.__version__, title, model.get_params(), names, words=words, model=model)
    if isinstance(model, lightgbm.LGBMClassifier):
        _require(title, objective, _CLASSIFIERS)
        return BoostedClassifier(
            source, scores, width, model.predict, predict_proba=model.predict_proba, classes=model.classes_
        )
    _require(title, objective, _REGRESSORS)
    return BoostedRegressor(source, scores, width, model.predict)


def _wrap_booster(booster: Any) -> Boosted:
    """Return a Booster, whose labels are numbers from 0 on, as LightGBM's own."""
    import lightgbm

    text = booster.model_to_string()
    scores, width, names, objective = _read(_BOOSTER, text)
    words = _words(booster, text)
    source = Source("LightGBM", lightgbm.__version__, _BOOSTER, booster.params or {}, names, words=words, model=booster)
    if objective not in _CLASSIFIERS:
        return BoostedRegressor(source, scores, width, booster.predict)

    def probabilities(rows: Floats) -> Floats:
        given = np.asarray(booster.predict(rows))
        return np.column_stack([1 - given, given]) if given.ndim == 1 else given

    return BoostedClassifier(
        source,
        scores,
        width,
        lambda rows: probabilities(rows).argmax(axis=1),
        predict_proba=probabilities,
        classes=range(max(2, scores.width)),
    )


def _words(booster: Any, text: str) -> dict[int, tuple[str, ...]]:
    """Return the words of columns that were pandas' categories in training, by place; none where it is not clear which are which."""
    trained = booster.pandas_categorical or []
    ranges = _fields(text.partition("\nTree=")[0]).get("feature_infos", "").split(" ")
    # Of numbers it is [least:largest], of categories 0:1:2.
    columns = [place for place, text in enumerate(ranges) if ":" in text and not text.startswith("[")]
    return (
        {place: tuple(map(str, words)) for place, words in zip(columns, trained, strict=True)}
        if len(columns) == len(trained)
        else {}
    )


def _require(title: str, objective: str, links: Mapping[str, str]) -> None:
    if objective not in links:
        way_out = (
            "multiclass has probabilities that sum to 1" if objective == "multiclassova" else f"{', '.join(links)} can"
        )
        raise InputError(f"{title}: the objective {objective or '(its own)'} can't be exported; {way_out}")


def _read(title: str, text: str) -> tuple[Scores, int, tuple[str, ...], str]:
    """Return how a model in LightGBM's text makes its answers, the number and names of its columns, and its objective."""
    header, *blocks = re.split(r"^Tree=\d+$", text.partition("\nend of trees")[0], flags=re.MULTILINE)
    head = _fields(header)
    objective, *options = head.get("objective", "").split() or [""]
    given = dict(option.split(":", 1) for option in options if ":" in option)
    _require(title, objective, _CLASSIFIERS | _REGRESSORS)
    if "sqrt" in options:
        raise InputError(f"{title}: reg_sqrt can't be exported; train it on the square root of the target")
    width, scores_each = int(head["max_feature_idx"]) + 1, int(head["num_tree_per_iteration"])
    grown, zeros = [], set()
    for block in blocks:
        fields = _fields(block)
        tree, absent = _tree(title, fields)
        grown.append((tree, _categories(title, fields, width)))
        zeros |= absent
    asking, places = asking_sets(grown, width)
    trees = [sound(title, tree, width + len(places)) for tree in asking]
    slope = float(given.get("sigmoid", 1))
    link = (_CLASSIFIERS | _REGRESSORS)[objective]
    names = tuple(head["feature_names"].split(" "))
    scores = Scores(
        tuple(trees),
        scores_each,
        np.float64,
        rounds=False,
        link=link,
        count=len(trees) / scores_each if "average_output" in head else 1.0,
        slope=slope,
        longest=first_label_up_to(lambda score: _is_second(slope * score), np.float64) if link == SIGMOID else 0.0,
        absent=Absent(-_NEAR_ZERO, _NEAR_ZERO, tuple(sorted(zeros))) if zeros else None,
        categories=Categories(places, toward_zero=True, branches=False) if places else None,
    )
    unnamed = all(map(_UNNAMED.fullmatch, names))
    return scores, width, () if unnamed else names, objective


def _fields(block: str) -> Text:
    """Return the lines `name=value` of a block; a line without a value is there, and empty."""
    pairs = (line.partition("=") for line in block.splitlines() if line.strip())
    return {name: value for name, _, value in pairs}


def _tree(title: str, fields: Text) -> tuple[Tree, set[int]]:
    """Return a tree, inner nodes first and leaves behind them, and the columns in which 0 is missing. A split on categories has no
    threshold that means anything (`_categories`).
    """
    leaves, inner = int(fields["num_leaves"]), int(fields["num_leaves"]) - 1
    if fields.get("is_linear", "0") != "0":
        raise InputError(f"{title}: has linear trees; train it without linear_tree")
    values = _numbers(fields, "leaf_value", leaves, np.float64)
    if not inner:
        zero = np.zeros(1)
        nowhere = np.zeros(1, np.int64)
        tree = Tree(
            nowhere,
            zero,
            nowhere,
            nowhere,
            np.ones(1, np.bool_),
            values[:, np.newaxis],
            nowhere,
            np.ones(1, np.bool_),
            zero,
        )
        return tree, set()
    feature = _numbers(fields, "split_feature", inner, np.int64)
    threshold = _beyond_zero(_numbers(fields, "threshold", inner, np.float64))
    decisions = _numbers(fields, "decision_type", inner, np.int64)
    kind = (decisions >> 2) & 3
    # Where training saw nothing missing, a missing value is 0, and asked about as such.
    missing_left = np.where(kind == 0, threshold >= 0, (decisions & _DEFAULT_LEFT) != 0)
    rows = [*_counts(fields, "internal_count", inner), *_counts(fields, "leaf_count", leaves)]

    def children(name: str) -> NDArray[np.int64]:
        numbers = _numbers(fields, name, inner, np.int64)
        return _padded(np.where(numbers < 0, inner - 1 - numbers, numbers), leaves)  # leaf n is written as -(n + 1)

    tree = Tree(
        feature=_padded(feature, leaves),
        threshold=_padded(threshold, leaves),
        left=children("left_child"),
        right=children("right_child"),
        is_leaf=np.arange(inner + leaves) >= inner,
        values=np.concatenate([np.zeros(inner), values])[:, np.newaxis],
        rows=np.array(rows, np.int64),
        missing_left=np.concatenate([missing_left, np.zeros(leaves, np.bool_)]),
        covers=np.array(rows, np.float64) if any(rows) else None,
    )
    return tree, set(feature[(kind == _ZERO) & (decisions & _CATEGORICAL == 0)].tolist())


def _categories(title: str, fields: Text, width: int) -> dict[int, Parted]:
    """Return the splits on categories of a tree: what is in the set goes to the left, all else, such as a missing value, to the right."""
    count = int(fields.get("num_cat", "0"))
    if not count:
        return {}
    inner = int(fields["num_leaves"]) - 1
    decisions = _numbers(fields, "decision_type", inner, np.int64)
    feature, number = (
        _numbers(fields, name, inner, np.float64).astype(np.int64) for name in ("split_feature", "threshold")
    )
    ends = _numbers(fields, "cat_boundaries", count + 1, np.int64)
    words = _numbers(fields, "cat_threshold", int(ends[-1]), np.uint32)
    splits = {}
    for node in map(int, np.flatnonzero(decisions & _CATEGORICAL)):
        if not (0 <= number[node] < count and 0 <= feature[node] < width):
            raise InputError(f"{title}: a split on categories leads nowhere; the file is damaged")
        bits = words[ends[number[node]] : ends[number[node] + 1]]
        members = np.flatnonzero(np.unpackbits(bits.astype("<u4").view(np.uint8), bitorder="little"))
        splits[node] = Parted(Members(int(feature[node]), tuple(map(float, members))), left=True)
    return splits


def _beyond_zero(threshold: Floats) -> Floats:
    """Return thresholds that ask the same of a number as these do of what LightGBM makes of it: rows are packed without what is near 0,
    so that all of that is 0.
    """
    near = np.abs(threshold) <= _NEAR_ZERO
    beyond = np.where(threshold < 0, np.nextafter(-_NEAR_ZERO, -np.inf), _NEAR_ZERO)
    return np.where(near, beyond, threshold)


def _padded(values: NDArray[Any], leaves: int) -> NDArray[Any]:
    padded: NDArray[Any] = np.concatenate([values, np.zeros(leaves, values.dtype)])
    return padded


def _numbers(fields: Text, name: str, count: int, kind: Any) -> NDArray[Any]:
    numbers = np.array(fields[name].split(), dtype=kind)
    if len(numbers) != count:
        raise ValueError(f"{name} has {len(numbers)} numbers, not {count}")
    return numbers


def _counts(fields: Text, name: str, count: int) -> Sequence[int]:
    return [int(float(value)) for value in fields.get(name, "").split()] or [0] * count


def _is_second(score: float) -> bool:
    """Return whether the second of two probabilities is the larger one."""
    second = 1 / (1 + np.exp(-np.float64(score)))
    return bool(second > 1 - second)
