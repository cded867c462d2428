"""Births that were missed: what aliases stood for before is not trusted, and that is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent.contract.messages import Message
from edge_agent.serving.pipeline import Pipeline
from tests.sparkplug import encoded
from tests.unit.edge_nodes import ANSWERED, BD_SEQ, FIELDS, METRICS, ROUTE, TYPE, hear, served

MISSING = [("comfort/plant/plc/oven/error", "birth_missing")]
#: A route for one device: what it sees of an edge node has gaps.
ONE = ROUTE.replace("{device}", "oven")
NODE = (
    '[[route]]\nsubscribe = "spBv1.0/{group}/{_}/{node}"\npublish = "node/{group}/{node}"\npartial = "merge"\n'
    f"{TYPE}{FIELDS}"
)


class Plc:
    """An edge node that numbers its messages, and what a pipeline answers to them."""

    def __init__(self, pipeline: Pipeline, seq: int = 0) -> None:
        self.pipeline = pipeline
        self.seq = seq
        self.humidity = 40.5

    def number(self) -> int:
        seq, self.seq = self.seq, (self.seq + 1) % 256
        return seq

    def born(self) -> Any:
        assert hear(self.pipeline, "NBIRTH", encoded(BD_SEQ, seq=self.number()), "plc") == []
        return self.say("DBIRTH", *METRICS)

    def say(self, kind: str, *metrics: dict[str, Any], of: str = "plc/oven") -> Any:
        return hear(self.pipeline, kind, encoded(*metrics, seq=self.number()), of)

    def again(self, **options: Any) -> Any:
        """What the broker sends once more: something that was told by alias with the last number."""
        payload = encoded({"alias": 12, "float_value": self.humidity}, seq=(self.seq - 1) % 256)
        (answers,) = self.pipeline.process([Message("spBv1.0/plant/DDATA/plc/oven", payload, 1, **options)])
        return [json.loads(one.payload).get("label") for one in answers]

    def data(self, **options: Any) -> Any:
        """Something new, told by alias."""
        self.humidity += 1
        return self.say("DDATA", {"alias": 12, "float_value": self.humidity}, **options)


@pytest.fixture
def plc(tmp_path: Path) -> Plc:
    made = Plc(served(tmp_path))
    assert made.born() == ANSWERED
    return made


def test_numbers_that_follow_each_other_are_trusted_beyond_255(plc: Plc) -> None:
    for _ in range(300):
        assert plc.data() == ANSWERED


def test_of_a_node_with_several_devices_and_data_of_its_own(plc: Plc) -> None:
    plc.say("DBIRTH", *METRICS, of="plc/dryer")
    for _ in range(5):
        assert plc.data() == ANSWERED
        assert plc.say("NDATA", {"name": "Uptime", "int_value": 1}, of="plc") == []
        assert plc.data(of="plc/dryer") == [("comfort/plant/plc/dryer", "Rock")]
    assert plc.say("DDEATH", of="plc/dryer") == []
    assert plc.data() == ANSWERED


def test_after_a_gap_no_alias_is_trusted_until_the_device_is_born(plc: Plc) -> None:
    assert plc.data() == ANSWERED
    plc.number()
    payload = encoded({"alias": 12, "float_value": 3.0}, seq=plc.number())
    ((answer,),) = plc.pipeline.process([Message("spBv1.0/plant/DDATA/plc/oven", payload)])
    (reason,) = json.loads(answer.payload)["detail"]
    assert reason["type"] == "birth_missing"
    assert reason["msg"].startswith(
        "Alias 12 stands for a metric that no DBIRTH has named: no DBIRTH of plant/plc/oven was received since a message of the "
        "edge node was missed (seq 4 came after 2). Restart the edge node"
    )
    assert plc.data() == [], "it is said once"
    assert plc.say("DDATA", {"name": "Inputs/Rel. Humidity", "float_value": 9.0}) == ANSWERED, "names need no birth"
    assert plc.say("DBIRTH", *METRICS) == ANSWERED
    assert plc.data() == ANSWERED


def test_a_gap_makes_the_births_of_all_devices_void_but_the_one_that_is_born(plc: Plc) -> None:
    plc.say("DBIRTH", *METRICS, of="plc/dryer")
    assert plc.data() == ANSWERED
    plc.number()
    assert plc.say("DBIRTH", *METRICS, of="plc/dryer") == []
    assert plc.data(of="plc/dryer") == [("comfort/plant/plc/dryer", "Rock")]
    assert plc.data() == MISSING


def test_another_node_is_not_concerned(plc: Plc) -> None:
    other = Plc(plc.pipeline, seq=100)
    hear(plc.pipeline, "NBIRTH", encoded(BD_SEQ, seq=other.number()), "other")
    other.say("DBIRTH", *METRICS, of="other/oven")
    plc.number()
    assert plc.data() == MISSING
    assert other.data(of="other/oven") == [("comfort/plant/other/oven", "Rock")]


def test_a_birth_of_the_node_begins_anew(plc: Plc) -> None:
    for _ in range(7):
        plc.data()
    plc.seq = 0
    assert plc.born() == ANSWERED
    assert plc.data() == ANSWERED


@pytest.mark.parametrize("numbers", [[None] * 9, [0] * 9, [0, 5, 9, 1, 200, 3, 7, 8, 77]], ids=str)
def test_a_node_that_does_not_count_is_taken_as_it_is(tmp_path: Path, numbers: list[int | None]) -> None:
    pipeline = served(tmp_path)
    hear(pipeline, "NBIRTH", encoded(BD_SEQ, seq=numbers[0]), "plc")
    assert hear(pipeline, "DBIRTH", encoded(*METRICS, seq=numbers[1])) == ANSWERED
    for place, seq in enumerate(numbers[2:]):
        data = encoded({"alias": 12, "float_value": float(place)}, seq=seq)
        assert hear(pipeline, "DDATA", data) == ANSWERED
    pipeline.reconnected()
    assert hear(pipeline, "DDATA", encoded({"alias": 12, "float_value": 77.0}, seq=99)) == MISSING


# -- messages that never come, and that come twice


@pytest.mark.parametrize("times", [1, 2, 7])
def test_a_node_with_a_hidden_device_is_answered_from_its_second_birth_on(plc: Plc, times: int) -> None:
    """Access rules hide a device, whose birth and data are numbered all the same. It is said once that a birth is missing."""
    plc.number()
    assert plc.data() == MISSING
    for _ in range(9):
        plc.number()
        assert plc.data() == []
    for _ in range(times):
        plc.seq = 0
        plc.born()
        for _ in range(9):
            plc.number()
            assert plc.data() == ANSWERED


def test_with_two_gaps_a_node_counts_for_one_that_does_not_count(plc: Plc) -> None:
    for _ in range(2):
        plc.number()
        plc.data()
    plc.seq = 0
    plc.born()
    assert plc.data() == ANSWERED
    plc.pipeline.reconnected()
    assert plc.data() == MISSING, "its birth may have been missed"
    plc.seq = 0
    plc.born()
    assert plc.data() == ANSWERED
    plc.pipeline.reconnected()
    assert plc.data() == ANSWERED, "on a new connection it is counted anew"
    plc.number()
    assert plc.data() == MISSING


def test_one_gap_on_each_connection_is_a_gap(plc: Plc) -> None:
    for _ in range(4):
        plc.number()
        assert plc.data() == MISSING
        plc.seq = 0
        plc.born()
        assert plc.data() == ANSWERED
        plc.pipeline.reconnected()


def test_without_a_birth_it_is_said_once_whatever_happens(tmp_path: Path) -> None:
    plc = Plc(served(tmp_path))
    assert plc.data() == MISSING
    for _ in range(3):
        plc.number()
        assert plc.data() == []
        plc.pipeline.reconnected()
        assert plc.data() == []


def test_a_message_that_is_delivered_twice_misses_nothing(plc: Plc) -> None:
    for _ in range(300):
        assert plc.data() == ANSWERED
        assert plc.again() == []
        payload = encoded({"name": "Uptime", "int_value": 1}, seq=plc.number())
        for _ in range(2):
            assert hear(plc.pipeline, "NDATA", payload, "plc") == []


def test_what_is_sent_again_on_a_new_connection_is_answered_again(plc: Plc) -> None:
    assert plc.data() == ANSWERED
    assert plc.data() == ANSWERED
    plc.pipeline.reconnected()
    plc.seq -= 1
    assert plc.again(duplicate=True) == ["Rock"]
    plc.seq += 1
    assert plc.again(duplicate=True) == ["Rock"]
    assert plc.data() == ANSWERED
    plc.number()
    assert plc.data() == MISSING


def test_what_is_sent_again_may_be_the_next_one(plc: Plc) -> None:
    plc.pipeline.reconnected()
    plc.number()
    assert plc.again(duplicate=True) == ["Rock"]
    assert plc.data() == ANSWERED


@pytest.mark.parametrize(
    ("besides", "follows"),
    [
        ("", True),
        (NODE, True),
        (NODE.replace(TYPE, ""), True),
        (ROUTE.replace("comfort/", "other/"), True),
        (NODE.replace("spBv1.0/{group}", "spBv1.0/plant").replace("node/{group}", "node"), False),
        (NODE.replace(TYPE + FIELDS, 'share = "pool"\n').replace('partial = "merge"\n', ""), False),
        (ROUTE.replace("{group}", "plant"), False),
    ],
    ids=str,
)
def test_a_node_is_followed_where_no_other_subscription_takes_its_messages(
    tmp_path: Path, besides: str, *, follows: bool
) -> None:
    general = list(served(tmp_path, besides + ROUTE)._gatherings.values())[-1]
    assert general.nodes.follows is follows  # type: ignore[attr-defined]


def test_of_two_overlapping_subscriptions_messages_come_twice(tmp_path: Path) -> None:
    """As Mosquitto sends them: to a route for the devices of one group, and to one for the nodes of all groups."""
    text = ROUTE.replace("spBv1.0/{group}", "spBv1.0/plant").replace("comfort/{group}", "comfort/plant") + NODE
    plc = Plc(served(tmp_path, text))
    assert plc.born() == ANSWERED
    for _ in range(5):
        for _ in range(2):
            plc.say("NDATA", {"name": "Uptime", "int_value": 1}, of="plc")
            plc.seq -= 1
        plc.seq += 1
        assert plc.data() == ANSWERED


# -- reloads


def test_reloads_that_add_a_route_and_remove_it_leave_births_as_they_are(tmp_path: Path) -> None:
    plc = Plc(served(tmp_path))
    plc.born()
    for text in (ONE.replace("oven", "dryer") + ROUTE, ROUTE, ROUTE):
        latter = served(tmp_path, text)
        latter.take_over(plc.pipeline)
        plc.pipeline = latter
        for _ in range(3):
            if text is not ROUTE:
                plc.number()  # of the other route
            assert plc.data() == ANSWERED
    plc.number()
    assert plc.data() == MISSING


def test_after_a_reload_a_node_is_counted_from_its_next_birth_on(plc: Plc, tmp_path: Path) -> None:
    for _ in range(2):
        plc.number()
        plc.data()
    plc.seq = 0
    plc.born()
    latter = served(tmp_path)
    latter.take_over(plc.pipeline)
    plc.pipeline = latter
    plc.number()
    assert plc.data() == ANSWERED
    plc.seq = 0
    plc.born()
    plc.number()
    assert plc.data() == MISSING


# -- a new connection


def test_when_nothing_was_missed_while_the_agent_was_away_aliases_are_known(plc: Plc) -> None:
    plc.data()
    plc.pipeline.reconnected()
    assert plc.data() == ANSWERED


def test_when_something_was_missed_while_the_agent_was_away_they_are_not(plc: Plc) -> None:
    plc.data()
    plc.pipeline.reconnected()
    plc.number()
    assert plc.data() == MISSING


def test_a_birth_that_was_missed_can_not_give_an_alias_another_meaning(plc: Plc) -> None:
    """The temperature came by alias 11, and comes by 12 now: 500 would be the humidity."""
    plc.data()
    plc.pipeline.reconnected()
    plc.seq = 2  # after a birth of the node, 0, and one of the device, 1
    assert plc.say("DDATA", {"alias": 12, "int_value": 500}) == MISSING
    assert plc.say("DDATA", {"alias": 12, "int_value": 501}) == []


@pytest.mark.parametrize("text", [ONE, NODE, ONE + ROUTE])
def test_where_a_route_sees_only_a_part_a_new_connection_makes_all_births_void(tmp_path: Path, text: str) -> None:
    pipeline = served(tmp_path, text)
    kind, of = ("NBIRTH", "plc") if text is NODE else ("DBIRTH", "plc/oven")
    data = "NDATA" if text is NODE else "DDATA"
    assert hear(pipeline, kind, encoded(BD_SEQ, *METRICS, seq=0), of) != []
    assert hear(pipeline, data, encoded({"alias": 12, "float_value": 1.0}, seq=9), of)[0][1] == "Rock", (
        "gaps are normal"
    )
    assert hear(pipeline, data, encoded({"alias": 12, "float_value": 2.0}, seq=33), of)[0][1] == "Rock"
    pipeline.reconnected()
    payload = encoded({"alias": 12, "float_value": 3.0}, seq=34)
    ((answer,),) = pipeline.process([Message(f"spBv1.0/plant/{data}/{of}", payload)])
    (reason,) = json.loads(answer.payload)["detail"]
    assert "was received since the connection to the broker was lost, and one may have been missed" in reason["msg"]


def test_where_another_route_takes_some_devices_the_general_one_sees_only_a_part(tmp_path: Path) -> None:
    pipeline = served(tmp_path, ONE + ROUTE)
    plc = Plc(pipeline)
    plc.born()
    plc.say("DBIRTH", *METRICS, of="plc/dryer")
    for _ in range(4):
        assert plc.data(of="plc/dryer") == [("comfort/plant/plc/dryer", "Rock")]
        assert plc.data() == ANSWERED


def test_memory_does_not_grow_with_nodes_that_only_have_data(tmp_path: Path) -> None:
    pipeline = served(tmp_path, max_sensors=10)
    for number in range(1000):
        hear(pipeline, "NDATA", encoded(seq=1), f"n{number}")
    (gathering,) = pipeline._gatherings.values()
    assert len(gathering.nodes._nodes) == 0  # type: ignore[attr-defined]
