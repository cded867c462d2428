"""Routes that gather, through the whole pipeline: one value per topic in, one answer a sensor out."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.answers import Prediction
from edge_agent.contract.messages import Answer, Gathered, Message, Rejection, shown_topic, validator
from edge_agent.contract.templates import Template
from edge_agent.payload.places import Place
from edge_agent.routing.gathering import MAX_NAME_BYTES
from edge_agent.routing.routes import Route
from edge_agent.routing.sources import Source
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeModel, make_card

TWO = ("temperature", "humidity")


def route(subscribe: str = "home/{sensor}/{feature}", publish: str = "comfort/{sensor}", **options: Any) -> Route:
    return Route("genre", Template(subscribe), Template(publish), Template(f"{publish}/error"), **options)


def make(*routes: Route, features: Sequence[str] = TWO, **options: Any) -> Pipeline:
    model = FakeModel(make_card(features, minimum=-50, maximum=100))
    return Pipeline(routes or (route(),), {"genre": model}, **options)


def ask(pipeline: Pipeline, topic: str, payload: object, now: float = 0.0, **options: Any) -> Answer | None:
    """Send one value; return its answer, if it has one."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    (answers,) = pipeline.process([Message(topic, data, **{"qos": 1, **options})], now)
    assert len(answers) <= 1
    return answers[0] if answers else None


def read(answer: Answer | None) -> Any:
    assert answer is not None
    kind = Rejection if answer.topic.endswith("/error") else Prediction
    return validator(kind).validate_json(answer.payload, strict=True)


def test_a_sensor_is_answered_when_all_are_there_and_on_each_change() -> None:
    pipeline = make()
    assert ask(pipeline, "home/kitchen/temperature", 20) is None
    assert ask(pipeline, "home/bath/humidity", 50) is None
    answer = ask(pipeline, "home/kitchen/humidity", 50)
    assert answer is not None
    assert (answer.topic, answer.qos, answer.content_type) == ("comfort/kitchen", 1, "application/json")
    assert read(answer)["label"] == "Rock"
    assert ask(pipeline, "home/kitchen/humidity", 50) is None
    assert read(ask(pipeline, "home/kitchen/temperature", 0))["label"] == "Hip-Hop"
    assert pipeline.tally.total.predictions == 2


def test_what_can_not_be_used_is_rejected_and_what_was_there_before_is_forgotten() -> None:
    pipeline = make()
    ask(pipeline, "home/kitchen/temperature", 20)
    ask(pipeline, "home/kitchen/humidity", 50)
    answer = ask(pipeline, "home/kitchen/temperature", b"unavailable")
    assert answer is not None
    assert answer.topic == "comfort/kitchen/error"
    assert read(answer) == {
        "error": "invalid_features",
        "detail": [
            {
                "type": "float_parsing",
                "loc": ["temperature"],
                "msg": "Input should be a valid number, unable to parse string as a number",
                "input": "unavailable",
            }
        ],
        "topic": "home/kitchen/temperature",
        "model": "genre",
        "version": "1.0.0",
    }
    assert ask(pipeline, "home/kitchen/humidity", 51) is None
    assert read(ask(pipeline, "home/kitchen/temperature", 20))["label"] == "Rock"


def test_messages_of_one_batch_are_taken_one_after_the_other() -> None:
    pipeline = make()
    values = [("temperature", 20), ("humidity", 50), ("temperature", 0), ("temperature", "?"), ("temperature", 1)]
    answers = pipeline.process([Message(f"home/a/{name}", json.dumps(value).encode()) for name, value in values])
    told = [[read(answer).get("label", "rejected") for answer in one] for one in answers]
    assert told == [[], ["Rock"], ["Hip-Hop"], ["rejected"], ["Rock"]]


def test_levels_that_no_feature_is_on_are_not_answered_and_counted() -> None:
    pipeline = make()
    assert ask(pipeline, "home/kitchen/battery", 97) is None
    assert pipeline.takes("home/kitchen/battery")
    assert not pipeline.takes("home/kitchen")
    assert gathered(pipeline) == {
        "sensors": 0,
        "complete": 0,
        "forgotten": 0,
        "ignored": 1,
        "waiting": [],
        "unknown": [{"level": "battery", "topic": "home/kitchen/battery", "meant": None}],
    }


def gathered(pipeline: Pipeline, now: float = 0.0, limit: int = 10) -> Gathered:
    found = pipeline.gathered(now, limit=limit)
    validator(Gathered).validate_python(found, strict=True)
    assert found is not None
    return found


