"""The page in a browser: it keeps its policy, takes whatever comes for text, and can be used without a mouse, and on a phone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chromium import Chromium, Page
from tests.browser.conftest import WebMosquitto, connect
from tests.browser.documents import HOSTILE, ROUTE, document, pump, source, write
from tests.contract.client import Client

pytestmark = pytest.mark.usefixtures("built")


def test_it_keeps_its_own_policy_without_a_document(chromium: Chromium, tmp_path: Path) -> None:
    page = chromium.open(write(tmp_path, None))
    assert "Connect to a broker" in page.text("main")
    # Even what runs in the page makes no markup, and no connection but to a broker.
    assert "requires 'TrustedHTML'" in page.evaluate(
        "(() => { try { document.body.innerHTML = '<b>'; return '' } catch (error) { return String(error) } })()"
    )
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    assert page.evaluate("document.querySelectorAll('[src], link[href]:not([href^=\"data:\"])').length") == 0


@pytest.fixture
def hostile() -> dict[str, Any]:
    features = [
        {"name": HOSTILE, "kind": "number", "unit": HOSTILE, "description": HOSTILE},
        {"name": "__proto__", "kind": "category", "values": [HOSTILE, "constructor"]},
    ]
    model = {
        "name": HOSTILE,
        "version": HOSTILE,
        "task": HOSTILE,
        "description": HOSTILE,
        "features": features,
        "examples": [{"title": HOSTILE, "features": {HOSTILE: 1, "__proto__": HOSTILE}}],
    }
    topic = HOSTILE.replace("/", "|")
    return document(model, {"publish": f"{topic}/out", "sources": [source(f"{topic}/{{room}}/in")]}, node="pi-1")


def test_whatever_a_document_has_is_text(
    chromium: Chromium, broker: WebMosquitto, tmp_path: Path, hostile: dict[str, Any]
) -> None:
    """Model, features, units, topics and labels that would be markup, code or a key of an object's prototype."""
    page = chromium.open(write(tmp_path, hostile))
    connect(page, broker.url)
    assert page.text(".model h2") == HOSTILE
    labels = page.evaluate("[...document.querySelectorAll('.field label')].map((label) => label.textContent)")
    assert labels == [HOSTILE, "__proto__"]
    page.click(".chip")
    topic = HOSTILE.replace("/", "|")
    with Client(broker.port) as client:
        client.subscribe(f"{topic}/+/in")
        page.click(".send button")
        asked = client.properties(f"{topic}/try/in")
        # As text: Python's own dict has __proto__ for a key like any other.
        assert json.loads(client.message(f"{topic}/try/in").payload) == {HOSTILE: 1, "__proto__": HOSTILE}
        probabilities = {HOSTILE: 0.75, "__proto__": 0.25}
        answer = {"label": HOSTILE, "probabilities": probabilities, "model": HOSTILE, "version": HOSTILE}
        client.publish(
            asked["ResponseTopic"], {**answer, "outside": [HOSTILE]}, CorrelationData=asked["CorrelationData"]
        )
        page.wait("document.querySelector('.answer[data-kind=prediction]')")
        assert page.evaluate("document.querySelector('.verdict-title').textContent") == HOSTILE
        page.click(".send button")
        again: Any = client.messages(2, f"{topic}/try/in")[1].properties
        detail = [{"loc": [HOSTILE], "msg": HOSTILE}, {"loc": [], "msg": HOSTILE}]
        rejection = {"error": HOSTILE, "detail": detail}
        client.publish(again.ResponseTopic, rejection, CorrelationData=again.CorrelationData)
        page.wait("document.querySelector('.answer[data-kind=rejection]')")
        assert page.evaluate("document.querySelector('.verdict-reason').textContent") == HOSTILE
    page.click("[data-tab=Topics]")
    assert HOSTILE in page.evaluate("document.querySelector('.channel').textContent")
    assert page.evaluate("document.querySelectorAll('img, b.evil, #page script, [onerror]').length") == 0
    assert page.evaluate("({}).polluted === undefined")
    assert page.problems == []


@pytest.fixture
def page(chromium: Chromium, tmp_path: Path) -> Page:
    return chromium.open(write(tmp_path, document(pump(), ROUTE)), width=360, height=740)


