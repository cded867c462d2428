"""What labels are called that a model only numbers: XGBoost and LightGBM keep no texts in their own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.pipeline import Pipeline

from edge_agent.errors import InputError
from edge_convert.classifier import labels_of, split


def named(model: Any, names: Sequence[str], path: Path) -> Any:
    """Return the model of a file with `names` for its labels, as they were given; itself if there are none. Raises `InputError`."""
    if not names:
        return model
    _, last = split(model)
    if not hasattr(last, "named"):
        raise InputError(
            f"{path}: --label-names is for models of other libraries that number their labels; this one has its own"
        )
    if len(names) != len(last.classes_):  # one by one, a name may have a comma
        names = [part.strip() for name in names for part in name.split(",")]
    try:
        return _with_last(model, last.named(tuple(names)))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def called(model: Any, labels: Sequence[str]) -> Any:
    """Return the model with the labels of the card of a file that was made from it, if it only numbers its own."""
    _, last = split(model)
    if not hasattr(last, "named") or not _numbered(last) or len(labels) != len(last.classes_):
        return model
    return _with_last(model, last.named(labels))


def unnamed(model: Any) -> str:
    """Return a sentence about labels that are mere numbers; "" where there are none."""
    _, last = split(model)
    if not hasattr(last, "named") or not _numbered(last):
        return ""
    return f"answers {', '.join(labels_of(last))}, as {last.library[0]} numbers its labels; --label-names A,B,... gives them names"


def _numbered(last: Any) -> bool:
    return labels_of(last) == tuple(map(str, range(len(last.classes_))))


def _with_last(model: Any, last: Any) -> Any:
    return Pipeline([*model.steps[:-1], (model.steps[-1][0], last)]) if isinstance(model, Pipeline) else last
