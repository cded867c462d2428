"""What the own files of XGBoost and LightGBM don't tell: what the labels are called that they number, which number is a missing value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.pipeline import Pipeline

from edge_agent.contract import card
from edge_agent.errors import InputError
from edge_convert.boosters.model import Boosted
from edge_convert.classifier import labels_of, split


def named(model: Any, names: Sequence[str], path: Path) -> Any:
    """Return the model of a file with `names` for its labels, as they were given; itself if there are none. Raises `InputError`."""
    if not names:
        return model
    _, last = split(model)
    if not hasattr(last, "named"):
        why = "has its own" if hasattr(last, "classes_") else "answers no labels"
        raise InputError(
            f"{path}: --label-names is for models of other libraries that number their labels; this one {why}"
        )
    if len(names) != len(last.classes_):  # one by one, a name may have a comma
        names = [part.strip() for name in names for part in name.split(",")]
    try:
        return _with_last(model, last.named(tuple(names)))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _called(model: Any, labels: Sequence[str]) -> Any:
    """Return the model with the labels of a card, if it only numbers its own."""
    _, last = split(model)
    if not hasattr(last, "named") or not _numbered(last) or len(labels) != len(last.classes_):
        return model
    return _with_last(model, last.named(labels))


def notes(model: Any) -> list[str]:
    """Return sentences about what a person may not expect of a model's answers: labels that are mere numbers, for one."""
    _, last = split(model)
    found = list(last.source.notes if isinstance(last, Boosted) else getattr(last, "notes", ()))
    if hasattr(last, "named") and _numbered(last):
        labels = ", ".join(labels_of(last))
        found.append(
            f"answers {labels}, as {last.library[0]} numbers its labels; --label-names A,B,... gives them names"
        )
    return found


def with_missing(model: Any, number: float | None, path: Path) -> Any:
    """Return the model of a file for which `number` stands for a missing value; itself for None. Raises `InputError`."""
    if number is None:
        return model
    _, last = split(model)
    if not isinstance(last, Boosted) or last.source.with_missing is None:
        raise InputError(
            f"{path}: --missing-value is for XGBoost's own files (.json, .ubj); this model knows for itself"
        )
    return last.source.with_missing(number)


def as_on_card(model: Any, model_card: card.ModelCard) -> Any:
    """Return the model with what the card of a file that was made from it knows: names of labels, the number for a missing value."""
    _, last = split(model)
    number = model_card.training.parameters.get("missing")
    if isinstance(last, Boosted) and last.source.with_missing is not None and isinstance(number, int | float):
        model = last.source.with_missing(number)
    return _called(model, model_card.labels)


def _numbered(last: Any) -> bool:
    return labels_of(last) == tuple(map(str, range(len(last.classes_))))


def _with_last(model: Any, last: Any) -> Any:
    return Pipeline([*model.steps[:-1], (model.steps[-1][0], last)]) if isinstance(model, Pipeline) else last
