"""What the topics of a gathering route carry: each level that `{feature}` captures holds one number, or a document.

Without a word in `fields` a feature is on the level of its own name. With one, the first step of its path is the level,
and what follows leads into the document that is published there, so that one level may carry several features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from edge_agent.contract.card import Feature
from edge_agent.contract.messages import MAX_PAYLOAD_BYTES, ErrorCode, shown
from edge_agent.errors import SettingsError
from edge_agent.payload import formats
from edge_agent.payload.features import FeatureCodec, Features, Fields, Unusable, dig, refuse

#: Most of an unreadable payload that is looked at for its rejection, in characters.
_SHOWN: Final = 1024


def lay_out(names: Sequence[str], fields: Fields) -> dict[str, Fields]:
    """Return for each level the features on it, with the path to each inside what is published there.

    Raises `SettingsError` when a feature can't be on a level, or when a level would be a number and a document at once.
    """
    paths = dict(fields)
    levels: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for name in names:
        level, *path = paths.get(name, (name,))
        if any(mark in level for mark in "/+#\0"):
            raise SettingsError(
                f"feature {name!r}: {level!r} can't be one level of a topic; say on which level it is: "
                f'fields = {{ "{name}" = "…" }}'
            )
        levels.setdefault(level, []).append((name, tuple(path)))
    for level, places in levels.items():
        whole, inside = ([name for name, path in places if bool(path) == deeper] for deeper in (False, True))
        if whole and inside:
            raise SettingsError(
                f"level {level!r}: {whole[0]} is all that is published there, and {inside[0]} a part of it; "
                "it can't be both"
            )
    return {level: tuple(places) for level, places in levels.items()}


class Level:
    """One level: turns what is published there into values. `positions` are those of its features in the model."""

    def __init__(self, features: Sequence[Feature], places: Fields, *, max_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        position = {feature.name: number for number, feature in enumerate(features)}
        self.positions = tuple(position[name] for name, _ in places)
        self._places = places
        self._names = [name for name, _ in places]
        self._keys = [path[0] if path else name for name, path in places]
        # What leads into a document is named where it leads nowhere.
        inside = tuple((name, path) for name, path in places if path)
        self._codec = FeatureCodec([features[one] for one in self.positions], fields=inside, max_bytes=max_bytes)

    def decode(self, payload: bytes, content_type: str | None = None) -> tuple[float, ...] | Unusable:
        """Return the values at `positions`, or why there are none: a message is taken whole, or not at all."""
        chosen = self._codec.choose(payload, content_type)
        if isinstance(chosen, Unusable):
            return chosen
        try:
            content = chosen.decode(payload, self._keys if chosen.keyed else self._names)
        except ValueError as error:
            text = payload.decode(errors="replace")
            if chosen is not formats.JSON:
                return refuse(ErrorCode.MALFORMED_PAYLOAD, str(error), kind=chosen.invalid, shown=text[:_SHOWN])
            # Plain text, as most firmware publishes it: "+21.5" is a number, "unavailable" is told by the feature's name.
            content = text
        checked = self._codec.check(self._row(content, keyed=chosen.keyed))
        if isinstance(checked, Features):
            return checked.values
        for detail in checked.detail:
            if detail["type"] == "missing":
                detail["input"] = shown(content)
        return checked._replace(echo={})

    def _row(self, content: Any, *, keyed: bool) -> Mapping[str, Any]:
        """Return what is there for each feature; one that a document does not hold is left out."""
        if not keyed and isinstance(content, dict):
            return content
        row: dict[str, Any] = {}
        for name, path in self._places:
            try:
                row[name] = dig(content, path)
            except LookupError:
                continue
        return row
