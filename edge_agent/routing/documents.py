"""Reads a sensor's values from messages that need not contain all of them: a document, or a single value.

Rules:

* what is there and sound is taken; what is there and unusable takes the value before it away, and is a reason to reject;
* where a message need not bring all, null and the words that stand for it ("unavailable", "unknown", "nan", "---") take
  the value before away, and are no reason to reject: the sensor says that it does not know;
* what is not there stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator, Field, TypeAdapter

from edge_agent.contract.card import Feature
from edge_agent.contract.messages import MAX_PAYLOAD_BYTES, Detail, ErrorCode, cut_details, shown
from edge_agent.contract.topics import is_unfit
from edge_agent.payload import formats, json_text
from edge_agent.payload.checks import ECHOED, Checker, echo, row_type
from edge_agent.payload.features import Features, Fields, Unusable, choose, refuse, unreadable
from edge_agent.payload.format import Telling
from edge_agent.payload.places import Place, as_came, converted
from edge_agent.payload.ranges import Ranges

#: Most of an unreadable payload that is looked at for its rejection, in characters.
_SHOWN: Final = 1024
_NUMBERS: Final = frozenset({float, int})
#: Longest text that may name a sensor.
_MAX_NAME: Final = 256


class Need(StrEnum):
    """How many of its features a message has to bring, lest it is rejected."""

    ALL = "all"
    ANY = "any"
    NONE = "none"
    #: All, but one that does not is not meant for us.
    ALL_OR_IGNORED = "all or ignored"


class Part(NamedTuple):
    """The content of one message: `values` by position in the model, positions to forget, and the reasons for a rejection.

    `echo` goes back with the answer; `named` is what the message says of its sensor. `outside` are the reasons to reject
    values beyond all that the model was trained on, by position, where the route wants that.
    """

    values: list[tuple[int, float]]
    forgotten: list[int]
    refusal: Unusable | None
    echo: dict[str, Any]
    named: tuple[str, ...] = ()
    outside: Mapping[int, Detail] = {}

    @property
    def is_empty(self) -> bool:
        """Whether it contains nothing about any feature."""
        return not self.values and not self.forgotten and self.refusal is None


class _Outside(dict[str, float]):
    """A row with something outside of what training saw."""


class Document:
    """Reads what is published on topics of one kind.

    `places` are the features to be found there, each with its place; an empty path is all of the payload. `echoed`
    are the paths to what goes back with the answer, `capture` those to what names the sensor. `ranges` say what is outside
    of what training saw.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        places: Fields,
        need: Need,
        *,
        echoed: Fields = (),
        capture: Fields = (),
        max_bytes: int = MAX_PAYLOAD_BYTES,
        ranges: Ranges | None = None,
    ) -> None:
        self._ranges = Ranges(features, "pass") if ranges is None else ranges
        position = {feature.name: number for number, feature in enumerate(features)}
        self.positions = tuple(position[name] for name, _ in places)
        self._position = position
        self._name = {number: name for name, number in position.items()}
        self._places, self._echoed, self._capture = places, echoed, capture
        self._need = need
        # What leads into a document is named where it leads nowhere.
        inside = tuple((name, place) for name, place in places if place.at)
        wanted = [features[one] for one in self.positions]
        self._checker = Checker(wanted, fields=inside)
        self._max_bytes = max_bytes
        self._names = [name for name, _ in places]
        #: What the weight of a payload is estimated by.
        self._sought = [*self._names, *(place.at[0] for _, place in inside)]
        #: What a message lacks without which the model has no answer.
        self._required = {feature.name for feature in wanted if not feature.missing}
        #: The keys at the top that everything is below.
        self.keys = [place.at[0] if place.at else name for name, place in (*places, *echoed, *capture)]
        #: Whether an array is one message: something in it is found by its position or by a selector.
        self._takes_arrays = any(not place.at or place.is_in_array for _, place in (*places, *capture))
        self._takes_text = all(not place.at for _, place in places) and not capture
        self._converted = converted(places)
        #: Whether a document has all features at its top under their own names, so that it is a row as it came.
        plain = self._checker.plain
        self._is_row = plain and all(place.how is None and place.at == (name,) for name, place in places)
        #: Whether sound values are taken without a look for what says that there is none.
        self._is_quick = plain and need is not Need.ALL
        #: Reads and checks JSON in one go, where a document may be a row of the model; what it does not take is no mistake yet.
        self._whole: TypeAdapter[dict[str, float]] | None = None
        echoes_row = echoed == tuple((name, Place((name,))) for name in ECHOED) and position.keys().isdisjoint(ECHOED)
        if self._is_row and self._names == list(position) and echoes_row and not capture:
            narrow: Any = row_type(self._ranges.narrowed(features), strict=True)
            wide: Any = Annotated[row_type(features, strict=True), AfterValidator(_Outside)]
            either: Any = Annotated[narrow | wide, Field(union_mode="left_to_right")]
            self._whole = TypeAdapter(narrow if self._ranges.rejects else either)
        #: The position of the feature whose value is all of a message, and the limits in which it needs no closer look.
        self._only: tuple[int, tuple[float, float]] | None = None
        if plain and [place for _, place in places] == [Place(())] and not (echoed or capture):
            (only,) = self.positions
            self._only = only, self._ranges.within(only, features[only])

    def read(self, payload: bytes, content_type: str | None = None) -> Features | list[Part] | Unusable:
        """Return the content of a message: one part, or one for each item of an array; or why it can't be read. A row of the
        model comes as such, with what is outside of what training saw.
        """
        chosen = choose(payload, content_type, self._sought, max_bytes=self._max_bytes)
        if isinstance(chosen, Unusable):
            return chosen
        if self._whole is not None and chosen is formats.JSON and (whole := self._read_whole(self._whole, payload)):
            return whole
        try:
            content = chosen.decode(payload, self.keys if chosen.keyed else self._names)
        except ValueError as error:
            text = json_text.bare(payload).decode(errors="replace")
            if chosen is not formats.JSON or (self._need is not Need.ANY and not self._takes_text):
                return unreadable(error, chosen, text[:_SHOWN])
            # Plain text, as most firmware publishes it: "+21.5" is a number, "unavailable" is told by the feature's name.
            content = text
        if self._only is not None and type(content) in _NUMBERS:
            position, (low, high) = self._only
            if low <= content <= high:
                return [Part([(position, float(content))], [], None, {})]
        if isinstance(content, list) and not self._takes_arrays and self._need is not Need.ANY:
            parts = [self.part(one, keyed=chosen.keyed) for one in content]
        else:
            parts = [self.part(content, keyed=chosen.keyed)]
        if chosen.telling is not None and any(part.refusal is not None or part.outside for part in parts):
            each = chosen.telling(payload)
            if len(each) == len(parts):
                return [_told(part, tell) for part, tell in zip(parts, each, strict=True)]
        return parts

    def _read_whole(self, adapter: TypeAdapter[dict[str, float]], payload: bytes) -> Features | None:
        """Return the row of a document that has each feature as a number in bounds, and so needs no closer look; else None."""
        # What can't be such a document is not tried: an error would cost as much as it saves.
        if payload.count(b":") < len(self._names) or b"null" in payload:
            return None
        try:
            found = adapter.validate_json(payload)
            row = Features(self._checker.pick(found), echo(found))
        except (ValueError, KeyError):
            return None
        judged = self._ranges.judge(row) if type(found) is _Outside else row
        return judged if isinstance(judged, Features) else None

    def part(self, content: Any, *, keyed: bool = True) -> Part:
        """Return what decoded content brings. `keyed`: whether the keys of a row are the sensor's own."""
        part = self._part(content, keyed=keyed)
        if not self._ranges.rejects or not (outside := self._ranges.among(part.values)):
            return part
        row = self._row(content, keyed=keyed)
        reasons = [self._ranges.reason(position, row[self._name[position]]) for position, _ in outside]
        if self._converted:
            reasons = as_came(reasons, content, self._converted)
        return part._replace(outside={position: one for (position, _), one in zip(outside, reasons, strict=True)})

    def _part(self, content: Any, *, keyed: bool) -> Part:
        named = self._named(content) if self._capture else ()
        if isinstance(named, Unusable):
            return Part([], [], named, {})
        row = self._row(content, keyed=keyed)
        echo = self._dug(content, self._echoed) if self._echoed else {}
        if self._is_quick:
            sound, detail = self._checker.check_present(row)
            if sound and not detail and (self._need is not Need.ALL_OR_IGNORED or len(sound) == len(self._names)):
                return Part([(self._position[name], value) for name, value in sound.items()], [], None, echo, named)
        unknown: list[str] = []
        if self._need in {Need.NONE, Need.ALL_OR_IGNORED}:
            unknown = [name for name in self._names if name in row and self._checker.is_no_value(name, row[name])]
            row = {name: value for name, value in row.items() if name not in unknown}
        if self._need is Need.ALL_OR_IGNORED and not (row and self._required <= row.keys()):
            return Part([], [], None, echo, named)
        if self._need in {Need.ALL, Need.ALL_OR_IGNORED}:
            found = self._checker.check(row, sent=content)
            if isinstance(found, Unusable):
                detail = as_came(found.detail, content, self._converted) if self._converted else found.detail
                return Part([], list(self.positions), Unusable(found.code, detail, echo), echo, named)
            return Part(list(zip(self.positions, found.values, strict=True)), [], None, echo, named)
        sound, detail = self._checker.check_present(row)
        if not sound and not detail and self._need is Need.ANY:
            found = self._checker.check(row)
            detail = [{**one, "input": shown(content)} for one in found.detail] if isinstance(found, Unusable) else []
        if self._converted:
            detail = as_came(detail, content, self._converted)
        wrong = [name for name in self._names if name in row and name not in sound]
        # A message of nothing that can be used takes away all that it could have brought.
        lost = [*unknown, *wrong] if sound or unknown or wrong or not detail else [*self._names]
        lost += [name for name, value in sound.items() if math.isnan(value)]  # where the model takes missing ones
        return Part(
            [(self._position[name], value) for name, value in sound.items() if not math.isnan(value)],
            [self._position[name] for name in lost],
            Unusable(ErrorCode.INVALID_FEATURES, cut_details(detail), echo) if detail else None,
            echo,
            named,
        )

    def _row(self, content: Any, *, keyed: bool) -> dict[str, Any]:
        """Return the value of each feature that the content contains."""
        if (self._is_row or not keyed) and isinstance(content, dict):
            return content
        return self._dug(content, self._places)

    def _named(self, content: Any) -> tuple[str, ...] | Unusable:
        """Return the sensor's names from the content, each a valid topic level; or why one is not."""
        dug = self._dug(content, self._capture)
        names: list[str] = []
        for name, place in self._capture:
            value = dug.get(name)
            text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
            wrong = "missing" if value is None else _no_level(text)
            if not isinstance(text, str) or wrong is not None:
                where = ".".join(place.at)
                words = f"capture.{name}: {where} {wrong}; it has to be text or a whole number that can be a level of a topic"
                return refuse(ErrorCode.INVALID_TOPIC, words, shown=shown(value))
            names.append(text)
        return tuple(names)

    @staticmethod
    def _dug(content: Any, places: Fields) -> dict[str, Any]:
        found: dict[str, Any] = {}
        top = type(content) is dict
        for name, place in places:
            if top and place.at and place.at[0] not in content:
                continue  # quicker than an exception
            try:
                found[name] = place.find(content)
            except LookupError:
                continue
        return found


def _told(part: Part, tell: Telling) -> Part:
    """Return a part with reasons that tell what came of it."""
    if part.outside:
        told = tell([*part.outside.values()])
        part = part._replace(outside=dict(zip(part.outside, told, strict=True)))
    if (found := part.refusal) is None or found.code is not ErrorCode.INVALID_FEATURES:
        return part
    return part._replace(refusal=found._replace(detail=tell(found.detail)))


def _no_level(value: object) -> str | None:
    """Return why a value can't be one level of a topic, None when it can."""
    if not isinstance(value, str):
        return "is no text"
    if not value or len(value.encode(errors="replace")) > _MAX_NAME:
        return f"is empty, or longer than {_MAX_NAME} bytes"
    if any(mark in value for mark in "/+#\0") or is_unfit(value):
        return "has a character that can't stand in a level"
    return None
