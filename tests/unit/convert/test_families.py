"""Every family that docs/training.md names ends in a model that answers as scikit-learn does, or in a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from edge_convert.describe import Sheet
from edge_convert.load import load_estimator
from edge_convert.modelcard import Identity, Origin, draft_card
from edge_convert.tables import DataFile, Table
from edge_convert.tasks import task_of
from edge_convert.workflow import model_file
from numpy.typing import NDArray
from sklearn.base import clone

from edge_agent.contract.card import Metrics
from edge_agent.errors import InputError
from edge_agent.model.onnx import Predictor
from tests.unit.convert.families import FAMILIES, rows_of, table
from tests.unit.convert.family import BARE, LABELS, SCORES, Family

ROWS = 1_500
DOCS = Path(__file__).parents[3] / "docs"

CASES = [
    pytest.param(
        family, model, name, id=f"{family.title.split(',')[0].split(':')[0]}-{number}-{name}".replace(" ", "_")
    )
    for family in FAMILIES
    for number, model in enumerate(family.models)
    for name in family.tables
]


def served(
    model: Any, X: NDArray[np.float64], y: NDArray[Any], path: Path, *, bounds: bool = False, rows: int = ROWS
) -> tuple[Any, Predictor]:
    """Return a fitted model, as its file is opened, and what the device opens."""
    skops.io.dump(model, path)
    loaded = load_estimator(path)
    labels = y.astype(str) if hasattr(loaded, "classes_") else None
    names = [f"row {row + 2}" for row in range(len(X))]
    columns = tuple(f"x{column}" for column in range(X.shape[1]))
    source = DataFile(Path("table.csv"), "0" * 64, "plain")
    given = Table(columns, X, labels, None, names, "y", (source,))
    task = task_of(loaded)
    assert task is not None
    sheet = Sheet().bounded(given) if bounds else Sheet()
    draft = draft_card(Identity("family", "1.0.0", "2026-01-31"), given, sheet, task)
    origin = Origin("", {}, Metrics(values={}, method="not measured"))
    content, _ = model_file(loaded, draft, origin, seed=0, say=lambda _: None, rows=rows)
    return loaded, Predictor(content, where="family.onnx")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # what is exported need not be good
@pytest.mark.parametrize(("family", "model", "name"), CASES)
def test_it_is_served_as_scikit_learn_answers_or_refused_with_a_reason(
    family: Family, model: Any, name: str, tmp_path: Path
) -> None:
    X, y = rows_of(name)
    fitted = clone(model).fit(X, y)
    if family.refused:
        with pytest.raises(InputError, match=family.refused):
            served(fitted, X, y, tmp_path / "model.skops")
        return
    loaded, predictor = served(fitted, X, y, tmp_path / "model.skops", bounds=family.bounds)
    answers = [dict(predictor.output.fields(predictor.read(one))) for one in predictor.predict(X.tolist())]
    if family.answers in {LABELS, BARE}:
        assert [answer["label"] for answer in answers] == loaded.predict(X).astype(str).tolist()
        assert ("probabilities" in answers[0]) == (family.answers == LABELS)
    elif family.answers == SCORES:
        assert [answer["label"] == "anomaly" for answer in answers] == (loaded.predict(X) == -1).tolist()
    else:
        assert [answer["value"] for answer in answers] == pytest.approx(np.ravel(loaded.predict(X)).tolist(), rel=1e-9)


@pytest.mark.skipif(not DOCS.is_dir(), reason="the wheel comes without the pages")
def test_the_page_shows_the_same_families() -> None:
    """`python -m tests.unit.convert.families` prints the table."""
    assert table() in (DOCS / "training.md").read_text()
