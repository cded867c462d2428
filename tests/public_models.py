"""`python -m tests.public_models`: exports a model of every family by one command each, and writes docs/public-models.md.

The tables are scikit-learn's iris and diabetes, and small ones made here (`tests.unit.convert.families.rows_of`). It takes half an hour of one
processor: each file is compared on a million generated rows.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import joblib
import numpy as np
import onnx
from click.testing import CliRunner
from edge_convert.classifier import title_of
from edge_convert.cli import main as edge_convert
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - else there is no IterativeImputer
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, SplineTransformer
from sklearn.tree import DecisionTreeClassifier

from tests.unit.convert.families import FAMILIES, rows_of
from tests.unit.convert.foreign import net

PAGE: Final = Path(__file__).parent.parent / "docs" / "public-models.md"
FIXTURES: Final = Path(__file__).parent / "unit" / "convert" / "fixtures" / "foreign"
_SPECIES: Final = ("setosa", "versicolor", "virginica")
_NAMES: Final = ("--label-names", ",".join(_SPECIES))
#: Where the names of tables come from.
_TITLES: Final = {"iris": "iris", "cancer": "breast cancer", "diabetes": "diabetes", "gaps": "iris with gaps"}


class Brought(NamedTuple):
    """A model that somebody brings: what it is called, how its file is saved for rows (n, f) and targets, the table, and options of `export`."""

    family: str
    save: Callable[[Path, Any, Any], Path]
    table: str = "iris"
    options: tuple[str, ...] = ()
    #: Whether the table has names for the labels that the model has numbers for.
    words: bool = False
    #: The model, of a family of several.
    model: str = ""

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"{self.family}; here: {self.model}" if self.model and self.model != self.family else self.family


def pickled(model: Any) -> Callable[[Path, Any, Any], Path]:
    """Return what fits a model and saves it by joblib."""

    def save(directory: Path, rows: Any, y: Any) -> Path:
        path = directory / "model.joblib"
        joblib.dump(model.fit(rows, y), path)
        return path

    return save


def theirs(library: str, name: str, suffix: str, **options: Any) -> Callable[[Path, Any, Any], Path]:
    """Return what fits a model of another library and saves it as that library does."""

    def save(directory: Path, rows: Any, y: Any) -> Path:
        model = getattr(importlib.import_module(library), name)(**options).fit(rows, y)
        path = directory / f"model{suffix}"
        (model.booster_ if library == "lightgbm" else model).save_model(str(path))
        return path

    return save


def converted(model: Any, **options: Any) -> Callable[[Path, Any, Any], Path]:
    """Return what fits a model and has skl2onnx convert it."""

    def save(directory: Path, rows: Any, y: Any) -> Path:
        path = directory / "model.onnx"
        path.write_bytes(
            to_onnx(model.fit(rows, y), rows[:1].astype(np.float32), options=options or None).SerializeToString()
        )
        return path

    return save


def written(model: onnx.ModelProto) -> Callable[[Path, Any, Any], Path]:
    """Return what saves an ONNX file."""

    def save(directory: Path, _rows: Any, _y: Any) -> Path:
        path = directory / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return save


def _of_other_libraries() -> Iterator[Brought]:
    xgb: dict[str, Any] = {"n_estimators": 20, "max_depth": 4, "n_jobs": 1}
    lgbm: dict[str, Any] = {"n_estimators": 20, "num_leaves": 8, "n_jobs": 1, "verbose": -1}
    cat: dict[str, Any] = {"iterations": 20, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    yield Brought(
        "XGBoost: XGBClassifier, its own file", theirs("xgboost", "XGBClassifier", ".json", **xgb), "iris", _NAMES
    )
    yield Brought("XGBoost: XGBRegressor, its own file", theirs("xgboost", "XGBRegressor", ".ubj", **xgb), "diabetes")
    yield Brought(
        "LightGBM: LGBMClassifier, its own file", theirs("lightgbm", "LGBMClassifier", ".txt", **lgbm), "iris", _NAMES
    )
    yield Brought(
        "LightGBM: LGBMRegressor, its own file", theirs("lightgbm", "LGBMRegressor", ".txt", **lgbm), "diabetes"
    )
    yield Brought(
        "CatBoost: CatBoostClassifier, its own file",
        theirs("catboost", "CatBoostClassifier", ".cbm", **cat),
        "iris",
        _NAMES,
    )
    yield Brought(
        "CatBoost: CatBoostRegressor, its own file", theirs("catboost", "CatBoostRegressor", ".cbm", **cat), "diabetes"
    )
    forest = RandomForestClassifier(20, random_state=0)
    yield Brought("ONNX file of skl2onnx, with ZipMap", converted(forest), "iris", _NAMES)
    yield Brought(
        "ONNX file of skl2onnx, an output for each label",
        converted(forest, zipmap="columns"),
        "iris",
        _NAMES,
    )
    yield Brought(
        "ONNX file of onnxmltools (LightGBM)", written(onnx.load(FIXTURES / "lightgbm-text.onnx")), words=True
    )
    yield Brought(
        "ONNX file of PyTorch, logits", written(net()), "iris", ("--scores", "softmax", "--label-names", "a,b,c")
    )


def _refused() -> Iterator[Brought]:
    tree = DecisionTreeClassifier(max_depth=3)
    normal = QuantileTransformer(n_quantiles=20, output_distribution="normal")
    for name, model, table in (
        ("KNNImputer", make_pipeline(KNNImputer(), tree), "iris"),
        ("IterativeImputer", make_pipeline(IterativeImputer(), tree), "iris"),
        ("QuantileTransformer, normal", make_pipeline(normal, tree), "iris"),
        ("SplineTransformer, `linear`", make_pipeline(SplineTransformer(extrapolation="linear"), tree), "iris"),
        ("SplineTransformer, `periodic`", make_pipeline(SplineTransformer(extrapolation="periodic"), tree), "iris"),
        ("GaussianProcessClassifier", GaussianProcessClassifier(), "iris"),
        ("RadiusNeighborsRegressor", RadiusNeighborsRegressor(50.0), "diabetes"),
        ("KNeighbors, of a table in steps of 0.1", KNeighborsClassifier(3), "iris"),
        ("GradientBoosting that asks nothing", GradientBoostingClassifier(min_samples_leaf=100), "iris"),
    ):
        yield Brought(
            name, pickled(model), table, ("--bounds", "data") if name.startswith("KN") and "step" in name else ()
        )
    yield Brought("XGBoost, linear", theirs("xgboost", "XGBClassifier", ".json", booster="gblinear"))
    yield Brought(
        "LightGBM, linear trees",
        theirs("lightgbm", "LGBMClassifier", ".txt", linear_tree=True, n_estimators=5, verbose=-1),
    )


def brought() -> Iterator[Brought]:
    """Yield what docs/training.md says can be exported, and what can't."""
    before = ""
    for family in FAMILIES:
        name = f"{before} {family.title}" if family.title.startswith("…") else family.title
        before = family.title.split(",")[0]
        if family.answers:
            table = family.tables[0]
            bounds = ("--bounds", "data") if family.bounds else ()
            missing = ("--missing", "native") if "gaps" in table else ()
            yield Brought(name, pickled(family.models[0]), table, (*bounds, *missing), model=title_of(family.models[0]))
    yield from _of_other_libraries()
    yield from _refused()


