"""Decodes and encodes CBOR (RFC 8949) with cbor2, which is imported only here, and only when needed.

Rules:

* cbor2 gets no payload that would take it minutes or gigabytes: all heads are checked and weighed first, in one walk (`_examine`);
* its result is reduced to values that JSON can represent, or rejected.

Items lie one behind the other, whatever they are nested in, so nearly all of them can be skipped by a regular
expression: in Python, each would take as long as cbor2 takes for twenty.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from types import NoneType
from typing import Any, Final

from edge_agent.payload.format import Format
from edge_agent.payload.weights import ARRAY, LIGHT, MAX_DEPTH, MAX_WEIGHT, OBJECT, VALUE, HeavyError

CONTENT_TYPE: Final = "application/cbor"

#: Major types that count here (3.1), and tags that are taken (3.4): dates, whole numbers of any size, and decimal
#: fractions; those of shared values have their own refusal. cbor2 knows more, each a way to take much time or memory for few
#: bytes: regular expressions are compiled and kept, e-mails parsed, fractions reduced, and references to one long text
#: (tags 25 and 256) make an answer of as many copies.
_BYTES: Final = 2
_TEXT: Final = 3
_ARRAY: Final = 4
_OBJECT: Final = 5
_TAG: Final = 6
_BIGNUMS: Final = frozenset({2, 3})
_TAGS: Final = frozenset({0, 1, *_BIGNUMS, 4, 5, 28, 29, 100, 1004})
#: Tag 55799, "this is CBOR", which may be at the beginning (3.4.6).
_SELF_DESCRIBED: Final = b"\xd9\xd9\xf7"
#: Most bytes of a big integer: in a decimal fraction, time grows with the square of its size.
_MAX_BIGNUM: Final = 1024
#: Larger integers are rejected: printing them takes unbounded time, and none fits a float.
_MAX_BITS: Final = 1024
#: Types that `_scalar` leaves unchanged; without a tag, integers have at most 64 bits.
_SCALARS: Final = frozenset({str, int, float, bool, NoneType})
_TEXT_KEYS: Final = frozenset({str})


def _items() -> bytes:
    """Return a pattern for one item that needs no check: no tag, and no text or bytes of 24 and more."""
    alone = rb"[\x00-\x17\x20-\x37\x80-\x97\x9f-\xb7\xbf\xe0-\xf7\x40\x5f\x60\x7f\xff]"
    sized = [rb"[\x%02x\x%02x].{%d}" % (0x40 + size, 0x60 + size, size) for size in range(1, 24)]
    with_argument = [
        rb"["
        + b"".join(rb"\x%02x" % (major + 24 + power) for major in (0, 0x20, 0x80, 0xA0, 0xE0))
        + rb"].{%d}" % (1 << power)
        for power in (3, 0, 1, 2)
    ]
    return b"(?:" + b"|".join([alone, *with_argument, *sized]) + b")"


#: Items skipped at once; runs of this many bytes are first weighed roughly.
_MAX_RUN: Final = 4096
_LONG_RUN: Final = 4096
#: Factor for copying cbor2's values into plain ones.
_COPIES: Final = 2
#: A run of items, and the first byte of each.
_RUN: Final = re.compile(b"(?s)" + _items() + b"{1,%d}+" % _MAX_RUN)
_FIRST_BYTES: Final = re.compile(b"(?s)(?=(.))" + _items())
_ARRAYS: Final = bytes(range(0x80, 0xA0))
_OBJECTS: Final = bytes(range(0xA0, 0xC0))


def is_there() -> bool:
    """Tell whether cbor2 is installed."""
    return find_spec("cbor2") is not None


def decode(payload: bytes, _names: Sequence[str]) -> Any:
    """Decode one item. Raises `HeavyError` for too many, `ValueError` when it is malformed or not accepted."""
    payload = payload.removeprefix(_SELF_DESCRIBED)  # cbor2 6 decodes tagged maps to its own mapping type
    tagged = _examine(payload, _Scale(payload) if len(payload) > LIGHT else None)
    try:
        content = import_module("cbor2").loads(payload)
    except Exception as error:  # noqa: BLE001 - untrusted bytes: whatever a tag's decoder raises, they are malformed
        raise ValueError(f"Invalid CBOR: {str(error)[:200]}") from None
    return _plain(content, MAX_DEPTH, set()) if tagged else _untagged(content, MAX_DEPTH)


class _Scale:
    """Estimates how many bytes of memory decoding takes, from the items of a payload in order.

    Long runs are weighed roughly at first, by what any byte in them could begin: nearly always that is little enough.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        #: What is known for sure, and what the long runs weigh at least; those, each with its most.
        self._weight = self._least = 0
        self._rough: list[tuple[int, int, int]] = []
        self._follows_run = False

    def add_run(self, begin: int, end: int) -> None:
        """Add a run of items. Raises `HeavyError`."""
        if end - begin >= _LONG_RUN:
            if self._follows_run:
                # A run followed by another one is full.
                self._add(least=_COPIES * VALUE * _MAX_RUN)
            self._rough.append((_weight(_MAX_RUN, self._payload[begin:end]), begin, end))
        else:
            self._add(_weight_of_run(self._payload, begin, end))
        self._follows_run = True

    def add(self, kind: int) -> None:
        """Add an item of a major type. Raises `HeavyError`."""
        self._follows_run = False
        self._add(_COPIES * (ARRAY if kind == _ARRAY else OBJECT if kind == _OBJECT else VALUE))

    def settle(self) -> None:
        """Tell whether all of it is too much, which raises `HeavyError`."""
        at_most = self._weight + sum(most for most, _, _ in self._rough)
        self._least = 0
        for most, begin, end in self._rough:
            if at_most <= MAX_WEIGHT:
                return
            exact = _weight_of_run(self._payload, begin, end)
            self._add(exact)
            at_most += exact - most

    def _add(self, weight: int = 0, *, least: int = 0) -> None:
        self._weight += weight
        self._least += least
        if self._weight + self._least > MAX_WEIGHT:
            raise HeavyError


