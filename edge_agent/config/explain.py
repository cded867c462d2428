"""Turns validation errors of the configuration into one line that a person can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import BaseModel, ValidationError

#: The path to a value: keys, and list indices counted from 0.
Location = tuple[str | int, ...]
#: Longest path or name that is shown.
_MAX_SHOWN: Final = 160


def place_of(error: ValidationError) -> Location:
    """Return the path of the first error."""
    return error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]


def explain(error: ValidationError, top: type[BaseModel], sections: Mapping[str, type[BaseModel]]) -> str:
    """Return the first error with its path; `sections` are the tables below `top`, by name."""
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    place = _cut(".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"]))
    if first["type"] == "extra_forbidden":
        section: type[BaseModel] | None = top
        for part in first["loc"][:-1]:
            section = section if isinstance(part, int) or section is None else _below(section, part, sections)
        return f"{place} is not a setting{nearest(str(first['loc'][-1]), section) if section else ''}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        tables = ".".join(part for part in first["loc"] if isinstance(part, str))
        message = f"not a table; write its settings below [{tables}]".replace("[route]", "[[route]]")
    # When an item is invalid, pydantic also reports the list around it as too short.
    count = sum(other["loc"] != first["loc"][: len(other["loc"])] for other in others)
    more = f" (and {count} more)" if count else ""
    # The value itself is not shown: it may be a secret in the wrong place.
    return f"{place}: {message}{more}"


def _below(section: type[BaseModel], part: str, sections: Mapping[str, type[BaseModel]]) -> type[BaseModel] | None:
    """Return the table below `section`: where the names there are the user's own, they lead to the same table."""
    return sections.get(part) if part in section.model_fields else section


def unknown_variable(names: Iterable[str], prefix: str, top: type[BaseModel]) -> str | None:
    """Return an error for the first environment variable that belongs to no table of `top`; None when all do."""
    for name in sorted(names):
        path = name.removeprefix(prefix)
        section = path.partition("__")[0].lower()
        if not name.startswith(prefix) or section in top.model_fields:
            continue
        for known in top.model_fields:
            if section.startswith(f"{known}_"):
                meant = f"{prefix}{path[: len(known)]}__{path[len(known) + 1 :]}"
                return f"{_cut(name)} is not a setting; did you mean {_cut(meant)}, with two underscores?"
        return f"{_cut(name)} is not a setting{nearest(section, top)}"
    return None


def nearest(name: str, section: type[BaseModel]) -> str:
    """Return the end of an error about an unknown name: the closest known name, or all of them."""
    known = list(section.model_fields)
    name = name[:_MAX_SHOWN]  # comparing long names is slow
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; valid here: {', '.join(known)}"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
