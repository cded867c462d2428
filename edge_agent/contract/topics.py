"""Topic templates: `music/{sensor}/features`.

`{name}` stands for exactly one topic level, which may be empty, and is carried over to the templates of the output.
Everything in a topic name comes from outside: a captured level is only ever put back as a level, so it can't add
levels or wildcards (MQTT forbids `+`, `#` and NUL in the topic of a message, and `match` never sees a `/` in a level).
"""

from __future__ import annotations

import re
from collections.abc import KeysView, Mapping
from typing import Final

from edge_agent.errors import TopicError

MAX_TOPIC_BYTES: Final = 65_535  # MQTT 5, 1.5.4: the length of a string is two bytes
#: First level of what the agents say and hear of themselves.
ROOT: Final = "edge"
#: Characters that MQTT forbids in text, or lets a receiver end the connection for (MQTT 5, 1.5.4): control characters and
#: those that Unicode keeps for no character.
_UNFIT: Final = re.compile(
    "[\0-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(f"{chr(end)}{chr(end + 1)}" for end in range(0xFFFE, 0x110000, 0x10000))
    + "]"
)
_CAPTURE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Template:
    """One template. Raises `TopicError` when `text` is not a valid one."""

    __slots__ = ("_captures", "_levels", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._levels = text.split("/")
        #: Position of each captured level.
        self._captures: dict[str, int] = {}
        if not text:
            raise TopicError("a topic is empty; write for example 'music/{sensor}/features'")
        try:
            length = len(text.encode())
        except UnicodeEncodeError:
            raise TopicError(f"topic {text[:60]!r}: not text that UTF-8 can hold") from None
        if length > MAX_TOPIC_BYTES or "\0" in text:
            raise TopicError(f"topic {text[:60]!r}: longer than {MAX_TOPIC_BYTES} bytes, or a NUL in it")
        for position, level in enumerate(self._levels):
            if capture := _CAPTURE.fullmatch(level):
                if capture[1] in self._captures:
                    raise TopicError(f"topic {text!r}: {level} stands twice")
                self._captures[capture[1]] = position
            elif any(mark in level for mark in "+#"):
                raise TopicError(f"topic {text!r}: write a name in braces, such as {{sensor}}, instead of '{level}'")
            elif any(mark in level for mark in "{}"):
                raise TopicError(f"topic {text!r}: {level!r} has to be a whole level, such as {{sensor}}")

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def captures(self) -> KeysView[str]:
        """Names of the captured levels, in the order of the levels."""
        return self._captures.keys()

    @property
    def filter(self) -> str:
        """The MQTT topic filter that receives all this template matches."""
        return "/".join("+" if self._is_capture(position) else level for position, level in enumerate(self._levels))

    def match(self, topic: str) -> dict[str, str] | None:
        """Return the captured levels of `topic`, or None when it does not match."""
        levels = topic.split("/")
        if len(levels) != len(self._levels):
            return None
        for position, (ours, theirs) in enumerate(zip(self._levels, levels, strict=True)):
            if not self._is_capture(position):
                if ours != theirs:
                    return None
            elif position == 0 and theirs.startswith("$"):
                return None  # MQTT 5, 4.7.2: a wildcard at the front does not match the server's own topics
        return {name: levels[position] for name, position in self._captures.items()}

    def render(self, captured: Mapping[str, str]) -> str:
        """Return the topic with the captured levels put in; KeyError when one is missing."""
        levels = self._levels.copy()
        for name, position in self._captures.items():
            levels[position] = captured[name]
        return "/".join(levels)

    def overlaps(self, other: Template) -> bool:
        """Tell whether some topic could be of both templates."""
        if len(self._levels) != len(other._levels):
            return False
        for position, (ours, theirs) in enumerate(zip(self._levels, other._levels, strict=True)):
            if not (self._is_capture(position) or other._is_capture(position)):
                if ours != theirs:
                    return False
            elif position == 0 and "$" in (ours[:1], theirs[:1]):
                return False  # as in `match`
        return True

    def covers(self, other: Template) -> bool:
        """Tell whether every topic of the other template is one of this one too."""
        if not self.overlaps(other):
            return False
        return all(
            self._is_capture(position) or not other._is_capture(position) for position in range(len(self._levels))
        )

    def shared(self, other: Template) -> str:
        """Return the filter of the topics that are of both templates, which overlap."""
        return "/".join(
            ours if theirs == "+" else theirs
            for ours, theirs in zip(self.filter.split("/"), other.filter.split("/"), strict=True)
        )

    def _is_capture(self, position: int) -> bool:
        return position in self._captures.values()


def state(node: str) -> str:
    """Where a node says `online` or `offline`, retained."""
    return f"{ROOT}/{node}/state"


def info(node: str) -> str:
    """Where a node says what it runs, retained."""
    return f"{ROOT}/{node}/info"


def health(node: str) -> str:
    """Where a node says how it does."""
    return f"{ROOT}/{node}/health"


def request(node: str) -> Template:
    """Where a node takes management requests."""
    return Template(f"{ROOT}/{node}/request/{{verb}}")


def response(node: str, verb: str) -> str:
    """Where a node answers a management request."""
    return f"{ROOT}/{node}/response/{verb}"


def is_unfit(text: str) -> str | None:
    """Return what is in a text that a broker may end the connection for, in words, None when there is nothing."""
    return "with control characters" if _UNFIT.search(text) else None
