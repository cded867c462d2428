"""When Home Assistant is told of what, in an agent on a connection in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from edge_agent.contract.messages import Announced, Answer, Message, Refused, validator
from edge_agent.contract.templates import Template
from edge_agent.errors import BrokerError
from edge_agent.routing.routes import Route, subscriptions
from edge_agent.serving.agent import Agent
from edge_agent.serving.discovery import Discovery
from edge_agent.serving.home_assistant import About, kind_of
from edge_agent.serving.pipeline import Pipeline
from edge_agent.serving.plan import ConnectionSettings, Plan
from edge_agent.testing import ROUTE, FakeClock, FakeLink, FakeModel, make_card, make_connection_settings, make_plan

GOOD = b'{"loudness": 0.9}'
ABOUT = About("node", "homeassistant", "1", (("genre", "1.0.0"),), 30.0)
NODE = "homeassistant/device/edge-agent-node/config"
RECORD = "edge/node/home_assistant"


class House:
    """An agent that tells Home Assistant of itself, and its clock and connection."""

    def __init__(self, *links: FakeLink, **options: Any) -> None:
        self.clock = FakeClock()
        self.links = links or (FakeLink(),)
        self.link = self.links[0]
        self.settings: ConnectionSettings = make_connection_settings(*self.links)
        self.agent = Agent(self.settings, self.plan(**options), clock=self.clock)

    def plan(
        self,
        routes: tuple[Route, ...] = (ROUTE,),
        labels: tuple[str, ...] = ("Hip-Hop", "Rock"),
        *,
        about: About | None = ABOUT,
        limit: int = 100,
        card: Mapping[str, Any] = {},
    ) -> Plan:
        model = FakeModel(make_card().model_copy(update={"labels": labels, **card}))
        if about is None:
            return make_plan(model=model, routes=routes)
        discovery = Discovery(about, [kind_of(one, model.card) for one in routes], limit=limit, clock=self.clock)
        pipeline = Pipeline(routes, {"genre": model}, watcher=discovery)
        wanted = {**subscriptions("node", routes), **discovery.subscriptions}
        return make_plan(model=model, routes=routes)._replace(
            pipeline=pipeline, subscriptions=wanted, discovery=discovery
        )

    def runs(self, *messages: Message, seconds: float = 3.0) -> list[Answer]:
        """Let messages arrive and time pass; return what was sent meanwhile."""
        before = len(self.link.sent)
        self.link.arrive(*messages)
        for _ in range(5):
            self.agent.step()
        self.clock.advance(seconds)
        for _ in range(5):
            self.agent.step()
        return self.link.sent[before:]


def of(sensor: str, payload: bytes = GOOD, **more: Any) -> Message:
    return Message(f"music/{sensor}/features", payload, 1, **more)


def devices(sent: list[Answer]) -> list[str]:
    """The topics that were announced, with "-" before those that were taken back; the node's own is left out."""
    return [*_devices(sent)]


def _devices(sent: list[Answer]) -> Iterator[str]:
    for one in sent:
        if one.topic.startswith("homeassistant/device/") and one.topic != NODE:
            assert one.retain
            assert one.qos == 1
            yield json.loads(one.payload)["state_topic"] if one.payload else "-"


def record(sent: list[Answer]) -> Announced | None:
    found = [one for one in sent if one.topic == RECORD]
    if not found:
        return None
    told: Announced = validator(Announced).validate_json(found[-1].payload, strict=True)
    return told


def topics_of(told: Announced | None) -> list[str]:
    return [] if told is None else [topic for route in told["routes"] for topic in route["topics"]]


def test_the_node_is_announced_on_each_connection_and_the_models_with_it() -> None:
    house = House()
    sent = house.runs()
    assert NODE in [one.topic for one in sent]
    assert "edge/node/model/genre" in [one.topic for one in sent]
    assert devices(sent) == []


def test_a_sensor_is_announced_once_it_is_answered_and_only_once() -> None:
    house = House()
    house.runs()
    sent = house.runs(of("kitchen"))
    assert devices(sent) == ["music/kitchen/genre"]
    topics = [one.topic for one in sent]
    assert topics_of(record(sent)) == ["music/kitchen/genre"]
    assert topics.index(RECORD) < topics.index(next(one for one in topics if "device" in one))
    assert devices(house.runs(of("kitchen"), of("kitchen"))) == []


@pytest.mark.parametrize(
    "message",
    [
        of("kitchen", b"no features"),
        of("kitchen", response_topic="try/1"),
        of("kitchen", content_type="application/senml+json", payload=b'[{"n": "loudness", "v": 0.9}]'),
    ],
    ids=["rejected", "answered elsewhere", "not JSON"],
)
def test_what_home_assistant_could_not_read_is_not_announced(message: Message) -> None:
    house = House()
    house.runs()
    assert devices(house.runs(message)) == []


