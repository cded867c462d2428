"""The registry of payload formats, by content type.

Every payload comes from outside. A decoder gives plain values only (objects with text keys, arrays, text, numbers,
booleans, null), nested no deeper than `weights.MAX_DEPTH`, or raises `ValueError` with a reason; so what comes after it needs
to know nothing of formats.

To add a format:

* a module here that ends with `FORMAT`, a `Format`; a library that may not be installed is imported in it only, when it is
  needed, as `cbor` does, and has its line in `VENDORS` of `tests/unit/test_architecture.py`;
* its line in `_FORMATS`. Settings take its content type then, and the errors that list formats name it;
* its row in the table of `docs/messages.md`, without which a test fails.
"""

from __future__ import annotations

from typing import Final

from edge_agent.payload import cbor, json_text, packed, senml, sparkplug
from edge_agent.payload.format import Format

JSON: Final = json_text.FORMAT
PACKED: Final = packed.FORMAT

_FORMATS: Final = (JSON, senml.FORMAT, cbor.FORMAT, PACKED, sparkplug.FORMAT)

#: All formats by content type, including those whose library is not installed.
ALL: Final[dict[str, Format]] = {one.content_type: one for one in _FORMATS}
#: What else publishers call JSON, and plain text where that is taken (RFC 6839: so is whatever ends in +json).
_TEXTS: Final = frozenset({"", "text/json", "text/plain"})


def find(content_type: str | None) -> Format | None:
    """Return the format of a content type (None: JSON), ignoring its parameters; None when unknown."""
    if content_type is None:
        return JSON
    name = content_type.partition(";")[0].strip().lower()
    found = ALL.get(name)
    if found is None and (name in _TEXTS or name.endswith("+json")):
        return JSON
    if found is not None and found.needs is not None and not found.is_there():
        return None
    return found


def known() -> list[str]:
    """Return the content types whose libraries are installed."""
    return [content_type for content_type, one in ALL.items() if one.is_there()]
