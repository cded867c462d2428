"""Maps the levels of a gathering route to features: each level that `{feature}` captures has a number or a document.

Without a word in `fields` a feature is on the level of its own name. With one, the first step of its path is the level,
and what follows leads into the document that is published there, so that one level may carry several features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge_agent.errors import SettingsError
from edge_agent.payload.places import Fields, Place

#: Most of an unreadable payload that is looked at for its rejection, in characters.
_SHOWN: Final = 1024


def lay_out(names: Sequence[str], fields: Fields) -> dict[str, Fields]:
    """Return for each level the features on it, with the path to each inside what is published there.

    Raises `SettingsError` when a feature can't be on a level, or when a level would be a number and a document at once.
    """
    paths = dict(fields)
    levels: dict[str, list[tuple[str, Place]]] = {}
    for name in names:
        place = paths.get(name) or Place((name,))
        level, *path = place.at
        if any(mark in level for mark in "/+#\0"):
            raise SettingsError(
                f"feature {name!r}: {level!r} can't be one level of a topic; say on which level it is: "
                f'fields = {{ "{name}" = "…" }}'
            )
        levels.setdefault(level, []).append((name, place._replace(at=tuple(path))))
    for level, places in levels.items():
        whole, inside = ([name for name, place in places if bool(place.at) == deeper] for deeper in (False, True))
        if whole and inside:
            raise SettingsError(
                f"level {level!r}: {whole[0]} is all that is published there, and {inside[0]} a part of it; "
                "it can't be both"
            )
    return {level: tuple(places) for level, places in levels.items()}
