"""Models that tests train with `edge-convert`, and a table to train them on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner


def write_room(path: Path) -> Path:
    """What heats a room: indoor temperature and power depend on the outdoor temperature and on the hour."""
    rng = np.random.default_rng(0)
    outdoor, hour = rng.uniform(-10, 30, 300).round(1), rng.integers(0, 24, 300)
    indoor, power = (18 + outdoor / 10 + hour / 24).round(2), (2000 - 60 * outdoor).round(1)
    rows = (f"{a},{b},{c},{d}" for a, b, c, d in zip(outdoor, hour, indoor, power, strict=True))
    path.write_text("\n".join(["outdoor,hour,indoor,power", *rows, ""]))
    return path


def train(table: Path, out: Path, *options: str) -> Path:
    """Train a model, without a measurement of how good it is; the extra `convert` is needed here alone."""
    from edge_convert.cli import main

    done = CliRunner().invoke(main, ["train", "--data", str(table), "--repeats", "0", "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    return out
