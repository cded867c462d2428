"""Every change of a store, and what may be there when it was stopped in the middle: the old or the new."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from edge_agent.contract.manifest import BLOB_BYTES
from edge_agent.host.folder import GONE, STAGED
from edge_agent.model.state import State
from edge_agent.model.store import Store
from tests.unit.interrupted import Change, Interrupted, quick

#: A version that arrives in pieces.
CONTENT = random.Random(0).randbytes(256_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PIECES = [CONTENT[start : start + BLOB_BYTES] for start in range(0, len(CONTENT), BLOB_BYTES)]
BLOBS = [hashlib.sha256(piece).hexdigest() for piece in PIECES]

OLD, NEW = (State().watch({"genre": digit * 64}, 1) for digit in "01")


def three(store: Store) -> None:
    """Three versions, the second in use, and the first before that."""
    for number in range(3):
        store.add("genre", f"1.{number}.0", b"%d" % number * 1000, b"signature")
    store.use("genre", "1.0.0")
    store.use("genre", "1.1.0")
    store.write(OLD)


def five(store: Store) -> None:
    """Two more than are kept."""
    three(store)
    for number in (3, 4):
        store.add("genre", f"1.{number}.0", b"%d" % number, b"signature")


def whole_part(store: Store) -> None:
    """All pieces of another version."""
    three(store)
    with store.part(SHA256, len(CONTENT), BLOBS) as part:
        for number, piece in enumerate(PIECES):
            part.write(number, piece)


def receive(store: Store) -> None:
    with store.part(SHA256, len(CONTENT), BLOBS) as part:
        for number in part.missing():
            part.write(number, PIECES[number])
        store.add("genre", "2.0.0", part.finish())


def add_part(store: Store) -> None:
    """Put what has arrived into the store."""
    if not any(one.version == "2.0.0" for one in store.versions("genre")):
        receive(store)


def remove_one(store: Store) -> None:
    if any(one.version == "1.2.0" for one in store.versions("genre")):
        store.remove("genre", "1.2.0")


def remove_all(store: Store) -> None:
    if (store.directory / "genre").exists():
        store.remove("genre")


def back_once(store: Store) -> None:
    version = store.current("genre")
    if version is not None and version.version == "1.1.0":
        store.rollback("genre")


#: What is there before, and what is changed; done twice it is as if done once.
CASES: dict[str, tuple[Change, Change]] = {
    "first": (lambda _: None, lambda store: store.add("genre", "1.0.0", b"one" * 1000, b"signature")),
    "add": (three, lambda store: store.add("genre", "1.3.0", b"three" * 1000, b"signature")),
    "sign": (three, lambda store: store.add("genre", "1.1.0", b"1" * 1000, b"another signature")),
    "use-first": (lambda store: store.add("genre", "1.0.0", b"one"), lambda store: store.use("genre", "1.0.0")),
    "use": (three, lambda store: store.use("genre", "1.2.0")),
    "use-old": (three, lambda store: store.use("genre", "1.0.0")),
    "rollback": (three, back_once),
    "remove": (three, remove_one),
    "remove-all": (three, remove_all),
    "prune": (five, lambda store: store.prune("genre")),
    "write": (three, lambda store: store.write(NEW)),
    "write-first": (lambda _: None, lambda store: store.write(NEW)),
    "receive": (three, receive),
    "add-part": (whole_part, add_part),
    "clear": (whole_part, lambda store: store.clear_parts()),
}


class Seen(NamedTuple):
    """What a store serves and remembers."""

    current: str | None
    before: str | None
    versions: tuple[str, ...]
    state: State


def look(directory: Path) -> Seen:
    """Look at a store; whatever is damaged fails here."""
    store = Store(directory)
    current, before, versions = store.current("genre"), store.before("genre"), store.versions("genre")
    assert not any(one.damaged for one in versions)
    return Seen(
        current and current.version, before and before.version, tuple(one.version for one in versions), store.read()
    )


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(tmp_path, *CASES[request.param])


class Case(Interrupted):
    """A change, and how it looks before and after it."""

    def __init__(self, place: Path, prepare: Change, change: Change) -> None:
        super().__init__(place, prepare, change)
        self.before = look(self.original)
        done = self.copy()
        change(quick(done))
        self.after = look(done)

    def expect(self, directory: Path, where: object) -> None:
        """The old or the new, never none; and the change can be made then."""
        seen = look(directory)
        assert seen.current in {self.before.current, self.after.current}, where
        assert seen.state in (self.before.state, self.after.state), where
        assert set(self.before.versions) & set(self.after.versions) <= set(seen.versions), where
        assert set(seen.versions) <= set(self.before.versions) | set(self.after.versions), where
        if seen.current is not None:
            # A way back is one of those that are right for what is in use.
            right = {one.before for one in (self.before, self.after) if one.current == seen.current}
            assert seen.before in right, where
        self.change(quick(directory))
        assert look(directory) == self.after, where
        quick(directory).add("other", "1.0.0", b"removes remainders")
        assert not any((directory / name).exists() for name in (STAGED, GONE)), where
        shutil.rmtree(directory)
