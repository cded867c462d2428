"""What is refused, or said, before a model is converted: words whose codes are not known, missing values that it does not take,
answers without probabilities.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from sklearn.utils import get_tags

from edge_agent.errors import InputError
from edge_convert.classifier import Estimator, inputs_of, split, title_of
from edge_convert.fold import Folded, fold
from edge_convert.modelcard import Draft
from edge_convert.reference import Reference
from edge_convert.tables import Table
from edge_convert.tasks import Classification, Task
from edge_convert.wording import some

Say = Callable[[str], object]


def require_codes_known(model: Estimator, table: Table) -> None:
    """Refuse columns of words, unless the estimator was trained on a data frame and codes them itself."""
    categories = [name for name, words in table.words.items() if words.kind == "category"]
    steps, last = split(model)
    if categories and not steps and hasattr(last, "source"):
        _require_same_words(last.source.words, table)
    elif categories and not (inputs_of(model)[1] and fold(model).trees is None):
        raise InputError(
            f"{table.sources[0].path}: column {categories[0]!r} holds words, and how the estimator codes them is not known; give it "
            "the codes that the estimator was trained on, train it on a data frame with an encoder in its Pipeline, or use "
            "edge-convert train"
        )


def _require_same_words(trained: Mapping[int, tuple[str, ...]], table: Table) -> None:
    """Refuse columns of words whose codes are others than those that a booster was trained on."""
    for place, name in enumerate(table.feature_names):
        words = table.words.get(name)
        if words is None or words.kind != "category":
            continue
        if place not in trained:
            raise InputError(
                f"{table.sources[0].path}: column {name!r} holds words, and how the estimator codes them is not known; give it the codes "
                "that the estimator was trained on, or train it behind an OrdinalEncoder in a Pipeline"
            )
        if trained[place] != words.categories:
            raise InputError(
                f"{table.sources[0].path}: column {name!r} holds the words {some(words.categories)}, and the estimator was trained on "
                f"{some(trained[place])}: their codes are not the same; give a table that has all of them, or train it behind an "
                "OrdinalEncoder in a Pipeline"
            )


def require_gaps_taken(folded: Folded, draft: Draft, reference: Reference) -> None:
    """Refuse a table with missing values for an estimator that does not take them."""
    if folded.trees is None:
        with contextlib.suppress(InputError):
            _ = reference.training
            return
    elif get_tags(folded.estimator).input_tags.allow_nan:
        return
    raise InputError(
        f"{draft.table.sources[0].path}: has missing values, and {title_of(folded.estimator)} can't be exported with them: trees that "
        "branch on missing values can, and what has a SimpleImputer in front; --missing drop leaves these rows out"
    )


def say_answers(task: Task, model: Estimator, say: Say) -> None:
    """Say what a person may not expect of the answers."""
    if isinstance(task, Classification) and task.bare:
        if hasattr(model, "notes"):
            return  # it has its own words: `edge_convert.foreign`
        why = (
            "its probabilities are another model's, which may contradict the label"
            if hasattr(model, "predict_proba")
            else "it has no predict_proba"
        )
        say(
            f"answers: a label without probabilities and confidence, since {title_of(model)}: {why}; CalibratedClassifierCV adds them"
        )
