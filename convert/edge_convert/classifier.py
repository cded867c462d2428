"""A fitted scikit-learn estimator or Pipeline, as far as we rely on it. scikit-learn itself carries no types."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline

from edge_agent.errors import InputError


class Estimator(Protocol):
    """A fitted estimator of whatever task (`edge_convert.tasks`), or a Pipeline that ends in one, for rows `X` (n, f)."""

    def predict(self, X: NDArray[Any], /) -> NDArray[Any]:
        """Return the labels (n,), or numbers (n,) or (n, outputs)."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 - theirs
        """Return the parameters it was made with."""


class Classifier(Estimator, Protocol):
    """A fitted classifier with probabilities, or a Pipeline that ends in one."""

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels in the order of the probabilities; text, numbers or booleans."""

    def predict_proba(self, X: NDArray[Any], /) -> NDArray[np.float64]:
        """Return the probabilities (n, labels)."""


def labels_of(model: Any) -> tuple[str, ...]:
    """Return a model's labels as text, in its own order."""
    return tuple(map(str, np.asarray(model.classes_).astype(str)))


def inputs_of(model: Estimator) -> tuple[int, tuple[str, ...]]:
    """Return how many columns a fitted model takes, and their names if it was fitted on named ones."""
    before, last = split(model)
    first = [*before, last][0]
    return int(first.n_features_in_), tuple(map(str, getattr(first, "feature_names_in_", ())))


def unwrapped(model: Any) -> Any:
    """Return a fitted model without the searches for parameters around it or its steps: what they found to be the best.

    Raises `InputError` for a search that did not fit that.
    """
    if isinstance(model, BaseSearchCV):
        if not hasattr(model, "best_estimator_"):
            raise InputError(
                f"{type(model).__name__}: has no best_estimator_, because of refit=False or since it was not fitted; fit it with refit=True"
            )
        return unwrapped(model.best_estimator_)
    if isinstance(model, Pipeline):
        steps = [(name, unwrapped(step)) for name, step in model.steps]
        if any(new is not old for (_, new), (_, old) in zip(steps, model.steps, strict=True)):
            return Pipeline(steps)
    return model


def split(model: Estimator) -> tuple[list[Any], Any]:
    """Return the steps before the last one that do something, and the last one."""
    if not isinstance(model, Pipeline):
        return [], model
    *before, last = [step for _, step in model.steps if step is not None and not isinstance(step, str)]
    inner_scalers, estimator = split(last)
    return [*before, *inner_scalers], estimator


def title_of(model: Estimator) -> str:
    """Return what it is made of: "StandardScaler > DecisionTreeClassifier"."""
    steps = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
    return " > ".join(getattr(step, "title", type(step).__name__) for step in steps)
