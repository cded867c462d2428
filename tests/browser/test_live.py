"""The live view: nodes, sensors and charts of what really comes, also when it is hostile, or too much."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.chromium import Chromium, Page
from tests.browser.conftest import WebMosquitto
from tests.contract.agents import RunningAgent, wait_until
from tests.contract.client import Client
from tests.e2e.tracks import HIP_HOP, ROCK

Open = Callable[..., Page]
#: As an element of the page, it would say so.
MARKUP: Final = "<img src=x onerror=\"console.error('pwned')\"><b>bold</b>"
#: The first row of the sensors' table, or that of a sensor with this name.
ROW: Final = "[...document.querySelectorAll('.live-sensors tbody tr')].find((row) => row.firstChild.innerText === %s)"

HALL: Final = ROW % '"hall"'


@pytest.fixture
def live(chromium: Chromium, built: Path, broker: WebMosquitto) -> Open:
    """Opens the page at the live view, connected to the broker."""

    def opened(**options: Any) -> Page:
        page = chromium.open(f"{built.as_uri()}#broker={broker.url}/", **options)
        page.click("[data-tab=Live]")
        page.wait("/^\\d+ node/.test(document.querySelector('[data-live=summary]').innerText)")
        return page

    return opened


def row(page: Page, sensor: str) -> str:
    """Wait for the row of a sensor, and return what is in it."""
    return str(page.wait(f"{ROW % json.dumps(sensor)}?.innerText"))


def until(page: Page, condition: str, act: Callable[[], object]) -> None:
    """Do it again and again until it shows: the page subscribes to a route's answers when it has heard of the node."""
    for _ in range(5000):
        act()
        if page.evaluate(f"Boolean({condition})"):
            return
    raise TimeoutError(f"{condition}: {page.text('.live')}")


def info(node: str, publish: str = "music/{sensor}/genre", model: str = "genre") -> dict[str, Any]:
    """What a node tells of itself, with one route."""
    route = {"model": model, "subscribe": "in/{sensor}", "publish": publish, "errors": f"{publish}/error"}
    models = [{"name": model, "version": "1.0.0", "task": "classification", "features": [], "sha256": ""}]
    return {"node": node, "agent": "1.0.0", "state": "online", "reason": None, "models": models, "routes": [route]}


def answer(label: str | None = "Rock", confidence: float = 0.9, **more: Any) -> dict[str, Any]:
    probabilities = {"Rock": confidence, "Hip-Hop": 1 - confidence}
    said = {"label": label, "confidence": confidence, "probabilities": probabilities}
    return {**said, "model": "genre", "version": "1.0.0", **more}


def test_a_real_agent_is_watched(live: Open, broker: WebMosquitto) -> None:
    page = live()
    with Client(broker.port) as client:
        with RunningAgent(broker.port, health={"interval": 1}):
            page.wait("/kitchen\\s+online\\s+genre 1\\.0\\.0/.test(document.querySelector('.live-nodes').innerText)")
            until(page, HALL, lambda: client.publish("music/hall/features", ROCK))
            assert "97.3" in row(page, "hall")
            client.publish("music/bath/features", HIP_HOP)
            assert "Hip-Hop" in row(page, "bath")
            client.publish("music/hall/features", {**ROCK, "tempo": -5})
            page.wait(f"/rejected tempo: /.test({HALL}.innerText)")
            # What the node itself counts comes with its health.
            page.wait("/, 0?\\.?\\d/.test(document.querySelector('.live-nodes tbody tr').cells[4].innerText)")
            page.wait("document.querySelector('.live-nodes tbody tr').cells[5].innerText === '1'")
            page.wait("/Rock \\d/.test(document.querySelector('.live-legend').innerText)")
            assert page.evaluate("document.querySelectorAll('.live-canvas canvas').length") == 2
        page.wait("/offline/.test(document.querySelector('.live-nodes').innerText)")
    assert page.problems == []


