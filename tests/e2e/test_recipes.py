"""Every recipe of docs/sensors.md, run through `edge-agent try`: the route and the messages are those of the page, and then those
that the form of `edge-agent docs --out` begins with.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from edge_agent.assembly import make_plan
from edge_agent.cli.conversation import Conversation, read
from edge_agent.config.load import load
from edge_agent.config.models import loading
from edge_agent.docs import asyncapi
from tests.console import evaluate
from tests.described import served
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


_IMPORTS = """
    import { readDocument } from "./src/document.js";
    import { startOf } from "./src/form.js";
    import { levelsOf, messagesOf } from "./src/payload.js";
"""
#: Of each document, for each of its routes, the lines that `edge-agent try` takes.
_SENT = """given.map((document) => readDocument(document).routes.map((route) => {
      const values = Object.fromEntries(route.model.features.map((feature) => [feature.name, startOf(feature)]));
      const levels = Object.fromEntries(levelsOf(route).map(({ name, fixed }) => [name, fixed ?? "x1"]));
      return messagesOf(route, values, levels, route.remembers ? undefined : "page-1").map(({ topic, payload }) => `${topic} ${payload}`);
    }))"""


def test_the_page_sends_what_each_recipe_takes(
    models: Path,
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    wanted = [one for one in recipes() if "sparkplug" not in one.route]
    loaded = []
    for number, recipe in enumerate(wanted):
        file = tmp_path / f"{number}.toml"
        file.write_text(f'[models]\ndirectory = "{models}"\n\n{recipe.route}')
        loaded.append(load(file))
    documents = [asyncapi.document(settings, served(loading(settings).models())) for settings in loaded]
    sent = evaluate(_IMPORTS, _SENT, documents)
    for recipe, settings, routes in zip(wanted, loaded, sent, strict=True):
        assert len(routes) == len(settings.routes()), recipe.maker
        conversation = Conversation(make_plan(settings).pipeline, settings.routes(), time.monotonic)
        for lines in routes:
            capsysbinary.readouterr()
            conversation.play(read([line.encode() for line in lines], "the page"))
            answered = [json.loads(line)["payload"] for line in capsysbinary.readouterr().out.splitlines()]
            assert answered, (recipe.maker, lines)
            assert answered[-1].get("label"), (recipe.maker, lines, answered)
            # Known by its id, unless the route answers for a sensor and not for a message.
            if any('"page-1"' in line for line in lines):
                assert answered[-1]["id"] == "page-1", (recipe.maker, lines)
