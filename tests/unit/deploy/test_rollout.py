"""Roll-outs over a broker in memory, to nodes that say what agents say, and do as they are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from edge_deploy.channel import Channel
from edge_deploy.release import Bundle
from edge_deploy.rollout import Outcome

from edge_agent.contract import topics
from edge_agent.errors import InputError
from tests.unit.deploy.releases import SERIAL, write_release
from tests.unit.deploy.rolling import LIMITS, NAMES, Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    write_release(tmp_path)
    return Fleet(tmp_path)


def test_wave_after_wave_reaches_all(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    assert fleet.run() is Outcome.DONE
    assert set(fleet.versions().values()) == {"1.1.0"}
    (first, one), (second, half), (third, all_) = fleet.published()
    assert first == second == third == SERIAL
    assert one is not None
    assert len(one) == 1
    assert one[0] in NAMES
    assert half == (*one, "50%")
    assert all_ is None
    assert fleet.kinds() == ["wave", "committed"] * 3 + ["done"]
    assert fleet.event("done").data["nodes"] == sorted(NAMES)


def test_a_wave_is_watched_for_the_pause(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    fleet.run("1,100%")
    assert fleet.room.time > 2 * LIMITS.pause


def test_a_node_that_goes_back_while_the_last_wave_is_watched_takes_all_back(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    node = fleet.nodes["pi-3"]

    def back() -> None:
        node.state, node.version = "rolled_back", "1.0.0"
        node.say("inference failed")

    fleet.at(LIMITS.pause, back)
    assert fleet.run("100%") is Outcome.TAKEN_BACK


def test_a_refusal_in_the_first_wave_takes_it_back_and_reaches_nobody_else(fleet: Fleet) -> None:
    fleet.add(*NAMES, refuses="no signature of a trusted key")
    assert fleet.run() is Outcome.TAKEN_BACK
    (_, one), (serial, back) = fleet.published()
    assert serial == SERIAL + 1
    assert one == back
    assert fleet.kinds() == ["wave", "trouble", "stopped", "taking_back", "taken_back"]
    assert "no signature of a trusted key" in fleet.event("trouble").text
    assert set(fleet.versions().values()) == {"1.0.0"}


def test_a_roll_back_while_a_wave_is_watched_ends_it(fleet: Fleet) -> None:
    fleet.add(*NAMES[:4])
    fleet.add(*NAMES[4:], returns="idle")
    assert fleet.run("50%,100%") is Outcome.TAKEN_BACK
    assert set(fleet.versions().values()) == {"1.0.0"}
    assert "rolled back: inference failed" in fleet.event("trouble").text


def test_as_many_as_allowed_may_refuse(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    fleet.add("odd-1", "odd-2", refuses="other features")
    assert fleet.run(limits=LIMITS._replace(max_refused=2)) is Outcome.DONE
    versions = fleet.versions()
    assert versions["odd-1"] == versions["odd-2"] == "1.0.0"
    assert all(versions[name] == "1.1.0" for name in NAMES)


def test_a_node_that_vanishes_with_the_release_is_trouble(fleet: Fleet) -> None:
    fleet.add(*NAMES, leaves="testing")
    assert fleet.run("100%", LIMITS) is Outcome.TAKEN_BACK
    assert "offline for" in fleet.event("trouble").text


def test_a_node_that_was_away_is_not_waited_for_and_comes_after(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    fleet.add("cellar", online=False)
    assert fleet.run("100%") is Outcome.DONE
    assert fleet.versions()["cellar"] == "1.0.0"
    assert fleet.event("done").data["away"] == ["cellar"]
    fleet.nodes["cellar"].come()
    fleet.room.wait(60)
    assert fleet.versions()["cellar"] == "1.1.0"


def test_a_short_absence_is_no_trouble(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    node = fleet.nodes["pi-3"]

    def leave() -> None:
        node.online = False
        node.say_state()

    fleet.at(4, leave)
    fleet.at(9, node.come)
    assert fleet.run("100%") is Outcome.DONE
    assert node.version == "1.1.0"


def test_a_silent_node_is_trouble_after_a_while(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    fleet.add("deaf", deaf=True)
    assert fleet.run("100%") is Outcome.TAKEN_BACK
    assert "nothing said of this release" in fleet.event("trouble").text


def test_nodes_of_another_channel_are_none_of_its_business(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    fleet.add("other", channel="beta", refuses="all")
    # One that takes no updates, and is seen by Home Assistant only.
    fleet.room.publish("edge/plain/state", b"online")
    fleet.room.publish("edge/plain/model/genre", b'{"installed_version": "1.0.0", "state": "idle"}')
    assert fleet.run("100%") is Outcome.DONE
    assert fleet.event("done").data["nodes"] == sorted(NAMES)


def test_what_was_refused_before_is_not_held_against_a_node(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    node = fleet.nodes["pi-0"]
    node.state = "refused"
    node.say("an older one")
    assert fleet.run("100%") is Outcome.DONE


def test_a_refusal_that_is_allowed_does_not_hold_up_the_next_wave(fleet: Fleet) -> None:
    fleet.add(*NAMES, refuses="no signature of a trusted key")
    assert fleet.run("25%,50%,100%", LIMITS._replace(max_refused=8)) is Outcome.DONE
    assert fleet.room.time < 3 * LIMITS.pause + LIMITS.within / 2


def test_who_installs_by_hand_is_not_waited_for(fleet: Fleet) -> None:
    fleet.add(*NAMES[:3])
    fleet.add("by-hand", stays="verified")
    assert fleet.run("100%") is Outcome.DONE
    assert fleet.event("committed").data["waiting"] == ["by-hand"]


def test_interrupted_it_leaves_the_fleet_where_it_is_and_goes_on_from_there(fleet: Fleet) -> None:
    fleet.add(*NAMES)

    def interrupt() -> None:
        raise KeyboardInterrupt

    fleet.at(20, interrupt)
    assert fleet.run() is Outcome.INTERRUPTED
    before = fleet.published()
    assert len(before) == 1
    assert "run the same command again" in fleet.event("interrupted").text
    assert fleet.run() is Outcome.DONE
    # The node that was picked is not picked again, and what is published is not published anew.
    (_, one), (_, half), (_, all_) = fleet.published()
    assert before == [(SERIAL, one)]
    assert one is not None
    assert half == (*one, "50%")
    assert all_ is None
    assert "resumed" in fleet.kinds()


def test_done_again_it_publishes_nothing(fleet: Fleet) -> None:
    fleet.add(*NAMES)
    fleet.run()
    before = len(fleet.room.published)
    assert fleet.run() is Outcome.DONE
    assert len(fleet.room.published) == before


def test_a_newer_release_ends_it_and_is_not_hindered(fleet: Fleet, tmp_path: Path) -> None:
    fleet.add(*NAMES)
    (tmp_path / "newer").mkdir()
    newer = write_release(tmp_path / "newer", "1.2.0", before="1.1.0", serial=SERIAL + 100)

    def another() -> None:
        bundle = Bundle.open(newer)
        channel = Channel("stable", fleet.room.wire(), fleet.room.clock)
        channel.announce(bundle.forward, None)

    fleet.at(20, another)
    assert fleet.run() is Outcome.SUPERSEDED
    assert [serial for serial, _ in fleet.published()] == [SERIAL, SERIAL + 100]
    fleet.room.wait(30)
    assert set(fleet.versions().values()) == {"1.2.0"}
    with pytest.raises(InputError, match="sign the model again"):
        fleet.run()


def test_take_back_goes_to_those_that_took_it(fleet: Fleet) -> None:
    fleet.add(*NAMES)

    def interrupt() -> None:
        raise KeyboardInterrupt

    fleet.at(20, interrupt)
    fleet.run()
    assert fleet.take_back() is Outcome.TAKEN_BACK
    (_, one), (serial, back) = fleet.published()
    assert (serial, back) == (SERIAL + 1, one)
    assert set(fleet.versions().values()) == {"1.0.0"}
    assert fleet.take_back() is Outcome.TAKEN_BACK
    assert len(fleet.published()) == 2


def test_what_is_not_on_the_channel_is_not_taken_back(fleet: Fleet, tmp_path: Path) -> None:
    fleet.add(*NAMES)
    with pytest.raises(InputError, match="nothing to take back"):
        fleet.take_back()
    (tmp_path / "older").mkdir()
    older = Bundle.open(write_release(tmp_path / "older", "1.0.5", serial=SERIAL - 100))
    Channel("stable", fleet.room.wire(), fleet.room.clock).announce(older.forward, None)
    with pytest.raises(InputError, match="nothing to take back"):
        fleet.take_back()


def test_without_a_way_back_no_further_node_takes_it(tmp_path: Path) -> None:
    write_release(tmp_path, before=None)
    fleet = Fleet(tmp_path)
    fleet.add(*NAMES, refuses="a flipped bit")
    assert fleet.run() is Outcome.STOPPED
    assert fleet.published()[-1] == (SERIAL, ())
    with pytest.raises(InputError, match="without a way back"):
        fleet.take_back()


def test_failing_inferences_end_it(fleet: Fleet) -> None:
    fleet.add(*NAMES)

    def report(now: float) -> None:
        # Many and often, so that there is never a second of silence.
        uptime = 1000 + now
        failed = 0 if fleet.nodes["pi-0"].version == "1.0.0" else 5
        health = {"uptime": uptime, "received": 100 * now, "rejections": {"inference_failed": failed * now}}
        fleet.room.publish(topics.health("pi-0"), json.dumps(health).encode(), retain=False)

    fleet.room.turns.append(report)
    assert fleet.run("100%") is Outcome.TAKEN_BACK
    assert "messages failed since it has the release" in fleet.event("trouble").text


def test_no_node_to_begin_with(fleet: Fleet) -> None:
    with pytest.raises(InputError, match="no node to begin with"):
        fleet.run()
    assert fleet.published() == []


def test_while_the_connection_is_away_no_time_passes(fleet: Fleet) -> None:
    fleet.add(*NAMES)

    def cut() -> None:
        fleet.wires[-1].connected = False

    def join() -> None:
        fleet.wires[-1].connected = True

    fleet.add("slow", stays="testing")
    fleet.at(10, cut)
    fleet.at(1000, join)
    assert fleet.run("100%") is Outcome.TAKEN_BACK
    assert fleet.room.time > 1000 + LIMITS.within - 10
    assert "disconnected" in fleet.kinds()


def test_a_node_that_calls_itself_all_is_not_picked(fleet: Fleet) -> None:
    fleet.add("*", "100%", "\x1b[31mred", *NAMES)
    assert fleet.run("9") is Outcome.DONE
    ((_, wave),) = fleet.published()
    assert wave is not None
    assert set(wave) == set(NAMES)
