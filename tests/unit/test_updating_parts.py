"""Files of an update: none stays open that nobody waits for, and who signed them comes with them."""

from __future__ import annotations

import pytest

from edge_agent.contract.manifest import ModelFile
from edge_agent.errors import FileError
from edge_agent.testing.updates import FakePart, FakeWorkshop
from tests.unit.updates import ABOUT, Node, file

FULL = FileError("/var/lib: No space left on device")


class OpenPart(FakePart):
    """One that is open until it is closed."""

    def __init__(self, count: int, room: Room) -> None:
        super().__init__(count)
        self._room = room
        room.opened.append(self)

    def missing(self) -> list[int]:
        if self._room.unreadable and len(self._room.opened) == 2:
            raise FULL
        return super().missing()

    def close(self) -> None:
        self._room.opened.remove(self)


class Room(FakeWorkshop):
    """A workshop that opens the part of `genre` alone, or can't read that of another one."""

    def __init__(self, *, unreadable: bool) -> None:
        super().__init__()
        self.unreadable = unreadable
        self.opened: list[OpenPart] = []

    def part(self, file: ModelFile) -> OpenPart:
        if file.name != "genre" and not self.unreadable:
            raise FULL
        return OpenPart(len(file.blobs), self)


@pytest.mark.parametrize("unreadable", [False, True])
def test_of_parts_that_can_not_all_be_opened_none_stays_open(*, unreadable: bool) -> None:
    node = Node(names=("genre", "mood"))
    room = node.workshop = Room(unreadable=unreadable)
    node.updates = node.plan(node.original)
    node.offer(file(), file(name="mood"))
    for _ in range(3):
        node.run()
        assert (node.state(), node.reason(), room.opened) == ("fetching", str(FULL), [])
        node.clock.advance(60)
    assert room.done.count("lacking") == 3


def test_who_signed_them_is_known_after_a_reload_too() -> None:
    node = Node(ABOUT._replace(by_hand=True))
    node.offer(file())
    node.run()
    assert node.state() == "verified"
    (first,) = node.workshop.offers
    node.workshop.evidence = b"of another plan"
    node.take(node.plan(node.original, node.updates.about))
    node.updates.install("")
    node.turn(3)
    assert node.workshop.evidence == first


def test_the_same_manifest_signed_by_others_is_the_evidence_from_then_on() -> None:
    node = Node(ABOUT._replace(by_hand=True))
    node.offer(file())
    node.run()
    node.offer(file())
    node.clock.advance(60)
    node.run()
    _, second = node.workshop.offers
    node.updates.install("")
    node.turn(3)
    assert node.workshop.evidence == second


def test_nothing_is_fetched_before_what_the_last_one_left_is_cleared_away(caplog: pytest.LogCaptureFixture) -> None:
    node = Node()
    node.workshop.waits.add("keep 1.1.0")
    node.workshop.outcomes["keep 1.1.0"] = FULL
    node.offer(file())
    node.run()
    (keep,) = [job for job in node.workshop.jobs if not job.ended]
    node.offer(file("1.2.0"), serial=2)
    node.clock.advance(60)
    node.run()
    assert (node.state(), node.workshop.done.count("lacking")) == ("fetching", 1)
    keep.ended = True
    node.run()
    assert node.said["genre"]["installed_version"] == "1.2.0"
    assert f"update: what became of the last one can't be noted in the store: {FULL}" in caplog.text
