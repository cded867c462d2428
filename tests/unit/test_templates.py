from __future__ import annotations

from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_agent.contract import topics
from edge_agent.contract.templates import MAX_TOPIC_BYTES, Template
from edge_agent.errors import TopicError
from tests.unit.strategies import ANY_LEVEL, template_texts


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "/",
        "a/",
        "/a",
        "music/{sensor}/features",
        "{a}/{b}",
        "{_x1}",
        "{_}/{_}",
        "a/{b...}",
        "{a...}",
        "$SYS/x",
        "ä/ö",
        "a b",
        "a" * 65_535,
    ],
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
        ("{a}/{a...}", "stands twice"),
        ("{a...}/b", "must be the last level"),
        ("{a...}/{b...}", "only one name"),
        ("a/{_...}", "never passed on"),
        ("a/{b..}", "whole level"),
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
        ("z2m/{device...}", "z2m/attic/north/lamp", {"device": "attic/north/lamp"}),
        ("z2m/{device...}", "z2m/lamp", {"device": "lamp"}),
        ("z2m/{device...}", "z2m/", {"device": ""}),
        ("z2m/{device...}", "z2m", None),
        ("{all...}", "a/b", {"all": "a/b"}),
        ("{all...}", "$SYS/x", None),
        ("a/{_}/{_}/{b}", "a/1/2/3", {"b": "3"}),
        ("a/{_}", "a/b/c", None),
        ("{_}/a", "$SYS/a", None),
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
    assert template.several is None
    several = Template("{_}/{home}/{device...}")
    assert (several.filter, list(several.captures), several.several) == ("+/+/#", ["home", "device"], "device")


def test_outputs_have_several_levels_anywhere() -> None:
    output = Template("out/{device...}/{room}/error", output=True)
    assert output.render({"device": "a/b", "room": "c"}) == "out/a/b/c/error"
    assert output.match("out/a/b/c/error") == {"device": "a/b", "room": "c"}
    assert output.match("out/c/error") is None
    with pytest.raises(TopicError, match="never passed on"):
        Template("out/{_}", output=True)


def test_render_puts_levels_in_and_misses_none() -> None:
    assert Template("out/{b}/{a}").render({"a": "1", "b": "2", "c": "3"}) == "out/2/1"
    with pytest.raises(KeyError):
        Template("out/{b}").render({"a": "1"})


@given(text=template_texts(), data=st.data())
def test_what_is_rendered_matches_and_gives_back_what_was_put_in(text: str, data: st.DataObject) -> None:
    template = Template(text)
    captured = {name: data.draw(ANY_LEVEL) for name in sorted(template.captures)}
    if template.several is not None:
        captured[template.several] += data.draw(st.sampled_from(["", "/", "/a", "/a/b"]))
    topic = template.render(captured)
    assume("{_}" not in text)
    assume(template.filter[:1] not in ("+", "#") or not topic.startswith("$"))
    assert template.match(topic) == captured


@given(text=template_texts(), levels=st.lists(ANY_LEVEL, min_size=1, max_size=5))
def test_what_matches_renders_to_the_same_topic(text: str, levels: list[str]) -> None:
    template, topic = Template(text), "/".join(levels)
    captured = template.match(topic)
    if captured is not None:
        rendered = template.render(captured).split("/")
        assert [given if level == "{_}" else level for level, given in zip(rendered, levels, strict=True)] == levels


def _some_topic_of_both(one: Template, other: Template) -> bool:
    """Whether there is a common topic, by trying: the plain levels of both, and one that is in neither."""
    plain = {level for text in (one.text, other.text) for level in text.split("/") if "{" not in level}
    levels = [*sorted(plain), "z"]
    return any(
        one.match(topic) is not None and other.match(topic) is not None
        for length in range(1, 5)
        for topic in map("/".join, product(levels, repeat=length))
    )


@given(one=template_texts(max_levels=3), other=template_texts(max_levels=3))
def test_templates_overlap_when_they_have_a_topic_in_common(one: str, other: str) -> None:
    first, second = Template(one), Template(other)
    assert first.overlaps(second) == second.overlaps(first) == _some_topic_of_both(first, second)
    example = first.example(second)
    assert example is None or (first.match(example) is not None and second.match(example) is not None)


@pytest.mark.parametrize(
    ("output", "taker", "example"),
    [
        ("out/{dev}/error", "{dev}/status/{feature}", "out/status/error"),
        ("out/{dev...}/error", "out/{dev}/{feature}", "out/x/error"),
        ("z2m/{dev...}/genre", "z2m/{dev...}", "z2m/x/genre"),
        ("a/{dev...}/b/c", "a/b/{rest...}", "a/b/b/c"),
        ("a/{dev...}/b", "a/c/d/{x}", "a/c/d/b"),
        ("out/{dev...}", "home/{dev...}", None),
        ("a/{dev...}/b", "a/b", None),
    ],
)
def test_an_output_that_is_an_input_has_an_example(output: str, taker: str, example: str | None) -> None:
    assert Template(output, output=True).example(Template(taker)) == example


@given(one=template_texts(max_levels=3), other=template_texts(max_levels=3), levels=st.lists(ANY_LEVEL, max_size=3))
def test_what_templates_share_is_of_both(one: str, other: str, levels: list[str]) -> None:
    first, second = Template(one), Template(other)
    if not first.overlaps(second):
        assert not first.covers(second)
        return
    parts = first.shared(second).split("/")
    drawn = iter([*levels, "x", "y", "z"])
    topic = "/".join(next(drawn) if part in ("+", "#") else part for part in parts)
    assume(parts[0] not in ("+", "#") or not topic.startswith("$"))
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
