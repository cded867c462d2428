"""What hypothesis draws the properties of edge_agent from."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import strategies as st

#: Few letters, so that levels meet; `$` and empty levels matter.
LEVELS = st.one_of(st.sampled_from(["", "a", "b", "$a", "ä", " "]), st.text(alphabet="ab$", max_size=2))
#: Any level that can stand in the topic of a message: all but the separator, the wildcards and NUL.
ANY_LEVEL = st.text(st.characters(exclude_characters="/+#\0", exclude_categories=["Cs"]), max_size=8)
NAMES = st.sampled_from(["sensor", "room", "x_1", "__"])


@st.composite
def template_texts(draw: st.DrawFn, max_levels: int = 4) -> str:
    """A valid template: plain levels, those of any name, and captures whose names stand once; the last may be of several."""
    names = draw(st.lists(NAMES, unique=True, max_size=max_levels))
    levels = draw(st.lists(LEVELS | st.just("{_}"), min_size=max(1 - len(names), 0), max_size=max_levels - len(names)))
    parts = draw(st.permutations([*levels, *(f"{{{name}}}" for name in names)]))
    if parts[-1][:1] == "{" and parts[-1] != "{_}" and draw(st.booleans()):
        parts[-1] = parts[-1].replace("}", "...}")
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


#: Every setting there is, as a dotted key, and some that are none.
SETTINGS = (
    *(
        "node.id",
        "mqtt.host",
        "mqtt.port",
        "mqtt.transport",
        "mqtt.path",
        "mqtt.socket",
        "mqtt.protocol",
        "mqtt.client_id",
    ),
    *("mqtt.username", "mqtt.password_file", "mqtt.keepalive", "mqtt.session_expiry", "mqtt.receive_maximum", "mqtt"),
    *(
        "mqtt.response_topics",
        "mqtt.connect_timeout",
        "mqtt.max_backoff",
        "mqtt.tls",
        "mqtt.tls.enabled",
        "mqtt.tls.ca",
    ),
    *("mqtt.tls.certificate", "mqtt.tls.key", "mqtt.tls.alpn", "models.directory", "limits.payload_bytes", "route"),
    *(
        "limits.batch_rows",
        "limits.sensors",
        "health.interval",
        "log.level",
        "node",
        "limits",
        "mqtt.hots",
        "x",
        "models",
    ),
)
ROUTE_KEYS = (
    *("model", "subscribe", "publish", "errors", "share", "content_type", "fields", "max_age", "debounce", "subscrbe"),
)
#: What settings are set to: what is right for one of them, what is at the edge, and what is right for none.
SETTING_VALUES = st.one_of(
    st.sampled_from(
        ["a", "a/{x}", "b/{x}/{feature}", "b/{x}", "5", "tcp", "unix", "websockets", "genre", "./a.onnx", "::1"]
    ),
    st.sampled_from(
        ["", "/", "\0", "\x1b]0;x\x07", "a" * 300, "a" * 70_000, "a/" * 300, "a.b", "..", "/dev/null", "/", "."]
    ),
    st.sampled_from([0, 1, -1, 2**16, 2**31, 2**32, 2**63, 2**64, 10**400, 0.5, 1e308, True, False]),
    st.lists(st.sampled_from(["a", "", "#", "+/response/#", 3, [], "é"]), max_size=3),
    st.dictionaries(
        st.sampled_from(["tempo", "id", "", "at", "enabled"]), st.sampled_from(["a.b", "", 1, ["a"]]), max_size=2
    ),
    json_values(),
)


def _toml_value(value: Any) -> str:
    """A value as TOML, or something close to it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("NaN", "nan").replace("Infinity", "inf")


def toml_texts() -> st.SearchStrategy[str]:
    """Configurations: good ones, wrong ones, and text that is no TOML."""
    value = st.one_of(
        SETTING_VALUES.map(_toml_value),
        st.sampled_from(
            ["1979-05-27T07:32:00Z", "07:32:00", "0xff", "1_000", "'x'", '"""\nx"""', "[" * 40 + "]" * 40, "{"]
        ),
        st.integers(2, 3000).map(lambda depth: "[" * depth + "]" * depth),
        st.integers(1, 6000).map(lambda digits: "9" * digits),
    )
    line = st.one_of(
        st.builds("{} = {}".format, st.sampled_from(SETTINGS), value),
        st.builds(
            lambda pairs: "\n".join(["[[route]]", *(f"{key} = {one}" for key, one in pairs)]),
            st.lists(st.tuples(st.sampled_from(ROUTE_KEYS), value), max_size=4, unique_by=lambda pair: pair[0]),
        ),
        st.sampled_from(
            ["[mqtt]", "[route]", "[[mqtt]]", "[[route]]", "[mqtt.tls]", "# x", "", "[" + "a." * 90 + "a]"]
        ),
        st.text(max_size=20),
    )
    return st.lists(line, max_size=5).map("\n".join)


def environments() -> st.SearchStrategy[dict[str, str]]:
    """Variables of the environment: ours, close to ours, and with values that are not UTF-8."""
    texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
    name = st.one_of(
        st.sampled_from(SETTINGS).map(lambda key: "EDGE_AGENT_" + key.upper().replace(".", "__")),
        st.sampled_from(
            ["EDGE_AGENT_", "edge_agent_mqtt__host", "EDGE_AGENT_MQTT_HOST", "EDGE_AGENT_MQTT__HOST__X__Y"]
        ),
        st.sampled_from(["EDGE_AGENT_MQTT__" + "X__" * 50 + "Y", "EDGE_AGENT_\udcff", "CREDENTIALS_DIRECTORY"]),
    )
    value = st.one_of(
        texts,
        st.binary(max_size=8).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),
        SETTING_VALUES.map(lambda value: value if isinstance(value, str) else json.dumps(value)),
        st.lists(st.dictionaries(st.sampled_from(ROUTE_KEYS), SETTING_VALUES, max_size=4), max_size=3).map(json.dumps),
        st.integers(1, 6000).map(lambda depth: "[" * depth + "]" * depth),
        st.integers(1, 6000).map(lambda depth: '{"a":' * depth),
        st.integers(1, 6000).map(lambda digits: "9" * digits),
    )
    return st.dictionaries(name, value.map(lambda text: text.replace("\0", "")), max_size=3)