def encode(value: Any) -> bytes:
    """Return any plain value as CBOR."""
    encoded: bytes = import_module("cbor2").dumps(value)
    return encoded


def begin_array(length: int) -> bytes:
    """Return the head of an array."""
    if length < 24:
        return bytes((0x80 | length,))
    for power, limit in enumerate((1 << 8, 1 << 16, 1 << 32)):
        if length < limit:
            return bytes((0x98 + power,)) + length.to_bytes(1 << power, "big")
    raise ValueError(f"an array of {length} items")


def begin_object(length: int) -> bytes:
    """Return the head of an object with up to 23 members."""
    return bytes((0xA0 | length,))


def row_encoder() -> Callable[[Any], bytes]:
    """Return the encoder for the items of one array."""
    dumps: Callable[[Any], bytes] = import_module("cbor2").dumps
    return dumps


def _examine(payload: bytes, scale: _Scale | None) -> bool:
    """Refuse what cbor2 would take minutes or gigabytes for; return whether there are tags at all. What is not CBOR is
    left to cbor2. What is too heavy is refused for that, whatever else it is.
    """
    tag, tagged, place = None, False, 0
    refusal: str | None = None
    while place < len(payload):
        if tag is None and (end := _end_of_run(payload, place)) > place:
            if scale is not None:
                scale.add_run(place, end)
            place = end
            continue
        kind, argument, place = _head(payload, place)
        if scale is not None:
            scale.add(kind)
        refusal = refusal or _refusal(tag, kind, argument)
        tag = argument if kind == _TAG else None
        tagged = tagged or kind == _TAG
    if scale is not None:
        scale.settle()
    if refusal is not None:
        raise ValueError(f"Invalid CBOR: {refusal}")
    return tagged


def _refusal(tag: int | None, kind: int, argument: int | None) -> str | None:
    """Return why an item is not accepted, after a `tag`."""
    if tag in _BIGNUMS and (kind != _BYTES or argument is None or argument > _MAX_BIGNUM):
        return f"big integers may have at most {_MAX_BIGNUM} bytes, in one piece"
    if kind == _TAG and argument not in _TAGS:
        return f"the tag {argument} is not accepted"
    return None


