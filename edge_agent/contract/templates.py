"""Topic templates: `music/{sensor}/features`.

    {name}      exactly one level, which may be empty
    {name...}   one or more levels: "zigbee2mqtt/{device...}" takes names with slashes. The last level of what is subscribed
                to; in a topic to publish on it may stand anywhere
    {_}         one level, whatever it is: it has no name and may stand more than once

What a name captures is carried over to the templates of the output. Everything in a topic name comes from outside: what was
captured is only ever put back as the levels that it was, so it can't add wildcards (MQTT forbids `+`, `#` and NUL in the
topic of a message), and `match` never sees a `/` in a level.
"""

from __future__ import annotations

import re
from collections.abc import KeysView, Mapping
from typing import Final, NamedTuple

from edge_agent.errors import TopicError

MAX_TOPIC_BYTES: Final = 65_535  # MQTT 5, 1.5.4: the length of a string is two bytes
#: The name of a level that is not carried over.
ANY: Final = "_"
_CAPTURE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}")
#: In examples of topics, a level of any name.
SOME: Final = "x"


class _Level(NamedTuple):
    """A level of a template: plain `text`, or one that takes any; `rest` takes more than one."""

    text: str
    wild: bool = False
    rest: bool = False


class Template:
    """One template. Raises `TopicError` when `text` is not a valid one.

    One for `output` may have `{name...}` anywhere, and no `{_}`.
    """

    __slots__ = ("_captures", "_levels", "_rest", "text")

    def __init__(self, text: str, *, output: bool = False) -> None:
        self.text = text
        #: Position of each named level.
        self._captures: dict[str, int] = {}
        #: Position of the one that stands for several, if any.
        self._rest: int | None = None
        if not text:
            raise TopicError("a topic is empty; write for example 'music/{sensor}/features'")
        try:
            length = len(text.encode())
        except UnicodeEncodeError:
            raise TopicError(f"topic {text[:60]!r}: not text that UTF-8 can hold") from None
        if length > MAX_TOPIC_BYTES or "\0" in text:
            raise TopicError(f"topic {text[:60]!r}: longer than {MAX_TOPIC_BYTES} bytes, or a NUL in it")
        self._levels = [self._parsed(position, level, output=output) for position, level in enumerate(text.split("/"))]
        if self._rest is not None and not output and self._rest != len(self._levels) - 1:
            raise TopicError(f"topic {text!r}: {self._levels[self._rest].text} must be the last level")

    def _parsed(self, position: int, level: str, *, output: bool) -> _Level:
        capture = _CAPTURE.fullmatch(level)
        if capture is None:
            if any(mark in level for mark in "+#"):
                raise TopicError(
                    f"topic {self.text!r}: write a name in braces, such as {{sensor}}, instead of '{level}'"
                )
            if any(mark in level for mark in "{}"):
                raise TopicError(f"topic {self.text!r}: {level!r} must be a whole level, such as {{sensor}}")
            return _Level(level)
        name, rest = capture[1], capture[2] is not None
        if name == ANY:
            if output or rest:
                raise TopicError(f"topic {self.text!r}: {level} is never passed on; give it a name, such as {{sensor}}")
            return _Level(level, wild=True)
        if name in self._captures:
            raise TopicError(f"topic {self.text!r}: {{{name}}} stands twice")
        if rest and self._rest is not None:
            raise TopicError(f"topic {self.text!r}: only one name can stand for several levels")
        self._captures[name] = position
        if rest:
            self._rest = position
        return _Level(level, wild=True, rest=rest)

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
    def several(self) -> str | None:
        """The name that captures one or more levels, None when each captures one."""
        return next((name for name, position in self._captures.items() if position == self._rest), None)

    @property
    def levels(self) -> tuple[str | None, ...]:
        """The plain levels, None for one of any name, up to what stands for several."""
        return tuple(None if level.wild else level.text for level in self._levels[: self._rest])

    @property
    def filter(self) -> str:
        """The MQTT topic filter that matches all topics of this template."""
        return "/".join("#" if level.rest else "+" if level.wild else level.text for level in self._levels)

    def match(self, topic: str) -> dict[str, str] | None:
        """Return the captured levels of `topic`, or None when it does not match."""
        levels = topic.split("/")
        rest, ours = self._rest, self._levels
        if rest is not None:
            ends = len(levels) - (len(ours) - 1 - rest)
            if ends <= rest:
                return None
            levels[rest:ends] = ["/".join(levels[rest:ends])]
        elif len(levels) != len(ours):
            return None
        for level, theirs in zip(ours, levels, strict=True):
            if not level.wild and level.text != theirs:
                return None
        if ours[0].wild and topic.startswith("$"):
            return None  # MQTT 5, 4.7.2: a wildcard at the front does not match the server's own topics
        return {name: levels[position] for name, position in self._captures.items()}

    def render(self, captured: Mapping[str, str]) -> str:
        """Return the topic with the captured levels put in; KeyError when one is missing."""
        levels = [level.text for level in self._levels]
        for name, position in self._captures.items():
            levels[position] = captured[name]
        return "/".join(levels)

    def filter_for(self, captured: Mapping[str, str]) -> str:
        """Return the MQTT topic filter with those captured levels put in that are known."""
        levels = self.filter.split("/")
        for name, position in self._captures.items():
            levels[position] = captured.get(name, levels[position])
        return "/".join(levels)

    def overlaps(self, other: Template) -> bool:
        """Tell whether some topic matches both templates."""
        return self.example(other) is not None

    def example(self, other: Template) -> str | None:
        """Return a topic that matches both templates, None when there is none."""
        first, second = self._levels[0], other._levels[0]
        if "$" in (first.text[:1], second.text[:1]) and (first.wild or second.wild):
            return None  # as in `match`
        found = _meet(self._levels, other._levels)
        return None if found is None else "/".join(found)

    def covers(self, other: Template) -> bool:
        """Tell whether every topic of the other template is one of this one too. Both are ones to subscribe to."""
        if not self.overlaps(other):
            return False
        if self._rest is None:
            return other._rest is None and _as_wide(self._levels, other._levels)
        if len(other._levels) <= self._rest:
            return False
        return _as_wide(self._levels[: self._rest], other._levels)

    def shared(self, other: Template) -> str:
        """Return the filter of the topics that are of both templates, which overlap and are ones to subscribe to."""
        ours, theirs = self.filter.split("/"), other.filter.split("/")
        if theirs[-1] == "#" and (ours[-1] != "#" or len(ours) > len(theirs)):
            ours, theirs = theirs, ours
        if ours[-1] == "#":
            # Only the longer one says what is below.
            ours[-1:] = theirs[len(ours) - 1 :]
        return "/".join(one if two == "+" else two for one, two in zip(ours, theirs, strict=True))


def _as_wide(ours: list[_Level], theirs: list[_Level]) -> bool:
    return all(one.wild or not two.wild for one, two in zip(ours, theirs, strict=False))


def _meet(ours: list[_Level], theirs: list[_Level]) -> list[str] | None:
    """Return levels that are of both, None when there are none: each of a `rest` takes one, and may take the next too."""
    #: Pairs of positions that can be reached, with the levels up to there.
    reached: list[tuple[int, int, list[str]]] = [(0, 0, [])]
    seen = {(0, 0)}
    for one, two, levels in reached:
        if one == len(ours) and two == len(theirs):
            return levels
        if one == len(ours) or two == len(theirs):
            continue
        mine, other = ours[one], theirs[two]
        if not (mine.wild or other.wild) and mine.text != other.text:
            continue
        level = SOME if mine.wild and other.wild else other.text if mine.wild else mine.text
        steps = [(one + 1, two + 1)]
        if mine.rest:
            steps.append((one, two + 1))
        if other.rest:
            steps.append((one + 1, two))
        for step in steps:
            if step not in seen:
                seen.add(step)
                reached.append((*step, [*levels, level]))
    return None
