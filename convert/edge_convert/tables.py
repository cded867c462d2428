"""Training tables: features, labels and ids out of one file, or of two that are joined on an id.

Every value that leaves here is finite (NaN only where missing values were asked for) and every row has a label; everything
else was refused with the file, column and row where it stands, or is counted in `Table.left_out`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.contract.card import MAX_FEATURES
from edge_agent.contract.tabular import Dialect
from edge_agent.errors import InputError
from edge_convert.columns import Cell
from edge_convert.features import (
    Features,
    Ids,
    Missing,
    Problems,
    complete,
    expand,
    of_classes,
    read_features,
    read_groups,
    read_ids,
    read_labels,
    refuse_quantity,
    require_label_names,
    strange,
    without_strangers,
)
from edge_convert.files import FMA_METADATA, RawTable, read_raw
from edge_convert.moments import anew, read_moments
from edge_convert.words import Words

#: Where the eight audio features sit in the FMA project's `echonest.csv`.
_AUDIO_FEATURES: Final = "echonest.audio_features."


_DIALECT: Final = Dialect()


@dataclass(frozen=True)
class DataFile:
    """A file that rows came from."""

    path: Path
    sha256: str
    layout: str


@dataclass(frozen=True)
class Table:
    """n rows of f features.

    `X` (n, f) float64, the numbers as the file has them; `labels` (n,) text, None when nobody asked for them; `ids` (n,) integers, moments or text, None when
    there are none; `row_names` (n,) where each row is in the first of `sources`; `left_out` are sentences about rows and
    columns that are not here, `strange` about what is and may mislead.
    """

    feature_names: tuple[str, ...]
    X: NDArray[np.float64]
    labels: NDArray[np.str_] | None
    ids: Ids | None
    row_names: Sequence[str]
    label_column: str
    sources: tuple[DataFile, ...]
    left_out: tuple[str, ...] = ()
    words: Mapping[str, Words] = field(default_factory=dict)
    #: Further columns of what is to be answered, beside `labels`.
    others: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    strange: tuple[str, ...] = ()
    #: The column that says which rows belong together, and its texts (n,).
    groups: tuple[str, NDArray[np.str_]] | None = None
    #: The column that says when rows are from, and that (n,), in whatever unit.
    times: tuple[str, NDArray[np.float64]] | None = None

    @property
    def where(self) -> str:
        """The file that holds the labels, and their column, for messages."""
        return f"{self.sources[-1].path}: column {self.label_column!r}"

    @cached_property
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

    @property
    def words_by_place(self) -> dict[int, Words]:
        """The words of columns that have some, by the column's place."""
        return {place: self.words[name] for place, name in enumerate(self.feature_names) if name in self.words}

    def take(self, rows: NDArray[np.int64]) -> Table:
        """Return the table of some of its rows."""
        return replace(
            self,
            X=self.X[rows],
            labels=None if self.labels is None else self.labels[rows],
            ids=None if self.ids is None else self.ids[rows],
            row_names=[self.row_names[int(row)] for row in rows],
            others={name: labels[rows] for name, labels in self.others.items()},
            groups=None if self.groups is None else (self.groups[0], self.groups[1][rows]),
            times=None if self.times is None else (self.times[0], self.times[1][rows]),
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
    #: The columns that say which rows belong together, and when they are from.
    groups: str | None = None
    time: str | None = None
    columns: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    #: The words of the model that the table is for, by column; None: those that are found in the table.
    words: Mapping[str, Words] | None = None
    dialect: Dialect = _DIALECT
    missing: Missing = "refuse"

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that hold what a model answers."""
        first = self.target or self.label_column
        return () if first is None else (first, *self.others)

    def read(self) -> Table:
        """Read the table. Raises `InputError`: also when neither `data` nor the pair with its label column is given."""
        for name, count in Counter(self.targets).items():
            if count > 1:
                raise InputError(f"column {name!r} is given {count} times as --target; give it once")
        names: Any = {"columns": self.columns, "drop": self.drop, "classes": self.classes, "words": self.words}
        names |= {"dialect": self.dialect, "missing": self.missing, "groups": self.groups, "time": self.time}
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
    groups: str | None = None,
    time: str | None = None,
    columns: Sequence[str] = (),
    drop: Sequence[str] = (),
    classes: Sequence[str] = (),
    words: Mapping[str, Words] | None = None,
    dialect: Dialect = _DIALECT,
    missing: Missing = "refuse",
) -> Table:
    """Read one file that has everything: a column of labels (`target`, None for none) and columns of numbers.

    Features are `columns`, or all that are not target, id or in `drop`, and hold no timestamps. `classes` keeps the rows of
    these labels only. Raises `InputError`, with all that is wrong.
    """
    raw = read_raw(path, dialect)
    targets = [name for name in (target, *others) if name is not None]
    roles = _roles(("times", time), ("groups", groups), ("ids", id_column)) | dict.fromkeys(targets, "labels")
    problems = Problems(path)
    names, notes = _feature_names(raw, columns, drop, roles, problems)
    features = read_features(raw, names, words, problems)
    labels: dict[str, NDArray[np.str_]] = {}
    for name in targets:
        labels[name], said = read_labels(raw.column(name), name, raw.decimal)
        require_label_names(problems, labels[name])
        notes += said
    ids = None if id_column is None else read_ids(raw, id_column, problems, notes)
    order = _order(raw, groups, time, targets, problems, notes=notes)
    rows = np.arange(len(raw.row_names))
    if target is not None and classes:
        rows, said = of_classes(target, labels[target], rows, classes=classes, problems=problems)
        notes += said
    rows, said = complete(raw, features, rows, labels=labels, missing=missing, problems=problems)
    problems.refuse()
    return _table(
        raw,
        features,
        labels=labels,
        ids=ids,
        sources=(_source(raw),),
        left_out=(*raw.notes, *notes, *said),
        rows=rows,
        order=order,
    )


def read_pair(
    features: Path,
    labels: Path,
    *,
    label_column: str,
    id_column: str = "track_id",
    groups: str | None = None,
    time: str | None = None,
    columns: Sequence[str] = (),
    drop: Sequence[str] = (),
    classes: Sequence[str] = (),
    words: Mapping[str, Words] | None = None,
    dialect: Dialect = _DIALECT,
    missing: Missing = "refuse",
) -> Table:
    """Join a file of features and a file of labels on `id_column`; rows without a partner or a label are left out.

    Both plain tables and the FMA project's own files (`echonest.csv`, `tracks.csv`) will do; of the latter the eight
    audio features are taken, and `label_column` may be "genre_top" for "track.genre_top". Raises `InputError`.
    """
    left, right = _audio_features(read_raw(features, dialect), id_column), read_raw(labels, dialect)
    if right.layout == FMA_METADATA and label_column not in right.columns:
        label_column = f"track.{label_column}"
    problems, others = Problems(features), Problems(labels)
    roles = _roles(("times", time), ("groups", groups), ("ids", id_column))
    names, notes = _feature_names(left, columns, drop, roles, problems)
    found = read_features(left, names, words, problems)
    ids = read_ids(left, id_column, problems, notes)
    texts, said = read_labels(right.column(label_column), label_column, right.decimal)
    label_ids = read_ids(right, id_column, others, [])
    order = _order(left, groups, time, (label_column,), problems, notes=notes)
    problems.refuse()
    others.refuse()
    label_of = {key: text for key, text in zip(label_ids.tolist(), texts.tolist(), strict=True) if text}
    rows = np.array([row for row, key in enumerate(ids.tolist()) if key in label_of], dtype=np.int64)
    if not len(rows):
        raise InputError(f"{features} and {labels}: no {id_column} is in both files with a label")
    joined = np.array([label_of.get(key, "") for key in ids.tolist()])
    notes += [
        *said,
        f"{len(rows):,} of {len(ids):,} rows of features and {len(texts):,} rows of labels share a {id_column}",
    ]
    require_label_names(others, joined)
    if classes:
        rows, said = of_classes(label_column, joined, rows, classes=classes, problems=others)
        notes += said
    rows, said = complete(left, found, rows, labels={label_column: joined}, missing=missing, problems=problems)
    problems.refuse()
    others.refuse()
    return _table(
        left,
        found,
        labels={label_column: joined},
        ids=ids,
        sources=(_source(left), _source(right)),
        left_out=(*left.notes, *notes, *said),
        rows=rows,
        order=order,
    )


def _table(
    raw: RawTable,
    features: Features,
    *,
    labels: Mapping[str, NDArray[np.str_]],
    ids: Ids | None,
    sources: tuple[DataFile, ...],
    left_out: tuple[str, ...],
    rows: NDArray[np.int64],
    order: Mapping[str, Any],
) -> Table:
    first, *others = labels or ("",)
    table = Table(
        feature_names=features.names,
        X=features.X,
        words=features.words,
        labels=labels[first] if first else None,
        ids=ids,
        row_names=raw.row_names,
        label_column=first,
        sources=sources,
        left_out=left_out,
        others={name: labels[name] for name in others},
        **order,
    )
    table = table if len(rows) == len(raw.row_names) else table.take(rows)
    return replace(table, strange=(*table.strange, *strange(features.names, table.X, features.words)))


def require_trainable(table: Table, folds: int) -> None:
    """Raise `InputError` unless there are two labels or more, each with at least a row for every fold."""
    counts = table.class_counts
    if len(counts) < 2:
        raise InputError(f"{table.where}: all {len(table.X):,} rows say {next(iter(counts))!r}; two labels are needed")
    refuse_quantity(counts, table.where)
    rarest = min(counts, key=lambda name: counts[name])
    if counts[rarest] < folds:
        enough = [name for name, count in counts.items() if count >= folds]
        ways = [f"--folds {counts[rarest]}"] if counts[rarest] > 1 else []
        if len(enough) > 1:
            ways.append(f"--classes {','.join(enough[:5])}{',…' if len(enough) > 5 else ''} (without the rare ones)")
        raise InputError(
            f"{table.where}: only {counts[rarest]} of {len(table.X):,} rows say {rarest!r}; {folds} folds need {folds} rows of each "
            f"label: {', or '.join([*ways, 'collect more rows of it'])}"
        )


def _feature_names(
    raw: RawTable, columns: Sequence[str], drop: Sequence[str], roles: Mapping[str, str], problems: Problems
) -> tuple[tuple[str, ...], list[str]]:
    """Return `columns`, or all that are left, and sentences about columns that are left out; `roles` are the columns that are
    no features, with what they hold. Raises `InputError` for names that are none, and features that can't be.
    """
    columns, drop = expand(columns, raw.columns), expand(drop, raw.columns)
    _require_known(raw, (*columns, *drop, *roles), problems)
    for name in dict.fromkeys(columns):
        if name in roles:
            problems.add(f"column {name!r} holds the {roles[name]}, so it is no feature; see --columns")
        if columns.count(name) > 1:
            problems.add(f"column {name!r} appears twice in --columns")
        if name in drop:
            problems.add(f"column {name!r} is in both --columns and --drop; remove it from one")
    problems.refuse()
    names, notes = tuple(columns), list[str]()
    if not columns:
        names, notes = without_strangers(raw, [name for name in raw.columns if name not in {*roles, *drop}])
    if not names:
        problems.add("; ".join(["no column is left as a feature", *notes]))
    if len(names) > MAX_FEATURES:
        raise InputError(
            f"{raw.path}: {len(names):,} columns would be features; a model has at most {MAX_FEATURES:,}: see --columns and --drop"
        )
    return names, notes


def _require_known(raw: RawTable, names: Sequence[str], problems: Problems) -> None:
    for name in dict.fromkeys(names):
        if name not in raw.columns:
            try:
                raw.column(name)
            except InputError as error:
                problems.add(str(error).removeprefix(f"{raw.path}: "))


def _roles(*given: tuple[str, str | None]) -> dict[str, str]:
    return {name: what for what, name in given if name is not None}


def _order(
    raw: RawTable, groups: str | None, time: str | None, targets: Sequence[str], problems: Problems, *, notes: list[str]
) -> dict[str, Any]:
    """Return what a table knows of which rows belong together (`groups`) and when they are from (`times`)."""
    for option, name in (("--groups", groups), ("--time", time)):
        if name in targets:
            problems.add(f"column {name!r} is the target, and so it can't be {option}")
    found: dict[str, Any] = {}
    if groups is not None:
        found["groups"] = groups, read_groups(raw, groups, problems, notes)
    if time is not None:
        try:
            found["times"] = time, read_moments(raw.column(time), raw.decimal)
            found["strange"] = anew(time, raw.column(time), found["times"][1], raw.decimal)
        except ValueError as error:
            problems.add(f"column {time!r} {error}")
    return found


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