def _weight_of_run(payload: bytes, begin: int, end: int) -> int:
    heads = b"".join(_FIRST_BYTES.findall(payload, begin, end))
    return _weight(len(heads), heads)


def _weight(items: int, heads: bytes) -> int:
    """Return the weight of a run of items whose first bytes are in `heads`."""
    arrays = len(heads) - len(heads.translate(None, _ARRAYS))
    objects = len(heads) - len(heads.translate(None, _OBJECTS))
    return _COPIES * (VALUE * items + (ARRAY - VALUE) * arrays + (OBJECT - VALUE) * objects)


def _end_of_run(payload: bytes, place: int) -> int:
    """Return the end of the run of items at `place` that need no check: at most some thousands."""
    run = _RUN.match(payload, place)
    return place if run is None else run.end()


def _head(payload: bytes, place: int) -> tuple[int, int | None, int]:
    """Return the major type and the argument (None: in pieces, or their end) of the item at `place`, and where the next
    one begins (3).
    """
    kind, low = payload[place] >> 5, payload[place] & 31
    argument: int | None = None if low == 31 else low
    place += 1
    if 24 <= low <= 27:
        size = 1 << low - 24
        argument = int.from_bytes(payload[place : place + size], "big")
        place += size
    if kind in {_BYTES, _TEXT}:  # the chunks of an indefinite-length string are separate items
        place += argument or 0
    return kind, argument, place


def _untagged(value: Any, depth: int) -> Any:
    """Return `value`, decoded without tags, with plain values only; unchanged where possible."""
    kind = type(value)
    if kind is dict:
        content = value.values()
        if not _TEXT_KEYS.issuperset(map(type, value)):
            raise ValueError("Invalid CBOR: keys have to be text")
    elif kind is list:
        content = value
    else:
        return _plain(value, depth, set())
    if depth == 0:
        raise ValueError(f"Invalid CBOR: nested more than {MAX_DEPTH} deep")
    if _SCALARS.issuperset(map(type, content)):
        return value
    if kind is list:
        if depth > 1 and _are_flat(value):
            return value
        return [_untagged(item, depth - 1) for item in value]
    return {key: _untagged(item, depth - 1) for key, item in value.items()}


def _are_flat(rows: list[Any]) -> bool:
    """Tell whether all are objects with text keys and only plain values."""
    return (
        set(map(type, rows)) == {dict}
        and _TEXT_KEYS.issuperset(map(type, chain.from_iterable(rows)))
        and _SCALARS.issuperset(map(type, chain.from_iterable(map(dict.values, rows))))
    )


def _plain(value: Any, depth: int, seen: set[int]) -> Any:
    """Return `value` with plain values only. What is shared or contains itself is refused: it could grow without end."""
    if not isinstance(value, dict | list):
        return _scalar(value)
    if depth == 0:
        raise ValueError(f"Invalid CBOR: nested more than {MAX_DEPTH} deep")
    if id(value) in seen:
        raise ValueError("Invalid CBOR: shared values are not accepted")
    seen.add(id(value))
    if isinstance(value, list):
        return [_plain(item, depth - 1, seen) for item in value]
    if not all(isinstance(key, str) for key in value):
        raise ValueError("Invalid CBOR: keys have to be text")
    return {key: _plain(item, depth - 1, seen) for key, item in value.items()}


def _scalar(value: Any) -> str | float | None:
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return math.inf if value > 0 else -math.inf
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date):  # datetime is one too
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    raise ValueError(f"Invalid CBOR: values of type {type(value).__name__} are not accepted")


FORMAT: Final = Format(
    CONTENT_TYPE,
    "CBOR",
    "CBOR (RFC 8949)",
    decode,
    None,
    "cbor_invalid",
    encode,
    CONTENT_TYPE,
    begin=begin_array,
    row_encoder=row_encoder,
    between=b"",
    end=b"",
    begin_object=begin_object,
    end_object=b"",
    needs="cbor2: apt install python3-cbor2, or pip install cbor2",
    is_there=is_there,
)
