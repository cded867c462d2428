"""Decodes payloads into checked features.

The strict path accepts only numbers and does all work, including parsing, in pydantic's compiled core: nearly every
message ends there. What it refuses is parsed and goes through `edge_agent.payload.checks`, which takes numbers in strings
(sensors send them), words where the card has them, and gives each reason in the words of the wire contract. Neither lets the
model see an infinity, a value out of bounds, or, but for what the card says, a boolean, NaN or a missing value.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Annotated, Any, Final, NamedTuple

from pydantic import FailFast, Field, TypeAdapter
from pydantic_core import from_json

from edge_agent.contract.card import Feature
from edge_agent.contract.messages import MAX_PAYLOAD_BYTES, ErrorCode, cut_details
from edge_agent.payload import checks, formats, packed
from edge_agent.payload.checks import ECHOED as ECHOED  # noqa: PLC0414 - re-exported for users of this file
from edge_agent.payload.checks import Brief as Brief  # noqa: PLC0414
from edge_agent.payload.checks import Checker, echo
from edge_agent.payload.checks import Features as Features  # noqa: PLC0414
from edge_agent.payload.checks import Fields as Fields  # noqa: PLC0414
from edge_agent.payload.checks import Unusable as Unusable  # noqa: PLC0414
from edge_agent.payload.columns import BatchTable
from edge_agent.payload.format import Format, Telling
from edge_agent.payload.places import as_came, converted
from edge_agent.payload.ranges import Outside, Ranges
from edge_agent.payload.weights import LIGHT, MAX_WEIGHT, HeavyError

MAX_BATCH_ROWS: Final = 10_000
#: Most rows of a batch whose rejections tell what came, where that has to be read once more: memory and time are bounded.
_TOLD: Final = 1000
#: Bytes of a batch from which on its first row is looked at before the others, and in how many that row is looked for.
_LONG: Final = 1 << 16
_BEGINNING: Final = 4096
_ID: Final = itemgetter("id")


class Batch(NamedTuple):
    """The rows of an array, by column: a batch of 10,000 rows is lists, not 10,000 objects.

    `values` are those of the usable rows, in order; `echoes`, as many, what each has to have echoed (None: nothing, for
    all of them). Where that is a whole number as `id` and nothing else, it stands in `ids` instead. `rejected` says by
    position, in order, which rows are not among them, and why. `outside` names by place, of the usable rows that have
    any, the features outside of what training saw.
    """

    values: list[tuple[float, ...]]
    echoes: Sequence[Mapping[str, Any]] | None = None
    ids: list[int] | None = None
    rejected: Mapping[int, Unusable | Brief] = {}
    outside: Mapping[int, tuple[str, ...]] = {}

    def echoes_of(self, first: int, count: int) -> Sequence[Mapping[str, Any]]:
        """Return the echoed keys of `count` usable rows, from the `first` on."""
        if self.ids is not None:
            return [{"id": number} for number in self.ids[first : first + count]]
        return [{}] * count if self.echoes is None else self.echoes[first : first + count]


class FeatureCodec:
    """Decodes the payloads meant for one model. Knows nothing but the features of its card, and where they sit.

    `outside` says what becomes of values beyond all that the model was trained on.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        *,
        fields: Fields = (),
        outside: Outside = "pass",
        max_bytes: int = MAX_PAYLOAD_BYTES,
        max_rows: int = MAX_BATCH_ROWS,
    ) -> None:
        self._fields = fields
        self._ranges = Ranges(features, outside)
        #: Marks what is outside in a row that was gathered.
        self.judge = self._ranges.judge
        self._max_bytes = max_bytes
        self._max_rows = max_rows
        self._checker = Checker(features, fields=fields)
        self._names = self._checker.names
        #: Whether the strict way is open.
        self._is_plain = self._checker.plain and not fields
        #: If rows have the sensor's own keys, the first keys of `fields` are read, too.
        self._keys = [*self._names, *(place.at[0] for _, place in fields if place.at)]
        #: Whether an array is one message: something in it is found by its position or by a selector.
        self._takes_arrays = any(place.is_in_array for _, place in fields)
        self._converted = converted(fields)
        #: A feature may itself be called `id` or `time`: then each row has a key to echo.
        self._echoing = not set(ECHOED).isdisjoint(self._names)
        # What is outside goes the lenient way, which tells it; so the strict one looks for nothing more than before.
        narrow = self._ranges.narrowed(features)
        self._narrow = [checks.bounds(feature) for feature in narrow]
        strict = checks.row_type(narrow, strict=True)
        self._strict_row: TypeAdapter[dict[str, Any]] = TypeAdapter(strict)
        # Errors take memory, too: after one, the lenient path takes over.
        strict_rows: Any = Annotated[list[strict], Field(max_length=max_rows), FailFast()]  # type: ignore[valid-type]
        self._strict_rows: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(strict_rows)

    def decode(self, payload: bytes, content_type: str | None = None) -> Features | Unusable | Batch:
        """Return the features of an object, the rows of an array, or why it is neither. Never raises."""
        chosen = choose(payload, content_type, self._keys, max_bytes=self._max_bytes, max_rows=self._max_rows)
        if isinstance(chosen, Unusable):
            return chosen
        found: Features | Unusable | Batch | None = None
        try:
            if chosen is formats.JSON and self._is_plain:
                found = self._decode_strictly(payload)
            elif chosen is formats.PACKED and self._checker.plain:
                found = self._decode_packed(payload)
        except (ValueError, KeyError):
            found = None  # use the lenient path, which finds the reason
        if found is None:
            found = self._decode_leniently(payload, chosen)
            if chosen.telling is not None:
                return _told(found, chosen.telling, payload)
        return found

    def _decode_strictly(self, payload: bytes) -> Features | Batch | None:
        """Return the rows if all are valid, None when there may be too many of them.

        Raises `ValueError` for a value that is not valid and `KeyError` for one that is missing.
        pydantic parses JSON into values of its own first, about 1 KB an object, so their number is looked at before.
        """
        if payload.lstrip()[:1] != b"[":
            return self._features(self._strict_row.validate_json(payload))
        # No object takes less than the three bytes of `{},`.
        if len(payload) > 3 * self._max_rows and payload.count(b"{") > self._max_rows:
            return None
        if len(payload) > _LONG:
            # Mostly all rows have the same mistake, for which a long batch would be parsed twice.
            first, *others = from_json(payload[:_BEGINNING], allow_partial=True)
            if others:
                self._checker.pick(self._strict_row.validate_python(first))
        return self._batch(self._strict_rows.validate_json(payload))

    def _decode_packed(self, payload: bytes) -> Features | Batch | None:
        """Return what holds nothing but valid rows, checked by column; else None. Raises `ValueError` as `unpack` does."""
        rows = packed.unpack(payload, len(self._names))
        if len(rows) > self._max_rows or self._echoing:
            return None
        for column, (low, high) in zip(zip(*rows, strict=True), self._narrow, strict=True):
            # NaN gets past `min` and `max`, but not past a sum.
            if not (low <= min(column) and max(column) <= high and math.isfinite(sum(column))):
                return None
        return Features(rows[0], {}) if len(rows) == 1 else Batch(rows)

    def check(self, row: object) -> Features | Unusable:
        """Check one row that is already parsed and gathered, leniently."""
        return self._judged(self._checker.check(row), row)

    def _judged(self, found: Features | Unusable, row: Any) -> Features | Unusable:
        return self._ranges.judge(found, row) if isinstance(found, Features) else found

    def _decode_leniently(self, payload: bytes, chosen: Format) -> Features | Unusable | Batch:
        try:
            content = chosen.decode(payload, self._keys if chosen.keyed else self._names)
        except ValueError as error:
            return unreadable(error, chosen, payload[:1024].decode(errors="replace"), max_rows=self._max_rows)
        fields = self._fields if chosen.keyed else ()
        if isinstance(content, dict) or (isinstance(content, list) and fields and self._takes_arrays):
            row = _pick(content, fields)
            found = self._judged(self._checker.check(row, sent=content), row)
            if isinstance(found, Unusable) and fields and self._converted:
                return found._replace(detail=as_came(found.detail, content, self._converted))
            return found
        if not isinstance(content, list):
            return refuse(
                ErrorCode.MALFORMED_PAYLOAD, "The payload must be an object, or an array of objects", shown=content
            )
        if len(content) > self._max_rows:
            return refuse(
                ErrorCode.PAYLOAD_TOO_LARGE, f"The batch has {len(content)} rows; at most {self._max_rows} are accepted"
            )
        return self._check_rows(content, fields)

    def _check_rows(self, content: list[Any], fields: Fields) -> Batch:
        """Check rows leniently: the first rejected rows get all their reasons, the others one."""
        table = BatchTable(self._checker)
        for place in range(0, len(content), BatchTable.ROWS):
            sent = content[place : place + BatchTable.ROWS]
            table.add([_pick(row, fields) for row in sent] if fields else sent, sent)
        batch = self._judge_batch(Batch(table.values, table.echoes, rejected=table.rejected), content, fields)
        if fields and self._converted:
            return batch._replace(
                rejected={place: self._as_came(why, content[place]) for place, why in batch.rejected.items()}
            )
        return batch

    def _as_came(self, why: Unusable | Brief, sent: object) -> Unusable:
        found = _in_full(why)
        return found._replace(detail=as_came(found.detail, sent, self._converted))

    def _judge_batch(self, batch: Batch, content: list[Any], fields: Fields) -> Batch:
        """Return the batch made of `content` with what is outside in its rows told, or rejected."""
        told = self._ranges.told(batch.values)
        if not told:
            return batch
        if not self._ranges.rejects:
            return batch._replace(outside={place: self._ranges.names(outside) for place, outside in told.items()})
        echoes = batch.echoes_of(0, len(batch.values))
        rejected = dict(batch.rejected)
        usable = [one for one in range(len(batch.values) + len(rejected)) if one not in rejected]
        for place, outside in told.items():
            sent = _pick(content[usable[place]], fields)
            rejected[usable[place]] = self._ranges.rejected(outside, sent, echoes[place])
        kept = [place for place in range(len(usable)) if place not in told]
        return Batch(
            [batch.values[place] for place in kept],
            [echoes[place] for place in kept],
            rejected=dict(sorted(rejected.items())),
        )

    def _batch(self, rows: list[dict[str, Any]]) -> Batch:
        """Return checked rows as a batch; a row longer than its features has keys to echo."""
        values, width = list(map(self._checker.pick, rows)), len(self._names)
        lengths = set(map(len, rows))
        if self._echoing:
            return Batch(values, [echo(row) for row in rows])
        if lengths <= {width}:
            return Batch(values)
        if lengths == {width + 1} and (ids := _whole_numbers(rows)) is not None:
            return Batch(values, ids=ids)
        return Batch(values, [echo(row) for row in rows])

    def _features(self, row: dict[str, Any]) -> Features:
        return Features(self._checker.pick(row), echo(row))


