"""Why a model of scikit-learn is not exported, and what to take in its place."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, RadiusNeighborsClassifier

_LISTED: Final = "the families that can are listed in docs/training.md"
#: By the name of the class: a later version of scikit-learn may have no such class any more.
_REASONS: Final = {
    "KNNImputer": (
        "it chooses among rows that are equally far by the order of a sort, and a device would have to keep them all; put a SimpleImputer in its place, or "
        "train trees, a forest or boosting on missing values as they are (--missing native)"
    ),
    "IterativeImputer": (
        "it draws random numbers, or iterates until it has converged; put a SimpleImputer in its place, or train trees, a forest or boosting on missing "
        "values as they are (--missing native)"
    ),
    "GaussianProcessClassifier": (
        "its probabilities are error functions, which onnxruntime computes in float32 only; take an SVC with the same kernel, in a CalibratedClassifierCV "
        "for probabilities"
    ),
    "RadiusNeighborsRegressor": "it has no answer where no row is within the radius; take a KNeighborsRegressor",
}
_NEIGHBOURS: Final = (KNeighborsClassifier, KNeighborsRegressor, RadiusNeighborsClassifier)


def reason_of(estimator: Any, known: Collection[type]) -> str:
    """Return why an estimator is none of the `known` classes that are exported, and the way out."""
    cls = type(estimator)
    if reason := _REASONS.get(cls.__name__):
        return f"can't be exported: {reason}"
    # One of scikit-learn's may derive from another, too, but that says nothing to a person.
    base = (
        "" if cls.__module__.startswith("sklearn.") else next((one.__name__ for one in cls.__mro__ if one in known), "")
    )
    if base:
        return f"can't be exported: it is a class of your own, which may answer in another way than {base}, from which it derives; train a {base}"
    return f"can't be exported; {_LISTED}"


def hint_of(model: Any) -> str:
    """Return what may be the cause where a model's file does not answer as the model does; "" where nothing is known."""
    parts = (model, *(model.get_params(deep=True).values() if hasattr(model, "get_params") else ()))
    if not any(isinstance(part, _NEIGHBOURS) for part in parts):
        return ""
    return (
        "; rows that are exactly as far are a toss-up of scikit-learn's search, and a table in coarse steps has many of them: train it on numbers with more "
        "digits, or train a forest"
    )
