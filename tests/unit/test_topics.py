from __future__ import annotations

from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_agent.contract import topics
from edge_agent.contract.topics import MAX_TOPIC_BYTES, Template
from edge_agent.errors import TopicError
from tests.unit.strategies import ANY_LEVEL, template_texts


@pytest.mark.parametrize(
    "text", ["a", "/", "a/", "/a", "music/{sensor}/features", "{a}/{b}", "{_x1}", "$SYS/x", "ä/ö", "a b", "a" * 65_535]
)
def test_valid_templates(text: str) -> None:
    assert Template(text).text == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("a/+/b", "write a name in braces"),
        ("a/#", "write a name in braces"),
        ("a+", "write a name in braces"),
        ("{a}/{a}", "stands twice"),
        ("a/x{b}", "whole level"),
        ("{}", "whole level"),
        ("{1a}", "whole level"),
        ("{a-b}", "whole level"),
        ("{a", "whole level"),
        ("a}", "whole level"),
        ("{{a}}", "whole level"),
        ("a\0b", "NUL"),
        ("a" * (MAX_TOPIC_BYTES + 1), "longer than"),
        ("ä" * (MAX_TOPIC_BYTES // 2 + 1), "longer than"),
        ("a/\ud800", "UTF-8"),
    ],
)
def test_invalid_templates_say_why(text: str, says: str) -> None:
    with pytest.raises(TopicError, match=says) as raised:
        Template(text)
    assert len(str(raised.value)) < 300 + len(text[:200])


@pytest.mark.parametrize(
    ("template", "topic", "captured"),
    [
        ("music/{sensor}/features", "music/kitchen/features", {"sensor": "kitchen"}),
        ("music/{sensor}/features", "music//features", {"sensor": ""}),
        ("music/{sensor}/features", "music/a/b/features", None),
        ("music/{sensor}/features", "music/kitchen/Features", None),
        ("music/{sensor}/features", "music/features", None),
        ("a", "a", {}),
        ("a", "a/", None),
        ("/", "/", {}),
        ("{a}/{b}", "/", {"a": "", "b": ""}),
        # A wildcard at the front does not match the server's own topics (MQTT 5, 4.7.2); elsewhere `$` is a letter.
        ("{a}/x", "$SYS/x", None),
        ("$SYS/{a}", "$SYS/x", {"a": "x"}),
        ("x/{a}", "x/$a", {"a": "$a"}),
        # What was captured is not looked at again.
        ("x/{a}", "x/{b}", {"a": "{b}"}),
    ],
)
def test_match(template: str, topic: str, captured: dict[str, str] | None) -> None:
    assert Template(template).match(topic) == captured


def test_filter_and_captures() -> None:
    template = Template("music/{sensor}//{room}/features")
    assert template.filter == "music/+//+/features"
    assert template.captures == {"sensor", "room"}


def test_render_puts_levels_in_and_misses_none() -> None:
    assert Template("out/{b}/{a}").render({"a": "1", "b": "2", "c": "3"}) == "out/2/1"
    with pytest.raises(KeyError):
        Template("out/{b}").render({"a": "1"})


@given(text=template_texts(), data=st.data())
def test_what_is_rendered_matches_and_gives_back_what_was_put_in(text: str, data: st.DataObject) -> None:
    template = Template(text)
    captured = {name: data.draw(ANY_LEVEL) for name in sorted(template.captures)}
    topic = template.render(captured)
    assume(template.filter[:1] != "+" or not topic.startswith("$"))
    assert template.match(topic) == captured
    assert topic.count("/") == text.count("/")


@given(text=template_texts(), levels=st.lists(ANY_LEVEL, min_size=1, max_size=5))
def test_what_matches_renders_to_the_same_topic(text: str, levels: list[str]) -> None:
    template, topic = Template(text), "/".join(levels)
    captured = template.match(topic)
    if captured is not None:
        assert template.render(captured) == topic


def _some_topic_of_both(one: Template, other: Template) -> bool:
    """Whether there is a common topic, by trying: the plain levels of both, and one that is in neither."""
    plain = {level for text in (one.text, other.text) for level in text.split("/") if "{" not in level}
    levels = [*sorted(plain), "z"]
    return any(
        one.match(topic) is not None and other.match(topic) is not None
        for topic in map("/".join, product(levels, repeat=one.text.count("/") + 1))
    )


@given(one=template_texts(max_levels=3), other=template_texts(max_levels=3))
def test_templates_overlap_when_they_have_a_topic_in_common(one: str, other: str) -> None:
    first, second = Template(one), Template(other)
    assert first.overlaps(second) == second.overlaps(first) == _some_topic_of_both(first, second)


@given(one=template_texts(max_levels=3), other=template_texts(max_levels=3), levels=st.lists(ANY_LEVEL, max_size=3))
def test_what_templates_share_is_of_both(one: str, other: str, levels: list[str]) -> None:
    first, second = Template(one), Template(other)
    if not first.overlaps(second):
        assert not first.covers(second)
        return
    parts = first.shared(second).split("/")
    drawn = iter([*levels, "x", "y", "z"])
    topic = "/".join(next(drawn) if part == "+" else part for part in parts)
    assume(parts[0] != "+" or not topic.startswith("$"))
    assert first.match(topic) is not None
    assert second.match(topic) is not None
    # One that covers another shares all topics of that with it.
    assert first.covers(second) == (first.shared(second) == second.filter)


@given(text=template_texts())
def test_a_template_overlaps_itself(text: str) -> None:
    assert Template(text).overlaps(Template(text))
    assert Template(text).covers(Template(text))


def test_a_template_shows_itself() -> None:
    assert repr(Template("a/{b}")) == "Template('a/{b}')"


def test_the_topics_of_a_node() -> None:
    own = [topics.state("n"), topics.info("n"), topics.health("n"), topics.response("n", "ping")]
    assert own == ["edge/n/state", "edge/n/info", "edge/n/health", "edge/n/response/ping"]
    assert topics.request("n").match("edge/n/request/ping") == {"verb": "ping"}
    assert all(topics.request("n").match(topic) is None for topic in own)
