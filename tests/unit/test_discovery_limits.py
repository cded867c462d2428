"""What discovery takes from the broker, and how much of it: `online`, and the record of a former run."""

from __future__ import annotations

import gc
import json
import tracemalloc
from typing import Any

import pytest

from edge_agent.assembly import make_discovery
from edge_agent.config.load import load
from edge_agent.contract.messages import JSON_TYPE, Answer, Message, Refused
from edge_agent.errors import BrokerError
from edge_agent.serving.discovery import Discovery
from edge_agent.serving.home_assistant import kind_of
from edge_agent.testing import ROUTE, FakeClock, FakeLink, FakeModel, make_card
from tests.unit.test_discovery import ABOUT, NODE, RECORD, House, devices, former, of, record, topics_of
from tests.unit.test_settings import write

ONLINE = Message("homeassistant/status", b"online")
OLD = {"publish": "old/{sensor}", "shape": "", "topics": ["old/kitchen"]}


def cleared(sent: list[Answer]) -> list[str]:
    return [one.topic for one in sent if one.retain and not one.payload]


def times_told(sent: list[Answer]) -> int:
    return len([one for one in sent if one.topic == NODE])


# -- online


def test_a_flood_of_online_is_answered_once_in_some_seconds() -> None:
    house = House()
    house.runs(of("kitchen"))
    sent = house.runs(*[ONLINE] * 1000, seconds=0.1)
    sent += house.runs(*[ONLINE] * 1000, seconds=0.1)
    assert devices(sent) == ["music/kitchen/genre"]
    assert times_told(sent) == 1
    assert devices(house.runs(seconds=6)) == ["music/kitchen/genre"]
    assert devices(house.runs(seconds=60)) == []
    assert house.agent.tally.received == 1


def test_online_while_all_is_announced_is_answered_after_it() -> None:
    house = House(limit=1000)
    house.runs()
    for _ in range(30):
        house.runs(*(of(str(number)) for number in range(200)))
    house.link.arrive(ONLINE)
    house.agent.step()
    house.clock.advance(60)
    before = len(house.link.sent)
    house.link.arrive(ONLINE)
    for _ in range(9):  # of the 200, 20 went out before
        house.agent.step()
    assert len(set(devices(house.link.sent[before:]))) == len(devices(house.link.sent[before:])) < 200
    for _ in range(20):
        house.agent.step()
    sent = house.link.sent[before:]
    assert times_told(sent) == 1
    assert devices(sent).count("music/150/genre") == 2


# -- what is believed of a record


