"""Sensors that send only what has changed, or in pieces, or several on one topic: through the whole pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config.load import load
from edge_agent.contract.messages import Message
from edge_agent.errors import SettingsError
from edge_agent.routing.routes import Route, subscriptions
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeModel, make_card
from tests.unit.test_settings import refusal, write
from tests.work import steps

WEATHER = ("temperature", "humidity", "pressure")


def served(tmp_path: Path, text: str, features: tuple[str, ...] = WEATHER) -> Pipeline:
    routes = load(write(tmp_path, text)).routes()
    return Pipeline(routes, {"genre": FakeModel(make_card(features, minimum=-100, maximum=2000))})


def say(pipeline: Pipeline, topic: str, payload: Any, now: float = 0.0, **options: Any) -> list[tuple[str, Any]]:
    """Send one message; return the topic of each answer, and what it says: a label or an error."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    (answers,) = pipeline.process([Message(topic, data, **{"qos": 1, **options})], now)
    said = []
    for answer in answers:
        content = json.loads(answer.payload)
        said.append((answer.topic, content.get("label", content.get("error"))))
    return said


MERGE = '[[route]]\nsubscribe = "z2m/{device...}"\npublish = "comfort/{device...}"\npartial = "merge"\n'


def test_a_part_is_answered_when_it_completes_the_rest(tmp_path: Path) -> None:
    pipeline = served(tmp_path, MERGE)
    assert say(pipeline, "z2m/attic/north", {"temperature": 20.86, "humidity": 39.56}) == []
    assert say(pipeline, "z2m/attic/south", {"pressure": 1026}) == []
    assert say(pipeline, "z2m/attic/north", {"pressure": 1026}) == [("comfort/attic/north", "Rock")]
    # A change of one is answered with the others as they were; the same again is not.
    assert say(pipeline, "z2m/attic/north", {"humidity": 40}) == [("comfort/attic/north", "Rock")]
    assert say(pipeline, "z2m/attic/north", {"humidity": 40}) == []
    (waiting,) = pipeline.gathered(0, limit=10)["waiting"]  # type: ignore[index]
    assert waiting == {
        "sensor": "attic/south",
        "topic": "z2m/attic/south",
        "missing": ["temperature", "humidity"],
        "stale": [],
    }


@pytest.mark.parametrize("unknown", [None, "unavailable", "unknown", "nan", "---", " NaN ", "None", ""])
def test_a_value_that_is_said_to_be_unknown_is_taken_away(tmp_path: Path, unknown: object) -> None:
    pipeline = served(tmp_path, MERGE)
    assert say(pipeline, "z2m/a", {"temperature": 20, "humidity": 40, "pressure": 1026}) == [("comfort/a", "Rock")]
    assert say(pipeline, "z2m/a", {"humidity": unknown}) == []
    assert say(pipeline, "z2m/a", {"temperature": 21}) == []
    assert say(pipeline, "z2m/a", {"humidity": 41}) == [("comfort/a", "Rock")]


BOTH = b'{"temperature": 20, "pressure": 1026'
WHOLE = BOTH + b', "humidity": 40.5'


@pytest.mark.parametrize(
    "payloads",
    [
        [WHOLE + b"}", WHOLE + b"}", b'{"humidity": 41}', WHOLE + b"}"],
        [WHOLE + b', "id": 7, "time": "now", "battery": 90}', WHOLE + b', "id": 1e400}'],
        [b'{"humidity": null}', BOTH + b', "humidity": null}', BOTH + b', "humidity": 2001}', WHOLE + b"}"],
        [BOTH + b', "humidity": -0.0}', BOTH + b', "humidity": 0}', BOTH + b', "humidity": true}'],
        [BOTH + b', "humidity": "41"}', BOTH + b', "humidity": NaN}', WHOLE, b"[" + WHOLE + b"}]"],
    ],
)
@pytest.mark.parametrize("options", [{}, {"duplicate": True}, {"retained": True}])
def test_a_whole_document_is_answered_alike_however_it_is_read(
    tmp_path: Path, payloads: list[bytes], options: dict[str, Any]
) -> None:
    """One with a NUL behind it is not read in one go."""
    text = MERGE.replace('"merge"', '"merge"\nmax_age = 60')
    quick, thorough = served(tmp_path, text), served(tmp_path, text)
    for number, payload in enumerate([*payloads, payloads[-1]]):
        (answers,), (expected,) = (
            one.process([Message("z2m/a", sent, 1, **options)], 50.0 * number)
            for one, sent in ((quick, payload), (thorough, payload + b"\0"))
        )
        told = [(answer.topic, json.loads(answer.payload)) for answer in answers]
        assert told == [(answer.topic, json.loads(answer.payload)) for answer in expected]
        assert quick.gathered(50.0 * number, limit=9) == thorough.gathered(50.0 * number, limit=9)


