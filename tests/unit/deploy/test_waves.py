"""Which nodes a wave names, and how far a published one is."""

from __future__ import annotations

import pytest
from edge_deploy.waves import entries, parse, reached
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.manifest import Envelope, is_meant
from edge_agent.errors import InputError

NODES = [f"pi-{number}" for number in range(50)]


def published(wave: tuple[str, ...] | None) -> Envelope:
    return Envelope(manifest="{}", signature="", wave=wave)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "write a number of nodes"),
        ("1,,2", "write a number of nodes"),
        ("0", "a number of nodes is 1 to 200"),
        ("201", "a number of nodes is 1 to 200"),
        ("٣", "a number of nodes is 1 to 200"),
        ("10%,5%", "shares grow"),
        ("10%,10%", "shares grow"),
        ("101%", "write a number of nodes"),
        ("0%", "shares grow"),
        ("\x1b[2J", "write a number of nodes"),
        ("a b", "write a number of nodes"),
        (",".join(["1"] * 21), "20 are enough"),
    ],
)
def test_waves_that_can_t_be(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse(text)
    assert str(caught.value).isprintable()


def test_numbers_shares_ids_and_patterns() -> None:
    plan = parse("hall-pi, 2, cellar-*, 10%, 100%")
    assert entries(plan, 0, "stable", NODES, ()) == ("hall-pi",)
    picked = entries(plan, 1, "stable", NODES, ("hall-pi",))
    assert picked is not None
    assert picked[0] == "hall-pi"
    assert len(picked) == 3
    assert set(picked[1:]) <= set(NODES)
    assert entries(plan, 3, "stable", NODES, picked) == (*picked, "cellar-*", "10%")
    assert entries(plan, 4, "stable", NODES, picked) is None


@given(
    st.lists(st.sampled_from(["1", "3", "10", "5%", "25%", "pi-7", "pi-1*", "60%", "100%"]), min_size=1, max_size=6),
    st.data(),
)
def test_a_wave_keeps_those_before_it_and_is_known_again(texts: list[str], data: st.DataObject) -> None:
    shares = sorted({text for text in texts if "%" in text}, key=lambda text: float(text[:-1]))
    plan = parse(",".join([*(text for text in texts if "%" not in text), *shares]))
    before: tuple[str, ...] | None = ()
    reached_before: set[str] = set()
    for number in range(len(plan)):
        nodes = data.draw(st.lists(st.sampled_from(NODES), min_size=12, unique=True))
        before = entries(plan, number, "stable", nodes, before or ()) if before is not None else None
        meant = {node for node in NODES if before is None or is_meant(node, "stable", before)}
        assert reached_before <= meant
        reached_before = meant
        assert reached(plan, published(before)) >= number


def test_what_was_published_by_another_plan() -> None:
    assert reached(parse("1,10%,100%"), published(())) == -1
    assert reached(parse("1,10%,100%"), published(("pi-1",))) == 0
    assert reached(parse("1,10%,100%"), published(("pi-1", "10%"))) == 1
    assert reached(parse("1,10%,100%"), published(("50%",))) == 1
    assert reached(parse("1,10%,100%"), published(None)) == 2
    assert reached(parse("cellar-*,50%"), published(("hall-*",))) == -1
