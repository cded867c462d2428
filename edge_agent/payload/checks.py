"""Checks parsed rows: gives values, or the reasons for a rejection.

Rules:

* a row that is rejected costs about what one costs that is taken: what is wrong is found by plain code, which makes no
  exception, and what rows of a batch share of their rejections is made once;
* the text of a reason comes from pydantic, once for each feature and kind of error;
* pydantic decides what plain code can't (whether a text is a number);
* booleans, NaN, infinities, missing values and values out of bounds never become values, but for what the card says of
  a feature (`edge_agent.payload.kinds`), which is left to pydantic, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Annotated, Any, Final, NamedTuple, NotRequired, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from edge_agent.contract.card import FLOAT32_MAX, Feature
from edge_agent.contract.messages import (
    MAX_DETAILS,
    MAX_SHOWN,
    SHORT,
    Detail,
    ErrorCode,
    beginning_of_json,
    cut_json,
    shown,
    to_json,
)
from edge_agent.payload import kinds
from edge_agent.payload.places import Fields as Fields  # noqa: PLC0414 - where users of this file look for it

#: Keys of a message that are copied to its answer.
ECHOED: Final = ("id", "time")

#: Characters of a text that may be a number; pydantic decides.
_NUMBER: Final = re.compile(r"[\s\d.+\-einfatyEINFATY]+")
#: Reasons that are kept because rows share them: there is one for each feature, kind of mistake and number of others.
_SAID: Final = 4096
#: Limits that no number is within.
_NONE: Final = (math.inf, -math.inf)
_NO_ECHO: Final[Mapping[str, Any]] = {}
#: Characters of the path to a feature that a reason shows.
_SHOWN_WAY: Final = 120


class Features(NamedTuple):
    """One checked row: values in the order of the card, what has to be echoed, and the features whose values are
    outside of what training saw, where that has to be told (`edge_agent.payload.ranges`).
    """

    values: tuple[float, ...]
    echo: dict[str, Any]
    outside: tuple[str, ...] = ()


class Unusable(NamedTuple):
    """Why a row, or a whole payload, is rejected."""

    code: ErrorCode
    detail: list[Detail]
    echo: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """The first reason of a row but for its input, and how many `more` there are. Rows share it, so it is made, and
    written, once; it is told apart by identity.
    """

    first: Detail
    more: int


#: Why a row of a batch can't become features, in the parts that rows share and that they don't: the first reason, its
#: input as it is shown, the JSON of that where it is known, and what is echoed. It is as bare as it is because there may be
#: one for each row: a tuple with names takes ten times as long to make.
Brief: TypeAlias = tuple[Said, Any, bytes | None, Mapping[str, Any]]


def in_full(brief: Brief) -> Unusable:
    """Return it as for a single row."""
    said, value, _, echoed = brief
    detail: list[Detail] = [{**said.first, "input": value}]
    return Unusable(ErrorCode.INVALID_FEATURES, _with_rest(detail, 1 + said.more), dict(echoed))


class Checker:
    """Checks rows by the features of one card. For missing features, reasons name the path in `fields`."""

    def __init__(self, features: Sequence[Feature], *, fields: Fields = ()) -> None:
        self.names = [feature.name for feature in features]
        self.bounds = [bounds(feature) for feature in features]
        #: Whether all values are numbers, none of which may be missing: no other kind takes a short cut.
        self.plain = not any(map(kinds.is_special, features))
        self.pick = _picker(self.names)
        self._positions = {name: position for position, name in enumerate(self.names)}
        # What is no plain number is never taken for one, and so left to pydantic.
        self._limits = {one.name: _NONE if kinds.is_special(one) else bounds(one) for one in features}
        self._features = {feature.name: feature for feature in features}
        self._special = frozenset(feature.name for feature in features if kinds.is_special(feature))
        self._absent = dict.fromkeys(feature.name for feature in features if feature.missing)
        self._required = {
            name: f"Field required at {_dotted(place.at)}" for name, place in fields if place.at != (name,)
        }
        self._row: TypeAdapter[Any] = TypeAdapter(row_type(features, strict=False))
        #: Kind and words of a reason, by feature and the kind that plain code found.
        self._words: dict[tuple[str, str], str] = {}
        #: The same as rows of a batch share it, by how many more reasons there are, too.
        self._said: dict[tuple[str, str, int], Said] = {}

    def check(self, row: object, *, sent: object = None, reasons: int = MAX_DETAILS) -> Features | Unusable:
        """Check one row, leniently; give at most `reasons` reasons.

        `sent` is the row as received, before `fields` were applied.
        """
        found = self.check_of_many(row, row if sent is None else sent, reasons=reasons)
        return found if isinstance(found, Unusable | Features) else in_full(found)

    def check_of_many(self, row: object, sent: object, *, reasons: int) -> Features | Unusable | Brief:
        """Check one row of a batch like `check`."""
        if not isinstance(row, dict):
            return self.brief({}, row, "", "dict_type", 0)
        if self._absent and not self._limits.keys().isdisjoint(row):
            row = {**self._absent, **row}
        wrong, there, whole = self._look(row)
        missing = len(self.names) - there
        total = len(wrong) + missing
        if not total:
            values = self.pick(row)
            return Features(values if whole else tuple(map(float, values)), echo(row))
        for name in wrong:
            if name in self._special or may_be_a_number(row[name]):
                return self._ask(row, sent, missing, reasons)
        if total == 1 or reasons == 1:
            name = self._first(row, wrong, missing)
            return self.brief(row, sent, name, self.kind(name, row[name]) if name in row else "missing", total - 1)
        places = self._places(row, wrong, missing)
        cut = shown(sent) if missing else None
        detail = [
            self._wrong(name, self.kind(name, row[name]), row[name], shown(row[name]))
            if name in row
            else self._missing(name, cut)
            for name in islice(places, reasons)
        ]
        return Unusable(ErrorCode.INVALID_FEATURES, _with_rest(detail, total), echo(row))

    def check_present(self, row: Mapping[str, Any]) -> tuple[dict[str, float], list[Detail]]:
        """Check only the features that are present; return the valid values, and the errors of the others."""
        wrong, _, _ = self._look(row)
        sound = {name: float(row[name]) for name in self.names if name in row and name not in wrong}
        detail: list[Detail] = []
        for name in sorted(wrong, key=self._positions.__getitem__):
            try:
                sound[name] = self._row.validate_python({name: row[name]})[name]
            except ValidationError as error:
                (one,) = error.errors(include_url=False, include_context=False)
                detail.append({"type": one["type"], "loc": [name], "msg": one["msg"], "input": shown(one["input"])})
        return ({name: sound[name] for name in self.names if name in sound} if wrong else sound), detail

    def is_no_value(self, name: str, value: object) -> bool:
        """Tell whether a value of a feature says that there is none."""
        return kinds.is_no_value(self._features[name], value)

    def brief(self, row: Mapping[str, Any], sent: object, name: str, kind: str, more: int) -> Brief:
        """Return why a row is rejected whose first mistake is of a `kind` in the feature `name`."""
        value = row.get(name, sent)
        said = self._said.get((name, kind, more)) or self._say(name, kind, value, more)
        echoed = echo(row) if "id" in row or "time" in row else _NO_ECHO
        if type(value) is float or (type(value) is str and len(value) <= SHORT):
            return said, value, None, echoed
        text = beginning_of_json(value)
        if len(text) <= MAX_SHOWN:
            return said, value, text, echoed
        return said, cut_json(text), None, echoed

    def _say(self, name: str, kind: str, value: object, more: int) -> Said:
        first = self._missing(name, None) if kind == "missing" else self._wrong(name, kind, value, None)
        said = Said(first, more)
        if first["type"] == kind:
            if len(self._said) >= _SAID:
                self._said.clear()
            self._said[name, kind, more] = said
        return said

    def _look(self, row: Mapping[str, Any]) -> tuple[list[str], int, bool]:
        """Return which values are no numbers in bounds, how many features are there, and whether all are floats."""
        limits = self._limits
        wrong: list[str] = []
        there = 0
        whole = True
        for name, value in row.items():
            if (limit := limits.get(name)) is None:
                continue
            there += 1
            if type(value) is float:
                if not limit[0] <= value <= limit[1]:
                    wrong.append(name)
            else:
                whole = False
                if type(value) is not int or not _fits(value, limit):
                    wrong.append(name)
        return wrong, there, whole

    def _first(self, row: Mapping[str, Any], wrong: list[str], missing: int) -> str:
        """Return the first invalid or missing feature."""
        if not missing:
            return min(wrong, key=self._positions.__getitem__)
        for name in self.names:
            if name not in row or name in wrong:
                return name
        raise AssertionError(wrong)  # pragma: no cover - something is missing

    def _places(self, row: Mapping[str, Any], wrong: list[str], missing: int) -> Iterator[str]:
        """Yield errors and missing features in the order of the features."""
        if len(wrong) > 1:
            wrong.sort(key=self._positions.__getitem__)
        if not missing:
            return iter(wrong)
        mistaken = set(wrong)
        return (name for name in self.names if name not in row or name in mistaken)

    def kind(self, name: str, value: object) -> str:
        """Return the kind of error of an invalid value, in pydantic's terms."""
        if isinstance(value, str):
            return "float_parsing"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "float_type"
        try:
            number = float(value)
        except OverflowError:
            return "float_type"
        if number - number != 0:
            return "finite_number"
        return "greater_than_equal" if number < self._limits[name][0] else "less_than_equal"

    def _wrong(self, name: str, kind: str, value: object, cut: object) -> Detail:
        words = self._words.get((name, kind))
        if words is None:
            kind, words = self._words_of(name, value, kind)
        return {"type": kind, "loc": [name] if name else [], "msg": words, "input": cut}

    def _words_of(self, name: str, value: object, kind: str) -> tuple[str, str]:
        """Get pydantic's text and kind of error; they are cached if the kind is the same."""
        try:
            self._row.validate_python({name: value} if name else None)
        except ValidationError as error:
            (one,) = error.errors(include_url=False, include_context=False, include_input=False)
            if one["type"] == kind:
                self._words[name, kind] = one["msg"]
            return one["type"], one["msg"]
        raise AssertionError(f"{name}: {kind}")  # pragma: no cover - see tests/unit/test_checks.py

    def _missing(self, name: str, cut: object) -> Detail:
        return {"type": "missing", "loc": [name], "msg": self._required.get(name, "Field required"), "input": cut}

    def _ask(self, row: dict[str, Any], sent: object, missing: int, reasons: int) -> Features | Unusable:
        """Ask pydantic."""
        wrong: list[Any] = []
        try:
            valid = self._row.validate_python(row)
            if not missing:
                return Features(self.pick(valid), echo(valid))
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False)
        found = {one["loc"][0]: one for one in wrong}
        places = self._places(row, list(found), missing)
        cut = shown(sent) if missing else None
        detail: list[Detail] = []
        for name in islice(places, reasons):
            if (one := found.get(name)) is None:
                detail.append(self._missing(name, cut))
            else:
                detail.append({"type": one["type"], "loc": [name], "msg": one["msg"], "input": shown(one["input"])})
        return Unusable(ErrorCode.INVALID_FEATURES, _with_rest(detail, len(wrong) + missing), echo(row))


