"""Where a value sits in a sensor's own JSON, and what is made of it: one entry of a route's `fields`.

Rules:

* what is not there raises LookupError, and nothing else is ever raised, whatever the content;
* work is bounded: JSON in a string is read up to `MAX_TEXT` characters, the first `MAX_ELEMENTS` of an array are looked through;
* a value that the conversion does not know stays as it came, and is judged, and shown, as such;
* text that is scaled is a number for `NUMBER`, so that no number gets past the scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

from pydantic_core import from_json

from edge_agent.contract.messages import Detail, shown

#: Longest string that is read as JSON when a path leads into it, in characters.
MAX_TEXT: Final = 16_384
#: Elements of an array among which a selector looks.
MAX_ELEMENTS: Final = 1024
#: Text that is a number.
NUMBER: Final = re.compile(r"\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
#: A number with a decimal comma or a point, and a unit behind it. Units have no digits but for those of `m2` and `m3`.
_LENIENT: Final = re.compile(
    r"([+-]?[0-9]+(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]+)?)\s{0,4}(?:m[23](?:/[a-z]+)?|(?:[^\W\d_]|[%‰°'\"])[^\d.,_]{0,15})?"
)
_MAX_LENIENT: Final = 64
#: Larger whole numbers are no words of a map, and no selector has them.
_MAX_WHOLE: Final = 1 << 63


class Conversion(NamedTuple):
    """What is made of a value: `map` gives what stands for a word and is final; else a number times `scale` plus `offset`.
    `lenient` takes text with a decimal comma, a unit or both.
    """

    scale: float = 1.0
    offset: float = 0.0
    map: tuple[tuple[str, float], ...] = ()
    lenient: bool = False

    def of(self, value: Any) -> Any:
        """Return what is made of it; a value that this says nothing about is returned as it is."""
        if self.map and (word := _word(value)) is not None:
            for key, meant in self.map:
                if key == word:
                    return meant
        number = value
        if isinstance(value, str):
            number = self._number(value)
        if self.scale == 1.0 and self.offset == 0.0:
            return number
        if type(number) is int:
            try:
                number = float(number)
            except OverflowError:
                return value
        return number * self.scale + self.offset if type(number) is float else number

    def _number(self, text: str) -> str | float:
        if NUMBER.fullmatch(text):
            return float(text)
        if self.lenient and len(bare := text.strip()) <= _MAX_LENIENT and (found := _LENIENT.fullmatch(bare)):
            return float(found[1].replace(",", "."))
        return text


class Place(NamedTuple):
    """Where a value is, and its conversion. A step of `at` is a key of an object, a position in an array, or a selector
    (`name=temperature`: the element of an array in which `name` is `temperature`); one into a string reads the JSON in it.
    No step at all is the whole content.
    """

    at: tuple[str, ...]
    how: Conversion | None = None

    def find(self, content: Any) -> Any:
        """Return the value. Raises LookupError where there is none."""
        found = self.came(content)
        return found if self.how is None else self.how.of(found)

    def came(self, content: Any) -> Any:
        """Return what came as the value. Raises LookupError where there is none."""
        found = content
        for step in self.at:
            found = found[step] if type(found) is dict else _step(found, step)
        return found

    @property
    def is_in_array(self) -> bool:
        """Whether the path begins in an array."""
        return bool(self.at) and (self.at[0].isdecimal() or "=" in self.at[0])


#: Where features (and what is echoed) are in a sensor's own JSON: pairs of a name and the place.
Fields: TypeAlias = tuple[tuple[str, Place], ...]


def converted(fields: Fields) -> dict[str, Place]:
    """Return the places whose values are not taken as they come, by name."""
    return {name: place for name, place in fields if place.how is not None}


def as_came(detail: Sequence[Detail], content: object, places: Mapping[str, Place]) -> list[Detail]:
    """Return reasons with what came in `input`, in place of what the conversions in `places` made of it."""
    told: list[Detail] = []
    for one in detail:
        place = places.get(str(one["loc"][0])) if one["loc"] else None
        if place is not None and one["type"] != "missing":
            try:
                came = place.came(content)
            except LookupError:  # pragma: no cover - a value that is wrong was found before
                continue
            number = place.find(content)
            words = one["msg"]
            if isinstance(number, float) and number != came:
                words += f"; it is {number:.9g} after scale, offset and map"
            told.append({**one, "msg": words, "input": shown(came)})
        else:
            told.append(one)
    return told


def _step(found: Any, step: str) -> Any:
    if isinstance(found, str):
        found = _read(found)
    if isinstance(found, dict):
        return found[step]
    if isinstance(found, list):
        if step.isdecimal():
            # No array is longer than this has digits; and int() takes no more than 4,300 of them.
            return found[int(step)] if len(step) < 20 else found[len(found)]
        key, selects, wanted = step.partition("=")
        if selects:
            number = int(wanted) if wanted.isdecimal() and len(wanted) < 20 else None
            for element in islice(found, MAX_ELEMENTS):
                if isinstance(element, dict) and key in element:
                    named = element[key]
                    if named == wanted if isinstance(named, str) else type(named) is int and named == number:
                        return element
    raise LookupError(step)


def _read(text: str) -> Any:
    """Return the JSON in a string. Raises LookupError when there is none, or too much of it."""
    if len(text) > MAX_TEXT:
        raise LookupError
    try:
        return _parse(text)
    except ValueError:
        raise LookupError from None


@lru_cache(maxsize=4)
def _parse(text: str) -> Any:
    # Several features are found in one string. What is read is looked at, and never changed.
    return from_json(text.encode())  # which may raise UnicodeEncodeError, a ValueError


def _word(value: Any) -> str | None:
    """Return a value as a map has it; None when it can't."""
    if isinstance(value, str):
        return value.strip() if len(value) <= MAX_TEXT else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(value)
    return str(value) if isinstance(value, int) and abs(value) < _MAX_WHOLE else None
