"""`edge-agent watch --topic`: a message, its answer, and the time between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from edge_agent.contract.messages import Message
from edge_agent.errors import InputError
from edge_agent.watching import events
from edge_agent.watching.known import Known, RouteSeen
from edge_agent.watching.way import OVERDUE, Asked, Pairing, Target, Way, as_template
from tests.unit.test_watching import REJECTED, ROCK, ROUTE, message

FEATURES, ANSWERS = "music/hall/features", "music/hall/genre"


def way(topic: str = FEATURES, **route: Any) -> Way:
    made = Way(Known(), topic)
    tell(made, {"routes": [{**ROUTE, **route}]})
    return made


def tell(made: Way, info: Any, topic: str = "edge/pi-1/info") -> None:
    assert take(made, message(topic, info), 0.0) == []


def take(made: Way, one: Message, now: float) -> list[dict[str, Any]]:
    return [event for event, _ in made.take(one, now)]


def test_a_message_its_answer_and_the_time_between() -> None:
    made = way()
    assert made.wanted[-3:] == [FEATURES, ANSWERS, f"{ANSWERS}/error"]
    (asked,) = take(made, message(FEATURES, {"tempo": 1}), 1.0)
    assert asked == {"event": "message", "topic": FEATURES, "models": ["genre"], "message": {"tempo": 1}}
    (answer,) = take(made, message(ANSWERS, ROCK), 1.0031)
    assert (answer["event"], answer["to"], answer["after_ms"]) == ("prediction", FEATURES, 3.1)
    take(made, message(FEATURES, {"tempo": -5}), 2.0)
    rejected = message(f"{ANSWERS}/error", {**REJECTED, "topic": FEATURES})
    (rejection,) = take(made, rejected, 2.5)
    assert (rejection["event"], rejection["after_ms"]) == ("rejection", 500.0)
    assert f"energy: Too small (was -5), 500.0 ms after {FEATURES}" in events.as_line(rejection, rejected)
    # Of another sensor, and what was not asked for.
    assert take(made, message("music/attic/genre", ROCK), 3.0) == []
    assert take(made, message("music/attic/features", {}), 3.0) == []


def test_the_topic_of_the_answers_leads_to_that_of_the_messages() -> None:
    made = way(ANSWERS)
    assert made.wanted[-3:] == [ANSWERS, FEATURES, f"{ANSWERS}/error"]
    take(made, message(FEATURES, {}), 1.0)
    (answer,) = take(made, message(ANSWERS, ROCK), 2.0)
    assert answer["after_ms"] == 1000.0


def test_a_filter_follows_many_sensors() -> None:
    made = way("music/+/features")
    assert made.wanted[-3:] == ["music/+/features", "music/+/genre", "music/+/genre/error"]
    for number, room in enumerate(("a", "b")):
        take(made, message(f"music/{room}/features", {}), float(number))
    assert [take(made, message(f"music/{room}/genre", ROCK), 2.0)[0]["after_ms"] for room in ("b", "a")] == [
        1000.0,
        2000.0,
    ]


def test_messages_in_flight_are_told_apart_by_their_id_or_their_order() -> None:
    pairing = Pairing()
    for at, mark in ((1.0, "x"), (2.0, None), (3.0, "y"), (4.0, None)):
        pairing.asked("t", Asked(at, "f", mark), gathers=False)
    found = [pairing.answered("t", mark, gathers=False) for mark in ("y", None, None, "x", None)]
    assert [None if one is None else one.at for one in found] == [3.0, 2.0, 4.0, 1.0, None]


def test_a_route_that_gathers_answers_what_came_last() -> None:
    made = way("home/hall/tempo", subscribe="home/{sensor}/{feature}")
    for at in (1.0, 2.0):
        take(made, message("home/hall/tempo", 120), at)
    assert take(made, message(ANSWERS, ROCK), 2.5)[0]["after_ms"] == 500.0
    assert list(made.due(100.0)) == [] == list(made.due(200.0))


def test_sources_of_one_sensor_share_their_answers() -> None:
    sources = [{"subscribe": "tele/{sensor}/S", "sensor": {}}, {"subscribe": "power", "sensor": {"sensor": "hall"}}]
    made = way("power")
    tell(made, {"x-edge-agent": {"routes": [{**ROUTE, "sources": sources, "gathers": True}]}}, "edge/pi-1/docs")
    assert made.wanted[-4:] == ["power", ANSWERS, f"{ANSWERS}/error", "tele/hall/S"]
    take(made, message("power", 5), 1.0)
    assert take(made, message(ANSWERS, ROCK), 2.0)[0]["to"] == "power"
    # What the other source sends is not asked for; but an answer may be due to it.
    assert take(made, message("tele/hall/S", {}), 3.0) == []
    assert take(made, message(ANSWERS, ROCK), 4.0)[0]["to"] == "tele/hall/S"
    # Two values of one sensor, each on its own topic.
    made = way("home/hall/tempo", subscribe="home/{sensor}/{feature}")
    assert made.wanted[-1] == "home/hall/+"
    assert take(made, message("home/hall/energy", 1), 5.0) == []
    assert take(made, message(ANSWERS, ROCK), 6.0)[0]["to"] == "home/hall/energy"


def test_what_is_not_answered_is_said_with_the_state_of_the_node() -> None:
    made = way()
    tell(made, b"offline", "edge/pi-1/state")
    take(made, message(FEATURES, {}), 1.0)
    assert list(made.due(OVERDUE)) == []
    (event,) = made.due(1.1 + OVERDUE)
    assert event == {"event": "unanswered", "topic": FEATURES, "seconds": OVERDUE, "nodes": {"pi-1": "offline"}}
    assert events.as_line(event).endswith("not answered within 5 s; pi-1 is offline")
    assert list(made.due(100.0)) == []
    # What was sent before the connection was lost is not waited for.
    take(made, message(FEATURES, {}), 101.0)
    made.restart()
    assert list(made.due(200.0)) == []


@pytest.mark.parametrize(
    ("topic", "info", "said"),
    [
        ("x", None, "no node has told its routes"),
        ("x", {"routes": [ROUTE]}, "no route takes x; routes subscribe to music/{sensor}/features"),
        (FEATURES, {"routes": [ROUTE]}, f"nothing on {FEATURES} yet"),
    ],
)
def test_silence_is_explained_once(topic: str, info: Any, said: str) -> None:
    made = Way(Known(), topic)
    if info is not None:
        tell(made, info)
    assert list(made.due(1.0)) == []
    (event,) = made.due(10.0)
    assert event["hint"].startswith(said)
    assert list(made.due(20.0)) == []


def test_a_message_that_no_route_takes_is_shown_all_the_same() -> None:
    made = way("elsewhere")
    (event,) = take(made, message("elsewhere", {"a": 1}), 1.0)
    assert events.as_line(event).endswith('{"a":1}; no known route takes it')


@pytest.mark.parametrize("topic", ["$share/a/b", "$SYS/x", "music/{sensor}/features", "a/#/b", "a+/b", "", "a\0"])
def test_what_is_no_topic_is_refused(topic: str) -> None:
    with pytest.raises(InputError, match="--topic"):
        as_template(topic)


class Built(Way):
    """Counts the targets that are built."""

    count = 0

    def _targets_of(self, route: RouteSeen) -> Iterator[Target]:
        for target in super()._targets_of(route):
            self.count += 1
            yield target


@pytest.mark.parametrize("gathers", [False, True])
def test_no_more_targets_are_built_than_are_looked_at(*, gathers: bool) -> None:
    sources = [{"subscribe": f"music/{{sensor}}/{number}"} for number in range(60)]
    nodes = Known()
    for number in range(8):
        route = {**ROUTE, "publish": f"out/{number}/{{sensor}}", "gathers": gathers, "sources": sources}
        nodes.take_docs(f"n-{number}", {"x-edge-agent": {"routes": [route] * 200}})
    made = Built(nodes, "music/+/+")
    assert len(made.wanted) < 3 * 256 + 10
    assert made.count <= 256 + 60


def test_no_message_is_too_strange() -> None:
    made = way("#")
    for topic in (
        "edge/pi-1/docs",
        "edge/x/info",
        "edge/x/state",
        FEATURES,
        ANSWERS,
        f"{ANSWERS}/error",
        "\x1b[31m",
        "a" * 65_000,
    ):
        for payload in (b"", b"\xff\0", b"[" * 9000, b'{"id": {}, "topic": 5}', json.dumps(ROCK).encode()):
            for one in (Message(topic, payload), Message(topic, payload, 1, "x\x1b/y", None, "r\x1b", True, True)):
                for event in take(made, one, 1.0):
                    assert events.as_line(event, one).isprintable()
                    assert events.as_json(event).isprintable()
    for _ in range(3):
        assert all(events.as_line(event).isprintable() for event in made.due(50.0))
