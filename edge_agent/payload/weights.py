"""About what decoded values take of memory, in bytes: four megabytes of empty objects would be gigabytes."""

from __future__ import annotations

from typing import Final

#: Most memory that decoding one payload may take, as estimated before.
MAX_WEIGHT: Final = 40 << 20
OBJECT: Final = 240
ARRAY: Final = 80
#: A value in one of them.
VALUE: Final = 40
#: How deep arrays and objects may be nested in each other.
MAX_DEPTH: Final = 64
