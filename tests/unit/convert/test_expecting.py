"""What a card says that a device is to expect: held-out answers where there are any, those of the model itself elsewhere, shares of words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skl2onnx", reason="needs the extra `convert`")

from edge_convert.modelcard import Identity
from edge_convert.tables import TableChoice
from edge_convert.workflow import Training, train

from edge_agent.contract.card import ModelCard
from edge_agent.model.drift import Watch
from edge_agent.model.library import Library
from edge_agent.model.reference import answers_of, columns_of


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("table") / "rooms.csv"
    lines = ["warm,window,power,room,good"]
    for _ in range(400):
        warm, opened, room = (
            source.normal(20, 3),
            source.random() < 0.25,
            source.choice(["hall", "attic"], p=[0.8, 0.2]),
        )
        cell = "" if source.random() < 0.1 else f"{warm:.1f}"
        good = "yes" if 18 < warm < 23 and source.random() < 0.9 else "no"
        lines.append(f"{cell},{'open' if opened else 'closed'},{2 * warm + source.normal():.3f},{room},{good}")
    path.write_text("\n".join(lines) + "\n")
    return path


def trained(table: Path, out: Path, *, target: str, drop: str, repeats: int) -> ModelCard:
    training = Training("tree", repeats, 2, 1, fixed={"max_depth": 3, "min_samples_leaf": 5})
    choice = TableChoice(table, target=target, drop=(drop,), missing="native")
    train(choice, None, Identity("rooms", "1.0.0", "2026-11-27"), training, out, seed=0, say=lambda _: None)
    return Library().load(str(out)).card


def test_labels_and_confidence_are_those_of_rows_that_were_held_out(table: Path, tmp_path: Path) -> None:
    card = trained(table, tmp_path / "a.onnx", target="good", drop="power", repeats=1)
    assert card.expected is not None
    assert card.expected.held_out
    assert card.expected.rows == sum(card.expected.labels.values()) == 400
    assert 0.5 < card.expected.means["confidence"] < 1.0
    by_name = {one.name: one for one in card.features}
    assert by_name["window"].shares == pytest.approx((0.75, 0.25), abs=0.06)
    assert sum(by_name["room"].shares) == pytest.approx(1.0)
    assert by_name["warm"].lacking == pytest.approx(0.1, abs=0.05)
    assert by_name["warm"].shares == ()


def test_values_are_those_of_the_model_itself(table: Path, tmp_path: Path) -> None:
    card = trained(table, tmp_path / "b.onnx", target="power", drop="good", repeats=0)
    assert card.expected is not None
    assert not card.expected.held_out
    (column,) = answers_of(card)
    assert column.quantiles[0] < column.quantiles[4] < column.quantiles[-1]
    watch = Watch(columns_of(card))
    assert len(watch.layout.columns) == len(card.features) + 1
