"""From the columns of a file to features and labels, and what is wrong or strange about them.

Rules:

* all that is wrong with a table is collected in `Problems` and told at once: nobody should run a command once per mistake;
* what only flatters or misleads (a column that counts rows, one that never changes, …) becomes a sentence, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputError
from edge_convert.columns import Cell, coded, encode, holds_times, is_missing, numbers, parse, short
from edge_convert.files import RawTable
from edge_convert.moments import read_moments
from edge_convert.words import Words, find_words, only_word

_NAME_LENGTH: Final = 128  # what the model card takes
#: What a person may do about missing values.
WAYS_OUT: Final = (
    "--missing drop leaves these rows out, --missing native learns from them, --drop a column; or fill them in"
)
#: Ids (n,), in whose order rows are neighbours.
Ids = NDArray[np.int64] | NDArray[np.float64] | NDArray[np.str_]
#: So many cells tell whether a column of timestamps tells the day.
_READ: Final = 1000
#: What to do about missing values: refuse the table, drop its rows that lack one, or keep them as NaN.
Missing = Literal["refuse", "drop", "native"]
#: So many columns are named in one sentence.
_NAMED: Final = 12
#: More different numbers than this, with fewer than so many rows each on average, are no labels.
_MANY: Final = 20
_RARE: Final = 10
#: In so few rows all may be alike by chance.
_FEW: Final = 2
#: In so many rows nothing but a clock rises all the time, and what rises by one so often counts.
_CLOCK: Final = 20
#: Whole numbers up to this are the same in float32.
_FLOAT32_WHOLE: Final = 1 << 24


@dataclass
class Problems:
    """What is wrong with the table in `path`."""

    path: Path
    found: list[str] = field(default_factory=list)

    def add(self, sentence: str) -> None:
        """Note a problem."""
        self.found.append(sentence)

    def refuse(self) -> None:
        """Raise `InputError` with all problems, a line each when there are several; do nothing without any."""
        if len(self.found) == 1:
            raise InputError(f"{self.path}: {self.found[0]}")
        if self.found:
            lines = "".join(f"\n  {sentence}" for sentence in self.found)
            raise InputError(f"{self.path}: {len(self.found)} problems:{lines}")


class Features(NamedTuple):
    """Columns as (n, f) float64, NaN where `missing` (n, f) says so; the words of those that hold words."""

    names: tuple[str, ...]
    X: NDArray[np.float64]
    missing: NDArray[np.bool_]
    words: Mapping[str, Words]


def expand(given: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Return the names that options have: each a name itself, which may hold commas, or several with commas between them.

    LightGBM writes `room temp` as `room_temp`: a name that is none stands for the only one that is written so without blanks.
    """
    names: list[str] = []
    for text in given:
        names += [text] if text in known else [name for part in text.split(",") if (name := part.strip())]
    return tuple(name if name in known else _with_blanks(name, known) for name in names)


def _with_blanks(name: str, known: Collection[str]) -> str:
    alike = [one for one in known if re.sub(r"\s", "_", one) == name]
    return alike[0] if len(alike) == 1 else name


