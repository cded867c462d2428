"""`edge-agent demo`: everything on one machine, for a few seconds."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import call
from tests.patience import DEADLINE, fair
from tests.requirements import lacking

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def edge_agent_with_demo() -> Path:
    """The command of the environment that runs the tests: the one with the extra."""
    if any(importlib.util.find_spec(name) is None for name in ("amqtt", "rich")):
        lacking("the extra is not installed: pip install '.[demo]'")
    return Path(sys.executable).parent / "edge-agent"


def test_it_shows_labels_and_rejections(edge_agent_with_demo: Path) -> None:
    done = call(edge_agent_with_demo, "demo", "--seconds", f"{fair(4):.0f}")
    assert done.returncode == 0, done.stdout + done.stderr
    for text in ("Rock", "Hip-Hop", "p50", "p99"):
        assert text in done.stdout
    # One sensor that sends what has changed, and one whose rows are split over two topics.
    for topic in ("music/kitchen/features", "music/phone/changes", "music/meter/tone", "music/meter/beat"):
        assert re.search(rf"^{topic} .*-> (Rock|Hip-Hop) ", done.stdout, re.MULTILINE), topic
    sent = re.search(r"^messages +(\d+) sent, (\d+) answered; [1-9]\d* more ", done.stdout, re.MULTILINE)
    assert sent is not None
    assert sent[1] == sent[2]
    assert "Traceback" not in done.stderr
    # Not a terminal: plain lines, no cursor movements.
    assert "\x1b" not in done.stdout


def test_a_model_that_answers_labels_only(edge_agent_with_demo: Path) -> None:
    model = Path(__file__).parents[1] / "unit" / "fixtures" / "decided.onnx"
    done = call(edge_agent_with_demo, "demo", "--seconds", f"{fair(2):.0f}", "--model", str(model))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^music/kitchen/features .*-> (setosa|versicolor|virginica)$", done.stdout, re.MULTILINE)
    assert "labels" in done.stdout
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_it_sooner(edge_agent_with_demo: Path) -> None:
    with subprocess.Popen(
        [edge_agent_with_demo, "demo", "--seconds", "600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Rock" in line and "music/" in line:
                    break
            process.send_signal(signal.SIGINT)
            rest, said = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert process.returncode == 0, rest + said
    assert "p99" in rest


def test_without_the_extra_it_says_what_to_install(edge_agent: Path) -> None:
    if call(edge_agent.parent / "python", "-c", "import amqtt").returncode == 0:
        pytest.skip("the environment that was named has the extra")
    done = call(edge_agent, "demo")
    assert done.returncode == 2
    assert "./scripts/demo" in done.stderr
    assert "pip install amqtt" in done.stderr
    assert "Traceback" not in done.stderr
