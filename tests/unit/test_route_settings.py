"""Routes in the configuration: what is taken, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.load import load
from edge_agent.errors import SettingsError
from edge_agent.payload import formats
from edge_agent.payload.places import Place
from tests.unit.test_settings import refusal, write


def routes(*tables: dict[str, str]) -> str:
    return "".join("[[route]]\n" + "".join(f'{key} = "{value}"\n' for key, value in table.items()) for table in tables)


def route(subscribe: str, publish: str, **more: str) -> dict[str, str]:
    return {"subscribe": subscribe, "publish": publish, **more}


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        # What goes out would come back in.
        ([route("a/{x}", "a/{x}")], "route 1: what it publishes on 'a/{x}' would come back in by route 1"),
        ([route("{x}/{y}", "{x}/out")], "route 1: what it publishes on '{x}/out' would come back in by route 1"),
        ([route("a/{x}/error", "a/{x}")], "'a/{x}/error' would come back in by route 1"),
        ([route("a/{x}", "b", errors="a/err")], "'a/err' would come back in by route 1"),
        ([route("a/{x}", "b/{x}"), route("b/{x}", "a/{x}")], "would come back in by route 2"),
        (
            [route("a", "b"), route("b/error", "c")],
            "route 1: what it publishes on 'b/error' would come back in by route 2",
        ),
        # What the agent says of itself, and what it is asked.
        ([route("edge/{n}/state", "x")], "would take what this agent says of itself on 'edge/kitchen/state'"),
        ([route("edge/kitchen/{what}", "x")], "would take what this agent says of itself"),
        ([route("edge/{n}/response/{v}", "x")], "would take what this agent says of itself"),
        ([route("edge/{n}/request/{v}", "x")], "would take the management requests of this node"),
        ([route("a/{v}", "edge/kitchen/request/{v}")], "could be one of this node's own topics"),
        ([route("a", "b", errors="edge/kitchen/request/ping")], "could be one of this node's own topics"),
        # A message that a broker may deliver once or twice.
        (
            [route("a/{x}/c", "o"), route("a/b/c", "p")],
            "routes 1 and 2: 'a/{x}/c' takes every topic of 'a/b/c' and comes first; move route 2 before it",
        ),
        (
            [route("a/{x}/c", "o"), route("a/b/{x}", "p", share="pool")],
            "routes 1 and 2: 'a/{x}/c' and 'a/b/{x}' overlap, and with share",
        ),
        ([route("a/{x}", "o"), route("a/{y}", "o")], "routes 1 and 2: the same topics in and out"),
        # Topics that are not valid.
        ([route("a/#", "o")], "route 1: topic 'a/#': write a name in braces"),
        ([route("a", "o"), route("", "o")], "route 2: a topic is empty"),
        ([route("a", "o/{x}")], "route 1: topic 'o/{x}': {x} does not stand in 'a'"),
        ([route("a/{x}", "o", errors="{x}/{y}")], "{y} does not stand in 'a/{x}'"),
        ([route("a", "$SYS/o")], "topics that begin with $ belong to the broker"),
        ([route("a", "o", errors="$o")], "topics that begin with $ belong to the broker"),
        ([route("$share/pool/a", "o")], "write share = "),
    ],
)
def test_routes_that_are_refused(tmp_path: Path, tables: list[dict[str, str]], says: str) -> None:
    assert says in refusal(tmp_path, '[node]\nid = "kitchen"\n' + routes(*tables))


@pytest.mark.parametrize(
    "tables",
    [
        [route("tele/{device}/SENSOR", "out/a/{device}"), route("{device}/status/{feature}", "out/b/{device}")],
        [route("a/{x}/c", "o"), route("a/b/{x}", "p")],
        [route("a/b/c", "o"), route("a/{x}/c", "p")],
    ],
)
def test_routes_may_share_some_topics(tmp_path: Path, tables: list[dict[str, str]]) -> None:
    assert len(load(write(tmp_path, routes(*tables))).routes()) == 2


@pytest.mark.parametrize(
    "tables",
    [
        [route("a/{x}", "a/{x}/out")],
        [route("a/{x}", "b/{x}"), route("c/{x}", "b/{x}/more")],
        # Two models on one subscription.
        [route("a/{x}", "one/{x}"), route("a/{y}", "two/{y}")],
        # Another node's.
        [route("edge/bath/state", "x")],
        [route("$SYS/broker/load", "x")],
        # A wildcard at the front does not take the broker's own topics.
        [route("{a}/b", "x"), route("$SYS/b", "y")],
    ],
)
def test_routes_that_are_fine(tmp_path: Path, tables: list[dict[str, str]]) -> None:
    assert len(load(write(tmp_path, '[node]\nid = "kitchen"\n' + routes(*tables))).routes()) == len(tables)


@pytest.mark.parametrize(
    ("filters", "words"),
    [('["a/{b}"]', "write +"), ('["edge/#"]', "never followed"), ('["a#"]', "whole level"), ("[7]", "string")],
)
def test_what_senders_may_not_be_allowed_to_name(tmp_path: Path, filters: str, words: str) -> None:
    message = refusal(tmp_path, f"[mqtt]\nresponse_topics = {filters}\n")
    assert "mqtt.response_topics" in message
    assert words in message


def test_a_route_that_captures_nothing_has_no_sensor_to_name(tmp_path: Path) -> None:
    route = '[[route]]\nsubscribe = "{}"\npublish = "b"\nname_sensor = true\n'
    assert load(write(tmp_path, route.format("a/{x}"))).routes()[0].name_sensor
    for subscribe in ("a", "a/{feature}"):
        assert "name_sensor" in refusal(tmp_path, route.format(subscribe))


@pytest.mark.parametrize(
    "output", ["edge/node/state", "edge/{sensor}/info", "edge/node/health", "edge/node/response/x"]
)
def test_a_route_does_not_speak_for_the_node(output: str, tmp_path: Path) -> None:
    file = write(tmp_path, f'[node]\nid = "node"\n[[route]]\npublish = "{output}"\nerrors = "music/{{sensor}}/error"\n')
    with pytest.raises(SettingsError, match="one of this node's own topics"):
        load(file)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('fields = { tempo = "" }', "leads nowhere"),
        ('fields = { tempo = "audio..bpm" }', "leads nowhere"),
        ("fields = { tempo = [] }", "leads nowhere"),
        ("fields = { tempo = 3 }", "route.1.fields.tempo"),
        ('share = "a/b"', "route.1.share"),
    ],
)
def test_fields_and_pools_that_are_refused(line: str, says: str, tmp_path: Path) -> None:
    assert says in refusal(tmp_path, f"[[route]]\n{line}\n")


def test_a_source_of_single_values_has_no_whole_payload(tmp_path: Path) -> None:
    """Each level has one of its own; the other source has one."""
    text = (
        '[[route]]\npublish = "out/{room}"\n[[route.source]]\nsubscribe = "home/{room}/{feature}"\nfields = { tempo = WHERE }\n'
        '[[route.source]]\nsubscribe = "x/{room}"\nfields = { energy = [] }\n'
    )
    assert load(write(tmp_path, text.replace("WHERE", '["t"]'))).routes()
    for where in ("[]", "{ at = [] }"):
        assert "topic 'home/{room}/{feature}': fields: an empty list leads nowhere" in refusal(
            tmp_path, text.replace("WHERE", where)
        )


def test_fields_and_pools(tmp_path: Path) -> None:
    file = write(tmp_path, '[[route]]\nshare = "pool"\nfields = { tempo = "audio.bpm", valence = ["mood.v1", "0"] }\n')
    (route,) = load(file).routes()
    assert route.fields == (("tempo", Place(("audio", "bpm"))), ("valence", Place(("mood.v1", "0"))))
    assert route.subscription(route.inputs[0]) == "$share/pool/music/+/features"


@pytest.mark.parametrize("content_type", formats.known())
def test_a_route_may_name_every_format(tmp_path: Path, content_type: str) -> None:
    sparkplug = 'subscribe = "spBv1.0/plant/{_}/{sensor}"\n' if "sparkplug" in content_type else ""
    (route,) = load(write(tmp_path, f'[[route]]\ncontent_type = "{content_type}"\n{sparkplug}')).routes()
    assert route.content_type == (None if content_type == "application/json" else content_type)


GATHERING = '[[route]]\nsubscribe = "home/{room}/{feature}"\npublish = "comfort/{room}"\n'


def test_a_route_that_gathers(tmp_path: Path) -> None:
    settings = load(
        write(tmp_path, f'{GATHERING}max_age = 60\ndebounce = 2\nfields = {{ a = "b.c" }}\n[limits]\nsensors = 5\n')
    )
    (route,) = settings.routes()
    assert (route.gathers, route.max_age, route.debounce, route.fields) == (True, 60, 2, (("a", Place(("b", "c"))),))
    assert settings.limits.sensors == 5
    (plain,) = load(write(tmp_path, "")).routes()
    assert (plain.gathers, plain.max_age, plain.debounce) == (False, None, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f'{GATHERING}share = "pool"', "route 1: share: the values of one sensor would go to different agents"),
        (f'{GATHERING}fields = {{ time = "Time" }}', "route 1: fields.time: an answer is made from several messages"),
        (f'{GATHERING}fields = {{ id = "x.id" }}', "route 1: fields.id: an answer"),
        (f"{GATHERING}max_age = 0", "route.1.max_age: Input should be greater than 0"),
        (f"{GATHERING}max_age = nan", "route.1.max_age"),
        (f"{GATHERING}debounce = -1", "route.1.debounce"),
        (f"{GATHERING}debounce = inf", "route.1.debounce"),
        ("[[route]]\nmax_age = 5", "route 1: max_age and debounce are for values that come one by one"),
        ("[[route]]\ndebounce = 5", "does not capture {feature}"),
        (routes(route("a/{s}/{feature}", "b/{feature}")), "'b/{feature}': an answer is made from all features"),
        (routes(route("a/{s}/{feature}", "b", errors="c/{feature}")), "'c/{feature}': an answer is made from all"),
        # What goes out would come back in, as with any route.
        (routes(route("a/{s}/{feature}", "a/{s}/out")), "would come back in by route 1"),
        (routes(route("a/{s}/{feature}", "b"), route("a/{s}/x", "c")), "routes 1 and 2"),
        ("[limits]\nsensors = 0", "limits.sensors"),
    ],
)
def test_routes_that_gather_and_are_refused(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, text)


def test_names_with_slashes(tmp_path: Path) -> None:
    text = '[[route]]\nsubscribe = "zigbee2mqtt/{device...}"\npublish = "comfort/{device...}"\n'
    (route,) = load(write(tmp_path, text)).routes()
    assert route.subscribe.filter == "zigbee2mqtt/#"
    captured = route.subscribe.match("zigbee2mqtt/attic/north/lamp")
    assert captured == {"device": "attic/north/lamp"}
    assert route.publish.render(captured) == "comfort/attic/north/lamp"
    assert route.errors.render(captured) == "comfort/attic/north/lamp/error"


@pytest.mark.parametrize(
    ("subscribe", "publish", "says"),
    [
        ("z2m/{device...}", "out/{device}", "topic 'out/{device}': write {device...}, as in 'z2m/{device...}'"),
        ("z2m/{device}", "out/{device...}", "topic 'out/{device...}': write {device}, as in 'z2m/{device}'"),
        ("z2m/{_}/{device}", "out/{_}", "{_} is never passed on"),
        ("z2m/{device...}/x", "out", "{device...} must be the last level"),
        ("z2m/{device...}", "z2m/{device...}/genre", "'z2m/{device...}/genre' would come back in by route 1"),
        # The device name at fault is told, and the setting to change.
        (
            "{dev}/status/{feature}",
            "out/{dev}",
            (
                "where {dev} is 'status', what it publishes on 'out/status/error' would come back in by route 1, which "
                "subscribes to '{dev}/status/{feature}'; set errors to a topic that no route takes"
            ),
        ),
        ("a/{_}", "$SYS/x", "topics that begin with $ belong to the broker"),
    ],
)
def test_templates_that_do_not_fit(tmp_path: Path, subscribe: str, publish: str, says: str) -> None:
    assert says in refusal(tmp_path, routes(route(subscribe, publish)))


def test_topics_of_aws_iot_are_published_to_where_the_configuration_names_them(tmp_path: Path) -> None:
    text = routes(route("dt/{thing}", "$aws/rules/labels/{thing}"))
    (found,) = load(write(tmp_path, text)).routes()
    assert found.publish.text == "$aws/rules/labels/{thing}"