def write(path: Path, rows: Any, y: Any) -> None:
    """Write a table as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{column + 1}" for column in range(rows.shape[1])), "y"])
        cells = np.where(np.isnan(rows), "", rows.astype(object))
        writer.writerows([*row, answer] for row, answer in zip(cells.tolist(), y.tolist(), strict=True))


def export(one: Brought, directory: Path) -> list[str]:
    """Export a model, and return the cells of its line."""
    rows, y = rows_of(one.table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = one.save(directory, rows, y)
    write(directory / "table.csv", rows, np.array(_SPECIES)[y] if one.words or _NAMES[1] in one.options else y)
    options = (*(("--trust-pickle",) if path.suffix == ".joblib" else ()), *one.options)
    command = ["export", path.name, *options, "--data", "table.csv", "--target", "y", "--out", "out.onnx"]
    with contextlib.chdir(directory):
        done = CliRunner().invoke(edge_convert, command, catch_exceptions=False)
    shown = " ".join(("export", path.name, *options))
    size = f"{_TITLES.get(one.table, one.table)}, {rows.shape[0]:,} x {rows.shape[1]}"
    lines = [line for line in done.output.splitlines() if line.strip()]
    if done.exit_code:
        return [one.title, f"`{shown}`", size, "", f"refused: {lines[-1].removeprefix('edge-convert: ')}"]
    proof = next(line for line in lines if line.startswith("verify:"))
    agrees = next((line for line in lines if line.startswith(("model: agrees", "model: is off"))), "")
    return [one.title, f"`{shown}`", size, agrees.removeprefix("model: "), proof.rpartition("): ")[2]]


def page_of(rows: Iterable[Sequence[str]]) -> str:
    """Return the page with these lines."""
    lines = [
        "# A model of every family",
        "",
        "What [training.md](training.md#what-can-be-exported) says can be exported, one command each, and what can't. Written by",
        "`python -m tests.public_models`. `--data table.csv --target y --out out.onnx` is part of each command. `agrees` is how far the model agrees with the",
        "table; the last column compares the file with the library on the table and 1,000,000 generated rows.",
        "",
        "| family | command | table | agrees | proof |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    rows = []
    for one in brought():
        with tempfile.TemporaryDirectory() as directory:
            rows.append(export(one, Path(directory)))
        sys.stdout.write(" | ".join(rows[-1]) + "\n")
        sys.stdout.flush()
    PAGE.write_text(page_of(rows))


if __name__ == "__main__":
    main()
