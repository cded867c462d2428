"""What `export` says of a table that does not answer as the estimator does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from edge_convert.agreement import agreement
from edge_convert.tasks import Answers, Classification, Regression, quantities_of

from tests.unit.convert.conftest import make_table

TABLE = replace(make_table(labels=("calm", "loud")), label_column="mood")
ROWS = len(TABLE.X)
NOTHING = np.empty((ROWS, 0))


def _of_labels(labels: list[str]) -> list[str]:
    return agreement(TABLE, Classification(("calm", "loud")), Answers(np.array(labels), NOTHING))


def test_labels_that_agree() -> None:
    assert _of_labels(TABLE.truth.tolist()) == [f"model: agrees with column 'mood' in 100.0% of {ROWS:,} rows"]


def test_names_of_labels_in_the_wrong_order_are_told() -> None:
    said = _of_labels([{"calm": "loud", "loud": "calm"}[label] for label in TABLE.truth.tolist()])
    assert said[0].startswith("model: agrees with column 'mood' in 0.0%")
    assert "for every row would agree in" in said[1]
    assert "is it the table that the estimator was trained on" in said[1]


def test_labels_of_another_table_are_told() -> None:
    answers = Answers(np.full(ROWS, "0"), NOTHING)
    said = agreement(TABLE, Classification(("0", "1")), answers)
    assert said == ["note:  none of the labels in column 'mood' (calm, loud) is one of the estimator's (0, 1)"]


def test_numbers() -> None:
    truth = np.arange(float(ROWS))
    table = replace(TABLE, label_column="a", labels=truth.astype(str), others={"b": (2 * truth).astype(str)})
    task = Regression(quantities_of(["a", "b"], []))
    said = agreement(table, task, Answers(np.full(ROWS, ""), np.c_[truth + 0.5, -2 * truth]))
    assert said[0] == "model: is off from column 'a' by 0.5 on average"
    assert said[1].startswith("model: is off from column 'b' by ")
    assert said[2].startswith("note:  the mean of the column for every row would be off by ")
    assert len(said) == 3


def test_a_table_without_targets_says_nothing() -> None:
    assert agreement(replace(TABLE, labels=None), Classification(("a", "b")), Answers(np.array(["a"]), NOTHING)) == []
