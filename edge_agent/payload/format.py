"""A payload format: decodes its bytes to plain values, and encodes answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from edge_agent.contract.messages import JSON_TYPE, Detail, to_json

#: Gives reasons for the rejection of a row with what came of it in `input`.
Telling: TypeAlias = Callable[[Sequence[Detail]], list[Detail]]


class Format(NamedTuple):
    """One format.

    `content_type` names it on the wire and in settings; `name` and `reads` do for people: what an answer in it is, and what
    a payload has to be. `decode` takes the payload and the names that are looked for in it: the model's features in order
    and, where rows are `keyed`, the keys at the top that `fields` begin with. It returns plain values only, or raises
    `ValueError`. `weigh` takes the same and estimates, in a fraction of the time, how many bytes of memory `decode` would
    take; it is None where `decode` looks through the payload anyway, and raises `HeavyError` for one above `LIGHT` that would take too
    much. `invalid` is the kind of the reason when `decode` raises; `keyed` whether the keys of a row are the sensor's own.

    `encode` gives an answer, whose content type is `answers`. One of many rows is written row by row, so that its size is
    known before it is too large: what `begin` makes of their number, what a new `row_encoder` makes of each, one after
    the other, with `between`, and `end`. `alike` says that a row is written the same whatever stands before it; then
    an object is what `begin_object` makes of the number of its members (up to 23), those, with `between`, and `end_object`.

    A format whose rows are not what came has in `telling` what makes of a payload that `decode` took a `Telling` for each row.

    A format that takes a library which may not be installed says in `needs` which one and how to get it, and in `is_there`
    whether it is.
    """

    content_type: str
    name: str
    reads: str
    decode: Callable[[bytes, Sequence[str]], Any]
    weigh: Callable[[bytes, Sequence[str]], int] | None
    invalid: str
    encode: Callable[[Any], bytes] = to_json
    answers: str = JSON_TYPE
    keyed: bool = True
    begin: Callable[[int], bytes] = lambda _: b"["
    row_encoder: Callable[[], Callable[[Any], bytes]] = lambda: to_json
    between: bytes = b","
    end: bytes = b"]"
    alike: bool = True
    begin_object: Callable[[int], bytes] = lambda _: b"{"
    end_object: bytes = b"}"
    telling: Callable[[bytes], Sequence[Telling]] | None = None
    needs: str | None = None
    is_there: Callable[[], bool] = lambda: True
