"""Keys of the document's maps, and references to them.

Names come from outside: models, features and levels of topics may have any character. AsyncAPI takes few in keys, so a name becomes
a key of its own, which no other one has; whatever is behind it says the name as it is.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST: Final = 64


class Keys:
    """Makes keys that are unlike one another."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def make(self, name: str) -> str:
        """Return a key for a name: the same names in the same order give the same keys."""
        plain = _UNFIT.sub("-", name)[:_LONGEST].strip("-") or "x"
        key, number = plain, 1
        while key.lower() in self._taken:  # some tools make files of them
            number += 1
            key = f"{plain}-{number}"
        self._taken.add(key.lower())
        return key


def ref(*path: str) -> dict[str, str]:
    """Return the reference to a place in the document (RFC 6901, 3 and 6)."""
    return {"$ref": "#" + "".join("/" + quote(step.replace("~", "~0").replace("/", "~1"), safe="~") for step in path)}
