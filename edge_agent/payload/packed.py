"""Decodes packed values: little-endian float32, in the order of the model's features."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from edge_agent.payload.format import Format
from edge_agent.payload.weights import OBJECT, VALUE

CONTENT_TYPE: Final = "application/octet-stream"


def unpack(payload: bytes, width: int) -> list[tuple[float, ...]]:
    """Return the rows of values, `width` in each; raises `ValueError` when it is not one or more."""
    if not payload or len(payload) % (4 * width):
        raise ValueError(
            f"{len(payload)} bytes: packed float32 has 4 bytes per feature, so {4 * width} bytes or a multiple of it"
        )
    return list(struct.iter_unpack(f"<{width}f", payload))


def decode(payload: bytes, names: Sequence[str]) -> Any:
    """Read values in the order of the features; one row is an object, several are an array."""
    rows = [dict(zip(names, row, strict=True)) for row in unpack(payload, len(names))]
    return rows[0] if len(rows) == 1 else rows


def weigh(payload: bytes, names: Sequence[str]) -> int:
    """Estimate the memory of what `decode` returns."""
    return len(payload) // 4 * VALUE + len(payload) // (4 * len(names)) * OBJECT


FORMAT: Final = Format(
    CONTENT_TYPE, "packed float32", "little-endian float32", decode, weigh, "packed_invalid", keyed=False
)
