"""What a person does on the page: logs in, moves sliders, reads the label, looks at the live view."""

from __future__ import annotations

import json

from benchmarks.chromium import Page


def log_in(page: Page, user: str, password: str) -> None:
    """Fill in what the page asks for; the broker's address stands there already."""
    page.fill(".connect input[type=text]", user)
    page.fill(".connect input[type=password]", password)
    page.click(".connect button[type=submit]")


def rock_by_slider(page: Page, protocol: str) -> None:
    """Wait for the connection, move sliders, send, and read the label."""
    page.wait(f"document.querySelector('.status').textContent.includes({json.dumps(f'MQTT {protocol}')})")
    for name, value in (("danceability", "0.2"), ("speechiness", "0.03"), ("energy", "0.9"), ("tempo", "150")):
        page.fill(f'[data-feature="{name}"] input[type=range]', value)
    page.click(".send button")
    page.wait("document.querySelector('.answer[data-kind=prediction]')")
    assert page.text(".verdict-title") == "Rock"


def find_live(page: Page, node: str) -> None:
    """Open the live view, and wait until the node is online there."""
    page.click("[data-tab=Live]")
    page.wait(f"/^{node}\\s+online\\s+genre/m.test(document.querySelector('.live-nodes').innerText)")
