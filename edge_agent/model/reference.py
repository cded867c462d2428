"""What a model was trained on, by column: the model card's quantiles and shares, made ready to compare with.

The columns of a model are its features, and then what it answers: the label of a classification or an anomaly detector, and the
confidence, the score or the values.

Rules:

* a column is *ordered*, known by its quantiles at `QUANTILE_LEVELS`, or it has *parts*, known by their shares (labels);
* of a column without a reference only the mean is told, and nothing is concluded;
* values that a quantile falls on are counted apart, because quantiles may be equal (a feature that is 0 in most of the rows, a
  boolean, a constant), and of such values a card does not say how many there are: only that what is below a quantile is at most
  its level, and what is not above it is at least that (`edge_agent.model.drift`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.contract.card import ANOMALY, NORMAL, QUANTILE_LEVELS, Feature, ModelCard

Floats = npt.NDArray[np.float64]

_QUANTILES: Final = len(QUANTILE_LEVELS)
#: The least share that anything is taken to have had in training, and has now: without it one value would be infinitely unlikely.
LEAST_SHARE: Final = 1e-4


class Column(NamedTuple):
    """One feature, or one part of the answers: `quantiles` (9,) of what is ordered, `shares` of `words` of what has parts, neither where
    nothing is known. `missing` says that values may be missing; a share of `lacking` was, 0 where that is not known. `mean` is
    what to expect of a number from 0 to 1 without quantiles.
    """

    name: str
    kind: str = "number"
    unit: str = ""
    quantiles: tuple[float, ...] = ()
    words: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    missing: bool = False
    lacking: float = 0.0
    mean: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self.quantiles or self.shares)

    @property
    def cells(self) -> int:
        """How many things are counted of it: below, on and between quantiles, or the parts; and missing values, last."""
        return len(self.words) + 1 if self.words else 2 * _QUANTILES + 2


def columns_of(card: ModelCard) -> tuple[Column, ...]:
    """Return the features of a model, and what it answers."""
    return (*(_feature(one) for one in card.features), *answers_of(card))


def answers_of(card: ModelCard) -> tuple[Column, ...]:
    """Return the columns of what a model answers, in the order of `values_of`."""
    counts = card.training.class_counts if card.expected is None else card.expected.labels
    quantiles = {} if card.expected is None else card.expected.quantiles
    if card.task == "regression":
        return tuple(Column(one.name, unit=one.unit, quantiles=quantiles.get(one.name, ())) for one in card.outputs)
    words = (NORMAL, ANOMALY) if card.task == "anomaly" else card.labels
    label = Column("label", "label", words=words, shares=_shares(counts, words))
    number = "score" if card.task == "anomaly" else "confidence" if card.has_probabilities else None
    if number is None:
        return (label,)
    mean = None if card.expected is None or card.task == "anomaly" else card.expected.means.get("confidence")
    return label, Column(number, quantiles=quantiles.get(number, ()), mean=mean)


def values_of(card: ModelCard, answer: Mapping[str, object]) -> tuple[float, ...]:
    """Return an answer as it is published as a row of numbers: the position of its label, and its confidence; or its values; or its
    verdict and its score. A label that was withheld is the most probable one.
    """
    if card.task == "regression":
        values = answer.get("values")
        found = values.values() if isinstance(values, Mapping) else (answer["value"],)
        return tuple(float(one) for one in found)  # type: ignore[arg-type]
    if card.task == "anomaly":
        return float(answer["label"] == ANOMALY), float(answer["score"])  # type: ignore[arg-type]
    label, probabilities = answer["label"], answer.get("probabilities")
    if label is None and isinstance(probabilities, Mapping):
        label = max(probabilities, key=probabilities.__getitem__)
    position = float(card.labels.index(str(label)))
    return (position, float(answer["confidence"])) if card.has_probabilities else (position,)  # type: ignore[arg-type]


def _feature(feature: Feature) -> Column:
    # An older card has no shares: then the quantiles of the codes say what they can.
    words = (feature.categories or ("false", "true")) if feature.shares else ()
    lacking = feature.lacking if feature.missing else 0.0
    known = feature.name, feature.kind, feature.unit, feature.quantiles, words, feature.shares
    return Column(*known, missing=feature.missing, lacking=lacking)


def _shares(counts: Mapping[str, int], words: Sequence[str]) -> tuple[float, ...]:
    total = sum(counts.values())
    return tuple(counts.get(one, 0) / total for one in words) if total else ()


class Layout:
    """Where the values of rows (n, columns) are counted, and what stands for them when they are compared with their predecessors."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.cells = np.array([one.cells for one in columns], np.intp)
        self.begins = np.concatenate(([0], np.cumsum(self.cells)))[:-1]
        self.total = int(self.cells.sum())
        self._with_parts = [place for place, one in enumerate(columns) if one.words]
        # Rows have the numbers that messages have; the card's may have come through float32.
        edges = np.array([one.quantiles or (0.0,) * _QUANTILES for one in columns], np.float64)
        self._edges = edges.T.astype(np.float32)
        self.middle = edges[:, _QUANTILES // 2].copy()
        wide, narrow = edges[:, -1] - edges[:, 0], edges[:, -2] - edges[:, 1]
        scale = np.where(narrow > 0, narrow / 4, wide / 4)
        self._scale = np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
        self._is_number = np.array([one.kind == "number" and bool(one.quantiles) for one in columns])
        self._low, self._high = np.uint16(2), np.uint16(2 * _QUANTILES - 2)
        self._missing = (self.cells - 1).astype(np.uint16)
        self._ranks = {place: _ranks(columns[place]) for place in self._with_parts}

    def places(self, rows: Floats, lacking: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.uint16]:
        """Return the cell of each value of `rows` (n, columns), of those of its column; `lacking` says which are missing, if any are."""
        narrow = np.asfortranarray(rows, np.float32)
        found = np.zeros(rows.shape, np.uint8, order="F")
        # In place, in bytes and column by column: a tenth of the time that sums of booleans take.
        for edge in self._edges:
            found += (narrow >= edge).view(np.uint8)
            found += (narrow > edge).view(np.uint8)
        places = found.astype(np.uint16)
        for place in self._with_parts:
            places[:, place] = np.nan_to_num(rows[:, place])
        return places if lacking is None else np.where(lacking, self._missing, places)

    def within(self, places: npt.NDArray[np.uint16]) -> npt.NDArray[np.intp]:
        """Return the cells of values as those of all columns."""
        found: npt.NDArray[np.intp] = np.add(self.begins, places, dtype=np.intp)
        return found

    def far(self, places: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Tell of each of `places` whether its value lies where next to none of training's did: below the 1 % quantile or above the
        99 % quantile.
        """
        found: npt.NDArray[np.bool_] = (places <= self._low) | (places >= self._high)
        found &= self._is_number
        return found

    def beyond(self, far: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Tell of `places` that are far out whether no value of training was."""
        found: npt.NDArray[np.bool_] = (far == 0) | (far == 2 * _QUANTILES)
        return found

    def scores(self, rows: Floats) -> Floats:
        """Return numbers whose autocorrelation says how much one row tells beyond the one before, (n, columns): the values, with what is
        far away drawn near, so that one wild value does not decide. Parts are numbered by their shares.
        """
        with np.errstate(over="ignore"):
            found: Floats = np.arcsinh((rows - self.middle) / self._scale)
        for place, ranks in self._ranks.items():
            codes = rows[:, place]
            found[:, place] = np.where(np.isnan(codes), np.nan, ranks[np.nan_to_num(codes).astype(np.intp)])
        return found


def _ranks(column: Column) -> Floats:
    shares = np.array(column.shares or (0.0,) * len(column.words))
    ranks = np.empty(len(shares))
    ranks[np.argsort(-shares, kind="stable")] = np.arange(len(shares))
    return ranks
