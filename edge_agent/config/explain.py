"""What is wrong with a configuration, in one line that a person can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import BaseModel, ValidationError

#: Keys, and places in lists counted from 0, that lead to a value.
Place = tuple[str | int, ...]
#: Longest place, and longest name, that is shown.
_MAX_SHOWN: Final = 160


def place_of(error: ValidationError) -> Place:
    """Return where the first thing is that is wrong."""
    return error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]


def explain(error: ValidationError, top: type[BaseModel], sections: Mapping[str, type[BaseModel]]) -> str:
    """Return the first thing that is wrong, and its place; `sections` are the tables below `top`, by name."""
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    place = _cut(".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"]))
    if first["type"] == "extra_forbidden":
        section: type[BaseModel] | None = top
        for part in first["loc"][:-1]:
            section = section if isinstance(part, int) or section is None else sections.get(part)
        return f"{place} is not a setting{nearest(str(first['loc'][-1]), section) if section else ''}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        tables = ".".join(part for part in first["loc"] if isinstance(part, str))
        message = f"not a table; write its settings below [{tables}]".replace("[route]", "[[route]]")
    # Where an item is wrong, pydantic counts the list around it as too short.
    count = sum(other["loc"] != first["loc"][: len(other["loc"])] for other in others)
    more = f" (and {count} more)" if count else ""
    # The value itself is left out: it may be a secret in the wrong place.
    return f"{place}: {message}{more}"


def unknown_variable(names: Iterable[str], prefix: str, top: type[BaseModel]) -> str | None:
    """Return what is wrong with the first variable that belongs to no table of `top`, None when there is none such."""
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
    """Return the end of a line about an unknown name: the known one that is meant, or all that are known."""
    known = list(section.model_fields)
    name = name[:_MAX_SHOWN]  # comparing takes time
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
