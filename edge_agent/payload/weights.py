"""Estimated memory of decoded values, in bytes: four megabytes of empty objects would take gigabytes."""

from __future__ import annotations

from typing import Final

#: Most memory that decoding one payload may take, estimated beforehand.
MAX_WEIGHT: Final = 40 << 20
OBJECT: Final = 240
ARRAY: Final = 80
#: A value in an object or array.
VALUE: Final = 40
#: Payloads up to this many bytes can't weigh too much, whatever they contain: no format has more than two objects per byte.
LIGHT: Final = MAX_WEIGHT // (2 * OBJECT)
#: Deepest nesting of arrays and objects.
MAX_DEPTH: Final = 64


class HeavyError(ValueError):
    """A payload would take more memory than `MAX_WEIGHT`."""
