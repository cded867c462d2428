"""The store after a kill at each system call, after a power loss at each, and on disks that are full, failing or read-only.

Each change is made over and over, and stopped one call later each time, until it is done.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from edge_agent.errors import FileError, StoreError
from edge_agent.host.apart import Apart, Limits
from edge_agent.host.folder import STAGED
from edge_agent.model.store import Store
from tests.unit import platters
from tests.unit.interrupted import AtEach, power_losses, stop_at_each_call
from tests.unit.store_changes import NEW, Case, case, look, three

__all__ = ["case"]

LIMITS: Final = Limits(seconds=60, patience=600, memory=1 << 30)


#: The calls that Python reports, and as what; a file is opened for reading, too.
REPORTED: Final = {
    "create": "open",
    "shorten": "os.truncate",
    "permit": "os.chmod",
    "date": "os.utime",
    "mkdir": "os.mkdir",
    "link": "os.symlink",
    "rename": "os.rename",
    "unlink": "os.remove",
    "rmdir": "os.rmdir",
}


class Killed(AtEach):
    def happen(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Failing(AtEach):
    """Fails at one call, and at all after it unless it is for `once`."""

    def __init__(self, number: int, error: int, *, once: bool) -> None:
        super().__init__(number)
        self._error, self._once = error, once

    def happen(self) -> None:
        if not self._once:
            self.number += 1
        raise OSError(self._error, os.strerror(self._error))


def in_a_process(work: Callable[[], object]) -> bool:
    """Do something in a process of its own; return whether it was killed."""

    def guarded(tell: Callable[[str], None]) -> None:
        work()
        tell("done")

    process = Apart(guarded, LIMITS)
    process.wait()
    try:
        report, trouble = process.report(), process.trouble()
    finally:
        process.close()
    assert report == ["done"] or (trouble is not None and trouble.startswith("it was killed")), trouble
    return report != ["done"]


def test_a_stop_at_each_system_call(case: Case) -> None:
    stop_at_each_call(case)


@pytest.mark.parametrize("case", ["use", "add-part"], indirect=True)
def test_a_kill_at_each_system_call(case: Case) -> None:
    """As above, with a process that is really killed."""
    for number in count():
        directory = case.copy()
        killed = in_a_process(lambda: case.change(Store(directory, disk=Killed(number))))  # noqa: B023 - done at once
        case.expect(directory, number)
        if not killed:
            break
    assert number > 0


def test_every_change_of_a_file_is_one_of_these_calls(case: Case) -> None:
    """The test of the test: nothing is changed but by calls of `Disk`, as far as Python reports changes (all but writing and syncing)."""
    directory = case.copy()

    def work(tell: Callable[[str], None]) -> None:
        disk, reported = AtEach(-1), list[str]()

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if arguments[2] & os.O_CREAT if event == "open" else event in REPORTED.values():
                reported.append(event)

        sys.addaudithook(hook)
        case.change(Store(directory, disk=disk))
        tell(json.dumps([reported, [REPORTED[name] for name in disk.called if name in REPORTED]]))

    process = Apart(work, LIMITS)
    try:
        process.wait()
        ((reported, called),) = map(json.loads, process.report())
    finally:
        process.close()
    assert reported == called
    assert reported


def test_a_power_loss_at_each_system_call(case: Case) -> None:
    assert power_losses(case) >= 2


@pytest.mark.parametrize("what", ["file", "directory"])
def test_without_syncing_a_power_loss_would_do_harm(what: str, tmp_path: Path) -> None:
    """The test of the test: it sees when a file, or a directory, is not synced."""

    def lost(call: platters.Call) -> bool:
        return call.what == "sync" and (call.at.name == STAGED) == (what == "file")

    case = Case(tmp_path, three, lambda store: store.use("genre", store.add("genre", "1.3.0", b"x" * 1000).sha256))
    with pytest.raises((AssertionError, StoreError)):
        power_losses(case, lost)


def test_a_disk_that_is_full_at_each_system_call(case: Case) -> None:
    for call in count():
        directory = case.copy()
        said = failure(lambda: case.change(Store(directory, disk=Failing(call, errno.ENOSPC, once=True))))  # noqa: B023 - done at once
        if said is None:
            break
        assert "No space left on device; free some space there" in said
        assert "\n" not in said
        case.expect(directory, call)
    assert call > 0


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EROFS, "Read-only file system; name a directory that can be written to"),
        (errno.EIO, "the disk or SD card may be failing"),
    ],
    ids=["read-only", "failing"],
)
def test_a_disk_that_takes_nothing(case: Case, number: int, says: str) -> None:
    directory = case.copy()
    said = failure(lambda: case.change(Store(directory, disk=Failing(0, number, once=False))))
    assert said is not None
    assert says in said
    assert look(directory) == case.before
    case.expect(directory, "at once")


def failure(change: Callable[[], object]) -> str | None:
    """What an error says, None without one."""
    try:
        change()
    except FileError as error:
        return str(error)
    return None


def test_what_was_written_on_a_full_disk_is_taken_back(tmp_path: Path) -> None:
    store = Store(tmp_path, disk=Failing(1, errno.ENOSPC, once=True))
    with pytest.raises(FileError, match="No space left"):
        store.write(NEW)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_links(tmp_path: Path) -> None:
    class Fat(platters.Quick):
        def link(self, *_: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    store = Store(tmp_path, disk=Fat())
    store.add("genre", "1.0.0", b"one")
    with pytest.raises(FileError, match="its file system has no links; name a directory on another one"):
        store.use("genre", "1.0.0")
