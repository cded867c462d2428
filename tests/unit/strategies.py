"""What hypothesis draws the properties of edge_agent from."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

#: Few letters, so that levels meet; `$` and empty levels matter.
LEVELS = st.one_of(st.sampled_from(["", "a", "b", "$a", "ä", " "]), st.text(alphabet="ab$", max_size=2))
#: Any level that can stand in the topic of a message: all but the separator, the wildcards and NUL.
ANY_LEVEL = st.text(st.characters(exclude_characters="/+#\0", exclude_categories=["Cs"]), max_size=8)
NAMES = st.sampled_from(["sensor", "room", "x_1", "_"])


@st.composite
def template_texts(draw: st.DrawFn, max_levels: int = 4) -> str:
    """A valid template: plain levels, and captures whose names stand once."""
    names = draw(st.lists(NAMES, unique=True, max_size=max_levels))
    levels = draw(st.lists(LEVELS, min_size=max(1 - len(names), 0), max_size=max_levels - len(names)))
    parts = draw(st.permutations([*levels, *(f"{{{name}}}" for name in names)]))
    text = "/".join(parts)
    return text or "a"


def json_values() -> st.SearchStrategy[Any]:
    """Anything that JSON can say, and what Python's writer says beyond it (NaN, Infinity)."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([10**400, -(10**400), 2**63, 2**64]),
        st.floats(),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
        max_leaves=8,
    )


#: What sensors send for a number: numbers, numbers in strings, and everything that is neither.
CELLS = st.one_of(
    st.floats(0, 1),
    st.sampled_from([0, 1, 0.5, -0.0, 1.0000001, 3.4028234663852886e38, 3.5e38, 1e-320]),
    st.floats().map(str),
    st.floats(0, 1).map(str),
    st.integers().map(str),
    st.sampled_from(["", " ", "0.5 ", " 1", "1e999", "0x1", "1_0", "nan", "-Infinity", "true", "½", "\u0661"]),
    json_values(),
)


def rows(features: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some or all of the features, now and then with more."""
    return st.builds(
        lambda known, more: {**more, **known},
        st.fixed_dictionaries({}, optional=dict.fromkeys(features, CELLS)),
        st.dictionaries(st.sampled_from(["id", "time", "other", ""]), json_values(), max_size=3),
    )


def payloads(features: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    """Payloads of any bytes, and payloads that come close to good ones."""
    row = rows(features)
    close = st.one_of(row, st.lists(st.one_of(row, json_values()), max_size=4), json_values())
    text = close.map(lambda value: json.dumps(value).encode(errors="replace"))
    return st.one_of(
        text,
        st.binary(max_size=200),
        # A good one with a piece cut out, or a byte changed.
        st.builds(lambda data, at: data[: at % (len(data) + 1)], text, st.integers(0, 1000)),
        st.builds(
            lambda data, at, byte: data[: at % (len(data) + 1)] + byte + data[at % (len(data) + 1) + 1 :],
            text,
            st.integers(0, 1000),
            st.binary(min_size=1, max_size=2),
        ),
    )
