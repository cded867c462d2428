"""The model card of a fitted model: what the table, the sheet and scikit-learn say of it, put together."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from edge_agent.contract import card
from edge_agent.contract.expected import Expected
from edge_agent.contract.trees import Trees
from edge_agent.errors import InputError
from edge_convert.describe import ExampleNote, FeatureNote, Sheet
from edge_convert.fold import Folded
from edge_convert.reference import Reference
from edge_convert.rows import Rows, around_thresholds
from edge_convert.tables import Table
from edge_convert.tasks import Answers, Classification, Task

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
                "a model's name is up to 64 letters, digits, '.', '_' and '-'; choose one with --name",
            ),
            (card.Version, self.version, "a version is one like 1.0.0 (SemVer); choose one with --version"),
        ):
            try:
                TypeAdapter(kind).validate_python(value)
            except ValidationError:
                raise InputError(f"{value[:80]!a}: {what}") from None


@dataclass(frozen=True)
class Draft:
    """What is known of a model's card before there is a model."""

    identity: Identity
    table: Table
    sheet: Sheet
    task: Task
    features: tuple[card.Feature, ...]


@dataclass(frozen=True)
class Origin:
    """Where a model comes from: what it is made of, with which parameters, and how good it was found to be."""

    estimator: str
    parameters: Mapping[str, Any]
    metrics: card.Metrics
    #: Versions of libraries other than scikit-learn that it was opened with.
    libraries: Mapping[str, str] = field(default_factory=dict)
    #: What it is expected to answer on a device.
    expected: Callable[[Reference], Expected | None] = lambda _reference: None


def draft_card(identity: Identity, table: Table, sheet: Sheet, task: Task) -> Draft:
    """Return the draft of a card. Raises `InputError` for all that would be wrong with the card of whatever model: nobody
    should wait for one to hear it.
    """
    with _explained():
        draft = Draft(identity, table, sheet, task, _features(table, sheet))
        typical, possible = tuple(feature.example for feature in draft.features), _possible(task)
        _assembled(
            draft,
            Origin("", {}, card.Metrics(values={}, method="")),
            examples=tuple(
                card.Example(name=note.name, features=_row(note, table), **task.example(possible))
                for note in sheet.examples
            ),
            self_test=card.SelfTest(rows=(typical,), **task.self_test(possible)),
        )
    return draft


def _possible(task: Task) -> Answers:
    """Return an answer that some model of this task might give: the first of the labels, and certain of it."""
    first = task.on_card().get("labels", (card.NORMAL,))[0] if task.comparison.has_labels else ""
    return Answers(np.array([first]), np.array([[1.0, *(0.0 for _ in range(task.width - 1))]]))


def build_card(
    draft: Draft, origin: Origin, reference: Reference, folded: Folded, *, seed: int, trees: Trees | None = None
) -> card.ModelCard:
    """Return the card of the model behind `reference`, which was trained on (or, for `export`, is described by) the table
    of the draft, with its `trees` for explanations. Raises `InputError` if the parts do not make a valid card, such as an example outside of its bounds.
    """
    with _explained():
        return _assembled(
            draft,
            origin,
            examples=_examples(reference, folded, draft),
            self_test=_self_test(reference, folded, draft.features, seed),
            trees=trees,
            expected=origin.expected(reference),
        )


