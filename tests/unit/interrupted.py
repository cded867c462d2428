"""Changes of a store that are interrupted: by a stop at each system call, or by a power loss at each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

from edge_agent.host.folder import Disk
from edge_agent.model.store import Store
from tests.unit import platters

Change = Callable[[Store], object]
CALLS: Final = frozenset(name for name in vars(Disk) if not name.startswith("_"))


def quick(directory: Path) -> Store:
    """A store that does not wait for the disk."""
    return Store(directory, disk=platters.Quick())


class AtEach(platters.Quick):
    """Does something before call `number`; a write is done by half before that."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.called: list[str] = []

    def happen(self) -> None:
        """What happens."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return self._counted(name, found) if name in CALLS else found

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.called.append(name)
            if len(self.called) - 1 == self.number:
                if name == "write":
                    os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                self.happen()
            return call(*arguments)

        return counted


class Stop(BaseException):
    """What a kill is to the code: nothing catches it."""


class Stopped(AtEach):
    """From one call on nothing is done any more."""

    def happen(self) -> None:
        self.number += 1
        raise Stop


class Interrupted:
    """A change of a store, which is made in copies of it; `place` is for these, and `prepare` makes what is there before."""

    def __init__(self, place: Path, prepare: Change, change: Change) -> None:
        self._place, self.change = place, change
        self._numbers = count()
        self.original = place / "before" / "models"
        self.original.mkdir(parents=True)
        prepare(quick(self.original))

    def empty(self) -> Path:
        return self._place / str(next(self._numbers))

    def copy(self, directory: Path | None = None) -> Path:
        """A store, or the one as it is before, in another place."""
        copied = self.empty()
        shutil.copytree(directory or self.original, copied, symlinks=True)
        return copied

    def expect(self, directory: Path, where: object) -> None:
        """Look at what an interruption left, and remove it; `where` says which one it was."""
        raise NotImplementedError


def stop_at_each_call(case: Interrupted) -> None:
    """Stop a change before each call, one later each time, until it is done."""
    for number in count():
        directory = case.copy()
        try:
            case.change(Store(directory, disk=Stopped(number)))
        except Stop:
            case.expect(directory, number)
        else:
            break
    assert number > 0


def power_losses(case: Interrupted, lost: Callable[[platters.Call], bool] = lambda _: False) -> int:
    """Have the power fail before and after each call of a change; return how many different disks that gave."""
    directory = case.copy()
    platter = platters.Platter(directory)
    recorder = platters.Recorder()
    case.change(Store(directory, disk=recorder))
    known: set[object] = set()
    for number, call in enumerate([None, *recorder.calls]):
        if call is not None and not lost(call):
            platter.take(call)
        for tree in platter.after_power_loss():
            if (key := platters.key(tree, directory)) in known:
                continue
            known.add(key)
            left = case.empty()
            left.mkdir()
            platters.write(tree, directory, left)
            case.expect(left, (number, call, key))
    return len(known)