def test_gathered_answers_are_announced_too() -> None:
    route = ROUTE._replace(partial="merge", publish=Template("mood/{sensor}"))
    house = House(routes=(route,))
    house.runs()
    assert devices(house.runs(of("kitchen"))) == ["mood/kitchen"]


def test_nothing_is_announced_before_the_record_of_the_former_run_can_be_there() -> None:
    house = House()
    assert devices(house.runs(of("kitchen"), seconds=1.0)) == []
    assert devices(house.runs(seconds=1.5)) == ["music/kitchen/genre"]


def test_all_is_announced_again_on_a_connection_and_when_home_assistant_begins() -> None:
    house = House()
    house.runs(of("kitchen"), of("bath"))
    sent = house.runs(Message("homeassistant/status", b"online"))
    assert devices(sent) == ["music/kitchen/genre", "music/bath/genre"]
    assert NODE in [one.topic for one in sent]
    assert devices(house.runs(Message("homeassistant/status", b"offline"))) == []
    assert house.agent.tally.unrouted == 0
    again = House(FakeLink(), FakeLink())
    again.runs(of("kitchen"))
    again.link.lose(BrokerError("gone"))
    again.agent.step()
    again.clock.advance(10)
    again.link = again.links[1]
    sent = again.runs()
    assert devices(sent) == ["music/kitchen/genre"]
    assert topics_of(record(sent)) == ["music/kitchen/genre"]


def test_many_sensors_go_out_in_small_bursts_and_wait_while_much_is_in_flight() -> None:
    house = House(limit=10_000)
    house.runs()
    house.link.arrive(*(of(str(number)) for number in range(500)))
    house.agent.step()
    bursts = []
    for _ in range(40):
        before = len(house.link.sent)
        house.clock.advance(0.1)
        house.agent.step()
        bursts.append(len(devices(house.link.sent[before:])))
    assert max(bursts) <= 20
    assert sum(bursts) == 500
    house.link.arrive(Message("homeassistant/status", b"online"))
    house.link.in_flight = 100
    before = len(house.link.sent)
    for _ in range(10):
        house.agent.step()
    assert len(house.link.sent) - before == 10


def test_no_more_than_the_limit_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    house = House(limit=2)
    house.runs()
    assert len(devices(house.runs(*(of(str(number)) for number in range(5))))) == 2
    (line,) = [one for one in caplog.messages if "limits.sensors" in one]
    assert "2 sensors are announced" in line


def test_a_reload_with_the_same_says_nothing_again() -> None:
    house = House()
    house.runs(of("kitchen"))
    house.agent.take_over(house.settings, house.plan())
    assert devices(house.runs(of("kitchen"))) == []


def test_other_labels_are_announced_before_their_first_answer() -> None:
    house = House()
    house.runs(of("kitchen"), of("bath"))
    house.agent.take_over(house.settings, house.plan(labels=("Jazz", "Rock")))
    before = len(house.link.sent)
    house.link.arrive(of("bath"))
    house.agent.step()
    sent = house.link.sent[before:]
    (answer,) = [place for place, one in enumerate(sent) if one.topic == "music/bath/genre"]
    (said,) = [
        place
        for place, one in enumerate(sent)
        if one.payload and b"music/bath/genre" in one.payload and b"Jazz" in one.payload
    ]
    assert said < answer
    assert devices([*sent, *house.runs()]) == ["music/bath/genre", "music/kitchen/genre"]


def test_other_entities_take_the_place_of_those_that_were() -> None:
    house = House()
    house.runs(of("kitchen"))
    house.agent.take_over(house.settings, house.plan((ROUTE._replace(binary_sensor="Rock"),)))
    sent = house.runs()
    assert devices(sent) == ["-", "music/kitchen/genre"]
    assert any(b"binary_sensor" in one.payload for one in sent)


def test_what_a_route_announced_is_taken_back_with_it() -> None:
    house = House()
    sent = house.runs(of("kitchen"))
    (announced,) = [one.topic for one in sent if one.topic.startswith("homeassistant/device/") and one.topic != NODE]
    other = ROUTE._replace(publish=Template("mood/{sensor}"))
    house.agent.take_over(house.settings, house.plan((other,)))
    sent = house.runs()
    assert [one.topic for one in sent if not one.payload] == [announced]
    assert topics_of(record(sent)) == []


