"""Formats numbers for people, and makes text from outside safe for terminals and logs.

Rule: all text from outside (topics, labels, keys of a file, a broker's texts) is shown through `plain`.
"""

from __future__ import annotations

import json
from typing import Any, Final

#: Longest text from outside, such as a topic, that a line of the log or a status shows, in characters.
LOGGED: Final = 200
#: Longest reason that is told and kept, in characters.
_REASON: Final = 500
#: No figure of a node or an answer is as large.
_MOST: Final = 10**15


def quantity(value: Any) -> float | None:
    """Return a number that can be computed with and shown, None for anything else: NaN, infinities, hundreds of digits, booleans."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and -_MOST < value < _MOST else None


def mebibytes(size: int) -> str:
    """Return a size in bytes for people."""
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"


def duration(seconds: float) -> str:
    """Return a time for people."""
    minutes, hours, days = int(seconds) // 60, int(seconds) // 3600, int(seconds) // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{seconds:.1f} s"


def count(number: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def plain(text: str) -> str:
    """Make text from outside safe for a terminal, a log and the journal: one line without control characters.

    What can't be printed is shown as Python writes it: controls (C0, C1, so ESC and line ends too), what turns the
    direction of writing around, separators of lines and paragraphs, and what is no character at all.
    """
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


def reason(text: str) -> str:
    """Return why something is not done as it is told and kept: one printable line that is not too long."""
    return plain(text[:_REASON])[:_REASON]


def plain_json(text: str) -> str:
    """Make JSON safe for a terminal, as one line: the same value, with unprintable characters escaped as in JSON."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else _escaped(mark) for mark in text)


def _escaped(mark: str) -> str:
    # Unescaped, these occur only between values: in strings JSON requires them to be escaped.
    return " " if mark in "\t\r\n" else json.dumps(mark)[1:-1]
