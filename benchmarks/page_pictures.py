"""Pictures of the page, as a browser without a window shows it beside `edge-agent demo --page`. `scripts/pictures` makes them.

    python -m benchmarks.page_pictures docs/pictures

Takes Chromium, and the page as scripts/console builds it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.chromium import Chromium, Page

_WIDTH: Final = 1160
#: Answers that the chart of labels has, before its picture is taken: more than a minute of the demo's.
_ANSWERS: Final = 500


@contextmanager
def demo() -> Iterator[str]:
    """Run the demo, and give the address of its page. Raises `RuntimeError` with what it says instead of one."""
    command = [str(Path(sys.executable).with_name("edge-agent")), "demo", "--page"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            said = ""
            for line in process.stdout:
                said += line
                if found := re.search(r"http://\S+", line):
                    # It goes on talking, and would wait for somebody to read it.
                    threading.Thread(target=process.stdout.read, daemon=True).start()
                    yield found[0]
                    return
            raise RuntimeError(f"the demo has no page: {said}")
        finally:
            process.terminate()


def live(page: Page, out: Path) -> None:
    """Draw the live view: when enough has come that the charts have something to show."""
    page.click("[data-tab=Live]")
    counts = "[...document.querySelectorAll('.live-legend li:not(.dim)')].map((one) => Number(/ (\\d+)/.exec(one.innerText)[1]))"
    page.wait(f"{counts}.reduce((sum, one) => sum + one, 0) >= {_ANSWERS}")
    page.wait("/rejected|outside/.test(document.querySelector('.live-sensors').innerText)")
    # As somebody sees it who holds no mouse.
    page.evaluate("document.activeElement?.blur()")
    page.screenshot(out, whole=True)


def main(directory: str) -> None:
    """Write the pictures."""
    with demo() as address, Chromium.start() as chromium:
        page = chromium.open(address, width=_WIDTH, height=760)
        page.wait("document.querySelector('.status').textContent.includes('MQTT')")
        live(page, Path(directory, "live.png"))


if __name__ == "__main__":
    main(*sys.argv[1:])
