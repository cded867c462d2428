"""TOML from a file that anybody may have written: read in bounded time and memory, or refused in one sentence.

The parser of Python's library takes what it is given, in pure Python: a key of 100,000 parts is 40 GB of memory and
minutes, values 1,000 deep are a RecursionError, and an integer of 5,000 digits is a ValueError of another kind.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

#: Deepest value, and most parts of a key: what people write stays far below.
MAX_DEPTH: Final = 16
#: A string, ended or not, on one line.
_STRING: Final = re.compile(r"\"(?:\\.|[^\"\\])*+\"?|'[^']*+'?")
_LONG_KEY: Final = re.compile(rf"(?:[^\s.,=\[\]{{}}]++[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}")


def parse(text: str) -> dict[str, Any]:
    """Return what `text` says. Raises `ValueError`: a sentence without the file."""
    too_deep = f"tables or lists more than {MAX_DEPTH} deep in one another; no setting is like that"
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
    """Tell whether dictionaries and lists are more than `MAX_DEPTH` deep in one another."""
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
    # A string of several lines may end here, so what stands in quotes is not known.
    return any(mark in line for mark in ('"""', "'''")) or bool(_LONG_KEY.search(_STRING.sub("s", line)))


def _reason(error: ValueError) -> str:
    """Return what is wrong, with what most people forget."""
    reason = str(error)
    if reason.startswith("Exceeds the limit"):  # Python's own, of digits
        return "an integer of thousands of digits"
    return f"{reason}; text stands in double quotes" if reason.startswith("Invalid value") else reason
