"""The report: what a data scientist asks of it, for 2, 7 and 22 labels and for numbers."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from edge_convert import insight, plots
from edge_convert.describe import FeatureNote, Sheet
from edge_convert.estimators import KINDS, fit
from edge_convert.evaluate import evaluate
from edge_convert.modelcard import Identity
from edge_convert.regressors import KINDS as NUMBERS
from edge_convert.regressors import fit_numbers
from edge_convert.report import Report, render
from edge_convert.residuals import evaluate_numbers
from edge_convert.tables import Table
from edge_convert.treeplot import depth_of, draw_tree
from edge_convert.trees import trees_of
from sklearn.tree import DecisionTreeClassifier

from edge_agent.contract.card import Quantity
from tests.unit.convert.conftest import make_table

SHEET = Sheet(features={"pitch": FeatureNote(unit="Hz")})


def _page(table: Table, command: str = "edge-convert train --data 'my table.csv'") -> str:
    how = {"repeats": 1, "folds": 2, "seed": 0, "jobs": 1, "progress": lambda _done, _total: None}
    kind = KINDS["tree"]
    model, parameters = fit(kind, table.X, table.truth, 0)
    found = evaluate(table, kind, **how)  # type: ignore[arg-type]
    identity = Identity("mood", "1.0.0", "2026-01-31")
    return render(
        Report(table, SHEET, identity, kind.title, model, parameters, found, "0 labels differ", command=command)
    )


def _cells(page: str, first: str) -> list[str]:
    """The cells of the row that begins with this."""
    row = re.search(rf"<tr[^>]*><td>{re.escape(first)}</td>(.*?)</tr>", page)
    assert row, first
    return re.findall(r"<td>(.*?)</td>", row[1])


@pytest.mark.parametrize("labels", [2, 7, 22])
def test_the_report_of_a_classification(labels: int) -> None:
    names = [f"state{number:02}" for number in range(labels)]
    table = make_table(22 * 20, labels=names)
    table = replace(
        table, ids=None, groups=("device", np.repeat(list("abcd"), 110)), times=("when", 1.4e9 + 600 * np.arange(440.0))
    )
    page = _page(table)
    assert "2026-01-31; Python" in page
    assert "scikit-learn 1." in page
    assert "<pre>edge-convert train --data &#x27;my table.csv&#x27;</pre>" in page
    assert _cells(page, "pitch")[:2] == ["Hz", "0"]
    assert len(_cells(page, "pitch")) == 9
    *_, precision, recall, _f1 = _cells(page.split("By label")[1], "state01")
    assert float(precision) <= 1
    assert float(recall) <= 1
    for caption in (
        "Confusion matrix",
        "ROC",
        "Precision and recall",
        "Calibration",
        "Importances",
        "Learning curve",
        "By label",
    ):
        assert caption in page
    assert "By device" in page
    assert "By when" in page
    assert "<td>-</td>" not in page
    for baseline in ("always &#x27;state", "a single question"):
        assert baseline in page
    assert 50_000 < len(page) < 1_500_000


def test_a_label_called_1_is_no_number() -> None:
    table = make_table(200, labels=("0", "1"))
    page = _page(replace(table, ids=None))
    assert "are those of the label “0”" in page
    assert "score are about" not in page


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_of_few_rows_there_is_no_learning_curve(rows: int) -> None:
    table = make_table(rows)
    model, _ = fit_numbers(NUMBERS["tree"], table.X, table.X[:, :1], 0)
    assert len(insight.learning_curve(model, table.X, table.X[:, 0]).sizes) == 0


def test_the_report_of_numbers() -> None:
    table = replace(make_table(200), ids=None, groups=("device", np.repeat(list("abcd"), 50)))
    X = table.X[:, 1:]
    table = replace(table, X=X, feature_names=table.feature_names[1:], labels=make_table(200).X[:, 0].astype(str))
    Y = make_table(200).X[:, :1]
    model, parameters = fit_numbers(NUMBERS["tree"], X, Y, 0)
    found = evaluate_numbers(
        table, Y, ("level",), NUMBERS["tree"], repeats=1, folds=2, seed=0, jobs=1, progress=lambda _d, _t: None
    )
    identity, quantity = Identity("level", "1.0.0", "2026-01-31"), Quantity(name="level", unit="dB")
    page = render(Report(table, SHEET, identity, "tree", model, parameters, found, "0 values differ", (quantity,)))
    for text in (
        "level (dB): a single question",
        "always answering the mean",
        "Learning curve",
        "By device",
        "residuals",
    ):
        assert text in page


def test_baselines_have_all_figures() -> None:
    table = make_table(200, labels=("a", "b", "c"))
    found = evaluate(table, KINDS["tree"], repeats=1, folds=2, seed=0, jobs=1, progress=lambda _done, _total: None)
    for figures in insight.baselines(table, found).values():
        assert set(figures) == set(found.random.figures)
    assert next(iter(insight.baselines(table, found).values()))["roc auc"] == 0.5


def test_intervals_of_shares() -> None:
    low, high = plots.wilson(np.array([0.5, 1.0, 0.0]), np.array([100, 10, 10]))
    assert low.round(3).tolist() == [0.404, 0.722, 0.0]
    assert high.round(3).tolist() == [0.596, 1.0, 0.278]


def test_a_large_tree_is_drawn_as_far_as_a_page_goes() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 3))
    (large,) = trees_of(DecisionTreeClassifier(random_state=0).fit(X, rng.integers(0, 2, 4000).astype(str))) or []
    depth = depth_of(large, 12)
    drawn = draw_tree(large, ("a", "b", "c"), ("u", "v"), depth=depth)
    assert 20 < drawn.count("<text") < 320
    assert re.search(r"… [\d,]+ leaves", drawn)
    (hundred,) = (
        trees_of(DecisionTreeClassifier(max_leaf_nodes=100, random_state=0).fit(X, X[:, 0] > rng.normal(size=4000)))
        or []
    )
    assert draw_tree(hundred, ("a", "b", "c"), ("u", "v"), depth=99).count("<text") == 199
    # Deeper than Python calls functions.
    steps = np.arange(3000.0)[:, np.newaxis]
    (deep,) = trees_of(DecisionTreeClassifier(max_features=1).fit(steps, (np.arange(3000) % 2).astype(str))) or []
    assert draw_tree(deep, ("a",), ("0", "1"), depth=depth_of(deep, 12))


def test_many_labels_have_curves_for_the_worst() -> None:
    table = replace(make_table(22 * 12, labels=[f"state{n:02}" for n in range(22)]), ids=None)
    found = evaluate(table, KINDS["tree"], repeats=1, folds=2, seed=0, jobs=1, progress=lambda _done, _total: None)
    assert plots.roc(found, found.random).startswith("<svg")
    assert plots.precision_recall(found, found.random).startswith("<svg")
    assert plots.confusion(found.random, found.labels).startswith("<svg")
