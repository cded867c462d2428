"""Every recipe of docs/sensors.md, run through `edge-agent try`: the route and the messages are those of the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.documents import ROOT
from tests.e2e.conftest import call, must

pytestmark = pytest.mark.usefixtures("elsewhere")

PAGE = ROOT / "docs" / "sensors.md"
MAKERS = (
    "Tasmota", "Shelly, first generation", "Shelly, second generation and later", "ESPHome", "zigbee2mqtt",
    "Home Assistant (MQTT Statestream)", "Theengs Gateway and OpenMQTTGateway", "rtl_433", "ChirpStack",
    "The Things Stack", "Node-RED", "A PLC over Sparkplug B",
)  # fmt: skip


class Recipe(NamedTuple):
    """A route, the lines that come, and the topic and label of each answer."""

    maker: str
    route: str
    lines: list[str]
    answers: list[tuple[str, str]]

    def __str__(self) -> str:
        return self.maker


def recipes() -> Iterator[Recipe]:
    """Yield the recipes of the page: below a heading, each has a route, messages, and sentences about the answers."""
    page = PAGE.read_text(encoding="utf-8").partition("\n## Recipes\n")[2].partition("\n## ")[0]
    for section in page.split("\n### ")[1:]:
        maker = section.partition("\n")[0]
        for route, text, sentences in re.findall(
            r"```toml\n(.*?)```\n\n```text\n(.*?)```\n\n((?:Answered on [^\n]*\n)+)", section, re.DOTALL
        ):
            yield Recipe(maker, route, text.splitlines(), re.findall(r"Answered on `([^`]+)`: (\w+)\.", sentences))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the model that the page trains."""
    directory = tmp_path_factory.mktemp("models")
    table = ROOT / "docs" / "examples" / "comfort.csv"
    convert = Path(sys.executable).parent / "edge-convert"
    must(
        convert, "train", "--data", table, "--target", "comfort", "--repeats", "0", "--out", directory / "comfort.onnx"
    )
    return directory


def test_all_makers_are_there() -> None:
    assert tuple(dict.fromkeys(recipe.maker for recipe in recipes())) == MAKERS


@pytest.mark.parametrize("recipe", list(recipes()), ids=str)
def test_a_recipe_answers_as_it_says(recipe: Recipe, models: Path, edge_agent: Path, elsewhere: Path) -> None:
    if "sparkplug" in recipe.route:
        pytest.importorskip("google.protobuf", reason="protobuf is not installed: pip install '.[sparkplug]'")
    file = elsewhere / "recipe.toml"
    file.write_text(f'[models]\ndirectory = "{models}"\n\n{recipe.route}')
    assert recipe.answers
    done = call(edge_agent, "try", "--config", file, input="\n".join(recipe.lines))
    assert answers(done) == recipe.answers, done.stderr
    if len(recipe.lines) == 1:
        topic, _, payload = recipe.lines[0].partition(" ")
        assert answers(call(edge_agent, "try", "--config", file, "--topic", topic, payload)) == recipe.answers


def answers(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str]]:
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [(one["topic"], one["payload"]["label"]) for one in found]