def test_warnings_sorting_and_filter(live: Open, broker: WebMosquitto) -> None:
    with Client(broker.port) as client:
        client.publish("edge/pi/state", "online", retain=True)
        client.publish("edge/pi/info", info("pi"), retain=True)
        # Retained, so that they are there whenever the page subscribes.
        for place, name in enumerate("abcde"):
            client.publish(f"music/{name}/genre", answer(confidence=0.5 + place / 10), retain=True)
        client.publish("music/c/genre", answer(None, 0.55, uncertain=True, outside=["tempo"]), retain=True)
        page = live()
        for word in ("uncertain", "outside tempo", "retained"):
            assert word in row(page, "c")
        names = "[...document.querySelectorAll('.live-sensors tbody th')].map((one) => one.innerText).join('')"
        page.wait(f"{names} === 'abcde'")
        # By keyboard: each head is a button.
        page.evaluate("document.querySelectorAll('.live-sensors thead button')[3].focus()")
        page.press("Enter")
        page.wait(f"{names} === 'edbca'")
        assert page.evaluate("document.querySelectorAll('.live-sensors thead th')[3].ariaSort") == "descending"
        page.press("Enter")
        page.wait(f"{names} === 'acbde'")
        page.click(".card:has(.live-sensors) [type=checkbox]")
        page.wait(f"{names} === 'c'")
        page.click(".card:has(.live-sensors) [type=checkbox]")
        page.fill(".live [type=search]", "rock")
        page.wait(f"{names} === 'abde'")
        # New answers do not end the filter, and a sensor is chosen by its name.
        client.publish("music/b/genre", answer("Hip-Hop"))
        page.wait(f"{names} === 'ade'")
        page.fill(".live [type=search]", "")
        page.wait(f"{names}.length === 5")
        button = f"{ROW % json.dumps('b')}.querySelector('button')"
        page.evaluate(f"{button}.click()")
        page.wait("document.querySelector('.live figcaption').innerText === 'Labels of b'")
        page.wait(f"{button}.ariaPressed === 'true'")
    assert page.problems == []


#: What the page says of the versions of models, and the button to install one.
UPDATE: Final = "document.querySelector('.live-update')"
INSTALL: Final = f"{UPDATE}?.querySelector('button')"


def versions(state: str, latest: str = "1.1.0", **more: Any) -> dict[str, Any]:
    said = {"installed_version": "1.0.0", "latest_version": latest, "title": "genre", "state": state, "reason": None}
    return {**said, "in_progress": False, **more}


def test_an_update_is_shown_and_installed_by_a_button(live: Open, broker: WebMosquitto) -> None:
    topic = "edge/pi/model/genre"
    with Client(broker.port) as client:
        client.subscribe("edge/pi/request/install")
        client.publish("edge/pi/info", info("pi"), retain=True)
        client.publish(topic, versions("idle", "1.0.0"), retain=True)
        page = live()
        page.wait(f"{UPDATE}?.innerText === ''")
        client.publish(topic, versions("fetching", in_progress=True, update_percentage=40), retain=True)
        page.wait(
            f"/genre: fetching 1.1.0/.test({UPDATE}.innerText) && {UPDATE}.querySelector('progress').value === 40"
        )
        assert not page.evaluate(f"Boolean({INSTALL})")
        client.publish(topic, versions("verified", release_summary=MARKUP), retain=True)
        page.wait(f"{INSTALL}?.innerText === 'Install'")
        assert MARKUP in str(page.evaluate(f"{UPDATE}.innerText"))
        page.evaluate(f"{INSTALL}.focus()")
        page.press("Enter")
        assert client.message("edge/pi/request/install").payload == b"genre"
        page.wait(f"{INSTALL}.ariaDisabled === 'true' && document.activeElement === {INSTALL}")
        client.publish("edge/pi/response/install", {"installing": [], "reason": "no update waits"})
        page.wait(f"/no update waits/.test({UPDATE}.innerText) && {INSTALL}.ariaDisabled === null")
        page.press("Enter")
        client.messages(2, "edge/pi/request/install")
        client.publish("edge/pi/response/install", {"installing": ["genre"], "reason": None})
        client.publish(topic, versions("refused", reason=MARKUP), retain=True)
        page.wait(f"/1.1.0 refused/.test({UPDATE}.innerText) && !{INSTALL}")
        assert MARKUP in str(page.evaluate(f"{UPDATE}.innerText"))
        assert page.evaluate("document.querySelectorAll('.live-nodes img, .live-nodes b').length") == 0
        client.publish(topic, b"", retain=True)
        page.wait(f"{UPDATE} === null")
    assert page.problems == []