@pytest.mark.parametrize(
    "changes",
    [
        {"prefix": "/".join("x" * 300)},
        {"prefix": "x" * 201},
        {"prefix": "$SYS/broker"},
        {"prefix": "/valves"},
        {"prefix": "valves\ufffe"},
        {"prefix": ""},
        {"models": ["a/b"]},
        {"models": ["/".join("x" * 300)]},
        {"models": ["x" * 65]},
        {"models": [""]},
    ],
    ids=lambda changes: repr(changes)[:24],
)
def test_names_that_the_agent_cannot_have_given_are_not_believed(
    changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    house = House()
    sent = house.runs(former(**changes))
    assert cleared(sent) == []
    assert "is no record of announcements" in caplog.text
    assert devices(house.runs(of("kitchen"))) == ["music/kitchen/genre"]


def test_there_is_a_limit_to_what_is_taken_back_for_a_record() -> None:
    house = House()
    house.link.arrive(
        former(
            models=[f"m{number}" for number in range(50_000)],
            routes=[{**OLD, "topics": [f"old/{number}" for number in range(50_000)]}] * 2,
        )
    )
    for _ in range(2000):
        house.agent.step()
    of_models = [one for one in cleared(house.link.sent) if one.startswith("edge/node/model/")]
    assert len(of_models) <= 256
    assert len(cleared(house.link.sent)) <= 256 + 10_000
    assert max(len(one.payload) for one in house.link.sent) < 50_000


def test_more_topics_than_the_limit_is_now_are_taken_back() -> None:
    house = House(limit=1)
    sent = house.runs(former(routes=[{**OLD, "topics": ["old/a", "old/b", "old/c"]}]))
    assert devices(sent) == ["-", "-", "-"]


def test_models_that_are_gone_are_named_until_the_broker_has_confirmed_it() -> None:
    house = House()
    house.link.in_flight = 1
    sent = house.runs(former(models=["genre", "mood"]))
    assert b"update-mood" in next(one.payload for one in reversed(sent) if one.topic == NODE)
    sent = house.runs(ONLINE, seconds=10)
    assert b"update-mood" in next(one.payload for one in reversed(sent) if one.topic == NODE)
    house.link.in_flight = 0
    house.runs()
    sent = house.runs(ONLINE, seconds=10)
    assert b"update-mood" not in next(one.payload for one in reversed(sent) if one.topic == NODE)


def test_a_clear_that_ends_the_connection_is_dropped_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    links = [FakeLink() for _ in range(20)]
    house = House(*links)

    def hangs_up(answer: Answer) -> bool:
        return answer.topic.startswith("valves/") and not answer.payload

    for link in links:
        link.hangs_up = hangs_up
    house.link.arrive(former(prefix="valves", routes=[]))
    for _ in range(300):
        house.agent.step()
        house.clock.advance(1)
    link = next(link for link in reversed(links) if link.sent)
    assert link._lost is None
    assert "takes no discovery messages" not in caplog.text
    (_,) = [one for one in caplog.messages if "'valves/device/edge-agent-node/config' stays" in one]
    house.link = link
    assert devices(house.runs(of("kitchen"))) == ["music/kitchen/genre"]


# -- when it comes


def test_the_wait_for_the_record_begins_anew_on_each_connection() -> None:
    house = House(FakeLink(), FakeLink())
    house.runs(seconds=1.5)
    house.link.lose(BrokerError("gone"))
    house.agent.step()
    house.clock.advance(10)
    house.link = house.links[1]
    assert record(house.runs(of("kitchen"), seconds=1.5)) is None
    assert devices(house.runs(former(routes=[OLD]), seconds=0.1)) == ["-", "music/kitchen/genre"]


def test_the_wait_begins_once_the_subscription_is_granted() -> None:
    house = House()
    house.link.ready = False
    house.runs(seconds=30)
    house.link.ready = True
    assert record(house.runs(seconds=1)) is None
    assert devices(house.runs(former(routes=[OLD]))) == ["-"]


def test_a_backlog_is_waited_for_but_not_for_ever() -> None:
    house = House()
    for _ in range(20):
        assert record(house.runs(*[of("kitchen")] * 500, seconds=1)) is None
    assert devices(house.runs(former(routes=[OLD]))) == ["-", "music/kitchen/genre"]
    busy = House()
    sent: list[Answer] = []
    for _ in range(70):
        sent += busy.runs(*[of("kitchen")] * 500, seconds=1)
    assert devices(sent) == ["music/kitchen/genre"]


def test_a_record_that_comes_late_is_merged() -> None:
    house = House()
    house.runs(of("kitchen"))
    sent = house.runs(former(routes=[OLD, former_route("music/bath/genre")], models=["genre", "mood"]))
    assert devices(sent) == ["-"]
    assert "edge/node/model/mood" in cleared(sent)
    assert topics_of(record(sent)) == ["music/bath/genre", "music/kitchen/genre"]


def test_a_late_record_with_other_entities_has_those_taken_back() -> None:
    house = House()
    house.runs(of("kitchen"))
    assert devices(house.runs(former(routes=[former_route("music/kitchen/genre", shape="binary_sensor binary")]))) == [
        "-",
        "music/kitchen/genre",
    ]


def test_a_late_record_with_another_prefix_is_taken_back() -> None:
    house = House()
    house.runs(of("kitchen"))
    sent = house.runs(former(prefix="ha"))
    assert [one.startswith("ha/device/edge-agent-node") for one in cleared(sent)] == [True, True]


def test_a_broker_that_passes_on_our_own_record_as_a_retained_one_gets_no_other_for_it() -> None:
    house = House()
    told = next(one for one in house.runs(of("kitchen")) if one.topic == RECORD)
    sent: list[Answer] = []
    for _ in range(5):
        sent += house.runs(Message(RECORD, told.payload, 1, retained=True))
    assert sent == []


def former_route(topic: str, shape: str | None = None) -> dict[str, Any]:
    (route,) = json.loads(former().payload)["routes"]
    return {**route, "topics": [topic], "shape": route["shape"] if shape is None else shape}


# -- how large it may be


def test_no_more_is_announced_than_the_broker_takes_a_record_of(caplog: pytest.LogCaptureFixture) -> None:
    house = House(limit=1000)
    house.link.size_limit = 3000
    house.runs()
    sent = [*house.runs(*(of(str(number)) for number in range(500)), seconds=9), *house.runs(), *house.runs()]
    told = topics_of(record(sent))
    assert 50 < len(told) < 500
    assert sorted(devices(sent)) == sorted(told)
    (line,) = [one for one in caplog.messages if "it is too large" in one]
    assert f"{len(told)} sensors are announced" in line
    assert all(len(one.payload) < 3000 for one in sent if one.topic == RECORD)
    assert [one.topic for one in house.runs(of("499"))] == ["music/499/genre"]


def test_where_the_broker_takes_no_record_nothing_new_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.link.size_limit = 50
    sent = house.runs(of("kitchen"))
    assert record(sent) is None
    assert devices(sent) == []
    assert "0 sensors are announced, and no more will be" in caplog.text


def test_a_broker_that_keeps_nothing_is_told_all_the_same() -> None:
    house = House()
    house.link.retains = False
    assert devices(house.runs(of("kitchen"))) == ["music/kitchen/genre"]


def test_a_refused_record_is_not_gone_beyond(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.runs(of("kitchen"))
    house.link.refused_answers.append(Refused(RECORD, "not authorized"))
    house.runs()
    house.link.refused_answers.clear()
    assert devices(house.runs(of("bath"))) == []
    assert "1 sensors are announced, and no more will be" in caplog.text
    assert "(not authorized)" in caplog.text


# -- the node


def test_its_own_record_and_home_assistants_state_do_not_count_as_received() -> None:
    house = House()
    house.runs(former(), Message(RECORD, b"{}", 1), Message("homeassistant/status", b"offline"))
    assert (house.agent.tally.received, house.agent.tally.unrouted) == (0, 0)


def test_of_two_files_with_one_name_the_version_of_the_first_route_is_told(tmp_path: Any) -> None:
    route = '[[route]]\nmodel = "{0}.onnx"\nsubscribe = "{0}/{{s}}"\npublish = "{0}/{{s}}/genre"\n'
    settings = load(write(tmp_path, route.format("b") + route.format("a")))
    models = {}
    for one, version in zip(settings.routes(), ("2.0.0", "1.0.0"), strict=True):
        models[one.model] = FakeModel(make_card().model_copy(update={"version": version}))
    about = make_discovery(settings, dict(reversed(models.items()))).about  # type: ignore[arg-type]
    assert about.models == (("genre", "2.0.0"),)


def test_thousands_of_sensors_take_little_memory() -> None:
    """What waits to be announced needs memory of its own only as long as it waits."""
    model = FakeModel()
    discovery = Discovery(ABOUT, [kind_of(ROUTE, model.card)], limit=5000, clock=(clock := FakeClock()))
    topics = [f"music/sensor-{number}/genre" for number in range(5000)]
    link = FakeLink()
    tracemalloc.start(1)
    try:
        before, _ = tracemalloc.get_traced_memory()
        for topic in topics:
            discovery.meet(ROUTE, topic, JSON_TYPE)
        said = 0
        while not discovery.is_idle:
            clock.advance(0.1)
            said += sum(1 for one in discovery.due(link, 0) if one.topic.endswith("/config"))
        gc.collect()
        after, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said == len(topics)
    assert (after - before) / len(topics) < 40
    assert (most - before) / len(topics) < 160
