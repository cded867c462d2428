"""Pictures of the page, as it is, in Chromium: tried on an agent with a Mosquitto, and watching `edge-agent demo --page`.

    python -m benchmarks.screenshots docs/pictures/page.png docs/pictures/page-live.png

`scripts/pictures` makes them. They take Chromium, Mosquitto and the built page.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.chromium import Chromium
from benchmarks.processes import HOST, find_mosquitto, free_port

#: Seconds for which the demo runs, at the most; it is ended before. And of labels, for the charts.
_SECONDS: Final = 600
_WATCHED: Final = 100
_WIDTH: Final = 1200
_HEIGHT: Final = 830
_SCALE: Final = 1.5
_AGENT: Final = Path(sys.executable).with_name("edge-agent")


@contextmanager
def _running(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the end of the block."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def demo() -> Iterator[str]:
    """Run the demo, and give the address of its page."""
    with _running(_AGENT, "demo", "--page", "--seconds", str(_SECONDS)) as process:
        said = ""
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in process.stdout:
            said += line
            if found := re.search(r"http://\S+", line):
                # It goes on talking, and would wait for somebody who reads.
                threading.Thread(target=process.stdout.read, daemon=True).start()
                break
        else:
            raise RuntimeError(f"the demo tells no address:\n{said}")
        yield found[0]


@contextmanager
def node(directory: Path) -> Iterator[str]:
    """Run a Mosquitto and an agent, and give the address of the page, on the disk, with the broker to connect to."""
    port, web_port = free_port(), free_port()
    broker = directory / "mosquitto.conf"
    lines = [
        f"listener {port} {HOST}",
        "allow_anonymous true",
        "log_dest none",
        f"listener {web_port} {HOST}",
        "protocol websockets",
    ]
    broker.write_text("\n".join(lines), encoding="utf-8")
    settings = directory / "edge-agent.toml"
    settings.write_text(f'[mqtt]\nhost = "{HOST}"\nport = {port}\n[node]\nid = "pi-1"\n', encoding="utf-8")
    page = directory / "page.html"
    subprocess.run(
        [str(_AGENT), "docs", "--config", str(settings), "--out", str(page)], check=True, stdout=subprocess.DEVNULL
    )
    with _running(find_mosquitto(), "-c", broker), _running(_AGENT, "run", "--config", settings):
        yield f"{page.as_uri()}#broker=ws://{HOST}:{web_port}/"


def try_it(chromium: Chromium, out: Path) -> None:
    """Take the picture of a model that was tried."""
    with tempfile.TemporaryDirectory() as directory, node(Path(directory)) as address:
        page = chromium.open(address, width=_WIDTH, height=_HEIGHT, scale=_SCALE)
        # The broker may not be there yet when the page is.
        connected = "document.querySelector('.status').textContent.includes('MQTT')"
        click = "document.querySelector('.status').textContent.startsWith('Not') && document.querySelector('.connect button').click()"
        page.wait(f"({click}, {connected})")
        page.wait("document.querySelector('.node .badge').textContent === 'online'")
        page.fill(".level input", "kitchen")
        page.click(".chip:nth-of-type(2)")
        page.click(".send button")
        page.wait("document.querySelector('.answer[data-kind=prediction]')")
        page.evaluate("document.activeElement.blur()")
        page.screenshot(out)


def watch(chromium: Chromium, out: Path) -> None:
    """Take the picture of the live view."""
    with demo() as address:
        page = chromium.open(address, width=_WIDTH, height=_HEIGHT, scale=_SCALE, dark=True)
        page.click("[data-tab=Live]")
        page.evaluate(f"new Promise((done) => setTimeout(done, {1000 * _WATCHED}))")
        page.screenshot(out, whole=True)


def main(attempt: str, live: str) -> None:
    """Take both pictures."""
    with Chromium.start() as chromium:
        try_it(chromium, Path(attempt))
        watch(chromium, Path(live))


if __name__ == "__main__":
    main(*sys.argv[1:])
