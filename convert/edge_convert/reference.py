"""What counts as the truth: the answers of scikit-learn itself.

They are those of the estimator's own methods (`edge_convert.tasks`) on the numbers as the table or the message
has them, in float64 (scikit-learn rounds to float32 by itself where it wants to).
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Final

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from edge_agent.errors import InputError
from edge_convert.classifier import Estimator, split, title_of
from edge_convert.rows import Rows
from edge_convert.tasks import Answers, Task, task_of

_CHUNK: Final = 1 << 15


class Reference:
    """A fitted model, asked in one thread, and the rows (n, f) that it was trained on.

    `task` is found out where it is not given. `gaps` are columns that may be missing, whether they are in `X` or not. Raises `InputError` where the model has none.
    """

    def __init__(self, model: Estimator, X: Rows, task: Task | None = None, gaps: Sequence[int] = ()) -> None:
        found = task or task_of(model)
        if found is None:
            raise InputError(
                f"{title_of(model)} is not a classifier with probabilities, a regressor or an isolation forest"
            )
        self.task: Task = found
        # Forests add up in whatever order their threads finish; one thread makes the truth one thing.
        self._model = copy.deepcopy(model)
        _, estimator = split(self._model)
        if "n_jobs" in estimator.get_params(deep=False):
            estimator.set_params(n_jobs=1)
        #: Whose answers these are.
        self.library = getattr(estimator, "library", ("scikit-learn", ""))[0]
        self.X = X
        self.gaps = gaps

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
        labels, numbers = zip(*parts, strict=True)
        return Answers(np.concatenate(labels), np.concatenate(numbers))

    def _ask(self, rows: Rows) -> Answers:
        wide = rows.astype(np.float64, copy=False)
        with threadpool_limits(1):  # the chunks are what runs side by side
            return self.task.ask(self._model, wide)
