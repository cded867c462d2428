"""Kinds of features besides plain numbers: words on the wire, codes for the model (`edge_agent.contract.card`).

Rules:

* a boolean is true or false, 1 or 0, or one of the words that sensors send for them, in any case;
* a category is one of its words as the card writes it, or the whole number that a word is; its code is never taken;
* a missing value is null, NaN, or a word that firmware sends for it, and is taken only where the model was trained with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from pydantic_core import PydanticCustomError

from edge_agent.contract.card import TRUTH, Feature

#: Words that firmware sends for "no value".
NO_VALUE: Final = frozenset({"", "-", "--", "---", "n/a", "nan", "none", "null", "unavailable", "undefined", "unknown"})
_LONGEST_WORD: Final = 20
#: Larger whole numbers are no category.
_MAX_WHOLE: Final = 1 << 63
#: Characters of a list of categories in a reason.
_LISTED: Final = 1000


def is_special(feature: Feature) -> bool:
    """Tell whether a feature is something else than a number that has to be there."""
    return feature.kind != "number" or feature.missing


def is_no_value(feature: Feature, value: object) -> bool:
    """Tell whether a value says that there is none. A category of that name is one."""
    if value is None:
        return True
    if isinstance(value, str):
        return (
            len(value) <= _LONGEST_WORD
            and value.strip().lower() in NO_VALUE
            and value.strip() not in feature.categories
        )
    return isinstance(value, float) and math.isnan(value)


def reader(feature: Feature) -> Callable[[Any, Callable[[Any], float]], float]:
    """Return what makes the code of a value; it is given how a number is read, and raises as pydantic has it."""
    read = {"number": None, "boolean": _boolean, "category": _category(feature)}[feature.kind]

    def code(value: Any, number: Callable[[Any], float]) -> float:
        if feature.missing and is_no_value(feature, value):
            return math.nan
        return number(value) if read is None else read(value)

    return code


def _boolean(value: Any) -> float:
    found = None
    if isinstance(value, dict) and value.keys() == {"vb"}:
        value = value["vb"]  # as edge_agent.payload.senml has it
    if isinstance(value, str):
        found = TRUTH.get(value.strip().lower()) if len(value) <= _LONGEST_WORD else None
    elif isinstance(value, int | float) and value in (0, 1):
        found = float(value)
    if found is None:
        raise PydanticCustomError(
            "bool_parsing",
            "Input should be a valid boolean: true or false, 1 or 0, on or off, yes or no, open or closed",
        )
    return found


def _category(feature: Feature) -> Callable[[Any], float]:
    codes = {word: float(code) for code, word in enumerate(feature.categories)}
    listed = ", ".join(map(repr, feature.categories))
    if len(listed) > _LISTED:
        listed = listed[:_LISTED] + f"… ({len(codes)} categories)"

    def read(value: Any) -> float:
        word = value
        if type(value) is int and abs(value) < _MAX_WHOLE:
            word = str(value)
        found = None
        if isinstance(word, str):
            found = codes[word] if word in codes else codes.get(word.strip())
        if found is None:
            raise PydanticCustomError("category", "Input should be one of {listed}", {"listed": listed})
        return found

    return read