def _assembled(
    draft: Draft,
    origin: Origin,
    *,
    examples: tuple[card.Example, ...],
    self_test: card.SelfTest,
    trees: Trees | None = None,
    expected: Expected | None = None,
) -> card.ModelCard:
    identity, table, sheet = draft.identity, draft.table, draft.sheet
    return card.ModelCard(
        format=card.FORMAT,
        name=identity.name,
        version=identity.version,
        description=identity.description or sheet.description,
        features=draft.features,
        **draft.task.on_card(),
        examples=examples,
        training=card.Training(
            datasets=tuple(_dataset(table, sheet)),
            rows=len(table.X),
            class_counts=table.class_counts if isinstance(draft.task, Classification) else {},
            estimator=origin.estimator,
            parameters={name: _plain(value) for name, value in sorted(origin.parameters.items())},
            libraries={"python": platform.python_version()}
            | {name: metadata.version(name) for name in ("numpy", "onnx", "scikit-learn", "skl2onnx")}
            | dict(origin.libraries),
            date=identity.date,
        ),
        metrics=origin.metrics,
        self_test=self_test,
        trees=trees,
        expected=expected,
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
    lacking = np.isnan(table.X)
    for name in np.array(table.feature_names)[lacking.all(axis=0)]:
        raise InputError(
            f"{table.sources[0].path}: column {name!r} has no value in any row; leave it out (--drop {name!r})"
        )
    features = []
    for column, name in enumerate(table.feature_names):
        values, short = table.X[:, column], _exact
        ordered, narrow = np.sort(values), values.astype(np.float32)
        if (np.diff(ordered) > 0).sum() == (
            np.diff(ordered.astype(np.float32)) > 0
        ).sum():  # else float32 merges some, like neighbouring seconds
            values, short = narrow.astype(np.float64), _short
        quantiles = np.nanquantile(values, card.QUANTILE_LEVELS)
        note = sheet.features.get(name, FeatureNote())
        _require_within(note, name, table, column)
        words = table.words.get(name)
        if sheet.examples:
            example = _code(sheet.examples[0], name, table)
        else:
            # Between two words there is none.
            example = quantiles[4] if words is None else np.floor(quantiles[4])
        features.append(
            card.Feature(
                name=name,
                kind="number" if words is None else words.kind,
                categories=() if words is None else words.categories,
                missing=bool(lacking[:, column].any()),
                unit=note.unit,
                description=note.description,
                minimum=note.minimum,
                maximum=note.maximum,
                # Interpolation may put two equal quantiles out of order in the last bit.
                quantiles=tuple(short(value) for value in np.maximum.accumulate(quantiles)),
                example=short(example),
                shares=() if words is None else _shares(values, len(words.categories) or 2),
                lacking=round(float(lacking[:, column].mean()), 6),
            )
        )
    return tuple(features)


def _shares(codes: NDArray[np.float64], words: int) -> tuple[float, ...]:
    """Return the share of each word, by its code, of the rows that have one."""
    counts = np.bincount(codes[~np.isnan(codes)].astype(int), minlength=words)
    return tuple(round(float(share), 6) for share in counts / counts.sum())


def _require_within(note: FeatureNote, name: str, table: Table, column: int) -> None:
    """Bounds that the training data itself breaks are wrong, whatever the sheet says."""
    values = table.X[:, column]
    low = -np.inf if note.minimum is None else note.minimum
    high = np.inf if note.maximum is None else note.maximum
    outside = np.flatnonzero((values < low) | (values > high))
    if len(outside):
        row = outside[0]
        raise InputError(
            f"{table.sources[0].path}: column {name!r}, {table.row_names[row]}: {values[row]:g} is outside the bounds "
            f"{low:g} to {high:g} of the feature sheet"
        )


def _exact(value: float) -> float:
    """A float64 without what interpolating between decimals leaves in its last digits."""
    return float(f"{value:.15g}")


def _short(value: float) -> float:
    """A float32 as the shortest decimal that reads back as the same float32."""
    return float(str(np.float32(value)))


def _examples(reference: Reference, folded: Folded, draft: Draft) -> tuple[card.Example, ...]:
    notes = draft.sheet.examples
    if not notes:
        return ()
    rows = np.array([_row(note, draft.table) for note in notes], dtype=folded.dtype)
    answers = reference.answers(rows)
    return tuple(
        card.Example(
            name=note.name,
            features=tuple(map(float if folded.wide else _short, row)),
            **draft.task.example(Answers(answers.labels[number:], answers.numbers[number:])),
        )
        for number, (note, row) in enumerate(zip(notes, rows, strict=True))
    )


def _row(note: ExampleNote, table: Table) -> tuple[float, ...]:
    return tuple(_code(note, name, table) for name in table.feature_names)


def _code(note: ExampleNote, name: str, table: Table) -> float:
    """Return what a tree sees of a value of an example. Raises `InputError` when it is none of the column's."""
    value, words = note.features[name], table.words.get(name)
    try:
        if words is not None:
            return words.code(value)
        if isinstance(value, float):
            return value
    except ValueError as error:
        raise InputError(f"example {note.name!r}: {name}: {error}") from None
    raise InputError(f"example {note.name!r}: {name}: {value!r} is not a number")


def _self_test(reference: Reference, folded: Folded, features: tuple[card.Feature, ...], seed: int) -> card.SelfTest:
    """Real rows of every label in turn, and rows on thresholds and beside them, with scikit-learn's own answers."""
    rng = np.random.default_rng(seed)
    X, answered = reference.X.astype(folded.dtype), reference.training.labels
    by_label = [rng.permutation(np.flatnonzero(answered == label)) for label in np.unique(answered)]
    each = -(-_REAL_ROWS // len(by_label))
    real = X[np.concatenate([rows[:each] for rows in by_label])]
    edges = around_thresholds(X, folded.thresholds, 2 * _EDGE_ROWS, rng)
    low, high = (bound.astype(X.dtype) for bound in bounds_of(features))
    rows = reference.coded(np.clip(np.concatenate([real, edges.X[::2]]), low, high))
    return card.SelfTest(
        # A missing value is null on the card.
        rows=tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in rows),
        **reference.task.self_test(reference.tested(rows)),
    )


def bounds_of(features: Sequence[card.Feature]) -> tuple[Rows, Rows]:
    """Return the least and the largest value that the agent takes of each feature, (f,) float64 each."""
    limit = card.FLOAT32_MAX
    low = np.array([-limit if f.minimum is None else f.minimum for f in features], dtype=np.float64)
    high = np.array([limit if f.maximum is None else f.maximum for f in features], dtype=np.float64)
    return low, high


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


def _plain(value: Any) -> str | int | float | bool | None:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
