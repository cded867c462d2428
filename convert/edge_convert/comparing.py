"""Compares a model file that is there already with the model that it was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge_agent.contract.seal import is_sealed
from edge_agent.errors import InputError
from edge_convert.boosters import naming
from edge_convert.classifier import inputs_of
from edge_convert.fold import fold
from edge_convert.foreign.model import Opened, hints_on
from edge_convert.load import open_model
from edge_convert.modelcard import bounds_of
from edge_convert.modelfile import read_model
from edge_convert.progress import progress_bar
from edge_convert.reference import Reference
from edge_convert.tables import TableChoice
from edge_convert.tasks import task_of
from edge_convert.verify import require_verified, verify
from edge_convert.words import words_of

Say = Callable[[str], object]


def compare(
    path: Path, estimator: Path, choice: TableChoice, *, trust_pickle: bool, rows: int, seed: int, say: Say
) -> None:
    """Say how far a model file is from the estimator that it was made from. Raises `ModelError` if it is too far."""
    content, model_card = read_model(path)
    opened = open_model(estimator, trust_pickle=trust_pickle)
    words = {one.name: found for one in model_card.features if (found := words_of(one)) is not None}
    native = any(one.missing for one in model_card.features)
    choice = replace(choice, missing="native" if native and choice.missing == "refuse" else choice.missing)
    table = replace(choice, columns=model_card.feature_names, words=words).read()
    if isinstance(opened, Opened):
        model = opened.settled(table, hints_on(model_card))
    else:
        model = naming.as_on_card(opened, model_card)
    n_features, _ = inputs_of(model)
    if n_features != len(table.feature_names):
        raise InputError(f"{path}: takes {len(table.feature_names)} features, the estimator {n_features}")
    sealed = is_sealed(content, where=str(path))
    say(
        "digest: correct"
        if sealed
        else "digest: the file has none, so damage that leaves it readable would go unnoticed"
    )
    with progress_bar("verifying") as progress:
        gaps = [position for position, one in enumerate(model_card.features) if one.missing]
        folded = fold(model, words=table.words_by_place)
        task = task_of(model)
        if task is not None:
            task = task.within(model_card.self_test.tolerance)
        bounds = bounds_of(model_card.features)
        reference = Reference(model, table.X, task, gaps=gaps, words=folded.words, bounds=bounds)
        result = verify(reference, folded, content, rows=rows, seed=seed, progress=progress)
    say(str(result))
    require_verified(result, str(path))