def _with_rest(detail: list[Detail], total: int) -> list[Detail]:
    """Return the reasons, with a note of how many more there are."""
    if (more := total - len(detail)) > 0:
        detail.append({"type": "more", "loc": [], "msg": f"and {more} more", "input": None})
    return detail


def _fits(value: int, limit: tuple[float, float]) -> bool:
    try:
        return limit[0] <= float(value) <= limit[1]
    except OverflowError:
        return False


def may_be_a_number(value: object) -> bool:
    """Tell whether only pydantic can decide about a text."""
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None


def _dotted(path: Sequence[str]) -> str:
    """Return the path to a feature as written in settings."""
    text = ".".join(path) if not any("." in step for step in path) else to_json(path).decode()
    return text if len(text) <= _SHOWN_WAY else text[:_SHOWN_WAY] + "…"


def echo(row: object) -> dict[str, Any]:
    """Return the keys of a row that are copied to its answer."""
    if not isinstance(row, dict):
        return {}
    if "time" in row:
        return {key: row[key] for key in ECHOED if key in row}
    return {"id": row["id"]} if "id" in row else {}  # nearly every row


def bounds(feature: Feature) -> tuple[float, float]:
    """Return the smallest and the largest accepted value: none beyond float32, in which the model computes."""
    return (
        -FLOAT32_MAX if feature.minimum is None else feature.minimum,
        FLOAT32_MAX if feature.maximum is None else feature.maximum,
    )


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, float]], tuple[float, ...]]:
    """Return a function that gets the values of `names` from a row as a tuple (itemgetter returns no tuple for one name)."""
    if len(names) == 1:
        (only,) = names
        return lambda row: (row[only],)
    return itemgetter(*names)