def test_keys_that_come_and_go(tmp_path: Path) -> None:
    """Two kinds of message in turn, each with null for what the other one brings."""
    pipeline = served(tmp_path, MERGE.replace('"merge"', '"merge"\nmax_age = 60'))
    assert say(pipeline, "z2m/a", {"temperature": 20, "humidity": 40}) == []
    assert say(pipeline, "z2m/a", {"battery": 90, "linkquality": 120}) == []
    assert say(pipeline, "z2m/a", {"pressure": 1026, "battery": 90}) == [("comfort/a", "Rock")]
    assert pipeline.gathered(0, limit=9)["ignored"] == 1  # type: ignore[index]
    assert say(pipeline, "z2m/a", {"temperature": 22}, now=61) == []
    assert say(pipeline, "z2m/a", {"humidity": 40, "pressure": 1026}, now=62) == [("comfort/a", "Rock")]


def test_one_value_that_is_wrong_does_not_lose_the_others(tmp_path: Path) -> None:
    pipeline = served(tmp_path, MERGE)
    wrong = {"temperature": "warm", "humidity": 40, "pressure": 1026}
    assert say(pipeline, "z2m/a", wrong) == [("comfort/a/error", "invalid_features")]
    assert say(pipeline, "z2m/a", {"temperature": 20}) == [("comfort/a", "Rock")]
    assert say(pipeline, "z2m/a", b"{cut off") == [("comfort/a/error", "malformed_payload")]
    assert say(pipeline, "z2m/a", {"temperature": 21}) == [("comfort/a", "Rock")]


def test_an_array_of_parts_is_taken_in_order(tmp_path: Path) -> None:
    pipeline = served(tmp_path, MERGE)
    parts = [{"temperature": 20, "humidity": 40}, {"pressure": 1026}, {"pressure": 1027}]
    assert say(pipeline, "z2m/a", parts) == [("comfort/a", "Rock"), ("comfort/a", "Rock")]


def test_the_time_of_the_last_part_comes_back(tmp_path: Path) -> None:
    pipeline = served(tmp_path, MERGE)
    say(pipeline, "z2m/a", {"temperature": 20, "humidity": 40, "time": 1})
    (answers,) = pipeline.process([Message("z2m/a", b'{"pressure": 1026, "time": 2, "id": "x"}', 1)])
    content = json.loads(answers[0].payload)
    assert (content["time"], content["id"]) == (2, "x")


def test_what_lacks_a_feature_is_ignored_when_told_so(tmp_path: Path) -> None:
    pipeline = served(tmp_path, MERGE.replace('"merge"', '"ignore"'))
    assert say(pipeline, "z2m/a", {"battery": 90}) == []
    assert say(pipeline, "z2m/a", {"temperature": 20, "humidity": None, "pressure": 1026}) == []
    assert say(pipeline, "z2m/a", {"temperature": 20, "humidity": 40, "pressure": 1026}) == [("comfort/a", "Rock")]
    assert say(pipeline, "z2m/a", {"temperature": 20, "humidity": 40, "pressure": 1026}) == [("comfort/a", "Rock")]
    assert say(pipeline, "z2m/a", {"temperature": 20, "humidity": 4e9, "pressure": 1}) == [
        ("comfort/a/error", "invalid_features")
    ]
    found = pipeline.gathered(0, limit=9)
    assert found is not None
    assert (found["ignored"], found["sensors"]) == (2, 0)


SOURCES = """
[[route]]
publish = "load/{room}"
[[route.source]]
subscribe = "shellies/em-1/emeter/{_}/power"
sensor = { room = "kitchen" }
fields = { power = [] }
[[route.source]]
subscribe = "tele/{room}/SENSOR"
fields = { temperature = "AM2301.Temperature", humidity = ["AM2301", "Humidity"] }
"""


def test_features_of_one_sensor_from_unlike_topics(tmp_path: Path) -> None:
    pipeline = served(tmp_path, SOURCES, ("power", "temperature", "humidity"))
    assert say(pipeline, "shellies/em-1/emeter/0/power", b"123.4") == []
    sensor = {"Time": "2026-11-27T03:00:00", "AM2301": {"Temperature": 20.5, "Humidity": 40}, "power": 5}
    assert say(pipeline, "tele/kitchen/SENSOR", sensor) == [("load/kitchen", "Rock")]
    assert say(pipeline, "shellies/em-1/emeter/0/power", b"130") == [("load/kitchen", "Rock")]
    assert say(pipeline, "tele/bath/SENSOR", sensor) == []
    assert say(pipeline, "shellies/em-1/emeter/0/power", b"unknown") == []
    assert say(pipeline, "shellies/em-1/emeter/0/power", b"on") == [("load/kitchen/error", "invalid_features")]


