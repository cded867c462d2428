"""Tables for models of XGBoost, LightGBM and CatBoost, the libraries themselves, and how their files are compared with them."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from edge_convert.boosters import opening
from edge_convert.fold import fold
from edge_convert.reference import Reference
from edge_convert.tasks import task_of
from edge_convert.verify import Verification, verify
from numpy.typing import NDArray

from edge_agent.errors import InputError
from tests.requirements import lacking

ROWS = 20_000
Floats = NDArray[np.float64]


def readings(seed: int = 0, n: int = 1500) -> Floats:
    """Readings as they are sent: positions of six decimals, tenths, seconds since 1970, and whole numbers."""
    rng = np.random.default_rng(seed)
    rows: Floats = np.c_[
        np.round(52.52 + rng.normal(0, 5e-5, n), 6),
        np.round(rng.normal(20, 5, n), 1),
        1_654_733_331 + np.arange(n) * 7.0,
        rng.integers(0, 7, n),
    ]
    return rows


def with_gaps(X: Floats) -> Floats:
    rng = np.random.default_rng(1)
    rows = X.copy()
    rows[rng.random(X.shape) < (0.2, 0.1, 0, 0)] = np.nan
    return rows


def codes(*, gaps: bool) -> tuple[Floats, NDArray[Any]]:
    """A number beside two columns of codes, and what depends on all three."""
    rng = np.random.default_rng(2)
    rows: Floats = np.c_[
        rng.normal(size=1500).round(2), rng.integers(0, 12, 1500), rng.choice([0, 2, 7, 40, 300], 1500)
    ]
    score = rows[:, 0] + 2.0 * np.isin(rows[:, 1], [1, 4, 5, 9]) + 1.5 * np.isin(rows[:, 2], [0, 300])
    if gaps:
        rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows, np.digitize(score, [0.5, 1.5])


X = readings()
_OFFSET = (X[:, 0] - 52.52) * 1e5 + X[:, 1] - 20
TWO = ((X[:, 0] - 52.52) ** 2 * 1e9 + (X[:, 1] > 21) > 1).astype(int)
THREE = (_OFFSET > 0).astype(int) + (X[:, 3] > 4)
NUMBERS = np.round(_OFFSET + X[:, 3] + 30, 2)


def verified(model: Any, X: Floats) -> Verification:
    """Make the graph of a model and compare it with the model's own answers."""
    adopted = opening.adopted(model)
    task = task_of(adopted)
    assert task is not None
    folded = fold(adopted, missing=bool(np.isnan(X).any()))
    return verify(Reference(adopted, X, task), folded, task.graph(folded).SerializeToString(), rows=ROWS)


def require_same(model: Any, X: NDArray[Any] = X, most: float = 2e-7) -> Verification:
    result = verified(model, X)
    assert (result.labels_differ, result.numbers_differ) == (0, 0), result
    assert result.largest_difference <= most
    return result


def require_refused(model: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        verified(model, X)


def library_of(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        lacking(f"{name} can't be imported ({error}): pip install '.[boosters]', sudo apt install libgomp1")


def xgboost() -> Any:
    return library_of("xgboost")


def lightgbm() -> Any:
    return library_of("lightgbm")


SMALL: dict[str, Any] = {"n_estimators": 12, "n_jobs": 1, "verbose": -1}


def catboost() -> Any:
    return library_of("catboost")


QUIET: dict[str, Any] = {"iterations": 12, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
