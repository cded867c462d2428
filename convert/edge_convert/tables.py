"""Training tables: features, labels and ids out of one file, or of two that are joined on an id.

Every value that leaves here is a finite float32 and every row has a label; everything else was refused with the file,
column and row where it stands, or is counted in `Table.left_out`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.contract.card import FLOAT32_MAX, MAX_FEATURES
from edge_agent.errors import InputError
from edge_convert.files import FMA_METADATA, Cell, RawTable, read_raw
from edge_convert.words import Words, find_words

#: Where the eight audio features sit in the FMA project's `echonest.csv`.
_AUDIO_FEATURES: Final = "echonest.audio_features."
_NAME_LENGTH: Final = 128  # what the model card takes


@dataclass(frozen=True)
class DataFile:
    """A file that rows came from."""

    path: Path
    sha256: str
    layout: str


@dataclass(frozen=True)
class Table:
    """n rows of f features.

    `X` (n, f) float32; `labels` (n,) text, None when nobody asked for them; `ids` (n,) integers or text, None when
    there are none; `row_names` (n,) where each row is in the first of `sources`; `left_out` are sentences about rows
    that are not here.
    """

    feature_names: tuple[str, ...]
    X: NDArray[np.float32]
    labels: NDArray[np.str_] | None
    ids: NDArray[np.int64] | NDArray[np.str_] | None
    row_names: Sequence[str]
    label_column: str
    sources: tuple[DataFile, ...]
    left_out: tuple[str, ...] = ()
    words: Mapping[str, Words] = field(default_factory=dict)
    #: Further columns of what is to be answered, beside `labels`.
    others: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The file that holds the labels, and their column, for messages."""
        return f"{self.sources[-1].path}: column {self.label_column!r}"

    @property
    def class_counts(self) -> dict[str, int]:
        """Rows of each label, labels in the order that scikit-learn gives them."""
        counts = Counter(map(str, self.labels if self.labels is not None else ()))
        return {label: counts[label] for label in sorted(counts)}

    @property
    def truth(self) -> NDArray[np.str_]:
        """The labels (n,) of a table that has them. Raises `InputError` for one that was read without."""
        if self.labels is None:
            raise InputError(f"{self.sources[0].path}: was read without a column of labels")
        return self.labels

    def take(self, rows: NDArray[np.int64]) -> Table:
        """Return the table of some of its rows."""
        return replace(
            self,
            X=self.X[rows],
            labels=None if self.labels is None else self.labels[rows],
            ids=None if self.ids is None else self.ids[rows],
            row_names=[self.row_names[row] for row in rows],
            others={name: labels[rows] for name, labels in self.others.items()},
        )