def test_phases_of_a_meter(tmp_path: Path) -> None:
    text = '[[route]]\npublish = "load/{meter}"\n'
    for phase in "ab":
        text += f'[[route.source]]\nsubscribe = "{{meter}}/{phase}/power"\nfields = {{ power_{phase} = [] }}\n'
    pipeline = served(tmp_path, text, ("power_a", "power_b"))
    assert say(pipeline, "em/a/power", b"1.5") == []
    assert say(pipeline, "em/b/power", b'"2.5"') == [("load/em", "Rock")]


def test_all_sources_are_subscribed_to_and_asked_for_what_is_retained(tmp_path: Path) -> None:
    routes = load(write(tmp_path, SOURCES)).routes()
    wanted = subscriptions("n", routes)
    assert wanted == {
        "edge/n/request/+": False,
        "shellies/em-1/emeter/+/power": True,
        "tele/+/SENSOR": True,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SOURCES.replace("sensor = {", "sensor = { floor = '1', "), "source 2 does not say which {floor} it is about"),
        (SOURCES.replace('sensor = { room = "kitchen" }\n', ""), "source 1 does not say which {room} it is about"),
        (SOURCES.replace('publish = "load/{room}"', 'publish = "load/{x}"'), "{x} does not stand in"),
        (SOURCES.replace("tele/{room}/SENSOR", "shellies/{room}/emeter/{_}/power"), "sources 1 and 2 both take"),
        (SOURCES.replace("tele/{room}/SENSOR", "load/{room}"), "would come back in by route 1"),
        (SOURCES.replace("[[route]]", "[[route]]\npartial = 'reject'"), "with several sources, messages are merged"),
        (
            SOURCES.replace("[[route]]", "[[route]]\nsubscribe = 'x/{room}'"),
            "subscribe: write it below each [[route.source]]",
        ),
        (SOURCES.replace("[[route]]", "[[route]]\nshare = 'pool'"), "leave it out where a route merges messages"),
        (
            SOURCES.replace("fields = { power", "feilds = { power"),
            "route.1.source.1.feilds is not a setting; did you mean 'fields'?",
        ),
        (SOURCES.replace('room = "kitchen"', 'room = "a/b"'), "route.1.source.1.sensor.room"),
        (MERGE + "share = 'pool'", "leave it out where a route merges messages"),
        (MERGE + "debounce = 1\nfields = { time = 'Time' }", "fields.time: an answer is made from several messages"),
        (MERGE.replace("merge", "both"), "route.1.partial: Input should be 'reject', 'ignore' or 'merge'"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, text)


RTL = (
    '[[route]]\nsubscribe = "rtl_433/{gateway}/events"\npublish = "comfort/{model}/{id}"\n'
    'capture = { id = "id", model = "model" }\npartial = "merge"\n'
    'fields = { temperature = "temperature_C", pressure = "pressure_hPa" }\n'
)


def test_sensors_named_in_the_payload(tmp_path: Path) -> None:
    """rtl_433: all sensors on one topic, and one reading in two packets."""
    pipeline = served(tmp_path, RTL)
    topic = "rtl_433/attic/events"
    first = {"time": "2026-11-27 03:00:00", "model": "Bresser-3CH", "id": 17, "temperature_C": 20.5, "humidity": 40}
    assert say(pipeline, topic, first) == []
    assert say(pipeline, topic, {**first, "id": 18}) == []
    assert say(pipeline, topic, {"model": "Bresser-3CH", "id": 17, "pressure_hPa": 1026}) == [
        ("comfort/Bresser-3CH/17", "Rock")
    ]


@pytest.mark.parametrize("name", ["a/b", "+", "#", "", "x\0", "\x1b[2J", 1.5, True, None, ["x"], "x" * 300])
def test_a_name_that_is_no_level_is_refused_like_an_invalid_topic(tmp_path: Path, name: object) -> None:
    pipeline = served(tmp_path, RTL)
    row = {"model": name, "id": 17, "temperature_C": 20.5, "humidity": 40, "pressure_hPa": 1}
    assert say(pipeline, "rtl_433/attic/events", row) == [("comfort/unknown/unknown/error", "invalid_topic")]
    assert len(pipeline.gathered(0, limit=1)["waiting"]) == 0  # type: ignore[index]


