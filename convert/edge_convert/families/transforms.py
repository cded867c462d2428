"""What stands before the last step: scalers, encoders, imputers, selections, projections."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from edge_agent.errors import InputError
from edge_convert.families.net import Columns, Net
from edge_convert.words import Words

_EPSILON: Final = float(np.finfo(np.float64).eps)


def standard(net: Net, scaler: Any, x: Columns) -> str:
    """StandardScaler."""
    y = net.op("Sub", x.name, scaler.mean_) if scaler.with_mean else x.name
    return net.op("Div", y, scaler.scale_) if scaler.with_std else y


def min_max(net: Net, scaler: Any, x: Columns) -> str:
    """MinMaxScaler."""
    y = net.op("Add", net.op("Mul", x.name, scaler.scale_), scaler.min_)
    if not scaler.clip:
        return y
    least, largest = map(float, scaler.feature_range)
    return net.op("Max", net.op("Min", y, largest), least)


def max_abs(net: Net, scaler: Any, x: Columns) -> str:
    """MaxAbsScaler."""
    y = net.op("Div", x.name, scaler.scale_)
    return net.op("Max", net.op("Min", y, 1.0), -1.0) if getattr(scaler, "clip", False) else y


def robust(net: Net, scaler: Any, x: Columns) -> str:
    """RobustScaler."""
    y = net.op("Sub", x.name, scaler.center_) if scaler.with_centering else x.name
    return net.op("Div", y, scaler.scale_) if scaler.with_scaling else y


def normalizer(net: Net, scaler: Any, x: Columns) -> str:
    """Normalizer."""
    if scaler.norm == "l2":
        norm = net.op("Sqrt", net.sum(net.op("Mul", x.name, x.name)))
    elif scaler.norm == "l1":
        norm = net.sum(net.op("Abs", x.name))
    else:
        norm = net.op("ReduceMax", net.op("Abs", x.name), axes=[1], keepdims=1)
    return net.op("Div", x.name, net.op("Where", net.op("Equal", norm, 0.0), 1.0, norm))


def binarizer(net: Net, step: Any, x: Columns) -> str:
    """Binarizer."""
    return net.number(net.op("Greater", x.name, float(step.threshold)))


def powers(net: Net, step: Any, x: Columns) -> str:
    """PolynomialFeatures, in its own order of multiplication."""
    exponents = np.asarray(step.powers_)
    parts = []
    for degree in np.unique(exponents.sum(axis=1)):
        rows = exponents[exponents.sum(axis=1) == degree]
        if degree == 0:
            parts.append(net.ones(x.name))
            continue
        factors = np.array([np.repeat(np.arange(len(row)), row) for row in rows])
        product = net.columns(x.name, factors[:, -1])
        for place in range(degree - 2, -1, -1):
            product = net.op("Mul", product, net.columns(x.name, factors[:, place]))
        parts.append(product)
    return net.beside(parts)


def power_transformer(net: Net, step: Any, x: Columns) -> str:
    """PowerTransformer: Yeo-Johnson's or Box-Cox's."""
    lambdas = np.asarray(step.lambdas_, np.float64)
    if step.method == "box-cox":
        y = _box_cox(net, x.name, lambdas)
    else:
        above = _box_cox(net, net.op("Add", net.op("Max", x.name, 0.0), 1.0), lambdas)
        below = net.op("Neg", _box_cox(net, net.op("Sub", 1.0, net.op("Min", x.name, 0.0)), 2 - lambdas))
        y = net.op("Where", net.op("GreaterOrEqual", x.name, 0.0), above, below)
    return standard(net, step._scaler, Columns(y)) if step.standardize else y  # noqa: SLF001 - nothing public has it


def _box_cox(net: Net, x: str, lambdas: Any) -> str:
    logs = np.abs(lambdas) < _EPSILON
    raised = net.op("Div", net.op("Sub", net.op("Pow", x, lambdas), 1.0), np.where(logs, 1.0, lambdas))
    return net.op("Where", logs, net.op("Log", x), raised) if logs.any() else raised


def pca(net: Net, step: Any, x: Columns) -> str:
    """PCA."""
    matrix = np.asarray(step.components_, np.float64).T
    y = net.op("Sub", net.op("MatMul", x.name, matrix), step.mean_.reshape(1, -1) @ matrix)
    return net.op("Div", y, np.sqrt(np.maximum(step.explained_variance_, _EPSILON**2))) if step.whiten else y


def projection(net: Net, step: Any, x: Columns) -> str:
    """TruncatedSVD, FastICA, linear discriminants: a product with a matrix, after a mean if there is one."""
    mean = getattr(step, "xbar_", None) if getattr(step, "solver", "") == "svd" else getattr(step, "mean_", None)
    if hasattr(step, "scalings_"):
        if step.solver == "lsqr":
            raise InputError("LinearDiscriminantAnalysis: solver 'lsqr' has no transform; train it with solver 'svd'")
        matrix = step.scalings_[:, : step._max_components]  # noqa: SLF001 - as its `transform` does
    else:
        matrix = step.components_.T
    y = x.name if mean is None else net.op("Sub", x.name, np.asarray(mean))
    return net.op("MatMul", y, np.asarray(matrix, np.float64))


def selection(net: Net, step: Any, x: Columns) -> Columns:
    """Whatever keeps some of the columns."""
    return _select(net, x, step.get_support(indices=True))


def _select(net: Net, x: Columns, places: Sequence[int]) -> Columns:
    words = {new: x.words[int(old)] for new, old in enumerate(places) if int(old) in x.words}
    return Columns(net.columns(x.name, places), words)


def column_transformer(net: Net, step: Any, x: Columns) -> str:
    """ColumnTransformer: columns by number, whatever they are called."""
    parts = []
    for name, inner, _ in step.transformers_:
        places = step._transformer_to_input_indices.get(name, [])  # noqa: SLF001 - names resolved
        if (isinstance(inner, str) and inner == "drop") or not len(places):
            continue
        parts.append(net.transform(inner, _select(net, x, places)).name)
    return net.beside(parts)


def union(net: Net, step: Any, x: Columns) -> str:
    """FeatureUnion."""
    parts = []
    for name, inner in step.transformer_list:
        if isinstance(inner, str) and inner == "drop":
            continue
        y, weight = net.transform(inner, x).name, (step.transformer_weights or {}).get(name)
        parts.append(y if weight is None else net.op("Mul", y, float(weight)))
    return net.beside(parts)


def imputer(net: Net, step: Any, x: Columns) -> Columns | str:
    """SimpleImputer: a constant for each missing value, and columns that tell where one was."""
    if x.words:
        raise InputError("SimpleImputer: of words it can't be exported; words are never missing here, so leave it out")
    statistics = np.asarray(step.statistics_, np.float64)
    missing = _is_missing(net, x.name, step.missing_values)
    kept = np.arange(len(statistics)) if step.keep_empty_features else np.flatnonzero(~np.isnan(statistics))
    y = net.op("Where", missing, np.nan_to_num(statistics), x.name)
    if len(kept) < len(statistics):
        y = net.columns(y, kept)
    if not step.add_indicator:
        return y
    return net.beside([y, net.number(net.columns(missing, step.indicator_.features_))])


def indicator(net: Net, step: Any, x: Columns) -> str:
    """MissingIndicator."""
    return net.number(net.columns(_is_missing(net, x.name, step.missing_values), step.features_))


def _is_missing(net: Net, x: str, value: Any) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return net.op("IsNaN", x)
    return net.op("Equal", x, float(value))


def encoder(net: Net, step: Any, x: Columns) -> str:
    """OneHotEncoder and OrdinalEncoder: what they answer is looked up by asking them about each of their categories."""
    parts = []
    probe = np.array([[column[0] for column in step.categories_]], dtype=object)
    begun = 0
    for place, categories in enumerate(step.categories_):
        rows = np.repeat(probe, len(categories), axis=0)
        rows[:, place] = categories
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the names of columns
            answers = step.transform(rows)
        answers = np.asarray(answers.toarray() if hasattr(answers, "toarray") else answers, np.float64)
        width = _width(step, place)
        table = answers[:, begun : begun + width]
        begun += width
        known = net.number(net.op("Equal", net.columns(x.name, [place]), codes_of(step, categories, x, place)))
        unknown = np.full(width, float(step.unknown_value) if step.handle_unknown == "use_encoded_value" else 0.0)
        if np.isnan(unknown).any():
            raise InputError("OrdinalEncoder: unknown_value NaN can't be exported; take a number such as -1")
        if step.handle_unknown in {"infrequent_if_exist", "warn"}:
            raise InputError(
                f"{type(step).__name__}: handle_unknown={step.handle_unknown!r} can't be exported; 'ignore' can"
            )
        parts.append(net.affine(known, table - unknown, unknown))
    return net.beside(parts)


def _width(step: Any, place: int) -> int:
    """Return how many columns an encoder makes of a column."""
    if not hasattr(step, "drop_idx_"):
        return 1
    return int(step._n_features_outs[place])  # noqa: SLF001 - nothing public has it by column


def codes_of(step: Any, categories: Any, x: Columns, place: int) -> Any:
    """Return what stands for each category in the row: itself, or the code of the word."""
    name = type(step).__name__
    if place in x.words:
        return np.array([_code(x.words[place], category) for category in categories])
    try:
        values = np.asarray(categories, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{name}: was trained on words ({categories[0]!r}, …), and the table has numbers in that column; give the table that the "
            "model was trained on"
        ) from None
    if np.isnan(values).any():
        raise InputError(f"{name}: has a category for missing values, which can't be exported; fill them in before it")
    return values


def _code(words: Words, category: Any) -> float:
    try:
        return words.code(str(category))
    except ValueError:
        return -1.0  # the table has no such word, so no message may bring it


def bins(net: Net, step: Any, x: Columns) -> str:
    """KBinsDiscretizer."""
    parts = []
    for place, edges in enumerate(step.bin_edges_):
        column = net.columns(x.name, [place])
        count = net.sum(net.number(net.op("GreaterOrEqual", column, edges[1:-1]))) if len(edges) > 2 else None
        if count is None:
            count = net.op("Sub", net.ones(column), 1.0)
        ordinal = step.encode == "ordinal"
        parts.append(count if ordinal else net.number(net.op("Equal", count, np.arange(len(edges) - 1.0))))
    return net.beside(parts)


def _log1p(net: Net, x: str) -> str:
    return net.op("Log", net.op("Add", x, 1.0))


#: Functions of numpy by name: what they are in a graph.
FUNCTIONS: Final[dict[str, Callable[[Net, str], str]]] = {
    "log": lambda net, x: net.op("Log", x),
    "log1p": _log1p,
    "log2": lambda net, x: net.op("Div", net.op("Log", x), float(np.log(2))),
    "log10": lambda net, x: net.op("Div", net.op("Log", x), float(np.log(10))),
    "exp": lambda net, x: net.op("Exp", x),
    "exp2": lambda net, x: net.op("Pow", 2.0, x),
    "expm1": lambda net, x: net.op("Sub", net.op("Exp", x), 1.0),
    "sqrt": lambda net, x: net.op("Sqrt", x),
    "square": lambda net, x: net.op("Mul", x, x),
    "absolute": lambda net, x: net.op("Abs", x),
    "negative": lambda net, x: net.op("Neg", x),
    "reciprocal": lambda net, x: net.op("Div", 1.0, x),
    "sin": lambda net, x: net.op("Sin", x),
    "cos": lambda net, x: net.op("Cos", x),
    "tanh": lambda net, x: net.op("Tanh", x),
    "sign": lambda net, x: net.op("Sign", x),
    "floor": lambda net, x: net.op("Floor", x),
    "ceil": lambda net, x: net.op("Ceil", x),
    "rint": lambda net, x: net.op("Round", x),
    "round": lambda net, x: net.op("Round", x),
}


def function(net: Net, step: Any, x: Columns) -> Columns:
    """FunctionTransformer."""
    if step.func is None:
        return x
    return Columns(apply(net, step.func, x.name, step.kw_args))


def apply(net: Net, func: Any, x: str, arguments: Any = None) -> str:
    """Write a function of numpy."""
    name = getattr(func, "__name__", "")
    if name not in FUNCTIONS or getattr(np, name, None) is not func or arguments:
        raise InputError(
            f"FunctionTransformer: {name or repr(func)} can't be exported; functions of numpy can: {', '.join(sorted(FUNCTIONS))}. "
            "Compute anything else before the table"
        )
    return FUNCTIONS[name](net, x)


def inverse(net: Net, step: Any, y: str) -> str:
    """Return what a transformer of targets turns answers back into."""
    kind = type(step).__name__
    if kind == "FunctionTransformer":
        return y if step.inverse_func is None else apply(net, step.inverse_func, y, step.inv_kw_args)
    if kind == "StandardScaler":
        y = net.op("Mul", y, step.scale_) if step.with_std else y
        return net.op("Add", y, step.mean_) if step.with_mean else y
    if kind == "MinMaxScaler":
        return net.op("Div", net.op("Sub", y, step.min_), step.scale_)
    if kind == "RobustScaler":
        y = net.op("Mul", y, step.scale_) if step.with_scaling else y
        return net.op("Add", y, step.center_) if step.with_centering else y
    if kind == "MaxAbsScaler":
        return net.op("Mul", y, step.scale_)
    raise InputError(f"TransformedTargetRegressor: {kind} can't be exported; scalers and functions of numpy can")
