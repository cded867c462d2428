"""Parses untrusted TOML in bounded time and memory, or rejects it with one sentence.

Python's own parser has no limits: a key of 100,000 parts takes 40 GB of memory and minutes, values nested 1,000 deep raise
RecursionError, and an integer of 5,000 digits raises a ValueError of another kind.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

#: Deepest nesting, and most parts of a key: real files stay far below.
MAX_DEPTH: Final = 16
#: A string on one line, terminated or not.
_STRING: Final = re.compile(r"\"(?:\\.|[^\"\\])*+\"?|'[^']*+'?")
_LONG_KEY: Final = re.compile(rf"(?:[^\s.,=\[\]{{}}]++[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}")


def parse(text: str) -> dict[str, Any]:
    """Parse `text`. Raises `ValueError`: a sentence without the file's name."""
    too_deep = f"tables or lists nested more than {MAX_DEPTH} deep; no setting is nested like that"
    if any(_has_long_key(line) for line in text.split("\n")):
        raise ValueError(too_deep)
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise ValueError(too_deep) from None
    except ValueError as error:
        raise ValueError(f"not valid TOML: {_reason(error)}") from None
    if is_too_deep(content):
        raise ValueError(too_deep)
    return content


def is_too_deep(content: Any) -> bool:
    """Tell whether dictionaries and lists are nested more than `MAX_DEPTH` deep."""
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return bool(level)


def _has_long_key(line: str) -> bool:
    if line.count(".") < MAX_DEPTH or line.lstrip().startswith("#"):
        return False
    # A multi-line string may end here, so it is not known what is inside quotes.
    return any(mark in line for mark in ('"""', "'''")) or bool(_LONG_KEY.search(_STRING.sub("s", line)))


def _reason(error: ValueError) -> str:
    """Return the parser's reason, with a hint at the most common mistake."""
    reason = str(error)
    if reason.startswith("Exceeds the limit"):  # Python's own, of digits
        return "an integer with thousands of digits"
    return f"{reason}; write text in double quotes" if reason.startswith("Invalid value") else reason
