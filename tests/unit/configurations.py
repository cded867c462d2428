"""Configurations and model cards that hypothesis draws: valid ones, with names that nobody sane would choose."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st
from pydantic import ValidationError

from edge_agent.config.settings import Settings
from edge_agent.contract.card import (
    QUANTILE_LEVELS,
    Example,
    Feature,
    Metrics,
    ModelCard,
    Quantity,
    SelfTest,
    Training,
)
from edge_agent.docs.served import Served
from edge_agent.errors import EdgeAgentError
from tests.unit.strategies import template_texts

#: What means something in a JSON pointer, a URI, JavaScript, HTML, or AsyncAPI.
HOSTILE: Final = (
    "a/b", "~", "~1", "$ref", "{x}", "100 %", "%2F", "#", "x?y=z", "</script><script>alert(1)</script>", "__proto__",
    "constructor", "hasOwnProperty", "id", "time", "ü", "\N{SNOWMAN}", "..", "a.b", "A", "a", "'\"", "\\", "null", "0",
)  # fmt: skip
_TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
NAMES = (st.sampled_from(HOSTILE) | _TEXT).filter(str.isprintable)
_NUMBERS = st.floats(-1e6, 1e6, allow_nan=False, width=32)


@st.composite
def features(draw: st.DrawFn, name: str) -> Feature:
    kind = draw(st.sampled_from(["number", "number", "boolean", "category"]))
    common: dict[str, Any] = {"name": name, "kind": kind, "missing": draw(st.booleans())}
    if kind == "category":
        words = draw(st.lists(NAMES, min_size=2, max_size=4, unique=True))
        return Feature(**common, categories=words, quantiles=[0.0] * 8 + [1.0], example=0.0)
    if kind == "boolean":
        return Feature(**common, quantiles=[0.0] * 8 + [1.0], example=1.0)
    low, high = sorted(draw(st.tuples(_NUMBERS, _NUMBERS)))
    return Feature(
        **common,
        unit=draw(st.sampled_from(["", "°C", "1/min"])),
        description=draw(st.sampled_from(["", "what it is"])),
        minimum=draw(st.sampled_from([None, low])),
        maximum=draw(st.sampled_from([None, high])),
        quantiles=[low + (high - low) * level if level < 1 else high for level in QUANTILE_LEVELS],
        example=low,
    )


@st.composite
def cards(draw: st.DrawFn) -> ModelCard:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    columns = tuple(draw(features(name)) for name in names)
    row = tuple(column.example for column in columns)
    task = draw(st.sampled_from(["classification", "classification", "regression", "anomaly"]))
    answer: dict[str, Any]
    tested: dict[str, Any]
    if task == "classification":
        labels = draw(st.lists(NAMES, min_size=2, max_size=3, unique=True))
        answer, tested = {"labels": labels}, {"labels": labels[:1]}
        if draw(st.booleans()):
            tested["probabilities"] = [[1.0, *[0.0] * (len(labels) - 1)]]
        shown: dict[str, Any] = {"label": labels[0]}
    elif task == "regression":
        outputs = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
        answer = {"outputs": [Quantity(name=one, unit=draw(st.sampled_from(["", "W"]))) for one in outputs]}
        tested = {"values": [[0.5] * len(outputs)]}
        shown = {"values": [0.5] * len(outputs)}
    else:
        answer, tested = {"threshold": 0.5}, {"labels": ["normal"], "values": [[0.25]]}
        shown = {"label": "normal", "values": [0.25]}
    return ModelCard(
        format=1,
        name=draw(st.sampled_from(["genre", "m.1", "Rejection", "info"])),
        version="1.0.0",
        task=task,
        features=columns,
        **answer,
        examples=(Example(name=draw(NAMES), features=row, **shown),) if draw(st.booleans()) else (),
        training=Training(rows=1, estimator="e", parameters={}, libraries={}, date="2026-01-01"),
        metrics=Metrics(values={}, method="none"),
        self_test=SelfTest(rows=(row,), **tested),
    )


@st.composite
def _routes(draw: st.DrawFn, number: int, model: str, card: ModelCard) -> dict[str, Any]:
    subscribe = draw(template_texts())
    captures = [level for level in subscribe.split("/") if level.startswith("{") and level != "{_}"]
    route: dict[str, Any] = {
        "model": model,
        "subscribe": f"in{number}/{subscribe}",
        "publish": "/".join([f"out{number}", *draw(st.sampled_from([["x"], ["?", ""], ["a#b"[:1]]])), *captures]),
        "partial": draw(st.sampled_from(["reject", "ignore", "merge"])),
        "retain": draw(st.booleans()),
        "name_sensor": bool(captures) and draw(st.booleans()),
        "content_type": draw(
            st.sampled_from(["application/json", "application/senml+json", "application/octet-stream"])
        ),
    }
    path = st.sampled_from(["a.b", "a.c", "0.x", "list.name=x.value", "deep.er.still"]) | st.lists(
        NAMES, min_size=1, max_size=2
    )
    table = st.fixed_dictionaries(
        {
            "at": path,
            "scale": st.sampled_from([1.0, -0.1, 10.0]),
            "lenient": st.booleans(),
            "map": st.dictionaries(NAMES, st.just(1.0), max_size=2),
        }
    )
    if draw(st.booleans()):
        route["fields"] = draw(st.dictionaries(st.sampled_from(card.feature_names), path | table, max_size=3))
    if draw(st.booleans()) and card.task == "classification" and card.has_probabilities:
        route["min_confidence"] = 0.5
    return route


@st.composite
def configurations(draw: st.DrawFn) -> tuple[Settings, dict[str, Served]]:
    """Settings, and the models that their routes name."""
    names = ["one", "/a/file/of.onnx"][: draw(st.integers(1, 2))]
    models = {name: Served(draw(cards()), str(number) * 64) for number, name in enumerate(names)}
    routes = [
        draw(_routes(number, name, models[name].card))
        for number, name in enumerate(draw(st.permutations(names * draw(st.integers(1, 2)))))
    ]
    mqtt: dict[str, Any] = {
        "host": draw(st.sampled_from(["localhost", "::1", "broker.lan", "a{b}c", "ü.example"])),
        "protocol": draw(st.sampled_from(["auto", "5", "3.1.1"])),
        "transport": draw(st.sampled_from(["tcp", "websockets"])),
        "path": draw(st.sampled_from(["/mqtt", "/{x}?y=#"])),
        "username": draw(st.sampled_from([None, "SECRET-user"])),
        "client_id": draw(st.sampled_from([None, "SECRET-client"])),
        "retain": draw(st.sampled_from(["auto", False])),
        "response_topics": draw(st.sampled_from([["try/#"], []])),
        "tls": draw(st.sampled_from([None, {}])),
    }
    if mqtt["username"]:
        mqtt["password_file"] = "/SECRET/password"  # noqa: S105 - a path
    try:
        settings = Settings.model_validate(
            {
                "node": {"id": draw(st.sampled_from(["pi-1", "A.b_c", "-"]))},
                "mqtt": mqtt,
                "route": routes,
                "models": {"directory": "/SECRET/models"},
                "docs": {"publish": draw(st.booleans())},
            }
        )
        settings.routes()
    except (ValidationError, EdgeAgentError):
        # Not every mixture is one; what is left is what an agent starts with.
        settings = Settings.model_validate({"mqtt": mqtt, "route": [{"model": names[0]}]})
    return settings, {route.model: models[route.model] for route in settings.route}