def test_it_fits_a_phone_and_everything_has_a_name(page: Page) -> None:
    for tab in ("Try it", "Topics", "Live"):
        page.click(f"[data-tab='{tab}']")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, tab
    page.click("[data-tab='Try it']")
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "checkbox", "combobox", "slider", "tab", "textbox", "spinbutton"}
    found = [(one["role"]["value"], one.get("name", {}).get("value", "")) for one in nodes if not one["ignored"]]
    controls = [(role, name) for role, name in found if role in roles]
    assert {("slider", "vibration, slider"), ("textbox", "vibration"), ("combobox", "mode")} <= set(controls)
    assert [role for role, name in controls if not name.strip()] == []
    assert page.evaluate("document.querySelector('.answer').getAttribute('aria-live')") == "polite"
    assert page.problems == []


def test_each_tab_says_what_it_shows(page: Page) -> None:
    """Its panel exists, and is named after it: the views, and the kinds of the message to copy, which share one."""
    wrong = """[...document.querySelectorAll('[role=tab]')].filter(tab => {
        const panel = document.getElementById(tab.getAttribute('aria-controls'));
        const isShown = tab.getAttribute('aria-selected') === 'true';
        if (panel?.getAttribute('role') !== 'tabpanel') return true;
        return isShown && (panel.hidden || panel.getAttribute('aria-labelledby') !== tab.id);
    }).length"""
    for tab in ("Python", "Topics", "Live", "Try it"):
        page.click(f"[data-tab='{tab}']")
        assert page.evaluate(wrong) == 0, tab
    assert page.evaluate("document.querySelectorAll('[role=tab]').length") == 7
    assert page.evaluate("document.querySelectorAll('[role=tabpanel]').length") == 4


def test_words_stay_whole_on_a_phone(chromium: Chromium, tmp_path: Path) -> None:
    """In tables and labels: what is too wide scrolls, with a shadow where it goes on."""
    content = document(pump(), ROUTE)
    about = "Acceleration of the bearing, as it is measured by the accelerometer"
    properties = {"acceleration": {"type": ["number", "string"], "minimum": 0, "maximum": 1000, "description": about}}
    content["channels"]["answers"]["messages"]["json"]["payload"] = {"properties": properties}
    content["x-edge-agent"]["routes"] *= 2
    page = chromium.open(write(tmp_path, content), width=360, height=740)
    height = "(one => Math.round(one.getBoundingClientRect().height / parseFloat(getComputedStyle(one).lineHeight)))"
    assert page.evaluate(f"{height}(document.querySelector('.picker label'))") == 1
    page.click("[data-tab=Topics]")
    page.evaluate("document.querySelector('.channel').open = true")
    broken = """[...document.querySelectorAll('.scroll th, .scroll td')].flatMap((cell) => {
        const text = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT).nextNode();
        return [...(text?.data ?? '').matchAll(/\\w+/g)].filter(({ 0: word, index }) => {
            const range = document.createRange();
            range.setStart(text, index);
            range.setEnd(text, index + word.length);
            return range.getClientRects().length > 1;
        }).map(([word]) => word);
    })"""
    assert page.evaluate("document.querySelectorAll('.scroll td').length") == 3
    assert page.evaluate(broken) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_needs_no_mouse(page: Page) -> None:
    page.evaluate("document.querySelector('[data-tab=\"Try it\"]').focus()")
    page.press("ArrowRight")
    assert page.text("[aria-selected=true]") == "Topics"
    page.press("ArrowLeft")
    page.evaluate("document.querySelector('input[type=range]').focus()")
    for _ in range(3):
        page.press("ArrowRight")
    assert json.loads(page.evaluate("document.querySelector('.message textarea').value")) == {
        "vibration": 5.3,
        "valve": True,
        "mode": "eco",
    }
    # Without a connection, Enter leads to where one is made.
    page.evaluate("document.querySelector('.typed input').focus()")
    page.press("Enter")
    assert page.evaluate("document.activeElement.closest('.connect') !== null")


def test_light_and_dark(chromium: Chromium, tmp_path: Path) -> None:
    url = write(tmp_path, None)
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = chromium.open(url), chromium.open(url, dark=True)
    colors = light.evaluate(ground), dark.evaluate(ground)
    assert colors[0] != colors[1]
    light.click(".bar button.plain")
    assert light.evaluate(ground) == colors[1]