@dataclass(frozen=True)
class TableChoice:
    """Which table: one file, `data`, with its column of labels `target`; or `features` joined with `labels` on an id."""

    data: Path | None = None
    target: str | None = None
    #: Further columns of numbers that one model answers.
    others: tuple[str, ...] = ()
    features: Path | None = None
    labels: Path | None = None
    label_column: str | None = None
    id_column: str | None = None
    columns: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    #: The words of the model that the table is for, by column; None: those that are found in the table.
    words: Mapping[str, Words] | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that hold what a model answers."""
        first = self.target or self.label_column
        return () if first is None else (first, *self.others)

    def read(self) -> Table:
        """Read the table. Raises `InputError`: also when neither `data` nor the pair with its label column is given."""
        names: Any = {"columns": self.columns, "drop": self.drop, "classes": self.classes, "words": self.words}
        if self.data is not None:
            return read_table(self.data, target=self.target, others=self.others, id_column=self.id_column, **names)
        if self.features is None or self.labels is None or self.label_column is None:
            raise InputError("a table is either one file, or a file of features, one of labels and the label column")
        ids = self.id_column or "track_id"
        return read_pair(self.features, self.labels, label_column=self.label_column, id_column=ids, **names)


def read_table(
    path: Path,
    *,
    target: str | None,
    others: Sequence[str] = (),
    id_column: str | None = None,
    columns: Sequence[str] = (),
    drop: Sequence[str] = (),
    classes: Sequence[str] = (),
    words: Mapping[str, Words] | None = None,
) -> Table:
    """Read one file that has everything: a column of labels (`target`, None for none) and columns of numbers.

    Features are `columns`, or all that are not target, id or in `drop`. `classes` keeps the rows of these labels only.
    Raises `InputError`.
    """
    raw = read_raw(path)
    for name in (*columns, *drop, *others, *filter(None, (target, id_column))):
        raw.column(name)
    roles = {name: role for role, name in (("labels", target), ("ids", id_column)) if name is not None}
    roles |= dict.fromkeys(others, "labels")
    names = _feature_names(raw, columns, drop, roles)
    found = _find_words(raw, names, words)
    table = Table(
        feature_names=names,
        X=_numbers(raw, names, found),
        words=found,
        labels=None if target is None else _labels(raw, target),
        ids=None if id_column is None else _ids(raw, id_column),
        row_names=raw.row_names,
        label_column=target or "",
        sources=(_source(raw),),
        others={name: _labels(raw, name) for name in others},
    )
    return _only_classes(table, classes) if classes else table


def read_pair(
    features: Path,
    labels: Path,
    *,
    label_column: str,
    id_column: str = "track_id",
    columns: Sequence[str] = (),
    drop: Sequence[str] = (),
    classes: Sequence[str] = (),
    words: Mapping[str, Words] | None = None,
) -> Table:
    """Join a file of features and a file of labels on `id_column`; rows without a partner or a label are left out.

    Both plain tables and the FMA project's own files (`echonest.csv`, `tracks.csv`) will do; of the latter the eight
    audio features are taken, and `label_column` may be "genre_top" for "track.genre_top". Raises `InputError`.
    """
    left, right = _audio_features(read_raw(features), id_column), read_raw(labels)
    if right.layout == FMA_METADATA and label_column not in right.columns:
        label_column = f"track.{label_column}"
    for name in (*columns, *drop, id_column):
        left.column(name)
    names = _feature_names(left, columns, drop, {id_column: "ids"})
    ids = _ids(left, id_column)
    label_cells, label_ids = right.column(label_column), _ids(right, id_column)
    label_of = {key: text for key, cell in zip(label_ids.tolist(), label_cells, strict=True) if (text := _label(cell))}
    rows = np.array([row for row, key in enumerate(ids.tolist()) if key in label_of], dtype=np.int64)
    if not len(rows):
        raise InputError(f"{features} and {labels}: no {id_column} is in both files with a label")
    found = _find_words(left, names, words)
    table = Table(
        feature_names=names,
        X=_numbers(left, names, found),
        words=found,
        labels=None,
        ids=ids,
        row_names=left.row_names,
        label_column=label_column,
        sources=(_source(left), _source(right)),
    ).take(rows)
    assert table.ids is not None  # noqa: S101 - set two statements above
    table = replace(
        table,
        labels=np.array([label_of[key] for key in table.ids.tolist()]),
        left_out=(
            f"{len(rows):,} of {len(ids):,} rows of features and {len(label_cells):,} rows of labels share a {id_column}",
        ),
    )
    return _only_classes(table, classes) if classes else table


def require_trainable(table: Table, folds: int) -> None:
    """Raise `InputError` unless there are two labels or more, each with at least a row for every fold."""
    counts = table.class_counts
    if len(counts) < 2:
        raise InputError(f"{table.where}: all {len(table.X):,} rows say {next(iter(counts))!r}; two labels are needed")
    label = min(counts, key=lambda name: counts[name])
    if counts[label] < folds:
        raise InputError(
            f"{table.where}: only {counts[label]} of {len(table.X):,} rows say {label!r}; "
            f"{folds} folds need {folds} rows of each label (see --folds)"
        )


def _feature_names(
    raw: RawTable, columns: Sequence[str], drop: Sequence[str], roles: Mapping[str, str]
) -> tuple[str, ...]:
    """Return `columns`, or all that are left; `roles` are the columns that are no features, with what they hold."""
    for name in columns:
        if name in roles:
            raise InputError(f"{raw.path}: column {name!r} holds the {roles[name]}, so it is no feature; see --columns")
        if columns.count(name) > 1:
            raise InputError(f"{raw.path}: column {name!r} appears twice in --columns")
        if name in drop:
            raise InputError(f"{raw.path}: column {name!r} is in both --columns and --drop; remove it from one")
    names = tuple(columns) or tuple(name for name in raw.columns if name not in {*roles, *drop})
    if len(names) > MAX_FEATURES:
        raise InputError(
            f"{raw.path}: {len(names):,} columns would be features; a model has at most {MAX_FEATURES:,}: see --columns and --drop"
        )
    return names


def _source(raw: RawTable) -> DataFile:
    return DataFile(raw.path, raw.sha256, raw.layout)


def _audio_features(raw: RawTable, id_column: str) -> RawTable:
    """Of the FMA project's `echonest.csv` keep the audio features, under their short names."""
    if raw.layout != FMA_METADATA:
        return raw
    kept: dict[str, Sequence[Cell]] = {id_column: raw.column(id_column)}
    kept |= {n.removeprefix(_AUDIO_FEATURES): raw.columns[n] for n in raw.columns if n.startswith(_AUDIO_FEATURES)}
    if len(kept) == 1:
        raise InputError(f"{raw.path}: has no columns under 'echonest', 'audio_features'; is it echonest.csv?")
    return replace(raw, columns=kept)


