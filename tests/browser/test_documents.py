"""Documents that nodes keep on a broker: which is shown, what stays when they change, and those that are too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chromium import Chromium
from tests.browser.documents import document, pump, source, write

pytestmark = pytest.mark.usefixtures("built")

ROUTE = {"publish": "plant/{hall}/pump", "sources": [source("plant/{hall}/raw")]}


def test_an_example_has_what_is_its_own(chromium: Chromium, tmp_path: Path) -> None:
    """Features may be called as what every object of JavaScript has."""
    features = [{"name": name, "kind": "number"} for name in ("toString", "constructor", "__proto__", "speed")]
    model = pump(features=features, examples=[{"title": "one", "features": {"speed": 3}}])
    page = chromium.open(write(tmp_path, document(model, ROUTE)))
    page.click(".chip")
    assert page.evaluate("[...document.querySelectorAll('.typed input')].map((one) => one.value)") == ["", "", "", "3"]
