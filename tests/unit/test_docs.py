"""The AsyncAPI document of a configuration and its model cards: what it says, and that it hangs together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from click.testing import CliRunner

from edge_agent.cli.main import cli
from edge_agent.config.settings import Settings
from edge_agent.docs import asyncapi
from edge_agent.docs.served import Served
from edge_agent.testing import make_card

MODELS = {"genre": Served(make_card(("loudness", "tempo")), "0" * 64)}


def described(models: dict[str, Served] = MODELS, **sections: Any) -> dict[str, Any]:
    """The document as others read it."""
    settings = Settings(**{"node": {"id": "pi-1"}, **sections})
    read: dict[str, Any] = json.loads(asyncapi.write(settings, models))
    return read


def references(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "$ref":
                yield value
            yield from references(value)
    elif isinstance(content, list):
        for one in content:
            yield from references(one)


def at(document: dict[str, Any], reference: str) -> Any:
    """What a reference leads to (RFC 6901)."""
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[unquote(step).replace("~1", "/").replace("~0", "~")]
    return found


def test_every_reference_leads_somewhere() -> None:
    document = described()
    for reference in references(document):
        at(document, reference)


def test_the_same_settings_give_the_same_bytes() -> None:
    assert asyncapi.write(Settings(), MODELS) == asyncapi.write(Settings(), MODELS)


def test_the_extension_has_what_a_page_needs() -> None:
    found = described()["x-edge-agent"]
    assert (found["node"], found["protocol"]) == ("pi-1", "auto")
    (model,), (route,) = found["models"], found["routes"]
    assert [feature["name"] for feature in model["features"]] == ["loudness", "tempo"]
    assert route["model"] == model["name"] == "genre"
    assert route["sources"] == [
        {
            "subscribe": "music/{sensor}/features",
            "parameters": ["sensor"],
            "sensor": {},
            "fields": {},
            "form": "object",
            "formats": route["sources"][0]["formats"],
        }
    ]


def test_the_command_writes_it() -> None:
    result = CliRunner().invoke(cli, ["docs", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["asyncapi"] == "3.0.0"
