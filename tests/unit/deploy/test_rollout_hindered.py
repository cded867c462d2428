"""Roll-outs and ways back where something is in the way: nodes that refuse, wait for a person or are none, and a connection that ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edge_deploy.channel import Channel, joined
from edge_deploy.events import Event, Lines, json_lines
from edge_deploy.release import Bundle
from edge_deploy.rollout import Outcome
from edge_deploy.testing import Room, ScriptedNode

from edge_agent.contract import topics
from edge_agent.contract.manifest import place_of
from edge_agent.contract.messages import Message
from tests.unit.deploy.releases import SERIAL, write_release
from tests.unit.deploy.rolling import LIMITS, NAMES, Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    write_release(tmp_path)
    return Fleet(tmp_path)


def push(fleet: Fleet, *wave: str) -> None:
    """What `edge-deploy push --wave` does."""
    bundle = Bundle.open(fleet.folder / "genre-1.1.0.onnx")
    channel = Channel("stable", fleet.room.wire(), fleet.room.clock)
    channel.push(bundle)
    channel.announce(bundle.forward, joined(channel.current(), bundle.forward, wave or None))
    fleet.room.wait(1)
    for _ in range(20):
        fleet.room.wait(1)


def test_who_was_published_for_stays_when_others_are_added(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    push(fleet, "pi-1")
    push(fleet, "pi-2", "pi-1")
    push(fleet)
    push(fleet, "pi-3")
    assert [wave for _, wave in fleet.published()] == [("pi-1",), ("pi-1", "pi-2"), None, None]


def test_another_manifest_begins_with_the_wave_that_is_named(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "older").mkdir()
    older = Bundle.open(write_release(tmp_path / "older", "1.0.5", serial=SERIAL - 100))
    Channel("stable", fleet.room.wire(), fleet.room.clock).announce(older.forward, None)
    push(fleet, "pi-1")
    assert fleet.published()[-1] == (SERIAL, ("pi-1",))


def test_take_back_reaches_nodes_that_took_it_and_are_in_no_wave_any_more(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    bundle = Bundle.open(fleet.folder / "genre-1.1.0.onnx")
    push(fleet, "pi-1", "pi-3")
    Channel("stable", fleet.room.wire(), fleet.room.clock).announce(bundle.forward, ("pi-2",))
    fleet.room.wait(1)  # pi-2 has just begun
    assert fleet.take_back() is Outcome.TAKEN_BACK
    assert fleet.published()[-1] == (SERIAL + 1, ("pi-2", "pi-1", "pi-3"))
    assert set(fleet.versions().values()) == {"1.0.0"}


def test_take_back_reaches_who_came_with_the_release_after_the_first_one(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    push(fleet, "pi-1")
    assert fleet.take_back() is Outcome.TAKEN_BACK
    fleet.add("late", version="1.1.0")
    assert fleet.take_back() is Outcome.TAKEN_BACK
    assert fleet.published()[-1] == (SERIAL + 1, ("pi-1", "late"))
    assert fleet.nodes["late"].version == "1.0.0"


class Slow(ScriptedNode):
    """A node that hears of a manifest some seconds later."""

    def __init__(self, room: Room, name: str, **behaviour: Any) -> None:
        self.late: list[tuple[float, Message]] = []
        super().__init__(room, name, **behaviour)

    def take(self, message: Message) -> None:
        self.late.append((self.room.time + 3, message))

    def turn(self, now: float) -> None:
        while self.late and now >= self.late[0][0]:
            super().take(self.late.pop(0)[1])
        super().turn(now)


def test_who_went_back_by_itself_is_waited_for_on_the_way_back(fleet: Fleet) -> None:
    fleet.nodes["pi-1"] = Slow(fleet.room, "pi-1", returns="committed")
    assert fleet.run("1") is Outcome.TAKEN_BACK
    assert fleet.event("taken_back").text == "taken back: 1 node on genre 1.0.0"
    assert fleet.nodes["pi-1"].serial == SERIAL + 1


def test_a_broker_that_has_lost_everything_is_given_it_again(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    new = Slow(fleet.room, "late", online=False)

    def stop() -> None:
        fleet.wires[-1].connected = False
        fleet.room.retained.clear()
        for node in fleet.nodes.values():
            node.say_state()
            node.say()

    def start() -> None:
        fleet.wires[-1].connected = True
        new.online = True
        new.say_state()
        new.say()

    fleet.at(50, stop)
    fleet.at(60, start)
    assert fleet.run("50%,100%") is Outcome.DONE
    assert fleet.event("restored").text == "the broker had lost what was published: it is published again"
    assert {*fleet.versions().values(), new.version} == {"1.1.0"}
    bundle = Bundle.open(fleet.folder / "genre-1.1.0.onnx")
    assert Channel("stable", fleet.room.wire(), fleet.room.clock).push(bundle).sent == 0, "the files are there, too"
    assert fleet.kinds().count("restored") == 1


def test_a_broker_that_keeps_what_it_has_is_given_nothing_again(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    fleet.at(50, lambda: setattr(fleet.wires[-1], "connected", False))
    fleet.at(60, lambda: setattr(fleet.wires[-1], "connected", True))
    assert fleet.run("50%,100%") is Outcome.DONE
    assert "disconnected" in fleet.kinds()
    assert "restored" not in fleet.kinds()


def test_who_refuses_the_way_back_is_told_with_its_reason(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    assert fleet.run("100%") is Outcome.DONE
    fleet.nodes["pi-3"].refuses = "the key is not trusted any more"
    assert fleet.take_back() is Outcome.INCOMPLETE
    assert fleet.event("trouble").text == "pi-3: genre: refused: the key is not trusted any more"
    assert fleet.event("taken_back").data["left"] == ["pi-3"]
    assert "in trouble: pi-3" in fleet.event("taken_back").text


def test_who_waits_for_a_person_is_named_at_once_and_not_taken_back(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    assert fleet.run("100%") is Outcome.DONE
    fleet.nodes["pi-3"].stays = "verified"
    began = fleet.room.time
    assert fleet.take_back() is Outcome.INCOMPLETE
    assert fleet.room.time - began < LIMITS.within / 2
    assert "waiting for a person: pi-3" in fleet.event("taken_back").text
    assert fleet.event("taken_back").data["left"] == ["pi-3"]


def test_a_wave_does_not_wait_for_who_waits_for_a_person(fleet: Fleet) -> None:
    fleet.add("pi-1", stays="verified")
    fleet.add("pi-2")
    fleet.run("100%")
    assert fleet.room.time < LIMITS.within


@pytest.mark.parametrize("as_json", [False, True])
def test_progress_is_printed_when_it_changes(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> None:
    times = iter(range(0, 1000, 20))
    say = json_lines() if as_json else Lines(lambda: next(times), terminal=False)
    for number in (1, 1, 1, 2, 2):
        say(Event("progress", f"{number} committed", {"there": number}, passing=True))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_pause_stands_still_while_the_connection_is_away_and_no_wave_is_published(fleet: Fleet) -> None:
    fleet.add(*NAMES)

    def cut() -> None:
        fleet.wires[-1].connected = False

    def join() -> None:
        fleet.wires[-1].connected = True

    fleet.at(20, cut)
    fleet.at(1000, join)
    times: list[float] = []
    fleet.room.listen(lambda: [topics.manifest("stable")], lambda _: times.append(fleet.room.time))
    assert fleet.run("1,100%") is Outcome.DONE
    assert times[1] > 1000 + LIMITS.pause / 2


def test_a_newer_manifest_that_came_while_the_connection_was_away_is_not_overwritten(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.add(*NAMES)
    (tmp_path / "newer").mkdir()
    newer = Bundle.open(write_release(tmp_path / "newer", "1.2.0", before="1.1.0", serial=SERIAL + 100))

    def cut() -> None:
        wire = fleet.wires[-1]
        wire.connected = False
        wire.unsubscribe([topics.manifest("stable")])
        Channel("stable", fleet.room.wire(), fleet.room.clock).announce(newer.forward, None)

    def join() -> None:
        fleet.wires[-1].connected = True

    fleet.at(20, cut)
    fleet.at(1000, join)
    assert fleet.run("1,100%") is Outcome.SUPERSEDED
    assert [serial for serial, _ in fleet.published()] == [SERIAL, SERIAL + 100]


def test_a_release_that_nobody_took_is_no_success(fleet: Fleet) -> None:
    assert fleet.run("10%,100%") is Outcome.NOBODY
    assert fleet.room.time < LIMITS.pause
    fleet.add("cellar", online=False)
    assert fleet.run("10%,100%") is Outcome.NOBODY
    assert fleet.event("nobody").text.startswith("nobody has genre 1.1.0")


def test_a_share_that_is_no_node_is_not_watched(fleet: Fleet) -> None:
    fleet.add("pi-1")
    assert fleet.run("0.001%,100%") is Outcome.DONE
    assert fleet.kinds() == ["wave", "empty", "wave", "committed", "done"]


def test_a_number_picks_others_for_those_that_wait_for_a_person(fleet: Fleet) -> None:
    first, second, *others = sorted(NAMES, key=lambda name: place_of(name, "stable"))
    fleet.add(first, stays="verified")
    fleet.add(second, *others)
    assert fleet.run("1,100%") is Outcome.DONE
    assert [wave for _, wave in fleet.published()] == [(first,), (first, second), None]
    assert fleet.event("committed").data["there"] == [second]
