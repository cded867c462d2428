"""What counts as the truth: the answers of scikit-learn itself.

They are those of the estimator's own `predict` and `predict_proba` on the float32 values that the agent will have, handed
over as float64 (scikit-learn rounds to float32 by itself where it wants to).
"""

from __future__ import annotations

import copy
import os
import warnings
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edge_convert.classifier import Classifier, split
from edge_convert.rows import Rows

_CHUNK: Final = 1 << 15


class Answers(NamedTuple):
    """Answers for n rows: `labels` (n,) as text, `probabilities` (n, labels) float64."""

    labels: NDArray[np.str_]
    probabilities: NDArray[np.float64]


class Reference:
    """A fitted model, asked in one thread, and the rows (n, f) that it was trained on."""

    def __init__(self, model: Classifier, X: Rows) -> None:
        # Forests add up in whatever order their threads finish; one thread makes the truth one thing.
        self._model = copy.deepcopy(model)
        _, estimator = split(self._model)
        if "n_jobs" in estimator.get_params(deep=False):
            estimator.set_params(n_jobs=1)
        self.X = X

    @cached_property
    def training(self) -> Answers:
        """The answers for `X`, computed once: self-test and verification both start from them."""
        return self.answers(self.X)

    def answers(self, rows: Rows) -> Answers:
        """Return what scikit-learn says of `rows` (n, f)."""
        with warnings.catch_warnings():
            # An estimator that was fitted on a data frame misses the names of its columns.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
            if len(chunks) == 1:  # a pool of threads takes longer to start than a few rows
                return self._ask(chunks[0])
            parts = Parallel(n_jobs=os.cpu_count(), prefer="threads")(delayed(self._ask)(chunk) for chunk in chunks)
        labels, probabilities = zip(*parts, strict=True)
        return Answers(np.concatenate(labels), np.concatenate(probabilities))

    def _ask(self, rows: Rows) -> Answers:
        wide = rows.astype(np.float64)
        with threadpool_limits(1):  # the chunks are what runs side by side
            labels, probabilities = self._model.predict(wide), self._model.predict_proba(wide)
        return Answers(np.asarray(labels).astype(str), probabilities.astype(np.float64))
