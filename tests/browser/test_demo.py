"""`edge-agent demo --page`: what somebody sees who runs it and opens the address."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.chromium import Chromium
from tests.browser.sliders import find_live, rock_by_slider
from tests.patience import DEADLINE


def test_a_label_by_slider_beside_the_simulated_sensors(chromium: Chromium, built: Path, tmp_path: Path) -> None:
    assert built.is_file()
    command: list[str | Path] = [Path(sys.executable).with_name("edge-agent"), "demo", "--page"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            said = [process.stdout.readline(), process.stdout.readline()]
            found = re.search(r"http://127\.0\.0\.1:\d+/#broker=ws://127\.0\.0\.1:\d+/", said[1])
            assert found, said
            page = chromium.open(found[0])
            # The embedded broker speaks 3.1.1 only, which the page finds out by itself; then it learns of the node.
            page.wait("document.querySelector('.node select').value === 'demo'")
            rock_by_slider(page, "3.1.1")
            page.fill('[data-feature="tempo"] .typed input', "-5")
            page.click(".send button")
            page.wait("document.querySelector('.answer[data-kind=rejection]')")

            find_live(page, "demo")
            # All five simulated sensors, and one that is rejected now and then.
            page.wait("document.querySelectorAll('.live-sensors tbody tr').length >= 5")
            page.wait("/rejected/.test(document.querySelector('.live-sensors').innerText)")
            page.wait("/(Rock|Hip-Hop) [1-9]/.test(document.querySelector('.live-legend').innerText)")
            # Mistakes are the client's: the broker ends the first connection over its version.
            assert [one for one in page.problems if "WebSocket" not in one] == []
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    # What a person sent beside them does not disturb the score.
    assert process.returncode == 0, rest + errors
    assert "Traceback" not in errors
