"""The commented configuration says the truth: every setting is in it, each with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from edge_agent.config.connection import Tls
from edge_agent.config.load import load
from edge_agent.config.routes import RouteSettings, SourceSettings
from edge_agent.config.settings import Settings

FILE = Path(__file__).parents[2] / "deploy" / "edge-agent.toml"
#: Settings without a default of their own: the file shows an example of each.
EXAMPLES = {
    "node.id",
    "mqtt.client_id",
    "mqtt.username",
    "mqtt.password_file",
    "mqtt.tls.ca",
    "mqtt.tls.certificate",
    "mqtt.tls.key",
    "mqtt.tls.alpn",
    "mqtt.socket",
    "mqtt.port",
    "route.errors",
    "route.share",
    "route.fields",
    "route.binary_sensor",
    "route.max_age",
    "route.capture",
    "route.source.subscribe",
    "route.source.fields",
    "route.source.sensor",
}

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the clone is not here: this is the wheel's suite")


def _flat(table: dict[str, Any], place: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        inner = value[0] if isinstance(value, list) and value else value
        if key in {"fields", "capture", "sensor"}:  # a table of the user's own
            inner = None
        flat |= _flat(inner, f"{place}{key}.") if isinstance(inner, dict) else {f"{place}{key}": value}
    return flat


def _known(model: type[BaseModel], place: str = "") -> set[str]:
    inner: dict[str, type[BaseModel]] = {"tls": Tls, "route": RouteSettings, "source": SourceSettings}
    known: set[str] = set()
    for name, field in model.model_fields.items():
        section = inner.get(name) or field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            known |= _known(section, f"{place}{name}.")
        else:
            known.add(f"{place}{name}")
    return known


def _uncommented() -> dict[str, Any]:
    text = re.sub(r"^# (?=[a-z_]+ = |\[)", "", FILE.read_text(), flags=re.MULTILINE)
    return tomllib.loads(text)


def test_as_it_stands_it_changes_nothing() -> None:
    assert load(FILE) == Settings()


def test_every_setting_stands_in_it_and_no_other() -> None:
    assert set(_flat(_uncommented())) == _known(Settings)


def test_the_values_are_the_defaults() -> None:
    content = _flat(_uncommented())
    defaults = _flat(Settings().model_dump(mode="json"))
    defaults |= {f"mqtt.tls.{key}": value for key, value in Tls().model_dump(mode="json").items()}
    differing = {key for key in content if key not in EXAMPLES and content[key] != defaults[key]}
    assert not differing
