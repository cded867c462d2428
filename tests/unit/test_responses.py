"""Where senders may have their answers sent, and where nobody can have the agent speak for him."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.templates import Template
from edge_agent.errors import TopicError
from edge_agent.routing.responses import DEFAULT_FILTERS, MAX_BYTES, MAX_LEVELS, ResponseTopics, check_filter
from edge_agent.routing.routes import Route
from edge_agent.testing import ROUTE
from tests.unit.strategies import ANY_LEVEL, LEVELS

GATHERING = Route(
    "genre", Template("home/{room}/{feature}"), Template("comfort/{room}"), Template("comfort/{room}/error")
)
#: Where an answer goes can look like what is listed.
TEMPTING = Route(
    "genre", Template("{client}/response/in"), Template("{client}/response/label"), Template("try/{client}/error")
)
EVERYTHING = ResponseTopics(["#"], [ROUTE, GATHERING, TEMPTING])
BY_DEFAULT = ResponseTopics(DEFAULT_FILTERS, [ROUTE, GATHERING, TEMPTING])


@pytest.mark.parametrize(
    "topic", ["client7/response", "client7/response/", "c/response/1/2", "/response/x", "try/1", "try"]
)
def test_by_default_those_of_a_client_s_own_and_tries_are_followed(topic: str) -> None:
    assert BY_DEFAULT.refusal(topic) is None


@pytest.mark.parametrize(
    "topic",
    ["answers/7", "response", "response/1", "a/b/response/1", "lamp/set", "try2/x", "zigbee2mqtt/bridge/request"],
)
def test_by_default_others_are_not(topic: str) -> None:
    assert BY_DEFAULT.refusal(topic) == "mqtt.response_topics does not list it"
    assert EVERYTHING.refusal(topic) is None


@pytest.mark.parametrize("allowed", [EVERYTHING, BY_DEFAULT], ids=["everything", "by default"])
@pytest.mark.parametrize(
    "topic",
    [
        "",
        "a/response/+",
        "#",
        "a/response/\0",
        "a/response/\n",
        "a/response/\x9f",
        "a/response/\ufffe",
        "a/response/\ufffd",
        "$SYS/x",
        "$response/response/x",
        "edge",
        "edge/response/x",
        "edge/kitchen/state",
        "edge/kitchen/request/ping",
        "music/y/features",
        "music/y/genre",
        "music//genre",
        "music/y/genre/error",
        "home/kitchen/temperature",
        "comfort/attic",
        "comfort/attic/error",
        "victim/response/label",
        "victim/response/in",
        "try/victim/error",
        "a/response" + "/x" * (MAX_LEVELS - 1),
        "a/response/" + "x" * MAX_BYTES,
        "a/response/" + "ä" * (MAX_BYTES // 2),
        "a" + "/a" * 250,
    ],
)
def test_nobody_is_followed_there_whatever_is_listed(allowed: ResponseTopics, topic: str) -> None:
    assert allowed.refusal(topic) is not None


def test_a_response_topic_may_be_as_long_as_it_says() -> None:
    assert BY_DEFAULT.refusal("a/response" + "/x" * (MAX_LEVELS - 2)) is None
    assert BY_DEFAULT.refusal("a/response/" + "x" * (MAX_BYTES - 11)) is None


def test_nothing_is_followed_where_nothing_is_listed() -> None:
    assert ResponseTopics([], []).refusal("client7/response/1") is not None


@given(level=ANY_LEVEL, allowed=st.sampled_from([EVERYTHING, BY_DEFAULT]))
def test_no_level_leads_into_a_topic_of_a_route(level: str, allowed: ResponseTopics) -> None:
    for route in (ROUTE, GATHERING, TEMPTING):
        for template in (route.subscribe, route.publish, route.errors):
            topic = template.render(dict.fromkeys(template.captures, level))
            assert allowed.refusal(topic) is not None


def _matches(text: str, topic: str) -> bool:
    """MQTT 5, 4.7, one level after the other."""
    wanted, levels = text.split("/"), topic.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(levels) or level not in {"+", levels[position]}:
            return False
    return len(wanted) == len(levels) or (len(wanted) > len(levels) and wanted[len(levels) :] == ["#"])


@given(
    wanted=st.lists(LEVELS | st.just("+"), min_size=1, max_size=4),
    rest=st.booleans(),
    levels=st.lists(LEVELS, min_size=1, max_size=5),
)
def test_filters_match_as_mqtt_says(wanted: list[str], rest: bool, levels: list[str]) -> None:
    text, topic = "/".join([*wanted, *["#"] * rest]), "/".join(levels)
    if not text or not topic or topic.startswith("$"):
        return
    # A last "#" stands for its parent too.
    matches = _matches(text, topic) or (rest and _matches("/".join(wanted), topic))
    assert (ResponseTopics([text], []).refusal(topic) is None) == matches


@pytest.mark.parametrize("text", ["#", "+", "a", "a/#", "+/+/#", "/", "answers/+/x", "ä/ö", " "])
def test_filters(text: str) -> None:
    assert check_filter(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("x" * 257, "longer"),
        ("a\nb", "control"),
        ("a/#/b", "whole level"),
        ("a#", "whole level"),
        ("a+/b", "whole level"),
        ("answers/{sensor}", "write \\+"),
        ("$share/a/b", "never followed"),
        ("edge/#", "never followed"),
    ],
)
def test_what_is_no_filter(text: str, words: str) -> None:
    with pytest.raises(TopicError, match=words):
        check_filter(text)
