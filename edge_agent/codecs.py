"""Bytes to checked features.

Two validators are made from a model's card. The strict one takes numbers only and does the whole work, parsing
included, in pydantic's compiled core: nearly every message ends there. What it refuses goes through the lenient one,
which takes numbers in strings (sensors send them) and gives each reason in the words of the wire contract. Both refuse
booleans, NaN, infinities, missing values and values out of bounds, so the model never sees one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice, repeat
from operator import itemgetter
from typing import Annotated, Any, Final, NamedTuple, NotRequired, TypeAlias

from pydantic import BeforeValidator, ConfigDict, FailFast, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from edge_agent import formats
from edge_agent.card import FLOAT32_MAX, Feature
from edge_agent.formats import Format
from edge_agent.messages import MAX_DETAILS, Detail, ErrorCode, cut_details
from edge_agent.weights import MAX_WEIGHT

#: Keys of a message that are handed back with its answer.
ECHOED: Final = ("id", "time")

#: Where features (and what is echoed) sit in a sensor's own JSON: pairs of a name and the way there.
Fields: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]

MAX_PAYLOAD_BYTES: Final = 4 * 1024 * 1024
MAX_BATCH_ROWS: Final = 10_000
#: Reasons that the rejections of one batch give together, besides the first of each row.
_BATCH_DETAILS: Final = 1000
#: Larger whole numbers take their time to write, and there is no end to them.
_LARGE: Final = 1 << 63
_ID: Final = itemgetter("id")


class Features(NamedTuple):
    """One checked row: values in the order of the card, and what has to be echoed."""

    values: tuple[float, ...]
    echo: dict[str, Any]


class Unusable(NamedTuple):
    """Why a row, or a whole payload, can't become features."""

    code: ErrorCode
    detail: list[Detail]
    echo: dict[str, Any]


class Batch(NamedTuple):
    """The rows of an array, by column: a batch of 10,000 rows is lists, not 10,000 objects.

    `values` are those of the usable rows, in order; `echoes`, as many, what each has to have echoed (None: nothing, for
    all of them). Where that is a whole number as `id` and nothing else, it stands in `ids` instead. `unusable` says by
    position which rows are not among them, and why.
    """

    values: list[tuple[float, ...]]
    echoes: Sequence[Mapping[str, Any]] | None = None
    ids: list[int] | None = None
    unusable: Mapping[int, Unusable] = {}

    @classmethod
    def of(cls, rows: Sequence[Features | Unusable]) -> Batch:
        """Return the batch of these rows."""
        usable = [row for row in rows if isinstance(row, Features)]
        unusable = {position: row for position, row in enumerate(rows) if isinstance(row, Unusable)}
        return cls([row.values for row in usable], [row.echo for row in usable], unusable=unusable)

    @property
    def echoed(self) -> Iterator[Mapping[str, Any]]:
        """What each usable row has to have echoed."""
        if self.ids is not None:
            return ({"id": number} for number in self.ids)
        return iter(self.echoes) if self.echoes is not None else repeat({}, len(self.values))

    @property
    def rows(self) -> list[Features | Unusable]:
        """The rows one by one."""
        usable = zip(self.values, map(dict, self.echoed), strict=True)
        return [
            self.unusable.get(position) or Features(*next(usable))
            for position in range(len(self.values) + len(self.unusable))
        ]


