"""The model card of a fitted model: what the table, the sheet and scikit-learn say of it, put together."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from edge_agent.contract import card
from edge_agent.errors import InputError
from edge_convert.describe import ExampleNote, FeatureNote, Sheet
from edge_convert.rows import Rows, around_thresholds
from edge_convert.tables import Table
from edge_convert.verify import reference

#: Self-test rows: this many real ones of each label, and this many on or beside thresholds; see `_self_test`.
_REAL_ROWS: Final = 24
_EDGE_ROWS: Final = 24


@dataclass(frozen=True)
class Identity:
    """What the model is called; `date` is YYYY-MM-DD. Raises `InputError` when that is no name or no version."""

    name: str
    version: str
    date: str
    description: str = ""

    def __post_init__(self) -> None:
        """Look at it before anything is computed."""
        for kind, value, what in (
            (
                card.ModelName,
                self.name,
                "a model's name is up to 64 letters, digits, '.', '_' and '-'; choose one by --name",
            ),
            (card.Version, self.version, "a version is one like 1.0.0 (SemVer); choose one by --version"),
        ):
            try:
                TypeAdapter(kind).validate_python(value)
            except ValidationError:
                raise InputError(f"{value[:80]!a}: {what}") from None


def build_card(
    identity: Identity,
    model: Any,
    thresholds: list[NDArray[np.float64]],
    table: Table,
    sheet: Sheet,
    *,
    labels: list[str],
    parameters: Mapping[str, Any],
    metrics: card.Metrics,
    seed: int,
) -> card.ModelCard:
    """Return the card of `model`, which was trained on (or, for `export`, is described by) `table`.

    `thresholds` are those of each feature, in its own units (empty where there are none). Raises `InputError` if the
    parts do not make a valid card, such as an example outside of its bounds.
    """
    with _explained():
        features = _features(table, sheet)
        return _assembled(
            identity,
            table,
            sheet,
            features,
            labels=labels,
            examples=_examples(model, table, sheet),
            self_test=_self_test(model, thresholds, table, features, seed),
            estimator=_title(model),
            parameters=parameters,
            metrics=metrics,
        )


def check_card(identity: Identity, table: Table, sheet: Sheet, labels: list[str]) -> None:
    """Raise `InputError` for all that would be wrong with the card of whatever model: nobody should wait for one to hear it."""
    with _explained():
        features = _features(table, sheet)
        typical, certain = tuple(feature.example for feature in features), (1.0, *(0.0 for _ in labels[1:]))
        _assembled(
            identity,
            table,
            sheet,
            features,
            labels=labels,
            examples=tuple(
                card.Example(name=note.name, features=_row(note, table), label=labels[0]) for note in sheet.examples
            ),
            self_test=card.SelfTest(rows=(typical,), labels=(labels[0],), probabilities=(certain,)),
            estimator="",
            parameters={},
            metrics=card.Metrics(values={}, method=""),
        )


def _assembled(
    identity: Identity,
    table: Table,
    sheet: Sheet,
    features: tuple[card.Feature, ...],
    *,
    labels: list[str],
    examples: tuple[card.Example, ...],
    self_test: card.SelfTest,
    estimator: str,
    parameters: Mapping[str, Any],
    metrics: card.Metrics,
) -> card.ModelCard:
    return card.ModelCard(
        format=card.FORMAT,
        name=identity.name,
        version=identity.version,
        description=identity.description or sheet.description,
        features=features,
        labels=tuple(labels),
        examples=examples,
        training=card.Training(
            datasets=tuple(_dataset(table, sheet)),
            rows=len(table.X),
            class_counts=table.class_counts,
            estimator=estimator,
            parameters={name: _plain(value) for name, value in sorted(parameters.items())},
            libraries={"python": platform.python_version()}
            | {name: metadata.version(name) for name in ("numpy", "onnx", "scikit-learn", "skl2onnx")},
            date=identity.date,
        ),
        metrics=metrics,
        self_test=self_test,
    )


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"the model card is not valid: {place}{': ' if place else ''}{first['msg']}") from None


def _features(table: Table, sheet: Sheet) -> tuple[card.Feature, ...]:
    quantiles = np.quantile(table.X.astype(np.float64), card.QUANTILE_LEVELS, axis=0)
    features = []
    for column, name in enumerate(table.feature_names):
        note = sheet.features.get(name, FeatureNote())
        _require_within(note, name, table, column)
        example = sheet.examples[0].features[name] if sheet.examples else quantiles[4, column]
        features.append(
            card.Feature(
                name=name,
                unit=note.unit,
                description=note.description,
                minimum=note.minimum,
                maximum=note.maximum,
                # Interpolation may put two equal quantiles out of order in the last bit.
                quantiles=tuple(_short(value) for value in np.maximum.accumulate(quantiles[:, column])),
                example=_short(example),
            )
        )
    return tuple(features)


def _require_within(note: FeatureNote, name: str, table: Table, column: int) -> None:
    """Bounds that the training data itself breaks are wrong, whatever the sheet says."""
    values = table.X[:, column]
    low = -np.inf if note.minimum is None else note.minimum
    high = np.inf if note.maximum is None else note.maximum
    outside = np.flatnonzero((values < np.float32(low)) | (values > np.float32(high)))
    if len(outside):
        row = outside[0]
        raise InputError(
            f"{table.sources[0].path}: column {name!r}, {table.row_names[row]}: {values[row]:g} is outside the bounds "
            f"{low:g} to {high:g} of the feature sheet"
        )


def _short(value: float) -> float:
    """A float32 as the shortest decimal that reads back as the same float32."""
    return float(str(np.float32(value)))


def _examples(model: Any, table: Table, sheet: Sheet) -> tuple[card.Example, ...]:
    if not sheet.examples:
        return ()
    rows = np.array([_row(note, table) for note in sheet.examples], dtype=np.float32)
    labels, _ = reference(model, rows)
    return tuple(
        card.Example(name=note.name, features=tuple(map(_short, row)), label=str(label))
        for note, row, label in zip(sheet.examples, rows, labels, strict=True)
    )


def _row(note: ExampleNote, table: Table) -> tuple[float, ...]:
    return tuple(note.features[name] for name in table.feature_names)


def _self_test(
    model: Any,
    thresholds: list[NDArray[np.float64]],
    table: Table,
    features: tuple[card.Feature, ...],
    seed: int,
) -> card.SelfTest:
    """Real rows of every label in turn, and rows on thresholds and beside them, with scikit-learn's own answers."""
    rng = np.random.default_rng(seed)
    answers, _ = reference(model, table.X)
    by_label = [rng.permutation(np.flatnonzero(answers == label)) for label in np.unique(answers)]
    each = -(-_REAL_ROWS // len(by_label))
    real = table.X[np.concatenate([rows[:each] for rows in by_label])]
    edges = around_thresholds(table.X, thresholds, 2 * _EDGE_ROWS, rng)
    rows = _within(np.concatenate([real, edges.X[::2]]), features)
    labels, probabilities = reference(model, rows)
    return card.SelfTest(
        rows=tuple(tuple(map(float, row)) for row in rows),
        labels=tuple(map(str, labels)),
        probabilities=tuple(tuple(map(float, row)) for row in probabilities),
    )


def _within(rows: Rows, features: tuple[card.Feature, ...]) -> Rows:
    limit = card.FLOAT32_MAX
    low = np.array([-limit if f.minimum is None else f.minimum for f in features], dtype=np.float32)
    high = np.array([limit if f.maximum is None else f.maximum for f in features], dtype=np.float32)
    return np.clip(rows, low, high)


def _dataset(table: Table, sheet: Sheet) -> list[card.Dataset]:
    datasets = []
    for source in table.sources:
        note = sheet.dataset(source)
        if note is None:
            datasets.append(card.Dataset(name=source.path.name, sha256=source.sha256))
        else:
            datasets.append(
                card.Dataset(
                    name=f"{note.name}: {source.path.name}",
                    sha256=source.sha256,
                    source=note.source,
                    licence=note.licence,
                    attribution=note.attribution,
                )
            )
    return datasets


def _title(model: Any) -> str:
    steps = [step for _, step in model.steps] if hasattr(model, "steps") else [model]
    return " > ".join(type(step).__name__ for step in steps)


def _plain(value: Any) -> str | int | float | bool | None:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
