"""The page in a browser: it is shown, keeps its own policy, and is tried against a real agent."""

from __future__ import annotations

from pathlib import Path

from benchmarks.chromium import Chromium


def test_the_page_keeps_its_own_policy(chromium: Chromium, built: Path) -> None:
    page = chromium.open(built.as_uri())
    page.wait("document.querySelector('#page').children.length")
    assert page.problems == []
