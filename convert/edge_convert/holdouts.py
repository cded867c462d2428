"""Which rows are held out: at random, and by what makes rows alike.

Random folds flatter where a row has neighbours that are like it, and a model that answers new messages has none of these. So
wherever a table tells what belongs together, whole blocks of ids, groups, or all that is later are held out as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from edge_agent.errors import InputError
from edge_convert.estimators import INNER_FOLDS, SEEDS
from edge_convert.tables import Table

Splits = list[tuple[NDArray[np.int64], NDArray[np.int64]]]

RANDOM: Final = "random rows"
BLOCKS: Final = "blocks of ids"
GROUPS: Final = "groups"
LATER: Final = "later rows"
#: Fewer rows tell little of how much neighbours are alike; where the middle column's autocorrelation is above this, they are.
_FEW: Final = 50
_ALIKE: Final = 0.6


@dataclass(frozen=True)
class Holdout:
    """One way of holding rows out: `repeats` lists (training rows, held-out rows) for each fold. `prefix` is that of its figures
    on the card. `title` is for people.
    """

    name: str
    prefix: str
    title: str
    repeats: list[Splits]


def holdouts(table: Table, *, repeats: int, folds: int, seed: int, stratify: bool) -> list[Holdout]:
    """Return the ways to hold out rows of a table, random rows first. `stratify` keeps the shares of its labels.

    Raises `InputError` where there are too few groups, or a single time.
    """
    kind = "stratified " if stratify else ""
    inner = f"(nested, inner {kind}{INNER_FOLDS}-fold)"
    y = table.truth if stratify else None
    random = [
        list(
            (StratifiedKFold if stratify else KFold)(folds, shuffle=True, random_state=(seed + n) % SEEDS).split(
                table.X, y
            )
        )
        for n in range(repeats)
    ]
    found = [Holdout(RANDOM, "", f"{repeats} x {kind}{folds}-fold {inner}", random)]
    if table.ids is not None:
        order = np.argsort(table.ids, kind="stable")
        blocks = [(order[train], order[test]) for train, test in KFold(folds).split(order)]
        found.append(Holdout(BLOCKS, "blocks ", f"{folds} contiguous blocks of ids held out {inner}", [blocks]))
    if table.groups is not None:
        name, groups = table.groups
        parts = min(folds, len(np.unique(groups)))
        split = (StratifiedGroupKFold if stratify else GroupKFold)(parts).split(table.X, y, groups)
        splits = [(train, test) for train, test in split if len(test) and len(train)]
        title = f"the groups of {name!r} held out in {len(splits)} folds, none on both sides {inner}"
        found.append(Holdout(GROUPS, "groups ", title, [splits]))
    if table.times is not None:
        name, times = table.times
        splits = _later(times, folds)
        title = f"rows with a later {name!r}: the later half in {len(splits)} steps, each after all that it was trained on {inner}"
        found.append(Holdout(LATER, "later ", title, [splits]))
    return found


def require_held_out(table: Table) -> None:
    """Raise `InputError` where there are no two groups, or no two times."""
    for what, column in (("group", table.groups), ("time", table.times)):
        if column is not None and len(np.unique(column[1])) < 2:
            raise InputError(
                f"{table.sources[0].path}: column {column[0]!r}: all {len(table.X):,} rows are of the same {what}, so none can be held out"
            )


def _later(times: NDArray[np.float64], folds: int) -> Splits:
    """Return an expanding split: the first half of the rows, and more each time, to learn from, and what comes next to be held
    out. Rows of the same time stay together.
    """
    order = np.argsort(times, kind="stable")
    ordered, n = times[order], len(times)
    wanted = ordered[np.linspace(n / 2, n, folds, endpoint=False).astype(int)]
    starts = np.unique(np.searchsorted(ordered, wanted))
    starts = starts[starts > 0]
    if not len(starts):  # more than half of the rows are of the first time
        starts = np.searchsorted(ordered, ordered[:1], side="right")
    return [(order[:start], order[start:end]) for start, end in zip(starts, [*starts[1:], n], strict=True)]


def flattery(table: Table, labels: NDArray[np.str_] | None) -> str:
    """Return a sentence if rows are so much like the row before them, `labels` apart, that random folds flatter and nothing else is
    held out; else "".
    """
    n = len(table.X)
    if n < _FEW or any(column is not None for column in (table.ids, table.groups, table.times)):
        return ""
    which = np.zeros(n, np.int64) if labels is None else np.unique(labels, return_inverse=True)[1]
    neighbours = which[1:] == which[:-1]
    alike = [_autocorrelation(column, which, neighbours) for column in table.X.T]
    middle = float(np.median(alike))
    if middle < _ALIKE:
        return ""
    return (
        f"rows are like the row before them (autocorrelation {middle:.2f}), as where a sensor was read again and again. Random folds "
        "flatter then, for a held-out row has its neighbours in the training folds: with --time COL the figures are also those on "
        "later rows, with --groups COL those on days, devices or subjects that were held out"
    )


def _autocorrelation(values: NDArray[np.float64], which: NDArray[np.int64], neighbours: NDArray[np.bool_]) -> float:
    """Return how much values (n,) are like the one before, where both have the same label (`which`, n): 1 for the same."""
    there = ~np.isnan(values)
    sums = np.bincount(which[there], values[there], minlength=int(which.max()) + 1)
    counts = np.bincount(which[there], minlength=len(sums))
    centred = np.where(there, values - (sums / np.maximum(counts, 1))[which], 0.0)
    one, other = centred[:-1][neighbours], centred[1:][neighbours]
    spread = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / spread if spread else 0.0
