"""A fitted model -> the bytes of its file: graph, card, proof and seal. Both `train` and `export` end here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edge_agent.contract import card
from edge_agent.contract.seal import seal
from edge_convert.describe import Sheet
from edge_convert.fold import fold
from edge_convert.graph import build_graph
from edge_convert.modelcard import Identity, build_card
from edge_convert.tables import Table
from edge_convert.trees import thresholds_by_feature
from edge_convert.verify import GENERATED, Verification, require_verified, verify


def package(
    model: Any,
    table: Table,
    sheet: Sheet,
    identity: Identity,
    *,
    parameters: Mapping[str, Any],
    metrics: card.Metrics,
    seed: int,
    rows: int = GENERATED,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[bytes, Verification]:
    """Return the model file and the comparison with scikit-learn that it passed.

    `model` is a fitted classifier or Pipeline whose columns are those of `table`. The same arguments give the same
    bytes. Raises `InputError` if it can't be exported and `ModelError` if the file would not answer as `model` does.
    """
    estimator, trees = fold(model)
    labels = [str(label) for label in np.asarray(model.classes_).astype(str)]
    n_features = len(table.feature_names)
    thresholds = [np.empty(0)] * n_features if trees is None else thresholds_by_feature(trees, n_features)
    model_card = build_card(
        identity,
        model,
        [values[np.isfinite(values)] for values in thresholds],
        table,
        sheet,
        labels=labels,
        parameters=parameters,
        metrics=metrics,
        seed=seed,
    )
    graph = build_graph(estimator, trees, labels, n_features)
    graph.metadata_props.add(key=card.METADATA_KEY, value=model_card.to_json())
    content = seal(graph.SerializeToString(deterministic=True))
    result = verify(model, content, table.X, rows=rows, seed=seed, progress=progress)
    require_verified(result, identity.name)
    return content, result