def test_what_is_waited_for_is_told() -> None:
    pipeline = make(route("home/{floor}/{feature}/{room}", "comfort/{room}/{floor}", max_age=60))
    ask(pipeline, "home/1/temperature/bath", 20, 0)
    ask(pipeline, "home/1/humidity/bath", 20, 50)
    ask(pipeline, "home/2/humidity/hall", 20, 50)
    ask(pipeline, "home/3/humidity/hall", 20, 50)
    ask(pipeline, "home/3/temperature/hall", 20, 50)
    found = gathered(pipeline, 70)
    assert (found["sensors"], found["complete"]) == (3, 1)
    assert found["waiting"] == [
        {"sensor": "1/bath", "topic": "home/1/+/bath", "missing": [], "stale": ["temperature"]},
        {"sensor": "2/hall", "topic": "home/2/+/hall", "missing": ["temperature"], "stale": []},
    ]
    assert len(gathered(pipeline, 70, limit=1)["waiting"]) == 1


def test_without_a_route_that_gathers_there_is_nothing_to_tell() -> None:
    pipeline = make(route("home/{sensor}"))
    assert pipeline.gathered(0, limit=10) is None
    assert (pipeline.next_due, pipeline.due(0, limit=10)) == (None, [])


def test_debounced_answers_come_when_they_are_due() -> None:
    pipeline = make(route(debounce=2), route("attic/{feature}", "attic", debounce=1))
    ask(pipeline, "home/a/temperature", 20, 0, qos=1)
    ask(pipeline, "home/a/humidity", 50, 0, qos=0)
    ask(pipeline, "attic/temperature", 0, 0.5, qos=0)
    ask(pipeline, "attic/humidity", 50, 0.5, qos=0)
    assert pipeline.next_due == 1.5
    assert pipeline.due(1.4, limit=10) == []
    (attic,) = pipeline.due(1.5, limit=10)
    assert (attic.topic, attic.qos, read(attic)["label"]) == ("attic", 0, "Hip-Hop")
    assert pipeline.next_due == 2
    (home,) = pipeline.due(1.5, limit=10, ahead=math.inf)
    assert (home.topic, home.qos, read(home)["label"]) == ("comfort/a", 1, "Rock")


def test_no_more_put_off_answers_than_asked_for_over_all_routes() -> None:
    pipeline = make(route(debounce=2), route("attic/{sensor}/{feature}", "attic/{sensor}", debounce=1))
    for number in range(3):
        for top in ("home", "attic"):
            ask(pipeline, f"{top}/{number}/temperature", 20)
            ask(pipeline, f"{top}/{number}/humidity", 20)
    assert [len(pipeline.due(9, limit=limit)) for limit in (4, 0, 10)] == [4, 0, 2]


def test_a_model_that_fails_a_row_that_was_put_off_says_which_sensor_s() -> None:
    model = FakeModel(make_card(TWO, minimum=-50, maximum=100))
    pipeline = Pipeline([route(debounce=1)], {"genre": model})
    ask(pipeline, "home/a/temperature", 20)
    ask(pipeline, "home/a/humidity", 50)
    model.broken = RuntimeError()
    (answer,) = pipeline.due(1, limit=10)
    assert (answer.topic, read(answer)["error"]) == ("comfort/a/error", "inference_failed")
    assert read(answer)["topic"] == "home/a/+"


def test_a_redelivery_and_a_new_connection() -> None:
    pipeline = make()
    ask(pipeline, "home/a/temperature", 20)
    ask(pipeline, "home/a/humidity", 50)
    assert ask(pipeline, "home/a/humidity", 50) is None
    assert ask(pipeline, "home/a/humidity", 50, duplicate=True) is not None
    pipeline.reconnected()
    assert ask(pipeline, "home/a/temperature", 20, retained=True) is not None
    assert ask(pipeline, "home/a/humidity", 50, retained=True) is None


def test_answers_go_to_the_topics_of_the_route_and_have_its_format() -> None:
    """Whoever sends one value has not asked for what is made of all of them."""
    pipeline = make(route(content_type="application/cbor"))
    assert ask(pipeline, "home/a/temperature", cbor2.dumps(20)) is None
    answer = ask(pipeline, "home/a/humidity", b"50", content_type="application/json", response_topic="somewhere/else")
    assert answer is not None
    assert (answer.topic, answer.content_type) == ("comfort/a", "application/cbor")
    assert cbor2.loads(answer.payload)["label"] == "Rock"


