"""Many templates at once: the same found as by trying one after the other, with work that does not grow with their number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.templates import Template
from edge_agent.routing.trie import Trie
from tests.unit.strategies import ANY_LEVEL, LEVELS, template_texts
from tests.work import steps

TEXTS = st.lists(template_texts(max_levels=3), max_size=12)


def trie(texts: list[str]) -> Trie[int]:
    made: Trie[int] = Trie()
    for number, text in enumerate(texts):
        made.add(Template(text), number)
    return made


@given(texts=TEXTS, levels=st.lists(LEVELS | ANY_LEVEL, min_size=1, max_size=4))
def test_it_finds_what_matches(texts: list[str], levels: list[str]) -> None:
    topic = "/".join(levels)
    one_by_one = [(number, Template(text).match(topic)) for number, text in enumerate(texts)]
    assert trie(texts).matching(topic) == [
        (number, captured) for number, captured in one_by_one if captured is not None
    ]


@given(texts=TEXTS, text=template_texts(max_levels=3))
def test_it_finds_what_overlaps(texts: list[str], text: str) -> None:
    found = [number for _, number in trie(texts).overlapping(Template(text))]
    assert found == [number for number, one in enumerate(texts) if Template(one).overlaps(Template(text))]


def test_outputs_with_several_levels_in_the_middle_are_found() -> None:
    outputs: Trie[str] = Trie()
    outputs.add(Template("out/{device...}/error", output=True), "error")
    assert outputs.matching("out/a/b/error") == [("error", {"device": "a/b"})]
    assert outputs.matching("out/a/b") == []
    assert [name for _, name in outputs.overlapping(Template("out/{a}/{b}"))] == ["error"]
    takers: Trie[str] = Trie()
    takers.add(Template("out/attic/{what}"), "taker")
    assert [name for _, name in takers.overlapping(Template("out/{device...}/error", output=True))] == ["taker"]


def test_a_topic_costs_the_same_among_thousands() -> None:
    def cost(count: int) -> int:
        made = trie([f"site/{number}/{{sensor}}/features" for number in range(count)])
        found: list[object] = []
        work = steps(lambda: found.extend(made.matching("site/0/kitchen/features")))
        assert found == [(0, {"sensor": "kitchen"})]
        return work

    assert cost(5000) <= 1.1 * cost(1)
