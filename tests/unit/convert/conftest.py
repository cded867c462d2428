"""Small tables, and the command line run inside this process."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

# The suite at the old end of the version range runs on a device's installation: there is no workstation then.
pytest.importorskip("sklearn", reason="needs the extra `convert`")
pytest.importorskip("skl2onnx", reason="needs the extra `convert`")

from click.testing import CliRunner, Result
from edge_convert.cli import main
from edge_convert.tables import DataFile, Table

FIXTURES = Path(__file__).parent / "fixtures"

Run = Callable[..., Result]


def make_table(n: int = 240, labels: Sequence[str] = ("calm", "loud"), seed: int = 0) -> Table:
    """A table that a tree can learn, but not by heart: labels depend on two of three features, with some noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32) * np.array([1, 10, 0.01], dtype=np.float32)
    score = x[:, 0] + x[:, 1] / 10 + rng.normal(scale=0.4, size=n)
    bounds = np.quantile(score, np.linspace(0, 1, len(labels) + 1)[1:-1])
    return Table(
        feature_names=("level", "pitch", "noise"),
        X=x.astype(np.float64),
        labels=np.array(labels)[np.searchsorted(bounds, score)],
        ids=np.arange(n),
        row_names=[f"row {row + 2}" for row in range(n)],
        label_column="mood",
        sources=(DataFile(Path("table.csv"), "0" * 64, "plain"),),
    )


def write_csv(path: Path, table: Table) -> Path:
    assert table.labels is not None
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*table.feature_names, table.label_column])
        writer.writerows([*map(float, row), label] for row, label in zip(table.X, table.labels, strict=True))
    return path


@pytest.fixture
def run() -> Run:
    """`edge-convert ARGUMENTS`."""

    def invoke(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "table.csv", make_table())