def test_switched_off_by_a_reload_all_is_taken_back() -> None:
    house = House()
    house.runs(of("kitchen"))
    house.agent.take_over(house.settings, house.plan(about=None))
    sent = house.runs(of("kitchen"))
    cleared = [one.topic for one in sent if one.retain and not one.payload]
    assert {NODE, RECORD, "edge/node/model/genre"} < set(cleared)
    assert len(cleared) == 4
    assert "music/kitchen/genre" in [one.topic for one in sent]
    house.agent.take_over(house.settings, house.plan())
    assert devices(house.runs(of("kitchen"))) == ["music/kitchen/genre"]


def test_another_prefix_moves_all_of_it() -> None:
    house = House()
    house.runs(of("kitchen"))
    house.agent.take_over(house.settings, house.plan(about=ABOUT._replace(prefix="ha")))
    sent = house.runs()
    assert [one.topic for one in sent if not one.payload and one.topic == NODE] == [NODE]
    assert len([one for one in sent if one.topic.startswith("ha/device/") and one.payload]) == 2
    assert devices(sent) == ["-"]


def former(**changes: Any) -> Message:
    told = {
        "prefix": "homeassistant",
        "models": ["genre"],
        "routes": [
            {
                "publish": "music/{sensor}/genre",
                "shape": kind_of(ROUTE, make_card()).shape,
                "topics": ["music/kitchen/genre"],
            }
        ],
    } | changes
    return Message(RECORD, json.dumps(told).encode(), 1, retained=True)


def test_what_a_former_run_announced_stays_and_is_announced_before_its_first_answer() -> None:
    house = House()
    sent = house.runs(former())
    assert devices(sent) == []
    assert topics_of(record(sent)) == ["music/kitchen/genre"]
    sent = house.runs(of("kitchen"))
    topics = [one.topic for one in sent]
    assert devices(sent) == ["music/kitchen/genre"]
    assert topics.index("music/kitchen/genre") > 0  # after its announcement


def test_what_a_former_run_announced_is_taken_back_without_a_route_for_it() -> None:
    house = House()
    gone = {"publish": "old/{sensor}", "shape": "", "topics": ["old/kitchen", "old/bath"]}
    sent = house.runs(former(routes=[gone], models=["genre", "mood"]))
    assert devices(sent) == ["-", "-"]
    assert [one.topic for one in sent if not one.payload and "model" in one.topic] == ["edge/node/model/mood"]
    told = json.loads(next(one.payload for one in reversed(sent) if one.topic == NODE))
    assert told["components"]["update-mood"] == {"platform": "update"}
    assert topics_of(record(sent)) == []


def test_former_sensors_make_room_for_those_that_are_answered() -> None:
    house = House(limit=1)
    house.runs(former())
    sent = house.runs(of("bath"))
    assert devices(sent) == ["-", "music/bath/genre"]


@pytest.mark.parametrize(
    "payload",
    [
        b"nonsense",
        b"{}",
        b'{"prefix": "a/#", "models": [], "routes": []}',
        b'{"prefix": "a", "models": ["+"], "routes": []}',
    ],
)
def test_what_is_no_record_changes_nothing(payload: bytes, caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    sent = house.runs(Message(RECORD, payload, 1, retained=True))
    assert [one for one in sent if not one.payload] == []
    assert "is no record of announcements" in caplog.text
    assert devices(house.runs(of("kitchen"))) == ["music/kitchen/genre"]


def test_a_record_can_have_no_devices_of_others_cleared() -> None:
    house = House()
    sent = house.runs(former(routes=[{"publish": "x", "shape": "", "topics": ["zigbee2mqtt/lamp", "../../x", ""]}]))
    assert all("/device/edge-agent-node-" in one.topic for one in sent if not one.payload)


def test_its_own_record_coming_back_is_not_taken_for_a_former_one() -> None:
    house = House()
    sent = house.runs(of("kitchen"))
    told = next(one for one in sent if one.topic == RECORD)
    assert devices(house.runs(Message(RECORD, told.payload, 1))) == []
    assert house.agent.tally.unrouted == 0


def test_a_broker_that_refuses_an_announcement_is_sent_no_more(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.runs()
    house.link.refused_answers.append(Refused(NODE, "not authorized"))
    assert devices(house.runs(of("kitchen"), of("bath"))) == []
    (_,) = [one for one in caplog.messages if "takes no discovery messages (not authorized)" in one]
    assert [one.topic for one in house.runs(of("kitchen"))] == ["music/kitchen/genre"]


def test_a_topic_that_mqtt_knows_and_home_assistant_refuses_is_not_announced() -> None:
    house = House()
    house.runs()
    assert devices(house.runs(of("kit\x7fchen"))) == []
