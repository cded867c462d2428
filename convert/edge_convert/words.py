"""Columns of words: booleans and categories, which a tree sees as codes.

Rules:

* a column is one of words only if not a single cell in it is a number: a text among numbers is a mistake, and is reported as one;
* a boolean is 1 or 0, a category its position among the words in alphabetical order, as the model card lists them;
* the words of a model are those of its card: another table that lacks some of them has the same codes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from edge_agent.contract.card import MAX_CATEGORIES, TRUTH, Feature
from edge_convert.columns import Cell, encode, is_missing, parse


class Words(NamedTuple):
    """What a column of words holds. `categories` in the order of their codes; none of a boolean."""

    kind: Literal["boolean", "category"]
    categories: tuple[str, ...] = ()

    def code(self, cell: Cell) -> float:
        """Return what a tree sees of a cell. Raises `ValueError` saying what the cell is instead."""
        word = _word(cell)
        if self.kind == "boolean":
            if word is not None and (code := TRUTH.get(word.lower())) is not None:
                return code
            raise ValueError(f"{cell!r:.40} is not a boolean")
        if word not in self.categories:
            raise ValueError(f"{cell!r:.40} is not one of {', '.join(map(repr, self.categories))}")
        return float(self.categories.index(word))

    def __str__(self) -> str:
        return "boolean" if self.kind == "boolean" else f"one of {', '.join(self.categories)}"


#: A number and its unit: 40%, 21.5 °C, 3,5 m/s2.
_MEASURED: Final = re.compile(r"""[+-]?[\d.,]*\d\s*((?:[^\W\d_]|[%‰°'"€$£])\S{0,6})""")
_FIRST: Final = 100
_BOOLEAN: Final = Words("boolean")


def words_of(feature: Feature) -> Words | None:
    """Return the words of a feature of a card; None for a number."""
    return None if feature.kind == "number" else Words(feature.kind, feature.categories)


def find_words(cells: Sequence[Cell], decimal: str = ".") -> Words | None:
    """Return what a column holds if it is one of words; None if it is one of numbers, or neither.

    Raises `ValueError` when there are too many words, and when they are numbers with a unit.
    """
    # The first cells mostly tell already; the others may be a million different ones.
    if any(_is_number(cell, decimal) for cell in cells[:_FIRST]):
        return None
    different = [cell for cell in encode(cells)[0] if not is_missing(cell)]
    if any(_is_number(cell, decimal) for cell in different):
        return None
    words = {_word(cell) for cell in different}
    found = {word for word in words if word}
    if len(found) < len(words) or len(found) < 2:
        # What is neither text nor boolean, and a word that never changes, are reported as no numbers.
        return None
    if all(word.lower() in TRUTH for word in found):
        return _BOOLEAN
    measured = [_MEASURED.fullmatch(word) for word in found]
    if len({one and one[1] for one in measured}) == 1 and None not in measured:
        raise ValueError(f"has numbers with a unit ({min(found)!r}); remove the unit (--drop leaves a column out)")
    if len(found) > MAX_CATEGORIES:
        raise ValueError(
            f"has {len(found):,} different words; a category has at most {MAX_CATEGORIES} (--drop leaves a column out)"
        )
    return Words("category", tuple(sorted(found)))


def only_word(cells: Sequence[Cell], decimal: str = ".") -> str:
    """Return the word that all cells hold; "" where they differ, some are missing, or they are numbers."""
    first = cells[0]
    if any(cell != first for cell in cells[:_FIRST]) or is_missing(first) or _is_number(first, decimal):
        return ""
    return (_word(first) or "") if len(encode(cells)[0]) == 1 else ""


def _is_number(cell: Cell, decimal: str) -> bool:
    # With a comma, too: "3,5" in each row is a decimal comma that nobody mentioned, and no category.
    return not is_missing(cell) and any(parse(cell, mark) is not None for mark in (decimal, ".", ","))


def _word(cell: Cell) -> str | None:
    if isinstance(cell, bool):
        return str(cell)
    return cell.strip() if isinstance(cell, str) else None