def test_it_goes_on_after_the_broker_and_rests_behind_other_views(live: Open, broker: WebMosquitto) -> None:
    page = live()
    with Client(broker.port) as client:
        client.publish("edge/pi/info", info("pi"))
        until(page, HALL, lambda: client.publish("music/hall/genre", answer()))
    broker.restart()
    with Client(broker.port) as client:
        again = f"/Hip-Hop/.test({HALL}.innerText)"
        until(page, again, lambda: client.publish("music/hall/genre", answer("Hip-Hop")))
        page.click("[data-tab='Try it']")
        wait_until(lambda: "UNSUBSCRIBE" in broker.log(), "the answers are not asked for any more")
        page.click("[data-tab=Live]")
        until(page, again.replace("Hip-Hop", "Rock"), lambda: client.publish("music/hall/genre", answer()))
    assert [one for one in page.problems if "WebSocket" not in one] == []


def test_what_comes_by_mqtt_is_text(live: Open, broker: WebMosquitto) -> None:
    hostile = [
        MARKUP,
        "__proto__",
        "constructor",
        "\u202eabc",
        "a" * 150,
        "${alert(1)}",
        "</script><script>console.error(1)",
    ]
    with Client(broker.port) as client:
        page = live()
        before = page.evaluate("document.querySelectorAll('img, b, script').length")
        for number, text in enumerate(hostile):
            level = text.replace("/", "\\").replace("+", "").replace("#", "")
            client.publish(f"edge/{level}/state", text)
            told = info(text, f"{number}/{{sensor}}", text)
            told |= {"agent": text, "reason": text, "models": [{"name": text, "version": text, "task": text}]}
            client.publish(f"edge/{level}/info", told)
            client.publish(f"edge/{level}/health", {"rejections": {text: text}, "latency_ms": text, "received": text})
            page.wait(f"document.querySelectorAll('.live-nodes tbody tr').length === {number + 1}")
            name = json.dumps(level)
            content = answer(text, model=text, version=text, outside=[text, {}], unit=text)
            until(page, ROW % name, partial(client.publish, f"{number}/{level}", content))
            client.publish(f"{number}/{level}/error", {"error": text, "detail": [{"loc": [text, {}], "msg": text}]})
            page.wait(f"/rejected/.test({ROW % name}.innerText)")
        for payload in (
            b"\xff\xfe",
            b"[" * 20_000,
            b"{}",
            b"[{}]",
            b'{"label": {}}',
            json.dumps([answer()] * 3).encode(),
        ):
            client.publish("0/other", payload)
        assert "Rock" in row(page, "other")
        page.wait("document.querySelectorAll('.live-sensors tbody tr').length === 8")
        # Each is drawn once.
        for choice in page.evaluate("[...document.querySelectorAll('.live select option')].map((one) => one.value)"):
            page.fill(".live select", choice)
            page.wait("document.querySelector('.live-canvas canvas')")
    assert MARKUP in page.text(".live-nodes")
    assert MARKUP in page.text(".live-sensors")
    assert page.evaluate("document.querySelectorAll('img, b, script').length") == before
    assert page.problems == []


