"""What AsyncAPI's own parser says of our documents: nothing, warnings included."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings

from edge_agent.config.load import load
from edge_agent.config.models import loading
from edge_agent.config.settings import Settings
from edge_agent.docs import asyncapi
from edge_agent.docs.served import Served
from edge_agent.testing import make_card
from tests.brokers import find_program
from tests.described import served
from tests.documents import ROOT
from tests.e2e.test_recipes import recipes
from tests.unit.configurations import configurations

#: Where scripts/test puts it.
MODULES = ROOT / "build" / "asyncapi" / "node_modules"
#: What the recipes' model takes.
COMFORT = Served(make_card(("temperature", "humidity"), minimum=-40.0, maximum=100.0), "0" * 64)
#: Each takes a third of a second.
GENERATED = 12


def complaints(documents: list[bytes]) -> list[list[str]]:
    node = find_program("node")
    if node is None or not MODULES.is_dir():
        pytest.skip(
            "AsyncAPI's parser is not installed: cp requirements/asyncapi/*.json build/asyncapi && "
            "npm ci --prefix build/asyncapi"
        )
    command = [str(node), str(ROOT / "tests" / "asyncapi.mjs"), str(MODULES / "x.js")]
    said = subprocess.run(command, input=b"\n".join(documents), capture_output=True, check=True).stdout
    found: list[list[str]] = [json.loads(line) for line in said.splitlines()]
    assert len(found) == len(documents)
    return found


def test_the_parser_takes_the_document_of_the_bundled_configuration_and_of_each_recipe(tmp_path: Path) -> None:
    bundled = Settings()
    made = {"bundled": asyncapi.write(bundled, served(loading(bundled).models()))}
    for number, recipe in enumerate(recipes()):
        file = tmp_path / f"{number}.toml"
        file.write_text(recipe.route)
        made[f"{number} {recipe.maker}"] = asyncapi.write(load(file), {"comfort": COMFORT})
    found = dict(zip(made, complaints([*made.values()]), strict=True))
    assert {name: said for name, said in found.items() if said} == {}


def test_the_parser_takes_documents_of_generated_configurations() -> None:
    drawn: list[bytes] = []

    @settings(max_examples=GENERATED, derandomize=True, database=None, phases=[Phase.generate], deadline=None)
    @given(configurations())
    def draw(one: tuple[Settings, dict[str, Served]]) -> None:
        drawn.append(asyncapi.write(*one))

    draw()
    found = zip(drawn, complaints(drawn), strict=True)
    assert {document.decode()[:2000]: said for document, said in found if said} == {}


def test_the_parser_sees_what_is_wrong() -> None:
    """The test of the test."""
    wrong = json.loads(asyncapi.write(Settings(), {"genre": COMFORT}))
    del wrong["info"]["title"]
    (said,) = complaints([json.dumps(wrong).encode()])
    assert any("title" in one for one in said)