def test_a_sensor_with_too_long_a_name_is_rejected_and_not_kept() -> None:
    pipeline = make()
    longest = "ä" * (MAX_NAME_BYTES // 2)
    assert ask(pipeline, f"home/{longest}/temperature", 20) is None
    content = read(ask(pipeline, f"home/{longest}x/temperature", 20))
    assert (content["error"], content["topic"]) == ("invalid_topic", shown_topic(f"home/{longest}x/temperature"))
    assert gathered(pipeline)["sensors"] == 1
    # A level that nothing wants may be as long as a topic: nothing of it is kept.
    assert ask(pipeline, f"home/a/{'x' * 65_000}", 20) is None


def test_sensors_are_bounded_in_number() -> None:
    pipeline = make(max_sensors=10)
    for number in range(100):
        ask(pipeline, f"home/{number}/temperature", 20)
    found = gathered(pipeline, limit=100)
    assert (found["sensors"], found["forgotten"], len(found["waiting"])) == (10, 90, 10)
    assert found["waiting"][0]["sensor"] == "90"


def test_a_route_whose_model_is_not_served_says_so() -> None:
    pipeline = Pipeline([route()._replace(model="metal")], {})
    assert read(ask(pipeline, "home/a/temperature", 20))["error"] == "model_unavailable"


def test_without_its_model_a_level_that_fields_exclude_is_not_answered() -> None:
    """Where `fields` do not say it, a level may be a feature, so whoever sends is told."""
    fields = (("temperature", Place(("t",))), ("humidity", Place(("h", "now"))), ("light", Place(())))
    for only, others in ((True, 0), (False, 1)):
        source = Source(Template("home/{sensor}/{feature}"), fields, only_fields=only)
        pipeline = Pipeline([route()._replace(model="metal", sources=(source,))], {})
        found = [len(pipeline.process([Message(f"home/a/{level}", b"20")])[0]) for level in ("t", "h", "now", "other")]
        assert found == [1, 1, others, others]


def test_one_topic_may_be_for_two_routes() -> None:
    pipeline = make(
        route(),
        route(publish="second/{sensor}", fields=(("humidity", Place(("temperature",))),)),
        route(publish="plain"),
    )
    (answers,) = pipeline.process([Message("home/a/temperature", b"20")])
    assert [answer.topic for answer in answers] == ["second/a"]


#: device -> (route, what it publishes, the values of temperature and humidity)
SHAPES: dict[str, tuple[Route, dict[str, bytes], tuple[float, float]]] = {
    # https://esphome.io/components/mqtt: <node>/sensor/<object id>/state, plain text with the sensor's decimals
    "ESPHome": (
        route(
            "{node}/sensor/{feature}/state",
            "comfort/{node}",
            fields=(("temperature", Place(("bme280_temperature",))), ("humidity", Place(("bme280_humidity",)))),
        ),
        {
            "attic/status": b"online",
            "attic/debug": b"\x1b[0;36m[D][sensor:094]: 'BME280 Temperature': Sending state 21.45\x1b[0m",
            "attic/sensor/bme280_temperature/state": b"21.5",
            "attic/sensor/wifi_signal/state": b"-61",
            "attic/sensor/bme280_humidity/state": b"48.13",
        },
        (21.5, 48.13),
    ),
    # https://www.home-assistant.io/integrations/mqtt_statestream: the state as plain text, attributes as JSON
    "Home Assistant, mqtt_statestream": (
        route(
            "homeassistant/sensor/{feature}/state",
            "comfort",
            fields=(
                ("temperature", Place(("living_room_temperature",))),
                ("humidity", Place(("living_room_humidity",))),
            ),
        ),
        {
            "homeassistant/sensor/living_room_temperature/state": b"21.45",
            "homeassistant/sensor/living_room_temperature/unit_of_measurement": '"°C"'.encode(),
            "homeassistant/sensor/living_room_temperature/friendly_name": b'"Living room temperature"',
            "homeassistant/sensor/living_room_temperature/last_updated": b"2026-11-23T10:00:00.123456+00:00",
            "homeassistant/binary_sensor/door/state": b"off",
            "homeassistant/sensor/sun_next_dawn/state": b"2026-11-24T06:01:02+00:00",
            "homeassistant/sensor/living_room_humidity/state": b"48",
        },
        (21.45, 48),
    ),
    "Home Assistant, an attribute of a climate entity": (
        route(
            "homeassistant/climate/bath/{feature}",
            "comfort",
            fields=(("temperature", Place(("current_temperature",))), ("humidity", Place(("current_humidity",)))),
        ),
        {
            "homeassistant/climate/bath/state": b"heat",
            "homeassistant/climate/bath/hvac_modes": b'["heat", "off"]',
            "homeassistant/climate/bath/current_temperature": b"23.1",
            "homeassistant/climate/bath/current_humidity": b"61",
        },
        (23.1, 61),
    ),
    # https://tasmota.github.io/docs/MQTT: a document on each of several levels
    "Tasmota": (
        route(
            "tele/{device}/{feature}",
            "comfort/{device}",
            fields=(
                ("temperature", Place(("SENSOR", "BME280", "Temperature"))),
                ("humidity", Place(("SENSOR", "BME280", "Humidity"))),
            ),
        ),
        {
            "tele/attic/LWT": b"Online",
            "tele/attic/STATE": b'{"Time": "2026-01-05T10:00:00", "Uptime": "0T00:10:15", "Vcc": 3.4}',
            "tele/attic/SENSOR": b'{"Time": "2026-01-05T10:00:00", "BME280": {"Temperature": 21.4, "Humidity": 48.1}}',
        },
        (21.4, 48.1),
    ),
    # https://shelly-api-docs.shelly.cloud/gen2/ComponentsAndServices/Mqtt: status of a component, one topic each
    "Shelly Gen2": (
        route(
            "{device}/status/{feature}",
            "comfort/{device}",
            fields=(("temperature", Place(("temperature:0", "tC"))), ("humidity", Place(("humidity:0", "rh")))),
        ),
        {
            "attic/online": b"true",
            "attic/status/temperature:0": b'{"id": 0, "tC": 21.4, "tF": 70.5}',
            "attic/status/devicepower:0": b'{"id": 0, "battery": {"V": 5.3, "percent": 92}}',
            "attic/status/humidity:0": b'{"id": 0, "rh": 48.1}',
        },
        (21.4, 48.1),
    ),
}


class Witness(FakeModel):
    """Keeps the rows that it is asked about."""

    def __init__(self) -> None:
        super().__init__(make_card(TWO, minimum=-50, maximum=100))
        self.rows: list[tuple[float, ...]] = []

    def predict(self, rows: Sequence[Sequence[float]]) -> Sequence[Hashable]:
        self.rows += [tuple(row) for row in rows]
        return super().predict(rows)


@pytest.mark.parametrize("device", SHAPES)
def test_what_real_devices_publish(device: str) -> None:
    taken, published, values = SHAPES[device]
    model = Witness()
    pipeline = Pipeline([taken], {"genre": model})
    answers = [ask(pipeline, topic, payload) for topic, payload in published.items()]
    # Only the last value makes it whole; what else the device says is neither answered nor rejected.
    assert [answer is not None for answer in answers] == [False] * (len(published) - 1) + [True]
    assert model.rows == [values]


@given(
    messages=st.lists(
        st.tuples(
            st.sampled_from(["home/a/temperature", "home/a/humidity", "home/b/temperature", "home/b/humidity"]),
            st.sampled_from([b"1", b"0", b" 1 ", b'"0"', b"unavailable", b"null", b"101", b"{}"]),
        ),
        max_size=12,
    ),
    size=st.integers(1, 4),
)
def test_the_answer_is_always_the_model_s_on_the_latest_values(messages: list[tuple[str, bytes]], size: int) -> None:
    model = Witness()
    pipeline = Pipeline([route()], {"genre": model})
    answers: list[list[Answer]] = []
    for start in range(0, len(messages), size):
        answers += pipeline.process([Message(topic, data) for topic, data in messages[start : start + size]])
    latest: dict[str, float | None] = {}
    rows = iter(model.rows)
    for (topic, payload), given_ in zip(messages, answers, strict=True):
        sensor = topic.split("/")[1]
        before = latest.get(topic)
        latest[topic] = float(text) if (text := payload.decode().strip(' "')) in {"0", "1"} else None
        row = (latest.get(f"home/{sensor}/temperature"), latest.get(f"home/{sensor}/humidity"))
        if latest[topic] is None:
            assert "error" in read(given_[0])
        elif None not in row and before != latest[topic]:
            assert next(rows) == row
            assert read(given_[0])["label"] == ("Rock" if row[0] else "Hip-Hop")
        else:
            assert given_ == []
    assert list(rows) == []