def _only_classes(table: Table, classes: Sequence[str]) -> Table:
    counts = table.class_counts
    for name in classes:
        if name not in counts:
            raise InputError(f"{table.where}: no row says {name!r}; there are {', '.join(map(repr, counts))}")
    kept = table.take(np.flatnonzero(np.isin(table.truth, classes)))
    note = f"{len(kept.X):,} of {len(table.X):,} rows say {' or '.join(classes)}"
    return replace(kept, left_out=(*table.left_out, note))


def _find_words(raw: RawTable, names: Sequence[str], known: Mapping[str, Words] | None) -> Mapping[str, Words]:
    """Return the words of the columns that hold some: those `known`, or those that are found."""
    if known is not None:
        return known
    found: dict[str, Words] = {}
    for name in names:
        cells = raw.column(name)
        try:
            words = find_words(cells, (_parse(cell) is not None for cell in cells))
        except ValueError as error:
            raise InputError(f"{raw.path}: column {name!r}: {error}") from None
        if words is not None:
            for word in words.categories:
                _require_name(raw.path, "category", word)
            found[name] = words
    return found


def _numbers(raw: RawTable, names: Sequence[str], words: Mapping[str, Words]) -> NDArray[np.float32]:
    """Return the columns as (n, f) float32. Raises `InputError` at the first cell that is no finite number, or none of the
    `words` of its column.
    """
    if not names:
        raise InputError(f"{raw.path}: no column is left as a feature")
    X = np.empty((len(raw.row_names), len(names)), dtype=np.float32)
    for column, name in enumerate(names):
        _require_name(raw.path, "column", name)
        code = words[name].code if name in words else _number
        for row, cell in enumerate(raw.column(name)):
            try:
                X[row, column] = code(cell)
            except ValueError as error:
                raise InputError(f"{raw.path}: column {name!r}, {raw.row_names[row]}: {error}") from None
    return X


def _number(cell: Cell) -> float:
    """Return a finite number within float32. Raises `ValueError` saying what the cell is instead."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        raise ValueError("is empty; fill it in or remove the row (a tree has no branch for missing values)")
    value = _parse(cell)
    if value is None:
        raise ValueError(f"{_short(cell)} is not a number (--drop leaves a column out)")
    if not math.isfinite(value):
        raise ValueError(f"{_short(cell)} is not finite (a tree has no branch for missing values)")
    if abs(value) > FLOAT32_MAX:
        raise ValueError(f"{_short(cell)} is beyond what float32 holds")
    return value


def _parse(cell: Cell) -> float | None:
    # float() takes True, "1_000" and digits of other scripts, too; the agent takes none of these for a number.
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return None
    if isinstance(cell, str) and ("_" in cell or not cell.strip().isascii()):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def _labels(raw: RawTable, column: str) -> NDArray[np.str_]:
    labels = [_label(cell) for cell in raw.column(column)]
    for row, label in enumerate(labels):
        if not label:
            raise InputError(f"{raw.path}: column {column!r}, {raw.row_names[row]}: the label is empty")
    for label in sorted(set(labels)):
        _require_name(raw.path, "label", label)
    return np.array(labels)


def _label(cell: Cell) -> str:
    """Labels are text in the model, whatever they are in the file: 1 and 1.0 are "1"; "" means that there is none."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _ids(raw: RawTable, column: str) -> NDArray[np.int64] | NDArray[np.str_]:
    """Return unique ids: integers if all of them are, else text."""
    texts = [_label(cell) for cell in raw.column(column)]
    seen: dict[str, int] = {}
    for row, text in enumerate(texts):
        if not text:
            raise InputError(f"{raw.path}: column {column!r}, {raw.row_names[row]}: the id is empty")
        if text in seen:
            twice = f"{text!r} was the id of {raw.row_names[seen[text]]} already"
            raise InputError(f"{raw.path}: column {column!r}, {raw.row_names[row]}: {twice}")
        seen[text] = row
    try:
        return np.array([int(text) for text in texts], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(texts)


def _require_name(path: Path, what: str, name: str) -> None:
    if not name.isprintable() or not 0 < len(name) <= _NAME_LENGTH:
        raise InputError(f"{path}: {what} {_short(name)} is not a name of 1 to {_NAME_LENGTH} printable characters")


def _short(cell: Cell) -> str:
    text = repr(cell)
    return text if len(text) <= 40 else f"{text[:37]}..."
