"""What may be on a disk after the power failed, worked out from the system calls before that.

Content is on the disk once its file was synced, and names once their directory was. Of what was not, each may be there or not, in any
combination: file systems promise more, but not all the same. Only a rename within one directory happens as a whole. A file
that was not synced is cut.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.host.folder import Disk


class Call(NamedTuple):
    """One system call; `at` and `new_at` are directories, and for a descriptor `at` is what it is of."""

    what: str
    at: Path
    name: str = ""
    content: bytes = b""
    new_at: Path | None = None
    new: str = ""
    offset: int | None = None


def _of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


class Quick(Disk):
    """Does not wait for the real disk, which may be busy with something else."""

    def sync(self, descriptor: int) -> None:
        """Do nothing."""


class Recorder(Quick):
    """Does the calls, and records them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def create(self, name: str, at: int, mode: int) -> int:
        self.calls.append(Call("create", _of(at), name))
        return super().create(name, at, mode)

    def write(self, descriptor: int, content: bytes | memoryview) -> int:
        self.calls.append(Call("write", _of(descriptor), content=bytes(content)))
        return super().write(descriptor, content)

    def write_at(self, descriptor: int, content: bytes | memoryview, offset: int) -> int:
        self.calls.append(Call("write", _of(descriptor), content=bytes(content), offset=offset))
        return super().write_at(descriptor, content, offset)

    def sync(self, descriptor: int) -> None:
        self.calls.append(Call("sync", _of(descriptor)))

    def mkdir(self, name: str, at: int, mode: int) -> None:
        self.calls.append(Call("mkdir", _of(at), name))
        super().mkdir(name, at, mode)

    def link(self, target: str, name: str, at: int) -> None:
        self.calls.append(Call("link", _of(at), name, target.encode()))
        super().link(target, name, at)

    def rename(self, name: str, at: int, new: str, new_at: int) -> None:
        self.calls.append(Call("rename", _of(at), name, new_at=_of(new_at), new=new))
        super().rename(name, at, new, new_at)

    def unlink(self, name: str, at: int) -> None:
        self.calls.append(Call("unlink", _of(at), name))
        super().unlink(name, at)

    def rmdir(self, name: str, at: int) -> None:
        self.calls.append(Call("rmdir", _of(at), name))
        super().rmdir(name, at)


class Node:
    """A file, a link or a directory. Of a file, `lasting` is what was synced."""

    def __init__(self, kind: str, content: bytes = b"", lasting: bytes | None = None) -> None:
        self.kind = kind
        self.content = content
        self.lasting = lasting


#: Names in directories.
Tree = dict[tuple[Path, str], Node]
#: What one call does to the names in one directory.
Change = Callable[[Tree], None]


class Platter:
    """A disk that begins with what is in `directory`, all of it synced."""

    def __init__(self, directory: Path) -> None:
        self.top = directory
        #: What programs see, what is on the disk, and what may be, with the directory in which that is.
        self.seen: Tree = {}
        self.lasting: Tree = {}
        self.pending: list[tuple[Path, Change]] = []
        for path in sorted(directory.rglob("*")):
            node = Node("link", os.fsencode(path.readlink())) if path.is_symlink() else Node("directory")
            if path.is_file() and not path.is_symlink():
                node = Node("file", path.read_bytes(), path.read_bytes())
            self.seen[path.parent, path.name] = self.lasting[path.parent, path.name] = node

    def take(self, call: Call) -> None:
        """Do a call."""
        at, name = call.at, call.name
        if call.what == "write":
            node = self.seen[at.parent, at.name]
            start = len(node.content) if call.offset is None else call.offset
            node.content = (
                node.content[:start].ljust(start, b"\0") + call.content + node.content[start + len(call.content) :]
            )
        elif call.what == "sync":
            file = self.seen.get((at.parent, at.name))
            if file is not None and file.kind == "file":
                file.lasting = file.content
            for place, change in self.pending:
                if place == at:
                    change(self.lasting)
            self.pending = [one for one in self.pending if one[0] != at]
        elif call.what in ("create", "mkdir", "link"):
            kind = {"create": "file", "mkdir": "directory"}.get(call.what, call.what)
            self._change(at, _put(at, name, Node(kind, call.content)))
        elif call.what in ("unlink", "rmdir"):
            self._change(at, _drop(at, name))
        else:
            assert call.new_at is not None
            put, drop = _put(call.new_at, call.new, self.seen[at, name]), _drop(at, name)
            if at == call.new_at:
                self._change(at, _both(put, drop))
            else:
                self._change(call.new_at, put)
                self._change(at, drop)

    def _change(self, place: Path, change: Change) -> None:
        change(self.seen)
        self.pending.append((place, change))

    def after_power_loss(self) -> Iterator[Tree]:
        """Everything that may be there now."""
        for number in range(len(self.pending) + 1):
            for chosen in combinations(self.pending, number):
                tree = dict(self.lasting)
                for _, change in chosen:
                    change(tree)
                yield tree


def _put(at: Path, name: str, node: Node) -> Change:
    def change(tree: Tree) -> None:
        tree[at, name] = node

    return change


def _drop(at: Path, name: str) -> Change:
    def change(tree: Tree) -> None:
        tree.pop((at, name), None)

    return change


def _both(put: Change, drop: Change) -> Change:
    def change(tree: Tree) -> None:
        put(tree)
        drop(tree)

    return change


def key(tree: Tree, top: Path) -> tuple[Any, ...]:
    """What a tree is, to know it again."""
    return tuple(
        sorted((str((at / name).relative_to(top)), node.kind, _left(node)) for (at, name), node in tree.items())
    )


def _left(node: Node) -> bytes:
    if node.kind != "file":
        return node.content
    return node.content[: len(node.content) // 2] if node.lasting is None else node.lasting


def write(tree: Tree, top: Path, to: Path) -> None:
    """Write what is there into an empty directory; what is in a directory that is gone is gone, too."""
    for (at, name), node in sorted(tree.items(), key=lambda one: len(one[0][0].parts)):
        path = to / (at / name).relative_to(top)
        if not path.parent.is_dir():
            continue
        if node.kind == "directory":
            path.mkdir()
        elif node.kind == "link":
            path.symlink_to(os.fsdecode(node.content))
        else:
            path.write_bytes(_left(node))