class FeatureCodec:
    """Decodes the payloads meant for one model. Knows nothing but the features of its card, and where they sit."""

    def __init__(
        self,
        features: Sequence[Feature],
        *,
        fields: Fields = (),
        max_bytes: int = MAX_PAYLOAD_BYTES,
        max_rows: int = MAX_BATCH_ROWS,
    ) -> None:
        self._fields = fields
        self._max_bytes = max_bytes
        self._max_rows = max_rows
        self._names = [feature.name for feature in features]
        self._wanted = frozenset(self._names)
        #: Where rows have keys of the sensor's own, those that `fields` begin with are looked for too.
        self._keys = [*self._names, *(way[0] for _, way in fields)]
        self._bounds = [_bounds(feature) for feature in features]
        #: A feature may itself be called `id` or `time`: then each row has something to echo.
        self._echoing = not set(ECHOED).isdisjoint(self._names)
        self._values = _picker(self._names)
        strict = _row_type(features, strict=True)
        self._strict_row: TypeAdapter[dict[str, Any]] = TypeAdapter(strict)
        # Errors take memory too: one is enough to leave it to the lenient way.
        strict_rows: Any = Annotated[list[strict], Field(max_length=max_rows), FailFast()]  # type: ignore[valid-type]
        self._strict_rows: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(strict_rows)
        self._lenient_row: TypeAdapter[dict[str, Any]] = TypeAdapter(_row_type(features, strict=False))

    def decode(self, payload: bytes, content_type: str | None = None) -> Features | Unusable | Batch:
        """Return the features of an object, the rows of an array, or why it is neither. Never raises."""
        chosen = self.choose(payload, content_type)
        if isinstance(chosen, Unusable):
            return chosen
        found: Features | Batch | None = None
        # What is not found in these ways goes the lenient one, which finds out why.
        if chosen is formats.JSON and not self._fields:
            with suppress(ValidationError, KeyError):
                found = self._decode_strictly(payload)
        elif chosen is formats.PACKED:
            with suppress(ValueError):
                found = self._decode_packed(payload)
        return self._decode_leniently(payload, chosen) if found is None else found

    def choose(self, payload: bytes, content_type: str | None) -> Format | Unusable:
        """Return the format of a payload, or why it is not even looked into."""
        if len(payload) > self._max_bytes:
            return refuse(ErrorCode.PAYLOAD_TOO_LARGE, f"The payload has more than {self._max_bytes} bytes")
        chosen = formats.find(content_type)
        if chosen is None:
            return refuse(
                ErrorCode.UNSUPPORTED_CONTENT_TYPE,
                f"The content type has to be one of {', '.join(formats.known())}",
                shown=content_type,
            )
        if len(payload) > formats.LIGHT and chosen.weigh(payload, self._keys) > MAX_WEIGHT:
            return refuse(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"The payload holds too many values to look at; at most {self._max_rows} rows are taken",
            )
        return chosen

    def _decode_strictly(self, payload: bytes) -> Features | Batch | None:
        """Return what holds nothing but valid rows, None when there may be too many of them.

        Raises `ValidationError` for a value that is not valid and `KeyError` for one that is missing.
        pydantic parses JSON into values of its own first, about 1 KB an object, so their number is looked at before.
        """
        if payload.lstrip()[:1] != b"[":
            return self._features(self._strict_row.validate_json(payload))
        # No object takes less than the three bytes of `{},`.
        if len(payload) > 3 * self._max_rows and payload.count(b"{") > self._max_rows:
            return None
        return self._batch(self._strict_rows.validate_json(payload))

    def _decode_packed(self, payload: bytes) -> Features | Batch | None:
        """Return what holds nothing but valid rows, checked by column; else None. Raises `ValueError` as `unpack` does."""
        rows = formats.unpack(payload, len(self._names))
        if len(rows) > self._max_rows or self._echoing:
            return None
        for column, (low, high) in zip(zip(*rows, strict=True), self._bounds, strict=True):
            # NaN gets past `min` and `max`, but not past a sum.
            if not (low <= min(column) and max(column) <= high and math.isfinite(sum(column))):
                return None
        return Features(rows[0], {}) if len(rows) == 1 else Batch(rows)

    def check(self, row: object, *, reasons: int = MAX_DETAILS) -> Features | Unusable:
        """Check one row that is already parsed and gathered, leniently; give so many `reasons` at the most."""
        wrong: list[Any] = []
        try:
            return self._features(self._lenient_row.validate_python(row))
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False)
        except KeyError:
            pass  # nothing that is there is wrong
        missing = self._wanted.difference(row) if isinstance(row, dict) else frozenset[str]()
        detail = list(islice(self._reasons(row, wrong, missing), reasons))
        return Unusable(
            ErrorCode.INVALID_FEATURES, cut_details(detail, reasons, total=len(wrong) + len(missing)), _echo(row)
        )

    def _reasons(self, row: object, wrong: Sequence[Any], missing: Collection[str]) -> Iterator[Detail]:
        """Yield the reasons in the order of the features. Those for what is missing are made here: pydantic would make all
        of them for every row, and three bytes have as many as the model has features.
        """
        found = {one["loc"][:1]: one for one in wrong}  # what is no object at all is wrong at ()
        places: Iterator[tuple[str, ...]] = chain([()], zip(self._names))
        for place in places:
            if (one := found.get(place)) is not None:
                yield {"type": one["type"], "loc": list(one["loc"]), "msg": one["msg"], "input": one["input"]}
            elif place and place[0] in missing:
                yield {"type": "missing", "loc": [place[0]], "msg": "Field required", "input": row}

    def _decode_leniently(self, payload: bytes, chosen: Format) -> Features | Unusable | Batch:
        try:
            content = chosen.decode(payload, self._keys if chosen.keyed else self._names)
        except ValueError as error:
            return refuse(
                ErrorCode.MALFORMED_PAYLOAD,
                str(error),
                kind=chosen.invalid,
                shown=payload[:1024].decode(errors="replace"),
            )
        fields = self._fields if chosen.keyed else ()
        if isinstance(content, dict):
            return self.check(_gather(content, fields))
        if not isinstance(content, list):
            return refuse(
                ErrorCode.MALFORMED_PAYLOAD, "The payload has to be an object, or an array of them", shown=content
            )
        if len(content) > self._max_rows:
            return refuse(
                ErrorCode.PAYLOAD_TOO_LARGE, f"The batch has {len(content)} rows; at most {self._max_rows} are taken"
            )
        rows: list[Features | Unusable] = []
        left = _BATCH_DETAILS
        for row in content:
            checked = self.check(_gather(row, fields), reasons=min(MAX_DETAILS, max(1, left)))
            if isinstance(checked, Unusable):
                left -= len(checked.detail)
            rows.append(checked)
        return Batch.of(rows)

    def _batch(self, rows: list[dict[str, Any]]) -> Batch:
        """Return checked rows as a batch; a row that is longer than its features has something to echo."""
        values, width = list(map(self._values, rows)), len(self._names)
        lengths = set(map(len, rows))
        if self._echoing:
            return Batch(values, [_echo(row) for row in rows])
        if lengths <= {width}:
            return Batch(values)
        if lengths == {width + 1} and (ids := _whole_numbers(rows)) is not None:
            return Batch(values, ids=ids)
        return Batch(values, [_echo(row) for row in rows])

    def _features(self, row: dict[str, Any]) -> Features:
        return Features(self._values(row), _echo(row))