def _told(
    found: Features | Unusable | Batch, telling: Callable[[bytes], Sequence[Telling]], payload: bytes
) -> Features | Unusable | Batch:
    """Return it with reasons that tell what came of their rows."""
    if isinstance(found, Unusable) and found.code is ErrorCode.INVALID_FEATURES:
        each = telling(payload)
        # `fields` may take the rows of an array as one message.
        return found._replace(detail=each[0](found.detail)) if len(each) == 1 else found
    if isinstance(found, Batch) and found.rejected:
        each = telling(payload)
        rejected = dict(found.rejected)
        for place in islice(found.rejected, _TOLD):
            one = _in_full(rejected[place])
            rejected[place] = one._replace(detail=each[place](one.detail))
        return found._replace(rejected=rejected)
    return found


def _in_full(why: Unusable | Brief) -> Unusable:
    return why if isinstance(why, Unusable) else checks.in_full(why)


def _whole_numbers(rows: list[dict[str, Any]]) -> list[int] | None:
    """Return the ids of `rows` when all are whole numbers; else None, and where one is large: that takes its time to
    write, and there is no end to it.
    """
    try:
        ids = list(map(_ID, rows))
        # Accepts only integers, and is fast. Booleans pass, which is harmless.
        array("q", ids)
    except (KeyError, TypeError, OverflowError):
        return None
    return ids


