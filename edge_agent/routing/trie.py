"""Finds which of many topic templates match a topic, level by level: as fast with thousands as with one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from edge_agent.contract.templates import Template

T = TypeVar("T")


class _Node(Generic[T]):
    """What the levels so far lead to; `ends` are the templates that end here, or stand for several levels from here on."""

    __slots__ = ("any", "ends", "plain", "several")

    def __init__(self) -> None:
        self.plain: dict[str, _Node[T]] = {}
        self.any: _Node[T] | None = None
        self.ends: list[tuple[int, Template, T]] = []
        self.several: list[tuple[int, Template, T]] = []

    def all(self) -> Iterator[tuple[int, Template, T]]:
        yield from self.ends
        yield from self.several
        for node in (*self.plain.values(), *([self.any] if self.any else [])):
            yield from node.all()


class Trie(Generic[T]):
    """Templates, each with a value. What is found comes in the order in which it was added."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._count = 0

    def add(self, template: Template, value: T) -> None:
        """Add one; several may be equal."""
        node = self._root
        for level in template.levels:
            if level is not None:
                node = node.plain.setdefault(level, _Node())
            else:
                node.any = node = node.any or _Node()
        entry = (self._count, template, value)
        (node.ends if template.several is None else node.several).append(entry)
        self._count += 1

    def matching(self, topic: str) -> list[tuple[T, dict[str, str]]]:
        """Return the values whose templates take `topic`, each with what its template captures."""
        reached, found = [self._root], []
        for level in topic.split("/"):
            below = []
            for node in reached:
                found += node.several
                if (plain := node.plain.get(level)) is not None:
                    below.append(plain)
                if node.any is not None:
                    below.append(node.any)
            reached = below
        for node in reached:
            found += node.ends
        found.sort(key=_order)
        # Topics of the broker, and what follows several levels, are the template's to tell.
        return [(value, captured) for _, template, value in found if (captured := template.match(topic)) is not None]

    def overlapping(self, template: Template) -> list[tuple[Template, T]]:
        """Return the templates that overlap this one, with their values."""
        reached, found = [self._root], []
        for level in template.levels:
            below: list[_Node[T]] = []
            for node in reached:
                found += node.several
                if level is None:
                    below += node.plain.values()
                elif level in node.plain:
                    below.append(node.plain[level])
                if node.any is not None:
                    below.append(node.any)
            reached = below
        for node in reached:
            found += node.ends if template.several is None else node.all()
        found.sort(key=_order)
        return [(one, value) for _, one, value in found if one.overlaps(template)]


def _order(entry: tuple[int, Template, object]) -> int:
    return entry[0]