def _echo(row: object) -> dict[str, Any]:
    if isinstance(row, dict):
        return {key: row[key] for key in ECHOED if key in row}
    return {}


def _whole_numbers(rows: list[dict[str, Any]]) -> list[int] | None:
    """Return the ids of `rows` when all are whole numbers, of a size that is quick to write; else None."""
    try:
        ids = list(map(_ID, rows))
    except KeyError:
        return None
    whole = set(map(type, ids)) == {int} and -_LARGE < min(ids) <= max(ids) < _LARGE
    return ids if whole else None


def _gather(row: object, fields: Fields) -> object:
    """Return `row` with what `fields` names put in by name; what is not there stays missing."""
    if not fields or not isinstance(row, dict):
        return row
    gathered = dict(row)
    for name, way in fields:
        gathered.pop(name, None)
        with suppress(LookupError):
            gathered[name] = dig(row, way)
    return gathered


def dig(content: object, way: Sequence[str]) -> Any:
    """Return what `way` leads to in `content`: keys of objects, places in arrays. Raises LookupError when there is nothing."""
    found: Any = content
    for step in way:
        if isinstance(found, dict):
            found = found[step]
        elif isinstance(found, list) and step.isdecimal():
            found = found[int(step)]
        else:
            raise LookupError(step)
    return found


def refuse(code: ErrorCode, message: str, *, kind: str | None = None, shown: object = None) -> Unusable:
    """Return the refusal of a whole payload, for one reason. `kind` is that of the reason when it is not the code's."""
    return Unusable(code, cut_details([{"type": kind or code.value, "loc": [], "msg": message, "input": shown}]), {})


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, float]], tuple[float, ...]]:
    """Return what takes the values of `names` out of a row, as a tuple (itemgetter of one name gives no tuple)."""
    if len(names) == 1:
        (only,) = names
        return lambda row: (row[only],)
    return itemgetter(*names)


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "Input should be a valid number")
    return value


def _bounds(feature: Feature) -> tuple[float, float]:
    """Return the least and the largest value that is taken: none beyond float32, which the model computes in."""
    return (
        -FLOAT32_MAX if feature.minimum is None else feature.minimum,
        FLOAT32_MAX if feature.maximum is None else feature.maximum,
    )


def _row_type(features: Sequence[Feature], *, strict: bool) -> Any:
    """Return the typed dictionary of one row."""
    fields: dict[str, Any] = dict.fromkeys(ECHOED, NotRequired[Any])
    for feature in features:
        low, high = _bounds(feature)
        bounds = Field(strict=strict, allow_inf_nan=False, ge=low, le=high)
        # A row may lack values, which its reader notices: an error of pydantic's would hold a copy of the row each.
        fields[feature.name] = NotRequired[
            Annotated[float, bounds] if strict else Annotated[float, bounds, BeforeValidator(_no_boolean)]
        ]
    row = TypedDict("row", fields)  # type: ignore[misc]
    row.__pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[attr-defined]
    return row
