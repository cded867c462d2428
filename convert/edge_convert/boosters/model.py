"""A booster of whatever library, as the rest of `edge_convert` sees it: a fitted scikit-learn estimator that brings its own trees.

Rules:

* what a library does with a number before it compares it, how it adds up and what becomes of the sum is data here (`Scores`), found
  out by the library's own module and written into the graph by `graph.py`;
* the answers are the library's: `predict` and `predict_proba` call the wrapped model, and nothing is computed from `Scores`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from edge_agent.contract import card
from edge_agent.errors import InputError
from edge_convert.sets import Members
from edge_convert.trees import Tree

Floats = NDArray[np.float64]

#: What becomes of the raw scores (n, k): themselves, or exp of them; one score for two labels, or one a label.
IDENTITY: Final = "identity"
EXP: Final = "exp"
SIGMOID: Final = "sigmoid"
SOFTMAX: Final = "softmax"


@dataclass(frozen=True)
class Absent:
    """Values that a library takes for missing: from `low` to `high`, in these columns (None: in all)."""

    low: float
    high: float
    columns: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Categories:
    """How a library looks categories up: `places` are the columns of the sets behind those of the model, which the trees ask about.

    A number stands for the category that it is when it is cut to a whole one: downwards, or, with `toward_zero`, as C++ does it.
    `branches` tells that a missing value has a branch of its own; else it is in no set.
    """

    places: Mapping[Members, int]
    toward_zero: bool
    branches: bool


@dataclass(frozen=True)
class Scores:
    """How a library gets from rows to raw scores (n, k), and from these to answers.

    `trees` are in the order in which they are added up, tree `i` to score `i % k` unless its leaves hold k values each. Sums are of `kind`,
    begin with `first` (k,), are divided by `count`, multiplied by `scale`, and then `bias` (k,) is added. `rounds` tells that rows are
    rounded to float32 before they are compared.
    """

    trees: tuple[Tree, ...]
    width: int
    kind: type[np.float32 | np.float64]
    rounds: bool
    link: str
    first: Floats | None = None
    count: float = 1.0
    scale: float = 1.0
    bias: Floats | None = None
    #: Factor in front of the score inside of a sigmoid.
    slope: float = 1.0
    #: The largest score at which the first of two labels is the answer.
    longest: float = 0.0
    absent: Absent | None = None
    #: Whether the scores of a row are put into ascending order: quantiles that cross.
    sorts: bool = False
    categories: Categories | None = None

    @property
    def weight(self) -> float:
        """What a leaf's value, or one that the sum begins with, counts in what the link gets."""
        return self.scale / self.count * (self.slope if self.link == SIGMOID else 1.0)

    @property
    def is_exact(self) -> bool:
        """Whether answers are sums, which are the same to the last bit wherever they are added up in the same order."""
        return self.link == IDENTITY


@dataclass(frozen=True)
class Source:
    """Where a model comes from: the library's name and version, the class of the model, its parameters, and the names of its columns.

    `notes` are sentences about what a person may not expect of its answers. Where the file does not tell which number stands for a missing
    value, `with_missing` returns the model for which it is a given one.
    """

    library: str
    version: str
    title: str
    parameters: Mapping[str, Any]
    feature_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    with_missing: Callable[[float], Boosted] | None = None
    #: The words of columns that it was trained on as categories, by place, in the order of their codes.
    words: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    #: The model itself, as the library has it.
    model: Any = None


class Boosted(BaseEstimator):  # type: ignore[misc]
    """A fitted model of `source`, wrapped. `own_trees`, `rounds` and `own_task` are what `fold` and `task_of` look for."""

    def __init__(self, source: Source, scores: Scores, n_features: int, predict: Callable[[Floats], Any]) -> None:
        self.source = source
        self.scores = scores
        self.title = source.title
        self.n_features_in_ = n_features
        if source.feature_names:
            self.feature_names_in_ = np.array(source.feature_names, dtype=object)
        self._predict = predict

    @property
    def own_trees(self) -> list[Tree] | None:
        """The trees, in the order in which they are added up; None where they ask about more than thresholds."""
        return None if self.scores.categories is not None else list(self.scores.trees)

    @property
    def rounds(self) -> bool:
        """Whether rows are rounded to float32 before they are compared."""
        return self.scores.rounds

    @property
    def takes_absent(self) -> bool:
        """Whether some numbers stand for a missing value, so that the branches for these are needed on any table."""
        return self.scores.absent is not None

    @property
    def library(self) -> tuple[str, str]:
        """Name and version of the library whose answers are the truth."""
        return self.source.library, self.source.version

    def fit(self, _X: Any, _y: Any = None) -> Boosted:
        """Return itself: it is fitted already."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def __deepcopy__(self, _memo: Any) -> Boosted:
        # Nobody changes it, and not every library's model can be copied.
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - theirs
        """Return the library's parameters that were set."""
        return {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in self.source.parameters.items()
            if value is not None and name != "n_jobs"
        }


