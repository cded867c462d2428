"""What counts as the truth: the answers of scikit-learn itself.

They are those of the estimator's own methods (`edge_convert.tasks`) on the numbers as the table or the message
has them, in float64 (scikit-learn rounds to float32 by itself where it wants to).
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edge_agent.errors import InputError
from edge_convert.classifier import Estimator, inputs_of, split, title_of
from edge_convert.rows import Rows
from edge_convert.tasks import Answers, Task, task_of
from edge_convert.wording import first_line
from edge_convert.words import Words

_CHUNK: Final = 1 << 15


class Reference:
    """A fitted model, asked in one thread, and the rows (n, f) that it was trained on.

    `task` is found out where it is not given. `gaps` are columns that may be missing, whether they are in `X` or not; `words` those of columns with codes, by their place;
    `bounds` are what the agent takes, least and largest (f,) each. Raises `InputError` where the model has none.
    """

    def __init__(
        self,
        model: Estimator,
        X: Rows,
        task: Task | None = None,
        *,
        gaps: Sequence[int] = (),
        words: Mapping[int, Words] | None = None,
        bounds: tuple[Rows, Rows] | None = None,
    ) -> None:
        found = task or task_of(model)
        if found is None:
            raise InputError(f"{title_of(model)} is not a classifier, a regressor or an isolation forest")
        self.task: Task = found
        self._model = copy.deepcopy(model)
        #: Whose answers these are.
        self.library = getattr(split(model)[1], "library", ("scikit-learn", ""))[0]
        # Steps of scikit-learn find their columns by name; the libraries themselves take them in order.
        self._names = inputs_of(model)[1] if self.library == "scikit-learn" or split(model)[0] else ()
        self._words = words or {}
        self.X = X
        self.gaps = gaps
        self._bounds = bounds

    def within(self, rows: Rows) -> Rows:
        """Return generated rows as far as messages bring them: within the bounds of the features, with the codes of words."""
        if self._bounds is not None:
            rows = np.clip(rows, *self._bounds)
        return self.coded(rows)

    def coded(self, rows: Rows) -> Rows:
        """Return rows with codes in the columns of words; those are changed in place."""
        for place, word in self._words.items():
            codes = np.nan_to_num(np.abs(np.rint(rows[:, place])))
            rows[:, place] = codes % max(2, len(word.categories))
        return rows

    @cached_property
    def training(self) -> Answers:
        """The answers for `X`, computed once: self-test and verification both start from them."""
        return self.answers(self.X)

    def answers(self, rows: Rows) -> Answers:
        """Return what scikit-learn says of `rows` (n, f). Raises `InputError` where it says nothing of some."""
        with warnings.catch_warnings():
            # An estimator that was fitted on a data frame misses the names of its columns, where there is no pandas. Beyond the
            # table powers and exponentials overflow, and encoders meet categories that they do not know; all as intended.
            warnings.simplefilter("ignore")
            chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
            if len(chunks) == 1:  # a pool of threads takes longer to start than a few rows
                return self._ask(chunks[0])
            parts = Parallel(n_jobs=os.cpu_count(), prefer="threads")(delayed(self._ask)(chunk) for chunk in chunks)
        labels, numbers = zip(*parts, strict=True)
        return Answers(np.concatenate(labels), np.concatenate(numbers))

    def tested(self, rows: Rows) -> Answers:
        """As `answers`, for a self-test. What may look at the rows beside a row (`edge_convert.foreign`) is asked about each by itself."""
        if not getattr(split(self._model)[1], "alone", False):
            return self.answers(rows)
        return one_by_one(self.answers, rows)

    def _ask(self, rows: Rows) -> Answers:
        wide = rows.astype(np.float64, copy=False)
        # The chunks are what runs side by side; and forests add up in whatever order their threads finish, so that one thread
        # makes the truth one thing.
        with threadpool_limits(1), parallel_config(backend="sequential"), np.errstate(all="ignore"):
            try:
                return self.task.ask(self._model, frame_of(wide, self._names, self._words))
            except ValueError as error:
                raise InputError(
                    f"{title_of(self._model)}: scikit-learn itself has no answer for some rows that a sensor may send ({first_line(error)}). Give "
                    "the features bounds that rule them out (minimum and maximum, --describe), or --bounds data for those of "
                    "the table; an encoder takes handle_unknown='ignore' or 'use_encoded_value'"
                ) from None


def one_by_one(ask: Callable[[Rows], Answers], rows: Rows) -> Answers:
    """Return the answers of `ask` to each of `rows` (n, f) by itself."""
    labels, numbers = zip(*(ask(rows[place : place + 1]) for place in range(len(rows))), strict=True)
    return Answers(np.concatenate(labels), np.concatenate(numbers))


def frame_of(rows: NDArray[np.float64], names: Sequence[str], words: Mapping[int, Words]) -> Any:
    """Return rows (n, f) as the model was trained on them: with `names` as a data frame, with words in place of codes.

    Raises `InputError` where that takes pandas, and there is none.
    """
    if not names:
        return rows
    try:
        import pandas as pd  # not needed for anything else
    except ImportError:
        if not words:
            return rows
        raise InputError("the model was trained on a data frame with words: pip install pandas") from None
    frame = pd.DataFrame(rows, columns=list(names))
    for place, word in words.items():
        if word.kind == "category":
            codes = np.nan_to_num(rows[:, place]).astype(np.int64)
            frame[names[place]] = np.where(
                np.isnan(rows[:, place]), np.nan, np.array(word.categories, dtype=object)[codes]
            )
        else:
            frame[names[place]] = rows[:, place] != 0
    return frame
