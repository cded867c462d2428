"""What `edge-agent watch` makes of messages: readings, routes, the picture, events. Nothing of it is trusted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_agent.contract.messages import Message
from edge_agent.watching import events, figures
from edge_agent.watching.known import Known
from edge_agent.watching.picture import MOST_SENSORS, Node, Picture
from edge_agent.watching.reading import MOST_BYTES, read
from edge_agent.wording import quantity

ROUTE = {
    "model": "genre",
    "subscribe": "music/{sensor}/features",
    "publish": "music/{sensor}/genre",
    "errors": "music/{sensor}/genre/error",
}
ROCK = {"label": "Rock", "confidence": 0.9733, "probabilities": {"Rock": 0.9733}, "model": "genre", "version": "1.0.0"}
REJECTED = {
    "error": "invalid_features",
    "detail": [
        {"type": "missing", "loc": ["tempo"], "msg": "Field required", "input": {}},
        {"type": "greater_than_equal", "loc": ["energy"], "msg": "Too small", "input": -5},
    ],
}


def message(topic: str, content: Any, **options: Any) -> Message:
    return Message(topic, content if isinstance(content, bytes) else json.dumps(content).encode(), **options)


def known(*routes: dict[str, str], node: str = "pi-1") -> Known:
    made = Known()
    made.take(node, {"routes": list(routes or (ROUTE,))})
    return made


@pytest.mark.parametrize(
    ("answer", "value", "figure", "note"),
    [
        (ROCK, "Rock", "0.973", ""),
        ({**ROCK, "outside": ["tempo", "energy"]}, "Rock", "0.973", "outside of training: tempo, energy"),
        ({**ROCK, "label": None, "uncertain": True}, "-", "0.973", "uncertain: Rock"),
        ({"value": 21.7, "unit": "°C"}, "21.7 °C", "", ""),
        ({"values": {"indoor": 21.7, "power": 310.5}}, "indoor 21.7, power 310.5", "", ""),
        ({"label": "anomaly", "score": 0.61}, "anomaly", "0.61", ""),
        ([{"label": "a"}, {"error": "x"}, {"label": "b"}], "b", "", "last of 3 rows, 1 of them rejected"),
    ],
)
def test_answers_are_read(answer: Any, value: str, figure: str, note: str) -> None:
    reading = read(message("t", answer))
    assert (reading.value, reading.figure, reading.note) == (value, figure, note)
    assert reading.is_sound == (not note or note.startswith("last"))


def test_a_rejection_is_read_with_its_reasons() -> None:
    reading = read(message("t", REJECTED))
    assert (reading.error, reading.note) == ("invalid_features", "tempo: Field required; energy: Too small (was -5)")


def test_senml_and_cbor_are_read_too() -> None:
    pack = [
        {"bn": "urn:x:", "n": "label", "vs": "Rock"},
        {"n": "confidence", "v": 0.9733},
        {"n": "probability/Rock", "v": 1},
    ]
    reading = read(message("t", pack, content_type="application/senml+json"))
    assert (reading.value, reading.figure) == ("Rock", "0.973")
    numbers = [{"n": "value/a", "v": 1.5}, {"n": "value/b", "v": 2}, {"n": "model", "vs": "m"}]
    assert read(message("t", numbers, content_type="application/senml+json")).value == "a 1.5, b 2"
    batch = [{"n": "label", "vs": "Rock"}, {"n": "error", "vs": "invalid_features"}, {"n": "detail", "vs": "why"}]
    assert read(message("t", batch)).error == "invalid_features"
    cbor2 = pytest.importorskip("cbor2")
    assert read(message("t", cbor2.dumps(ROCK), content_type="application/cbor")).value == "Rock"


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{", b"\xff", b"null", b"[]", b"[1]", b"{}", b"[" * 50_000, b"{" * 50_000, b'{"label": {}, "confidence": "x"}',
        b'{"label": 1e999, "outside": 5, "probabilities": [1]}', b'{"error": null, "detail": [1, {"loc": 5}, {"msg": []}]}',
        b'{"value": 1' + b"0" * 5000 + b"}", b'{"values": {"a": null}}', b'[{"n": 5}, {"n": "label"}]', b"x" * (MOST_BYTES + 1),
        b'{"uncertain": true, "probabilities": {"a": NaN, "b": true}}', b'{"sensor": [], "id": {}}', b'{"unit": {}, "value": "x"}',
    ],
)  # fmt: skip
def test_no_payload_is_too_strange(payload: bytes) -> None:
    for content_type in (None, "application/senml+json", "application/cbor", "application/octet-stream", "what/ever"):
        reading = read(message("t", payload, content_type=content_type))
        assert all(len(part) < 10_000 for part in (reading.value, reading.figure, reading.note, reading.error))
        sent = message("music/x/genre", payload, content_type=content_type)
        for event in events.of_message(known(), sent):
            assert events.as_json(event).isprintable()
            assert events.as_line(event, sent).isprintable()
        for what in ("state", "info", "health"):
            told = events.of_node(Known(), "n", what, sent)
            assert told is None or events.as_line(told, sent).isprintable()


STRANGE: tuple[Any, ...] = (
    10**400,
    -(10**400),
    10**4299,
    1e308,
    float("nan"),
    float("inf"),
    True,
    "9" * 5000,
    "x",
    None,
    [],
    {},
    [10**400],
    {"a": 1},
)


@pytest.mark.parametrize("figure", STRANGE, ids=lambda one: str(type(one).__name__))
def test_no_figure_of_a_health_is_too_strange(figure: Any) -> None:
    keys = ("interval", "uptime", "messages_per_second", "predictions_per_second", "predictions")
    for key in (*keys, "rejections", "latency_ms", None):
        health: dict[str, Any] = {"interval": 30, "rejections": {"a": figure, "b": figure, "c": 7}}
        health["latency_ms"] = {"p50": figure, "p99": figure}
        health |= dict.fromkeys(keys, figure) if key is None else {key: figure}
        sent = message("edge/n/health", health)
        picture = Picture(Known())
        picture.take(sent, 1.0)
        picture.settle(1.0)
        node = picture.nodes["n"]
        rates = [figures.rate(node, one, 1.0) for one in keys]
        shown = [*rates, figures.latency(node, 1.0), figures.rejections(node), figures.up(node, 1.0)]
        assert all(len(one) < 1000 for one in shown)
        event = events.of_node(Known(), "n", "health", sent)
        assert event is not None
        assert len(events.as_line(event, sent)) < 1000
        assert events.as_json(event).isprintable()


def test_only_numbers_that_something_can_have_are_figures() -> None:
    assert [quantity(one) for one in (0, 2.5, -3, 10**14)] == [0, 2.5, -3, 10**14]
    for one in (10**15, -(10**15), *STRANGE):
        assert quantity(one) is None
    node = Node("n", health={"uptime": True, "rejections": {"a": True, "b": 10**400, "c": 7}}, heard=1.0)
    assert (figures.up(node, 1.0), figures.rejections(node)) == ("-", "7 c")


def test_where_answers_belong() -> None:
    made = known(ROUTE, {**ROUTE, "model": "mood", "publish": "mood", "errors": "mood/error"})
    assert made.filters() == ["music/+/genre", "music/+/genre/error", "mood", "mood/error"]
    ((node, model, topic, rejects, shared),) = made.places("music/hall/genre/error")
    assert (node, model, topic, rejects, shared) == ("pi-1", "genre", "music/hall/genre", True, False)
    (place,) = made.places("mood")
    assert place.shared
    assert made.places("music/hall/features") == ()


def test_what_an_info_may_not_make_us_do() -> None:
    made = known({**ROUTE, "publish": "$share/pool/music/{sensor}"}, {**ROUTE, "errors": "$SYS/{x...}"}, {"model": "x"})
    assert made.filters() == []
    assert made.left_out == 3
    strange: list[Any] = [
        {"routes": 5},
        {"routes": [5, None, {}, {"subscribe": 1}]},
        [],
        None,
        {"routes": [{**ROUTE, "publish": "a/#"}]},
    ]
    for hostile in strange:
        made.take("pi-1", hostile)
        assert list(made.routes) == []
    made.take("pi-1", {"routes": [{**ROUTE, "publish": f"music/{number}/genre"} for number in range(5000)]})
    assert len(list(made.routes)) == 256
    for node in range(1000):
        made.take(f"n{node}", {"routes": [{**ROUTE, "publish": f"{node}/{number}"} for number in range(5)]})
    assert len(list(made.routes)) == 2000
    assert len(made.filters()) == 1000
    assert made.filters_left_out > 0
    assert made.left_out > 5000
    for node in range(1000):
        made.take(f"n{node}", None)
    # What stands for several levels may have others behind it, which a filter can't say.
    made.take("pi-1", {"routes": [{**ROUTE, "publish": "a/{sensor...}/b", "errors": "a/{sensor...}/error"}]})
    assert made.filters() == ["a/#"]
    assert made.places("a/x/y/b")[0].topic == "a/x/y/b"
    assert made.places("a/x/y") == ()


def test_the_document_of_a_node_says_more_than_its_info() -> None:
    made = known()
    (route,) = made.routes
    assert not route.gathers
    sources = [{"subscribe": "tele/{room}/S"}, {"subscribe": "power", "sensor": {"room": "hall"}}]
    told = {**ROUTE, "publish": "load/{room}", "errors": "load/{room}/error", "sources": sources, "gathers": True}
    made.take_docs("pi-1", {"x-edge-agent": {"routes": [told]}})
    made.take("pi-1", {"routes": [ROUTE]})
    (route,) = made.routes
    assert route.gathers
    assert route.sources[1].sensor == (("room", "hall"),)
    for hostile in (None, {}, {"x-edge-agent": 5}, {"x-edge-agent": {"routes": [{**told, "sources": [5]}]}}):
        made.take_docs("pi-1", hostile)


def test_the_picture_has_the_latest_of_each_sensor() -> None:
    picture = Picture(known())
    picture.take(message("edge/pi-1/state", b"online"), 0.0)
    for second in range(3):
        picture.take(message("music/hall/genre", {**ROCK, "label": f"no. {second}"}), float(second))
    picture.take(message("music/attic/genre/error", REJECTED), 1.0)
    picture.take(message("elsewhere", b"{}"), 1.0)
    picture.settle(3.0)
    assert picture.nodes["pi-1"].state == "online"
    assert [(key[0], one.reading.value or one.reading.error) for key, one in picture.sensors.items()] == [
        ("music/hall/genre", "no. 2"),
        ("music/attic/genre", "invalid_features"),
    ]
    assert (picture.taken, picture.read) == (6, 3)
    # A rejection that was overtaken while it waited, and what the broker had kept, come too late.
    picture.take(message("music/hall/genre/error", REJECTED), 4.0)
    picture.take(message("music/hall/genre", ROCK), 5.0)
    picture.take(message("music/hall/genre/error", REJECTED), 3.5)
    picture.settle(6.0)
    picture.take(message("music/hall/genre", {**ROCK, "label": "old"}, retained=True), 7.0)
    picture.settle(8.0)
    hall = picture.sensors["music/hall/genre", ""]
    assert hall.reading.value == "Rock"
    assert hall.is_troubled(8.0)  # there was a rejection
    assert figures.note(hall, 8.0).startswith("rejected 4 s ago: tempo: Field required")
    assert not hall.is_troubled(100.0)
    assert figures.note(hall, 100.0) == ""
    # A node whose state and info are cleared is gone.
    picture.take(message("edge/pi-1/state", b"", retained=True), 9.0)
    picture.settle(9.0)
    assert picture.nodes == {}


def test_sensors_that_share_a_topic_are_told_apart_by_their_names() -> None:
    picture = Picture(known({**ROUTE, "publish": "genre", "errors": "genre/error"}))
    for name in ("hall", "attic", "hall"):
        picture.take(message("genre", {**ROCK, "sensor": name}), 0.0)
    picture.settle(1.0)
    assert sorted(name for _, name in picture.sensors) == ["attic", "hall"]


def test_the_picture_is_bounded_and_says_so() -> None:
    picture = Picture(known())
    for number in range(MOST_SENSORS + 3000):
        picture.take(message(f"music/{number}/genre", ROCK), 0.0)
        picture.take(message(f"edge/{number}/state", b"online"), 0.0)
        if number % 100 == 0:
            picture.settle(number / 100)
    while picture._waiting:
        picture.settle(1000.0)
    assert len(picture.sensors) <= MOST_SENSORS
    assert len(picture.nodes) == 500
    assert picture.forgotten > 0


def test_a_flood_is_sampled_and_every_sensor_is_read_in_its_turn() -> None:
    picture = Picture(known())
    for turn in range(20):
        for number in range(2000):
            picture.take(message(f"music/{number}/genre", {**ROCK, "label": f"{turn}"}), float(turn))
        picture.settle(float(turn))
    assert len(picture.sensors) == 2000
    come, are_read = picture.rates
    assert come == pytest.approx(2000)
    assert are_read == pytest.approx(500)
    assert {one.reading.value for one in picture.sensors.values()} <= {"16", "17", "18", "19"}
