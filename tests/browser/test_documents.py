"""Documents that nodes keep on a broker: which is shown, what stays when they change, and those that are too much."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.chromium import Chromium
from edge_agent.page import page as page_with
from tests.browser.conftest import WebMosquitto, connect
from tests.browser.documents import ROUTE, document, pump, write
from tests.contract.client import Client

pytestmark = pytest.mark.usefixtures("built")


def test_an_example_has_what_is_its_own(chromium: Chromium, tmp_path: Path) -> None:
    """Features may be called as what every object of JavaScript has."""
    features = [{"name": name, "kind": "number"} for name in ("toString", "constructor", "__proto__", "speed")]
    model = pump(features=features, examples=[{"title": "one", "features": {"speed": 3}}])
    page = chromium.open(write(tmp_path, document(model, ROUTE)))
    page.click(".chip")
    assert page.evaluate("[...document.querySelectorAll('.typed input')].map((one) => one.value)") == ["", "", "", "3"]


def test_a_node_that_takes_its_document_back(chromium: Chromium, broker: WebMosquitto, tmp_path: Path) -> None:
    """What is shown stays, and stays the one that is chosen; without any, the page says what it waits for."""
    page = chromium.open(write(tmp_path, None))
    connect(page, broker.url)
    assert "No node on this broker has published" in page.text("main")
    page.click("[data-tab=Topics]")
    assert "No node on this broker has published" in page.text("main")
    page.click("[data-tab='Try it']")
    options = "[...document.querySelectorAll('.node option')].map((one) => one.textContent)"
    with Client(broker.port) as client:
        client.publish("edge/pi-2/docs", document(pump(), ROUTE, "pi-2"), retain=True)
        page.wait("document.querySelector('.fields')")
        client.publish("edge/pi-1/docs", document(pump(), ROUTE, "pi-1"), retain=True)
        page.wait(f"{options}.length === 2")
        client.publish("edge/pi-2/docs", b"", retain=True)
        page.wait(f"{options}.includes('pi-2 (no longer on the broker)')")
    assert page.evaluate("document.querySelector('.node select').value") == "pi-2"
    assert page.text(".foot span").startswith("pi-2")
    page.fill(".node select", "pi-1")
    assert page.text(".foot span").startswith("pi-1")
    assert page.evaluate(options) == ["pi-1"]
    assert page.problems == []


def test_documents_that_are_too_much(chromium: Chromium, broker: WebMosquitto, tmp_path: Path) -> None:
    """By references, by what they have, by their depth: the page goes on, and says what it leaves out."""
    rows = document(pump(), ROUTE, "aaa")
    rows["components"] = {
        "schemas": {
            f"s{one}": {
                "type": "object",
                "properties": {f"p{i}": {"$ref": f"#/components/schemas/s{(one + 1) % 5}"} for i in range(60)},
            }
            for one in range(5)
        }
    }
    message = rows["channels"]["answers"]["messages"]["json"]
    message["payload"] = {"$ref": "#/components/schemas/s0"}
    message["examples"] = []
    features = [{"name": f"f{i}", "kind": "number"} for i in range(20_000)]
    many = document(pump(features=features, examples=[]), ROUTE, "bbb")
    message["examples"] = [{"payload": "HERE"}]
    nested = json.dumps({**rows, "x-edge-agent": {**rows["x-edge-agent"], "node": "ccc"}})
    deep = nested.replace('"HERE"', "[" * 20_000 + "]" * 20_000)
    page = chromium.open(write(tmp_path, None))
    connect(page, broker.url)
    with Client(broker.port) as client:
        client.publish("edge/aaa/docs", rows, retain=True)
        page.wait("document.querySelector('.fields')")
        assert page.evaluate("document.querySelectorAll('.channel tbody tr').length") == 200
        assert "more than this page shows" in page.evaluate("document.querySelector('.channel').textContent")
        client.publish("edge/bbb/docs", many, retain=True)
        client.publish("edge/ccc/docs", deep.encode(), retain=True)
        page.wait("document.querySelectorAll('.node option').length === 3")
    page.fill(".node select", "bbb")
    assert "1000 of 20000 features" in page.text(".notice")
    page.fill(".node select", "ccc")
    assert "The documentation of ccc can't be shown" in page.text("main")
    page.fill(".node select", "aaa")
    assert page.evaluate("document.querySelectorAll('.field').length") == 3
    assert page.problems == []
    # The same in the page itself.
    file = tmp_path / "deep.html"
    file.write_bytes(page_with(deep.encode()))
    assert "can't be shown" in chromium.open(file.as_uri()).text("main")
