"""Keys of the document's maps, and references to them.

Names come from outside: models, features and levels of topics may have any character. Rules:

* AsyncAPI takes few characters in keys, so a name becomes a key of its own, which no other one has; whatever is behind it says the
  name as it is;
* names of properties are keys as they are, but for those that mean something else to readers (`SPECIAL`): `$ref` would be
  followed, as a file or URL, wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from edge_agent.contract.messages import to_json

#: To what reads JSON in JavaScript, AsyncAPI's own parser for one.
SPECIAL: Final = frozenset({"$ref", "__proto__", "hasOwnProperty"})
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST: Final = 64


class Keys:
    """Makes keys that are unlike one another, and unlike those that are `taken`."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {one.lower() for one in taken}

    def make(self, name: str) -> str:
        """Return a key for a name: the same names in the same order give the same keys."""
        plain = _UNFIT.sub("-", name)[:_LONGEST].strip("-") or "x"
        key, number = plain, 1
        while key.lower() in self._taken:  # some tools make files of them
            number += 1
            key = f"{plain}-{number}"
        self._taken.add(key.lower())
        return key


class Shared:
    """Things that others refer to, below `components`: each once, however often it is put there."""

    def __init__(self, kind: str, there: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._kind = kind
        self.all: dict[str, Mapping[str, Any]] = dict(there or {})
        self._keys = Keys(self.all)
        self._known: dict[bytes, dict[str, str]] = {}

    def put(self, name: str, thing: Mapping[str, Any]) -> dict[str, str]:
        """Return the reference to a thing, which is put there under a key for its name."""
        content = to_json(thing)
        if content not in self._known:
            key = self._keys.make(name)
            self.all[key] = thing
            self._known[content] = ref("components", self._kind, key)
        return self._known[content]


def properties(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a schema that says what the properties are; special names stand there as patterns."""
    plain = {name: schema for name, schema in schemas.items() if name not in SPECIAL}
    special = {f"^{re.escape(name)}$": schema for name, schema in schemas.items() if name in SPECIAL}
    return {"properties": plain, **({"patternProperties": special} if special else {})}


def fit(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return a map without special names."""
    return {name: value for name, value in named.items() if name not in SPECIAL}


def ref(*path: str) -> dict[str, str]:
    """Return the reference to a place in the document (RFC 6901, 3 and 6)."""
    return {"$ref": "#" + "".join("/" + quote(step.replace("~", "~0").replace("/", "~1"), safe="~") for step in path)}
