"""The pictures of the README are what the program shows and what was measured (benchmarks/pictures.py)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import pictures
from edge_agent.contract.templates import Template
from edge_agent.demo.sensors import NAMES

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


@pytest.mark.parametrize("name", ["demo.svg", "watch.svg", "performance.svg"])
def test_a_picture_stands_alone(name: str) -> None:
    """Well-formed, and nothing of it is fetched from the web: not by a browser, and not on a device."""
    text = (PICTURES / name).read_text()
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - ours
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in text
    assert "@font-face" not in text


def test_the_chart_is_that_of_its_figures() -> None:
    measured = json.loads((PICTURES / "bench.json").read_text())
    assert pictures.draw_chart(measured) == (PICTURES / "performance.svg").read_text(), "scripts/pictures"
    figures = pictures.cpu_milliseconds(measured)
    assert min(figures, key=lambda name: figures[name].median) == "agent"


def test_the_chart_says_when_other_programs_were_running() -> None:
    measured = json.loads((PICTURES / "bench.json").read_text())
    said = "other programs were running"
    assert said in pictures.draw_chart({**measured, "warning": "load average 2"})
    assert said not in pictures.draw_chart({**measured, "warning": None})


def test_the_demo_in_the_picture_answers_every_message() -> None:
    text = " ".join("".join(ET.fromstring((PICTURES / "demo.svg").read_text()).itertext()).split())  # noqa: S314 - ours
    found = re.search(r"messages (\d+) sent, (\d+) answered", text)
    assert found is not None
    assert found[1] == found[2]
    assert all(f"music/{one}" in text for one in ("phone/changes", "meter/tone", "meter/beat"))
    topic = Template("music/{sensor}/features")
    assert all(topic.render({"sensor": name}) in text for name in NAMES)
    assert "./scripts/demo" in text


def test_the_picture_of_watch_has_nodes_sensors_and_reasons() -> None:
    text = " ".join("".join(ET.fromstring((PICTURES / "watch.svg").read_text()).itertext()).split())  # noqa: S314 - ours
    assert all(word in text for word in ("$ edge-agent watch", "online", "genre 1.0.0", "rejected", "ago: "))
    assert all(f"music/{name}/genre" in text for name in NAMES)


def test_what_stands_on_the_screen_at_the_end() -> None:
    live = "first\r\n\x1b[?25la\r\nb\r\x1b[2K\x1b[1A\x1b[2K\x1b[31mc\x1b[0m\r\nd\r\ne\x1b[?25h\r\nlast\r\n"
    assert pictures.screen(live) == ["first", "\x1b[31mc\x1b[0m", "d", "e", "last", ""]


def test_a_program_is_watched_on_a_terminal() -> None:
    written = pictures.watch(
        [sys.executable, "-c", "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size().columns)"]
    )
    assert pictures.screen(written)[0] == "True 104"
    with pytest.raises(subprocess.CalledProcessError):
        pictures.watch([sys.executable, "-c", "raise SystemExit(3)"])
