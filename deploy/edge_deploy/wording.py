"""Parts of sentences for people. All text from outside (ids of nodes, reasons, the broker's words) is shown through `edge_agent.wording.plain`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from edge_agent.wording import plain

_SHOWN: Final = 8


def some(names: Iterable[str]) -> str:
    """Return the first few names in one line."""
    found = list(islice(names, _SHOWN + 1))
    return ", ".join(map(plain, found[:_SHOWN])) + (", …" if len(found) > _SHOWN else "")


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in ruled]
