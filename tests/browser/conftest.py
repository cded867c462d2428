"""The built page, in a Chromium without a window, against a real Mosquitto with WebSockets and a real agent.

`chromium` is one browser for a module; each page that it opens is a stranger to the others. `broker` is a Mosquitto with a
listener for WebSockets at `broker.url`. `built` is the page as scripts/console makes it, without a document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chromium import Chromium, Page, find
from tests.brokers import HOST, Mosquitto, free_port, running
from tests.requirements import require_mosquitto

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "edge_agent" / "docs" / "page.html"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here take the browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


class WebMosquitto(Mosquitto):
    """A Mosquitto that browsers reach as well, at `url`."""

    def __init__(self, directory: Path, *, after: Sequence[str] = (), **options: Any) -> None:
        """`after` are lines for the listener of WebSockets."""
        require_mosquitto()
        self.web_port = free_port()
        self._after = after
        super().__init__(directory, **options)

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.web_port}"

    def configure(self, *, lines: Any = (), **options: Any) -> None:
        super().configure(
            lines=[*lines, f"listener {self.web_port} {HOST}", "protocol websockets", *self._after], **options
        )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    if find() is None:
        pytest.skip("there is no Chromium: sudo apt install chromium")
    with Chromium.start() as started:
        yield started


@pytest.fixture(scope="session")
def built() -> Path:
    if not BUILT.is_file():
        pytest.skip("the page is not built: scripts/console")
    return BUILT


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[WebMosquitto]:
    with running(WebMosquitto(tmp_path / "broker")) as started:
        yield started


def connect(page: Page, url: str) -> None:
    """Connect as a person would, and wait until it is."""
    page.fill(".connect input[type=url]", url)
    page.click(".connect button")
    page.wait("document.querySelector('.status').textContent.includes('MQTT')")