def test_thousands_of_messages_a_second_leave_the_page_alive(live: Open, broker: WebMosquitto) -> None:
    """What it takes is measured in processor time of the page's main thread, for other tests run on the same machine."""
    seconds, rate, sensors = 4, 5000, 2500
    payloads = [json.dumps(answer("Rock" if number % 3 else "Hip-Hop")) for number in range(9)]
    with Client(broker.port) as client:
        client.publish("edge/pi/info", info("pi"), retain=True)
        page = live()
        until(page, ROW % '"first"', lambda: client.publish("music/first/genre", payloads[0]))
        page.call("Performance.enable", {"timeDomain": "threadTicks"})
        page.evaluate(
            "(() => { window.frames_ = 0; const turn = () => { window.frames_ += 1; requestAnimationFrame(turn); }; turn(); })()"
        )
        before = metrics(page)
        for piece in range(seconds * 10):
            for number in range(rate // 10):
                client.publish(
                    f"music/{piece * rate // 10 % sensors + number}/genre", payloads[number % 9], qos=0, wait=False
                )
            # The page goes on between: it answers, draws, and takes what is typed.
            page.fill(".live [type=search]", str(piece % 10))
        client.publish("music/last/genre", answer("the last"))
        page.fill(".live [type=search]", "")
        page.wait("/the last/.test(document.querySelector('.live-legend').innerText)")
        after = metrics(page)
        spent, frames = after["TaskDuration"] - before["TaskDuration"], page.evaluate("window.frames_")
        print(f"{spent:.2f} s for {seconds * rate} messages, {frames} frames, {after['JSHeapUsedSize'] / 1e6:.0f} MB")  # noqa: T201
        # It takes about 70 µs each here, drawing included; a frame that a batch could hold up has a bound of its own.
        assert spent / (seconds * rate) < 400e-6
        assert frames > 5
        assert after["JSHeapUsedSize"] < 150e6
        said = page.text(".live")
        assert "only the first 1,000 sensors are followed" in said
        assert "100 of 1,000 sensors" in said
        assert page.evaluate("document.querySelectorAll('.live-sensors tbody tr').length") == 100
    assert page.problems == []


def metrics(page: Page) -> dict[str, float]:
    return {one["name"]: one["value"] for one in page.call("Performance.getMetrics")["metrics"]}


def test_what_is_too_much_is_sampled_and_said(live: Open, broker: WebMosquitto) -> None:
    """On a page whose frames do not come, as behind another one, messages wait up to a bound."""
    with Client(broker.port) as client:
        client.publish("edge/pi/info", info("pi"), retain=True)
        page = live()
        until(page, ROW % '"first"', lambda: client.publish("music/first/genre", answer()))
        # A page that is busy with something else for as long as it takes.
        page.evaluate(
            "window.requestAnimationFrame_ = window.requestAnimationFrame; window.requestAnimationFrame = () => 0; 1"
        )
        for number in range(30_000):
            client.publish(f"music/{number % 50}/genre", answer(), qos=0, wait=False)
        page.wait("document.querySelector('.live-sampled:not([hidden])')")
        page.evaluate("window.requestAnimationFrame = window.requestAnimationFrame_; 1")
        assert "counts are estimates" in page.text(".live-sampled")
    assert page.problems == []


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone(live: Open, broker: WebMosquitto, dark: bool, tmp_path: Path) -> None:
    with Client(broker.port) as client:
        client.publish("edge/a-node-with-a-long-name/info", info("a-node-with-a-long-name"), retain=True)
        client.publish("edge/a-node-with-a-long-name/state", "degraded", retain=True)
        page = live(width=390, height=844, dark=dark)
        name = "a-room-with-a-name-that-is-far-too-long-for-a-phone"
        until(page, ROW % json.dumps(name), lambda: client.publish(f"music/{name}/genre", answer(outside=["tempo"])))
        page.wait("document.querySelector('.live-canvas canvas')")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # A table is a table for those who hear it, and its frame is scrolled by keyboard.
        assert page.evaluate("document.querySelectorAll('.live table th[scope=col]').length") == 16
        assert page.evaluate("[...document.querySelectorAll('.live-scroll')].every((one) => one.tabIndex === 0)")
        page.wait("[...document.querySelectorAll('.live-canvas')].every((one) => one.ariaLabel)")
        page.screenshot(tmp_path / "phone.png", whole=True)
    assert page.problems == []