def _measured(value: object) -> object:
    """Refuse what pydantic would take as a number, and no sensor means as one: true, and "1_000"."""
    kind = type(value)
    if kind is bool:
        raise PydanticCustomError("float_type", "Input should be a valid number")
    if kind is str and "_" in value:  # type: ignore[operator]
        raise PydanticCustomError("float_parsing", "Input should be a valid number, unable to parse string as a number")
    return value


def row_type(features: Sequence[Feature], *, strict: bool) -> Any:
    """Return the typed dictionary of one row, for pydantic. It may lack values, which its reader notices: an error of
    pydantic's would hold a copy of the row each.
    """
    fields: dict[str, Any] = dict.fromkeys(ECHOED, NotRequired[Any])
    for feature in features:
        if kinds.is_special(feature):
            # The strict way never sees a row with one.
            read = WrapValidator(kinds.reader(feature))
            limit = Field(allow_inf_nan=False, ge=bounds(feature)[0], le=bounds(feature)[1])
            fields[feature.name] = NotRequired[Annotated[float, limit, BeforeValidator(_measured), read]]
            continue
        low, high = bounds(feature)
        limit = Field(strict=strict, allow_inf_nan=False, ge=low, le=high)
        fields[feature.name] = NotRequired[
            Annotated[float, limit] if strict else Annotated[float, limit, BeforeValidator(_measured)]
        ]
    row = TypedDict("row", fields)  # type: ignore[misc]
    row.__pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[attr-defined]
    return row