class BoostedClassifier(ClassifierMixin, Boosted):  # type: ignore[misc]
    """A booster that answers one of its `classes_`."""

    def __init__(
        self,
        source: Source,
        scores: Scores,
        n_features: int,
        predict: Callable[[Floats], Any],
        *,
        predict_proba: Callable[[Floats], Any],
        classes: Sequence[Any] | NDArray[Any],
    ) -> None:
        super().__init__(source, scores, n_features, predict)
        self._predict_proba = predict_proba
        self._classes = np.asarray(classes)
        self.classes_ = self._classes
        if len(self.classes_) != (2 if scores.link == SIGMOID else scores.width):
            raise InputError(f"{source.title}: has {len(self.classes_)} labels, but {scores.width} scores")

    def named(self, names: Sequence[str]) -> BoostedClassifier:
        """Return the model with other names for its labels. Raises `InputError` unless there is one for each."""
        if len(names) != len(self.classes_):
            raise InputError(
                f"{self.title}: has {len(self.classes_)} labels ({', '.join(map(str, self.classes_))}); "
                f"--label-names has {len(names)}: {', '.join(names)}"
            )
        if not all(names):
            raise InputError(
                f"{self.title}: --label-names has an empty name; a label is a text of one character or more"
            )
        if twice := [name for place, name in enumerate(names) if name in names[:place]]:
            raise InputError(f"{self.title}: --label-names has {twice[0]!r} twice; each label takes a name of its own")
        other = BoostedClassifier(
            self.source,
            self.scores,
            self.n_features_in_,
            self._predict,
            predict_proba=self._predict_proba,
            classes=self._classes,
        )
        other.classes_ = np.asarray(names)
        return other

    def predict(self, X: Floats) -> NDArray[Any]:
        """Return the library's labels (n,)."""
        labels = np.asarray(self._predict(X)).ravel()
        if self.classes_ is self._classes:
            return labels
        order = np.argsort(self._classes)
        return np.asarray(self.classes_[order[np.searchsorted(self._classes[order], labels)]])

    def predict_proba(self, X: Floats) -> Floats:
        """Return the library's probabilities (n, labels)."""
        return np.asarray(self._predict_proba(X), np.float64)

    def own_task(self, _quantities: Sequence[card.Quantity] = ()) -> Any:
        """Return what it answers."""
        from edge_convert.boosters.graph import BoostedLabels
        from edge_convert.classifier import labels_of

        return BoostedLabels(labels_of(self))


class BoostedRegressor(RegressorMixin, Boosted):  # type: ignore[misc]
    """A booster that answers numbers."""

    def predict(self, X: Floats) -> Floats:
        """Return the library's numbers (n,) or (n, k)."""
        return np.asarray(self._predict(X), np.float64)

    def own_task(self, quantities: Sequence[card.Quantity] = ()) -> Any:
        """Return what it answers."""
        from edge_convert.boosters.graph import ROUNDED_VALUES_ALIKE, BoostedNumbers

        found = tuple(quantities) or tuple(
            card.Quantity(name=f"output {number + 1}") for number in range(self.scores.width)
        )
        task = BoostedNumbers(found)
        # An exponential in float32 differs in its last bit from machine to machine.
        rounded = self.scores.kind is np.float32 and not self.scores.is_exact
        return replace(task, comparison=ROUNDED_VALUES_ALIKE) if rounded else task


def first_label_up_to(is_second: Callable[[float], bool], kind: type[np.floating[Any]]) -> float:
    """Return the largest score of this kind for which the answer is the first of two labels; `is_second` never turns back."""
    low, high = -1.0, 1.0
    if is_second(low) or not is_second(high):
        raise InputError(
            "the model decides between its two labels at a score that is not near 0; only .5 can be exported"
        )
    while True:
        middle = float(kind((low + high) / 2))
        if middle in (low, high):
            return low
        low, high = (low, middle) if is_second(middle) else (middle, high)
