"""Parts of sentences for people."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

_SHOWN: Final = 8


def first_line(error: Exception) -> str:
    """Return the first line of what another library says, or, where it says nothing, the name of the exception."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def some(names: Iterable[object]) -> str:
    """Return the first few names in one line."""
    found = [str(name) for name in islice(names, _SHOWN + 1)]
    return ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