def test_whole_messages_of_many_sensors_on_one_topic(tmp_path: Path) -> None:
    pipeline = served(tmp_path, RTL.replace('partial = "merge"\n', ""))
    topic = "rtl_433/attic/events"
    row = {"model": "m", "id": 17, "temperature_C": 20.5, "humidity": 40, "pressure_hPa": 1026}
    assert say(pipeline, topic, row) == say(pipeline, topic, row) == [("comfort/m/17", "Rock")]
    del row["humidity"]
    assert say(pipeline, topic, row) == [("comfort/m/17/error", "invalid_features")]
    assert say(pipeline, topic, b"{") == [("comfort/unknown/unknown/error", "malformed_payload")]


def test_an_empty_payload_is_what_a_cleared_topic_looks_like(tmp_path: Path) -> None:
    for text in (
        MERGE,
        MERGE.replace('partial = "merge"', ""),
        MERGE.replace("{device...}", "{feature}/{x}", 1).replace("{device...}", "{x}"),
    ):
        pipeline = served(tmp_path, text)
        assert say(pipeline, "z2m/temperature/x", b"") == []
        assert pipeline.tally.total.ignored == 1


@pytest.mark.parametrize("text", [MERGE, MERGE.replace('partial = "merge"', "")])
def test_what_the_broker_had_kept_may_be_ignored(tmp_path: Path, text: str) -> None:
    row = {"temperature": 20, "humidity": 40, "pressure": 1026}
    assert say(served(tmp_path, text), "z2m/a", row, retained=True) == [("comfort/a", "Rock")]
    pipeline = served(tmp_path, text + 'retained = "ignore"\n')
    assert say(pipeline, "z2m/a", row, retained=True) == []
    assert pipeline.tally.total.ignored == 1
    assert say(pipeline, "z2m/a", row) == [("comfort/a", "Rock")]


def test_levels_that_are_nearly_a_feature_are_told(tmp_path: Path) -> None:
    pipeline = served(tmp_path, '[[route]]\nsubscribe = "home/{room}/{feature}"\npublish = "comfort/{room}"\n')
    for level in ("Temperature", "humidty", "battery", "battery"):
        assert say(pipeline, f"home/k/{level}", b"1") == []
    found = pipeline.gathered(0, limit=9)
    assert found is not None
    assert found["ignored"] == 4
    assert found["unknown"] == [
        {"level": "Temperature", "topic": "home/k/Temperature", "meant": "temperature"},
        {"level": "humidty", "topic": "home/k/humidty", "meant": "humidity"},
        {"level": "battery", "topic": "home/k/battery", "meant": None},
    ]


def test_levels_that_no_feature_is_on_are_bounded(tmp_path: Path) -> None:
    pipeline = served(tmp_path, '[[route]]\nsubscribe = "home/{room}/{feature}"\npublish = "comfort/{room}"\n')
    for number in range(1000):
        say(pipeline, f"home/k/{number}{'x' * 10_000}", b"1")
    found = pipeline.gathered(0, limit=9)
    assert found is not None
    assert len(json.dumps(found)) < 10_000


def test_a_route_without_names_for_its_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not stand in"):
        load(write(tmp_path, '[[route]]\nsubscribe = "a/b"\npublish = "out/{id}"\n')).routes()
    (route,) = load(
        write(tmp_path, '[[route]]\nsubscribe = "a/b"\npublish = "out/{id}"\ncapture = { id = "id" }\n')
    ).routes()
    assert isinstance(route, Route)
    assert route.names == ("id",)


def test_a_whole_document_is_at_most_half_as_much_work_again_as_on_a_plain_route(tmp_path: Path) -> None:
    plain = served(tmp_path, MERGE.replace('partial = "merge"\n', ""))
    merging = served(tmp_path, MERGE)
    rows = [{"temperature": 20.5 + number, "humidity": 40.5, "pressure": 1026.5} for number in range(40)]
    first, second = (
        [Message(f"z2m/{number}", json.dumps(row).encode(), 1) for number, row in enumerate(part)]
        for part in (rows[:20], rows[20:])
    )
    taken = []
    for pipeline in (plain, merging):
        pipeline.process(first)  # topics are known then
        answered: list[Any] = []
        taken.append(steps(lambda pipeline=pipeline, answered=answered: answered.extend(pipeline.process(second))))  # type: ignore[misc]
        assert [len(answers) for answers in answered] == [1] * 20
    assert taken[1] <= 1.5 * taken[0]
