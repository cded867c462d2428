"""What is wrong with a configuration, in one line that a person can act on."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, where: str, top: type[BaseModel], sections: Mapping[str, type[BaseModel]]) -> str:
    """Return the first thing that is wrong, and where; `sections` are the tables below `top`, by name."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section: type[BaseModel] | None = top
        for part in first["loc"][:-1]:
            section = section if isinstance(part, int) or section is None else sections.get(part)
        return f"{where}: {place} is not a setting{nearest(str(first['loc'][-1]), section) if section else ''}"
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    # The value itself is left out: it may be a secret in the wrong place.
    return f"{where}: {place}: {message}{more}"


def nearest(name: str, section: type[BaseModel]) -> str:
    """Return the end of a line about an unknown name: the known one that is meant, or all that are known."""
    known = list(section.model_fields)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"