def without_strangers(raw: RawTable, names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the columns that have a name and hold neither timestamps nor one word in all rows, and sentences about the others."""
    notes = []
    kept = []
    for name in names:
        cells = raw.columns[name]
        if not name:
            notes.append(f"the first column has no name (row names: {_some(cells)}): left out")
        elif holds_times(cells):
            notes.append(
                f"column {name!r} holds timestamps ({_some(cells)}), which are no features: left out{_in_order(name, cells)}"
            )
        elif len(cells) > _FEW and (word := only_word(cells, raw.decimal)):
            notes.append(f"column {name!r} says {short(word)} in all rows, so nothing can be learned from it: left out")
        else:
            kept.append(name)
    return tuple(kept), notes


def read_features(
    raw: RawTable, names: tuple[str, ...], known: Mapping[str, Words] | None, problems: Problems
) -> Features:
    """Read columns as numbers; `known` are the words of a model that the table is for, None for those that are found."""
    n = len(raw.row_names)
    X, missing = np.full((n, len(names)), np.nan), np.zeros((n, len(names)), dtype=bool)
    words = dict(known or {})
    for column, name in enumerate(names):
        cells = raw.column(name)
        _require_name(problems, "column", name)
        if known is None:
            try:
                found = None if holds_times(cells) else find_words(cells, raw.decimal)
            except ValueError as error:
                problems.add(f"column {name!r}: {error}")
                continue
            if found is not None:
                words[name] = found
                for word in found.categories:
                    _require_name(problems, "category", word)
        read = coded(cells, words[name].code) if name in words else numbers(cells, raw.decimal)
        X[:, column], missing[:, column] = read.values, read.missing
        if read.bad is not None:
            more = f"; so are {read.bad.cells - 1:,} more of its cells" if read.bad.cells > 1 else ""
            problems.add(f"column {name!r}, {raw.row_names[read.bad.row]}: {read.bad.reason}{more}")
    return Features(names, X, missing, words)


def read_labels(
    cells: Sequence[Cell], column: str, decimal: str = ".", *, what: str = "label"
) -> tuple[NDArray[np.str_], list[str]]:
    """Return labels (n,), "" where there is none, and sentences about them. 1 and 1.0 are one label; a number has a point.
    `what` they are is for people.
    """
    different, which = encode(cells)
    texts = [label(cell, decimal) for cell in different]
    spelled: dict[float, set[str]] = {}
    for text in texts:
        if (value := parse(text)) is not None:
            spelled.setdefault(value, set()).add(text)
    several = {
        value: min(found, key=lambda text: (len(text), text)) for value, found in spelled.items() if len(found) > 1
    }
    notes = []
    if several:
        value, kept = next(iter(several.items()))
        more = f", and so are {len(several) - 1:,} more in several ways" if len(several) > 1 else ""
        ways = " and ".join(map(repr, sorted(spelled[value], key=len)))
        notes = [f"column {column!r}: {ways} are the same number{more}: one {what}, {kept!r}"]
    if several:
        texts = [text if (value := parse(text)) is None else several.get(value, text) for text in texts]
    return np.array(texts)[which], notes


def label(cell: Cell, decimal: str = ".") -> str:
    """Labels are text in the model, whatever they are in the file; "" means that there is none."""
    if is_missing(cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    text = str(cell).strip()
    return text.replace(decimal, ".") if parse(text, decimal) is not None else text


def require_label_names(problems: Problems, labels: NDArray[np.str_]) -> None:
    """Note the labels that no model card takes."""
    for text in map(str, np.unique(labels)):
        if text:
            _require_name(problems, "label", text)


def complete(
    raw: RawTable,
    features: Features,
    rows: NDArray[np.int64],
    *,
    labels: Mapping[str, NDArray[np.str_]],
    missing: Missing,
    problems: Problems,
) -> tuple[NDArray[np.int64], list[str]]:
    """Return those of `rows` that are to be used although values are missing in some, and sentences about that."""
    lacking, sentence = _count_missing(raw, features, labels, rows, native=missing == "native")
    if not sentence:
        return rows, []
    if missing == "drop":
        if lacking.all():
            problems.add(f"{sentence}; no row is left without them: --drop the columns that lack the most")
        return rows[~lacking], [f"{sentence}: {int(lacking.sum()):,} rows dropped, {int((~lacking).sum()):,} left"]
    # With native it is only labels, and there is nothing to learn from a row without one.
    way = "leave these rows out of the table, or fill them in" if missing == "native" else WAYS_OUT
    problems.add(f"{sentence}; {way}")
    return rows, []


def of_classes(
    column: str,
    labels: NDArray[np.str_],
    rows: NDArray[np.int64],
    *,
    classes: Sequence[str],
    problems: Problems,
) -> tuple[NDArray[np.int64], list[str]]:
    """Return those of `rows` that have one of these labels, and a sentence about them."""
    classes = expand(classes, set(map(str, labels)))
    known = sorted(set(map(str, labels[rows])) - {""})
    for name in classes:
        if name not in known:
            problems.add(f"column {column!r}: no row says {name!r}; there are {', '.join(map(repr, known))}")
    kept = rows[np.isin(labels[rows], classes)]
    return kept, [f"{len(kept):,} of {len(rows):,} rows say {' or '.join(classes)}"]


def read_ids(raw: RawTable, column: str, problems: Problems, notes: list[str]) -> Ids:
    """Return unique ids: integers if all of them are, moments if all are timestamps, else text. What is strange about them
    becomes one of `notes`.
    """
    texts = [label(cell) for cell in raw.column(column)]
    seen: dict[str, int] = {}
    wrong: list[str] = []
    for row, text in enumerate(texts):
        if not text:
            wrong.append(f"column {column!r}, {raw.row_names[row]}: the id is empty")
        elif text in seen:
            wrong.append(
                f"column {column!r}, {raw.row_names[row]}: {text!r} was the id of {raw.row_names[seen[text]]} already"
            )
        seen.setdefault(text, row)
    if wrong:
        problems.add(wrong[0] + (f"; {len(wrong) - 1:,} more ids are empty or repeated" if len(wrong) > 1 else ""))
    try:
        return np.array([int(text) for text in texts], dtype=np.int64)
    except (ValueError, OverflowError):
        pass
    try:  # as text, 10/03 would come before 9/03
        return read_moments(raw.column(column)) if holds_times(raw.column(column)) else np.array(texts)
    except ValueError as error:
        notes.append(
            f"column {column!r} {error}. Its ids are in the order of their text now, and so are blocks of them"
        )
        return np.array(texts)


def read_groups(raw: RawTable, column: str, problems: Problems, notes: list[str]) -> NDArray[np.str_]:
    """Return which group each row belongs to, as text; 1 and 1.0 are one, as labels are, which becomes one of `notes`."""
    texts, said = read_labels(raw.column(column), column, raw.decimal, what="group")
    notes += said
    lacking = np.flatnonzero(texts == "")
    if len(lacking):
        problems.add(
            f"column {column!r} lacks the group of {len(lacking):,} rows (first in {raw.row_names[lacking[0]]}); leave these rows out "
            "of the table, or give each a group of its own"
        )
    return texts


def _count_missing(
    raw: RawTable, features: Features, labels: Mapping[str, NDArray[np.str_]], rows: NDArray[np.int64], *, native: bool
) -> tuple[NDArray[np.bool_], str]:
    """Return which of `rows` lack a value or their label, and one sentence that counts them by column ("" for none).

    A model with `native` missing values lacks nothing but labels.
    """
    masks = (
        {}
        if native
        else {f"column {name!r}": features.missing[rows, column] for column, name in enumerate(features.names)}
    )
    masks |= {f"label {name!r}": texts[rows] == "" for name, texts in labels.items()}
    lacking = {what: mask for what, mask in masks.items() if mask.any()}
    every = np.logical_or.reduce(list(masks.values())) if masks else np.zeros(len(rows), dtype=bool)
    counts = [
        f"{what} in {int(mask.sum()):,} (first in {raw.row_names[rows[int(mask.argmax())]]})"
        for what, mask in sorted(lacking.items(), key=lambda item: -int(item[1].sum()))
    ]
    more = f" and {len(counts) - _NAMED} more columns" if len(counts) > _NAMED else ""
    sentence = (
        f"values are missing in {int(every.sum()):,} of {len(rows):,} rows: {', '.join(counts[:_NAMED])}{more}"
        if counts
        else ""
    )
    return every, sentence


def strange(names: Sequence[str], X: NDArray[np.float64], words: Collection[str]) -> list[str]:
    """Return a sentence for each column (n, f) that misleads: it counts rows, never changes, or is lost in float32."""
    notes = []
    for column, name in enumerate(names):
        values = X[:, column]
        if name in words or len(values) < 3 or np.isnan(values).any():
            continue
        steps = np.diff(values)
        if not steps.any():
            notes.append(
                f"column {name!r} is {values[0]:g} in all rows, so nothing can be learned from it (--drop {name!r})"
            )
        elif (steps == 1).all():
            notes.append(
                f"column {name!r} counts the rows ({values[0]:.0f}, {values[1]:.0f}, …): a model may learn their order, which "
                f"says nothing of new messages (--drop {name!r}, or --time {name!r}: then the figures are also those on later rows)"
            )
        elif anew := _begins_anew(steps):
            notes.append(
                f"column {name!r} counts the rows, and begins anew {f'{anew} times' if anew > 1 else 'once'}: where that is the number of a row in its group, it "
                f"says nothing of new messages (--drop {name!r})"
            )
        elif merged := _merged(name, values):
            notes.append(merged)
        elif len(values) >= _CLOCK and (steps >= 0).all() and 2 * int((steps > 0).sum()) >= len(values):
            notes.append(
                f"column {name!r} rises from row to row, as a clock does (or the table is sorted by it): a model may learn the times of "
                f"a clock, which say nothing of new messages (--drop {name!r}, or --time {name!r}: then the figures are also those on later rows)"
            )
    return notes


def _begins_anew(steps: NDArray[np.float64]) -> int:
    """Return how often a column that else counts the rows begins anew, from its `steps` (n,) from row to row; 0 for one that does not count."""
    anew = steps[steps != 1]
    return len(anew) if len(anew) * _CLOCK <= len(steps) and (anew < 0).all() else 0


def _merged(name: str, values: NDArray[np.float64]) -> str:
    """Return a sentence if float32 does not keep whole numbers (n,) apart."""
    largest = np.abs(values).max()
    if largest <= _FLOAT32_WHOLE or not (values == np.floor(values)).all():
        return ""
    whole, left = len(np.unique(values)), len(np.unique(values.astype(np.float32)))
    if left == whole:
        return ""
    return (
        f"column {name!r} has {whole:,} different whole numbers, of which float32 keeps {left:,} apart: what differs by "
        f"less than {np.spacing(np.float32(largest)):.0f} is the same to a tree or a forest; subtract a constant first, "
        f"or leave it out (--drop {name!r})"
    )


def is_quantity(labels: Mapping[str, int]) -> bool:
    """Tell whether labels, with their rows, are a quantity: many different numbers, most of them rare."""
    rows = sum(labels.values())
    return len(labels) > _MANY and rows < _RARE * len(labels) and all(parse(text) is not None for text in labels)


def refuse_quantity(labels: Mapping[str, int], where: str) -> None:
    """Refuse labels that are a quantity."""
    if is_quantity(labels):
        raise InputError(
            f"{where}: holds {len(labels):,} different numbers in {sum(labels.values()):,} rows, so it is a quantity and no label; "
            "--task regression predicts it. To classify, put ranges into words first (such as low and high)"
        )


def _some(cells: Sequence[Cell]) -> str:
    shown = [str(cell) for cell in cells[:50] if not is_missing(cell)][:2]
    return ", ".join([*shown, "…"])


def _in_order(name: str, cells: Sequence[Cell]) -> str:
    """Return how to measure on other times than those trained on, where the column tells the day."""
    try:
        read_moments(cells[:_READ])
    except ValueError:
        return ""
    return f". With --time {name!r} the figures are also those on rows later than those trained on"


def _require_name(problems: Problems, what: str, name: str) -> None:
    if not name.isprintable() or not 0 < len(name) <= _NAME_LENGTH:
        problems.add(f"{what} {short(name)} is not a name of 1 to {_NAME_LENGTH} printable characters")
