"""Decodes JSON (RFC 8259) with pydantic's parser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic_core import from_json

from edge_agent.contract.messages import JSON_TYPE
from edge_agent.payload.format import Format
from edge_agent.payload.weights import ARRAY, OBJECT, VALUE

_BOM: Final = b"\xef\xbb\xbf"


def bare(payload: bytes) -> bytes:
    """Return a text without the NULs that C programs send behind it, and without a byte order mark."""
    return payload.rstrip(b"\0").removeprefix(_BOM)


def decode(payload: bytes, _names: Sequence[str]) -> Any:
    """Decode a text. Raises `ValueError`."""
    try:
        return from_json(bare(payload))
    except ValueError as error:
        raise ValueError(f"Invalid JSON: {error}") from None


def weigh(payload: bytes, _names: Sequence[str]) -> int:
    """Estimate the memory of a decoded text."""
    return OBJECT * payload.count(b"{") + ARRAY * payload.count(b"[") + VALUE * payload.count(b",")


FORMAT: Final = Format(JSON_TYPE, "JSON", "JSON", decode, weigh, "json_invalid")
