"""Every shell block of the documents, run as a reader would (the convention: tests/documents.py).

The blocks of one page are typed at one terminal (tests/terminal.py), in a directory with the clone's files in it, beside one
broker; a block that stays in the background (a subscription, the agent) has a terminal of its own, and is subscribed
before the next block starts. The pages may speak of the default
broker, localhost:1883: the agent and Mosquitto's clients are told here that it is on another port.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.brokers import HOST, Mosquitto
from tests.documents import DEVICE_PAGES, ROOT, Block, blocks, documents
from tests.e2e.conftest import END_WITHIN
from tests.patience import DEADLINE, fair
from tests.terminal import Terminal

PAGES = [
    path for path in documents() if path not in DEVICE_PAGES and any(block.not_run is None for block in blocks(path))
]


class Reader:
    """Someone at a terminal, with the page before them."""

    def __init__(self, directory: Path, broker: Mosquitto) -> None:
        self.directory = directory / "clone"
        self.directory.mkdir()
        for entry in ROOT.iterdir():
            if entry.name not in {".git", ".venv-oldest", "build", "dist"}:
                (self.directory / entry.name).symlink_to(entry)
        options = directory / "config"
        options.mkdir()
        for program in ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr"):
            (options / program).write_text(f"-h {HOST}\n-p {broker.port}\n")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EDGE_AGENT_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "XDG_CONFIG_HOME": str(options),
            "EDGE_AGENT_MQTT__HOST": HOST,
            "EDGE_AGENT_MQTT__PORT": str(broker.port),
            "PYTHONUNBUFFERED": "1",
        }
        self.broker = broker
        self.running: list[tuple[Block, subprocess.Popen[bytes], Path]] = []
        self.terminal = Terminal(cwd=self.directory, env=self.environment)

    def run(self, block: Block) -> None:
        self.terminal.run(block)

    def start(self, block: Block) -> None:
        """Start a block that stays, and wait until the broker has granted it a subscription."""
        subscriptions = self.broker.log().count("Sending SUBACK")
        output = self.directory.parent / f"background-{len(self.running)}.log"
        # Line by line, as on a terminal: C programs would keep their output back until they end.
        command = ["stdbuf", "-oL", "bash", "-euo", "pipefail", "-c", block.text]
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.running.append((block, process, output))
        self._wait(
            block, process, output, "subscribe", lambda: self.broker.log().count("Sending SUBACK") > subscriptions
        )

    def finish(self) -> None:
        """What stayed in the background has printed what it should, and ends when asked."""
        for block, process, output in self.running:
            for text in block.prints:
                self._wait(block, process, output, f"print {text!r}", partial(_holds, output, text))
        while self.running:
            block, process, output = self.running.pop()
            os.killpg(process.pid, signal.SIGTERM)
            status = process.wait(fair(END_WITHIN))
            assert status in {0, -signal.SIGTERM, 128 + signal.SIGTERM}, (
                f"{block} ended with {status}:\n{output.read_text()}"
            )

    def leave(self) -> None:
        self.terminal.close()
        for _, process, _ in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(DEADLINE)

    @staticmethod
    def _wait(
        block: Block, process: subprocess.Popen[bytes], output: Path, what: str, done: Callable[[], bool]
    ) -> None:
        deadline = time.monotonic() + DEADLINE
        while not done():
            try:
                status = process.wait(0.02)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                raise TimeoutError(f"{block} did not {what} in {DEADLINE:g} s:\n{output.read_text()}") from None
            raise AssertionError(f"{block} ended with {status} and did not {what}:\n{output.read_text()}")


def _holds(file: Path, text: str) -> bool:
    return text in file.read_text()


@pytest.fixture
def reader(tmp_path: Path, broker: Mosquitto) -> Iterator[Reader]:
    if shutil.which("stdbuf") is None:
        pytest.skip("stdbuf (coreutils) is missing")
    reader = Reader(tmp_path, broker)
    yield reader
    reader.leave()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_does_what_it_says(page: Path, reader: Reader) -> None:
    for block in blocks(page):
        if block.not_run is not None:
            continue
        if block.background:
            reader.start(block)
        else:
            reader.run(block)
    reader.finish()


def test_the_convention_itself(reader: Reader, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- background -->\n<!-- prints: hello -->\n```sh\nmosquitto_sub -t greeting\n```\n"
        "```sh\nmosquitto_pub -t greeting -m hello\n```\n"
        "<!-- prints: pyproject.toml -->\n```sh\nls\n```\n"
    )
    first, second, third = blocks(page)
    reader.start(first)
    reader.run(second)
    reader.run(third)
    reader.finish()
