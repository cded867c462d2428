"""What is held out beside random rows: groups, and what is later; and the warning where nothing is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edge_convert.estimators import KINDS
from edge_convert.evaluate import evaluate
from edge_convert.holdouts import GROUPS, LATER, RANDOM, flattery, holdouts
from edge_convert.moments import anew, read_moments
from edge_convert.regressors import KINDS as NUMBERS
from edge_convert.residuals import evaluate_numbers
from edge_convert.results import gap_of
from edge_convert.tables import read_table

from tests.unit.convert.conftest import Run, make_table


def _drifting(path: Path, days: int = 6, each: int = 40) -> Path:
    """A room whose level drifts from day to day: who knows the day knows the label."""
    rng = np.random.default_rng(0)
    lines = ["when,day,level,noise,state"]
    for day in range(days):
        level = day * 10 + np.cumsum(rng.normal(0, 0.05, each))
        state = rng.permutation(["busy", "calm"] * (each // 2)) if day % 2 else ["busy", "calm"] * (each // 2)
        for row in range(each):
            sharp = 1 if (state[row] == "busy") == (day < days // 2) else -1
            lines.append(
                f"{day + 1}/02/2015 {row // 4:02}:{row % 4 * 15:02},d{day},{level[row] + sharp:.3f},{rng.normal():.3f},{state[row]}"
            )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("stratify", [True, False])
def test_no_group_is_on_both_sides_and_nothing_later_is_learned_from(stratify: bool) -> None:
    rng = np.random.default_rng(1)
    groups, times = rng.integers(0, 7, 240).astype(str), rng.integers(0, 60, 240).astype(float)
    table = replace(make_table(), groups=("device", groups), times=("when", times))
    ways = {way.name: way for way in holdouts(table, repeats=1, folds=10, seed=0, stratify=stratify)}
    assert list(ways) == [RANDOM, "blocks of ids", GROUPS, LATER]
    (by_group,), (later,) = ways[GROUPS].repeats, ways[LATER].repeats
    assert len(by_group) == 7
    for train, test in by_group:
        assert not set(groups[train]) & set(groups[test])
    assert sorted(np.concatenate([test for _, test in by_group])) == list(range(240))
    for train, test in later:
        assert times[train].max() < times[test].min()
    assert [len(train) for train, _ in later] == sorted(len(train) for train, _ in later)
    held_out = np.concatenate([test for _, test in later])
    assert len(held_out) == len(set(held_out.tolist()))
    assert 110 <= len(held_out) <= 130


def test_one_time_for_most_rows() -> None:
    times = np.array([0.0] * 200 + [1.0] * 40)
    *_, later = holdouts(replace(make_table(), times=("t", times)), repeats=1, folds=5, seed=0, stratify=True)
    assert [(len(train), len(test)) for train, test in later.repeats[0]] == [(200, 40)]


def test_figures_by_group_and_by_time_on_the_card_and_the_report(run: Run, tmp_path: Path) -> None:
    out, metrics, report = tmp_path / "m.onnx", tmp_path / "m.json", tmp_path / "m.html"
    done = run(
        *("train", "--data", _drifting(tmp_path / "t.csv"), "--target", "state", "--time", "when", "--groups", "day"),
        *("--folds", "3", "--jobs", "1", "--out", out, "--metrics", metrics, "--report", report),
    )
    assert done.exit_code == 0, done.output
    assert "2 features" in done.output
    assert "rows are like the row before them" not in done.output
    assert "the groups of 'day' held out in 3 folds, none on both sides" in done.output
    assert "rows with a later 'when': the later half in 3 steps" in done.output
    from edge_convert.modelfile import read_model

    figures = read_model(out)[1].metrics
    assert figures.values["accuracy"] > figures.values["groups accuracy"]
    assert figures.values["accuracy"] > figures.values["later accuracy"] + 0.2
    assert "'groups': the groups of 'day'" in figures.method
    assert set(json.loads(metrics.read_text())["evaluation"]) == {RANDOM, GROUPS, LATER}
    assert "rows with a later" in report.read_text()
    assert "note:  accuracy is" in done.output


def test_a_regression_by_group_and_by_time() -> None:
    table = replace(make_table(), ids=None, groups=("g", np.repeat(list("abcd"), 60)), times=("t", np.arange(240.0)))
    found = evaluate_numbers(
        table,
        table.X[:, :1],
        ("level",),
        NUMBERS["tree"],
        repeats=1,
        folds=3,
        seed=0,
        jobs=1,
        progress=lambda _done, _total: None,
    )
    assert set(found.to_metrics().values) >= {"mae", "groups mae", "later r2", "later mae of the mean"}
    assert found.schemes[LATER].repeats[0].shape == (120, 1)


@pytest.mark.parametrize("outputs", [("up",), ("up", "flat")])
def test_numbers_that_rise_with_time_are_told(outputs: tuple[str, ...]) -> None:
    """A tree knows no number beyond those that it learned from: random rows hide that."""
    rng, times = np.random.default_rng(0), np.arange(240.0)
    Y = np.stack([times, rng.normal(size=240)], axis=1)[:, : len(outputs)]
    table = replace(make_table(), X=np.stack([times, times, times], axis=1), ids=None, times=("t", times))
    how = {"repeats": 1, "folds": 3, "seed": 0, "jobs": 1}
    found = evaluate_numbers(table, Y, outputs, NUMBERS["tree"], progress=lambda _done, _total: None, **how)
    said = gap_of(found.schemes)
    assert said.startswith("mae up is " if len(outputs) > 1 else "mae is ")
    assert said.endswith(" on random rows: expect the former of new messages")
    assert "rmse" not in said
    assert gap_of({RANDOM: found.random}) == ""


def test_later_rows_of_one_label_have_no_roc() -> None:
    labels = np.array(["calm", "loud"] * 60 + ["calm"] * 120)
    table = replace(make_table(), labels=labels, ids=None, times=("t", np.arange(240.0)))
    found = evaluate(table, KINDS["tree"], repeats=1, folds=3, seed=0, jobs=1, progress=lambda _done, _total: None)
    assert "roc auc" not in found.schemes[LATER].figures
    assert "later roc auc" not in found.to_metrics().values


def test_a_label_that_is_not_held_out_lowers_no_figure() -> None:
    """Of three labels one has no row in the later half: it is told perfectly, and so are the other two."""
    labels = np.array(["calm", "loud", "odd"] * 40 + ["calm", "calm", "calm", "loud"] * 30)
    X = np.stack([np.searchsorted(["calm", "loud", "odd"], labels), np.zeros(240), np.zeros(240)], axis=1)
    table = replace(make_table(), X=X * 1.0, labels=labels, ids=None, times=("t", np.arange(240.0)))
    found = evaluate(table, KINDS["tree"], repeats=1, folds=3, seed=0, jobs=1, progress=lambda _done, _total: None)
    figures = {name: mean for name, (mean, _) in found.schemes[LATER].figures.items()}
    assert (figures["accuracy"], figures["macro f1"], figures["majority share"]) == (1, 1, 0.75)
    assert "f1 odd" not in figures
    values = found.to_metrics().values
    assert values["f1 odd"] == 1
    assert values["later majority share"] == 0.75 > values["majority share"]


@pytest.mark.parametrize("option", ["--time", "--groups"])
def test_a_column_that_tells_nothing(run: Run, tmp_path: Path, option: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,same,gap,y\n" + "".join(f"{n},1,{n or ''},{'uv'[n % 2]}\n" for n in range(30)))
    command = ("train", "--data", path, "--target", "y", "--out", tmp_path / "m.onnx", option)
    assert "so none can be held out" in run(*command, "same", "--drop", "gap").stderr
    assert "column 'gap' lacks the" in run(*command, "gap").stderr
    assert f"column 'y' is the target, and so it can't be {option}" in run(*command, "y").stderr
    assert "no column 'z'" in run(*command, "z").stderr
    assert "holds the" in run(*command, "a", "--columns", "a,same").stderr


def test_a_table_in_the_order_of_time_is_told(tmp_path: Path) -> None:
    path = _drifting(tmp_path / "t.csv")
    said = flattery(read_table(path, target="state", drop=["day", "noise"]), None)
    assert "--time COL" in said
    assert "--groups COL" in said
    assert flattery(read_table(path, target="state", drop=["day", "noise"], time="when"), None) == ""
    # A table that is sorted by its labels alone is none.
    flowers = make_table(300)
    assert flowers.labels is not None
    order = np.argsort(flowers.labels, kind="stable")
    assert flattery(replace(flowers.take(order), ids=None), flowers.labels[order]) == ""


def test_a_clock_among_the_features_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("ts,a,y\n" + "".join(f"{1.5 * n * n},{n % 7},{'uv'[n % 2]}\n" for n in range(30)))
    (said,) = read_table(path, target="y").strange
    assert "column 'ts' rises from row to row, as a clock does (or the table is sorted by it)" in said
    assert "--time 'ts'" in said
    assert read_table(path, target="y", time="ts").feature_names == ("a",)


@pytest.mark.parametrize(
    "cells",
    [
        ["2015-02-04 17:51:00", "2015-02-04 17:51:59.5", "2015-02-05"],
        ["2015-02-04T17:51Z", "2015-02-04T20:51+02:00", "2015-02-04T16:51-03:00"],
        ["04/02/2015", "05/02/2015", "13/02/2015"],
        ["2/04/2015", "2/05/2015", "2/13/2015"],
        ["9/03/2004", "10/03/2004", "11/03/2004"],
        ["Jan 31, 2015", "Feb 1, 2015", "March 3 2015"],
        ["1-Feb-68", "2-Feb-68", "3-Feb-68"],
        ["9/3/04 11:59 AM", "9/3/04 12:00 PM", "10/3/04 12:00 AM"],
        ["1", "2.5", "1e3"],
    ],
)
def test_times_are_read_in_their_order(cells: list[str]) -> None:
    assert (np.diff(read_moments(cells)) > 0).all()
    assert np.array_equal(read_moments(cells[::-1]), read_moments(cells)[::-1])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["02/03/2015", "01/04/2015", "03/02/2015"], "may have the day first or the month first"),
        (["10:05", "10:06"], "no times that can be put in order"),
        (["2015-02-31", "2015-02-03"], "no times that can be put in order"),
        (["soon", "later"], "no times that can be put in order"),
        (["2015-02-04", ""], "lacks the time of some rows"),
    ],
)
def test_times_that_have_no_order(cells: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_moments(cells)


@pytest.mark.parametrize("write", [lambda n: str(n % 24), lambda n: str(23 - n % 24), lambda n: f"{n % 24 / 24:.3f}"])
def test_hours_that_are_numbers_are_told(tmp_path: Path, write: Callable[[int], str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("hour,a,y\n" + "".join(f"{write(n)},{n * 7 % 5},{'uv'[n % 2]}\n" for n in range(96)))
    (said,) = read_table(path, target="y", time="hour").strange
    assert said.startswith("column 'hour' begins anew 3 times, as the hours of a day do")


def test_numbers_that_fall_for_other_reasons_are_not_told() -> None:
    rng, rising = np.random.default_rng(0), np.arange(240.0)
    late = rising.copy()
    late[[20, 60, 100]] -= 5
    for times in (rising, rising[::-1], late, rng.permutation(rising), np.tile(np.arange(120.0), 2), np.zeros(240)):
        assert anew("t", ["1"], times) == ()
    assert anew("t", ["2026-01-31"], np.tile(np.arange(24.0), 10)) == ()


def test_groups_with_the_same_number_are_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("device,a,y\n" + "".join(f"{['1', '1.0', '2'][n % 3]},{n},{'uv'[n % 2]}\n" for n in range(12)))
    table = read_table(path, target="y", groups="device")
    assert table.groups is not None
    assert sorted(set(table.groups[1].tolist())) == ["1", "2"]
    assert "column 'device': '1' and '1.0' are the same number: one group, '1'" in table.left_out


def test_dates_as_ids_in_no_order_are_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("day,a,y\n2/3/2026,1,u\n1/4/2026,2,v\n3/2/2026,3,u\n")
    (said,) = read_table(path, target="y", id_column="day").left_out
    assert said.startswith("column 'day' may have the day first or the month first")
    assert said.endswith("Its ids are in the order of their text now, and so are blocks of them")


def test_dates_as_ids_are_in_the_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("day,a,y\n28/03/2004,1,u\n9/04/2004,2,v\n10/04/2004,3,u\n")
    ids = read_table(path, target="y", id_column="day").ids
    assert ids is not None
    assert np.argsort(ids).tolist() == [0, 1, 2]