def _pick(row: object, fields: Fields) -> object:
    """Return `row` with the values at the paths in `fields`; values without one stay missing."""
    if not fields or not isinstance(row, dict | list):
        return row
    picked = dict(row) if isinstance(row, dict) else {}
    for name, place in fields:
        picked.pop(name, None)
        try:  # faster than `suppress`, and there may be many
            picked[name] = place.find(row)
        except LookupError:
            continue
    return picked


def choose(
    payload: bytes,
    content_type: str | None,
    keys: Sequence[str],
    *,
    max_bytes: int = MAX_PAYLOAD_BYTES,
    max_rows: int = MAX_BATCH_ROWS,
) -> Format | Unusable:
    """Return the format of a payload, in which `keys` are looked for, or why it is rejected without decoding."""
    if len(payload) > max_bytes:
        return refuse(ErrorCode.PAYLOAD_TOO_LARGE, f"The payload has more than {max_bytes} bytes")
    chosen = formats.find(content_type)
    if chosen is None:
        return refuse(
            ErrorCode.UNSUPPORTED_CONTENT_TYPE,
            f"The content type must be one of {', '.join(formats.known())}",
            shown=content_type,
        )
    if len(payload) > LIGHT and chosen.weigh is not None and chosen.weigh(payload, keys) > MAX_WEIGHT:
        return _too_heavy(max_rows)
    return chosen


def unreadable(error: ValueError, chosen: Format, shown: str, *, max_rows: int = MAX_BATCH_ROWS) -> Unusable:
    """Return the rejection of a payload that a format did not decode."""
    if isinstance(error, HeavyError):
        return _too_heavy(max_rows)
    return refuse(ErrorCode.MALFORMED_PAYLOAD, str(error), kind=chosen.invalid, shown=shown)


def _too_heavy(max_rows: int) -> Unusable:
    return refuse(ErrorCode.PAYLOAD_TOO_LARGE, f"The payload has too many values; at most {max_rows} rows are accepted")


def refuse(code: ErrorCode, message: str, *, kind: str | None = None, shown: object = None) -> Unusable:
    """Return the rejection of a whole payload, for one reason. `kind` is the reason's type if it is not the code."""
    return Unusable(code, cut_details([{"type": kind or code.value, "loc": [], "msg": message, "input": shown}]), {})
